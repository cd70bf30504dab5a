"""A batch in several threads: the gradients of the whole batch."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from prisbench.embedded.halves import Halves


def modules() -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 8), nn.Tanh()), nn.Linear(8, 1)


def loss(first: nn.Module, second: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return (second(first(x)) - y).square().mean()


@pytest.mark.parametrize("rows", [8, 7, 1])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_gradients_are_those_of_the_whole_batch(rows: int, threads: int) -> None:
    x, y = torch.randn(rows, 5), torch.randn(rows, 1)
    whole = modules()
    expected = loss(*whole, x, y)
    expected.backward()
    mine = modules()
    found = Halves(mine, threads)
    for _ in range(2):  # the second time nothing of the first is left in the copies
        for module in mine:
            module.zero_grad()
        assert found.backward(loss, x, y) == pytest.approx(expected.item(), rel=1e-5)
        for a, b in zip(whole, mine, strict=True):
            for p, q in zip(a.parameters(), b.parameters(), strict=True):
                torch.testing.assert_close(q.grad, p.grad)


def test_copies_follow_the_weights() -> None:
    mine = modules()
    found = Halves(mine, 2)
    with torch.no_grad():
        for p in mine[0].parameters():
            p.mul_(2.0)
    x, y = torch.randn(4, 5), torch.randn(4, 1)
    assert found.backward(loss, x, y) == pytest.approx(loss(*mine, x, y).item(), rel=1e-5)


def test_a_thread_s_mistake_is_told() -> None:
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        Halves(modules(), 2).backward(loss, torch.randn(4, 3), torch.randn(4, 1))
