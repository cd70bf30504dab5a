"""clipseg: CLIPSeg (Lüddecke and Ecker 2022, arXiv 2112.10003), asked with words or photos; see prisbench/clipseg/."""

from __future__ import annotations

from prisbench import ClipSegMethod, MethodOptions


def make(options: MethodOptions) -> ClipSegMethod:
    return ClipSegMethod.make(options)
