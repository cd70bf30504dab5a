"""Small sets of real photos by name: what a few files of a public set give, built from a folder that PRISBENCH_DATA
names.  The files themselves are never part of prisbench.

Knows: which samples there are, where their files are looked for.  Does not know: how a set is laid out.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from prisbench.datasets.build import NewDataset, Progress, write_dataset
from prisbench.datasets.load import Dataset, open_dataset
from prisbench.datasets.named import source_module
from prisbench.datasets.schema import MANIFEST
from prisbench.errors import DataError
from prisbench.runtime.files import cache_folder, check_writable

DATA_VARIABLE = "PRISBENCH_DATA"
"""What the environment calls the folder that holds the samples' files, each in a folder of its own."""


class Sample(NamedTuple):
    """A small real set: its source, its folder inside the one that PRISBENCH_DATA names, options of the source, and the
    digest of what they give.
    """

    source: str
    folder: str
    options: Mapping[str, str]
    digest: str


SAMPLES: Mapping[str, Sample] = {
    "perseg-examples-v1": Sample(
        "perseg",
        "perseg_examples",
        {"licence": "masks: MIT; photos: CC-BY-4.0 (DreamBooth)"},
        "cce5d6132747afb7e8d12f401ae3d289a42b09b213b1c641fd3233631e2deed1",
    ),
    "ycb-video-sample-v2": Sample(
        "ycb-video", "ycb_video", {}, "5cc168226ee3433df66d23993a6443661798e06dfaa6062dc920c871ea136ef4"
    ),
}
"""The name of a dataset, which is that of its card and its leaderboard -> the sample."""


def sample_root(name: str, data: str | os.PathLike[str] | None = None) -> Path | None:
    """The folder of a sample's files, None where it is not here; ``data``: in place of what PRISBENCH_DATA names."""
    given = data or os.environ.get(DATA_VARIABLE) or None
    root = None if given is None else Path(given) / SAMPLES[name].folder
    return root if root is not None and root.is_dir() else None


def build_sample(name: str, root: Path, target: Path, progress: Progress | None = None) -> Dataset:
    """A sample read by its source from its files, and built under its name in ``target``.  Raises what both raise."""
    sample = SAMPLES[name]
    title, _, version = name.rpartition("-v")
    source = source_module(sample.source).read(root, sample.options)
    write_dataset(target, NewDataset(title, version, source.subjects(), source.queries(0), source.about), progress)
    return open_dataset(target)


def find_sample(name: str, progress: Progress | None = None) -> Dataset:
    """A sample from the cache; where it is not there yet, it is built from the files first.

    Raises DataError where the files are not here, and where they give another content than they should.
    """
    folder, sample = cache_folder() / "datasets" / name, SAMPLES[name]
    if not (folder / MANIFEST).is_file():
        root = sample_root(name)
        if root is None:
            raise DataError(
                f"{name} is made of files that are not here: set {DATA_VARIABLE} to a folder that holds them as "
                f"{sample.folder}; data_cards/{name}.md says where they come from"
            )
        check_writable(folder, "name another place for the cache in the environment's PRISBENCH_HOME")
        build_sample(name, root, folder, progress)
    dataset = open_dataset(folder)
    if dataset.digest != sample.digest:
        raise DataError(
            f"{folder} has the digest {dataset.digest[:16]}, {name} has {sample.digest[:16]}: its files are others "
            f"than data_cards/{name}.md describes; remove that folder, and put those files into {DATA_VARIABLE}"
        )
    return dataset


def has_sample(name: str) -> bool:
    """Whether that is a sample which is in the cache, or whose files are here."""
    if name not in SAMPLES:
        return False
    return (cache_folder() / "datasets" / name / MANIFEST).is_file() or sample_root(name) is not None
