"""Find one particular thing by text: learn a concept from a few photos, segment it in new scenes, rank the methods.

The names below are the public surface.  Each is loaded at its first use, so ``import prisbench`` costs nothing and
loads no torch; so is every room (``prisbench.images``).
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prisbench.appearance.method import FeaturesMethod as FeaturesMethod
    from prisbench.clipseg.method import ClipSegMethod as ClipSegMethod
    from prisbench.datasets.load import Dataset as Dataset
    from prisbench.datasets.load import open_dataset as open_dataset
    from prisbench.detection.grounding_dino import GroundingDino as GroundingDino
    from prisbench.detection.owlv2 import Owlv2 as Owlv2
    from prisbench.diffusion.loading import load_pretrained as load_pretrained
    from prisbench.errors import BackboneError as BackboneError
    from prisbench.errors import DataError as DataError
    from prisbench.errors import MissingExtraError as MissingExtraError
    from prisbench.errors import PrisbenchError as PrisbenchError
    from prisbench.errors import UnknownNameError as UnknownNameError
    from prisbench.errors import UsageError as UsageError
    from prisbench.errors import WriteError as WriteError
    from prisbench.images.photos import image_id as image_id
    from prisbench.images.photos import load_photo as load_photo
    from prisbench.images.photos import load_photos as load_photos
    from prisbench.localizer.method import AttentionMethod as AttentionMethod
    from prisbench.matching.dinov3 import Dinov3 as Dinov3
    from prisbench.matching.unet import UnetFeatures as UnetFeatures
    from prisbench.network_free.method import NetworkFree as NetworkFree
    from prisbench.sam.matching import SamMatching as SamMatching
    from prisbench.sam.persam import PerSam as PerSam
    from prisbench.segmenters.sam3_canvas import Sam3Canvas as Sam3Canvas
    from prisbench.segmenters.sam3_noun import Sam3Noun as Sam3Noun
    from prisbench.segmenters.seggpt import SegGpt as SegGpt
    from prisbench.settings import MethodOptions as MethodOptions
    from prisbench.settings import take_settings as take_settings
    from prisbench.types import QUERY_TYPES as QUERY_TYPES
    from prisbench.types import SLOT as SLOT
    from prisbench.types import Candidate as Candidate
    from prisbench.types import Concept as Concept
    from prisbench.types import Example as Example
    from prisbench.types import GivesCandidates as GivesCandidates
    from prisbench.types import Method as Method
    from prisbench.types import Prediction as Prediction
    from prisbench.types import Query as Query
    from prisbench.types import Subject as Subject

__version__ = "0.1.0"

_HOME = {
    "AttentionMethod": "localizer.method",
    "BackboneError": "errors",
    "Candidate": "types",
    "ClipSegMethod": "clipseg.method",
    "Concept": "types",
    "DataError": "errors",
    "Dataset": "datasets.load",
    "Dinov3": "matching.dinov3",
    "Example": "types",
    "FeaturesMethod": "appearance.method",
    "GivesCandidates": "types",
    "GroundingDino": "detection.grounding_dino",
    "Method": "types",
    "MethodOptions": "settings",
    "MissingExtraError": "errors",
    "Owlv2": "detection.owlv2",
    "PerSam": "sam.persam",
    "Prediction": "types",
    "NetworkFree": "network_free.method",
    "PrisbenchError": "errors",
    "QUERY_TYPES": "types",
    "Query": "types",
    "SLOT": "types",
    "SamMatching": "sam.matching",
    "Sam3Canvas": "segmenters.sam3_canvas",
    "Sam3Noun": "segmenters.sam3_noun",
    "SegGpt": "segmenters.seggpt",
    "Subject": "types",
    "UnetFeatures": "matching.unet",
    "UnknownNameError": "errors",
    "UsageError": "errors",
    "WriteError": "errors",
    "image_id": "images.photos",
    "load_photo": "images.photos",
    "load_photos": "images.photos",
    "load_pretrained": "diffusion.loading",
    "open_dataset": "datasets.load",
    "take_settings": "settings",
}
"""Public name -> the module it lives in."""

__all__ = ["__version__", *_HOME]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(importlib.import_module(f"prisbench.{_HOME[name]}"), name)
        globals()[name] = value
        return value
    if not name.startswith("_") and importlib.util.find_spec(f"prisbench.{name}"):
        return importlib.import_module(f"prisbench.{name}")
    raise AttributeError(f"module 'prisbench' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
