"""Numbers of likeness as one chance: a logistic function of each, fitted on validation and kept in ``weights.json``.

Knows: rows of numbers.  Does not know: what they are of.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from prisbench.errors import DataError
from prisbench.runtime.files import read_json

FILE = Path(__file__).with_name("weights.json")

RIDGE = 1.0
"""Of the weights of numbers with variance 1."""


@dataclass(frozen=True)
class Weights:
    """``chance`` of a row of numbers named ``names``; below ``threshold`` the subject is said to be absent.

    ``power`` is the weight of what the text says of place, for a reader; 0 for others.
    """

    names: tuple[str, ...]
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    weight: tuple[float, ...]
    offset: float
    threshold: float = 0.0
    power: float = 0.0

    def chance(self, rows: Float[np.ndarray, "n f"]) -> Float[np.ndarray, " n"]:
        """0..1 for each row."""
        scaled = (rows - np.array(self.mean)) / np.array(self.deviation)
        return 1 / (1 + np.exp(-np.clip(scaled @ np.array(self.weight) + self.offset, -50, 50)))

    def record(self) -> dict[str, Any]:
        """As it stands in the file, rounded to six digits."""
        plain = asdict(self)
        return {
            key: [round(v, 6) for v in value]
            if key in ("mean", "deviation", "weight")
            else list(value)
            if key == "names"
            else round(value, 6)
            for key, value in plain.items()
        }

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Weights:
        fields: dict[str, Any] = {key: tuple(each) if isinstance(each, list) else each for key, each in record.items()}
        return cls(**fields)


@lru_cache(maxsize=4)
def read_weights(file: Path = FILE) -> Mapping[str, Any]:
    """The file: setting -> kind of regions -> predictor -> ``Weights``; "about" says how they were fitted.

    Raises DataError for a file that holds something else.
    """
    found = read_json(file)
    try:
        return {
            setting: value
            if setting == "about"
            else {kind: {name: Weights.of(each) for name, each in names.items()} for kind, names in value.items()}
            for setting, value in found.items()
        }
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{file} holds no weights of network-free predictors ({error}); fit them with "
            "`prisbench bench network-free --fit`"
        ) from None


def weights_for(
    reference: str, regions: str, predictor: str, file: Path = FILE, command: str = "network-free"
) -> Weights:
    """The weights of a predictor in a reference setting, for "found" regions or true "outlines".

    Raises DataError where none were fitted, naming the benchmark ``command`` that does it.
    """
    found = read_weights(file).get(reference, {}).get(regions, {}).get(predictor)
    if found is None:
        raise DataError(
            f"{file.name} has no weights of {predictor!r} for {regions} regions and {reference}; fit them with "
            f"`prisbench bench {command} --fit`"
        )
    return found


def fit_logistic(
    rows: Float[np.ndarray, "n f"], right: Bool[np.ndarray, " n"], names: Sequence[str], groups: Sequence[str]
) -> Weights:
    """Logistic regression with a ridge, by Newton's method.

    Every group (a query) weighs the same, however many rows it has.  Where all rows are right, or none, no number says
    anything: the chance is the same for every row.  Raises DataError without a row.
    """
    if not len(right):
        raise DataError("no regions to fit weights on")
    if right.all() or not right.any():
        nothing = (0.0,) * len(names)
        odds = (float(right.sum()) + 0.5) / (float((~right).sum()) + 0.5)
        return Weights(tuple(names), nothing, (1.0,) * len(names), nothing, float(np.log(odds)))
    mean, deviation = rows.mean(axis=0), np.maximum(rows.std(axis=0), 1e-6)
    terms = np.column_stack([(rows - mean) / deviation, np.ones(len(rows))])
    _, which, sizes = np.unique(np.asarray(groups), return_inverse=True, return_counts=True)
    share = 1 / sizes[which]
    share *= len(rows) / share.sum()
    ridge = RIDGE * np.append(np.ones(rows.shape[1]), 0.0)
    found = np.zeros(terms.shape[1])
    for _ in range(100):
        chance = 1 / (1 + np.exp(-np.clip(terms @ found, -50, 50)))
        slope = terms.T @ (share * (chance - right)) + ridge * found
        curve = (terms * (share * np.maximum(chance * (1 - chance), 1e-9))[:, None]).T @ terms + np.diag(ridge + 1e-9)
        step = np.linalg.solve(curve, slope)
        found -= np.clip(step, -5, 5)
        if np.abs(step).max() < 1e-8:
            break
    return Weights(
        tuple(names), tuple(mean.tolist()), tuple(deviation.tolist()), tuple(found[:-1].tolist()), float(found[-1])
    )
