"""Photos with several masks each, as Break-A-Scene (Avrahami et al. 2023, arXiv 2305.16311) lays them out: a folder
for each photo, and a table that says what the masks show.

    creature/img.jpg
    creature/mask0.png               white where the first thing is
    creature/mask1.png
    kitchen/img.jpg
    kitchen/mask0.png
    masks.csv                        picture,mask,noun,subject: "creature,mask0,mug,anna's"

The folders alone do not say what a mask shows, nor which masks of two photos show the same thing; ``masks.csv`` does.
A line without a subject is some thing of that noun.  A subject that two photos show has a reference photo and a scene.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from prisbench.datasets.remarks import Remarks
from prisbench.datasets.source import Source
from prisbench.datasets.sources.annotated_pictures import AnnotatedPicture, OpenedPicture, Thing
from prisbench.datasets.sources.frames import rule_of, turn_of
from prisbench.datasets.sources.identities import Identities
from prisbench.datasets.sources.instances import INSTANCE_OPTIONS, plan, source_of
from prisbench.datasets.sources.mask_files import MaskRule, mask_file
from prisbench.datasets.sources.options import VALUE_HELP, build_key, mask_rule, one_line
from prisbench.datasets.sources.plan import about
from prisbench.datasets.sources.reading.files import folders, inside, listing
from prisbench.datasets.sources.reading.images import image_file
from prisbench.datasets.sources.tables import Line, table
from prisbench.errors import DataError
from prisbench.images.photos import SUFFIXES, orientation
from prisbench.runtime.files import read_bytes

TITLE = "Photos with several masks each"
LICENCE = "unknown"
HOMEPAGE = "https://github.com/google/break-a-scene"
LAYOUT = """
creature/img.jpg
creature/mask0.png
creature/mask1.png
masks.csv
"""
OPTIONS = INSTANCE_OPTIONS | {
    "masks": "the table picture,mask,noun,subject, below the folder (default: masks.csv)",
    "mask_value": VALUE_HELP,
}
LIMITS = """\
- Which masks show the same particular thing: the table says it, and is believed.
- Whether everything of a noun has a mask."""


def read(root: Path, options: Mapping[str, str]) -> Source:
    """Raises UsageError for an option, DataError naming the file and the line for all else."""
    homes = [home for home in folders(root) if masks_of(home)]
    if not homes:
        raise DataError(f"{root} has no folder with a photo and mask0.png, mask1.png and so on")
    path = root / options.get("masks", "masks.csv")
    if not path.exists():
        first = f"{homes[0].name},{next(iter(masks_of(homes[0])))},mug,anna's"
        raise DataError(
            f"{root} has no {path.name}, and folders alone do not say what a mask shows: write one with the lines "
            f"'picture,mask,noun,subject' and '{first}', the same subject wherever the same thing is seen"
        )
    said = _said(inside(root, path.relative_to(root).as_posix()))
    licence = one_line(options, "licence", LICENCE)
    rule, remarks, seen = mask_rule(options), Remarks(root), Identities("subject")
    left_out: Counter[str] = Counter()
    pictures, files = [], [path]
    for home in homes:
        masks = masks_of(home)
        lines = said.pop(home.name, {})
        if strange := next((line for name, line in lines.items() if name not in masks), None):
            raise DataError(f"{strange.where}: {home} has no mask {strange.cells['mask']!r}; it has {', '.join(masks)}")
        left_out["masks that the table does not name"] += len(masks) - len(lines)
        photo = _photo(home)
        things = tuple(
            Thing(line.cells["noun"], seen.read(line.cells.get("subject") or None, line.where))
            for line in lines.values()
        )
        own = tuple(masks[name] for name in lines)
        pictures.append(_picture(home, things, licence, partial(_look, photo, own, rule, remarks)))
        files += [photo, *own]
    if said:
        line = next(iter(next(iter(said.values())).values()))
        raise DataError(f"{line.where}: there is no folder {line.cells['picture']!r} with a photo and masks in {root}")
    bare = [home for home in folders(root) if not masks_of(home) and len(photos_beside(home)) == 1]
    left_out["photos beside the folders"] += len(listing(root, SUFFIXES))
    if options.get("absent", "0") == "0":
        left_out["folders with a photo and no mask"] += len(bare)
    for home in bare if options.get("absent", "0") != "0" else ():
        pictures.append(_picture(home, (), licence, partial(_look, _photo(home), (), rule, remarks)))
        files.append(_photo(home))
    left_out += Counter()  # no zeros
    planned = plan(pictures, options, left_out, str(path))
    card, key = about(TITLE, HOMEPAGE, LIMITS, options), build_key(TITLE, options, root, files)
    source = source_of("break-a-scene", planned, card, key, left_out, tuple(seen.warnings()))
    return replace(source, remarks=remarks)


def _picture(
    home: Path, things: tuple[Thing, ...], licence: str, look: Callable[[], OpenedPicture]
) -> AnnotatedPicture:
    return AnnotatedPicture(
        name=home.name, place=home.name, things=things, licence=licence, source=f"own photos: {home.name}", look=look
    )


def masks_of(home: Path) -> dict[str, Path]:
    """The masks in a photo's folder, by name: "mask0" for mask0.png."""
    return {path.stem: path for path in listing(home, {".png"}) if path.stem.lower().startswith("mask")}


def photos_beside(home: Path) -> list[Path]:
    """What lies in a folder beside its masks."""
    masks = {*masks_of(home).values()}
    return [path for path in listing(home, SUFFIXES) if path not in masks]


def _photo(home: Path) -> Path:
    photos = photos_beside(home)
    if len(photos) != 1:
        raise DataError(f"{home} has {len(photos)} photos beside its masks; one is wanted, like img.jpg")
    return photos[0]


def _said(path: Path) -> dict[str, dict[str, Line]]:
    """Picture -> mask, without its suffix -> the line about it."""
    found: dict[str, dict[str, Line]] = {}
    for line in table(path, ("picture", "mask", "noun", "subject"), ("picture", "mask", "noun")):
        mask = line.cells["mask"].removesuffix(".png")
        if found.setdefault(line.cells["picture"], {}).setdefault(mask, line) is not line:
            raise DataError(f"{line.where}: {line.cells['picture']} {mask} comes twice")
    return found


def _look(photo: Path, masks: tuple[Path, ...], rule: MaskRule, remarks: Remarks) -> OpenedPicture:
    image = image_file(photo)
    h, w = image.pixels.shape[:2]
    exif = orientation(read_bytes(photo), str(photo))
    turn = turn_of(photo, exif, (h, w), rule, remarks)
    found = tuple(mask_file(mask, (h, w), "", rule_of(rule, exif), turn, remarks) for mask in masks)
    for mask, path in zip(found, masks, strict=True):
        if not mask.any():
            raise DataError(f"{path} is all black; draw the thing white, or take it out of the table")
    return OpenedPicture(image, found)
