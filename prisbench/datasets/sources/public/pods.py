"""PODS: 100 household objects of five kinds, three photos to learn each from, twelve outlined test photos of each.

The layout is that of the archive ``pods.zip`` of Sundaram, Chae et al., "Personalized Representation from Personalized
Generation" (ICLR 2025), https://github.com/ssundaram21/personalized-rep: ``dataset/README.md`` (folders, the two JSON
files), ``downstream/dense_tasks.py`` (``test_dense``, its masks, a mask is what is not black).  The same photos as
Parquet (https://huggingface.co/datasets/chaenayo/PODS) are not read: the published split of the objects is not in it.

Its own splits are kept: a third of the objects is ``val``, here "validation".  Licence: MIT, by the card on the Hub.

It cannot know: the things around the object, which two of the four kinds of test photo (``distractors``,
``pose_and_distractors``) have, since they are not outlined: every query about a photo's own object is "plain", and its
kind stands in the column ``source`` where the set says it.  What the keys of ``pods_image_annos.json`` look like is not
documented: a photo is looked up by its path below ``test_dense``, its name, and its name without the ending.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from prisbench.datasets.remarks import Remarks
from prisbench.datasets.schema import QueryRow, SubjectRow
from prisbench.datasets.source import Source
from prisbench.datasets.sources.mask_files import mask_file
from prisbench.datasets.sources.options import LICENCE_HELP, TEXT_HELP, build_key, one_line, query_text, whole_number
from prisbench.datasets.sources.plan import Candidate, IdOf, about, tables_of
from prisbench.datasets.sources.public.pods_lists import PodsLists, PodsObject, kind_of, lists_of, objects_of
from prisbench.datasets.sources.reading.files import inside, listing, top
from prisbench.datasets.sources.reading.images import image_file
from prisbench.errors import DataError

TITLE = "PODS"
LICENCE = "MIT"
HOMEPAGE = "https://github.com/ssundaram21/personalized-rep"
LAYOUT = """\
pods_info.json (classes, class_to_sc, class_to_split)
pods_image_annos.json (photo -> test_split; may be missing)
train/<object>/0.jpg, train_masks/<object>/0.jpg
test_dense/<object>/0.jpg, test_dense_masks/<object>/0.jpg"""
OPTIONS = {
    "references": "photos to learn from (default: 3, all there are)",
    "absent": "each test photo is also asked for so many other objects of its kind, which are not there (default: 0)",
    "text": TEXT_HELP,
    "licence": LICENCE_HELP,
}
LIMITS = """\
Only the object is outlined: look-alikes in the photos with distractors are there, but nobody said where.  That another
object of the set is absent from a photo rests on the published evaluation, which counts it so."""


def read(root: Path, options: Mapping[str, str]) -> Source:
    """The set in a folder.  Raises DataError for another layout, UsageError for a value that makes no sense."""
    references, n_absent = whole_number(options, "references", 3), whole_number(options, "absent", 0, least=0)
    text, licence = query_text(options), one_line(options, "licence", LICENCE)
    root = top(root, ("pods_info.json", "train", "test_dense", "test_dense_masks"), TITLE, LAYOUT)
    left_out: Counter[str] = Counter()
    lists = lists_of(root)
    objects = objects_of(root, lists, references, left_out)
    rows = _Rows(root, objects, lists, n_absent, text, licence, Remarks(root))
    tables = tables_of(list(objects), rows.subject, rows.candidates, left_out)
    photos = [file for one in objects.values() for file in (*one.references, *one.scenes)]
    masks = [file for name in objects for file in listing(inside(root, f"test_dense_masks/{name}"))]
    said = [file for file in listing(root, {".json"}) if file.name.startswith("pods_")]
    return Source(
        name="pods",
        version="1",
        about=about(TITLE, HOMEPAGE, f"{LIMITS}\n{len(objects)} of the 100 published objects are here.", options),
        key=build_key(TITLE, options, root, [*photos, *masks, *said]),
        subjects=tables.subjects,
        queries=tables.queries,
        n_subjects=len(objects),
        left_out=left_out,
        remarks=rows.remarks,
    )


@dataclass(frozen=True)
class _Rows:
    """Reads the rows."""

    root: Path
    objects: Mapping[str, PodsObject]
    lists: PodsLists
    n_absent: int
    text: str
    licence: str
    remarks: Remarks

    def subject(self, name: str) -> SubjectRow:
        one = self.objects[name]
        images = [image_file(file) for file in one.references]
        masks = [
            self._mask("train_masks", file, image.pixels.shape[:2])
            for file, image in zip(one.references, images, strict=True)
        ]
        return SubjectRow(
            noun=one.noun,
            photos=tuple(image.pixels for image in images),
            split=one.split,
            licence=self.licence,
            source=f"{HOMEPAGE} train/{name}",
            masks=tuple(mask if mask.any() else None for mask in masks),
            files=tuple(image.file for image in images),
        )

    def candidates(self, id_of: IdOf) -> Iterator[Candidate]:
        for name, one in self.objects.items():
            kind = (one.noun, one.split)
            alike = [n for n, other in self.objects.items() if n != name and (other.noun, other.split) == kind]
            for scene in one.scenes:
                mask = self._mask("test_dense_masks", scene)
                if not mask.any():
                    yield "photos with an empty mask"
                    continue
                others = sorted(alike, key=lambda other: _by_hash(f"{scene.name} {name} {other}"))
                for other in (name, *others[: self.n_absent]):
                    yield partial(self._query, other, scene, mask, id_of)
                for _ in range(self.n_absent - len(others)):
                    yield "absent queries for which there is no other object of the kind"

    def _query(self, name: str, scene: Path, mask: Bool[np.ndarray, "_h _w"], id_of: IdOf) -> QueryRow:
        there = name == scene.parent.name
        image = image_file(scene)
        place = f"test_dense/{scene.parent.name}/{scene.name}"
        return QueryRow(
            subject_id=id_of(name),
            noun=self.objects[name].noun,
            image=image.pixels,
            text=self.text,
            query_type="plain" if there else "absent",
            mask=mask if there else np.zeros_like(mask),
            look_alikes=() if there else (mask,),
            split=self.objects[name].split,
            licence=self.licence,
            source=f"{HOMEPAGE} {place}{kind_of(self.lists, place)}",
            file=image.file,
        )

    def _mask(self, folder: str, photo: Path, size_hw: tuple[int, int] | None = None) -> Bool[np.ndarray, "h w"]:
        """The mask of a photo, stored under the same name.

        As JPEG it is cut at half: the published code takes all that is not black, and so the ringing at the edges too.
        """
        stem = f"{folder}/{photo.parent.name}/{photo.stem}"
        found = [ending for ending in (".png", ".jpg", ".jpeg") if (self.root / f"{stem}{ending}").exists()]
        path = inside(self.root, f"{stem}{found[0] if found else photo.suffix}", TITLE)
        if path.suffix.lower() == ".png":
            return mask_file(path, size_hw, TITLE, remarks=self.remarks)
        grey = image_file(path, TITLE).pixels
        if size_hw is not None and grey.shape[:2] != size_hw:
            raise DataError(f"{path} is {grey.shape[:2]}, its photo {size_hw} (h, w)")
        return np.asarray(grey.max(axis=2) >= 128)


def _by_hash(text: str) -> str:
    """A place in an order that follows from the words alone."""
    return sha256(text.encode()).hexdigest()
