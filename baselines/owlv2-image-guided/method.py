"""owlv2-image-guided: OWLv2 (arXiv 2306.09683) shown the photos, and Segment Anything; see prisbench/detection/."""

from __future__ import annotations

from prisbench import Method, MethodOptions, Owlv2


def make(options: MethodOptions) -> Method:
    return Owlv2.make(options)
