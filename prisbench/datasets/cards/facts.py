"""The facts of a dataset, counted from its own rows, and the words a card says them in.

Knows: the columns of both tables.  Does not know: cards, front matter, prose, how rows are made.
Nothing here depends on the version of prisbench: the same rows always give the same text.
"""

from __future__ import annotations

import io
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from prisbench.datasets.load import Dataset
from prisbench.errors import DataError
from prisbench.images.masks import from_rle
from prisbench.types import QUERY_TYPES, REFERENTLESS

_MOST_SIZES = 4
_MOST_NOUNS = 24


class Spread(NamedTuple):
    """Mean, standard deviation and 5, 50 and 95 % quantiles of ``n`` numbers."""

    n: int
    mean: float
    sd: float
    q05: float
    q50: float
    q95: float


@dataclass(frozen=True)
class SplitFacts:
    """What one split holds.

    ``photos``: photos a subject -> subjects.  ``queries_each``: queries a subject -> subjects.  ``look_alikes``:
    look-alikes in a look-alike query -> queries.  ``areas``: query type -> spread of the mask's share of the scene;
    ``centroid_x``, ``centroid_y``: of the mask, 0 (left, top) to 1, over all queries whose subject is there.
    ``licences``: licence -> rows of both tables.  ``pairs``: of queries.  ``further``: role -> things in the scenes of
    queries that are neither the subject nor its look-alikes.  Sizes are (h, w).
    """

    subjects: int
    nouns: Mapping[str, int]
    photos: Mapping[int, int]
    photo_masks: int
    photo_sizes: Mapping[tuple[int, int], int]
    scenes: int
    scene_sizes: Mapping[tuple[int, int], int]
    queries: Mapping[str, int]
    queries_each: Mapping[int, int]
    texts: int
    look_alikes: Mapping[int, int]
    absent_with_look_alike: int
    areas: Mapping[str, Spread]
    centroid_x: Spread | None
    centroid_y: Spread | None
    licences: Mapping[str, int]
    pairs: int
    further: Mapping[str, int]


@dataclass(frozen=True)
class Facts:
    """What a dataset's own rows say; nothing of it depends on the version of prisbench."""

    id: str
    digest: str
    seed: int | None
    splits: Mapping[str, SplitFacts]

    @property
    def licences(self) -> tuple[str, ...]:
        """Sorted, each once."""
        return tuple(sorted({licence for split in self.splits.values() for licence in split.licences}))

    @property
    def n_queries(self) -> int:
        return sum(sum(split.queries.values()) for split in self.splits.values())


def facts(dataset: Dataset) -> Facts:
    """Read the facts from the rows; a few rows are in memory at a time, and no scene is decoded.

    Raises DataError when a shard or a row is damaged.
    """
    splits = {split: _split_facts(dataset, split) for split in dataset.splits}
    return Facts(dataset.id, dataset.digest, dataset.manifest.seed, splits)


def facts_markdown(found: Facts) -> str:
    """The facts block, without its markers: the same facts always give the same text."""
    splits = list(found.splits.values())
    rows: list[tuple[str, list[str]]] = [
        ("subjects", [str(one.subjects) for one in splits]),
        ("nouns", [_nouns(one.nouns) for one in splits]),
        ("reference photos a subject", [_range(one.photos) for one in splits]),
        ("reference photos with a mask", [str(one.photo_masks) for one in splits]),
        ("photo sizes, h x w", [_sizes(one.photo_sizes) for one in splits]),
        ("scenes", [str(one.scenes) for one in splits]),
        ("scene sizes, h x w", [_sizes(one.scene_sizes) for one in splits]),
        ("queries", [str(sum(one.queries.values())) for one in splits]),
    ]
    types = [kind for kind in QUERY_TYPES if any(one.queries.get(kind) for one in splits)]
    rows += [(f"queries, {kind}", [str(one.queries.get(kind, 0)) for one in splits]) for kind in types]
    rows += [
        ("queries a subject", [_range(one.queries_each) for one in splits]),
        ("different texts", [str(one.texts) for one in splits]),
        ("look-alikes in a look-alike query", [_range(one.look_alikes) for one in splits]),
        ("absent queries with a look-alike", [str(one.absent_with_look_alike) for one in splits]),
    ]
    if any(one.pairs for one in splits):
        rows.append(("pairs of queries", [str(one.pairs) for one in splits]))
    if any(one.further for one in splits):
        rows.append(("further things in the scenes of queries", [_counts(one.further) for one in splits]))
    rows += [
        (f"area fraction, {kind}: mean; 5, 50, 95 %", [_area(one.areas.get(kind)) for one in splits])
        for kind in types
        if kind not in REFERENTLESS
    ]
    rows += [
        ("centroid x, 0 to 1: mean, deviation", [_centre(one.centroid_x) for one in splits]),
        ("centroid y, 0 to 1: mean, deviation", [_centre(one.centroid_y) for one in splits]),
        ("licences, rows", [_counts(one.licences) for one in splits]),
    ]
    lines = [
        "built: yes",
        "",
        "Computed from the data by `prisbench card --write`; sizes in pixels.",
        "",
        *_table(["fact", *found.splits], [[name, *cells] for name, cells in rows]),
        "",
        f"Digest of the content: `{found.digest}`.  Seed: {'none' if found.seed is None else found.seed}.",
    ]
    return "\n".join(lines)


# ---------------------------------------------------------------------------------------------------------------------
# counting


def _split_facts(dataset: Dataset, split: str) -> SplitFacts:
    nouns: Counter[str] = Counter()
    photos: Counter[int] = Counter()
    photo_sizes: Counter[tuple[int, int]] = Counter()
    licences: Counter[str] = Counter()
    each: dict[str, int] = {}
    masks = 0
    for _, row in dataset.records("subjects", split, ["id", "noun", "photos", "masks", "licence"]):
        where = f"{dataset.folder}: subject {row['id']}"
        each[row["id"]] = 0
        nouns[row["noun"]] += 1
        photos[len(row["photos"])] += 1
        photo_sizes.update(_size_hw(photo["bytes"], f"{where}: photo {n}") for n, photo in enumerate(row["photos"], 1))
        masks += sum(mask is not None for mask in row.get("masks") or ())
        licences[row["licence"]] += 1

    kinds: Counter[str] = Counter()
    texts: set[str] = set()
    scenes: dict[str, tuple[int, int]] = {}
    alike: Counter[int] = Counter()
    absent_alike = 0
    areas: dict[str, list[float]] = {}
    centres: list[tuple[float, float]] = []
    wanted = "id subject_id image_id height width text query_type mask look_alikes area_fraction licence".split()  # noqa: SIM905
    for _, row in dataset.records("queries", split, wanted):
        kind = row["query_type"]
        kinds[kind] += 1
        each[row["subject_id"]] = each.get(row["subject_id"], 0) + 1
        texts.add(row["text"])
        scenes[row["image_id"]] = (row["height"], row["width"])
        licences[row["licence"]] += 1
        if kind == "look-alike":
            alike[len(row["look_alikes"])] += 1
        if kind in REFERENTLESS:
            absent_alike += bool(row["look_alikes"])
            continue
        areas.setdefault(kind, []).append(row["area_fraction"])
        centres.append(_centroid(row["mask"], f"{dataset.folder}: query {row['id']}: mask"))
    pairs, further = _pairs_and_further(dataset, split)
    return SplitFacts(
        subjects=sum(nouns.values()),
        nouns=nouns,
        photos=photos,
        photo_masks=masks,
        photo_sizes=photo_sizes,
        scenes=len(scenes),
        scene_sizes=Counter(scenes.values()),
        queries={kind: kinds[kind] for kind in QUERY_TYPES if kinds[kind]},
        queries_each=Counter(each.values()),
        texts=len(texts),
        look_alikes=alike,
        absent_with_look_alike=absent_alike,
        areas={kind: spread for kind in QUERY_TYPES if (spread := _spread(areas.get(kind, []))) is not None},
        centroid_x=_spread([x for x, _ in centres]),
        centroid_y=_spread([y for _, y in centres]),
        licences=licences,
        pairs=pairs,
        further=further,
    )


def _pairs_and_further(dataset: Dataset, split: str) -> tuple[int, Counter[str]]:
    """``SplitFacts.pairs`` and ``further``; none in a dataset of schema version 2, which has no such columns."""
    pairs: set[str] = set()
    further: Counter[str] = Counter()
    for _, row in dataset.records("queries", split, ["id", "things", "pair_id"]):
        further.update(thing["role"] for thing in row.get("things") or ())
        if row.get("pair_id") is not None:
            pairs.add(row["pair_id"])
    return len(pairs), Counter({role: n for role, n in further.items() if role not in ("subject", "look-alike")})


def _size_hw(data: bytes, where: str) -> tuple[int, int]:
    """From the header alone."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            w, h = image.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{where} is no image ({error}); rebuild the dataset") from None
    return h, w


def _centroid(rle: Any, where: str) -> tuple[float, float]:
    """x and y of a mask's centre, as shares of the width and height."""
    mask = from_rle(rle, where)
    ys, xs = np.nonzero(mask)
    if not len(ys):
        raise DataError(f"{where} is empty, and the type is not absent; rebuild the dataset")
    h, w = mask.shape
    return (float(xs.mean()) + 0.5) / w, (float(ys.mean()) + 0.5) / h


def _spread(values: list[float]) -> Spread | None:
    """The same for any order: sums are exact."""
    if not values:
        return None
    mean = math.fsum(values) / len(values)
    sd = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / len(values))
    low, middle, high = (float(q) for q in np.quantile(np.asarray(values), [0.05, 0.5, 0.95]))
    return Spread(len(values), mean, sd, low, middle, high)


# ---------------------------------------------------------------------------------------------------------------------
# words for numbers


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines]


def _range(counts: Mapping[int, int]) -> str:
    """How often each number occurs: one number, all of at most four, or the range and the mean."""
    total = sum(counts.values())
    if not total:
        return "none"
    if len(counts) == 1:
        return str(next(iter(counts)))
    if len(counts) <= 4:
        return ", ".join(f"{number} ({counts[number]})" for number in sorted(counts))
    mean = sum(number * count for number, count in counts.items()) / total
    return f"{min(counts)} to {max(counts)}, mean {mean:.1f}"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} ({counts[name]})" for name in sorted(counts)) or "none"


def _nouns(counts: Mapping[str, int]) -> str:
    if len(counts) <= _MOST_NOUNS:
        return _counts(counts)
    first = sorted(counts, key=lambda noun: (-counts[noun], noun))[:_MOST_NOUNS]
    rest = sum(counts.values()) - sum(counts[noun] for noun in first)
    most = ", ".join(f"{noun} ({counts[noun]})" for noun in first)
    return f"{len(counts)} nouns: {most}, others ({rest})"


def _sizes(counts: Mapping[tuple[int, int], int]) -> str:
    """At most four sizes with their counts, or the smallest and largest by area."""
    if len(counts) <= _MOST_SIZES:
        return ", ".join(f"{h} x {w} ({counts[h, w]})" for h, w in sorted(counts)) or "none"
    by_area = sorted(counts, key=lambda size: (size[0] * size[1], size))
    (h1, w1), (h2, w2) = by_area[0], by_area[-1]
    return f"{len(counts)} sizes, {h1} x {w1} to {h2} x {w2}"


def _area(spread: Spread | None) -> str:
    if spread is None:
        return "none"
    return f"{spread.mean:.3f}; {spread.q05:.3f}, {spread.q50:.3f}, {spread.q95:.3f}"


def _centre(spread: Spread | None) -> str:
    return "none" if spread is None else f"{spread.mean:.2f}, {spread.sd:.2f}"
