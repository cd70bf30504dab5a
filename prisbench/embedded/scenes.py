"""The scenes and captions that the embedded backbone is trained on, drawn by Tabletop; files of a
run's folder.

Of this room only this file and the card know where scenes come from: training is given a
``SceneFolder``.

Knows: Tabletop's ordinary scenes.  Does not know: models.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

from prisbench.embedded.files import SceneFolder, save_array
from prisbench.embedded.recipe import Recipe, Report
from prisbench.runtime.files import write_json
from prisbench.tabletop.captions import ordinary_scene
from prisbench.tabletop.scenes import SIZES_HW


def draw_scenes(out: Path, recipe: Recipe, report: Report) -> SceneFolder:
    """``scenes-<h>x<w>.npy`` and ``captions-<h>x<w>.json``, one pair for each scene size."""
    folder = SceneFolder(out, SIZES_HW)
    if all(folder.captions(hw).exists() for hw in folder.sizes_hw):
        return folder
    images: dict[tuple[int, int], list[np.ndarray]] = {hw: [] for hw in folder.sizes_hw}
    captions: dict[tuple[int, int], list[str]] = {hw: [] for hw in folder.sizes_hw}
    with ProcessPoolExecutor() as pool:
        for i, (image, caption) in enumerate(pool.map(_draw, range(recipe.scenes), chunksize=128)):
            h, w = image.shape[:2]
            images[h, w].append(image)
            captions[h, w].append(caption)
            if i % 500 == 0:
                report("scenes", i, recipe.scenes, {})
    for hw in folder.sizes_hw:
        save_array(folder.scenes(hw), np.stack(images[hw]))
        write_json(folder.captions(hw), captions[hw])
    return folder


def _draw(index: int) -> tuple[np.ndarray, str]:
    scene, caption = ordinary_scene(f"train/{index}")
    return scene.image, caption
