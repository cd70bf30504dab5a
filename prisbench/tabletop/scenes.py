"""Tabletop, the generated world: scenes with captions to train a backbone on, and the benchmark ``tabletop-v2``.

Knows: which things exist, how scenes are composed and described, who the subjects are, what is asked about them.
Does not know: pixels (``render.py``), rows and files (``datasets``), models.

Everything follows from a seed and a name: each scene has its own generator, seeded by text such as
``"tabletop/1/train/17"``, so any scene can be drawn alone and in any order.  Only ``random.Random.random`` is used,
whose stream Python guarantees across versions.  So ``DIGEST`` (pixels, masks, texts) holds on every machine.  The bytes
of the Parquet files are the same again only with the same Pillow and zlib (PNG), pyarrow (which writes its version
into each file) and datasets (whose description of the columns stands in it).

The backbone sees ``SEEN_PATTERNS`` and the colour pairs outside ``HELD_OUT_PAIRS``.  Every subject breaks at least one
of the two: its pattern or its pair of colours was never drawn, nor captioned, in training.  All that stands beside a
subject in a query's scene breaks the same (``newness``), so that novelty does not give the subject away.
``audit.py`` proves the one and measures the other.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from jaxtyping import Bool, UInt8

from prisbench.tabletop.render import (
    COLOURS,
    HEIGHTS,
    SEEN_PATTERNS,
    SURFACES,
    UNSEEN_PATTERNS,
    Individual,
    Placed,
    Stage,
    draw,
)

T = TypeVar("T")

WORLD = "1"
"""Seeds what training shows, the subjects and their photos: while it stays, backbones and concepts stay valid."""
VERSION = "2"
"""Of the benchmark, the queries: raised whenever ``DIGEST`` changes."""
LICENCE = "CC0-1.0"
SOURCE = f"prisbench tabletop {VERSION}"
SEED = 2309
"""The benchmark's seed."""
DIGEST = "119508c5c5365ee968c84b1185f1bf3d96143036a8c2f9663db0937ab21f75b9"
"""Of the content of ``tabletop-v2``; when a change here changes it, ``VERSION`` must change too."""
SIZES_HW = ((112, 144), (144, 112), (96, 160))
"""Scene sizes: about 16,000 pixels, never square, sides multiples of 16 so that latents halve twice."""
NOUNS = tuple(HEIGHTS)
LEAST_SHARE = 0.45
"""A thing that is named or asked for shows at least this share of itself."""

_COLOUR_NAMES = tuple(COLOURS)
HELD_OUT_PAIRS = frozenset(
    frozenset((a, b))
    for i, a in enumerate(_COLOUR_NAMES)
    for j, b in enumerate(_COLOUR_NAMES)
    if i < j and (3 * i + 5 * j) % 4 == 1
)
"""Unordered colour pairs that never meet on one thing in training: 21 of 66."""
TRAINING_SCENES = 32_000
"""The embedded backbone was trained on the ordinary scenes "train/0" to "train/31999"."""
_WITH = {"striped": "stripes", "lined": "lines", "dotted": "dots", "checked": "checks", "banded": "band"}


@dataclass(frozen=True, eq=False)
class Scene:
    """A drawn scene: the picture, what stands in it (farthest first), and each thing's visible mask and share."""

    image: UInt8[np.ndarray, "h w 3"]
    things: tuple[Placed, ...]
    masks: tuple[Bool[np.ndarray, "h w"], ...]
    shares: tuple[float, ...]
    stage: Stage


def _pick(rng: random.Random, items: Sequence[T]) -> T:
    return items[int(rng.random() * len(items))]


def _between(rng: random.Random, low: float, high: float) -> float:
    return low + (high - low) * rng.random()


# ---------------------------------------------------------------------------------------------------------------------
# things and words


def draw_individual(
    rng: random.Random, noun: str | None = None, *, held_out: bool = False, decorated: bool = False
) -> Individual:
    """A random individual.

    By default one that training may show.  ``held_out`` makes one whose pattern or colour pair training never shows,
    half of them each.  ``decorated`` excludes plain ones.
    """
    noun = noun or _pick(rng, NOUNS)
    while True:
        main, second = _pick(rng, _COLOUR_NAMES), _pick(rng, _COLOUR_NAMES)
        if main == second or (noun == "plant" and main == "green"):
            continue
        rare_pair = frozenset((main, second)) in HELD_OUT_PAIRS
        if held_out:
            pattern = _pick(rng, UNSEEN_PATTERNS) if rng.random() < 0.5 else _pick(rng, SEEN_PATTERNS[1:])
            if pattern in SEEN_PATTERNS and not rare_pair:
                continue
        else:
            pattern = _pick(rng, SEEN_PATTERNS[1:]) if decorated or rng.random() > 0.28 else "plain"
            if rare_pair:
                continue
        shape = tuple(round(rng.random(), 3) for _ in range(4))
        tint = (round(_between(rng, -1.0, 1.0), 3), round(_between(rng, -1.0, 1.0), 3))
        return Individual(noun, main, second, pattern, shape, tint)  # type: ignore[arg-type]


def is_held_out(who: Individual) -> bool:
    """Whether training never shows this pattern or this pair of colours."""
    return any(newness(who))


def newness(who: Individual) -> tuple[bool, bool]:
    """Whether training never shows its pattern, and whether it never shows its pair of colours."""
    return who.pattern in UNSEEN_PATTERNS, frozenset((who.main, who.second)) in HELD_OUT_PAIRS


def full_phrase(who: Individual, rng: random.Random) -> str:
    """Words that tell all there is to tell, without article: "striped red and white mug"."""
    if who.pattern == "plain":
        return _pick(rng, (f"{who.main} {who.noun}", f"plain {who.main} {who.noun}"))
    if rng.random() < 0.6:
        return f"{who.pattern} {who.main} and {who.second} {who.noun}"
    mark = _WITH[who.pattern]
    return f"{who.main} {who.noun} with " + (
        article(f"{who.second} {mark}") if mark == "band" else f"{who.second} {mark}"
    )


def short_phrase(who: Individual, rng: random.Random) -> str:
    """Some of it: "red mug", "striped mug", "striped red mug", "mug"."""
    chance = rng.random()
    if chance < 0.40:
        return f"{who.pattern} {who.main} {who.noun}"
    if chance < 0.75:
        return f"{who.main} {who.noun}"
    return f"{who.pattern} {who.noun}" if chance < 0.85 else who.noun


def article(phrase: str) -> str:
    return ("an " if phrase[0] in "aeiou" else "a ") + phrase


# ---------------------------------------------------------------------------------------------------------------------
# scenes


def _stage(rng: random.Random, size_hw: tuple[int, int]) -> Stage:
    h, _ = size_hw
    grey = _between(rng, 0.35, 0.92)
    surface = tuple(round(min(max(grey + _between(rng, -0.16, 0.16), 0.15), 0.97), 4) for _ in range(3))
    if rng.random() < 0.35:  # the brown of wood and straw
        surface = (round(grey, 4), round(grey * 0.76, 4), round(grey * 0.52, 4))
    level = _between(rng, 0.3, 0.92)
    wall = tuple(round(min(max(level + _between(rng, -0.2, 0.2), 0.12), 0.97), 4) for _ in range(3))
    return Stage(
        size_hw=size_hw,
        surface=_pick(rng, SURFACES),
        surface_rgb=surface,  # type: ignore[arg-type]
        wall_rgb=wall,  # type: ignore[arg-type]
        horizon=round(h * _between(rng, 0.16, 0.42), 2) if rng.random() < 0.75 else -8.0,
        light_x=round(_between(rng, -1.0, 1.0), 3),
        light=round(_between(rng, 0.76, 1.08), 3),
        warmth=round(_between(rng, -1.0, 1.0), 3),
        noise=round(_between(rng, 1.0, 4.5), 3),
        seed=int(rng.random() * 2**31),
    )


def compose(
    rng: random.Random, who: Sequence[Individual], scale: tuple[float, float], size_hw: tuple[int, int] | None = None
) -> Scene:
    """Stand these individuals on a table so that each shows at least ``LEAST_SHARE`` of itself; draws until it fits.

    ``scale`` is the range of sizes in pixels (a mug is 0.82 of it tall).  The scene's ``things`` come farthest first.
    """
    size = size_hw or _pick(rng, SIZES_HW)
    h, w = size
    for attempt in range(200):
        stage = _stage(rng, size)
        shrink = 1.0 if attempt < 40 else 0.8
        places: list[Placed] = []
        for individual in who:
            for _ in range(30):
                tall = HEIGHTS[individual.noun]
                size_px = min(_between(rng, *scale) * shrink, 0.88 * h / tall)
                far = max(stage.horizon + 8, tall * size_px * 0.80)
                y = _between(rng, min(far, h - 8.0), h - 4.0)
                size_px *= 0.78 + 0.34 * (y - far) / max(h - far, 1)
                half = 0.45 * size_px
                x = _between(rng, min(half, w / 2), max(w - half, w / 2))
                apart = all(
                    abs(x - p.x) > 0.40 * (size_px + p.scale) or abs(y - p.y) > 0.62 * (size_px + p.scale)
                    for p in places
                )
                if apart or attempt >= 20:
                    places.append(
                        Placed(
                            individual, round(x, 2), round(y, 2), round(size_px, 2), round(_between(rng, -1.0, 1.0), 3)
                        )
                    )
                    break
        if len(places) < len(who):
            continue
        places.sort(key=lambda p: p.y)
        image, ids, shares = draw(stage, places)
        if min(shares, default=1.0) >= LEAST_SHARE:
            masks = tuple(ids == i for i in range(len(places)))
            return Scene(image, tuple(places), masks, tuple(shares), stage)
    raise AssertionError(f"no arrangement found for {len(who)} things in {h} x {w} pixels")


def relation(a: Placed, b: Placed) -> str | None:
    """How ``a`` stands to ``b``: "left of", "right of", "in front of", "behind"; None where neither is clear."""
    dx, dy = a.x - b.x, a.y - b.y
    if abs(dx) > 18 and abs(dx) > 1.2 * abs(dy):
        return "left of" if dx < 0 else "right of"
    if abs(dy) > 14 and abs(dy) > 1.2 * abs(dx):
        return "in front of" if dy > 0 else "behind"
    return None


def caption(scene: Scene, rng: random.Random) -> str:
    """A sentence about an ordinary scene: all or some of its things, in full or in short, at times how they stand."""
    things = list(scene.things)
    order = sorted(range(len(things)), key=lambda _: rng.random())
    if len(order) > 1 and rng.random() < 0.35:
        order = order[: 1 + int(rng.random() * (len(order) - 1))]
    words = {
        i: article(
            full_phrase(things[i].individual, rng) if rng.random() < 0.6 else short_phrase(things[i].individual, rng)
        )
        for i in order
    }
    parts: list[str] = []
    if len(order) > 1 and rng.random() < 0.3:
        a, b = order[:2]
        how = relation(things[a], things[b])
        how = _pick(rng, (how, "next to")) if how else "next to"
        parts.append(f"{words[a]} {how} {words[b]}")
        order = order[2:]
    parts += [words[i] for i in order]
    text = parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]
    opener = _pick(rng, ("a photo of ", "a photo of ", "a picture of ", ""))
    where = f" on {article(scene.stage.surface)}" if rng.random() < 0.5 else ""
    return opener + text + where


def ordinary_scene(name: str) -> tuple[Scene, str]:
    """A scene of 1-4 things that training may show, and its caption; ``name`` seeds it ("train/0", "held-out/7", ...).

    Half of the scenes with several things hold two of the same noun, so that words for colour and pattern matter.
    """
    rng = random.Random(f"tabletop/{WORLD}/{name}")
    who = _ordinary_cast(rng)
    top = {1: 88.0, 2: 66.0, 3: 54.0, 4: 50.0}[len(who)]
    scene = compose(rng, who, (32.0, top))
    return scene, caption(scene, rng)


def ordinary_individuals(name: str) -> list[Individual]:
    """What stands in ``ordinary_scene(name)``, in no particular order, without drawing it."""
    return _ordinary_cast(random.Random(f"tabletop/{WORLD}/{name}"))


def _ordinary_cast(rng: random.Random) -> list[Individual]:
    n = _pick(rng, (1, 1, 2, 2, 3, 3, 4))
    who = [draw_individual(rng) for _ in range(n)]
    if n > 1 and rng.random() < 0.5:
        twin = draw_individual(rng, who[0].noun)
        who[1] = twin if twin.main != who[0].main or twin.pattern != who[0].pattern else who[1]
    return who


# ---------------------------------------------------------------------------------------------------------------------
# the benchmark: subjects, and what is asked about them

SPLITS = {"validation": 12, "test": 24}
PHOTOS = 5
QUERIES = {"plain": 6, "other-category": 8, "look-alike": 9, "relation": 6, "absent": 7}
"""Queries a subject, by type: 36 in all."""
_PRESENT = tuple((kind, index) for kind, count in QUERIES.items() if kind != "absent" for index in range(count))
"""The 29 ways in which a subject is asked for where it is there."""
_TEXTS = ("the {subject}", "a photo of the {subject}", "the {subject} on the {surface}", "a picture of the {subject}")


@dataclass(frozen=True)
class TabletopSubject:
    """A subject before it has photos: its split, running number and who it is."""

    split: str
    number: int
    who: Individual

    @property
    def key(self) -> str:
        return f"{self.split}/{self.number}"


def subjects(counts: dict[str, int] | None = None, seed: int = SEED) -> list[TabletopSubject]:
    """The benchmark's subjects: every third a mug, the others over all nouns in turn; no two share noun, pattern and
    colours.

    A split's first subjects do not depend on how many follow, so a small set is a part of the large one.
    """
    out: list[TabletopSubject] = []
    for split, count in (counts or SPLITS).items():
        taken: set[tuple[str, str, str, str]] = set()
        others = [n for n in NOUNS if n != "mug"]
        for number in range(count):
            rng = random.Random(f"tabletop/{WORLD}/{seed}/{split}/{number}/who")
            noun = "mug" if number % 3 == 0 else others[(number - number // 3 - 1) % len(others)]
            while True:
                who = draw_individual(rng, noun, held_out=True)
                if (who.noun, who.pattern, who.main, who.second) not in taken:
                    break
            taken.add((who.noun, who.pattern, who.main, who.second))
            out.append(TabletopSubject(split, number, who))
    return out


def look_alike(rng: random.Random, who: Individual) -> Individual:
    """Another instance of the same noun, new to training in the same way; differs in main colour or in pattern and
    second colour, and never by a swap of the two colours alone.
    """
    while True:
        other = draw_individual(rng, who.noun, held_out=True)
        differs = other.main != who.main or (other.pattern != who.pattern and other.second != who.second)
        swapped = (other.pattern, other.main, other.second) == (who.pattern, who.second, who.main)
        if differs and not swapped and newness(other) == newness(who):
            return other


def _bystander(rng: random.Random, who: Individual, *nouns: str) -> Individual:
    """A thing with neither the subject's noun nor one of ``nouns``, new to training in the same way as the subject."""
    while True:
        other = draw_individual(rng, held_out=True)
        if other.noun not in (who.noun, *nouns) and newness(other) == newness(who):
            return other


def reference_photo(subject: TabletopSubject, index: int, seed: int = SEED) -> UInt8[np.ndarray, "h w 3"]:
    """Photo ``index`` of the subject: alone, another side, size, light and place each time."""
    rng = random.Random(f"tabletop/{WORLD}/{seed}/{subject.key}/photo/{index}")
    return compose(rng, [subject.who], (56.0, 92.0)).image


@dataclass(frozen=True, eq=False)
class TabletopQuery:
    """A scene and a text about one subject; ``target`` is the index of the subject in the scene, None when absent."""

    subject: TabletopSubject
    query_type: str
    scene: Scene
    text: str
    target: int | None


def _company(rng: random.Random, kind: str, index: int, who: Individual, front: Individual) -> list[Individual]:
    """What stands beside ``front`` in query ``index`` of a kind about ``who``; a relation's landmark comes first."""
    if kind == "other-category":
        return [_bystander(rng, who, front.noun) for _ in range(1 + index % 3)]
    if kind == "look-alike":
        others = [look_alike(rng, who) for _ in range(1 + index % 3)]
        return [*others, _bystander(rng, who)] if len(others) == 1 and rng.random() < 0.5 else others
    if kind == "relation":
        landmark = _bystander(rng, who, front.noun)
        return [landmark, *(_bystander(rng, who, front.noun, landmark.noun) for _ in range(index % 2))]
    return []


def query(subject: TabletopSubject, query_type: str, index: int, seed: int = SEED) -> TabletopQuery:
    """Query ``index`` of one type about one subject.

    What stands beside the subject is as new to training as the subject is, and all are placed in random order, so that
    nothing but its looks sets the subject apart.  An absent query is made as one of the others is (``_PRESENT``, each
    equally often), with something else in the subject's place: a look-alike in the scene of a look-alike query and
    every second time in the others, else a thing of another noun.
    """
    rng = random.Random(f"tabletop/{VERSION}/{seed}/{subject.key}/{query_type}/{index}")
    kind, variant, who = query_type, index, subject.who
    front = who
    if query_type == "absent":
        kind, variant = _PRESENT[12 * (QUERIES["absent"] * subject.number + index) % len(_PRESENT)]
        front = look_alike(rng, who) if kind == "look-alike" or index % 2 else _bystander(rng, who)
    others = _company(rng, kind, variant, who, front)
    cast = sorted([front, *others], key=lambda _: rng.random())
    top = {1: 80.0, 2: 66.0, 3: 54.0, 4: 50.0}[len(cast)]
    while True:
        scene = compose(rng, cast, (32.0, top))
        at = {id(thing.individual): i for i, thing in enumerate(scene.things)}
        if kind == "relation":
            how = relation(scene.things[at[id(front)]], scene.things[at[id(others[0])]])
            if how is None:
                continue
            text = f"the {{subject}} {how} the {_landmark_phrase(others[0], rng)}"
        else:
            text = _pick(rng, _TEXTS).replace("{surface}", scene.stage.surface)
        return TabletopQuery(subject, query_type, scene, text, None if query_type == "absent" else at[id(who)])


def _landmark_phrase(who: Individual, rng: random.Random) -> str:
    """A short phrase in words that training captions have: no unseen pattern is named."""
    if who.pattern in SEEN_PATTERNS:
        return short_phrase(who, rng)
    return f"{who.main} {who.noun}" if rng.random() < 0.75 else who.noun


def queries(
    subject: TabletopSubject, seed: int = SEED, counts: dict[str, int] | None = None
) -> Iterator[TabletopQuery]:
    """All queries about a subject, type by type."""
    for query_type, count in (counts or QUERIES).items():
        for index in range(count):
            yield query(subject, query_type, index, seed)
