"""What a reader of a set is told beside the folder: the values of its options, checked, and the key of a build.

Knows: how a value is written.  Does not know: which options a set has (``OPTIONS`` of its reader), what they mean.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from prisbench.datasets.source import DEFAULT_TEXT
from prisbench.datasets.sources.mask_files import MaskRule, parse_rule
from prisbench.errors import DataError, UsageError
from prisbench.runtime.files import cannot_read, sha256_json
from prisbench.types import SLOT

TEXT_HELP = f"what is asked, with {SLOT} once (default: {DEFAULT_TEXT!r})"
LICENCE_HELP = "the licence that is written into every row, in place of what is known of the set's"
SHARE_HELP = "share of the subjects, 0 to 1, whose queries are for choosing settings (default: 0)"
VALUE_HELP = (
    "the values of mask files that are the thing, like 255, 1,2 or 128-255 (palette indices, or the file's own grey "
    "levels; default: what is not 0, where a file has no third value, or half, where its edges are soft)"
)
FRAME_HELP = (
    "what masks were drawn on where a photo is turned by its EXIF orientation: upright (the photo as it is shown) or "
    "raw (its stored pixels); default: upright, which is said of each such photo"
)
MASK_OPTIONS = {"mask_value": VALUE_HELP, "mask_frame": FRAME_HELP}
RELATIONS_HELP = (
    "true: also queries that say where the subject stands among the things of a scene, in pairs that differ in one "
    "phrase (default: false)"
)
CUT_HELP = "true: a reference photo is the subject's box with a quarter around it; false: the whole frame"


def whole_number(options: Mapping[str, str], name: str, default: int, least: int = 1) -> int:
    """Raises UsageError when the value is not a whole number from ``least`` to a billion."""
    value = options.get(name, str(default))
    if not re.fullmatch(r"[0-9]{1,9}", value) or int(value) < least:
        raise UsageError(f"{name}={value!r}: give a whole number, {least} or more")
    return int(value)


def share(options: Mapping[str, str], name: str = "validation_share") -> float:
    """A number from 0 to 1, by default 0.  Raises UsageError."""
    value = options.get(name, "0")
    if not re.fullmatch(r"[0-9]{0,9}[.]?[0-9]{1,9}", value) or float(value) > 1:
        raise UsageError(f"{name}={value!r}: give a share from 0 to 1, like 0.2")
    return float(value)


def yes_or_no(options: Mapping[str, str], name: str, default: bool) -> bool:
    """Raises UsageError when the value is neither "true" nor "false"."""
    value = options.get(name, str(default).lower())
    if value not in ("true", "false"):
        raise UsageError(f"{name}={value!r}: give true or false")
    return value == "true"


def query_text(options: Mapping[str, str]) -> str:
    """One line with the slot in it.  Raises UsageError."""
    value = one_line(options, "text", DEFAULT_TEXT)
    if value.count(SLOT) != 1:
        raise UsageError(f"text={value!r}: it must have {SLOT} once, where the subject's own words go")
    if odd := re.search(r"{\w*}|[{}]", value.replace(SLOT, "")):
        raise UsageError(f"text={value!r}: {odd[0]!r} stands for nothing; {SLOT} is the only slot")
    return value


def one_line(options: Mapping[str, str], name: str, default: str) -> str:
    """Raises UsageError when the value is empty, has a line break or has spaces around it."""
    value = options.get(name, default)
    if not value or value != value.strip() or "\n" in value:
        raise UsageError(f"{name}={value!r}: give one line of text, without spaces around it")
    return value


def mask_rule(options: Mapping[str, str]) -> MaskRule:
    """How masks are to be read, by ``mask_value`` and ``mask_frame``.  Raises UsageError."""
    return parse_rule(options.get("mask_value"), options.get("mask_frame"), "mask_value=", "mask_frame=")


def build_key(title: str, options: Mapping[str, str], root: Path, files: Iterable[Path]) -> str:
    """sha256 of all that decides the rows: the reader, its options, and the names, sizes and times of the files.

    Raises DataError when a file is not there.
    """
    seen = []
    for path in files:
        try:
            found = path.stat()
        except OSError as error:
            raise DataError(cannot_read(path, error)) from None
        seen.append([path.relative_to(root).as_posix(), found.st_size, found.st_mtime_ns])
    return sha256_json([title, sorted(options.items()), sorted(seen)])
