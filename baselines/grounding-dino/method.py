"""grounding-dino: Grounding DINO (Liu et al. 2023, arXiv 2303.05499) and Segment Anything; see prisbench/detection/."""

from __future__ import annotations

from prisbench import GroundingDino, Method, MethodOptions


def make(options: MethodOptions) -> Method:
    return GroundingDino.make(options)
