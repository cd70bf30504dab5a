"""How well the rivals do what they were trained for, on scenes outside of training.

Knows: held-out ordinary scenes, Segment Anything and CLIPSeg as methods use them.  Does not know: training, subjects.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool

from prisbench.clipseg.model import ClipSeg
from prisbench.clipseg.prompts import visual_prompt
from prisbench.embedded.card import with_interval
from prisbench.embedded.rivals.phrases import Told, told
from prisbench.images.photos import image_id
from prisbench.images.regions import iou
from prisbench.reid import network as reid
from prisbench.sam.model import Prompt, Sam
from prisbench.sam.persam import box_of
from prisbench.tabletop.captions import SCALES, ordinary_scene
from prisbench.tabletop.families import PHOTOS, VIEWS, family, family_scene
from prisbench.tabletop.individuals import grade_between
from prisbench.tabletop.scenes import Plan, Scene, compose
from prisbench.things.network import load_network
from prisbench.things.regions import regions_of

HELD_OUT_FAMILIES = 1_000_000
"""Families from this number on are never trained on."""

CUT = 0.5
"""Where scores are cut here; a method's own threshold is chosen on validation."""


class HeldOut(NamedTuple):
    """An ordinary scene that no training shows, what is said of its things, and its own source of chance."""

    scene: Scene
    told: Told
    rng: random.Random


def held_out(scenes: int, name: str) -> Iterator[HeldOut]:
    """So many, always the same of a name."""
    for n in range(scenes):
        scene, _ = ordinary_scene(f"{name}/{n}")
        rng = random.Random(f"{name}/{n}/rivals")
        yield HeldOut(scene, told([thing.individual for thing in scene.things], rng), rng)


def quality(kind: str, folder: Path, scenes: int, name: str = "held-out") -> dict[str, Any]:
    """Of the model of that kind in a folder."""
    measures: dict[str, Callable[[Path, int, str], dict[str, Any]]] = {
        "sam": sam_quality,
        "clipseg": clipseg_quality,
        "things": things_quality,
        "reid": reid_quality,
    }
    return {**measures[kind](folder, scenes, name), "scenes": scenes}


def sam_quality(folder: Path, scenes: int, name: str) -> dict[str, Any]:
    """Mean IoU from one point by lot inside of each thing, and from its box; of the three masks the one that the model
    takes for the best.
    """
    sam = Sam(str(folder), "cpu")
    found: dict[str, list[float]] = {"point": [], "box": []}
    keys: list[str] = []
    for scene, _, rng in held_out(scenes, name):
        frame, features = sam.encode(scene.image)
        for truth in scene.masks:
            rows, columns = np.nonzero(truth)
            at = int(rng.random() * len(rows))
            prompts = {
                "point": Prompt(((int(columns[at]), int(rows[at])),), (1,)),
                "box": Prompt((), (), box_of(truth)),
            }
            for kind, prompt in prompts.items():
                masks = sam.decode(frame, features, prompt, True)
                mask = (masks.logits[int(masks.quality.argmax())] > 0).numpy()
                found[kind].append(iou(mask, truth))
            keys.append(image_id(scene.image))
    return {kind: with_interval(ious, keys) for kind, ious in found.items()}


def clipseg_quality(folder: Path, scenes: int, name: str) -> dict[str, Any]:
    """Mean IoU of phrases about what is there, of which the class words alone, and from a photo in which the thing
    stands alone; and the share of the phrases about nothing whose mask is empty.
    """
    clipseg = ClipSeg(str(folder), "cpu")
    found: dict[str, list[tuple[float, str]]] = {"phrase": [], "noun": [], "photo": []}
    silent: list[bool] = []
    for scene, said, rng in held_out(scenes, name):
        layers = clipseg.encode(scene.image)
        key, size_hw = image_id(scene.image), scene.masks[0].shape

        def answer(vector: Any, layers: Any = layers, size_hw: Any = size_hw) -> Bool[np.ndarray, "h w"]:
            return clipseg.score(layers, vector, size_hw) > CUT

        for text, meant in said["phrases"]:
            mask = answer(clipseg.of_text(f"a photo of a {text}"))
            if meant:
                kind = "phrase" if " " in text else "noun"
                found[kind].append((iou(mask, union(scene, meant)), key))
            else:
                silent.append(not mask.any())
        alone = compose(rng, [scene.things[0].individual], Plan(SCALES[1]))
        vector = clipseg.of_photo(visual_prompt(alone.image, alone.masks[0]))
        same = [n for n, look in enumerate(said["looks"]) if look == said["looks"][0]]
        found["photo"].append((iou(answer(vector), union(scene, same)), key))
    result: dict[str, Any] = {
        kind: with_interval([each for each, _ in ious], [key for _, key in ious]) for kind, ious in found.items()
    }
    return {**result, "silent": round(float(np.mean(silent)), 4) if silent else None, "absent": len(silent)}


def things_quality(folder: Path, scenes: int, name: str) -> dict[str, Any]:
    """Mean IoU of each thing with the region that overlaps it most, the share of things with IoU 0.5 or more, and
    regions for each thing.
    """
    network = load_network(folder)
    ious: list[float] = []
    keys: list[str] = []
    regions = 0
    for scene, _, _ in held_out(scenes, name):
        found = regions_of(network, scene.image)
        regions += len(found)
        for truth in scene.masks:
            ious.append(max((iou(region, truth) for region in found), default=0.0))
            keys.append(image_id(scene.image))
    at_half = round(float(np.mean(np.asarray(ious) >= 0.5)), 4)
    return {"region": with_interval(ious, keys), "at_half": at_half, "regions": round(regions / len(ious), 4)}


def reid_quality(folder: Path, scenes: int, name: str) -> dict[str, Any]:
    """Over families outside of training, known by their two photos: the share of the scenes in which the thing is liker
    to itself than all others are, and, by what another thing differs in, the share of the others that are less like.
    """
    network = reid.load_network(folder)
    best: list[float] = []
    keys: list[str] = []
    less: dict[str, list[bool]] = {}
    for number in range(HELD_OUT_FAMILIES, HELD_OUT_FAMILIES + -(-scenes // VIEWS)):
        who, known = family(number).who, list[np.ndarray]()
        for view in range(VIEWS):
            scene, members = family_scene(number, view)
            vectors = reid.vectors(network, scene.image, scene.masks)
            if view < PHOTOS:
                known.append(vectors[members.index(0)])
                continue
            like = vectors @ np.mean(known, axis=0)
            own = [each for each, member in zip(like, members, strict=True) if member == 0]
            others = [n for n, member in enumerate(members) if member != 0]
            if not own or not others:
                continue
            for n in others:
                other = scene.things[n].individual
                kind = grade_between(who, other) if other.noun == who.noun else "another noun"
                less.setdefault(kind, []).append(bool(like[n] < min(own)))
            best.append(float(max(like[n] for n in others) < min(own)))
            keys.append(image_id(scene.image))
    by_kind = {kind: round(float(np.mean(each)), 4) for kind, each in sorted(less.items())}
    found = with_interval(best, keys)
    shares = {"share": found["iou_mean"], "share_ci": found["iou_mean_ci"], "n": found["n"]}
    return {"first": shares, "less_like": by_kind, "pairs": sum(map(len, less.values()))}


def union(scene: Scene, numbers: list[int]) -> Bool[np.ndarray, "h w"]:
    """What those things of a scene cover."""
    return np.any([scene.masks[n] for n in numbers], axis=0)
