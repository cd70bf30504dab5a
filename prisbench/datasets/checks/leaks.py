"""Which pictures of a dataset are copies of each other, so that a method would learn from what it is tested on.

Knows: what a copy means for reference photos and scenes of subjects and splits.  Does not know: how copies are proposed
and proven (``candidates``, ``copies``), files, tables, what is an error (``validate``).

Compared are every reference photo with every picture, in both directions, for copies that are whole (turned by right
angles or mirrored), shifted, cut out or framed; scenes of different splits or sets, too.  Whole copies and those that
share two thirds of each side are proposed by hashes of windows, smaller parts by points (``crops``).  A pair is a copy
when its fit (``registration``) agrees by ``AGREEMENT``; no threshold on a hash decides.

Measured on the 158 photos of the DreamBooth set, 24,806 ordered pairs: the two copies that are there agree by 0.99 and
1.00, and no other pair by more than 0.76 (two shots of one bowl, seconds apart).  Of 318 copies made from 53 of them,
shifted by up to a third or cut out, mirrored, at half size, as JPEG of quality 40, with noise or another gamma, windows
let 317 through to registration, and all of these agreed by 0.87 or more.  docs/dataset.md tells which smaller crops are
found.  Of 1,886 drawn scenes and photos of Tabletop, where backgrounds are plain and look-alikes nearly alike, no pair
agreed by more than 0.74 (with hashes up to 10 bits apart).  Frames of one video a fifth of a second apart (YCB-Video)
agree by 0.75 to 1.00, so nearly all count as copies.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from prisbench.datasets.checks.candidates import Search, WindowMatch
from prisbench.datasets.checks.copies import Proofs, Read
from prisbench.datasets.checks.gallery import Gallery, PictureRecord, matters

ALIKE = 0.95
"""Cosine of two embeddings from which on they are reported.  Models differ: it is a question, not a proof."""

MOST_LEAKS = 10_000
"""That are kept; all are counted."""

_REFERENCES_AT_A_TIME = 1000

Progress = Callable[[str, int], None]
"""Called with what is done and how many rows, files or pictures of it so far."""

SAME_PIXELS = "the same pixels"


def audit(gallery: Gallery, read: Read, progress: Progress | None = None) -> Audit:
    """Look for copies among the pictures of a gallery.

    ``read`` gives a picture again; where it raises DataError the pair is counted as left out.
    """
    leaks = _exact(gallery)
    references = [i for i, picture in enumerate(gallery.pictures) if picture.role == "reference"]
    search = Search(gallery, references)
    proofs = Proofs(gallery, read)
    for start in range(0, len(references), _REFERENCES_AT_A_TIME):
        block = references[start : start + _REFERENCES_AT_A_TIME]
        candidates: list[WindowMatch] = []
        for n, i in enumerate(block, start + 1):
            thumb = proofs.thumb(i)
            candidates += [] if thumb is None else search.of_reference(i, thumb)
            if progress:
                progress("hashes of reference photos", n)
        proofs.look_at(candidates, keep=block)
    proofs.look_at(search.of_scenes(), keep=())
    for n, some in enumerate(search.cut_out(), 1):
        proofs.look_for_parts(some)
        if progress:
            progress("parts of pictures", n)
    pictures = gallery.pictures
    leaks += [Leak(pictures[a], pictures[b], how, agreement) for a, b, how, agreement in proofs.copies]
    found = {(leak.a, leak.b) for leak in leaks}
    leaks += [leak for leak in _alike(gallery, references) if (leak.a, leak.b) not in found]
    leaks.sort(key=lambda leak: (leak.kind != "leak", not leak.proven, leak.a.where, leak.b.where))
    return Audit(
        references=len(references),
        scenes=len(gallery.pictures) - len(references),
        registered=proofs.registered,
        left_out=search.left_out + len(proofs.unread),
        wide=search.wide,
        scenes_wide=search.scenes_wide,
        embedded=gallery.vectors() is not None,
        found=Counter(leak.kind for leak in leaks),
        leaks=tuple(leaks[:MOST_LEAKS]),
    )


class Audit(NamedTuple):
    """What an audit compared and found.

    ``registered``: proposed places of pairs that were proven or not.
    ``left_out``: pairs that were not compared (``candidates.MOST_CANDIDATES``) or not read again.
    ``wide``: see ``candidates.WIDE``.
    ``scenes_wide``: whether parts of scenes were sought in those of other splits and sets.
    ``found``: kind -> leaks.
    """

    references: int
    scenes: int
    registered: int
    left_out: int
    wide: bool
    scenes_wide: bool
    embedded: bool
    found: Counter[str]
    leaks: tuple[Leak, ...]


class Leak(NamedTuple):
    """``b`` is a copy of ``a``, or looks alike.

    ``how`` is a sentence part: "the same pixels", "the same picture, mirrored", "shifted by 28 % of its width".
    ``agreement`` is 1 for the same pixels, else that of the fit, or the cosine of embeddings where ``proven`` is False.
    """

    a: PictureRecord
    b: PictureRecord
    how: str
    agreement: float
    proven: bool = True

    @property
    def kind(self) -> str:
        """ "leak" where learning sees a test scene or a split sees another; "copy"; "shared" between sets; "alike"."""
        if self.a.other != self.b.other:
            return "shared"
        if not self.proven:
            return "alike"
        one_subject = bool(set(self.a.subjects) & set(self.b.subjects))
        across = {self.a.role, self.b.role} == {"reference", "scene"}
        if (across and (one_subject or self.how == SAME_PIXELS)) or self.a.split != self.b.split:
            return "leak"
        return "copy"


def _exact(gallery: Gallery) -> list[Leak]:
    """Pictures with the same pixels: each with the first of its kind, reference photos before scenes."""
    groups: dict[bytes, list[int]] = defaultdict(list)
    for i, digest in enumerate(gallery.digests):
        groups[digest].append(i)
    leaks = []
    for group in groups.values():
        first, *others = sorted(group, key=lambda i: (gallery.pictures[i].role, i))
        a = gallery.pictures[first]
        leaks += [Leak(a, b, SAME_PIXELS, 1.0) for i in others if matters(a, b := gallery.pictures[i])]
    return leaks


def _alike(gallery: Gallery, references: list[int]) -> Iterator[Leak]:
    """Pictures whose embeddings are close to a reference photo's."""
    vectors = gallery.vectors()
    if vectors is None:
        return
    for i in references:
        cosines = vectors.astype(np.float32) @ vectors[i].astype(np.float32)
        for j in np.flatnonzero(cosines >= ALIKE):
            a, b = gallery.pictures[i], gallery.pictures[int(j)]
            again = b.role == "reference" and j < i
            if j != i and not again and gallery.digests[i] != gallery.digests[int(j)] and matters(a, b):
                yield Leak(a, b, "embedded alike", float(cosines[j]), proven=False)
