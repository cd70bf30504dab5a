"""Seeds from content: chance that depends on what is drawn for, and on nothing that came before.

Knows: hashes.  Does not know: torch, numpy, what is drawn.
"""

from __future__ import annotations

import hashlib


def seed_of(*parts: str | int) -> int:
    """64 bits that belong to these parts in this order, as ``seed_of(image_id, 3)``: the same on
    every machine.
    """
    text = ":".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
