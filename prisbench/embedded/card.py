"""What is measured of a trained backbone, and the card that ships with it.

Knows: held-out ordinary scenes and phrases about them.  Does not know: training.
"""

from __future__ import annotations

import dataclasses
import random
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from prisbench.concepts.controls import noun_only
from prisbench.datasets.sources.tabletop import BENCHMARK, Size
from prisbench.datasets.sources.tabletop import rows as tabletop_rows
from prisbench.diffusion.backbone import Backbone
from prisbench.diffusion.domain import Domain, write_domain
from prisbench.diffusion.loading import load_backbone
from prisbench.embedded.models import samples_sheet
from prisbench.embedded.recipe import AnyRecipe
from prisbench.embedded.training import PIPELINES
from prisbench.errors import DataError
from prisbench.images.drawing import png
from prisbench.images.photos import image_id
from prisbench.localizer.answer import locate
from prisbench.localizer.presets import default_settings
from prisbench.localizer.settings import LocalizerSettings
from prisbench.own_world import measure
from prisbench.runtime.files import read_json, write_bytes, write_json, write_text
from prisbench.statistics import Sample, interval
from prisbench.tabletop.captions import ordinary_scene
from prisbench.tabletop.individuals import full_phrase
from prisbench.tabletop.places import RELATIONS, holds
from prisbench.tabletop.queries import VERSION
from prisbench.tabletop.scenes import Scene
from prisbench.types import SLOT, Concept, Query, Subject

PROMPTS = (
    "a photo of a red mug",
    "a photo of a striped blue and white mug on a wooden table",
    "a photo of a green bottle",
    "a photo of a dotted yellow and red ball on a tiled floor",
    "a photo of a checked black and white vase",
    "a photo of a plant on a marble counter",
    "a photo of a teal lamp and a brown book",
    "a photo of a pink teapot left of a grey bowl",
)


def phrases(scenes: int, name: str = "held-out") -> Iterator[tuple[Scene, int, str]]:
    """(scene, index of a thing, phrase with the slot for its noun): things of ordinary scenes that
    words single out.
    """
    for n in range(scenes):
        scene, _ = ordinary_scene(f"{name}/{n}")
        rng = random.Random(f"{name}/{n}/phrases")
        who = [thing.individual for thing in scene.things]
        for i, one in enumerate(who):
            words = full_phrase(one, rng)
            twins = sum((w.noun, w.main, w.pattern) == (one.noun, one.main, one.pattern) for w in who)
            if twins == 1:
                yield scene, i, words.replace(one.noun, SLOT)


def placed_phrases(scenes: int, name: str = "held-out") -> Iterator[tuple[Scene, int, str]]:
    """As ``phrases``, of copies that only a relation tells apart: "red {subject} left of the blue box"."""
    for n in range(scenes):
        scene, _ = ordinary_scene(f"{name}/{n}")
        rng = random.Random(f"{name}/{n}/placed")
        who, camera = [thing.individual for thing in scene.things], scene.stage.camera
        for i, one in enumerate(who):
            copies = [k for k, other in enumerate(who) if other is one]
            marks = [k for k, other in enumerate(who) if sum(other.noun == each.noun for each in who) == 1]
            told = [
                (word, k)
                for k in marks
                for word in RELATIONS
                if all(holds(camera, word, scene.things[c], scene.things[k]) is (c == i) for c in copies)
            ]
            if len(copies) > 1 and told:
                word, k = told[int(rng.random() * len(told))]
                yield scene, i, f"{one.main} {SLOT} {word} the {who[k].main} {who[k].noun}"


def phrase_quality(
    backbone: Backbone, settings: LocalizerSettings, scenes: int, name: str = "held-out", placed: bool = False
) -> dict[str, Any]:
    """Mean IoU and pointing accuracy of full phrases ("the striped red and white mug") on ordinary
    scenes never trained on; ``placed``: of phrases that need their relation.

    The interval is a bootstrap over scenes.  Raises DataError where no scene has such a phrase.
    """
    found = list(phrase_answers(backbone, settings, scenes, name, placed))
    measured = with_interval([each.iou for each in found], [each.scene for each in found])
    return {**measured, "pointing": round(float(np.mean([each.hit for each in found])), 4), "scenes": scenes}


class PhraseAnswer(NamedTuple):
    """An answer to a phrase: the scene's id, IoU in 0..1, whether the peak lies in the mask (1 or 0), and seconds."""

    scene: str
    iou: float
    hit: float
    seconds: float


def phrase_answers(
    backbone: Backbone, settings: LocalizerSettings, scenes: int, name: str = "held-out", placed: bool = False
) -> Iterator[PhraseAnswer]:
    """The answers that ``phrase_quality`` counts, one phrase at a time."""
    settings = dataclasses.replace(settings, tokens=("phrase",), presence=None)
    for scene, i, words in (placed_phrases if placed else phrases)(scenes, name):
        noun = scene.things[i].individual.noun
        concept: Concept = noun_only(Subject(noun, noun, ()))
        query = Query("q", noun, f"the {words}")
        begun = time.perf_counter()
        answer = locate(backbone, scene.image, [query], {noun: concept}, settings)[0]
        seconds = time.perf_counter() - begun
        truth = scene.masks[i]
        mask = answer.mask if answer.mask is not None else np.zeros(truth.shape, bool)
        iou = float((mask & truth).sum() / (mask | truth).sum())
        yield PhraseAnswer(image_id(scene.image), iou, float(truth[answer.peak_yx]), seconds)


def with_interval(ious: Sequence[float], keys: Sequence[str]) -> dict[str, Any]:
    """The mean, its interval by a bootstrap over scenes, and how many there are; ``keys``: each one's scene.

    Raises DataError where there are none.
    """
    if not ious:
        raise DataError("no scene has a phrase to measure by; take more scenes")
    ids = tuple(f"{key}/{n}" for n, key in enumerate(keys))
    spread = interval(Sample(ids, tuple(keys), np.asarray(ious), np.ones(len(ious))))
    return {
        "iou_mean": round(float(np.mean(ious)), 4),
        "iou_mean_ci": None if spread is None else [round(x, 4) for x in spread],
        "n": len(ious),
    }


DOMAIN_SEED = 90_001
"""Of the set whose scenes the domain is measured on; no benchmark has it."""


def measure_domain(folder: str | Path, scenes: int = 400) -> Domain:
    """Measure what the world looks like to the pipeline in a folder, and put that beside it as
    ``domain.json``.

    So many ordinary scenes, as training shows them, and as many of the kind that benchmarks ask
    about.  Neither training nor any other measurement uses these.
    """
    name, world = "domain", f"Tabletop {VERSION}"
    size = Size({"validation": -(-2 * scenes // BENCHMARK.queries_each) + 1})
    queried: dict[str, np.ndarray] = {}
    for query in tabletop_rows(size, DOMAIN_SEED)[1]:
        queried.setdefault(query.image_id, query.image)
        if len(queried) == scenes:
            break
    images = [ordinary_scene(f"{name}/{n}")[0].image for n in range(scenes)]
    images += queried.values()
    described = (
        f"{world}: ordinary scenes {name}/0 to {name}/{scenes - 1}, and {len(images) - scenes} of seed {DOMAIN_SEED}"
    )
    domain = measure(load_backbone(folder), images, described)
    write_domain(domain, Path(folder))
    return domain


def finish(folder: Path, run: Path, recipe: AnyRecipe, scenes: int, device: str = "cpu") -> dict[str, Any]:
    """Measure a trained pipeline folder, draw its samples and write its card (README.md,
    samples.png, card.json).
    """
    backbone = load_backbone(folder, device)
    settings = default_settings(backbone)
    quality = phrase_quality(backbone, settings, scenes)
    placed = phrase_quality(backbone, settings, 4 * scenes, placed=True)
    domain = measure_domain(folder)
    stages = ("vae", recipe.architecture) if recipe.vae_steps else (recipe.architecture,)
    logs = {name: read_json(run / f"{name}-run" / "log.json") for name in stages}
    write_bytes(folder / "samples.png", png(samples_sheet(folder, list(PROMPTS))))
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    facts = {
        "recipe": dataclasses.asdict(recipe),
        "backbone": backbone.id,
        "bytes": size,
        "device": torch.device(device).type,
        "parameters": weights_of(backbone),
        "hours": {name: round(log[-1]["seconds"] / 3600, 2) for name, log in logs.items()},
        "steps": {name: int(log[-1]["step"]) for name, log in logs.items()},
        "losses": {name: [log[i] for i in spread_over(len(log))] for name, log in logs.items()},
        "held_out_phrases": quality,
        "placed_phrases": placed,
        "localizer": settings.as_record(),
        "domain": dataclasses.asdict(domain),
    }
    write_json(folder / "card.json", facts)
    write_text(folder / "README.md", _card(facts))
    return quality


def weights_of(backbone: Backbone) -> dict[str, int]:
    """How many parameters the denoiser, the text encoders together, and the autoencoder have."""
    counted = {name: sum(p.numel() for p in model.parameters()) for name, model in backbone.models.items()}
    text = sum(n for name, n in counted.items() if name.startswith("text_encoder"))
    vae = sum(p.numel() for p in backbone.vae.parameters())
    return {"denoiser": sum(p.numel() for p in backbone.unet.parameters()), "text": text, "autoencoder": vae}


def spread_over(n: int, most: int = 8) -> list[int]:
    """Up to ``most`` indices over 0..n-1, the last one among them."""
    return sorted({round(i * (n - 1) / (most - 1)) for i in range(most)}) if n else []


KINDS = {
    "unet": ("The embedded backbone", "U-Net and text encoder", "chosen on other scenes", ""),
    "sd3": (
        "The embedded DiT",
        "transformer and text encoders",
        "chosen for the U-Net; untuned for this model",
        ", text_encoder_3=None, tokenizer_3=None",
    ),
}
"""Architecture -> what the card calls the model and what was trained of it, how the localizer's settings came, and what
diffusers has to be told when it loads the folder."""


def _card(facts: dict[str, Any]) -> str:
    prompts = "\n".join(f"{i}. {prompt}" for i, prompt in enumerate(PROMPTS, 1))
    architecture = facts["recipe"]["architecture"]
    return f"""---
license: apache-2.0
library_name: diffusers
pipeline_tag: text-to-image
tags: [tabletop, prisbench]
---
# {KINDS[architecture][0]}

A small latent diffusion pipeline that knows one world, Tabletop: ten kinds of things on a table, twelve colours, six
patterns.  It is there so that every part of prisbench runs in minutes on a laptop.  It knows nothing of real photos.

Load it as any other: `{PIPELINES[architecture]}.from_pretrained(folder{KINDS[architecture][3]})`.
It draws 112 x 144, 144 x 112 and 96 x 160 pixels.

## Recipe

{_recipe(facts)}

## Quality

{_quality(facts["held_out_phrases"], facts["placed_phrases"], KINDS[architecture][2])}

![samples](samples.png)

Left to right, top to bottom:

{prompts}

## Its own world

{_world(facts["domain"])}

All numbers are in `card.json`; size on disk {facts["bytes"] / 1e6:.1f} MB.
"""


def _recipe(facts: dict[str, Any]) -> str:
    """The card's section on training."""
    recipe = facts["recipe"]
    rows = "\n".join(
        f"| {row['step']} | {row['seconds'] / 60:.0f} | {row['loss']:.4f} |"
        for row in facts["losses"][recipe["architecture"]]
    )
    of, begun, start = recipe["architecture"], "", ""
    sizes = f"--seed {recipe['seed']} --scenes {recipe['scenes']} --vae-steps {recipe['vae_steps']}"
    sizes += f" --vae-rate {recipe['vae_rate']} --steps {recipe['steps']} --rate {recipe['rate']}"
    if recipe["start"]:
        start = f" --start FOLDER_OF_{recipe['start']}"
        begun = f", from the weights of the pipeline {recipe['start']}"
    if recipe["autoencoder"]:
        start = f" --autoencoder FOLDER_OF_{recipe['autoencoder']}"
    if not recipe["vae_steps"]:
        taken = recipe["start"] or recipe["autoencoder"]
        vae_row = f"| autoencoder | that of the pipeline {taken}, as it is | | |"
        vae_end = ""
    else:
        vae_row = _autoencoder(facts, begun)
        vae = facts["losses"]["vae"][-1]
        vae_end = f"  Autoencoder at the end: L1 {vae['l1']:.3f}, squared error {vae['l2']:.4f} (pixels in -1..1)."
    command = f"prisbench train-backbone --out DIR --architecture {of} --device {facts['device']} {sizes}{start}"
    how = (
        f"{_layers(recipe)}, text width {recipe['text_width']}, {recipe['text_layers']} layers; "
        f"{'noise' if of == 'unet' else 'velocity'} prediction, batch {recipe['batch']}, AdamW {recipe['rate']}, "
        f"averaged weights{begun}"
    )
    where = "2 CPU cores" if facts["device"] == "cpu" else facts["device"]
    beside = "; other work ran on the same cores" if facts["device"] == "cpu" else ""
    weights = facts["parameters"]
    return f"""\
`{command}`
(scenes with captions, drawn by the same code as the benchmark, without the subjects' patterns and colour pairs; masks
are never shown to it).

| part | how | steps | hours on {where} |
|---|---|---|---|
{vae_row}
| {KINDS[of][1]} | {how} | {facts["steps"][of]} | {facts["hours"][of]} |

The hours are wall time of the training steps{beside}.{vae_end}  Parameters: denoiser {weights["denoiser"]:,},
text {weights["text"]:,}, autoencoder {weights["autoencoder"]:,}.  Denoiser, {len(facts["losses"][of])} of its means:

| step | minutes | loss |
|---|---|---|
{rows}"""


def _layers(recipe: dict[str, Any]) -> str:
    """The denoiser's size in words."""
    if recipe["architecture"] == "unet":
        return f"{tuple(recipe['unet_channels'])} channels"
    return f"{recipe['layers']} joint blocks, {recipe['heads']} heads, width {recipe['width']}, patch {recipe['patch']}"


def _autoencoder(facts: dict[str, Any], begun: str) -> str:
    """The table's row of an autoencoder that was trained."""
    recipe = facts["recipe"]
    how = (
        f"{tuple(recipe['vae_channels'])} channels, factor 4, 4 latent channels; L1 + 2 L2 + 2e-4 KL; "
        f"batch {recipe['vae_batch']} crops of {recipe['vae_crop']} px, AdamW {recipe['vae_rate']}{begun}"
    )
    return f"| autoencoder | {how} | {facts['steps']['vae']} | {facts['hours']['vae']} |"


def _quality(quality: dict[str, Any], placed: dict[str, Any], chosen: str) -> str:
    """The card's section on held-out phrases."""
    spread = str(list(quality["iou_mean_ci"])) if quality["iou_mean_ci"] else "(no interval: too few scenes)"
    return f"""\
Localization of captioned phrases ("the striped red and white mug") on {quality["scenes"]} ordinary scenes outside
training, {quality["n"]} phrases, settings of the preset `accurate` ({chosen}): mean IoU
**{quality["iou_mean"]:.3f}** {spread}, pointing **{quality["pointing"]:.3f}**.

{placed["n"]} phrases that need their relation ("the red mug left of the blue box" beside another red mug): mean IoU
**{placed["iou_mean"]:.3f}**, pointing **{placed["pointing"]:.3f}**; choosing one of the copies by lot would be right
in about half."""


def _world(domain: dict[str, Any]) -> str:
    """The card's section on what lies outside."""
    mean, deviation = domain["mean"], domain["deviation"]
    rows = "\n".join(f"| {name} | {mean[name]:.4f} | {deviation[name]:.4f} |" for name in mean)
    return f"""Photos of this world are told from others by the autoencoder's reconstruction error and by whether the
finder of things agrees with itself (the numbers are explained in `prisbench/diffusion/domain.py`; all are in
`domain.json`).  Measured on {domain["scenes"]} scenes outside training ({domain["world"]}):

| number | mean | deviation |
|---|---|---|
{rows}

A photo's strangeness is the sum of its numbers in deviations from these means.  The 99th percentile of these
scenes is **{domain["threshold"]:.2f}**; commands warn of photos beyond it.  Made again, for this folder or another, by
`python -c "from prisbench.embedded.card import measure_domain; measure_domain('DIR')"`."""
