"""The scenes and captions that the embedded backbone is trained on, drawn by Tabletop; files of a
run's folder.  The rivals are trained on the first of the same scenes, and on masks.

Of this room only this file and the card know where scenes come from: training is given a
``SceneFolder``.

Knows: Tabletop's ordinary scenes and families.  Does not know: models.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from prisbench.embedded.files import SceneFolder, read_array, save_array
from prisbench.embedded.recipe import Report
from prisbench.embedded.rivals.phrases import told
from prisbench.runtime.files import new_folder, read_json, write_json
from prisbench.tabletop.captions import ordinary_scene
from prisbench.tabletop.families import VIEWS, family_scene
from prisbench.tabletop.scenes import SIZES_HW, Scene

PART = 500
"""Scenes that are drawn and kept together: what an interruption may lose."""


@runtime_checkable
class Drawn(Protocol):
    """A recipe, as far as scenes are concerned."""

    @property
    def scenes(self) -> int: ...


KINDS = ("ordinary", "with masks", "families")
"""Scenes with captions; the same with the number of the thing that each pixel shows, and what is said of the things;
scenes of families, with the numbers and which member of which family each thing is, and without captions."""


def draw_scenes(out: Path, recipe: Drawn, report: Report, kind: str = KINDS[0]) -> SceneFolder:
    """``scenes-<h>x<w>.npy`` and ``captions-<h>x<w>.json``, one pair for each scene size; drawn in parts, which an
    interrupted run goes on with.  ``kind``: of KINDS; the others also have ``ids-<h>x<w>.npy`` and
    ``things-<h>x<w>.json``.
    """
    masks = kind != KINDS[0]
    folder = SceneFolder(out, SIZES_HW)
    if all(_last(folder, hw, masks).exists() for hw in folder.sizes_hw):
        return folder
    starts = range(0, recipe.scenes, PART)
    parts = [out / "parts" / f"{start}" for start in starts]
    jobs = [(part, start, min(start + PART, recipe.scenes), kind) for part, start in zip(parts, starts, strict=True)]
    waiting = [job for job in jobs if not job[0].exists()]
    with ProcessPoolExecutor() as pool:
        for done, _ in enumerate(pool.map(_draw_part, waiting), len(jobs) - len(waiting) + 1):
            report("scenes", min(done * PART, recipe.scenes), recipe.scenes, {})
    for hw in folder.sizes_hw:
        inside = [SceneFolder(part, SIZES_HW) for part in parts]
        save_array(folder.scenes(hw), np.concatenate([read_array(one.scenes(hw)) for one in inside]))
        if masks:
            save_array(folder.ids(hw), np.concatenate([read_array(one.ids(hw)) for one in inside]))
        write_json(folder.captions(hw), [text for one in inside for text in read_json(one.captions(hw))])
        if masks:
            write_json(folder.things(hw), [each for one in inside for each in read_json(one.things(hw))])
    shutil.rmtree(out / "parts")
    return folder


def _last(folder: SceneFolder, hw: tuple[int, int], masks: bool) -> Path:
    """The file of a size that is written last."""
    return folder.things(hw) if masks else folder.captions(hw)


def _draw_part(job: tuple[Path, int, int, str]) -> None:
    """Draw some scenes into a folder of their own, in the layout of the whole."""
    part, start, end, kind = job
    images: dict[tuple[int, int], list[np.ndarray]] = {hw: [] for hw in SIZES_HW}
    ids: dict[tuple[int, int], list[np.ndarray]] = {hw: [] for hw in SIZES_HW}
    captions: dict[tuple[int, int], list[str]] = {hw: [] for hw in SIZES_HW}
    things: dict[tuple[int, int], list[Mapping[str, Any]]] = {hw: [] for hw in SIZES_HW}
    for index in range(start, end):
        scene, caption, about = _scene(kind, index)
        h, w = scene.image.shape[:2]
        images[h, w].append(scene.image)
        captions[h, w].append(caption)
        if about is not None:
            ids[h, w].append(numbered(scene))
            things[h, w].append(about)
    with new_folder(part) as temp:
        one = SceneFolder(temp, SIZES_HW)
        for hw in SIZES_HW:
            save_array(one.scenes(hw), np.stack(images[hw]) if images[hw] else np.zeros((0, *hw, 3), np.uint8))
            write_json(one.captions(hw), captions[hw])
            if kind != KINDS[0]:
                save_array(one.ids(hw), np.stack(ids[hw]) if ids[hw] else np.zeros((0, *hw), np.uint8))
                write_json(one.things(hw), things[hw])


def _scene(kind: str, index: int) -> tuple[Scene, str, Mapping[str, Any] | None]:
    """One scene of a kind, its caption, and what is to be known of its things, in the order of their numbers."""
    if kind == "families":
        number, view = divmod(index, VIEWS)
        scene, members = family_scene(number, view)
        return scene, "", {"family": number, "view": view, "members": members}
    scene, caption = ordinary_scene(f"train/{index}")
    if kind == "ordinary":
        return scene, caption, None
    cast = [thing.individual for thing in scene.things]
    return scene, caption, told(cast, random.Random(f"train/{index}/phrases"))


def numbered(scene: Scene) -> UInt8[np.ndarray, "h w"]:
    """Which thing each pixel shows, from 1; 0 where there is none."""
    ids = np.zeros(scene.image.shape[:2], np.uint8)
    for number, mask in enumerate(scene.masks, 1):
        ids[mask] = number
    return ids
