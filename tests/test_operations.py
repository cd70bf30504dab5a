"""Operations of published networks: by a pencil where one will do, and the same in every card that quotes them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from prisbench.bench.operations import GPU, SIZES, Row, cost_line, markdown, operations, records
from prisbench.bench.published_networks import PUBLISHED, Work, _counted

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return operations()


def test_a_product_of_matrices_counts_two_for_each_multiplication() -> None:
    layer = torch.nn.Linear(30, 7, device="meta").requires_grad_(False)
    assert _counted({"layer": lambda: layer(torch.empty(5, 30, device="meta"))}) == {"layer": 2 * 5 * 30 * 7}


def test_dinov3_takes_what_a_pencil_says(rows: list[Row]) -> None:
    (row,) = (row for row in rows if row.method == "dinov3-features")
    patches, width = 37 * 48, 1024
    tokens = patches + 1 + 4
    layer = 2 * tokens * 12 * width**2 + 4 * tokens**2 * width
    assert row.work.scene == 24 * layer + 2 * patches * 16 * 16 * 3 * width
    assert row.work.learn == 5 * row.work.scene and row.work.query == 0


def test_networks_have_the_published_numbers_of_weights(rows: list[Row]) -> None:
    millions = {row.network: round(row.weights / 1e6) for row in rows}
    assert millions["SAM ViT-H"] == 641 and millions["DINOv3 ViT-L/16"] == 303
    assert 850 + 30 < millions["SD 1.5"] < 900 + 50, "859.5 of the U-Net, and an autoencoder"
    assert millions["Grounding DINO Swin-B and SAM ViT-H"] == 232 + 641


def test_learning_words_costs_its_steps_forwards_and_backwards_and_asking_its_noises(rows: list[Row]) -> None:
    (row,) = (row for row in rows if row.method == "attn")
    forwards = 0.678e12  # of the whole U-Net, 512 x 512; 339 G multiplications are commonly reported
    step = (row.work.learn - 5 * row.work.scene) / 350 / 8
    assert 2 * forwards < step < 3 * forwards, "backwards no gradients of the U-Net's weights"
    assert 0.7 * forwards < row.work.query / 10 < forwards, "ten noises, the last blocks left out"


def test_hours_follow_from_operations_and_the_gpu() -> None:
    row, (first, *_) = Row("m", "n", 1, Work(scene=1, subject=10, query=100, learn=1000)), SIZES
    total = first.scenes + 10 * first.calls + 100 * first.queries + 1000 * first.subjects
    assert row.operations(first) == total
    assert row.hours(first) == pytest.approx(total / (19.5e12 * 0.4) / 3600) and GPU.name == "A100"


def test_tabletops_size_is_that_of_its_rows_and_ycb_videos_that_of_the_samples_frames() -> None:
    def counts(board: str) -> tuple[int, int, int]:
        run = json.loads((ROOT / "leaderboards" / board / "center-box--none.json").read_text())
        queries = [dict(zip(run["query_fields"], each, strict=True)) for each in run["queries"]]
        return len({q["subject_id"] for q in queries}), len({q["image_id"] for q in queries}), len(queries)

    tabletop, ycb = SIZES
    assert (tabletop.subjects, tabletop.scenes, tabletop.queries) == counts("tabletop-v3")
    assert tabletop.calls == tabletop.queries, "each scene has one query, or the two of a pair"
    _, frames, queries = counts("ycb-video-sample-v2")
    assert ycb.queries == ycb.calls == round(ycb.scenes * queries / frames)


def test_the_table_of_the_docs_is_the_commands(rows: list[Row]) -> None:
    assert markdown(rows) in (ROOT / "docs" / "performance.md").read_text(), "prisbench bench operations makes it anew"
    assert records(rows)[0]["method"] == rows[0].method


@pytest.mark.parametrize("method", sorted({method for method, *_ in PUBLISHED}))
def test_a_card_says_what_the_command_does(method: str, rows: list[Row]) -> None:
    card = " ".join((ROOT / "baselines" / method / "README.md").read_text().split())
    lines = [cost_line(row) for row in rows if row.method == method]
    assert lines and all(line in card for line in lines), lines
    assert "prisbench bench operations" in card and "not measured" in card


def test_every_card_that_speaks_of_outside_hours_is_held_to_the_command() -> None:
    speaking = {path.parent.name for path in (ROOT / "baselines").glob("*/README.md") if "TFLOP" in path.read_text()}
    assert speaking == {method for method, *_ in PUBLISHED}
