"""Where the variance of single answers comes from: subject, image, query, the learner's seed, the seed of noise.

Nested analysis of variance by moments (Henderson's first method; Searle, Casella and McCulloch 1992, section 5.3), with
subsets as fixed: their means are taken off.  Products of two runs in place of squares tell what runs share from what a
seed brings: two runs of other learner seeds have the subject, the image and the query in common, and nothing else.

Knows: arrays of answers.  Does not know: means and their errors (``spread``), how a page looks.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int64

from prisbench.uncertainty.answers import Answers, Entry

SOURCES = ("subject", "image", "query", "learner seed", "noise seed")


class Shares(NamedTuple):
    """The variance of one answer, and the share of each of ``SOURCES``, None where the rows cannot tell.

    A source that cannot be told apart is in another one's share; ``why`` says in which.
    """

    variance: float
    shares: dict[str, float | None]
    why: dict[str, str]


def shares_of(answers: Answers, entry: Entry) -> Shares | None:
    """The variance shares of a method's answers; None where a number is no mean of answers (pooled IoU), or no two
    subjects, or nothing varies.
    """
    columns = list(entry.columns)
    defined = answers.below[:, columns]
    kept = (defined == 1).all(axis=1)
    if not (kept | (defined == 0).all(axis=1)).all() or len(np.unique(answers.subject[kept])) < 2:
        return None
    centred = _without_parts(answers.above[kept][:, columns], answers.part[kept])
    nesting = _Nesting(answers.subject[kept], answers.image[kept])
    groups: dict[str, list[Float[np.ndarray, " 3"]]] = {kind: [] for kind in ("same", "noise", "learner")}
    for a, b in itertools.combinations_with_replacement(range(len(columns)), 2):
        one, two = entry.seeds[a], entry.seeds[b]
        kind = "same" if a == b else "noise" if one.learner == two.learner else "learner"
        groups[kind].append(nesting.components(centred[:, a], centred[:, b]))
    means = {kind: np.mean(each, axis=0) for kind, each in groups.items() if each}
    common = means.get("learner", means.get("noise", means["same"]))
    found: dict[str, float | None] = dict(zip(("subject", "image", "query"), map(float, common), strict=True))
    total = float(means["same"].sum())
    within = float(means["noise"].sum()) if "noise" in means else total
    found["learner seed"] = within - float(means["learner"].sum()) if "learner" in means else None
    found["noise seed"] = total - within if "noise" in means else None
    why = _why(entry, found)
    if nesting.one_query_an_image:
        found["query"], why["query"] = None, "an image has one query, so its share is the image's"
    positive = {source: None if part is None else max(part, 0.0) for source, part in found.items()}
    whole = sum(part for part in positive.values() if part is not None)
    if whole <= 0:
        return None
    return Shares(whole, {s: None if part is None else part / whole for s, part in positive.items()}, why)


def _why(entry: Entry, found: dict[str, float | None]) -> dict[str, str]:
    """What the rows cannot tell, and whose share has it."""
    why = {}
    if found["learner seed"] is None:
        learns = any(each.learner is not None for each in entry.seeds)
        why["learner seed"] = (
            "no two rows differ in the learner's seed; its part is in subject, image and query"
            if learns
            else "nothing is learned by lot"
        )
    if found["noise seed"] is None:
        rest = "learner seed" if found["learner seed"] is not None else "query"
        why["noise seed"] = f"no two rows differ in another seed alone; its part is in {rest}"
    return why


def _without_parts(above: Float[np.ndarray, "n runs"], part: Int64[np.ndarray, " n"]) -> Float[np.ndarray, "n runs"]:
    """The answers less the mean of their subset."""
    out = above.copy()
    for number in np.unique(part):
        out[part == number] -= above[part == number].mean()
    return out


class _Nesting:
    """Queries in images in subjects, and what the expected sums of products are made of."""

    def __init__(self, subject: Int64[np.ndarray, " n"], image: Int64[np.ndarray, " n"]) -> None:
        self.subject = np.unique(subject, return_inverse=True)[1]
        _, first, self.image = np.unique(image, return_index=True, return_inverse=True)
        self.of_image = self.subject[first]
        self.n_image = np.bincount(self.image).astype(np.float64)
        self.n_subject = np.bincount(self.subject).astype(np.float64)
        self.n = float(len(subject))
        self.one_query_an_image = bool((self.n_image == 1).all())
        within = np.bincount(self.of_image, self.n_image**2) / self.n_subject
        free = self.n - len(self.n_image), len(self.n_image) - len(self.n_subject), len(self.n_subject) - 1
        # rows: sums of products of queries, images, subjects; columns: components of subject, image, query
        self.expected = np.array(
            [
                [0.0, 0.0, free[0]],
                [0.0, self.n - within.sum(), free[1]],
                [
                    self.n - (self.n_subject**2).sum() / self.n,
                    within.sum() - (self.n_image**2).sum() / self.n,
                    free[2],
                ],
            ]
        )

    def components(self, a: Float[np.ndarray, " n"], b: Float[np.ndarray, " n"]) -> Float[np.ndarray, " 3"]:
        """The components of subject, image and query that two runs share; of one run with itself, its own.

        Where every image has one query, image has both; where every subject has one image, subject has both.
        """
        means = []
        for each in (a, b):
            by_image = np.bincount(self.image, each) / self.n_image
            by_subject = np.bincount(self.subject, each) / self.n_subject
            means.append((each, by_image[self.image], by_subject[self.subject], np.full(len(each), each.mean())))
        (a0, a1, a2, a3), (b0, b1, b2, b3) = means
        sums = [((a0 - a1) * (b0 - b1)).sum(), ((a1 - a2) * (b1 - b2)).sum(), ((a2 - a3) * (b2 - b3)).sum()]
        out = np.zeros(3)
        known = [n for n in range(3) if self.expected[n].any()]  # a level without freedom has no equation
        unknown = [2 - n for n in known]
        matrix = self.expected[np.ix_(known, unknown)]
        out[unknown] = np.linalg.solve(matrix, np.array(sums)[known])
        return out
