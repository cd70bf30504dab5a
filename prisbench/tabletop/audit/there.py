"""Does the text mean anything in the scene?  Predictors that give a number for a scene or a text.

Three comparisons: "absent" queries with those they are made like, "contradicted" ones with the true texts of the same
scenes, and all queries that mean nothing with all that mean something.

Knows: numbers of scenes and texts.  Does not know: how they are taken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from jaxtyping import Float

from prisbench.statistics import Interval, roc
from prisbench.tabletop.audit.rows import Row, logistic
from prisbench.tabletop.audit.views import SCENE, Facts
from prisbench.tabletop.texts import told

COMPARED: Mapping[str, tuple[str, ...]] = {
    "absent": ("absent", "plain", "other-category", "look-alike", "relation"),
    "contradicted": ("contradicted", "relation"),
    "all": (),
}
"""Scope -> query types; none for all of them."""

Belief = Callable[[Facts], float]
Terms = Callable[[Facts], Float[np.ndarray, " t"]]

_TEXT: dict[str, tuple[str, Belief]] = {
    "places in the text": ("text", lambda q: len(told(q.text))),
    "places among copies in the text": ("text", lambda q: sum(" of" not in word for word in told(q.text))),
    "number of words": ("text", lambda q: len(q.text.split())),
    "things that the text names": ("relation", lambda q: q.landmarks),
    "a thing stands where the text points": ("relation", lambda q: float(q.fulfils.any())),
    "a thing of the subject's noun stands there": ("relation", lambda q: float((q.fulfils & q.noun).any())),
}
"""Predictor -> what it needs, and its number for a text about a scene."""


def there(fit: Sequence[Facts], test: Sequence[Facts]) -> Iterator[Row]:
    """Area under the ROC curve of every predictor, in each comparison that has queries of both kinds."""
    for scope, kinds in COMPARED.items():
        some, asked = ([q for q in part if not kinds or q.kind in kinds] for part in (fit, test))
        if all({q.target is None for q in part} == {True, False} for part in (some, asked)):
            yield from _compared(scope, some, asked)


def _compared(scope: str, fit: Sequence[Facts], test: Sequence[Facts]) -> Iterator[Row]:
    numbers: dict[str, tuple[str, Belief]] = {
        predictor: (needs, lambda q, c=column: q.scene[c])  # type: ignore[misc]
        for column, (predictor, (needs, _)) in enumerate(SCENE.items())
    }
    for predictor, (needs, number) in (numbers | _TEXT).items():
        word, sign = ("more", 1.0) if _auc(number, fit)[0] >= 0.5 else ("less", -1.0)
        yield _row((f"{predictor}: {word}", needs, scope), lambda q, of=number, s=sign: s * of(q), test)  # type: ignore[misc]
    scene, both = scene_terms(fit, {"scene"}), scene_terms(fit, {"scene", "training"})
    words = text_terms(fit)
    yield _row(("all of the scene's together", "scene", scope), _fitted(fit, scene), test)
    yield _row(("all words of the text", "text", scope), _fitted(fit, words), test)
    yield _row(("all words, learned from other subjects of test", "text", scope), _halves(test), test)
    together = _fitted(fit, lambda q: np.concatenate([both(q), words(q)]))
    yield _row(("all together, the noun aside", "training", scope), together, test)


def _auc(belief: Belief, some: Sequence[Facts]) -> tuple[float, Interval | None]:
    found = roc(
        np.round([float(belief(q)) for q in some], 9),
        np.asarray([q.target is not None for q in some]),
        [q.subject for q in some],
    )
    assert found is not None, "there are queries of both kinds"
    return found.auc, found.interval


def _row(name: tuple[str, str, str], belief: Belief, test: Sequence[Facts]) -> Row:
    auc, spread = _auc(belief, test)
    gain = spread and (spread[0] - 0.5, spread[1] - 0.5)
    return Row("there", *name, len(test), auc, spread, 0.5, gain)


def _fitted(fit: Sequence[Facts], terms: Terms) -> Belief:
    score = logistic(np.asarray([terms(q) for q in fit]), np.asarray([q.target is not None for q in fit]))
    return lambda q: float(score(terms(q)[None])[0])


def _halves(test: Sequence[Facts]) -> Belief:
    """The words of a text, learned from that half of test's subjects to which its own does not belong."""
    names = sorted({q.subject for q in test})
    half = {name: n % 2 for n, name in enumerate(names)}
    beliefs = []
    for mine in (0, 1):
        others = [q for q in test if half[q.subject] != mine] or list(test)
        beliefs.append(_fitted(others, text_terms(others)))
    return lambda q: beliefs[half[q.subject]](q)


def scene_terms(fit: Sequence[Facts], kinds: set[str]) -> Terms:
    """The scene's standardized numbers, their squares, which number of things it is, and 1."""
    columns = [i for i, (needs, _) in enumerate(SCENE.values()) if needs in kinds]
    table = np.asarray([q.scene[columns] for q in fit])
    mean, scale = table.mean(axis=0), table.std(axis=0)
    scale[scale == 0] = 1.0

    def terms(q: Facts) -> Float[np.ndarray, " t"]:
        z = (q.scene[columns] - mean) / scale
        return np.asarray([*z, *z**2, *(float(len(q.things) == n) for n in range(1, 6)), 1.0])

    return terms


def text_terms(fit: Sequence[Facts]) -> Terms:
    """Which words of the fitted texts a text has, and 1."""
    words = sorted({word for q in fit for word in q.text.split()})

    def terms(q: Facts) -> Float[np.ndarray, " t"]:
        found = set(q.text.split())
        return np.asarray([*(float(word in found) for word in words), 1.0])

    return terms
