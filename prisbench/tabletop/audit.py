"""Shortcuts of Tabletop: what could give a subject away without knowing it, measured by trivial predictors.

Three questions.  Each predictor looks at one thing, or at all of them together, and never at the reference photos:

- *which* of the things in the scene is it?  It chooses among the things' true masks; accuracy against chance.
- is it *there*?  It gives a number for a scene or a text; area under the ROC curve against 0.5.
- *where* is it?  A mask that ignores who is asked for; mIoU.

Directions ("most" or "least"), weights and thresholds are fitted on validation, scores are of test, intervals over
subjects.  And one proof: that training shows no subject's pattern, or not its pair of colours (``unseen``).

Knows: Tabletop's scenes before they are rows: things, order of painting, masks, what training shows.
Does not know: files, methods, models.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, UInt8
from scipy import ndimage

from prisbench.statistics import FEWEST_SUBJECTS, Interval, Sample, interval, paired_difference, roc
from prisbench.tabletop import scenes as tabletop
from prisbench.tabletop.render import COLOURS, SEEN_PATTERNS, UNSEEN_PATTERNS, Individual
from prisbench.tabletop.scenes import NOUNS, Scene, TabletopQuery, is_held_out, newness

SEVERAL = ("other-category", "look-alike", "relation")
"""Query types whose scenes hold other things beside the subject."""

_GRID = (48, 48)
"""Rows and columns of the mean mask of the subjects of validation."""


@dataclass(frozen=True)
class Row:
    """One predictor's score on one kind of queries.

    ``question``: "which", "there" or "where".  ``needs`` says what the predictor must know: "scene" (pixels and
    outlines), "text", "training" (what the backbone never saw); or, which is part of the task and no shortcut, "noun"
    (which things carry the subject's noun) and "relation" (what the text says of the place).  ``scope``: a query type,
    "all with several things", "all but absent" or "all".  ``value`` is an accuracy, an AUC or a mIoU, ``interval`` its
    95 % interval over subjects, ``chance`` what knowing nothing gives, ``gain`` the interval of value - chance; the
    last two are None for "where".
    """

    question: str
    predictor: str
    needs: str
    scope: str
    n: int
    value: float
    interval: Interval | None
    chance: float | None
    gain: Interval | None

    @property
    def above_chance(self) -> bool:
        """Whether the whole interval of the gain lies above zero."""
        return self.gain is not None and self.gain[0] > 1e-9  # rounding


def benchmark() -> Iterator[TabletopQuery]:
    """All queries of the benchmark, drawn one at a time: about ten seconds on a free core."""
    for subject in tabletop.subjects():
        yield from tabletop.queries(subject)


def measure(asked: Iterable[TabletopQuery]) -> list[Row]:
    """Every predictor on every question.  ``asked`` must hold both splits, absent queries and scenes of several things.

    Scenes are taken one at a time; what is kept of one is its masks and some numbers.
    """
    facts = [_facts(str(n), one) for n, one in enumerate(asked)]
    fit, test = ([q for q in facts if q.split == split] for split in ("validation", "test"))
    return [*_which(fit, test), *_there(fit, test), *_where(fit, test)]


def flaws(rows: Iterable[Row]) -> list[Row]:
    """The rows that a method could gain by without doing the task: above chance, needing neither noun nor relation.

    Of rows that say nothing, one in forty stands here by luck.
    """
    return [row for row in rows if row.above_chance and row.needs not in ("noun", "relation")]


# ---------------------------------------------------------------------------------------------------------------------
# what a predictor may look at


class _Light(NamedTuple):
    """A scene's planes, 0..1: colours, grey, how steep the grey is, how far a pixel is from its neighbours' mean."""

    rgb: Float[np.ndarray, "h w 3"]
    grey: Float[np.ndarray, "h w"]
    slope: Float[np.ndarray, "h w"]
    grain: Float[np.ndarray, "h w"]


class _View(NamedTuple):
    """One thing of a scene.  ``rim``: its outermost pixels; ``core``: the others; ``ring``: those just outside."""

    scene: Scene
    place: int
    light: _Light
    mask: Bool[np.ndarray, "h w"]
    rim: Bool[np.ndarray, "h w"]
    core: Bool[np.ndarray, "h w"]
    ring: Bool[np.ndarray, "h w"]

    @property
    def who(self) -> Individual:
        return self.scene.things[self.place].individual

    @property
    def colour(self) -> Float[np.ndarray, "3"]:
        """The mean of its pixels."""
        mean: Float[np.ndarray, "3"] = self.light.rgb[self.mask].mean(axis=0)
        return mean


def _light(image: UInt8[np.ndarray, "h w 3"]) -> _Light:
    rgb = image.astype(np.float64) / 255
    grey = rgb.mean(axis=2)
    dy, dx = np.gradient(grey)
    return _Light(rgb, grey, np.hypot(dy, dx), np.abs(ndimage.laplace(grey)))


def _views(scene: Scene) -> list[_View]:
    light, views = _light(scene.image), []
    for i, mask in enumerate(scene.masks):
        core = ndimage.binary_erosion(mask)
        ring = ndimage.binary_dilation(mask, iterations=2) & ~mask
        views.append(_View(scene, i, light, mask, mask & ~core, core if core.any() else mask, ring))
    return views


def _centroid(mask: Bool[np.ndarray, "h w"]) -> tuple[float, float]:
    """Row and column of the mean pixel, 0..1 of the picture."""
    h, w = mask.shape
    y, x = np.nonzero(mask)
    return float((y.mean() + 0.5) / h), float((x.mean() + 0.5) / w)


def _off_centre(mask: Bool[np.ndarray, "h w"]) -> float:
    y, x = _centroid(mask)
    return float(np.hypot(y - 0.5, x - 0.5))


def _unlike_the_others(view: _View) -> float:
    others = [mask for i, mask in enumerate(view.scene.masks) if i != view.place]
    if not others:
        return 0.0
    return float(np.abs(view.colour - view.light.rgb[np.any(others, axis=0)].mean(axis=0)).sum())


_THING: Mapping[str, tuple[str, Callable[[_View], float]]] = {
    "order of painting (the nearest comes last)": ("scene", lambda v: v.place),
    "distance from the centre": ("scene", lambda v: _off_centre(v.mask)),
    "how far to the right": ("scene", lambda v: _centroid(v.mask)[1]),
    "how far down": ("scene", lambda v: _centroid(v.mask)[0]),
    "area": ("scene", lambda v: v.mask.sum()),
    "height": ("scene", lambda v: v.mask.any(axis=1).sum()),
    "visible share": ("scene", lambda v: v.scene.shares[v.place]),
    "brightness": ("scene", lambda v: v.light.grey[v.mask].mean()),
    "saturation": ("scene", lambda v: np.ptp(v.light.rgb[v.mask], axis=1).mean()),
    "contrast within": ("scene", lambda v: v.light.grey[v.mask].std()),
    "contrast with what is around": (
        "scene",
        lambda v: np.abs(v.colour - v.light.rgb[v.ring].mean(axis=0)).sum(),
    ),
    "strength of the outline (paste edges)": ("scene", lambda v: v.light.slope[v.rim].mean()),
    "grain within": ("scene", lambda v: np.median(v.light.grain[v.core])),
    "colour unlike the other things'": ("scene", _unlike_the_others),
    "patterned": ("scene", lambda v: v.who.pattern != "plain"),
    "a pattern that training never shows": ("training", lambda v: newness(v.who)[0]),
    "a pair of colours that training never shows": ("training", lambda v: newness(v.who)[1]),
    "either of the two": ("training", lambda v: is_held_out(v.who)),
}
"""Predictor -> what it needs, and its number for one thing."""


_SCENE: Mapping[str, tuple[str, Callable[[Sequence[_View], str], float]]] = {
    "number of things": ("scene", lambda views, noun: len(views)),
    "number of kinds of things": ("scene", lambda views, noun: len({v.who.noun for v in views})),
    "share that is covered": ("scene", lambda views, noun: sum(v.mask.mean() for v in views)),
    "area of the largest thing": ("scene", lambda views, noun: max(v.mask.mean() for v in views)),
    "distance of the most central thing": ("scene", lambda views, noun: min(_off_centre(v.mask) for v in views)),
    "visible share of the most hidden thing": ("scene", lambda views, noun: min(views[0].scene.shares)),
    "brightness": ("scene", lambda views, noun: views[0].light.grey.mean()),
    "contrast": ("scene", lambda views, noun: views[0].light.grey.std()),
    "saturation": ("scene", lambda views, noun: np.ptp(views[0].light.rgb, axis=2).mean()),
    "noise": ("scene", lambda views, noun: np.median(views[0].light.grain)),
    "edges": ("scene", lambda views, noun: views[0].light.slope.mean()),
    "height of the picture": ("scene", lambda views, noun: len(views[0].mask)),
    "a wall": ("scene", lambda views, noun: views[0].scene.stage.horizon > 0),
    "plain things": ("scene", lambda views, noun: sum(v.who.pattern == "plain" for v in views)),
    "things of a pattern that training never shows": (
        "training",
        lambda views, noun: sum(newness(v.who)[0] for v in views),
    ),
    "things of a pair of colours that training never shows": (
        "training",
        lambda views, noun: sum(newness(v.who)[1] for v in views),
    ),
    "things of either": ("training", lambda views, noun: sum(is_held_out(v.who) for v in views)),
    "share of things of either": ("training", lambda views, noun: sum(is_held_out(v.who) for v in views) / len(views)),
    "a thing of the subject's noun": ("noun", lambda views, noun: any(v.who.noun == noun for v in views)),
    "number of things of the subject's noun": ("noun", lambda views, noun: sum(v.who.noun == noun for v in views)),
}
"""Predictor -> what it needs, and its number for a scene and the subject's noun."""


class _Facts(NamedTuple):
    """What is kept of a query.  ``things``: a row a thing, columns as ``_THING``; ``scene``: as ``_SCENE``."""

    id: str
    subject: str
    split: str
    kind: str
    text: str
    target: int | None
    things: Float[np.ndarray, "n f"]
    scene: Float[np.ndarray, " s"]
    feet_xy: Float[np.ndarray, "n 2"]
    masks: Bool[np.ndarray, "n h w"]

    @property
    def truth(self) -> Bool[np.ndarray, "h w"]:
        assert self.target is not None, "asked of present queries only"
        mask: Bool[np.ndarray, "h w"] = self.masks[self.target]
        return mask


def _facts(number: str, asked: TabletopQuery) -> _Facts:
    views, noun = _views(asked.scene), asked.subject.who.noun
    return _Facts(
        id=number,
        subject=asked.subject.key,
        split=asked.subject.split,
        kind=asked.query_type,
        text=asked.text,
        target=asked.target,
        things=np.asarray([[float(of(view)) for _, of in _THING.values()] for view in views]),
        scene=np.asarray([float(of(views, noun)) for _, of in _SCENE.values()]),
        feet_xy=np.asarray([(thing.x, thing.y) for thing in asked.scene.things]),
        masks=np.asarray(asked.scene.masks),
    )


# ---------------------------------------------------------------------------------------------------------------------
# which of the things is it?

Choice = Callable[[_Facts], Float[np.ndarray, " n"]]
"""A score for each thing of a scene; the highest is chosen."""


def _which(fit: Sequence[_Facts], test: Sequence[_Facts]) -> Iterator[Row]:
    fit, test = ([q for q in some if q.kind in SEVERAL] for some in (fit, test))
    for column, (predictor, (needs, _)) in enumerate(_THING.items()):
        most, least = (np.mean([_credit(sign * q.things[:, column], q.target) for q in fit]) for sign in (1.0, -1.0))
        word, sign = ("most", 1.0) if most >= least else ("least", -1.0)
        yield from _chosen(f"{predictor}: {word}", needs, lambda q, c=column, s=sign: s * q.things[:, c], test)  # type: ignore[misc]
    for predictor, kinds in (("all of the scene's together", {"scene"}), ("all together", {"scene", "training"})):
        columns = [i for i, (needs, _) in enumerate(_THING.values()) if needs in kinds]
        yield from _chosen(predictor, max(kinds), _fitted_choice(fit, columns), test)
    relations = [q for q in test if q.kind == "relation"]
    yield from _chosen("the outermost thing where the text points", "relation", _as_told, relations)


def _chosen(predictor: str, needs: str, choice: Choice, test: Sequence[_Facts]) -> Iterator[Row]:
    """A row for each query type, and before them one for all where there are several types."""
    kinds = [kind for kind in SEVERAL if any(q.kind == kind for q in test)]
    for scope, wanted in [("all with several things", kinds)] * (len(kinds) > 1) + [(kind, [kind]) for kind in kinds]:
        some = [q for q in test if q.kind in wanted]
        right = [_credit(choice(q), q.target) for q in some]
        value, spread = _mean(right, some)
        chance = [1 / len(q.things) for q in some]
        gain = paired_difference(_sample(right, some), _sample(chance, some)).interval
        yield Row("which", predictor, needs, scope, len(some), value, spread, float(np.mean(chance)), gain)


def _credit(score: Float[np.ndarray, " n"], target: int | None) -> float:
    """1 when the target alone has the highest score, divided among those that tie."""
    best = score >= score.max() - 1e-9
    return float(best[target] / best.sum())


def _fitted_choice(fit: Sequence[_Facts], columns: Sequence[int]) -> Choice:
    """Logistic regression on the differences between the subject and each thing beside it, both ways round."""
    pairs = [(q.things[q.target] - other)[columns] for q in fit for i, other in enumerate(q.things) if i != q.target]
    score = _logistic(np.asarray([*pairs, *(-pair for pair in pairs)]), np.arange(2 * len(pairs)) < len(pairs))
    return lambda q: score(q.things[:, columns])


def _as_told(q: _Facts) -> Float[np.ndarray, " n"]:
    """Follows the text's "left of", "behind" ... and nothing else; all zero without such a word."""
    x, y = q.feet_xy.T
    ways = {"left of": -x, "right of": x, "in front of": y, "behind": -y}
    return next((score for words, score in ways.items() if f" {words} " in q.text), 0 * x)


# ---------------------------------------------------------------------------------------------------------------------
# is it there?

Belief = Callable[[_Facts], float]


def _there(fit: Sequence[_Facts], test: Sequence[_Facts]) -> Iterator[Row]:
    numbers: dict[str, tuple[str, Belief]] = {
        predictor: (needs, lambda q, c=column: q.scene[c])  # type: ignore[misc]
        for column, (predictor, (needs, _)) in enumerate(_SCENE.items())
    }
    numbers["relations in the text"] = ("text", lambda q: float(_as_told(q).any()))
    numbers["number of words"] = ("text", lambda q: len(q.text.split()))
    for predictor, (needs, number) in numbers.items():
        word, sign = ("more", 1.0) if _auc(number, fit)[0] >= 0.5 else ("less", -1.0)
        yield _believed(f"{predictor}: {word}", needs, lambda q, of=number, s=sign: s * of(q), test)  # type: ignore[misc]
    scene, both = _scene_terms(fit, {"scene"}), _scene_terms(fit, {"scene", "training"})
    words = _text_terms(fit)
    yield _believed("all of the scene's together", "scene", _fitted_belief(fit, scene), test)
    yield _believed("all words of the text", "text", _fitted_belief(fit, words), test)
    everything = _fitted_belief(fit, lambda q: np.concatenate([both(q), words(q)]))
    yield _believed("all together, the noun aside", "training", everything, test)


def _auc(belief: Belief, some: Sequence[_Facts]) -> tuple[float, Interval | None]:
    found = roc(
        np.round([float(belief(q)) for q in some], 9),
        np.asarray([q.target is not None for q in some]),
        [q.subject for q in some],
    )
    assert found is not None, "measure wants present and absent queries in both splits"
    return found.auc, found.interval


def _believed(predictor: str, needs: str, belief: Belief, test: Sequence[_Facts]) -> Row:
    auc, spread = _auc(belief, test)
    gain = spread and (spread[0] - 0.5, spread[1] - 0.5)
    return Row("there", predictor, needs, "all", len(test), auc, spread, 0.5, gain)


def _fitted_belief(fit: Sequence[_Facts], terms: Callable[[_Facts], Float[np.ndarray, " t"]]) -> Belief:
    score = _logistic(np.asarray([terms(q) for q in fit]), np.asarray([q.target is not None for q in fit]))
    return lambda q: float(score(terms(q)[None])[0])


def _scene_terms(fit: Sequence[_Facts], kinds: set[str]) -> Callable[[_Facts], Float[np.ndarray, " t"]]:
    """The scene's standardized numbers, their squares, which number of things it is, and 1."""
    columns = [i for i, (needs, _) in enumerate(_SCENE.values()) if needs in kinds]
    table = np.asarray([q.scene[columns] for q in fit])
    mean, scale = table.mean(axis=0), table.std(axis=0)
    scale[scale == 0] = 1.0

    def terms(q: _Facts) -> Float[np.ndarray, " t"]:
        z = (q.scene[columns] - mean) / scale
        return np.asarray([*z, *z**2, *(float(len(q.things) == n) for n in range(1, 5)), 1.0])

    return terms


def _text_terms(fit: Sequence[_Facts]) -> Callable[[_Facts], Float[np.ndarray, " t"]]:
    """Which words of validation's texts a text has, and 1."""
    words = sorted({word for q in fit for word in q.text.split()})

    def terms(q: _Facts) -> Float[np.ndarray, " t"]:
        there = set(q.text.split())
        return np.asarray([*(float(word in there) for word in words), 1.0])

    return terms


# ---------------------------------------------------------------------------------------------------------------------
# where is it?


def _where(fit: Sequence[_Facts], test: Sequence[_Facts]) -> Iterator[Row]:
    fit, test = ([q for q in some if q.target is not None] for some in (fit, test))
    mean = np.mean([_resized(q.truth, _GRID) for q in fit], axis=0)

    def overlap(q: _Facts, level: float) -> float:
        return _iou(_resized(mean >= level, q.truth.shape), q.truth)

    best = max(
        np.quantile(mean, np.linspace(0.3, 0.98, 35)), key=lambda level: np.mean([overlap(q, level) for q in fit])
    )
    predictors: dict[str, Callable[[_Facts], float]] = {
        "where the subjects of validation stood": lambda q: overlap(q, best),
        "all things": lambda q: _iou(np.any(q.masks, axis=0), q.truth),
        "one of the things, by lot": lambda q: 1 / len(q.masks),
    }
    kinds = [kind for kind in ("plain", *SEVERAL) if any(q.kind == kind for q in test)]
    for predictor, score in predictors.items():
        for scope, wanted in [("all but absent", kinds), *((kind, [kind]) for kind in kinds)]:
            some = [q for q in test if q.kind in wanted]
            value, spread = _mean([score(q) for q in some], some)
            yield Row("where", predictor, "scene", scope, len(some), value, spread, None, None)


def _resized(mask: Bool[np.ndarray, "_h _w"], size_hw: tuple[int, ...]) -> Bool[np.ndarray, "_h2 _w2"]:
    """Nearest pixels."""
    rows, columns = (np.arange(new) * old // new for old, new in zip(mask.shape, size_hw, strict=True))
    return mask[rows][:, columns]


def _iou(one: Bool[np.ndarray, "h w"], other: Bool[np.ndarray, "h w"]) -> float:
    """Of masks of which one at least is not empty."""
    return float((one & other).sum() / (one | other).sum())


# ---------------------------------------------------------------------------------------------------------------------
# numbers


def _mean(values: Sequence[float], some: Sequence[_Facts]) -> tuple[float, Interval | None]:
    """The mean over queries and its interval over subjects."""
    return float(np.mean(values)), interval(_sample(values, some))


def _sample(values: Sequence[float], some: Sequence[_Facts]) -> Sample:
    ids, subjects = tuple(q.id for q in some), tuple(q.subject for q in some)
    return Sample(ids, subjects, np.asarray(values, dtype=np.float64), np.ones(len(some)))


def _logistic(
    x: Float[np.ndarray, "n f"], y: Bool[np.ndarray, " n"], ridge: float = 3.0
) -> Callable[[Float[np.ndarray, "m f"]], Float[np.ndarray, " m"]]:
    """Ridge logistic regression by Newton's method, without a constant term; gives the log odds of new rows."""
    scale = np.sqrt((x**2).mean(axis=0))
    scale[scale == 0] = 1.0
    z, weights = x / scale, np.zeros(x.shape[1])
    for _ in range(30):
        p = 1 / (1 + np.exp(-np.clip(z @ weights, -30, 30)))
        slope = z.T @ (y - p) - ridge * weights
        curve = (z * (p * (1 - p))[:, None]).T @ z + ridge * np.eye(len(weights))
        step = np.linalg.solve(curve, slope)
        weights = weights + step
        if np.abs(step).max() < 1e-8:
            break
    return lambda new: new / scale @ weights


# ---------------------------------------------------------------------------------------------------------------------
# for people


def markdown(rows: Sequence[Row]) -> str:
    """Three tables, one a question.  Bold: above chance, the whole interval."""
    which, there, where = (
        [row for row in rows if row.question == question] for question in ("which", "there", "where")
    )
    chances = {row.scope: row.chance for row in which}
    parts = [
        "### Which of the things is it?\n\nAccuracy among the things' true masks.",
        _table(which, ["chance", "", *(f"{chances[scope]:.2f}" for scope in _scopes(which))]),
        "### Is it there?\n\nArea under the ROC curve; chance is 0.50.",
        _table(there),
        "### Where is it?\n\nmIoU.",
        _table(where),
    ]
    if any(row.interval is None for row in rows):
        parts.append(f"Rows without an interval are of fewer than {FEWEST_SUBJECTS} subjects and never in bold.")
    return "\n\n".join(parts) + "\n"


def _scopes(rows: Iterable[Row]) -> list[str]:
    return list(dict.fromkeys(row.scope for row in rows))


def _table(rows: Sequence[Row], first: Sequence[str] = ()) -> str:
    scopes = _scopes(rows)
    sizes = {row.scope: row.n for row in rows}
    lines = [["predictor", "needs", *(f"{scope} ({sizes[scope]})" for scope in scopes)], ["---"] * (2 + len(scopes))]
    lines += [list(first)] if first else []
    for predictor, needs in dict.fromkeys((row.predictor, row.needs) for row in rows):
        found = {row.scope: row for row in rows if (row.predictor, row.needs) == (predictor, needs)}
        lines.append([predictor, needs, *(_cell(found[scope]) if scope in found else "" for scope in scopes)])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(row: Row) -> str:
    text = f"{row.value + 0.0:.2f}" + (f" [{row.interval[0]:.2f}, {row.interval[1]:.2f}]" if row.interval else "")
    return f"**{text}**" if row.above_chance else text


# ---------------------------------------------------------------------------------------------------------------------
# what training shows


@dataclass(frozen=True)
class Unseen:
    """What the training scenes and captions show beside the subjects' looks.

    ``patterns``, ``pairs``: what is shown -> on how many things.  ``phrases``: how often captions name two colours of a
    thing.  ``by_pattern``, ``by_pair``: subjects whose pattern, whose pair of colours is never shown;
    some are in both.  ``broken``: a line for each subject of which both are shown, and for each word or pair of
    colours of a caption that no scene may have; empty when all is proven.
    """

    scenes: int
    things: int
    captions: int
    phrases: int
    patterns: Mapping[str, int]
    pairs: Mapping[tuple[str, str], int]
    subjects: int
    by_pattern: int
    by_pair: int
    broken: tuple[str, ...]

    def render(self) -> str:
        both = self.by_pattern + self.by_pair - self.subjects
        lines = [
            f"training scenes {self.scenes}, things in them {self.things}",
            f"patterns shown {len(self.patterns)}: " + ", ".join(f"{k} {v}" for k, v in self.patterns.items()),
            f"pairs of colours shown {len(self.pairs)} of {len(COLOURS) * (len(COLOURS) - 1) // 2}",
            f"captions read {self.captions}, phrases in them that name two colours of a thing {self.phrases}",
            f"subjects {self.subjects}: pattern never shown {self.by_pattern}, "
            f"pair of colours never shown {self.by_pair}, of these both {both}",
        ]
        return "\n".join([*lines, *(self.broken or ("proven: no subject's looks are shown or named in training",))])


def unseen(
    scenes: int = tabletop.TRAINING_SCENES,
    captions: Iterable[str] | None = None,
    subjects: Sequence[tabletop.TabletopSubject] | None = None,
) -> Unseen:
    """Look through the first training scenes, and through captions, for the subjects' patterns and pairs of colours.

    Who stands in a scene is known without drawing it, 32,000 scenes in seconds.  ``captions``: those of a training run
    (its ``captions-*.json``) or ``drawn_captions(scenes)``, which takes five minutes of a core; None reads none.
    """
    subjects = tabletop.subjects() if subjects is None else subjects
    patterns: Counter[str] = Counter()
    pairs: Counter[tuple[str, str]] = Counter()
    for n in range(scenes):
        for who in tabletop.ordinary_individuals(f"train/{n}"):
            patterns[who.pattern] += 1
            pairs[_pair(who.main, who.second)] += 1
    read, phrases, broken = 0, 0, []
    for caption in captions or ():
        read += 1
        named_patterns, named_pairs = _named(caption)
        phrases += len(named_pairs)
        for what in [*(named_patterns - set(patterns)), *(" and ".join(p) for p in named_pairs if p not in pairs)]:
            broken.append(f"the caption {caption!r} names {what}, which no scene shows")
    new_pattern = [s.key for s in subjects if s.who.pattern not in patterns]
    new_pair = [s.key for s in subjects if _pair(s.who.main, s.who.second) not in pairs]
    broken += [
        f"subject {s.key}: training shows {s.who.pattern} things and {s.who.main} with {s.who.second}"
        for s in subjects
        if s.key not in new_pattern and s.key not in new_pair
    ]
    return Unseen(
        scenes=scenes,
        things=patterns.total(),
        captions=read,
        phrases=phrases,
        patterns=dict(sorted(patterns.items())),
        pairs=dict(sorted(pairs.items())),
        subjects=len(subjects),
        by_pattern=len(new_pattern),
        by_pair=len(new_pair),
        broken=tuple(broken),
    )


def drawn_captions(scenes: int = tabletop.TRAINING_SCENES, processes: int = 1) -> Iterator[str]:
    """The captions of the first training scenes, in order; each scene is drawn, for where things stand decides some."""
    if processes == 1:
        yield from map(_caption, range(scenes))
        return
    with ProcessPoolExecutor(processes) as pool:
        yield from pool.map(_caption, range(scenes), chunksize=64)


def _caption(n: int) -> str:
    return tabletop.ordinary_scene(f"train/{n}")[1]


_COLOUR, _NOUN = "|".join(COLOURS), "|".join(NOUNS)
_TWO_COLOURS = re.compile(
    rf"\b({_COLOUR}) and ({_COLOUR}) (?:{_NOUN})\b|\b({_COLOUR}) (?:{_NOUN}) with (?:an? )?({_COLOUR})\b"
)
"""The two ways in which ``tabletop.full_phrase`` names both colours of a thing."""


def _named(caption: str) -> tuple[set[str], list[tuple[str, str]]]:
    """The patterns a caption names, and the pairs of colours it names of one thing."""
    words = set(re.findall(r"\w+", caption))
    found = [_pair(*(colour for colour in match if colour)) for match in _TWO_COLOURS.findall(caption)]
    return words & {*SEEN_PATTERNS, *UNSEEN_PATTERNS}, found


def _pair(one: str, other: str) -> tuple[str, str]:
    return (one, other) if one < other else (other, one)
