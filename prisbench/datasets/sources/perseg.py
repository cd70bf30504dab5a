"""PerSeg: 40 objects, five to seven photos of each with one mask; learned from photo 00, found in the others.

The layout is that of Zhang et al., "Personalize Segment Anything Model with One Shot" (ICLR 2024),
https://github.com/ZrrSkywalker/Personalize-SAM: ``README.md`` (folders), ``persam.py`` (reference 00), ``eval_miou.py``
(a mask is what is not black).  The published archive wraps both folders in one called ``data 3``; that is looked into.

Licence: the repository and its nine example masks are MIT; the archive itself states none.  The photos are those of
subject-driven generation: DreamBooth's (CC-BY-4.0, some Unsplash), and, by the objects' names, Textual Inversion's and
Custom Diffusion's, whose photos carry no licence of their own.

It cannot know: what else a photo shows (only the object is outlined, so every query is "plain"); an object's noun
beyond its folder's name and the table below; which of the photos a backbone or a learner was tuned on, since
DreamBooth's are in most papers about personalisation.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from prisbench.datasets.remarks import Remarks
from prisbench.datasets.schema import QueryRow, SubjectRow
from prisbench.datasets.source import Source, split_of
from prisbench.datasets.sources.mask_files import coloured_mask_file
from prisbench.datasets.sources.options import (
    LICENCE_HELP,
    SHARE_HELP,
    TEXT_HELP,
    build_key,
    one_line,
    query_text,
    share,
    whole_number,
)
from prisbench.datasets.sources.plan import Candidate, IdOf, about, tables_of
from prisbench.datasets.sources.reading.files import PHOTOS, folders, inside, listing, top
from prisbench.datasets.sources.reading.images import image_file
from prisbench.errors import DataError

TITLE = "PerSeg"
LICENCE = "masks: MIT where in the repository; photos: DreamBooth's CC-BY-4.0, others not stated"
HOMEPAGE = "https://github.com/ZrrSkywalker/Personalize-SAM"
LAYOUT = """\
Images/<object>/00.jpg, 01.jpg, ...
Annotations/<object>/00.png, 01.png, ..."""
OPTIONS = {
    "references": "photos to learn from, the first ones (default: 1, as published)",
    "validation_share": SHARE_HELP,
    "text": TEXT_HELP,
    "licence": LICENCE_HELP,
}
LIMITS = """\
Only the object is outlined: whether another of its kind is in the photo is not said, so every query is "plain".
The photos are DreamBooth's and those of other papers about personalisation; a method may have been tuned on them."""

_NOUNS = {
    "boot": "fancy_boot",
    "bowl": "berry_bowl",
    "backpack": "backpack_dog",
    "cartoon": "red_cartoon",
    "glasses": "pink_sunglasses",
    "mug": "mug_skulls physics_mug",
    "pot": "wooden_pot",
    "sneaker": "colorful_sneaker shiny_sneaker",
    "statue": "cat_statue elephant round_bird thin_bird",
    "stuffed animal": "bear_plushie grey_sloth_plushie wolf_plushie teddybear tortoise_plushy",
    "teapot": "colorful_teapot red_teapot",
    "toy": "duck_toy monster_toy poop_emoji rc_car robot_toy",
}
"""DreamBooth's class words (``prompts_and_classes.txt``) and, in their manner, words for the objects of the two other
papers.  No list of PerSeg's 40 names is public outside the archive; all names of the three papers are covered."""

_NOUN_OF = {name: noun for noun, names in _NOUNS.items() for name in names.split()}


def read(root: Path, options: Mapping[str, str]) -> Source:
    """The set in a folder.  Raises DataError for another layout, UsageError for a value that makes no sense."""
    references, validation_share = whole_number(options, "references", 1), share(options)
    text, licence = query_text(options), one_line(options, "licence", LICENCE)
    root = top(root, ("Images", "Annotations"), TITLE, LAYOUT)
    left_out: Counter[str] = Counter()
    photos = _photos(root, references, left_out)
    rows = _Rows(root, photos, references, validation_share, text, licence, Remarks(root))
    tables = tables_of(list(photos), rows.subject, rows.candidates, left_out)
    masks = [file for name in photos for file in listing(root / "Annotations" / name)]
    return Source(
        name="perseg",
        version="1",
        about=about(TITLE, HOMEPAGE, f"{LIMITS}\n{len(photos)} of the 40 published objects are here.", options),
        key=build_key(TITLE, options, root, [*(file for files in photos.values() for file in files), *masks]),
        subjects=tables.subjects,
        queries=tables.queries,
        n_subjects=len(photos),
        n_queries=sum(len(files) - references for files in photos.values()),
        left_out=left_out,
        remarks=rows.remarks,
    )


def noun_of(name: str) -> str:
    """The class word of an object: "cat" for ``cat2``, "toy" for ``duck_toy``; an unknown name in plain words."""
    return _NOUN_OF.get(name) or re.sub(r"[0-9]+$", "", name).replace("_", " ").strip() or name


def _photos(root: Path, references: int, left_out: Counter[str]) -> dict[str, list[Path]]:
    """Object -> its photos, of the objects with more photos than are learned from.  Raises DataError for none."""
    photos: dict[str, list[Path]] = {}
    for folder in folders(root / "Images"):
        files = listing(folder, PHOTOS)
        if len(files) > references:
            photos[folder.name] = files
        else:
            left_out[f"objects with no more than {references} photos"] += 1
    if not photos:
        raise DataError(
            f"{root / 'Images'} has no object with more than {references} photos, so nothing could be asked"
        )
    return photos


@dataclass(frozen=True)
class _Rows:
    """Reads the rows.  ``photos``: object -> its files, the first ``references`` of which are learned from."""

    root: Path
    photos: Mapping[str, list[Path]]
    references: int
    validation_share: float
    text: str
    licence: str
    remarks: Remarks

    def subject(self, name: str) -> SubjectRow:
        files = self.photos[name][: self.references]
        images = [image_file(file) for file in files]
        masks = [self._mask(file, image.pixels.shape[:2]) for file, image in zip(files, images, strict=True)]
        return SubjectRow(
            noun=noun_of(name),
            photos=tuple(image.pixels for image in images),
            split=split_of(name, self.validation_share),
            licence=self.licence,
            source=f"{HOMEPAGE} Images/{name}",
            masks=tuple(mask if mask.any() else None for mask in masks),
            files=tuple(image.file for image in images),
        )

    def candidates(self, id_of: IdOf) -> Iterator[Candidate]:
        for files in self.photos.values():
            for scene in files[self.references :]:
                yield partial(self._query, scene, id_of) if self._mask(scene).any() else "photos with an empty mask"

    def _query(self, scene: Path, id_of: IdOf) -> QueryRow:
        name = scene.parent.name
        image = image_file(scene)
        return QueryRow(
            subject_id=id_of(name),
            noun=noun_of(name),
            image=image.pixels,
            text=self.text,
            query_type="plain",
            mask=self._mask(scene, image.pixels.shape[:2]),
            look_alikes=(),
            split=split_of(name, self.validation_share),
            licence=self.licence,
            source=f"{HOMEPAGE} Images/{name}/{scene.name}",
            file=image.file,
        )

    def _mask(self, photo: Path, size_hw: tuple[int, int] | None = None) -> Bool[np.ndarray, "h w"]:
        name = f"Annotations/{photo.parent.name}/{photo.stem}.png"
        return coloured_mask_file(inside(self.root, name, TITLE), size_hw, TITLE, self.remarks)
