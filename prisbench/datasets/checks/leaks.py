"""Which pictures of a dataset are copies of each other, so that what is learned from is also what is asked about.

Knows: pictures as reference photos and scenes of subjects and splits, exact copies, candidates by perceptual hashes,
their proof by registration.  Does not know: files, tables, what is an error (``validate``).

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

import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, UInt8, UInt64

from prisbench.datasets.checks import crops
from prisbench.datasets.checks.crops import AGREEMENT, PointStore
from prisbench.datasets.checks.hash_index import NOTHING, HashIndex
from prisbench.datasets.checks.registration import PROBES, WINDOWS, Fit, fit, probe_hashes, thumbnail, window_hashes
from prisbench.errors import BackboneError, DataError, MissingExtraError
from prisbench.images.arrays import ImageLike, as_image
from prisbench.images.perceptual import TURNS, turned_hashes
from prisbench.images.photos import pixels_sha256

ALIKE = 0.95
"""Cosine of two embeddings from which on they are reported.  Models differ: it is a question, not a proof."""

WIDE = 20_000_000
"""Pairs of a reference photo and any picture up to which shifted and cut-out copies are sought across subjects.  Above
(a thousand photos and twenty thousand scenes), only among the photos and scenes of one subject."""

MOST_CANDIDATES = 1000
"""Of one reference photo; more, of which the least likely are left out and counted, come of pictures all alike."""

MOST_LEAKS = 10_000
"""That are kept; all are counted."""

_REFERENCES_AT_A_TIME = 1000
_TURNS = tuple(TURNS)
_MIRRORED = _TURNS[:2]

Embed = Callable[[UInt8[np.ndarray, "h w 3"]], Float[np.ndarray, " d"]]
"""A picture to a vector of any length."""

Read = Callable[[Any], UInt8[np.ndarray, "h w 3"]]
"""A picture again, by the key under which it was added."""

Progress = Callable[[str, int], None]
"""Called with what is done and how many pictures of it so far."""


class Picture(NamedTuple):
    """``where`` names file and record.  ``role`` is "reference" or "scene".  ``subjects``: those it shows or that are
    asked about.  ``split`` is "" where there are none.  ``other`` names another set, "" is the set that is audited."""

    where: str
    role: str
    subjects: tuple[str, ...]
    split: str
    other: str


class Leak(NamedTuple):
    """``b`` is a copy of ``a``, or looks alike.

    ``how`` is a sentence part: "the same pixels", "the same picture, mirrored", "shifted by 28 % of its width".
    ``agreement`` is 1 for the same pixels, else that of the fit, or the cosine of embeddings where ``proven`` is False.
    """

    a: Picture
    b: Picture
    how: str
    agreement: float
    proven: bool = True

    @property
    def kind(self) -> str:
        """ "leak" where learning sees what is asked or a split sees another; "copy"; "shared" between sets; "alike"."""
        if self.a.other != self.b.other:
            return "shared"
        if not self.proven:
            return "alike"
        one_subject = bool(set(self.a.subjects) & set(self.b.subjects))
        asked = {self.a.role, self.b.role} == {"reference", "scene"}
        if (asked and (one_subject or self.how == SAME_PIXELS)) or self.a.split != self.b.split:
            return "leak"
        return "copy"


SAME_PIXELS = "the same pixels"


class Audit(NamedTuple):
    """What an audit compared and found.

    ``registered``: proposed places of pairs that were proven or not.  ``left_out``: pairs that were not looked at, see
    ``MOST_CANDIDATES``, and those that could not be read again.  ``wide``: see ``WIDE``.  ``scenes_wide``: whether
    parts of scenes were sought in those of other splits and sets, for which ``WIDE`` holds, too.  ``found``: kind ->
    leaks.
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


class Gallery:
    """What is kept of pictures that have been looked at: about a kilobyte each, and their points (``PointStore``)."""

    def __init__(self, embed: Embed | None = None, parts: bool = True) -> None:
        """``parts`` False: no points are kept, and only copies that share two thirds of each side are sought."""
        self.pictures: list[Picture] = []
        self.keys: list[Any] = []
        self.digests: list[bytes] = []
        self._scenes: dict[tuple[bytes, str, str], int] = {}
        self._whole: list[tuple[int, ...]] = []
        self._probes: list[UInt64[np.ndarray, " p"]] = []
        self.points = PointStore() if parts else None
        self._embed = embed
        self._vectors: list[np.ndarray] = []

    def add(self, image: ImageLike, key: Any, picture: Picture, sha256: str | None = None) -> None:
        """Look at a picture.  ``sha256`` is of its pixels, where known.

        A scene that was added before, for another query, only gains subjects.
        """
        image = as_image(image)
        digest = bytes.fromhex(sha256 or pixels_sha256(image))
        if picture.role == "scene":
            seen = self._scenes.setdefault((digest, picture.split, picture.other), len(self.pictures))
            if seen < len(self.pictures):
                known = self.pictures[seen]
                subjects = tuple(dict.fromkeys(known.subjects + picture.subjects))
                self.pictures[seen] = known._replace(subjects=subjects)
                return
        probes, loud = probe_hashes(thumbnail(image))
        turned = turned_hashes(image)
        self.pictures.append(picture)
        self.keys.append(key)
        self.digests.append(digest)
        self._whole.append(tuple(int(turned[turn], 16) for turn in _MIRRORED) if loud[0] else ())
        # What shows nothing is near nothing: its bits are chance.
        self._probes.append(np.where(loud, probes, NOTHING))
        if self.points is not None:
            self.points.add(image)
        if self._embed is not None:
            vector = self._embed(image)
            self._vectors.append((vector / max(float(np.linalg.norm(vector)), 1e-12)).astype(np.float16))

    def whole(self, turn: str) -> UInt64[np.ndarray, " n"]:
        """The hash of each picture as a whole, as it is or mirrored."""
        place = _MIRRORED.index(turn)
        return np.array([hashes[place] if hashes else NOTHING for hashes in self._whole], np.uint64)

    def probes(self) -> UInt64[np.ndarray, "n p"]:
        """The hashes of each picture's parts."""
        return np.array(self._probes, np.uint64).reshape(-1, len(PROBES))

    def vectors(self) -> Float[np.ndarray, "n d"] | None:
        """The embeddings, of length 1; None when there was nothing to embed with."""
        return np.array(self._vectors) if self._vectors else None


class _Candidate(NamedTuple):
    a: int
    b: int
    distance: int
    turn: str
    window: int
    probe: int


def audit(gallery: Gallery, read: Read, progress: Progress | None = None) -> Audit:
    """Look for copies among the pictures of a gallery.

    ``read`` gives a picture again; where it raises DataError the pair is counted as left out.
    """
    leaks = _exact(gallery)
    references = [i for i, picture in enumerate(gallery.pictures) if picture.role == "reference"]
    wide = len(references) * len(gallery.pictures) <= WIDE
    near = _Near(gallery, wide)
    proofs = _Proofs(gallery, read)
    for start in range(0, len(references), _REFERENCES_AT_A_TIME):
        block = references[start : start + _REFERENCES_AT_A_TIME]
        candidates: list[_Candidate] = []
        for n, i in enumerate(block, start + 1):
            candidates += near.of_reference(i, proofs)
            if progress:
                progress("hashes of reference photos", n)
        proofs.look_at(candidates, keep=block)
    proofs.look_at(near.of_scenes(), keep=())
    for n, some in enumerate(near.cut_out(references), 1):
        proofs.look_for_parts(some)
        if progress:
            progress("parts of pictures", n)
    leaks += proofs.leaks
    found = {(leak.a, leak.b) for leak in leaks}
    leaks += [leak for leak in _alike(gallery, references) if (leak.a, leak.b) not in found]
    leaks.sort(key=lambda leak: (leak.kind != "leak", not leak.proven, leak.a.where, leak.b.where))
    return Audit(
        references=len(references),
        scenes=len(gallery.pictures) - len(references),
        registered=proofs.registered,
        left_out=near.left_out + len(proofs.unread),
        wide=wide,
        scenes_wide=near.scenes_wide,
        embedded=gallery.vectors() is not None,
        found=Counter(leak.kind for leak in leaks),
        leaks=tuple(leaks[:MOST_LEAKS]),
    )


def matters(a: Picture, b: Picture) -> bool:
    """Whether it would be of interest that ``b`` is a copy of ``a``."""
    if a.other and b.other:
        return False
    if a.other != b.other or a.split != b.split:
        return True
    return "reference" in (a.role, b.role)


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


class _Near:
    """Who is to be registered with whom."""

    def __init__(self, gallery: Gallery, wide: bool) -> None:
        self._gallery = gallery
        self._whole = gallery.whole("as it is")
        self._probes = gallery.probes()
        self._near_whole = HashIndex(self._whole)
        self._near_parts = HashIndex(self._probes.reshape(-1)) if wide else None
        self._of_subject: dict[str, list[int]] = defaultdict(list)
        for i, picture in enumerate(gallery.pictures):
            for subject in picture.subjects:
                self._of_subject[subject].append(i)
        self.scenes_wide = wide and len(self._asking_scenes()) * len(gallery.pictures) <= WIDE
        self.left_out = 0

    def of_reference(self, i: int, proofs: _Proofs) -> list[_Candidate]:
        """Of a reference photo: copies of all kinds, the likeliest first."""
        thumb = proofs.thumb(i)
        if thumb is None:
            return []
        found: dict[tuple[int, int], _Candidate] = {}
        for turn, turned in TURNS.items():
            laid = np.ascontiguousarray(turned(thumb))
            if turn in _MIRRORED:
                hashes, loud = window_hashes(laid)
            else:
                hashes, loud = (each[:1] for each in probe_hashes(laid))  # the first window and probe are the whole
            windows = np.flatnonzero(loud)
            for window, slot, distance in self._parts_near(hashes[windows], i, turn):
                candidate = _Candidate(i, slot // len(PROBES), distance, turn, int(windows[window]), slot % len(PROBES))
                best = found.get((candidate.b, candidate.probe))
                if best is None or candidate.distance < best.distance:
                    found[candidate.b, candidate.probe] = candidate
        return self._likeliest(found.values())

    def cut_out(self, references: list[int]) -> Iterator[list[crops.Candidate]]:
        """Parts of pictures in other pictures: of reference photos, and of scenes in another split or set."""
        pictures, points = self._gallery.pictures, self._gallery.points
        if points is None:
            return
        if self._near_parts is not None:
            asking = references + (self._asking_scenes() if self.scenes_wide else [])
            yield from self._fewer(crops.candidates(points, asking, range(len(pictures)), self._matters))
            return
        for own in self._of_subject.values():
            asking = [i for i in own if pictures[i].role == "reference"]
            yield from self._fewer(crops.candidates(points, asking, own, self._matters))

    def of_scenes(self) -> list[_Candidate]:
        """Of scenes: whole copies in another split or set.  The largest split is not asked, only found."""
        pictures = self._gallery.pictures
        asking = self._asking_scenes()
        found: dict[tuple[int, int], _Candidate] = {}
        for turn in _MIRRORED:
            hashes = self._gallery.whole(turn)
            for start in range(0, len(asking), 1000):
                block = [i for i in asking[start : start + 1000] if hashes[i] != NOTHING]
                for n, j, distance in self._near_whole.near(hashes[block]):
                    a, b = sorted((block[n], j))
                    if pictures[j].role == "scene" and self._matters(a, b):
                        # The same in both directions: a mirrored copy's mirrored copy is the picture.
                        candidate = _Candidate(a, b, distance, turn, 0, 0)
                        if distance < found.get((a, b), candidate._replace(distance=65)).distance:
                            found[a, b] = candidate
        return list(found.values())

    def _asking_scenes(self) -> list[int]:
        """The scenes of all sets and splits but the largest."""
        pictures = self._gallery.pictures
        scenes = [i for i, picture in enumerate(pictures) if picture.role == "scene"]
        sizes = Counter((pictures[i].other, pictures[i].split) for i in scenes)
        return [i for i in scenes if (pictures[i].other, pictures[i].split) != sizes.most_common(1)[0][0]]

    def _fewer(self, found: Iterable[list[crops.Candidate]]) -> Iterator[list[crops.Candidate]]:
        for some in found:
            kept = some[:MOST_CANDIDATES]
            self.left_out += len({one.b for one in some} - {one.b for one in kept})
            yield kept

    def _parts_near(self, hashes: UInt64[np.ndarray, " w"], i: int, turn: str) -> Iterator[tuple[int, int, int]]:
        """(window, place in all probes, distance) of what is near, at most once for each place."""
        pairs: Iterable[tuple[int, int, int]]
        if turn not in _MIRRORED:
            pairs = ((n, j * len(PROBES), distance) for n, j, distance in self._near_whole.near(hashes))
        elif self._near_parts is not None:
            pairs = self._near_parts.near(hashes)
        else:
            own = sorted({j for subject in self._gallery.pictures[i].subjects for j in self._of_subject[subject]})
            slots = (np.array(own)[:, None] * len(PROBES) + np.arange(len(PROBES))).reshape(-1)
            parts = ((n, int(slots[s]), d) for n, s, d in HashIndex(self._probes[own].reshape(-1)).near(hashes))
            wholes = ((0, j * len(PROBES), distance) for _, j, distance in self._near_whole.near(hashes[:1]))
            pairs = itertools.chain(parts, wholes)
        return ((n, slot, distance) for n, slot, distance in pairs if self._matters(i, slot // len(PROBES)))

    def _matters(self, i: int, j: int) -> bool:
        gallery = self._gallery
        return i != j and gallery.digests[i] != gallery.digests[j] and matters(gallery.pictures[i], gallery.pictures[j])

    def _likeliest(self, candidates: Iterable[_Candidate]) -> list[_Candidate]:
        ordered = sorted(candidates, key=lambda one: (one.distance, one.b, one.probe))
        kept = ordered[:MOST_CANDIDATES]
        self.left_out += len({one.b for one in ordered} - {one.b for one in kept})
        return kept


class _Proofs:
    """Candidates that were registered, and the copies among them."""

    def __init__(self, gallery: Gallery, read: Read) -> None:
        self._gallery = gallery
        self._read = read
        self._kept: dict[int, Float[np.ndarray, "g g"] | None] = {}
        self._last = lru_cache(maxsize=64)(self._look)
        self._pixels = lru_cache(maxsize=64)(self._brightness)
        self.leaks: list[Leak] = []
        self._known: set[tuple[int, int]] = set()
        self.registered = 0
        self.unread: set[tuple[int, int]] = set()

    def thumb(self, i: int) -> Float[np.ndarray, "g g"] | None:
        """A picture's thumbnail, kept until the block of its reference photo is done; None when it cannot be read."""
        if i not in self._kept:
            self._kept[i] = self._look(i)
        return self._kept[i]

    def look_at(self, candidates: list[_Candidate], keep: Iterable[int]) -> None:
        """Register the candidates, in the order of the later picture, then forget the thumbnails of ``keep``."""
        ordered = sorted(candidates, key=lambda one: (max(one.a, one.b), min(one.a, one.b), one.a > one.b, *one[2:]))
        for pair, some in itertools.groupby(ordered, key=lambda one: (min(one.a, one.b), max(one.a, one.b))):
            if pair in self._known:
                continue
            thumbs = {i: self._kept[i] if i in self._kept else self._last(i) for i in pair}
            self.registered += 1
            for one in some:
                on_a, on_b = thumbs[one.a], thumbs[one.b]
                if on_a is None or on_b is None:
                    self.registered -= 1
                    self.unread.add(pair)
                    break
                found = fit(np.ascontiguousarray(TURNS[one.turn](on_a)), on_b, WINDOWS[one.window], PROBES[one.probe])
                if found.agreement >= AGREEMENT:
                    self._known.add(pair)
                    pictures = self._gallery.pictures
                    self.leaks.append(Leak(pictures[one.a], pictures[one.b], words(one.turn, found), found.agreement))
                    break
        for i in keep:
            self._kept.pop(i, None)

    def look_for_parts(self, candidates: Iterable[crops.Candidate]) -> None:
        """Prove the candidates that are not known as copies."""
        pictures = self._gallery.pictures
        for a, b, place in sorted(candidates, key=lambda one: one.b):
            pair = (min(a, b), max(a, b))
            if pair in self._known:
                continue
            on_a, on_b = self._pixels(a), self._pixels(b)
            if on_a is None or on_b is None:
                self.unread.add(pair)
                continue
            self.registered += 1
            found, covered = crops.prove(on_a, on_b, place)
            if found.agreement >= AGREEMENT:
                self._known.add(pair)
                how = words(place.turn, found) + (", partly covered" if covered else "")
                self.leaks.append(Leak(pictures[a], pictures[b], how, found.agreement))

    def _brightness(self, i: int) -> UInt8[np.ndarray, "h w"] | None:
        try:
            return crops.brightness(self._read(self._gallery.keys[i]))
        except DataError:
            return None

    def _look(self, i: int) -> Float[np.ndarray, "g g"] | None:
        try:
            return thumbnail(self._read(self._gallery.keys[i])).astype(np.float32)
        except DataError:
            return None


def words(turn: str, found: Fit) -> str:
    """How a copy lies on its original, for people: "the same picture, mirrored, shifted by 28 % of its width"."""
    parts = ["the same picture"] + [turn] * (turn != "as it is")
    if max(found.scale_yx) > 1.04 and min(found.scale_yx) < 0.96:
        parts.append("cut otherwise")
    elif min(found.scale_yx) < 0.96:
        parts.append("a part of it")
    elif max(found.scale_yx) > 1.04:
        parts.append("with more around it")
    else:
        shifts = [
            f"{abs(shift):.0%} of its {side}".replace("%", " %")
            for shift, side in zip(found.shift_yx, ("height", "width"), strict=True)
            if abs(shift) >= 0.01
        ]
        parts += [f"shifted by {' and '.join(shifts)}"] if shifts else []
    return ", ".join(parts)


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


def load_embedding(name: str, device: str = "cpu") -> Embed:
    """Embeddings by a vision model of transformers, from a folder or the Hub: DINOv2, CLIP, ViT ...

    Raises MissingExtraError without torch or transformers; BackboneError when there is no such model, or it is blind.
    """
    try:
        import torch
        from PIL import Image
        from transformers import AutoImageProcessor, AutoModel
    except ImportError as error:
        raise MissingExtraError(str(error.name), "dev", "comparing embeddings") from None
    try:
        processor = AutoImageProcessor.from_pretrained(name, use_fast=False)
        model = AutoModel.from_pretrained(name).to(device).eval()
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        why = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise BackboneError(
            f"no vision model {name!r} for embeddings ({why}); name a folder or a Hub id, such as facebook/dinov2-small"
        ) from None

    def embed(image: UInt8[np.ndarray, "h w 3"]) -> Float[np.ndarray, " d"]:
        pixels = processor(images=Image.fromarray(image), return_tensors="pt").to(device)
        with torch.inference_mode():
            out = model.get_image_features(**pixels) if hasattr(model, "get_image_features") else model(**pixels)
        if not isinstance(out, torch.Tensor):
            pooled = getattr(out, "pooler_output", None)
            out = out.last_hidden_state.mean(dim=1) if pooled is None else pooled
        return out[0].reshape(-1).float().cpu().numpy()

    return embed
