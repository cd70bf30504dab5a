"""Which backbone localises better, at what cost: the card's measure for several pipelines, on the same scenes.

Pipelines of one name are seeds of one recipe: a phrase counts by its mean over them.  Intervals are over scenes, so
they say how another lot of scenes would do, and not how another seed would.

Knows: pipelines' folders and cards, held-out phrases.  Does not know: training, concepts, benchmarks.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from prisbench.diffusion.backbone import Backbone
from prisbench.diffusion.loading import EMBEDDED, load_backbone
from prisbench.embedded.card import PhraseAnswer, phrase_answers, weights_of
from prisbench.errors import UsageError
from prisbench.localizer.presets import default_settings
from prisbench.own_task import CARD
from prisbench.statistics import Sample, interval, paired_difference

PLACED = 4
"""Scenes for phrases that need a relation, as many times those for the others; the card has as many."""


class Candidate(NamedTuple):
    """A pipeline: what it is called ("" for its family), and its folder or "embedded"."""

    name: str
    where: str


class Scope(NamedTuple):
    """``scenes`` held-out scenes; ``preset``: the localizer's, None for each family's own; ``device``."""

    scenes: int = 200
    preset: str | None = None
    device: str = "cpu"


class Measured(NamedTuple):
    """A pipeline's answers to phrases and to phrases that need a relation, its parameters, and its card's losses."""

    name: str
    id: str
    preset: str
    phrases: tuple[PhraseAnswer, ...]
    placed: tuple[PhraseAnswer, ...]
    parameters: Mapping[str, int]
    losses: tuple[float, float] | None


def candidate(text: str) -> Candidate:
    """ "NAME=FOLDER", or a folder alone.  Raises UsageError for an empty half."""
    name, equals, where = text.rpartition("=")
    if equals and not (name and where):
        raise UsageError(f"{text!r}: give NAME=FOLDER, or a folder alone")
    return Candidate(name, where)


Told = Callable[[str, int, int], None]
"""Called with a pipeline's id, and how many of the pipelines are done."""


def bench_backbones(
    candidates: Sequence[Candidate], scope: Scope, told: Told = lambda *_: None
) -> list[dict[str, Any]]:
    """One record for each name, in the order given.

    Raises BackboneError for a folder that holds no pipeline; UsageError for pipelines of one name that are of different
    sizes, or the same twice; UnknownNameError for a preset that a family lacks; DataError without a phrase.
    """
    backbones = [_load(each, scope.device) for each in candidates]  # mistakes are told before anything is measured
    for backbone in backbones:
        default_settings(backbone, scope.preset)
    names = [each.name or backbone.family for each, backbone in zip(candidates, backbones, strict=True)]
    _check(names, backbones)
    measured = []
    for n, (each, name, backbone) in enumerate(zip(candidates, names, backbones, strict=True)):
        told(backbone.id, n, len(candidates))
        measured.append(_measure(name, _folder(each), backbone, scope))
    groups = {name: [each for each in measured if each.name == name] for name in dict.fromkeys(names)}
    first = _sample([each.phrases for each in next(iter(groups.values()))])
    return [_record(name, seeds, first) for name, seeds in groups.items()]


def _folder(each: Candidate) -> Path:
    return EMBEDDED if each.where == "embedded" else Path(each.where).expanduser()


def _load(each: Candidate, device: str) -> Backbone:
    return load_backbone(None if each.where == "embedded" else each.where, device)


def _check(names: Sequence[str], backbones: Sequence[Backbone]) -> None:
    """Raises UsageError for pipelines that are not seeds of one recipe and have one name."""
    seen: dict[str, tuple[Mapping[str, int], str]] = {}
    for name, backbone in zip(names, backbones, strict=True):
        size = weights_of(backbone)
        if name in seen and seen[name][0] != size:
            raise UsageError(
                f"{backbone.id} and {seen[name][1]} are both called {name} and have other numbers of parameters; "
                "give them names, as unet=FOLDER"
            )
        seen.setdefault(name, (size, backbone.id))
    ids = [backbone.id.rpartition("@")[2] for backbone in backbones]
    if twice := [backbone.id for n, backbone in enumerate(backbones) if ids[n] in ids[:n]]:
        raise UsageError(f"{twice[0]} is given twice; a seed counts once")


def _measure(name: str, folder: Path, backbone: Backbone, scope: Scope) -> Measured:
    settings = default_settings(backbone, scope.preset)
    found = tuple(phrase_answers(backbone, settings, scope.scenes))
    placed = tuple(phrase_answers(backbone, settings, PLACED * scope.scenes, placed=True))
    return Measured(
        name, backbone.id, scope.preset or "default", found, placed, weights_of(backbone), losses_of(folder / CARD)
    )


def losses_of(card: Path) -> tuple[float, float] | None:
    """The first and the last mean of the denoiser's loss in a card; None where there is no card, or it has none."""
    try:
        facts = json.loads(card.read_text("utf-8"))
        rows = facts["losses"][facts["recipe"].get("architecture", "unet")]
        return float(rows[0]["loss"]), float(rows[-1]["loss"])
    except (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError):
        return None


def _sample(seeds: Sequence[Sequence[PhraseAnswer]], what: str = "iou") -> Sample:
    """Each phrase's mean over seeds, with its scene.  The phrases are the same for all."""
    values = np.mean([[getattr(answer, what) for answer in answers] for answers in seeds], axis=0)
    scenes = tuple(answer.scene for answer in seeds[0])
    ids = tuple(f"{scene}/{n}" for n, scene in enumerate(scenes))
    return Sample(ids, scenes, np.asarray(values, np.float64), np.ones(len(ids)))


def _record(name: str, seeds: Sequence[Measured], first: Sample) -> dict[str, Any]:
    """What is told of the pipelines of one name, as plain JSON values."""
    record: dict[str, Any] = {"model": name, "preset": seeds[0].preset, "parameters": dict(seeds[0].parameters)}
    for key, answers, what in (
        ("iou_mean", [each.phrases for each in seeds], "iou"),
        ("pointing", [each.phrases for each in seeds], "hit"),
        ("placed_iou_mean", [each.placed for each in seeds], "iou"),
    ):
        sample = _sample(answers, what)
        spread = interval(sample) if sample.query_ids else None
        record |= {key: sample.value, f"{key}_ci": spread and list(spread), f"{key}_n": len(sample.query_ids)}
    difference = paired_difference(_sample([each.phrases for each in seeds]), first)
    record["difference"], record["difference_ci"] = difference.value, difference.interval and list(difference.interval)
    record["seconds"] = float(np.median([seconds for each in seeds for seconds in scene_seconds(each.phrases)]))
    record["seeds"] = [
        {
            "backbone": each.id,
            "iou_mean": float(np.mean([answer.iou for answer in each.phrases])),
            "pointing": float(np.mean([answer.hit for answer in each.phrases])),
            "loss_first": each.losses and each.losses[0],
            "loss_last": each.losses and each.losses[1],
        }
        for each in seeds
    ]
    return record


def scene_seconds(answers: Sequence[PhraseAnswer]) -> list[float]:
    """The seconds of each scene's phrases together, asked one at a time."""
    total: dict[str, float] = {}
    for answer in answers:
        total[answer.scene] = total.get(answer.scene, 0.0) + answer.seconds
    return list(total.values())


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """The records as a table to read."""
    first = rows[0]["model"]
    lines = [
        f"| model | seeds | parameters | mIoU | of each seed | pointing | mIoU - {first} | mIoU, relation "
        "| s / scene | loss, first to last |",
        "| :--- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        learned = row["parameters"]["denoiser"] + row["parameters"]["text"]
        difference = "–" if row["model"] == first else _with_interval(row, "difference")
        losses = [f"{each['loss_first']:.3f} to {each['loss_last']:.3f}" for each in row["seeds"] if each["loss_last"]]
        cells = [
            row["model"],
            str(len(row["seeds"])),
            f"{learned / 1e6:.2f} M",
            _with_interval(row, "iou_mean"),
            ", ".join(f"{each['iou_mean']:.3f}" for each in row["seeds"]),
            _with_interval(row, "pointing"),
            difference,
            _with_interval(row, "placed_iou_mean"),
            f"{row['seconds']:.2g}",
            ", ".join(losses) or "–",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    notes = [
        f"{rows[0]['iou_mean_n']} phrases, {rows[0]['placed_iou_mean_n']} that need a relation; [low, high] are 95 % "
        "intervals over scenes, of the mean over seeds",
        "Parameters are the denoiser's and the text encoders'; the autoencoder has "
        + ", ".join(f"{row['parameters']['autoencoder'] / 1e6:.2f} M" for row in rows),
        "Losses of different recipes are of different targets and cannot be compared",
    ]
    return "\n".join([*lines, "", *(f"- {note}." for note in notes)]) + "\n"


def _with_interval(row: Mapping[str, Any], key: str) -> str:
    if row[key] is None:
        return "–"
    spread = row[f"{key}_ci"]
    return f"{row[key]:.3f}" + (f" [{spread[0]:.3f}, {spread[1]:.3f}]" if spread else "")
