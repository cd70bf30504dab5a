"""PerVL-YouTube-VOS: free text with a slot, about one of several alike things in a video frame.

The earlier formulation of this benchmark's task: Cohen, Gal, Meirom, Chechik, Atzmon, "This is my unicorn, Fluffy"
(PALAVRA, ECCV 2022).  A concept is learned from frames of a clip, cut to its box, and found by a caption, with ``*``
for the concept, in a later frame of the same clip.

The layout is that of https://github.com/NVlabs/PerVLBenchmark once its README is followed: the annotations of the
repository (``ytvos/prepare_YTVOS_initial_directory_structure.py`` shows their fields) and the training part of
YouTube-VOS 2019 in ``data/youtube_vos/train``.  The files of ``data/.../ytvos_PerVL`` that its scripts make are not
read: their masks hold the concept alone, not its look-alikes, which ``train/Annotations`` and ``meta.json`` have.

Its own splits are kept; three of its validation concepts are queried in frames that are test frames too (clips
ff15a5eff6, c55784c766, 77610860e0), and are left out here.  Licence: captions CC-BY-NC-SA-4.0; annotations of
YouTube-VOS CC-BY-4.0; its frames may be used for research that is not commercial.

The boxes that are learned from are cut with a quarter around them, the published ones without.  Of the frames that the
set names, every fifth of a clip, those to learn from are spread evenly over what is ``apart``, no neighbour of another
and, where there are such, of the frame that is queried.

Not public: the code and settings of the paper's segmentation experiment, and how many of a concept's frames it learned
from; here ``references`` says it.  It cannot know: things that YouTube-VOS has not outlined.  Reference and query come
from one clip, as published: a background seen in both may help; that the clip's later frames look different is left to
the leak audit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, partial
from itertools import groupby
from pathlib import Path

import numpy as np
from jaxtyping import Int

from prisbench.datasets.schema import QueryRow, SubjectRow
from prisbench.datasets.source import Source, kind_of_scene, with_others
from prisbench.datasets.sources.options import LICENCE_HELP, build_key, one_line, whole_number
from prisbench.datasets.sources.plan import Candidate, IdOf, about, tables_of
from prisbench.datasets.sources.public.perv_ytvos_lists import TRAIN, Concept, concepts_of, lists_of
from prisbench.datasets.sources.reading.files import inside, top
from prisbench.datasets.sources.reading.images import ImageFile, image_file, label_file
from prisbench.datasets.sources.reference_photos import cut_out
from prisbench.errors import DataError

TITLE = "PerVL-YouTube-VOS"
LICENCE = "captions: CC-BY-NC-SA-4.0; frames: YouTube-VOS terms, non-commercial research"
HOMEPAGE = "https://github.com/NVlabs/PerVLBenchmark"
LAYOUT = """\
annotations/ytvos/ytvos_personalization_meta.yaml
annotations/ytvos/cleaned_captions_ytvos_val.csv, cleaned_captions_ytvos_test.csv
data/youtube_vos/train/meta.json
data/youtube_vos/train/JPEGImages/<clip>/00000.jpg
data/youtube_vos/train/Annotations/<clip>/00000.png"""
OPTIONS = {
    "references": "frames to learn from, spread over those the set names (default: 5)",
    "apart": "frames that two of them are apart, at least (default: 10, since every fifth is outlined)",
    "licence": LICENCE_HELP,
}
LIMITS = """\
References and query of a concept are frames of one clip, as published: what stands around it may be in both.
Only what YouTube-VOS outlined can be a look-alike.  The captions are left as they were written, slips included."""


def read(root: Path, options: Mapping[str, str]) -> Source:
    """The set in a folder.  Raises DataError for another layout, UsageError for a value that makes no sense."""
    references, distance = whole_number(options, "references", 5), whole_number(options, "apart", 10)
    licence = one_line(options, "licence", LICENCE)
    root = top(root, ("annotations/ytvos", TRAIN), TITLE, LAYOUT)
    left_out: Counter[str] = Counter()
    concepts = {concept.name: concept for concept in concepts_of(root, references, distance, left_out)}
    if not concepts:
        raise DataError(f"{root / 'annotations' / 'ytvos'} has no concept that could be asked about: {dict(left_out)}")
    rows = _Rows(root, concepts, licence)
    tables = tables_of(list(concepts), rows.subject, rows.candidates, left_out)
    frames = {(concept.clip, frame) for concept in concepts.values() for frame in (*concept.frames, concept.frame)}
    pictures = [inside(root, f"{TRAIN}/JPEGImages/{clip}/{frame}.jpg", TITLE) for clip, frame in sorted(frames)]
    return Source(
        name="perv-ytvos",
        version="2",  # 1: neighbouring frames to learn from
        about=about(TITLE, HOMEPAGE, f"{LIMITS}\n{len(concepts)} of the 498 published concepts are here.", options),
        key=build_key(TITLE, options, root, [*lists_of(root), *pictures]),
        subjects=tables.subjects,
        queries=tables.queries,
        n_subjects=len(concepts),
        n_queries=len(concepts),
        left_out=left_out,
    )


@dataclass(frozen=True)
class _Rows:
    """Reads the rows."""

    root: Path
    concepts: Mapping[str, Concept]
    licence: str

    def subject(self, name: str) -> SubjectRow:
        concept = self.concepts[name]
        cuts = []
        for frame in concept.frames:
            pixels = self._picture(concept.clip, frame).pixels
            mask = self._labels(concept, frame, pixels.shape[:2]) == concept.label
            if not mask.any():
                raise DataError(
                    f"{name} is to be learned from frame {frame} of its clip, where no pixel is labelled so"
                )
            cuts.append(cut_out(pixels, mask))
        return SubjectRow(
            noun=concept.noun,
            photos=tuple(cut.photo for cut in cuts),
            split=concept.split,
            licence=self.licence,
            source=f"{HOMEPAGE} {concept.clip} frames {', '.join(concept.frames)}",
            masks=tuple(cut.mask for cut in cuts),
        )

    def candidates(self, id_of: IdOf) -> Iterator[Candidate]:
        scenes = groupby(self.concepts.values(), key=lambda concept: (concept.clip, concept.frame))
        for (clip, frame), neighbours in scenes:
            concepts = list(neighbours)
            picture, found = cache(partial(self._picture, clip, frame)), self._labels(concepts[0], frame)
            for concept in concepts:
                hidden = not (found == concept.label).any()
                reason = "concepts that are hidden in their test frame"
                yield reason if hidden else partial(self._query, concept, picture, id_of)

    def _query(self, concept: Concept, picture: Callable[[], ImageFile], id_of: IdOf) -> QueryRow:
        pixels, file = picture()
        found = self._labels(concept, concept.frame, pixels.shape[:2])
        there = [int(n) for n in np.unique(found) if n not in (0, concept.label)]
        look_alikes = tuple(found == n for n in there if n in concept.alike)
        row = QueryRow(
            subject_id=id_of(concept.name),
            noun=concept.noun,
            image=pixels,
            text=concept.text,
            query_type=kind_of_scene(len(look_alikes), len(there) - len(look_alikes)),
            mask=found == concept.label,
            look_alikes=look_alikes,
            split=concept.split,
            licence=self.licence,
            source=f"{HOMEPAGE} {concept.clip} frame {concept.frame}",
            file=file,
        )
        return with_others(row, ((found == n, None) for n in there if n not in concept.alike))

    def _picture(self, clip: str, frame: str) -> ImageFile:
        return image_file(inside(self.root, f"{TRAIN}/JPEGImages/{clip}/{frame}.jpg", TITLE))

    def _labels(self, concept: Concept, frame: str, size_hw: tuple[int, int] | None = None) -> Int[np.ndarray, "h w"]:
        """The labels of a frame of a concept's clip."""
        path = inside(self.root, f"{TRAIN}/Annotations/{concept.clip}/{frame}.png", TITLE)
        return label_file(path, size_hw, "", concept.known)
