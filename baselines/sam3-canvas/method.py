"""sam3-canvas: SAM 3 shown a photo beside the scene; see prisbench/segmenters/sam3_canvas.py."""

from __future__ import annotations

from prisbench import MethodOptions, Sam3Canvas


def make(options: MethodOptions) -> Sam3Canvas:
    return Sam3Canvas.make(options)
