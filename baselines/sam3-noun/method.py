"""sam3-noun: SAM 3 (arXiv 2511.16719) asked for the class word; see prisbench/segmenters/sam3_noun.py."""

from __future__ import annotations

from prisbench import MethodOptions, Sam3Noun


def make(options: MethodOptions) -> Sam3Noun:
    return Sam3Noun.make(options)
