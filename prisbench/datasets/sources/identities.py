"""Values that say which thing, image or class a record is about, compared by value however they are written.

A table with an empty cell makes floats of its whole numbers, a CSV file makes texts of everything, and files are
merged.  So 14, 14.0, "14", " 14 " and "14.0" are one value.  "007" is not 7: a text with leading zeros is a name.
Texts are compared in Unicode's form NFC, without spaces around them; "Anna" and "anna" are two.  null, NaN, -1, an
empty text and the texts that tools write for a missing value ("nan", "None", "null", "<NA>") are no identity.

Knows: how values compare, and what in a set of them deserves a warning.  Does not know: any layout.
"""

from __future__ import annotations

import math
import re
import reprlib
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from prisbench.errors import DataError

LARGEST_FLOAT = 2**53
"""From here on neighbouring whole numbers are one float (IEEE 754, binary64)."""

MANY_PICTURES = 20
"""So many pictures in which every class has one identity are no accident of a small set."""

_WHOLE = re.compile(r"(-?(?:0|[1-9][0-9]*))([.]0+)?")
_NOTHING = frozenset({"nan", "NaN", "None", "null", "NULL", "<NA>", "NaT"})
_CLASS_FIELDS = frozenset({"category_id", "category", "category_name", "class", "class_id", "class_name", "label"})


def key_of(value: Any) -> str | None:
    """The text by which a value is compared: "14" for 14, 14.0, "14" and "14.0".

    None for what cannot be compared: null, true and false, lists, objects, an empty text, a float that is not finite,
    and one from ``LARGEST_FLOAT`` on, which may stand for several whole numbers.
    """
    if type(value) is int:
        return str(value)
    if isinstance(value, float):
        if not math.isfinite(value) or abs(value) >= LARGEST_FLOAT:
            return None
        return str(int(value)) if value.is_integer() else repr(value)
    if not isinstance(value, str):
        return None
    text = unicodedata.normalize("NFC", value).strip()
    whole = _WHOLE.fullmatch(text)
    if whole is None:
        return text or None
    if whole[2] and abs(int(whole[1])) >= LARGEST_FLOAT:
        return None
    return "0" if whole[1] == "-0" else whole[1]


class Use(NamedTuple):
    """An identity that a record states.  ``where`` names the record, ``picture`` and ``category`` are its own.

    ``group``: the record shows several things at once, so it is no part of one.
    """

    identity: str
    where: str
    picture: str
    category: str
    group: bool


@dataclass
class Identities:
    """The identities in one field of a set's records; ``name`` is the field's."""

    name: str
    _first: dict[str, tuple[str, Any]] = field(default_factory=dict)
    _other: list[tuple[str, Any, Any]] = field(default_factory=list)
    _nothing: list[tuple[str, str]] = field(default_factory=list)

    def read(self, value: Any, where: str) -> str | None:
        """The identity that a value states; None when it states none.

        Raises DataError, naming ``where``, for a value that cannot be compared (see ``key_of``).
        """
        if value is None or (isinstance(value, float) and math.isnan(value)):
            return None
        key = key_of(value)
        if key is None and isinstance(value, str) and not value.strip():
            return None
        if key is None:
            raise DataError(f"{where}: {self.name} is {reprlib.repr(value)}, {_why_not(value)}")
        if key == "-1":
            return None
        if key in _NOTHING:
            self._nothing.append((_short(where), key))
            return None
        kind = _kind(value)
        first = self._first.setdefault(key, (kind, value))
        if first[0] != kind:
            self._other.append((_short(where), value, first[1]))
        return key

    def warnings(self) -> list[str]:
        """One line for each thing that was decided here and that somebody may have meant otherwise."""
        lines = []
        if self._other:
            where, value, first = self._other[0]
            lines.append(
                f"{self.name}: {len(self._other)} values are written in another way than the same value before "
                f"({where}: {value!r} after {first!r}); they compare by value, so each pair is one identity"
            )
        if self._nothing:
            where, text = self._nothing[0]
            lines.append(
                f"{self.name}: {len(self._nothing)} texts are what tools write for a missing value ({where}: {text!r});"
                " they are read as no identity"
            )
        near = _near(self._first)
        if near:
            one, other = near[0]
            more = f" ({len(near) - 1} more such pairs)" if len(near) > 1 else ""
            lines.append(
                f"{self.name}: {one!r} and {other!r} differ only in case, spaces, underscores or leading zeros and are "
                f"taken as two things{more}; write them alike if they are one"
            )
        return lines


def class_warnings(name: str, uses: Sequence[Use], titles: Mapping[str, str], copies: bool = False) -> list[str]:
    """A line when the identities of a field look like classes, of which a picture may show several.

    ``titles``: category -> its noun.  The signs: the field's name; values that are the categories' own numbers or
    nouns; one identity twice in a picture, unless these are ``copies``; one identity for each category in
    ``MANY_PICTURES`` or more.
    """
    of: dict[str, set[str]] = {}
    for use in uses:
        of.setdefault(use.category, set()).add(use.identity)
    pictures = {use.picture for use in uses}
    many = len(pictures) >= MANY_PICTURES
    cure = "a subject is a particular thing: say with identity=FIELD which field tells one from another"
    example = f"every {titles[uses[0].category]!r} is {uses[0].identity!r}"
    as_named = all(_plain(use.identity) in (use.category, _plain(titles[use.category])) for use in uses)
    if name.rpartition(".")[2] in _CLASS_FIELDS or (as_named and (many or len(of) > 1)):
        return [f"identity={name} names a class, not a particular thing ({example}); {cure}"]
    shown = Counter((use.picture, use.identity) for use in uses if not use.group)
    shared = [pair for pair, n in shown.items() if n > 1]
    if shared and not copies:
        picture, identity = shared[0]
        return [
            f"identity={name}: {shown[shared[0]]} annotations of image {picture} share the identity {identity!r} (so "
            f"in {len({pair[0] for pair in shared})} of {len(pictures)} images); they are read as parts of one thing; "
            f"if they are several things, {name} names a class, and {cure}"
        ]
    if many and len(of) > 1 and len({use.identity for use in uses}) == len(of):
        return [
            f"identity={name} has one value for each of the {len(of)} categories in all {len(pictures)} images "
            f"({example}); if it names a class, {cure}"
        ]
    return []


def class_names_warning(noun: Mapping[str, str], pictures: int) -> list[str]:
    """A line when every subject of ``noun`` (subject -> noun) is called as its class, in a set of so many pictures.

    One class in fewer than ``MANY_PICTURES`` may be one thing that nobody gave another name.
    """
    as_named = all(_plain(name.rpartition(":")[2]) == _plain(title) for name, title in noun.items())
    if not noun or not as_named or (len(noun) == 1 and pictures < MANY_PICTURES):
        return []
    name = next(iter(noun))
    return [
        f"every subject is called as its class ({name.rpartition(':')[2]!r} is a {noun[name]!r}); a subject is a "
        "particular thing, so give things of one class that are not the same one names of their own"
    ]


def _short(where: str) -> str:
    """The record without the folders of its file, which differ from machine to machine."""
    return where.rpartition("/")[2]


def _plain(text: str) -> str:
    """Without case, and with single spaces where others write "_" or several."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().replace("_", " ").split())


def _kind(value: Any) -> str:
    """How a value is written: a number by its type, a text as it stands."""
    return f"text {value}" if isinstance(value, str) else type(value).__name__


def _why_not(value: Any) -> str:
    if isinstance(value, bool):
        return "which names no particular thing; give it a number or a text of its own"
    if isinstance(value, float) and not math.isfinite(value):
        return "which is no finite number; give it a number or a text of its own"
    if isinstance(value, float | str):
        return "a number so large that a float holds several as one; write it as a whole number, without a point"
    return "which is no single number or text; give one, or leave it out"


def _near(keys: Iterable[str]) -> list[tuple[str, str]]:
    """Pairs of identities that a person might have meant as one."""
    groups: dict[str, list[str]] = {}
    for key in sorted(keys):
        plain = _plain(key)
        number = re.fullmatch(r"0+([0-9]+)", plain)
        groups.setdefault(number[1] if number else plain, []).append(key)
    return [(found[0], found[1]) for found in groups.values() if len(found) > 1]
