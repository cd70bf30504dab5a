"""The cards of the rivals: what they are, how they were trained, how good they are.

Knows: recipes, logs, qualities.  Does not know: training, models.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from prisbench.embedded.card import spread_over
from prisbench.embedded.rivals.quality import quality
from prisbench.embedded.rivals.recipes import RIVALS, Recipe
from prisbench.embedded.rivals.training import RUN
from prisbench.runtime.files import read_json, sha256_file, write_json, write_text
from prisbench.tabletop.families import VIEWS
from prisbench.tabletop.queries import VERSION

TITLES = {
    "sam": "The embedded Segment Anything",
    "clipseg": "The embedded CLIPSeg",
    "things": "The embedded finder of things",
    "reid": "The embedded network that knows things again",
}

LIBRARIES = {"things": "prisbench", "reid": "prisbench"}
"""Whose classes a model is of, where not those of transformers."""

ABOUT = {
    "sam": """\
A small `transformers.SamModel` that knows one world, Tabletop: from a point or a box to a mask.
It is there so that methods that stand on Segment Anything have measured rows.  It says nothing of
how they do with the released weights on real photos.  Trained as the release is (Kirillov et al.
2023), in small: prompts drawn from true masks, a second round with the first answer and a point
where it is wrong, three masks of which the best is trained, focal and Dice loss, a head that
predicts the overlap.  A cell of its features is 12 pixels wide, which is coarse for small things.""",
    "clipseg": """\
A small `transformers.CLIPSegForImageSegmentation` that knows one world, Tabletop: from a phrase,
or a photo of a thing that looks the same, to a mask.  It is there so that CLIPSeg has measured
rows.  It says nothing of how the released weights do on real photos.  There is no CLIP of
Tabletop: the text tower began as the embedded backbone's text encoder, the image tower with
nothing.  Both learned with the decoder; the image tower also learned to name what each patch
shows, in the place of CLIP's own training.  Training was short, and its loss still fell at
the end: take its rows for a lower bound of what CLIPSeg can do here.""",
    "things": """\
A small network of our own (`prisbench/things`) that knows one world, Tabletop: from a photo to one
region for each thing, whatever it is called.  It is to other regions what an instance segmenter is
on photographs.  Trained on true outlines, so a method that uses it has seen masks of training
scenes; it has seen no text and no subject of the benchmark.  One pass says where a thing is, where
its middle is, and which middle each pixel belongs to (after Panoptic-DeepLab, Cheng et al. 2020).""",
    "reid": """\
A small network of our own (`prisbench/reid`) that knows one world, Tabletop: from a thing in a
photo to 64 numbers, which are alike for the same thing in any light, place and turn.  It is to
other looks what a re-identification network is on photographs of people or cars.  Trained to tell
a thing from its look-alikes of each grade, so a method that uses it has been shown what the
benchmark asks, on other things.  It has seen no text and no subject of the benchmark.""",
}


def finish(folder: Path, home: Path, recipe: Recipe, scenes: int) -> dict[str, Any]:
    """Measure a trained model's folder and write its card (README.md, card.json).  Returns the quality."""
    found = quality(recipe.name, folder, scenes)
    log = read_json(home / RUN / "log.json")
    facts = {
        "name": recipe.name,
        "recipe": dataclasses.asdict(recipe),
        "world": f"Tabletop {VERSION}",
        "weights": sha256_file(folder / "model.safetensors")[:12],
        "bytes": sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
        "hours": round(log[-1]["seconds"] / 3600, 2) if log else 0.0,
        "losses": [log[n] for n in spread_over(len(log))],
        "held_out": found,
    }
    write_json(folder / "card.json", facts)
    write_text(folder / "README.md", card(facts))
    return found


def card(facts: dict[str, Any]) -> str:
    """The card's text, from its facts alone."""
    name, recipe = facts["name"], facts["recipe"]
    rows = "\n".join(f"| {row['step']} | {row['seconds'] / 60:.0f} | {row['loss']:.4f} |" for row in facts["losses"])
    sizes = f"--seed {recipe['seed']} --scenes {recipe['scenes']} --steps {recipe['steps']} --rate {recipe['rate']}"
    return f"""---
license: apache-2.0
library_name: {LIBRARIES.get(name, "transformers")}
pipeline_tag: image-segmentation
tags: [tabletop, prisbench]
---
# {TITLES[name]}

{ABOUT[name]}

## Recipe

`prisbench train-rival {name} --out DIR {sizes}`

{scenes_of(facts)}  No subject of the benchmark can be among them: training
never shows its pattern or its pair of colours.  Batch {recipe["batch"]}, AdamW {recipe["rate"]},
averaged weights; {facts["hours"]} hours of wall time on one core that other work ran on, too.

| step | minutes | loss |
|---|---|---|
{rows}

## Quality

{QUALITIES[name](facts["held_out"])}

All numbers are in `card.json`; weights `{facts["weights"]}`; size on disk {facts["bytes"] / 1e6:.1f} MB.
"""


def scenes_of(facts: dict[str, Any]) -> str:
    """Which scenes a model was trained on."""
    name, count, world = facts["name"], facts["recipe"]["scenes"], facts["world"]
    if RIVALS[name].kind == "families":
        return f"""\
{count} scenes of {count // VIEWS} families ({world}, `prisbench/tabletop/families.py`), with
their true masks: a thing, its look-alikes, copies and colour twins, on tables in their colours,
made as the benchmark's are."""
    return f"""\
The first {count} of the scenes that the embedded backbone was trained on
({world}), with their true masks."""


def _sam(found: dict[str, Any]) -> str:
    return (
        f"Mean IoU over {found['point']['n']} things of {found['scenes']} ordinary scenes outside of training:\n"
        f"**{_number(found['point'])}** from one point by lot inside of the thing,\n"
        f"**{_number(found['box'])}** from its box."
    )


def _clipseg(found: dict[str, Any]) -> str:
    return (
        f"Mean IoU on {found['scenes']} ordinary scenes outside of training, scores cut at 0.5:\n"
        f"**{_number(found['phrase'])}** of {found['phrase']['n']} phrases that tell more than the class word,\n"
        f"**{_number(found['noun'])}** of {found['noun']['n']} class words alone,\n"
        f"**{_number(found['photo'])}** from {found['photo']['n']} photos in which the thing stands alone.\n"
        f"Of {found['absent']} phrases about what is not there, {found['silent']:.0%} have an empty mask."
    )


def _things(found: dict[str, Any]) -> str:
    return (
        f"Over {found['region']['n']} things of {found['scenes']} ordinary scenes outside of training:\n"
        f"mean IoU **{_number(found['region'])}** with the region that overlaps a thing most;\n"
        f"{found['at_half']:.0%} of the things have an IoU of 0.5 or more;\n"
        f"{found['regions']:.2f} regions for each thing."
    )


def _reid(found: dict[str, Any]) -> str:
    kinds = "\n".join(f"| {kind} | {share:.3f} |" for kind, share in found["less_like"].items())
    first = _number({"iou_mean": found["first"]["share"], "iou_mean_ci": found["first"]["share_ci"]})
    return f"""\
{found["first"]["n"]} scenes of families outside of training, a thing known by two photos and their masks:
it is liker to itself than all other things there in **{first}** of the scenes.
By what another thing differs in, the share of {found["pairs"]} others that are less like:

| differs in | less like |
|---|---|
{kinds}"""


QUALITIES = {"sam": _sam, "clipseg": _clipseg, "things": _things, "reid": _reid}


def _number(found: dict[str, Any]) -> str:
    low_high = found["iou_mean_ci"]
    return f"{found['iou_mean']:.3f}" + (f" {list(low_high)}" if low_high else " (no interval: too few scenes)")
