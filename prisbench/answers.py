"""What a method gives is held to the contract of ``types.Method`` before any of it is written.

Every breach is one line that names the method, the query or subject, what is wrong, and the cure: the method's code has
to change, so the run stops.  Nothing is cast but numpy's numbers to Python's.

Knows: the contract.  Does not know: files, scores, how a run goes.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from prisbench.errors import DataError
from prisbench.types import Concept, Prediction, Query, Subject


class BreachError(DataError):
    """A method that does not keep to its contract; ``DataError`` for all who do not need to know."""


SAFE_NAME = re.compile(r"[^\W_][\w .+@=-]{0,99}(?<![ .])")
"""Letters, digits and a few signs: what a file may be called anywhere."""

ROUNDING = 1e-6
"""So far beyond 0..1 a number may be by the rounding of float32."""


def check_name(name: Any, what: str) -> None:
    """Raises BreachError when a name is not text that a file may be called."""
    if not isinstance(name, str) or not SAFE_NAME.fullmatch(name):
        raise BreachError(
            f"{what} is {name!r}, which no file can be called; give 1 to 100 letters, digits, '-', '_' or '.', "
            "beginning with a letter or digit"
        )


def check_method(method: Any) -> None:
    """Raises BreachError for a name that is no file name, and for settings that are not plain JSON."""
    check_name(_member(method, "name"), f"the name of {type(method).__name__}")
    settings = _member(method, "settings")
    if callable(settings):
        raise BreachError(f"{method.name}: settings is a function; write @property above it")
    if not isinstance(settings, Mapping):
        raise BreachError(f"{method.name}: settings is {_kind(settings)}; give a dict, {{}} when there are none")
    for key, value in settings.items():
        try:
            json.dumps({key: value}, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise BreachError(
                f"{method.name}: the setting {key!r} cannot be written as JSON ({error}); give plain numbers, text, "
                "lists or dicts, such as float(x)"
            ) from None


def _member(method: Any, name: str) -> Any:
    """A member that may be a property.  Raises BreachError for what that raises."""
    try:
        return getattr(method, name)
    except Exception as error:
        kind = type(method).__name__
        raise BreachError(f"{kind}: its {name} raises {type(error).__name__}: {error}; give a plain value") from error


def checked_concept(method: str, subject: Subject, concept: Any) -> Concept:
    """What ``learn`` returned.  Raises BreachError when it is no Concept."""
    if not isinstance(concept, Concept):
        raise BreachError(
            f"{method}: learn returned {_kind(concept)} for subject {subject.id!r}; return a prisbench.Concept"
        )
    check_name(concept.learner, f"{method}: the learner of the concept of {subject.id!r}")
    if not isinstance(concept.id, str):
        raise BreachError(f"{method}: the id of the concept of {subject.id!r} is {_kind(concept.id)}; give text")
    tensors = concept.tensors
    wrong = tensors if not isinstance(tensors, Mapping) else next(
        (each for each in tensors.values() if not hasattr(each, "nbytes")), None
    )  # fmt: skip
    if wrong is not None:
        raise BreachError(
            f"{method}: the tensors of the concept of {subject.id!r} hold something {_kind(wrong)}; give a dict "
            "of numpy arrays by name"
        )
    return concept


def as_list(method: str, answers: Any) -> list[Any]:
    """What ``locate`` returned, as a list; what a generator raises on the way is the method's.

    Raises BreachError for what is no sequence of answers.
    """
    wrong = isinstance(answers, str | bytes | Mapping | Prediction | np.ndarray) or not isinstance(answers, Iterable)
    if wrong:
        raise BreachError(
            f"{method}: locate returned {_kind(answers)}; return a list with one Prediction for each query"
        )
    return list(answers)


def checked(
    method: str, answers: Sequence[Any], queries: Sequence[Query], scene_hw: tuple[int, int]
) -> list[Prediction]:
    """What ``locate`` returned about one scene, with plain numbers.  Raises BreachError for the first breach."""
    listed = in_order(method, answers, queries)
    return [one_checked(method, answer, scene_hw) for answer in listed]


def in_order(method: str, answers: Sequence[Any], queries: Sequence[Query]) -> list[Prediction]:
    """What ``locate`` returned, each answer as it is.  Raises BreachError unless it is one Prediction a query, in their
    order.
    """
    for n, answer in enumerate(answers, 1):
        if not isinstance(answer, Prediction):
            raise BreachError(
                f"{method}: answer {n} of locate is {_kind(answer)}; return prisbench.Prediction(query.id, mask)"
            )
    got, asked = [answer.query_id for answer in answers], [query.id for query in queries]
    if got != asked:
        raise BreachError(f"{method} answered {got}, asked {asked}; answers keep their order, one for each query")
    return list(answers)


def one_checked(method: str, answer: Prediction, scene_hw: tuple[int, int]) -> Prediction:
    """One answer about a scene, with plain numbers.  Raises BreachError for the first breach."""
    at = f"{method}, query {answer.query_id!r}"
    if answer.mask is not None:
        _check_mask(at, answer.mask, scene_hw)
    if answer.score is not None:
        _check_score(at, answer.score, scene_hw)
    peak = None if answer.peak_yx is None else _peak(at, answer.peak_yx, scene_hw)
    presence = None if answer.presence is None else _presence(at, answer.presence)
    seconds = None if answer.seconds is None else _number(at, "seconds", answer.seconds)
    if seconds is not None and seconds < 0:
        raise BreachError(f"{at}: seconds is {seconds!r}; give the seconds it took, or None")
    return dataclasses.replace(answer, peak_yx=peak, presence=presence, seconds=seconds)


def _check_mask(at: str, mask: Any, scene_hw: tuple[int, int]) -> None:
    if not isinstance(mask, np.ndarray) or isinstance(mask, np.ma.MaskedArray):
        raise BreachError(f"{at}: the mask is {_kind(mask)}; give a numpy array of booleans, height x width")
    if mask.dtype != np.bool_:
        if mask.dtype.kind == "f":
            cure = "threshold it, as in mask > 0.5, or pass it as score"
        elif mask.dtype.kind in "iu":
            cure = "say which values are the subject, as in mask > 0"
        else:
            cure = "give booleans"
        raise BreachError(f"{at}: the mask is of {mask.dtype}, not bool; {cure}")
    _check_shape(at, "the prediction mask", mask, scene_hw)


def _check_score(at: str, score: Any, scene_hw: tuple[int, int]) -> None:
    if not isinstance(score, np.ndarray) or score.dtype.kind != "f":
        kind = f"of {score.dtype}" if isinstance(score, np.ndarray) else _kind(score)
        raise BreachError(f"{at}: the score is {kind}; give a numpy array of floats in 0..1, height x width, or None")
    _check_shape(at, "the score", score, scene_hw)
    if not np.isfinite(score).all():
        raise BreachError(f"{at}: the score holds NaN or infinity; give numbers in 0..1, or None")
    if score.size and (score.min() < -ROUNDING or score.max() > 1 + ROUNDING):
        raise BreachError(
            f"{at}: the score goes from {score.min():g} to {score.max():g}; scale it to 0..1, or give None"
        )


def _check_shape(at: str, what: str, array: np.ndarray, scene_hw: tuple[int, int]) -> None:
    if array.shape == tuple(scene_hw):
        return
    shape, scene = " x ".join(map(str, array.shape)), " x ".join(map(str, scene_hw))
    turned = "; height comes first" if array.shape == tuple(scene_hw[::-1]) else ""
    raise BreachError(f"{at}: {what} is {shape}, the scene {scene} (height x width){turned}; answer in its pixels")


def _peak(at: str, peak: Any, scene_hw: tuple[int, int]) -> tuple[int, int]:
    values = list(peak) if isinstance(peak, tuple | list | np.ndarray) and np.ndim(peak) == 1 else []
    if len(values) != 2 or any(isinstance(v, bool) or not isinstance(v, int | np.integer) for v in values):
        raise BreachError(f"{at}: peak_yx is {peak!r}; give two whole numbers, (y, x) in pixels, or None")
    y, x = int(values[0]), int(values[1])
    h, w = scene_hw
    if not (0 <= y < h and 0 <= x < w):
        raise BreachError(f"{at}: peak_yx is {(y, x)}, outside of the scene of {h} x {w} pixels; y comes first")
    return y, x


def _presence(at: str, presence: Any) -> float:
    value = float(presence) if isinstance(presence, bool | np.bool_) else _number(at, "presence", presence)
    if not -ROUNDING <= value <= 1 + ROUNDING:
        raise BreachError(f"{at}: presence is {value!r}; give a belief in 0..1, or None when there is none")
    return min(max(value, 0.0), 1.0)


def _number(at: str, what: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise BreachError(f"{at}: {what} is {_kind(value)}; give a number, such as float(x), or None")
    if not math.isfinite(value):
        raise BreachError(f"{at}: {what} is {float(value)!r}, which is not a number; give None when there is none")
    return float(value)


def _kind(value: Any) -> str:
    """What a value is, in words."""
    if value is None:
        return "None"
    if isinstance(value, type):
        return f"the class {value.__name__}"
    kind = type(value)
    home = "" if kind.__module__ in ("builtins", "__main__") else kind.__module__.split(".")[0] + "."
    return f"of type {home}{kind.__qualname__}"
