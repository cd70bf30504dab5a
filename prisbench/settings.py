"""What a user may say about a method, and settings by name.

Knows: options of every method, KEY=VALUE, kinds of values.  Does not know: any method.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
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

    ``looked_at`` holds the names that were read of this object: what a user gave and nobody looks at is a mistake.
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
    looked_at: set[str] = field(default_factory=set, init=False, compare=False, repr=False)

    def __reduce__(self) -> tuple[Any, ...]:
        """Sent to another process, it is as new there: nobody has looked at it."""
        return _options, ({each.name: getattr(self, each.name) for each in dataclasses.fields(self) if each.init},)

    def __getattribute__(self, name: str) -> Any:
        if not name.startswith("__") and name != "looked_at":
            object.__getattribute__(self, "looked_at").add(name)
        elif name == "__dict__":  # vars(options)
            object.__getattribute__(self, "looked_at").update(("concept", "model", "seed", "settings"))
        return object.__getattribute__(self, name)


def _options(given: dict[str, Any]) -> MethodOptions:
    return MethodOptions(**given)


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
