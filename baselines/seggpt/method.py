"""seggpt: SegGPT (Wang et al. 2023, arXiv 2304.03284), shown masked photos; see prisbench/segmenters/seggpt.py."""

from __future__ import annotations

from prisbench import MethodOptions, SegGpt


def make(options: MethodOptions) -> SegGpt:
    return SegGpt.make(options)
