"""persam-f: PerSAM-F (Zhang et al. 2023, arXiv 2305.03048) on Segment Anything; see prisbench/sam/persam.py."""

from __future__ import annotations

from prisbench import MethodOptions, PerSam

USES = ("model", "settings")


def make(options: MethodOptions) -> PerSam:
    return PerSam.make(True, options)
