"""A frozen latent diffusion model: loading it, photos to latents and back, prompts to embeddings, noise.

Knows: diffusers' and transformers' model classes and the folder format of a pipeline; nothing else in prisbench does.
Does not know: attention, masks, how a concept is learned.

Nothing here changes a model after loading.  Learned vectors enter a single call of the text encoder; randomness is a
hash of content, so the noise of an image does not depend on what was computed before it.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0
from diffusers.utils import logging as diffusers_logging
from huggingface_hub import snapshot_download
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPTextModel, CLIPTokenizer
from transformers.utils import logging as transformers_logging

from prisbench.diffusion.prompts import Prompt
from prisbench.errors import BackboneError, DataError
from prisbench.photos import resize_to

EMBEDDED = Path(__file__).parent / "embedded"
"""The pipeline folder that comes with prisbench."""

PADDING_RGB = (123, 117, 104)
"""The mean colour of photographs, as the published localizer pads (Text2Mask, ``scripts/SD_seg.py``)."""

NARROWEST = 8
"""A photo whose sides differ by more than this factor is refused."""

SMALLEST_SIDE_PX = 16


@dataclass(frozen=True, eq=False)
class Backbone:
    """A frozen model.  ``id`` is its name and a hash of its weights; ``family`` says which presets were made for it.

    The models are diffusers' and transformers' (CLIPTokenizer, CLIPTextModel, AutoencoderKL, UNet2DConditionModel);
    type checkers see through neither library, hence ``Any``.
    """

    id: str
    family: str
    tokenizer: Any
    text_encoder: Any
    vae: Any
    unet: Any
    alphas_cumprod: Float[Tensor, "steps"]
    prediction_type: str
    device: torch.device
    dtype: torch.dtype

    @property
    def vae_factor(self) -> int:
        """Pixels per latent cell, along one side."""
        return int(2 ** (len(self.vae.config["block_out_channels"]) - 1))

    @property
    def stride(self) -> int:
        """Image sides must be a multiple of this many pixels, so that every grid of the U-Net divides evenly."""
        return int(self.vae_factor * 2 ** (len(self.unet.config["block_out_channels"]) - 1))

    @property
    def native_area_px(self) -> int:
        """The image area the model was trained on."""
        size = self.unet.config["sample_size"]
        h, w = (size, size) if isinstance(size, int) else size
        return int(h * w * self.vae_factor**2)

    @property
    def token_table(self) -> Float[Tensor, "tokens d"]:
        """The text encoder's embedding of each token."""
        return cast(Tensor, self.text_encoder.get_input_embeddings().weight)


@dataclass(frozen=True)
class Geometry:
    """How a photo became the model's image: resized with its aspect kept, then padded at the bottom and the right."""

    photo_hw: tuple[int, int]
    resized_hw: tuple[int, int]
    padded_hw: tuple[int, int]

    def valid_hw(self, grid_hw: tuple[int, int]) -> tuple[int, int]:
        """The rows and columns of a grid over the padded image that show any of the photo."""
        h, w = (
            math.ceil(n * cells / padded)
            for n, cells, padded in zip(self.resized_hw, grid_hw, self.padded_hw, strict=True)
        )
        return h, w


class Encoded(NamedTuple):
    """A photo as the U-Net sees it, already scaled; the mode of the posterior, so encoding is no source of noise."""

    latents: Float[Tensor, "1 c h w"]
    geometry: Geometry


# --- loading --------------------------------------------------------------------------------------------------------


def has_embedded() -> bool:
    """Whether the embedded backbone's weights are installed."""
    return (EMBEDDED / "model_index.json").is_file()


def load_backbone(where: str | Path | None = None, device: str = "cpu", dtype: torch.dtype = torch.float32) -> Backbone:
    """The pipeline in a folder, on the hub ("owner/name"), or (None) the embedded one; frozen, safetensors only.

    Raises BackboneError, in one line, when it is not there, not such a pipeline, pickled, incomplete, or holds NaN.
    """
    folder, name = _folder(where)
    try:
        kind = json.loads((folder / "model_index.json").read_text())["_class_name"]
    except (OSError, ValueError, KeyError, TypeError):
        raise BackboneError(f"{name}: not a diffusers pipeline folder (no readable model_index.json)") from None
    if kind != "StableDiffusionPipeline":
        raise BackboneError(f"{name}: a {kind} is not supported; give a StableDiffusionPipeline (version 1 or 2)")

    def part(kind: Any, part: str) -> Any:
        if not (folder / part).is_dir():
            raise BackboneError(f"{name}: the pipeline has no {part} folder")
        return load_pretrained(kind, folder / part, dtype, f"{name}: {part}", local_files_only=True)

    tokenizer, scheduler = part(CLIPTokenizer, "tokenizer"), part(DDPMScheduler, "scheduler")
    text_encoder, vae = part(CLIPTextModel, "text_encoder"), part(AutoencoderKL, "vae")
    unet = part(UNet2DConditionModel, "unet")
    for model in (text_encoder, vae, unet):
        model.requires_grad_(False).eval().to(device)
    positions = text_encoder.config.max_position_embeddings
    tokenizer.model_max_length = min(tokenizer.model_max_length, positions)
    return Backbone(
        id=f"{name}@{_weights_hash(folder)[:12]}",
        family="embedded" if len(unet.config["block_out_channels"]) == 3 else "stable-diffusion",
        tokenizer=tokenizer,
        text_encoder=text_encoder,
        vae=vae,
        unet=unet,
        alphas_cumprod=scheduler.alphas_cumprod,
        prediction_type=scheduler.config["prediction_type"],
        device=torch.device(device),
        dtype=dtype,
    )


def _folder(where: str | Path | None) -> tuple[Path, str]:
    """A local pipeline folder, and the name it goes by."""
    if where is None:
        if not has_embedded():
            raise BackboneError(
                "the embedded backbone's weights are not installed; train them with `prisbench train-backbone`, "
                "or name another model with --backbone"
            )
        return EMBEDDED, "embedded"
    folder = Path(where).expanduser()
    if folder.is_dir():
        return folder, folder.resolve().name
    if not re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", str(where)):
        raise BackboneError(f"no such backbone folder: {where} (a hub model is named owner/name)")
    weights = [
        f"{part}/{stem}{shard}.safetensors*"
        for part, stem in (
            ("unet", "diffusion_pytorch_model"),
            ("vae", "diffusion_pytorch_model"),
            ("text_encoder", "model"),
        )
        for shard in ("", "-?????-of-?????")
    ]
    wanted = ["model_index.json", "*/config.json", "tokenizer/*", "scheduler/*", *weights]
    try:
        return Path(snapshot_download(str(where), allow_patterns=wanted)), str(where)
    except GatedRepoError:
        raise BackboneError(f"{where} is gated: accept its terms on huggingface.co and run `hf auth login`") from None
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise BackboneError(
            f"{where} is not a folder, and the hub does not give it ({type(error).__name__}); check name and network"
        ) from None


def load_pretrained(
    kind: Any, where: str | Path, dtype: torch.dtype = torch.float32, name: str | None = None, **options: Any
) -> Any:
    """``kind.from_pretrained(where)`` of diffusers or transformers, quietly; models from safetensors only, and whole.

    Raises BackboneError, in one line that begins with ``name``, when it is missing, pickled, damaged, lacks weights or
    holds NaN.
    """
    name, is_model = name or str(where), issubclass(kind, nn.Module)
    if is_model:
        options |= {"use_safetensors": True, "output_loading_info": True, "torch_dtype": dtype}
        pickled = next(Path(where).glob("*.bin"), None)
        if pickled and not any(Path(where).glob("*.safetensors")):
            raise BackboneError(
                f"{name} holds only pickled weights ({pickled.name}), never loaded; convert to safetensors"
            )
    try:
        with _quiet():
            loaded = kind.from_pretrained(where, **options)
    except Exception as error:  # whatever a damaged file provokes in the two libraries: the user mends the folder
        reason = (str(error).strip() or repr(error)).splitlines()[0]
        raise BackboneError(f"{name} cannot be loaded: {reason}") from error
    if not is_model:
        return loaded
    model, info = loaded
    if missing := sorted(info["missing_keys"]):
        raise BackboneError(f"{name} lacks {len(missing)} weights, first {missing[0]}; the file is incomplete")
    for key, tensor in model.state_dict().items():
        if not torch.isfinite(tensor).all():
            raise BackboneError(f"{name} holds NaN or infinite weights ({key}); the file is damaged")
    return model


def _weights_hash(folder: Path) -> str:
    """SHA-256 over the weights and the vocabulary; configurations carry version stamps and stay out."""
    digest = hashlib.sha256()
    for part in ("tokenizer", "text_encoder", "vae", "unet"):
        for path in sorted((folder / part).iterdir()):
            if path.suffix == ".safetensors" or path.name in ("vocab.json", "merges.txt", "tokenizer.json"):
                digest.update(f"{part}/{path.name}".encode())
                with path.open("rb") as file:
                    digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


@contextmanager
def _quiet() -> Iterator[None]:
    """No bars and no advice from the libraries while they load; what matters is raised."""
    before = transformers_logging.get_verbosity(), diffusers_logging.get_verbosity()
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    diffusers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(before[0])
        diffusers_logging.set_verbosity(before[1])
        if bars:
            transformers_logging.enable_progress_bar()


@contextmanager
def eager_attention(backbone: Backbone) -> Iterator[None]:
    """On a CPU, plain attention where the default processor stands: the same function, whose backward pass is faster.

    Measured on the embedded architecture, batch 8, 2 cores: a training step in bf16 0.16 s against 0.26 s.  Processors
    of any other kind (Custom Diffusion) stay; all are back afterwards.
    """
    default = [m for m in backbone.unet.modules() if type(getattr(m, "processor", None)) is AttnProcessor2_0]
    layers: list[Any] = default if backbone.device.type == "cpu" else []
    before = [layer.processor for layer in layers]
    try:
        for layer in layers:
            layer.set_processor(AttnProcessor())
        yield
    finally:
        for layer, processor in zip(layers, before, strict=True):
            layer.set_processor(processor)


# --- photos ---------------------------------------------------------------------------------------------------------


def fit(photo_hw: tuple[int, int], working_size: str | int, native_area_px: int, stride: int) -> Geometry:
    """The geometry of a photo.

    ``working_size`` is "native" (the model's own image area; a photo within a quarter of it keeps its pixels), a number
    n (an area of n x n), or "paper" (the long side by the aspect, 704 to 1024; Text2Mask, ``scripts/SD_seg.py``).
    Raises DataError for a photo too small or too narrow to be looked at.
    """
    h, w = photo_hw
    if min(h, w) < SMALLEST_SIDE_PX or max(h, w) > NARROWEST * min(h, w):
        raise DataError(
            f"a photo of {h} x {w} pixels (height x width) cannot be used: sides must be at least {SMALLEST_SIDE_PX} "
            f"pixels and differ by at most a factor of {NARROWEST}; crop it"
        )
    if working_size == "paper":
        aspect = max(h, w) / min(h, w)
        steps = sum(aspect > limit for limit in (1.2, 13 / 9, 1.75, 1.875, 16 / 7))
        scale = (704 + 64 * steps) / max(h, w)
    else:
        area = native_area_px if working_size == "native" else int(working_size) ** 2
        scale = math.sqrt(area / (h * w))
        if working_size == "native" and 0.8 <= scale**2 <= 1.25:
            scale = 1.0
    resized = max(1, round(h * scale)), max(1, round(w * scale))
    padded = math.ceil(resized[0] / stride) * stride, math.ceil(resized[1] / stride) * stride
    return Geometry((h, w), resized, padded)


@torch.no_grad()
def encode_image(backbone: Backbone, photo: UInt8[np.ndarray, "h w 3"], working_size: str | int = "native") -> Encoded:
    """Latents of a photo in any size; they do not depend on what else is encoded."""
    h, w = photo.shape[:2]
    geometry = fit((h, w), working_size, backbone.native_area_px, backbone.stride)
    canvas = np.empty((*geometry.padded_hw, 3), np.uint8)
    canvas[:] = PADDING_RGB
    canvas[: geometry.resized_hw[0], : geometry.resized_hw[1]] = resize_to(photo, geometry.resized_hw)
    pixels = torch.from_numpy(canvas).permute(2, 0, 1)[None].to(backbone.device, backbone.dtype) / 127.5 - 1
    posterior = backbone.vae.encode(pixels).latent_dist
    return Encoded(posterior.mode() * backbone.vae.config["scaling_factor"], geometry)


def to_photo(
    maps: Float[Tensor, "c valid_h valid_w"], grid_hw: tuple[int, int], geometry: Geometry
) -> Float[Tensor, "c h w"]:
    """Maps on the valid part of a grid, bilinear in the photo's own frame; no padding is left in them."""
    cell_h, cell_w = (padded // cells for padded, cells in zip(geometry.padded_hw, grid_hw, strict=True))
    _, h, w = maps.shape
    pixels = F.interpolate(maps[None], size=(h * cell_h, w * cell_w), mode="bilinear", align_corners=False)
    pixels = pixels[:, :, : geometry.resized_hw[0], : geometry.resized_hw[1]]
    if geometry.resized_hw != geometry.photo_hw:
        pixels = F.interpolate(pixels, size=geometry.photo_hw, mode="bilinear", align_corners=False, antialias=True)
    return pixels[0]


# --- text, noise ----------------------------------------------------------------------------------------------------


def encode_text(
    backbone: Backbone, prompts: Sequence[Prompt], vectors: Mapping[str, Float[Tensor, "_n d"]] | None = None
) -> Float[Tensor, "b t d2"]:
    """Text embeddings.  ``vectors`` maps slots to learned vectors, which stand in the token embedding's output for this
    call alone; gradients reach them and nothing else moves.
    """
    learned = [(row, *place) for row, prompt in enumerate(prompts) for place in prompt.learned]

    def place_vectors(_: nn.Module, __: Any, out: Tensor) -> Tensor | None:
        if not learned:
            return None
        assert vectors is not None, "the prompts hold learned places; their vectors must come along"
        rows, positions = (torch.tensor([place[i] for place in learned], device=out.device) for i in (0, 1))
        values = torch.stack([vectors[slot][n] for _, _, slot, n in learned])
        return out.index_put((rows, positions), values.to(out))

    ids = torch.tensor([prompt.ids for prompt in prompts], device=backbone.device)
    handle = backbone.text_encoder.get_input_embeddings().register_forward_hook(place_vectors)
    try:
        return cast(Tensor, backbone.text_encoder(input_ids=ids)[0])
    finally:
        handle.remove()


def noise(image_id: str, sample: int, shape: tuple[int, ...]) -> Float[Tensor, "..."]:
    """Standard normal noise that belongs to an image and a sample number: whatever the order, batch or device."""
    seed = int.from_bytes(hashlib.sha256(f"{image_id}:{sample}".encode()).digest()[:8], "big")
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def add_noise(
    alphas_cumprod: Float[Tensor, "steps"], latents: Float[Tensor, "*b c h w"], eps: Float[Tensor, "b c h w"], t: Tensor
) -> Float[Tensor, "b c h w"]:
    """``sqrt(abar_t) z0 + sqrt(1 - abar_t) eps`` with one timestep a row."""
    signal = alphas_cumprod.to(latents)[t.to(latents.device)][:, None, None, None]
    return signal.sqrt() * latents + (1 - signal).sqrt() * eps.to(latents)
