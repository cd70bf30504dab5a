"""PerMIS: one thing among others of its class, in frames of a video far apart; drawn here from BURST by its rule.

Samuel, Ben-Ari, Levy, Darshan, Chechik, "Where's Waldo: Diffusion Features for Personalized Segmentation and Retrieval"
(NeurIPS 2024), https://github.com/dvirsamuel/PDM: the set is a script (``PerMIRS/permirs_gen_dataset.py``,
``video.py``, ``dataset.py``) that copies frames of BURST and pickles masks.  A pickle may run any program, so the
copies are not read: this takes BURST itself, in the layout that https://github.com/Ali2500/BURST-benchmark documents
(``README.md``, ``ANNOTATION_FORMAT.md``), and applies the script's rule:

- videos of HACS, AVA and LaSOT are out;
- in a frame, a track counts when another track of its class is in that frame;
- the subject is the track that counts in most frames (of several, the one with the lowest number);
- the reference is the frame in which its box is largest; the two queries are the next largest that are more than 15
  annotated frames away; a video without three such frames is out.

Beyond the script: the other tracks of the class are kept as look-alikes.  Not done here, since only its evaluation
does it: square crops placed by the true mask, and leaving out what is under 0.5 % of a crop.

Licence: BURST's annotations MIT, which its ``LICENSE`` says not to hold for the frames: those are TAO's, under the
terms of their sources (ArgoVerse, BDD, Charades, YFCC100M).

Not public: the parts of BURST (train, val, test) that the published 150 videos were drawn from; all that are there are
read.  It cannot know: things of the class that BURST has not outlined (its annotations are not exhaustive).
Reference and queries are of one video, as published.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from prisbench.datasets.schema import QueryRow, SubjectRow
from prisbench.datasets.source import Source, kind_of_scene, split_of
from prisbench.datasets.sources.options import (
    CUT_HELP,
    LICENCE_HELP,
    SHARE_HELP,
    TEXT_HELP,
    build_key,
    one_line,
    query_text,
    share,
    yes_or_no,
)
from prisbench.datasets.sources.plan import Candidate, IdOf, about, tables_of
from prisbench.datasets.sources.public.burst import Episode, Frame, episodes_of, mask_of
from prisbench.datasets.sources.reading.files import inside, top
from prisbench.datasets.sources.reading.images import image_file
from prisbench.datasets.sources.reference_photos import Shot, cut_out
from prisbench.errors import DataError

TITLE = "PerMIS"
LICENCE = "annotations: MIT (BURST); frames: the terms of TAO's sources"
HOMEPAGE = "https://github.com/dvirsamuel/PDM"
LAYOUT = """\
annotations/<part>/all_classes.json (part: train, val or test; any of them)
images/<part>/<dataset>/<video>/<frame>.jpg"""
OPTIONS = {
    "cut": f"{CUT_HELP} (default: true; published: false, with the mask)",
    "validation_share": SHARE_HELP,
    "text": TEXT_HELP,
    "licence": LICENCE_HELP,
}
LIMITS = """\
Reference and queries are frames of one video, as published: a background may be in both.
BURST did not outline everything, so a scene may hold look-alikes that nobody marked.
Drawn from BURST by the published rule; numbers of papers that used their own copy are not comparable."""


def read(root: Path, options: Mapping[str, str]) -> Source:
    """The set in a folder.  Raises DataError for another layout, UsageError for a value that makes no sense."""
    cut, validation_share = yes_or_no(options, "cut", True), share(options)
    text, licence = query_text(options), one_line(options, "licence", LICENCE)
    root = top(root, ("annotations", "images"), TITLE, LAYOUT)
    files = [
        path for part in ("train", "val", "test") if (path := root / f"annotations/{part}/all_classes.json").exists()
    ]
    left_out: Counter[str] = Counter()
    episodes = episodes_of(root, files, left_out)
    rows = _Rows(root, episodes, cut, validation_share, text, licence, left_out)
    tables = tables_of(list(episodes), rows.subject, rows.candidates, left_out)
    return Source(
        name="permis",
        version="1",
        about=about(TITLE, HOMEPAGE, LIMITS, options),
        key=build_key(TITLE, options, root, files),
        subjects=tables.subjects,
        queries=tables.queries,
        n_subjects=len(episodes),
        n_queries=sum(len(episode.frames) - 1 for episode in episodes.values()),
        left_out=left_out,
    )


@dataclass(frozen=True)
class _Rows:
    """Reads the rows.  The first frame of an episode is its reference photo, the others are scenes."""

    root: Path
    episodes: Mapping[str, Episode]
    cut: bool
    validation_share: float
    text: str
    licence: str
    left_out: Counter[str]

    def subject(self, name: str) -> SubjectRow:
        episode = self.episodes[name]
        photo, mask, file = self._shot(episode, episode.frames[0])
        if self.cut:
            (photo, mask), file = cut_out(photo, mask), None
        return SubjectRow(
            noun=episode.noun,
            photos=(photo,),
            split=split_of(name, self.validation_share),
            licence=self.licence,
            source=f"{HOMEPAGE} BURST {episode.frames[0].path}",
            masks=(mask,),
            files=(file,),
        )

    def candidates(self, id_of: IdOf) -> Iterator[Candidate]:
        for episode in self.episodes.values():
            for frame in episode.frames[1:]:
                yield partial(self._query, episode, frame, id_of)

    def _query(self, episode: Episode, frame: Frame, id_of: IdOf) -> QueryRow:
        pixels, mask, file = self._shot(episode, frame)
        decoded = [mask_of(runs, episode, frame.path) for runs in frame.look_alikes]
        look_alikes = tuple(other for other in decoded if other.any())
        if len(look_alikes) < len(decoded):
            self.left_out["look-alikes without a pixel"] += len(decoded) - len(look_alikes)
        return QueryRow(
            subject_id=id_of(episode.name),
            noun=episode.noun,
            image=pixels,
            text=self.text,
            query_type=kind_of_scene(len(look_alikes), frame.others),
            mask=mask,
            look_alikes=look_alikes,
            split=split_of(episode.name, self.validation_share),
            licence=self.licence,
            source=f"{HOMEPAGE} BURST {frame.path}",
            file=file,
        )

    def _shot(self, episode: Episode, frame: Frame) -> Shot:
        pixels, file = image_file(inside(self.root, frame.path, TITLE))
        if pixels.shape[:2] != episode.size_hw:
            raise DataError(f"{self.root / frame.path} is {pixels.shape[:2]}, its annotations {episode.size_hw} (h, w)")
        return Shot(pixels, mask_of(frame.mask, episode, frame.path), file)
