"""``prisbench bench backbones``: the shipped U-Net beside tiny pipelines that were never trained."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from prisbench.bench import backbones as bench
from prisbench.bench.backbones import Candidate, Measured, Scope, bench_backbones, candidate, losses_of, scene_seconds
from prisbench.diffusion.loading import EMBEDDED, has_embedded
from prisbench.embedded.card import PhraseAnswer
from prisbench.embedded.dit import assemble_sd3
from prisbench.embedded.models import build_autoencoder
from prisbench.embedded.recipe import DiTRecipe
from prisbench.embedded.rectified_flow import beginning
from prisbench.embedded.words import make_tokenizer
from prisbench.errors import BackboneError, UnknownNameError, UsageError
from prisbench.tabletop.captions import vocabulary
from tests.command_line import called

SMALL = DiTRecipe(positions=48, vae_channels=(8, 8, 8), width=16, heads=2, text_width=16, text_layers=2)


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two seeds of a tiny pipeline of Stable Diffusion 3's classes, as they begin; the first has a card."""
    root = tmp_path_factory.mktemp("untrained")
    words = make_tokenizer(root / "words", vocabulary(), SMALL.context)
    folders = []
    for seed in (0, 1):
        recipe = dataclasses.replace(SMALL, seed=seed)
        dit, readers = beginning(recipe, words)
        folders.append(assemble_sd3(root / f"seed-{seed}", build_autoencoder(recipe), dit, readers, words))
    losses = {"sd3": [{"loss": 1.5}, {"loss": 1.25}]}
    (folders[0] / "card.json").write_text(json.dumps({"recipe": {"architecture": "sd3"}, "losses": losses}))
    return folders[0], folders[1]


@pytest.mark.skipif(not has_embedded(), reason="the embedded backbone has no weights yet")
def test_the_shipped_u_net_stands_beside_two_seeds_of_a_dit(untrained: tuple[Path, Path]) -> None:
    told: list[str] = []
    wanted = [Candidate("unet", "embedded"), *(Candidate("dit", str(folder)) for folder in untrained)]
    unet, dit = bench_backbones(wanted, Scope(7, "fast"), lambda id, n, of: told.append(f"{id} {n} of {of}"))
    assert [row["model"] for row in (unet, dit)] == ["unet", "dit"] and len(told) == 3
    assert [len(row["seeds"]) for row in (unet, dit)] == [1, 2]
    assert unet["iou_mean_n"] == dit["iou_mean_n"] >= 7, "the same phrases"
    assert 0 <= unet["iou_mean_ci"][0] <= unet["iou_mean"] <= unet["iou_mean_ci"][1] <= 1
    assert dit["iou_mean"] == pytest.approx(np.mean([each["iou_mean"] for each in dit["seeds"]]))
    assert unet["difference"] == 0 and dit["difference"] == pytest.approx(dit["iou_mean"] - unet["iou_mean"])
    assert unet["iou_mean"] > dit["iou_mean"], "one of the two has learned something"
    assert unet["parameters"]["denoiser"] == 4_293_924 and dit["seconds"] > 0
    assert dit["seeds"][0]["loss_last"] == 1.25 and dit["seeds"][1]["loss_last"] is None
    card = json.loads((EMBEDDED / "card.json").read_text())
    assert unet["seeds"][0]["loss_last"] == card["losses"]["unet"][-1]["loss"]
    text = bench.markdown([unet, dit])
    assert "| unet | 1 | 5.19 M |" in text and "1.500 to 1.250" in text and "None" not in text
    json.dumps([unet, dit], allow_nan=False)


def answer(scene: str, iou: float, seconds: float = 0.5) -> PhraseAnswer:
    return PhraseAnswer(scene, iou, float(iou > 0.5), seconds)


def test_seeds_are_averaged_phrase_by_phrase_by_pencil() -> None:
    parameters = {"denoiser": 3_000_000, "text": 1_000_000, "autoencoder": 500_000}
    one = tuple(answer(f"s{n}", 0.2) for n in range(6))
    two = tuple(answer(f"s{n}", 0.6) for n in range(6))
    seeds = [Measured("m", f"m@{n}", "fast", each, (), parameters, None) for n, each in enumerate((one, two))]
    record = bench._record("m", seeds, bench._sample([tuple(answer(f"s{n}", 0.1) for n in range(6))]))
    assert record["iou_mean"] == pytest.approx(0.4) and record["pointing"] == 0.5
    assert record["difference"] == pytest.approx(0.3) and record["difference_ci"] == pytest.approx([0.3, 0.3])
    assert record["placed_iou_mean"] is None and record["placed_iou_mean_ci"] is None
    assert "| m | 2 | 4.00 M | 0.400" in bench.markdown([record]) and "0.200, 0.600" in bench.markdown([record])


def test_a_scenes_phrases_are_counted_together() -> None:
    assert scene_seconds([answer("a", 0, 1.0), answer("b", 0, 4.0), answer("a", 0, 2.0)]) == [3.0, 4.0]


@pytest.mark.parametrize("text", ["", "[]", "{", '{"losses": {"unet": []}, "recipe": {}}', '{"losses": 3}'])
def test_a_card_without_losses_has_none(text: str, tmp_path: Path) -> None:
    (tmp_path / "card.json").write_text(text)
    assert losses_of(tmp_path / "card.json") is None and losses_of(tmp_path / "none.json") is None


def test_names_and_folders_are_told_apart() -> None:
    assert candidate("unet=runs/0") == ("unet", "runs/0") and candidate("runs/0") == ("", "runs/0")
    for bad in ("=runs", "unet="):
        with pytest.raises(UsageError, match="give NAME=FOLDER, or a folder alone"):
            candidate(bad)


def test_mistakes_are_told_before_anything_is_measured(
    untrained: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any) -> None:
        raise AssertionError("nothing is to be measured")

    monkeypatch.setattr(bench, "_measure", never)
    first, second = (str(folder) for folder in untrained)
    with pytest.raises(UsageError, match="is given twice; a seed counts once"):
        bench_backbones([Candidate("a", first), Candidate("b", first)], Scope(1))
    with pytest.raises(UsageError, match="are both called x and have other numbers of parameters"):
        bench_backbones([Candidate("x", "embedded"), Candidate("x", second)], Scope(1))
    with pytest.raises(BackboneError, match="no such backbone folder"):
        bench_backbones([Candidate("x", str(tmp_path / "nowhere"))], Scope(1))
    with pytest.raises(UnknownNameError, match="unknown localizer preset 'paper'"):
        bench_backbones([Candidate("x", first)], Scope(1, "paper"))


# --- the commands' own mistakes -------------------------------------------------------------------------------------


def test_what_train_backbone_does_not_know_is_one_line(
    untrained: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    wrong: dict[str, list[Any]] = {
        "unknown architecture 'sd4'": ["--architecture", "sd4"],
        "and unet goes on from a StableDiffusionPipeline": ["--start", untrained[0]],
        "--start brings its own autoencoder": ["--start", untrained[0], "--autoencoder", untrained[0]],
        "--autoencoder is taken as it is; leave --vae-steps 3 out": ["--autoencoder", untrained[0], "--vae-steps", 3],
        "no such backbone folder": ["--autoencoder", tmp_path / "nowhere"],
    }
    if not torch.cuda.is_available():
        wrong["device 'cuda' cannot be used here"] = ["--device", "cuda"]
    for message, options in wrong.items():
        done = called(monkeypatch, capfd, "train-backbone", "--out", out, *options)
        assert done.code == 1 and message in done.err and done.err.count("\n") == 1, done.err
        assert not out.exists()


def test_the_command_prints_one_row_a_name(
    untrained: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    options = ["--scenes", 2, "--preset", "fast", "--format", "json"]
    done = called(monkeypatch, capfd, "bench", "backbones", f"dit={untrained[0]}", f"dit={untrained[1]}", *options)
    (row,) = json.loads(done.out)
    assert done.code == 0 and row["model"] == "dit" and len(row["seeds"]) == 2
