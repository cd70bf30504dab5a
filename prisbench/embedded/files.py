"""Where the scenes of a training run lie, and how their arrays are written.

Knows: the names of files.  Does not know: what the scenes show.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from prisbench.runtime.files import replacing


class SceneFolder(NamedTuple):
    """Scenes, captions and latents of a run, a file of each for every size of scenes; where masks are asked for, also
    which thing each pixel shows, and what is said of the things.
    """

    out: Path
    sizes_hw: tuple[tuple[int, int], ...]

    def scenes(self, hw: tuple[int, int]) -> Path:
        return self.out / f"scenes-{hw[0]}x{hw[1]}.npy"

    def captions(self, hw: tuple[int, int]) -> Path:
        return self.out / f"captions-{hw[0]}x{hw[1]}.json"

    def ids(self, hw: tuple[int, int]) -> Path:
        """Number of the thing that each pixel shows, from 1; 0 where there is none: n h w uint8."""
        return self.out / f"ids-{hw[0]}x{hw[1]}.npy"

    def things(self, hw: tuple[int, int]) -> Path:
        """``rivals.phrases.Told`` of each scene."""
        return self.out / f"things-{hw[0]}x{hw[1]}.json"

    def latents(self, hw: tuple[int, int]) -> Path:
        return self.out / f"latents-{hw[0]}x{hw[1]}.npy"


def save_array(path: Path, array: np.ndarray) -> None:
    """An .npy file, whole or not at all: a stage is skipped when its file is there."""
    with replacing(path) as temp, open(temp, "wb") as file:
        np.save(file, array, allow_pickle=False)


def read_array(path: Path) -> np.ndarray:
    """The array of an .npy file, which stays on disk until it is looked at."""
    array: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    return array
