"""What the machine can do."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from prisbench.concepts.recipes import default_recipe, on_device
from prisbench.runtime import devices
from prisbench.runtime.devices import computes_bfloat16, side_by_side


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({"avx2": True, "avx512_f": True, "avx512_bf16": False}, False),
        ({"avx512_bf16": True}, True),
        ({"amx_bf16": True, "avx512_bf16": False}, True),
        ({"neon": True, "bf16": True}, True),
        ({}, False),
    ],
)
def test_bfloat16_is_what_the_processor_has_instructions_for(
    told: dict[str, bool], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: told, raising=False)
    assert computes_bfloat16("cpu") is expected
    assert computes_bfloat16("mps") is False


def test_an_older_torch_is_asked_in_its_own_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True, raising=False)
    assert computes_bfloat16("cpu") is True


def test_a_recipe_is_carried_out_in_bfloat16_where_that_is_native_or_asked_for() -> None:
    recipe = default_recipe("embedded", "textual-inversion")
    assert recipe.loop.bfloat16 is None
    for native in (True, False):
        settled = on_device(recipe, native)
        assert settled.loop.bfloat16 is native
        assert on_device(settled, not native) == settled, "who asks for one gets it"


SLEEP = """
import os, sys
from prisbench.cli import main as cli
from prisbench.runtime import devices
cli.app = lambda: print(*(os.environ.get(name) for name in devices.SPIN_SETTINGS), "torch" in sys.modules)
cli.main()
"""


@pytest.mark.parametrize(
    ("given", "expected"),
    [({}, "10000 None"), ({"OMP_WAIT_POLICY": "active"}, "None active"), ({"GOMP_SPINCOUNT": "7"}, "7 None")],
)
def test_waiting_threads_sleep_soon_unless_the_user_decides_otherwise(given: dict[str, str], expected: str) -> None:
    free = {name: value for name, value in os.environ.items() if name not in devices.SPIN_SETTINGS}
    root = Path(devices.__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", SLEEP], env={**free, **given}, cwd=root, capture_output=True, text=True
    )
    assert done.stdout.split() == [*expected.split(), "False"], "set before torch is loaded, which reads it once"


@pytest.fixture
def four_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("four_threads")
def test_two_things_are_called_at_once_each_on_half_of_the_cores() -> None:
    meet = threading.Barrier(2, timeout=30)
    with side_by_side("cpu") as together:
        assert together([lambda: meet.wait() >= 0, lambda: meet.wait() >= 0]) == [True, True], "at once"
        assert together([torch.get_num_threads] * 2) == [2, 2]
        assert torch.get_num_threads() == 4, "the caller keeps all of them"
        assert together([lambda n=n: n for n in range(5)]) == [0, 1, 2, 3, 4], "in order"
        assert together([torch.get_num_threads]) == [4], "a single thing has all cores"
    assert torch.get_num_threads() == 4
    with side_by_side("meta") as together:
        assert together([torch.get_num_threads] * 2) == [4, 4], "elsewhere one after the other"


@pytest.mark.usefixtures("four_threads")
def test_what_goes_wrong_beside_is_heard_and_new_threads_have_all_cores() -> None:
    def fails() -> None:
        raise ValueError("no")

    def counted() -> None:
        found.append(torch.get_num_threads())

    found: list[int] = []
    with pytest.raises(ValueError, match="no"), side_by_side("cpu") as together:
        together([fails, lambda: None])
    thread = threading.Thread(target=counted)
    thread.start()
    thread.join()
    assert found == [4]


def test_on_one_core_one_thing_is_called_after_the_other() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with side_by_side("cpu") as together:
            assert len(set(together([threading.get_ident] * 2))) == 1
    finally:
        torch.set_num_threads(before)
