"""The scenes and captions that the embedded backbone is trained on, drawn by Tabletop; files of a
run's folder.

Of this room only this file and the card know where scenes come from: training is given a
``SceneFolder``.

Knows: Tabletop's ordinary scenes.  Does not know: models.
"""

from __future__ import annotations

import shutil
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

from prisbench.embedded.files import SceneFolder, save_array
from prisbench.embedded.recipe import Recipe, Report
from prisbench.runtime.files import new_folder, read_json, write_json
from prisbench.tabletop.captions import ordinary_scene
from prisbench.tabletop.scenes import SIZES_HW

PART = 500
"""Scenes that are drawn and kept together: what an interruption may lose."""


def draw_scenes(out: Path, recipe: Recipe, report: Report) -> SceneFolder:
    """``scenes-<h>x<w>.npy`` and ``captions-<h>x<w>.json``, one pair for each scene size; drawn in parts, which an
    interrupted run goes on with.
    """
    folder = SceneFolder(out, SIZES_HW)
    if all(folder.captions(hw).exists() for hw in folder.sizes_hw):
        return folder
    starts = range(0, recipe.scenes, PART)
    parts = [out / "parts" / f"{start}" for start in starts]
    jobs = [(part, start, min(start + PART, recipe.scenes)) for part, start in zip(parts, starts, strict=True)]
    waiting = [job for job in jobs if not job[0].exists()]
    with ProcessPoolExecutor() as pool:
        for done, _ in enumerate(pool.map(_draw_part, waiting), len(jobs) - len(waiting) + 1):
            report("scenes", min(done * PART, recipe.scenes), recipe.scenes, {})
    for hw in folder.sizes_hw:
        inside = [SceneFolder(part, SIZES_HW) for part in parts]
        images = [np.load(one.scenes(hw), allow_pickle=False) for one in inside]
        save_array(folder.scenes(hw), np.concatenate(images))
        write_json(folder.captions(hw), [text for one in inside for text in read_json(one.captions(hw))])
    shutil.rmtree(out / "parts")
    return folder


def _draw_part(job: tuple[Path, int, int]) -> None:
    """Draw some scenes into a folder of their own, in the layout of the whole."""
    part, start, end = job
    images: dict[tuple[int, int], list[np.ndarray]] = {hw: [] for hw in SIZES_HW}
    captions: dict[tuple[int, int], list[str]] = {hw: [] for hw in SIZES_HW}
    for index in range(start, end):
        scene, caption = ordinary_scene(f"train/{index}")
        h, w = scene.image.shape[:2]
        images[h, w].append(scene.image)
        captions[h, w].append(caption)
    with new_folder(part) as temp:
        one = SceneFolder(temp, SIZES_HW)
        for hw in SIZES_HW:
            save_array(one.scenes(hw), np.stack(images[hw]) if images[hw] else np.zeros((0, *hw, 3), np.uint8))
            write_json(one.captions(hw), captions[hw])
