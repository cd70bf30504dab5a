"""What a user may say about a method, and settings by name.

Knows: options of every method, KEY=VALUE, kinds of values.  Does not know: any method.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from pydantic import TypeAdapter, ValidationError

from prisbench.errors import UnknownNameError, UsageError


def _silent(_: str) -> None:
    """Says nothing."""


@dataclass(frozen=True)
class MethodOptions:
    """What a user may say about a method.

    ``concept``: one of CONCEPTS for ``attn``; other methods may ignore it.  ``model``: a folder or hub id (the
    backbone of ``attn``); None is the method's default.  ``settings``: overrides, key to JSON value, such as
    {"localizer.tau": 0.3}.  ``store``: where concepts are kept; None is the cache.

    What a method may use and need not; none of it changes an answer.  ``progress`` is called with (step, steps, loss)
    while one subject is learned, ``say`` with a line about what goes on, ``warn`` with what the user should know in any
    case (None: ``say``).  ``spare`` is where concepts are kept when the store cannot be written.  ``shared`` holds what
    the methods of one command keep for each other, such as loaded weights, under keys of their own.

    What a user gives of ``concept``, ``model``, ``seed`` and ``settings`` and a method does not use is a mistake
    (``methods.options_used``).
    """

    concept: str | None = None
    model: str | None = None
    seed: int = 0
    device: str = "cpu"
    settings: Mapping[str, Any] = field(default_factory=dict)
    store: str | None = None
    progress: Callable[[int, int, float], None] | None = field(default=None, compare=False)
    say: Callable[[str], None] = field(default=_silent, compare=False)
    warn: Callable[[str], None] | None = field(default=None, compare=False)
    spare: Path | None = field(default=None, compare=False)
    shared: dict[Any, Any] = field(default_factory=dict, compare=False, repr=False)


def variants(
    shared: MethodOptions, concepts: Sequence[str | None] = (None,), seeds: Sequence[int] = (0,)
) -> list[MethodOptions]:
    """The shared options with every concept and every seed, each named once: what a sweep is over."""
    pairs = itertools.product(dict.fromkeys(concepts), dict.fromkeys(seeds))
    return [dataclasses.replace(shared, concept=concept, seed=seed) for concept, seed in pairs]


def parse_settings(pairs: Sequence[str]) -> dict[str, Any]:
    """``["localizer.tau=0.3", "learner.steps=200"]`` -> values; what is not JSON is text.  Raises UsageError.

    NaN and Infinity are text, too: JSON has no such numbers.
    """

    def refuse(name: str) -> NoReturn:
        raise ValueError(name)

    values: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not key:
            raise UsageError(f"--set {pair!r}: expected KEY=VALUE, such as localizer.tau=0.3")
        try:
            values[key] = json.loads(text, parse_constant=refuse)
        except ValueError:
            values[key] = text
    return values


def folded(given: Mapping[str, Any], parts: Collection[str]) -> dict[str, Any]:
    """Settings in which ``part.NAME=value``, of those that have parts, is ``part={"NAME": value}``; several together.

    Raises UsageError where a part of a setting and the whole of it are given otherwise than as a mapping.
    """
    out = {key: value for key, value in given.items() if key.rpartition(".")[0] not in parts}
    for key, value in given.items():
        whole, _, name = key.rpartition(".")
        if whole in parts:
            there = out.get(whole, {})
            if not isinstance(there, Mapping):
                raise UsageError(f"setting {whole}={there!r} and {key} cannot both be given")
            out[whole] = {**there, name: value}
    return out


def share_of(taken: Mapping[str, Any], name: str) -> float:
    """A setting that is a share, 0 to 1.  Raises UsageError."""
    value = taken[name]
    if value is None or not 0 <= value <= 1:
        raise UsageError(f"{name}={value!r} makes no sense: expected a number in 0..1")
    return float(value)


def place_of(taken: Mapping[str, Any], name: str) -> str:
    """A setting that names a model, a folder or a hub id.  Raises UsageError."""
    if not taken[name] or not isinstance(taken[name], str):
        raise UsageError(f"{name}={taken[name]!r} makes no sense: expected the folder or hub id of a model")
    return str(taken[name])


def take_settings(known: Mapping[str, Any], given: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """``known`` with the ``given`` values of that prefix put in.

    Raises UnknownNameError for keys nobody knows, UsageError for a value of another kind than the known one.
    """
    values = dict(known)
    for key, value in given.items():
        if prefix and not key.startswith(prefix):
            continue
        name = key[len(prefix) :]
        if name not in values:
            raise UnknownNameError("setting", key, [prefix + k for k in values])
        if not _same_kind(known[name], value):
            cure = "; give true or false" if isinstance(known[name], bool) else ""
            raise UsageError(f"setting {key}={value!r} is of another kind than its default {known[name]!r}{cure}")
        values[name] = value
    return values


def _same_kind(default: Any, value: Any) -> bool:
    """Whether a JSON value may stand where ``default`` stands; null may anywhere, and whose items a list has is known
    to its owner alone.
    """
    kind: Any = next((kinds for each, kinds in _KINDS if isinstance(default, each)), Any)
    if dataclasses.is_dataclass(default):
        kind = Mapping[Any, Any]
    try:
        TypeAdapter(kind | None).validate_python(value, strict=True)
    except ValidationError:
        return False
    return True


_KINDS: tuple[tuple[type, Any], ...] = (
    (bool, bool),  # before int, which it is, too
    (int, int),
    (float, float),  # or a whole number
    (str, str | int),  # a name of digits is a number to JSON
    (Mapping, Mapping[Any, Any]),
)
"""The type of a default -> what may stand in its place."""
