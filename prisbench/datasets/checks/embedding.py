"""Embeddings of pictures by a vision model of transformers, for the part of the audit that is not a proof.

Knows: how such a model is loaded and called.  Does not know: what is compared, and how close counts.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, UInt8

from prisbench.datasets.checks.gallery import Embed
from prisbench.errors import BackboneError, MissingExtraError
from prisbench.runtime.hub import is_hub_id, not_here, out_of_reach


def load_embedding(name: str, device: str = "cpu") -> Embed:
    """Embeddings by a vision model of transformers, from a folder or the Hub: DINOv2, CLIP, ViT ...

    Raises MissingExtraError without torch or transformers; BackboneError when there is no such model, or it is blind.
    """
    try:
        import torch
        from PIL import Image
        from transformers import AutoImageProcessor, AutoModel
    except ImportError as error:
        raise MissingExtraError(str(error.name), "dev", "comparing embeddings") from None
    offline = out_of_reach() if is_hub_id(name) else None
    try:
        processor = AutoImageProcessor.from_pretrained(name, use_fast=False, local_files_only=offline is not None)
        model = AutoModel.from_pretrained(name, local_files_only=offline is not None).to(device).eval()
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        if offline:
            raise BackboneError(not_here(name, offline)) from None
        why = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise BackboneError(
            f"no vision model {name!r} for embeddings ({why}); name a folder or a Hub id, such as facebook/dinov2-small"
        ) from None

    def embed(image: UInt8[np.ndarray, "h w 3"]) -> Float[np.ndarray, " d"]:
        pixels = processor(images=Image.fromarray(image), return_tensors="pt").to(device)
        with torch.inference_mode():
            out = model.get_image_features(**pixels) if hasattr(model, "get_image_features") else model(**pixels)
        if not isinstance(out, torch.Tensor):
            pooled = getattr(out, "pooler_output", None)
            out = out.last_hidden_state.mean(dim=1) if pooled is None else pooled
        return out[0].reshape(-1).float().cpu().numpy()

    return embed
