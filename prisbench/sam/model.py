"""Segment Anything as ``SamPredictor`` of its release has it: a photo encoded once, prompts in its pixels to masks.

SAM 2 (Ravi et al. 2024, arXiv 2408.00714) is asked in the same way, about single photos.

Knows: ``SamModel`` and ``Sam2Model`` of transformers.  Does not know: subjects, methods.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from prisbench.images.seen import Seen
from prisbench.pretrained import class_of, load_network, located
from prisbench.sam.frame import Frame, in_square
from prisbench.sam.guided import GuidedTransformer

FOLDER = Path(__file__).parents[1] / "embedded" / "rivals" / "weights" / "sam"
"""Where the small model lies that comes with prisbench, trained on Tabletop."""


SECOND = ("sam2", "sam2_video")
"""What the configuration of a SAM 2 calls its class; released weights are of the second, which holds the first."""


class Masks(NamedTuple):
    """What the decoder gives: logits in the photo's pixels, the same small, and the quality that it expects."""

    logits: Float[Tensor, "n h w"]
    small: Float[Tensor, "n a a"]
    quality: Float[Tensor, " n"]


@dataclass(frozen=True)
class Prompt:
    """Points of the photo, x first, with labels (1: the thing, 0: not), a box (left, top, right, bottom), the small
    logits of an earlier answer; PerSAM's guidance.  Points or a box there must be.
    """

    points: tuple[tuple[int, int], ...]
    labels: tuple[int, ...]
    box: tuple[int, int, int, int] | tuple[float, float, float, float] | None = None
    small: Float[Tensor, "a a"] | None = None
    similarity: Float[Tensor, "1 1 1 gg"] | None = None
    target: Float[Tensor, "1 1 c"] | None = None


class Sam:
    """A model on its device: "embedded", a folder or a hub id, of SAM or SAM 2.  ``side``: of its square; ``grid``: of
    its features; ``folder``: where its weights lie; ``name``: for the record of a run; ``second``: whether it is SAM 2.
    """

    def __init__(self, where: str, device: str) -> None:
        from transformers import Sam2Model, SamModel

        self.folder, self.name = located(where, FOLDER, "sam", "Segment Anything", "--set sam=facebook/sam-vit-base")
        self.second = class_of(self.folder) in SECOND
        kind = Sam2Model if self.second else SamModel
        self.network: Any = load_network(
            kind, self.folder, "facebook/sam-vit-base", device, SECOND if self.second else ()
        )
        self.network.mask_decoder.transformer = GuidedTransformer(self.network.mask_decoder.transformer)
        self.where, self.device = where, device
        config = self.network.config
        seen = config.prompt_encoder_config if self.second else config.vision_config
        self.side, self.grid = int(seen.image_size), int(seen.image_size) // int(seen.patch_size)
        self._seen = Seen(self._encode)

    def encode(self, image: UInt8[np.ndarray, "h w 3"]) -> tuple[Frame, Float[Tensor, "1 c g g"]]:
        """The photo's frame and its features."""
        return self._seen(image)

    def look_ahead(self, images: Sequence[UInt8[np.ndarray, "_h _w 3"]]) -> None:
        """Encode these photos in one pass, whatever their sizes."""
        self._seen.ahead(images)

    @torch.no_grad()
    def _encode(self, images: Sequence[UInt8[np.ndarray, "_h _w 3"]]) -> list[tuple[Frame, Float[Tensor, "1 c g g"]]]:
        frames = [Frame((image.shape[0], image.shape[1]), self.side, self.second) for image in images]
        squares = [in_square(image, frame) for image, frame in zip(images, frames, strict=True)]
        found = self.network.get_image_embeddings(torch.cat(squares).to(self.device))
        if self.second:
            *fine, found = found
            frames = [replace(frame, fine=tuple(each[n : n + 1] for each in fine)) for n, frame in enumerate(frames)]
        return [(frame, found[n : n + 1]) for n, frame in enumerate(frames)]

    @torch.no_grad()
    def decode(self, frame: Frame, features: Float[Tensor, "1 c g g"], prompt: Prompt, several: bool) -> Masks:
        """The masks that a prompt means: three of growing size, or one."""
        given: dict[str, Any] = {}
        if prompt.points:
            points = frame.points(np.array(prompt.points, float))
            given["input_points"] = torch.tensor(points, dtype=torch.float32, device=self.device)[None, None]
            given["input_labels"] = torch.tensor(prompt.labels, dtype=torch.int, device=self.device)[None, None]
        if prompt.box is not None:
            corners = frame.points(np.array(prompt.box, float).reshape(2, 2)).reshape(4)
            given["input_boxes"] = torch.tensor(corners, dtype=torch.float32, device=self.device)[None, None]
        if prompt.small is not None:
            given["input_masks"] = prompt.small[None, None]
        if prompt.similarity is not None:
            given |= {"attention_similarity": prompt.similarity, "target_embedding": prompt.target}
        found = self.network(image_embeddings=self._read(frame, features), multimask_output=several, **given)
        small = found.pred_masks[:, 0]
        return Masks(frame.to_photo(small)[0], small[0], found.iou_scores[0, 0])

    def _read(self, frame: Frame, features: Float[Tensor, "1 c g g"]) -> Any:
        """What the decoder reads of a photo."""
        return [*frame.fine, features] if self.second else features

    @torch.no_grad()
    def decode_each(
        self, frame: Frame, features: Float[Tensor, "1 c g g"], points: Sequence[tuple[int, int]]
    ) -> list[Masks]:
        """The three masks that each point of the photo alone means, in one pass."""
        if not points:
            return []
        at = torch.tensor(frame.points(np.array(points, float)), dtype=torch.float32, device=self.device)
        labels = torch.ones((1, len(points), 1), dtype=torch.int, device=self.device)
        seen = self._read(frame, features)
        found = self.network(image_embeddings=seen, input_points=at[None, :, None], input_labels=labels)
        logits = frame.to_photo(found.pred_masks[0])
        return [Masks(*each) for each in zip(logits, found.pred_masks[0], found.iou_scores[0], strict=True)]
