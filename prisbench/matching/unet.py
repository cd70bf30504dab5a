"""Features of a diffusion model's U-Net, at one timestep, conditioned on a neutral caption.

After DIFT (Tang et al. 2023, arXiv 2306.03881), whose layer and timestep are the defaults of Stable Diffusion; the
embedded backbone's were chosen on validation subjects (``docs/decisions.md``).  The caption is the same for everything,
so that one pass serves all queries; DIFT says the class word instead.

Knows: backbones, layers by name.  Does not know: matching, truth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8

from prisbench.diffusion.backbone import Backbone
from prisbench.diffusion.encodings import latents_of
from prisbench.diffusion.features import Noised, Tap, check_layers, features_of_all
from prisbench.diffusion.images import fit
from prisbench.diffusion.loading import load_backbone
from prisbench.diffusion.noise import check_timesteps
from prisbench.diffusion.prompts import compose
from prisbench.diffusion.text import condition
from prisbench.errors import UsageError
from prisbench.images.photos import image_id
from prisbench.matching.dense import Dense
from prisbench.matching.method import FeatureMatching
from prisbench.out_of_domain import Strangeness
from prisbench.own_world import strangeness
from prisbench.runtime.files import cache_folder
from prisbench.settings import MethodOptions, share_of, take_settings

NAME = "unet-features"

CAPTION = "a photo"


class Chosen(NamedTuple):
    """The numbers of a backbone's family; ``threshold``: the presence below which the answer is "not here"."""

    layers: str
    timestep: int
    samples: int
    threshold: float


CHOSEN = {
    "embedded": Chosen("up_blocks.1.attentions.1", 1, 1, 0.25),
    "sd": Chosen("up_blocks.1", 261, 8, 0.0),
    "sdxl": Chosen("up_blocks.0", 261, 8, 0.0),
}
"""By family.  Of Stable Diffusion: DIFT's for semantic correspondence (``t`` 261, ``up_ft_index`` 1, an ensemble of 8;
README of Tsingularity/dift).  SDXL has a level less, so its first block up has the grid that DIFT's has."""


class UnetEncoder:
    """The encoder.  ``layers``: names of modules of the U-Net."""

    name = NAME

    def __init__(self, backbone: Backbone, tap: Tap) -> None:
        check_timesteps(backbone, "timestep", [tap.timestep])
        check_layers(backbone.unet, tap.layers)
        self.backbone, self.tap = backbone, tap
        self.model, self.device = backbone.id, str(backbone.device)
        self.weights = {backbone.id: f"{backbone.configuration[:16]} {backbone.dtype}"}
        self.settings: Mapping[str, Any] = {
            "layers": "+".join(tap.layers), "timestep": tap.timestep, "samples": tap.samples, "caption": CAPTION
        }  # fmt: skip
        self.encodings: Path = cache_folder() / "encodings"

    def encode(self, images: Sequence[UInt8[np.ndarray, "_h _w 3"]]) -> list[Dense]:
        noised = [
            Noised(latents_of(self.encodings, self.backbone, image, "native"), image_id(image)) for image in images
        ]
        geometry, latents = noised[0].encoded.geometry, noised[0].encoded.latents
        prompt = compose(self.backbone.tokenizer, CAPTION, {})
        text = condition(self.backbone, [prompt], None, geometry)
        grids = features_of_all(self.backbone, noised, text, self.tap)
        stride = round(latents.shape[-2] / grids[0].grid_hw[0]) * self.backbone.vae_factor
        cell_hw = tuple(
            stride * photo / resized for photo, resized in zip(geometry.photo_hw, geometry.resized_hw, strict=True)
        )
        return [Dense(each.features.cpu(), (cell_hw[0], cell_hw[1]), geometry.photo_hw) for each in grids]

    def strangeness(self, image: UInt8[np.ndarray, "h w 3"]) -> Strangeness | None:
        return strangeness(self.backbone, image)

    def cost(self, photo_hw: tuple[int, int]) -> str:
        geometry = fit(photo_hw, "native", self.backbone.native_area_px, self.backbone.stride)
        h, w = (n // self.backbone.vae_factor for n in geometry.padded_hw)
        layers = self.settings["layers"]
        return (
            f"{NAME} on {self.backbone.id}: {self.tap.samples} noises a photo, up to {layers}; latents of {h} x {w} "
            f"on {self.backbone.device}"
        )


class UnetFeatures:
    """``make`` gives the method."""

    @staticmethod
    def make(options: MethodOptions) -> FeatureMatching:
        """``--model`` names the backbone; ``--set layers=A+B timestep=... samples=... threshold=...``.

        Raises UsageError, UnknownNameError, BackboneError.
        """
        known = CHOSEN["embedded"]._asdict()
        take_settings(known, options.settings)
        key = ("backbone", options.model, options.device)
        backbone = options.shared.get(key) or load_backbone(options.model, options.device)
        options.shared[key] = backbone
        chosen = CHOSEN.get(backbone.family, CHOSEN["sd"])
        taken = take_settings(chosen._asdict(), options.settings)
        if not taken["layers"] or not (taken["samples"] or 0) > 0 or taken["timestep"] is None:
            raise UsageError(f"settings that make no sense ({taken}): layers are names, samples at least 1")
        tap = Tap(tuple(str(taken["layers"]).split("+")), int(taken["timestep"]), int(taken["samples"]))
        return FeatureMatching(UnetEncoder(backbone, tap), share_of(taken, "threshold"))
