"""On which pixels the masks of a turned photo were drawn: as it is shown, or as they are stored.

A camera held sideways stores the picture as its sensor saw it and notes in EXIF how to turn it.  Photo viewers and most
annotation tools turn it; programs that ignore EXIF draw on the stored pixels.

Knows: what is assumed, what decides it, what the user is told.  Does not know: masks, layouts.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from prisbench.datasets.remarks import Remarks
from prisbench.datasets.sources.mask_files import MaskRule


def rule_of(rule: MaskRule, orientation: int) -> MaskRule:
    """The rule for the masks of a photo; the frame does not matter to one that no right angle turns."""
    return rule if orientation >= 5 else replace(rule, frame=None, frame_option="")


def turn_of(
    photo: Path,
    orientation: int,
    upright_hw: tuple[int, int],
    rule: MaskRule,
    remarks: Remarks,
    annotated_hw: tuple[object, object] | None = None,
) -> int:
    """The EXIF orientation by which the masks of a photo are to be turned; 1 where they lie as the photo is shown.

    ``orientation``: the photo's, 1 to 8.  ``upright_hw``: its size as it is shown.  ``annotated_hw``: the size of the
    picture that was annotated, as far as the annotations record it: of a photo turned by a right angle it tells which
    one that was.  ``remarks`` takes a note of what is assumed, unless ``rule.frame`` says it.
    """
    if orientation == 1 or rule.frame is not None:
        return orientation if rule.frame == "raw" else 1
    stored_hw = upright_hw[::-1] if orientation >= 5 else upright_hw
    by_size = annotated_hw in (upright_hw, stored_hw) and stored_hw != upright_hw
    raw = by_size and annotated_hw == stored_hw
    drawn = "its stored pixels" if raw else "the photo as it is shown"
    other = "upright" if raw else "raw"
    why = "the size that is recorded with them is its size" if by_size else f"else say {rule.frame_option}{other}"
    remarks.add(
        f"photos turned by their EXIF orientation, their masks taken as drawn on {drawn} ({why})",
        photo,
        f"orientation {orientation}",
    )
    return orientation if raw else 1
