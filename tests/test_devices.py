"""What the machine can do."""

from __future__ import annotations

import pytest
import torch

from prisbench.concepts.recipes import default_recipe, on_device
from prisbench.devices import computes_bfloat16


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
