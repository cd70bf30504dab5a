"""What published transformers take, computed at full width without a number in memory."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import pytest

from prisbench.bench.transformers import recipe_rows, recipe_table, transformer_rows, transformer_table
from prisbench.diffusion.architectures import TRANSFORMERS
from prisbench.diffusion.families import family
from prisbench.diffusion.pipelines import CLASSES
from prisbench.diffusion.planned import plan
from prisbench.errors import UnknownNameError
from prisbench.localizer.presets import ROLES

PUBLISHED_BILLIONS = {
    "sd3-medium": 2.0,
    "sd3.5-medium": 2.2,
    "sd3.5-large": 8.1,
    "flux.1-dev": 11.9,
    "flux.2-klein-4b": 3.9,
    "flux.2-klein-9b": 9.1,
    "pixart-alpha": 0.6,
}
"""What the models are said to have, to the digit that is said."""


def last_block(name: str) -> tuple[str, ...]:
    size = TRANSFORMERS[name]
    return ROLES[family(size.model, {"num_layers": 0, **size.config})].meaning[-1:]


@pytest.mark.parametrize("name", ["sd3.5-medium", "flux.2-klein-4b", "pixart-alpha"])
def test_a_look_at_full_width_is_planned_on_the_meta_device(name: str) -> None:
    found = plan(name, (1024, 768), last_block(name))
    assert found.weights / 1e9 == pytest.approx(PUBLISHED_BILLIONS[name], abs=0.05)
    assert found.rows == (64 * 48, TRANSFORMERS[name].text_rows), "an image row for each 16 x 16 pixels"
    assert found.bytes() == 2 * (found.weights + found.text_weights + found.activations)
    # A block's matrices see every row of image, text and stream once: never less than two operations a weight of those
    # blocks that ran.
    size = TRANSFORMERS[name]
    depth = size.config["num_layers"] + size.config.get("num_single_layers", 0)
    ran = int(last_block(name)[0].split(".")[1]) + 1
    assert found.operations > found.weights * ran / depth * found.rows[0] / 2
    more = plan(name, (1024, 768), last_block(name), queries=3)
    assert more.weights == found.weights and more.operations > found.operations
    assert more.operations < 3 * found.operations, "the image is looked at once"


@pytest.mark.parametrize("name", [name for name in PUBLISHED_BILLIONS if name not in ("sd3.5-medium", "pixart-alpha")])
def test_the_sizes_are_those_that_are_published(name: str) -> None:
    import torch

    with torch.device("meta"):
        model = CLASSES[TRANSFORMERS[name].model](**TRANSFORMERS[name].config)
    count = sum(math.prod(parameter.shape) for parameter in model.parameters())
    assert count / 1e9 == pytest.approx(PUBLISHED_BILLIONS[name], abs=0.06)
    assert family(TRANSFORMERS[name].model, model.config) in ROLES


def test_an_unknown_name_is_one_line() -> None:
    with pytest.raises(UnknownNameError, match="unknown transformer 'sd4'"):
        plan("sd4", (512, 512), ())
    with pytest.raises(UnknownNameError, match="unknown transformer 'sd4'"):
        list(transformer_rows(["sd4"]))


# --- what docs/backbones.md says ------------------------------------------------------------------------------------


def documented(mark: str) -> list[str]:
    """The lines of the table that stands below a mark of the document."""
    text = (Path(__file__).parents[1] / "docs" / "backbones.md").read_text("utf-8")
    below = text.split(f"<!-- {mark} -->\n")[1]
    return list(itertools.takewhile(lambda line: line.startswith("|"), below.splitlines()))


def test_the_table_has_a_row_for_each_published_transformer() -> None:
    head, _, *rows = documented("planned")
    assert [row.split(" | ")[0].removeprefix("| ") for row in rows] == list(TRANSFORMERS)
    assert head == transformer_table([])[: len(head)]


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_the_documented_numbers_are_computed(name: str) -> None:
    (row,) = transformer_rows([name])
    assert transformer_table([row]).splitlines()[2] in documented("planned")


def test_the_documented_recipes_are_computed() -> None:
    assert recipe_table(list(recipe_rows())).splitlines() == documented("recipes")
