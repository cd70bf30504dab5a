"""sam-matching: features of the photos point, Segment Anything masks, looks choose; see prisbench/sam/matching.py."""

from __future__ import annotations

from prisbench import MethodOptions, SamMatching


def make(options: MethodOptions) -> SamMatching:
    return SamMatching.make(options)
