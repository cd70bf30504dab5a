"""Which of the things in a scene is it?  Predictors that choose among the things' true masks.

Knows: numbers of things.  Does not know: how they are taken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from jaxtyping import Float

from prisbench.statistics import paired_difference
from prisbench.tabletop.audit.rows import Row, logistic, mean, sample
from prisbench.tabletop.audit.views import THING, Facts

SEVERAL = ("other-category", "look-alike", "relation")
"""Query types whose scenes hold other things beside the subject, which stands there once."""
ALL = "all with several things"

Choice = Callable[[Facts], Float[np.ndarray, " n"]]
"""A score for each thing of a scene; the highest is chosen."""


def which(fit: Sequence[Facts], test: Sequence[Facts]) -> Iterator[Row]:
    """Accuracy of every predictor of ``THING``; in "referred" scenes, where the text alone tells, among the copies."""
    fit, asked = ([q for q in some if q.kind in SEVERAL] for some in (fit, test))
    referred = [q for q in test if q.kind == "referred"]
    for column, (predictor, (needs, _)) in enumerate(THING.items()):
        most, least = (np.mean([credit(sign * q.things[:, column], q.target) for q in fit]) for sign in (1.0, -1.0))
        word, sign = ("most", 1.0) if most >= least else ("least", -1.0)
        yield from _chosen(f"{predictor}: {word}", needs, lambda q, c=column, s=sign: s * q.things[:, c], asked)  # type: ignore[misc]
        yield from _picked(f"{predictor}: {word}", needs, lambda q, c=column, s=sign: s * q.things[:, c], referred)  # type: ignore[misc]
    for predictor, kinds in (("all of the scene's together", {"scene"}), ("all together", {"scene", "training"})):
        columns = [i for i, (needs, _) in enumerate(THING.values()) if needs in kinds]
        choice = _fitted(fit, columns)
        yield from _chosen(predictor, max(kinds), choice, asked)
        yield from _picked(predictor, max(kinds), choice, referred)
    relations = [q for q in asked if q.kind == "relation"]
    predictor = "the outermost thing where the text points"
    yield from _chosen(predictor, "relation", lambda q: q.pointed, relations)
    yield from _picked(predictor, "relation", lambda q: q.pointed, referred)


def scopes(test: Sequence[Facts]) -> dict[str, list[Facts]]:
    """Queries by type, grades of look-alikes apart; before them all, where there are several types."""
    names = dict.fromkeys(q.kind for q in test)
    found = {ALL: list(test)} if len(names) > 1 else {}
    for name in (name for name in SEVERAL if name in names):
        found[name] = [q for q in test if q.kind == name]
        grades = dict.fromkeys(q.subset for q in found[name]) if name == "look-alike" else {}
        found |= {grade: [q for q in found[name] if q.subset == grade] for grade in grades}
    return found


def _chosen(predictor: str, needs: str, choice: Choice, test: Sequence[Facts]) -> Iterator[Row]:
    for scope, some in scopes(test).items():
        right = [credit(choice(q), q.target) for q in some]
        yield _row((predictor, needs, scope), right, [1 / len(q.things) for q in some], some)


def _picked(predictor: str, needs: str, choice: Choice, test: Sequence[Facts]) -> Iterator[Row]:
    """As ``_chosen``, among the copies of the subject."""
    if test:
        right = [credit(np.where(q.rivals, choice(q), -np.inf), q.target) for q in test]
        yield _row((predictor, needs, "referred"), right, [1 / q.rivals.sum() for q in test], test)


def _row(name: tuple[str, str, str], right: list[float], chance: list[float], some: Sequence[Facts]) -> Row:
    value, spread = mean(right, some)
    gain = paired_difference(sample(right, some), sample(chance, some)).interval
    return Row("which", *name, len(some), value, spread, float(np.mean(chance)), gain)


def credit(score: Float[np.ndarray, " n"], target: int | None) -> float:
    """1 when the target alone has the highest score, divided among those that tie."""
    best = score >= score.max() - 1e-9
    return float(best[target] / best.sum())


def _fitted(fit: Sequence[Facts], columns: Sequence[int]) -> Choice:
    """Logistic regression on the differences between the subject and each thing beside it, both ways round."""
    pairs = [(q.things[q.target] - other)[columns] for q in fit for i, other in enumerate(q.things) if i != q.target]
    score = logistic(np.asarray([*pairs, *(-pair for pair in pairs)]), np.arange(2 * len(pairs)) < len(pairs))
    return lambda q: score(q.things[:, columns])
