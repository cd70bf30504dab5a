"""Columns of numbers -> text for a page: little-endian arrays one after the other, deflated, in base64.

Knows: how ``web/unpack.js`` reads them.  Does not know: what the numbers mean.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

_KINDS = {"u1": 2**8, "u2": 2**16, "u4": 2**32}


def packed(columns: Mapping[str, Sequence[Any]]) -> tuple[list[list[str]], bytes]:
    """The names and kinds of the columns, and their bytes: whole numbers in the narrowest kind, others as "f8"."""
    heads, data = [], []
    for name, values in columns.items():
        array = np.asarray(values)
        if array.dtype.kind == "f":
            kind = "f8"
        else:
            largest = int(array.max(initial=0))
            kind = next(kind for kind, end in _KINDS.items() if largest < end)
        heads.append([name, kind])
        data.append(array.astype(f"<{kind}").tobytes())
    return heads, b"".join(data)


def deflated(data: bytes | str) -> str:
    """Bytes, or a text in UTF-8, deflated (zlib), in base64: the same for the same data and one zlib."""
    raw: Any = data.encode() if isinstance(data, str) else data
    return base64.b64encode(zlib.compress(raw, 9)).decode("ascii")
