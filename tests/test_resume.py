"""Whether a run is the same, and its checkpoints: what differs is named, what is on disk is whole."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from torch import nn

from prisbench.errors import DataError, WriteError
from prisbench.runtime.checkpoints import (
    Checkpoint,
    moments,
    put_moments,
    read_checkpoint,
    read_header,
    write_checkpoint,
)
from prisbench.runtime.resume import Difference, claim, differences
from prisbench.runtime.seeds import seed_of


def test_a_run_goes_on_where_its_record_is_the_same_and_is_refused_by_name_where_it_is_not(tmp_path: Path) -> None:
    path, record = tmp_path / "run" / "run.json", {"seed": 0, "steps": 5, "loss": {"scale": (1, 2)}}

    def refusal(changed: Sequence[Difference]) -> str:
        return f"another run ({changed[0].words})"

    assert claim(path, record, refusal) is False
    before = path.read_bytes()
    assert claim(path, record, refusal) is True and path.read_bytes() == before
    with pytest.raises(DataError, match=r"^another run \(loss\.scale is \[1, 2\], asked for \[1, 3\]\)$"):
        claim(path, record | {"loss": {"scale": (1, 3)}}, refusal)
    with pytest.raises(DataError, match=r"steps is 5, asked for 6"):
        claim(path, record | {"steps": 6}, refusal)
    assert path.read_bytes() == before, "a refusal changes nothing"
    path.write_text(json.dumps({**record, "seconds": 1.5}))
    assert claim(path, record | {"steps": 6}, refusal, free=("steps",)) is True
    assert json.loads(path.read_text()) == {"seed": 0, "steps": 6, "loss": {"scale": [1, 2]}, "seconds": 1.5}
    path.write_text("{")
    with pytest.raises(DataError, match=r"run\.json is not JSON"):
        claim(path, record, refusal)
    path.write_text("[]")
    with pytest.raises(DataError, match=r"seed is None, asked for 0"):
        claim(path, record, refusal)


def test_differences_come_in_the_order_of_what_is_wanted() -> None:
    found = {"b": {"x": 1, "old": 2}, "a": 1, "c": None}
    wanted = {"b": {"y": 2, "x": 3}, "a": 2, "c": {"z": 1}}
    changed = list(differences(found, wanted))
    assert [".".join(each.place) for each in changed] == ["b.y", "b.x", "b.old", "a", "c"]
    assert changed[2].words == "b.old is 2, asked for None" and min(changed).place == ("a",)
    assert list(differences(wanted, wanted)) == []
    assert list(differences({"a": {}}, {"a": {"b": None}})) == [Difference(("a",), {}, {"b": None})]


def trained(steps: int, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.ones(2, 3)).square().sum().backward()
        optimizer.step()


@pytest.mark.parametrize("prefix", ["", "moment."])
@pytest.mark.parametrize("kind", ["AdamW", "SGD"])
def test_an_optimizer_goes_on_from_a_checkpoint_as_if_it_had_not_stopped(
    kind: str, prefix: str, tmp_path: Path
) -> None:
    def beginning() -> tuple[nn.Linear, torch.optim.Optimizer, dict[str, nn.Parameter]]:
        torch.manual_seed(0)
        model = nn.Linear(3, 2)
        options = {"momentum": 0.9} if kind == "SGD" else {}
        return model, getattr(torch.optim, kind)(model.parameters(), lr=0.1, **options), dict(model.named_parameters())

    model, optimizer, parameters = beginning()
    trained(3, model, optimizer)
    path = tmp_path / "new" / "state.safetensors"
    tensors = {f"now.{name}": p for name, p in parameters.items()} | moments(optimizer, parameters, prefix)
    write_checkpoint(path, Checkpoint(tensors, {"step": "3"}))
    trained(2, model, optimizer)

    again, optimizer, theirs = beginning()
    read = read_checkpoint(path)
    assert read.header == read_header(path) == {"step": "3"}
    with torch.no_grad():
        for name, p in theirs.items():
            p.copy_(read.tensors[f"now.{name}"])
    put_moments(optimizer, theirs, read.tensors, prefix)
    trained(2, again, optimizer)
    assert all(torch.equal(p, theirs[name]) for name, p in parameters.items())
    put_moments(optimizer, theirs, {}, prefix)
    assert not optimizer.state


def test_a_checkpoint_that_cannot_be_written_leaves_the_earlier_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "state.safetensors"
    write_checkpoint(path, Checkpoint({"x": torch.ones(3)}, {"step": "1"}))
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("prisbench.runtime.checkpoints.save_file", full)
    with pytest.raises(WriteError, match=r"cannot write .*state\.safetensors: the disk is full"):
        write_checkpoint(path, Checkpoint({"x": torch.zeros(3)}, {"step": "2"}))
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
    path.write_bytes(before[:20])
    assert read_header(path) is None and read_header(tmp_path / "none") is None


def test_seeds_belong_to_their_parts_in_their_order() -> None:
    assert seed_of("photo", 3) == 0xBB67B2B9F8669888
    assert len({seed_of("a", 1), seed_of("a", 2), seed_of("b", 1), seed_of("a:1", 1), seed_of("a", 1, 0)}) == 5
