"""Folders of photos, and the pictures of other sets that a dataset should share none with.

Knows: a folder of photos of one subject, or one folder for each; every picture of another dataset.  Does not know: the
rows of the dataset that is examined (``rows``), what makes a copy (``leaks``).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from prisbench.datasets.checks.findings import Findings
from prisbench.datasets.checks.folder import without_folder
from prisbench.datasets.checks.gallery import Gallery, PictureRecord
from prisbench.datasets.checks.leaks import Progress
from prisbench.datasets.checks.stored import Key, picture_reader, row_groups, shards_in
from prisbench.errors import DataError, MissingExtraError
from prisbench.images.photos import SMALLEST_SIDE, SUFFIXES, load_photo


def photos_in(folder: Path) -> dict[str, list[Path]]:
    """Subject -> photos: of the folder itself, or of the folders in it."""
    own = _files_in(folder)
    if own:
        return {folder.absolute().name: own}
    found = {one.name: _files_in(one) for one in _entries(folder) if one.is_dir() and not one.name.startswith(".")}
    return {name: photos for name, photos in found.items() if photos}


def check_photos(
    folder: Path,
    photos: dict[str, list[Path]],
    findings: Findings,
    gallery: Gallery | None,
    progress: Progress | None,
) -> dict[str, int]:
    """A folder of photos for each subject: do they open, are they large enough.  They are reference photos."""
    n = 0
    for subject, paths in photos.items():
        for path in paths:
            n += 1
            name = path.relative_to(folder).as_posix()
            try:
                image = load_photo(path)
            except (DataError, MissingExtraError) as error:
                findings.add("image", without_folder(error, folder), name)
                continue
            h, w = image.shape[:2]
            if min(h, w) < SMALLEST_SIDE:
                findings.add("photo-small", f"{w} x {h} pixels; the shorter side should have {SMALLEST_SIDE}", name)
            if gallery is not None:
                gallery.add(image, Key(path), PictureRecord(name, "reference", (subject,), "", ""))
            if progress:
                progress("checking photos", n)
    return {"subjects": len(photos), "photos": n}


def add_other_set(gallery: Gallery, folder: Path, findings: Findings, progress: Progress | None) -> None:
    """The pictures of another set, for the leak audit only; what cannot be read is counted.

    Raises DataError when the folder holds no pictures.
    """
    name, bad, n, read = folder.absolute().name, 0, 0, picture_reader()
    for n, (key, picture) in enumerate(_pictures_of(folder, name), 1):
        try:
            gallery.add(read(key), key, picture)
        except (DataError, MissingExtraError):
            bad += 1
        if progress:
            progress(f"reading {name}", n)
    if not n:
        raise DataError(f"{folder} holds neither a dataset nor photos, so there is nothing to compare with")
    if bad:
        findings.add("incomplete", f"{bad} of {n} pictures of {folder} cannot be read")


def _files_in(folder: Path) -> list[Path]:
    return [
        path
        for path in _entries(folder)
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()
    ]


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _pictures_of(folder: Path, name: str) -> Iterator[tuple[Key, PictureRecord]]:
    """Every picture of a dataset, each scene once, or every photo below a folder."""
    shards = shards_in(folder)
    for path in sorted(folder.rglob("*")) if not shards else ():
        if path.suffix.lower() in SUFFIXES and path.is_file():
            yield Key(path), PictureRecord(f"{name}/{path.relative_to(folder).as_posix()}", "scene", (), "", name)
    seen: set[str] = set()
    for shard in shards:
        role = "reference" if shard.table == "subjects" else "scene"
        for group, table in row_groups(shard, lambda *_: None):
            for row in range(table.num_rows):
                try:
                    record = table.slice(row, 1).to_pylist()[0]
                except ValueError:  # text that is not UTF-8
                    continue
                where = f"{name}/{shard.name}: {role} of {record['id']}"
                if role == "scene" and record["sha256"] not in seen:
                    seen.add(record["sha256"])
                    yield Key(shard.path, group, row), PictureRecord(where, role, (), shard.split, name)
                for n in range(len(record.get("photos") or ())):
                    subject = (f"{name}/{record['id']}",)
                    yield Key(shard.path, group, row, n), PictureRecord(where, role, subject, shard.split, name)
