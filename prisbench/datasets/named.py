"""Datasets and sources by name: Tabletop is drawn into the cache on first use; anything else is a folder.

Knows: which names there are, where a named dataset lies, which options a source takes.  Does not know: how scenes are
drawn, how a set is laid out, how rows are stored.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from prisbench.datasets.build import Progress, Say, build, check_target
from prisbench.datasets.load import Dataset, open_dataset
from prisbench.datasets.manifest import Manifest
from prisbench.datasets.schema import MANIFEST, READABLE, TABLES, QueryRow, SubjectRow
from prisbench.datasets.source import Source
from prisbench.datasets.sources.archives import opened
from prisbench.datasets.sources.tabletop import SIZES, Size
from prisbench.datasets.sources.tabletop import rows as tabletop_rows
from prisbench.errors import DataError, UnknownNameError, UsageError
from prisbench.runtime.files import cache_folder, check_writable, read_json, sha256_json
from prisbench.runtime.hub import fetch, is_hub_id
from prisbench.tabletop.queries import VERSION
from prisbench.tabletop.subjects import SEED

NAMES = (f"tabletop-v{VERSION}", f"tabletop-small-v{VERSION}")
"""The benchmark, and a small part of it for a first look."""

DIGESTS: Mapping[str, str] = {
    "tabletop-v3": "d5fc1e7e474b30e9abb097395d66c181c8d997b5040efc2dd6deb8597d86ee29",
    "tabletop-small-v3": "4ae100c54a9a1d9de11ba7895b9c6c20efc3868e0ebd5624e9090a1910217557",
}
"""Of what is drawn; when a change of the world changes them, ``queries.VERSION`` must change too."""

SOURCES: Mapping[str, str] = {
    "tabletop": "a generated world: things on a table, exact masks (CC0)",
    "folder": "your own photos, with masks as PNG files",
    "coco": "any set annotated as COCO instances: polygons or RLE",
    "coco-panoptic": "any set annotated as COCO panoptic: a PNG of numbers for each image",
    "break-a-scene": "photos with several masks each: a folder of img.jpg, mask0.png, mask1.png for each photo",
    "labelme": "photos annotated with labelme: a JSON file beside each",
    "perseg": "PerSeg: 40 objects, a few photos of each",
    "pods": "PODS: 100 household objects under shift of scene and pose",
    "perv-ytvos": "PerVL-YouTube-VOS: free text about one of several look-alikes in a video",
    "permis": "PerMIS: one of several objects of a category, in frames of videos",
    "ycb-video": "YCB-Video: 21 household objects on tables",
    "davis": "DAVIS 2017: objects of short videos",
    "voc-instances": "PASCAL VOC 2012: instances of 20 classes",
    "mug19": "the paper's 19 mugs, in folders that a small YAML file maps to their roles",
}
"""A source's name -> a line about it.  Its module in ``sources`` or ``sources/public`` has ``_`` for ``-``."""

TABLETOP_CARD = f"""# Tabletop

A generated world for personalized referring image segmentation: things on a table, exact visible masks, subjects that
a text-to-image model trained on the rest of this world has never seen, and texts that matter.  Drawn by
`prisbench build-dataset tabletop`; the same seed gives the same content.
The long card is `data_cards/{NAMES[0]}.md` in the prisbench repository.
"""

_TABLETOP_OPTIONS = {
    "size": "full (the benchmark, the default) or small (for a first look)",
    "validation": "validation subjects, for a smaller or larger set than the benchmark",
    "test": "test subjects",
    "seed": "another world; default: that of the benchmark",
}


def source_options(name: str) -> Mapping[str, str]:
    """The options of a source: name -> a line of help.  Raises UnknownNameError."""
    options: Mapping[str, str] = _TABLETOP_OPTIONS if name == "tabletop" else source_module(name).OPTIONS
    return options


def describe_source(name: str) -> str:
    """What a source reads, under which licence, and its options, for people.  Raises UnknownNameError."""
    options = [f"  {option}: {line}" for option, line in source_options(name).items()]
    lines = [f"{name}: {SOURCES[name]}"]
    if name != "tabletop":
        module = source_module(name)
        layout = [f"  {line}" for line in module.LAYOUT.strip("\n").splitlines()]
        lines += [f"licence: {module.LICENCE}", f"from: {module.HOMEPAGE}", "layout:", *layout]
    return "\n".join([*lines, "options:", *options])


def load_source(
    name: str, root: str | os.PathLike[str] | None = None, options: Mapping[str, str] | None = None
) -> Source:
    """The set of a source in the folder ``root``, not read yet; for ``options`` see ``source_options``.

    Raises UnknownNameError, with the nearest name, for a source or an option; UsageError when the root is missing, or
    given for what is drawn; DataError when there is no such folder; and what the source raises.
    """
    options = dict(options or {})
    _check_options(name, options)
    if name == "tabletop":
        if root is not None:
            raise UsageError(f"the source {name} draws what it gives: leave out the folder {root}")
        return _tabletop_with(options)
    if root is None:
        raise UsageError(f"the source {name} reads files: name the folder or archive they are in ({SOURCES[name]})")
    if not Path(root).is_dir():
        raise DataError(f"no folder {root}: {name} wants one with {SOURCES[name]} ({source_module(name).HOMEPAGE})")
    return _read(source_module(name), Path(root), options)


def _read(module: ModuleType, root: Path, options: Mapping[str, str]) -> Source:
    """The set in a folder, or in the only folder that it holds: archives often wrap what they hold in one, with a
    README or what a system leaves beside it.
    """
    try:
        source: Source = module.read(root, options)
        return source
    except DataError as error:
        if not _of_layout(error, root):
            raise
        inner = [path for path in root.iterdir() if path.is_dir() and not path.name.startswith((".", "__MACOSX"))]
        if len(inner) != 1 or inner[0].is_symlink():
            raise
        try:
            return _read(module, inner[0], options)
        except DataError as found:
            if not _of_layout(found, inner[0]):
                raise
        raise


def _of_layout(error: DataError, root: Path) -> bool:
    """Whether an error is about the folder as a whole; otherwise it is laid out as it should be, and something in it is
    not.
    """
    return str(error).startswith((f"{root} ", f"{root}:"))


class Reports(NamedTuple):
    """Who is told how a build goes: ``progress`` of rows, ``say`` of lines that the user should read."""

    progress: Progress | None = None
    say: Say | None = None


SILENT = Reports()


def build_source(
    name: str,
    root: str | os.PathLike[str] | None,
    options: Mapping[str, str] | None,
    folder: str | os.PathLike[str],
    reports: Reports = SILENT,
    overwrite: bool = False,
) -> tuple[Manifest, Counter[str]]:
    """Build the set of a source, read from a folder or an archive; also what was left out: reason -> records.

    Raises as ``load_source``, ``archives.opened`` and ``build``.
    """
    if root is None or not Path(root).is_file():
        return _built(load_source(name, root, options), folder, reports, overwrite)
    _check_options(name, options or {})  # what is wrong is told before an archive is unpacked
    check_target(folder, overwrite)
    with opened(Path(root)) as inside:
        return _built(load_source(name, inside, options), folder, reports, overwrite)


def _built(
    source: Source, folder: str | os.PathLike[str], reports: Reports, overwrite: bool
) -> tuple[Manifest, Counter[str]]:
    """As ``build_source``.  What the source remarked of files is said even when a later file fails."""
    try:
        manifest = build(folder, source, reports.progress, overwrite=overwrite, say=reports.say)
        return manifest, source.left_out
    finally:
        if reports.say is not None:
            for line in source.remarks.lines():
                reports.say(f"note: {line}")


def tabletop_source(size: Size = SIZES["full"], seed: int = SEED) -> Source:
    """A Tabletop set: the benchmark, its configuration ``small``, or else a ``tabletop-custom``."""
    names = {"full": "tabletop", "small": "tabletop-small"}
    known = next((names[word] for word, one in SIZES.items() if one == size and seed == SEED), "tabletop-custom")
    at_hand: list[Iterator[QueryRow]] = []

    def rows() -> Iterator[SubjectRow]:
        table, drawn = tabletop_rows(size, seed)
        at_hand[:] = [drawn]  # all queries about the photos just drawn: those need not be drawn again
        yield from table

    def queries(start: int) -> Iterator[QueryRow]:
        if start == 0 and at_hand:
            return at_hand.pop()
        return tabletop_rows(size, seed, start)[1]

    return Source(
        name=known,
        version=VERSION,
        about=TABLETOP_CARD,
        key=sha256_json([DIGESTS[NAMES[0]], list(size.subjects.items()), list(size.groups.items()), seed]),
        subjects=rows,
        queries=queries,
        n_subjects=sum(size.subjects.values()),
        n_queries=sum(size.subjects.values()) * size.queries_each,
        seed=seed,
    )


def build_tabletop(
    folder: str | os.PathLike[str],
    size: Size = SIZES["full"],
    seed: int = SEED,
    reports: Reports = SILENT,
    overwrite: bool = False,
) -> Manifest:
    """Draw a Tabletop set into a folder: the benchmark, or a ``tabletop-custom``."""
    return build(folder, tabletop_source(size, seed), reports.progress, overwrite=overwrite, say=reports.say)


_OTHER_PLACES = (
    "name another place for the cache in the environment's PRISBENCH_HOME, or draw the set into a folder of your own "
    "(prisbench build-dataset tabletop --out FOLDER) and name that"
)


def find_dataset(name: str, progress: Progress | None = None, say: Say | None = None) -> Dataset:
    """A dataset by name, by folder or by its OWNER/NAME on the Hugging Face Hub; a named one that is not in the cache
    yet is drawn there first, and one of the Hub is fetched into the Hub's own cache.

    A sample of real photos (``samples.SAMPLES``) is built there from the files that PRISBENCH_DATA names.
    So is one that an older prisbench drew there with the same content in an older schema; ``say`` is told.

    Raises UnknownNameError, with the nearest name, when it is neither; DataError when the folder is damaged, or when
    the named one in the cache is not what this version draws; WriteError, before anything is drawn, when the cache
    cannot be written.
    """
    if Path(name).is_dir():
        return open_dataset(name)
    if is_hub_id(name):
        if say:
            say(f"{name} is no folder here: asking the Hugging Face Hub")
        tables = [f"{table}/*.parquet" for table in TABLES]
        return open_dataset(fetch(name, [MANIFEST, "README.md", *tables], DataError, "dataset"))
    from prisbench.datasets.samples import SAMPLES, find_sample  # which needs the sources named here

    if name in SAMPLES:
        return find_sample(name, progress)
    if name not in NAMES:
        raise UnknownNameError("dataset (or no such folder)", name, (*NAMES, *SAMPLES))
    folder = cache_folder() / "datasets" / name
    if not (folder / MANIFEST).is_file():
        check_writable(folder, _OTHER_PLACES)
        build_tabletop(folder, _size(name), reports=Reports(progress, say))
    elif _is_older(folder, name):
        if say:
            say(f"{folder} is from an older prisbench: drawing it again")
        check_writable(folder.parent, _OTHER_PLACES)
        build_tabletop(folder, _size(name), reports=Reports(progress, say), overwrite=True)
    dataset = open_dataset(folder)
    if dataset.digest != DIGESTS[name]:
        raise DataError(
            f"{folder} has the digest {dataset.digest[:16]}, {name} of this prisbench {DIGESTS[name][:16]}; "
            "remove that folder and it is drawn again"
        )
    return dataset


def dataset_id(name: str) -> str:
    """The id of a dataset that is named as for ``find_dataset``; nothing is drawn for it.

    A word that is neither folder nor Hub id is taken as an id.  Raises DataError.
    """
    return find_dataset(name).id if Path(name).is_dir() or is_hub_id(name) else name


def is_drawn(name: str) -> bool:
    """Whether a named dataset is in the cache already."""
    return name in NAMES and (cache_folder() / "datasets" / name / MANIFEST).is_file()


def _size(name: str) -> Size:
    return SIZES["small" if "small" in name else "full"]


def _is_older(folder: Path, name: str) -> bool:
    """Whether a folder is our Tabletop in an older schema; anything else is not to be overwritten unasked."""
    manifest = read_json(folder / MANIFEST)
    if not isinstance(manifest, dict) or not isinstance(manifest.get("schema_version"), int):
        return False
    ours = {"name": name.rpartition("-")[0], "version": VERSION, "digest": DIGESTS[name]}
    return manifest["schema_version"] < min(READABLE) and ours.items() <= manifest.items()


def _check_options(name: str, options: Mapping[str, str]) -> None:
    """Raises UnknownNameError for a source or an option of it that is not there."""
    known = source_options(name)
    for option in options:
        if option not in known:
            raise UnknownNameError(f"option of the source {name}", option, known)


def source_module(name: str) -> ModuleType:
    """The module of a source, loaded now.  Raises UnknownNameError."""
    if name not in SOURCES:
        raise UnknownNameError("source", name, SOURCES)
    module = name.replace("-", "_")
    room = "sources" if importlib.util.find_spec(f"prisbench.datasets.sources.{module}") else "sources.public"
    return importlib.import_module(f"prisbench.datasets.{room}.{module}")


def _tabletop_with(options: Mapping[str, str]) -> Source:
    """Tabletop with options in words.  Raises UsageError, UnknownNameError."""
    word = options.get("size", "full")
    if word not in SIZES:
        raise UnknownNameError("size", word, SIZES)
    numbers = {}
    for option, value in options.items():
        if option == "size":
            continue
        if not value.isdecimal() or (option != "seed" and int(value) < 1):
            raise UsageError(f"{option}={value}: a whole number is wanted" + (", 1 or more" * (option != "seed")))
        numbers[option] = int(value)
    seed = numbers.pop("seed", SEED)
    size = SIZES[word]
    return tabletop_source(Size({**size.subjects, **numbers}, size.groups) if numbers else size, seed)
