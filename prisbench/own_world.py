"""Models that a recipe of ours trained know Tabletop alone: how far a photo is from that world.

The measure is the embedded backbone's (``diffusion.domain``), whose autoencoder saw the same scenes.  It says whether a
photo is of their world, and nothing of how a model does there.

Knows: which folders hold such a model, that measure.  Does not know: any method.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING

from prisbench.errors import BackboneError
from prisbench.images.arrays import ImageLike
from prisbench.out_of_domain import Strangeness
from prisbench.own_task import CARD

if TYPE_CHECKING:
    from prisbench.diffusion.backbone import Backbone


def strangeness_to(folder: str | Path, image: ImageLike) -> Strangeness | None:
    """How far a photo is from what the model in a folder was trained on.

    None for a model without a card of ours, which may know anything, and where the embedded backbone is not installed.
    Raises DataError for a photo that cannot be looked at.
    """
    backbone = _measure() if (Path(folder) / CARD).is_file() else None
    if backbone is None:
        return None
    from prisbench.diffusion.domain import strangeness

    return strangeness(backbone, image)


@functools.cache
def _measure() -> Backbone | None:
    from prisbench.diffusion.loading import load_backbone

    try:
        return load_backbone()
    except BackboneError:
        return None
