"""A batch computed in several threads, each with its share of the rows.

Two threads inside of each small operation help little: a step of the embedded backbone takes 0.79 s in one thread, 0.47
in two, and 0.42 where two threads compute half of the rows each (``docs/performance.md``).  The threads' modules share
their weights, and gradients are summed in a fixed order, so a run on as many threads is the same every time.

Knows: modules, threads.  Does not know: what is computed.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor, nn

MOST = 4
"""Threads at most; cores beyond work inside of operations."""


class Halves:
    """Modules, and copies of them that share their weights: one set a thread."""

    def __init__(self, modules: Sequence[Any], threads: int | None = None) -> None:
        cores = torch.get_num_threads()
        self.threads = threads or min(cores, MOST)
        self.inside = max(1, cores // self.threads)
        self.sets = [tuple(modules)]
        for _ in range(self.threads - 1):
            twin = tuple(copy.deepcopy(module) for module in modules)
            for mine, its in zip(_parameters(modules), _parameters(twin), strict=True):
                its.data = mine.data
            self.sets.append(twin)
        self.pool = ThreadPoolExecutor(self.threads)

    def backward(self, loss: Callable[..., Tensor], *rows: Tensor) -> float:
        """``loss(*modules, *rows)``, a mean over rows.  Its gradients are added to those of the first set."""
        shares = list(zip(*(each.chunk(self.threads) for each in rows), strict=True))
        waiting = [self.pool.submit(self._share, loss, n, each, len(rows[0])) for n, each in enumerate(shares)]
        total = sum(each.result() for each in waiting)
        for twin in self.sets[1:]:
            for mine, its in zip(_parameters(self.sets[0]), _parameters(twin), strict=True):
                if its.grad is not None:
                    mine.grad = its.grad if mine.grad is None else mine.grad.add_(its.grad)
                    its.grad = None
        return total

    def _share(self, loss: Callable[..., Tensor], n: int, rows: Sequence[Tensor], of: int) -> float:
        torch.set_num_threads(self.inside)
        found = loss(*self.sets[n], *rows) * (len(rows[0]) / of)
        found.backward()
        return found.item()


def _parameters(modules: Iterable[nn.Module]) -> Iterable[nn.Parameter]:
    return (p for module in modules for p in module.parameters())
