"""A frozen latent diffusion model: loading it, photos to latents and back, prompts to embeddings, noise.

Stable Diffusion 1.x, 2.x and SDXL, in the folders diffusers writes; and their architectures at full size with random
weights, to measure speed and memory where no weights are.

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
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0
from diffusers.utils import logging as diffusers_logging
from huggingface_hub import snapshot_download
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer
from transformers.utils import logging as transformers_logging

from prisbench.diffusion.architectures import ARCHITECTURES, family
from prisbench.diffusion.configuration import configuration_sha256
from prisbench.diffusion.domain import FILE as DOMAIN
from prisbench.diffusion.domain import Domain, read_domain
from prisbench.diffusion.prompts import Prompt
from prisbench.errors import BackboneError, DataError, UnknownNameError, UsageError
from prisbench.images.arrays import ImageLike, as_image
from prisbench.images.photos import resize_to
from prisbench.runtime.devices import keep_freed_memory
from prisbench.runtime.seeds import seed_of

EMBEDDED = Path(__file__).parents[1] / "embedded" / "weights"
"""The pipeline folder that comes with prisbench."""

PADDING_RGB = (123, 117, 104)
"""The mean colour of photographs, as the published localizer pads (Text2Mask, ``scripts/SD_seg.py``)."""

NARROWEST = 8
"""A photo whose sides differ by more than this factor is refused."""

SMALLEST_SIDE_PX = 16

VECTORS = ("vectors", "vectors_2")
"""The names of a concept's learned vectors, those of the first and of the second text encoder."""

TIME_IDS = ("original_h", "original_w", "crop_top", "crop_left", "target_h", "target_w")
"""SDXL's micro-conditioning (arXiv 2307.01952, section 2.2), in pixels."""

TEXT_MODELS: Mapping[str, Any] = {"": CLIPTextModel, "_2": CLIPTextModelWithProjection}
"""Which class a pipeline's ``text_encoder`` and ``text_encoder_2`` have."""


@dataclass(frozen=True, eq=False)
class Backbone:
    """A frozen model.  ``id`` is its name and a hash of its weights; ``family`` says which presets were made for it:
    "embedded", "sd" (Stable Diffusion 1.x and 2.x), "sdxl", or "other".

    ``prediction_type`` is "epsilon" or "v_prediction".  The second tokenizer and text encoder are SDXL's.  SDXL's
    autoencoder is float32 whatever ``dtype`` says: in fp16 it overflows.

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
    tokenizer_2: Any = None
    text_encoder_2: Any = None
    configuration: str = ""
    """A hash of the folder's configuration files, which ``id`` leaves out; empty without a folder."""
    domain: Domain | None = None
    """What its own world looks like to it, where somebody measured that."""

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
        return math.prod(self.native_hw)

    @property
    def native_hw(self) -> tuple[int, int]:
        """The pixels of the images the model was trained on."""
        size = self.unet.config["sample_size"]
        h, w = (size, size) if isinstance(size, int) else size
        return int(h * self.vae_factor), int(w * self.vae_factor)

    @property
    def token_table(self) -> Float[Tensor, "tokens d"]:
        """The (first) text encoder's embedding of each token."""
        return self.token_tables[VECTORS[0]]

    @property
    def token_tables(self) -> dict[str, Tensor]:
        """Each text encoder's embedding of each token (tokens x d), by the name that its learned vectors have."""
        encoders = (self.text_encoder, self.text_encoder_2)
        return {
            name: encoder.get_input_embeddings().weight
            for name, encoder in zip(VECTORS, encoders, strict=True)
            if encoder is not None
        }


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


class Conditioning(NamedTuple):
    """What the U-Net hears beside the latents: ``encoder_hidden_states``, and ``added_cond_kwargs`` of SDXL."""

    states: Float[Tensor, "b t d"]
    added: dict[str, Tensor] | None

    def rows(self, which: Sequence[int] | Tensor) -> Conditioning:
        """These rows, in this order; a row may come again (``[0] * n``: n noises of the first prompt).

        Its gradients are then summed in that order.  (Indexing sums them as the cores come to it, so one more bit or
        less is a matter of chance: torch's CPU adds by atomics there.)
        """
        order = which.tolist() if isinstance(which, Tensor) else list(which)

        def taken(x: Tensor) -> Tensor:
            rows = x.unbind()
            return torch.stack([rows[i] for i in order])

        return Conditioning(taken(self.states), self.added and {name: taken(x) for name, x in self.added.items()})


# --- loading --------------------------------------------------------------------------------------------------------


def has_embedded() -> bool:
    """Whether the embedded backbone's weights are installed."""
    return (EMBEDDED / "model_index.json").is_file()


class Parts(NamedTuple):
    """The parts of a pipeline, as the two libraries make them; SDXL has two tokenizers and two text encoders."""

    tokenizers: tuple[Any, ...]
    text_encoders: tuple[Any, ...]
    vae: Any
    unet: Any
    scheduler: Any


def load_backbone(where: str | Path | None = None, device: str = "cpu", dtype: torch.dtype = torch.float32) -> Backbone:
    """The pipeline in a folder, on the hub ("owner/name"), or (None) the embedded one; frozen, safetensors only.

    A StableDiffusionPipeline or a StableDiffusionXLPipeline; or a name in ARCHITECTURES, for ``random_backbone``.
    Raises BackboneError, in one line, when it is not there, not such a pipeline, pickled, incomplete, or holds NaN.
    """
    keep_freed_memory()
    if isinstance(where, str) and where in ARCHITECTURES:
        return random_backbone(where, device=device, dtype=dtype)
    folder, name = _folder(where)
    try:
        kind = json.loads((folder / "model_index.json").read_text())["_class_name"]
    except (OSError, ValueError, KeyError, TypeError):
        raise BackboneError(f"{name}: not a diffusers pipeline folder (no readable model_index.json)") from None
    if kind not in ("StableDiffusionPipeline", "StableDiffusionXLPipeline"):
        raise BackboneError(
            f"{name}: a {kind} is not supported; give a StableDiffusionPipeline (version 1 or 2) "
            "or a StableDiffusionXLPipeline"
        )

    def part(kind: Any, part: str, dtype: torch.dtype = dtype) -> Any:
        if not (folder / part).is_dir():
            raise BackboneError(f"{name}: the pipeline has no {part} folder")
        return load_pretrained(kind, folder / part, dtype, f"{name}: {part}", local_files_only=True)

    is_xl = kind == "StableDiffusionXLPipeline"
    suffixes = ("", "_2") if is_xl else ("",)
    parts = Parts(
        tokenizers=tuple(part(CLIPTokenizer, f"tokenizer{suffix}") for suffix in suffixes),
        text_encoders=tuple(part(TEXT_MODELS[suffix], f"text_encoder{suffix}") for suffix in suffixes),
        vae=part(AutoencoderKL, "vae", torch.float32 if is_xl else dtype),
        unet=part(UNet2DConditionModel, "unet"),
        scheduler=part(DDPMScheduler, "scheduler"),
    )
    written = json.loads((folder / "scheduler" / "scheduler_config.json").read_text())
    predicts = parts.scheduler.config["prediction_type"]
    if "beta_start" not in written or predicts not in ("epsilon", "v_prediction"):
        raise BackboneError(
            f"{name}: the noise of its scheduler ({written.get('_class_name')}, prediction_type {predicts!r}) "
            "is not supported; it must have betas, and the model must predict epsilon or v"
        )
    _check_parts(name, parts)
    backbone = _assembled(f"{name}@{_weights_hash(folder)[:12]}", parts, torch.device(device), dtype)
    backbone = replace(backbone, domain=read_domain(folder))
    return replace(backbone, configuration=configuration_sha256(folder))


def _assembled(id: str, parts: Parts, device: torch.device, dtype: torch.dtype) -> Backbone:
    """The parts frozen and on the device; the first tokenizer knows how much the text encoders read."""
    for model in (*parts.text_encoders, parts.vae, parts.unet):
        model.requires_grad_(False).eval().to(device)
    tokenizer, *further_tokenizers = parts.tokenizers
    text_encoder, *further_encoders = parts.text_encoders
    positions = [encoder.config.max_position_embeddings for encoder in parts.text_encoders]
    tokenizer.model_max_length = min([t.model_max_length for t in parts.tokenizers] + positions)
    return Backbone(
        id=id,
        family=family(parts.unet.config),
        tokenizer=tokenizer,
        text_encoder=text_encoder,
        vae=parts.vae,
        unet=parts.unet,
        alphas_cumprod=parts.scheduler.alphas_cumprod,
        prediction_type=parts.scheduler.config["prediction_type"],
        device=device,
        dtype=dtype,
        tokenizer_2=further_tokenizers[0] if further_tokenizers else None,
        text_encoder_2=further_encoders[0] if further_encoders else None,
    )


def _check_parts(name: str, parts: Parts) -> None:
    """Raises BackboneError when the parts do not speak to each other in a way we know."""
    unet, vae, encoders = parts.unet.config, parts.vae.config, parts.text_encoders
    if parts.tokenizers[0].get_vocab() != parts.tokenizers[-1].get_vocab():
        raise BackboneError(f"{name}: its two tokenizers have different vocabularies, so their places would not agree")
    if unet["in_channels"] != vae["latent_channels"]:
        raise BackboneError(
            f"{name}: the U-Net reads {unet['in_channels']} channels and the autoencoder makes "
            f"{vae['latent_channels']}; models for inpainting or editing are not supported"
        )
    written = sum(encoder.config.hidden_size for encoder in encoders)
    if written != unet["cross_attention_dim"]:
        raise BackboneError(
            f"{name}: the U-Net reads text of width {unet['cross_attention_dim']}, its text encoders write {written}"
        )
    if shifted := [key for key in ("shift_factor", "latents_mean", "latents_std") if vae[key] is not None]:
        raise BackboneError(f"{name}: an autoencoder with {shifted[0]} is not supported")
    if unet["addition_embed_type"] != ("text_time" if encoders[1:] else None):
        raise BackboneError(
            f"{name}: a U-Net with addition_embed_type {unet['addition_embed_type']!r} is not supported in its pipeline"
        )
    if encoders[1:]:
        added = len(TIME_IDS) * unet["addition_time_embed_dim"] + encoders[1].config.projection_dim
        if added != unet["projection_class_embeddings_input_dim"]:
            raise BackboneError(
                f"{name}: the U-Net adds {unet['projection_class_embeddings_input_dim']} numbers to its timestep, "
                f"pooled text and sizes are {added}; give SDXL's base model"
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
        raise BackboneError(
            f"no such backbone folder: {where} (a hub model is named owner/name; with random weights there are "
            f"{', '.join(ARCHITECTURES)})"
        )
    weights = [
        f"{part}/{stem}{shard}.safetensors*"
        for part, stem in (
            ("unet", "diffusion_pytorch_model"),
            ("vae", "diffusion_pytorch_model"),
            ("text_encoder", "model"),
            ("text_encoder_2", "model"),
        )
        for shard in ("", "-?????-of-?????")
    ]
    wanted = ["model_index.json", "*/config.json", "tokenizer/*", "tokenizer_2/*", "scheduler/*", DOMAIN, *weights]
    try:
        return Path(snapshot_download(str(where), allow_patterns=wanted)), str(where)
    except GatedRepoError:
        raise BackboneError(f"{where} is gated: accept its terms on huggingface.co and run `hf auth login`") from None
    except PermissionError as error:
        raise BackboneError(
            f"{where}: no permission to write {error.filename or 'the cache of huggingface_hub'}; name another place "
            "for it in the environment's HF_HOME, or a folder with the model"
        ) from None
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
    for part in ("tokenizer", "text_encoder", "vae", "unet", "tokenizer_2", "text_encoder_2"):
        for path in sorted((folder / part).glob("*")):
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


PLAIN_CELLS = 2**21
"""Queries times keys of the largest attention that is made plainly: 1,448 cells attending to each other."""


class _PlainWhereSmall:
    """Plain attention where its matrix is small, the fused one where it would fill the memory."""

    plain, fused = AttnProcessor(), AttnProcessor2_0()

    def __call__(
        self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, *args: Any, **kwargs: Any
    ) -> Tensor:
        cells = hidden_states.shape[1]
        keys = cells if encoder_hidden_states is None else encoder_hidden_states.shape[1]
        process: Any = self.plain if cells * keys <= PLAIN_CELLS else self.fused
        return cast(Tensor, process(attn, hidden_states, encoder_hidden_states, *args, **kwargs))


@contextmanager
def eager_attention(backbone: Backbone) -> Iterator[None]:
    """On a CPU, plain attention in place of the default processor where it is small: the same function, whose backward
    pass is faster.

    Measured on the embedded architecture, batch 8, 2 cores: a training step in bf16 0.16 s against 0.26 s.  Processors
    of any other kind (Custom Diffusion) stay; all are back afterwards.
    """
    default = [m for m in backbone.unet.modules() if type(getattr(m, "processor", None)) is AttnProcessor2_0]
    layers: list[Any] = default if backbone.device.type == "cpu" else []
    before = [layer.processor for layer in layers]
    try:
        for layer in layers:
            layer.set_processor(_PlainWhereSmall())
        yield
    finally:
        for layer, processor in zip(layers, before, strict=True):
            layer.set_processor(processor)


# --- random weights -------------------------------------------------------------------------------------------------


def random_backbone(name: str, seed: int = 0, device: str = "cpu", dtype: torch.dtype = torch.float32) -> Backbone:
    """An architecture of ARCHITECTURES with the libraries' own random initialisation, made without a hub: for speed and
    memory, not for answers.  The same seed gives the same weights (rounded to ``dtype``); no other generator moves.

    Two things are not the model's: CLIP's vocabulary does not come with prisbench, so the tokenizer is the embedded
    one, padding as the real one pads, and the token tables are as small as its vocabulary.  Prompts have 77 places.
    In float32 the three need about 4, 5 and 14 GB; half precision needs as much while the U-Net is made.
    Raises UnknownNameError.
    """
    if name not in ARCHITECTURES:
        raise UnknownNameError("random backbone", name, ARCHITECTURES)
    numbers, where, called = ARCHITECTURES[name], EMBEDDED / "tokenizer", f"{name}: the embedded tokenizer"
    is_xl = len(numbers.text) == 2
    tokenizers = tuple(
        load_pretrained(CLIPTokenizer, where, name=called, model_max_length=77, pad_token=padding)
        for padding in numbers.paddings
    )
    ids = {
        "vocab_size": len(tokenizers[0]),
        "bos_token_id": tokenizers[0].bos_token_id,
        "eos_token_id": tokenizers[0].eos_token_id,
    }
    with torch.random.fork_rng(devices=[]), _quiet():
        torch.default_generator.manual_seed(seed)
        parts = Parts(
            tokenizers,
            tuple(
                kind(CLIPTextConfig(**ids, **text, pad_token_id=tokenizer.pad_token_id)).to(dtype)
                for kind, text, tokenizer in zip(TEXT_MODELS.values(), numbers.text, tokenizers, strict=False)
            ),
            AutoencoderKL(**numbers.vae).to(torch.float32 if is_xl else dtype),
            UNet2DConditionModel(**numbers.unet).to(dtype),
            DDPMScheduler(
                beta_start=0.00085,
                beta_end=0.012,
                beta_schedule="scaled_linear",
                prediction_type=numbers.prediction_type,
            ),
        )
    return _assembled(f"{name}@seed-{seed}", parts, torch.device(device), dtype)


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
def encode_image(backbone: Backbone, photo: ImageLike, working_size: str | int = "native") -> Encoded:
    """Latents of a photo in any size; they do not depend on what else is encoded."""
    photo = as_image(photo)
    h, w = photo.shape[:2]
    geometry = fit((h, w), working_size, backbone.native_area_px, backbone.stride)
    canvas = np.empty((*geometry.padded_hw, 3), np.uint8)
    canvas[:] = PADDING_RGB
    canvas[: geometry.resized_hw[0], : geometry.resized_hw[1]] = resize_to(photo, geometry.resized_hw)
    pixels = torch.from_numpy(canvas).permute(2, 0, 1)[None].to(backbone.device, backbone.vae.dtype) / 127.5 - 1
    latents = backbone.vae.encode(pixels).latent_dist.mode() * backbone.vae.config["scaling_factor"]
    return Encoded(latents.to(backbone.dtype), geometry)


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


def condition(
    backbone: Backbone,
    prompts: Sequence[Prompt],
    vectors: Mapping[str, Mapping[str, Float[Tensor, "_n _d"]]] | None,
    geometry: Geometry,
) -> Conditioning:
    """What the U-Net hears when it looks at an image of this geometry, one row a prompt.

    ``vectors`` maps slots to learned vectors by text encoder (``learned_vectors``); gradients reach them.

    SDXL reads two text encoders, the layer before the last of each, side by side; the pooled text of the second; and
    sizes: the photo's own, no crop, and the padded image's.  Its second encoder gets the first tokenizer's tokens with
    its own padding.  That is what its own tokenizer gives but for "!", which transformers takes for padding there even
    inside a text and the model's training (OpenCLIP's tokenizer) did not.
    """
    given = vectors or {}
    if backbone.text_encoder_2 is None:
        return Conditioning(encode_text(backbone, prompts, {slot: of[VECTORS[0]] for slot, of in given.items()}), None)
    paddings = [int(tokenizer.pad_token_id) for tokenizer in (backbone.tokenizer, backbone.tokenizer_2)]
    read = [
        _read(
            encoder,
            [_padded(prompt.ids, paddings[0], padding, backbone.tokenizer.eos_token_id) for prompt in prompts],
            prompts,
            {slot: of[name] for slot, of in given.items()},
            output_hidden_states=True,
        )
        for name, encoder, padding in zip(
            VECTORS, (backbone.text_encoder, backbone.text_encoder_2), paddings, strict=True
        )
    ]
    sizes = torch.tensor([*geometry.photo_hw, 0, 0, *geometry.padded_hw], dtype=torch.float32, device=backbone.device)
    return Conditioning(
        torch.cat([output.hidden_states[-2] for output in read], dim=-1),
        {"text_embeds": read[1].text_embeds, "time_ids": sizes.expand(len(prompts), -1)},
    )


def learned_vectors(
    backbone: Backbone, tensors: Mapping[str, np.ndarray], concept_id: str
) -> dict[str, Float[Tensor, "_n _d"]]:
    """A concept's vectors by text encoder, on the backbone's device; empty ones for a concept that has none.

    Raises BackboneError when their width is not the text encoder's, or one encoder has fewer than the other.
    """
    vectors = {}
    for name, table in backbone.token_tables.items():
        array = tensors.get(name, np.empty((0, table.shape[1]), np.float32))
        if array.ndim != 2 or array.shape[1] != table.shape[1]:
            raise BackboneError(f"concept {concept_id}: {name} of shape {array.shape} do not fit {backbone.id}")
        vectors[name] = torch.tensor(array).to(backbone.device)
    if len(counts := {len(tensor) for tensor in vectors.values()}) > 1:
        raise BackboneError(
            f"concept {concept_id} has {' and '.join(map(str, sorted(counts)))} vectors for the two text encoders of "
            f"{backbone.id}; learn it again"
        )
    return vectors


def encode_text(
    backbone: Backbone, prompts: Sequence[Prompt], vectors: Mapping[str, Float[Tensor, "_n d"]] | None = None
) -> Float[Tensor, "b t d2"]:
    """Text embeddings of a backbone with one text encoder.

    ``vectors`` maps slots to learned vectors, which stand in the token embedding's output for this call alone;
    gradients reach them and nothing else moves.  Raises BackboneError for SDXL: see ``condition``.
    """
    if backbone.text_encoder_2 is not None:
        raise BackboneError(f"{backbone.id} reads text through two encoders; this part of prisbench knows one")
    return cast(Tensor, _read(backbone.text_encoder, [prompt.ids for prompt in prompts], prompts, vectors)[0])


def _read(
    encoder: Any,
    ids: Sequence[tuple[int, ...]],
    prompts: Sequence[Prompt],
    vectors: Mapping[str, Tensor] | None,
    **options: bool,
) -> Any:
    """The encoder's output for ``ids``, with the vectors in the prompts' learned places."""
    learned = [(row, *place) for row, prompt in enumerate(prompts) for place in prompt.learned]

    def place_vectors(_: nn.Module, __: Any, out: Tensor) -> Tensor | None:
        if not learned:
            return None
        assert vectors is not None, "the prompts hold learned places; their vectors must come along"
        rows, positions = (torch.tensor([place[i] for place in learned], device=out.device) for i in (0, 1))
        values = torch.stack([vectors[slot][n] for _, _, slot, n in learned])
        return out.index_put((rows, positions), values.to(out))

    table = encoder.get_input_embeddings()
    handle = table.register_forward_hook(place_vectors)
    try:
        return encoder(input_ids=torch.tensor(ids, device=table.weight.device), **options)
    finally:
        handle.remove()


def _padded(ids: tuple[int, ...], old: int, new: int, eos: int) -> tuple[int, ...]:
    """The ids with another padding after the end of the text."""
    end = len(ids)
    while ids[end - 1] == old:
        end -= 1
    end += old == eos  # of the EOS that pad, the first one ends the text
    return ids[:end] + (new,) * (len(ids) - end)


def noise(image_id: str, sample: int, shape: tuple[int, ...]) -> Float[Tensor, "..."]:
    """Standard normal noise that belongs to an image and a sample number: whatever the order, batch or device."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed_of(image_id, sample)))


def add_noise(
    alphas_cumprod: Float[Tensor, "steps"], latents: Float[Tensor, "*b c h w"], eps: Float[Tensor, "b c h w"], t: Tensor
) -> Float[Tensor, "b c h w"]:
    """``sqrt(abar_t) z0 + sqrt(1 - abar_t) eps`` with one timestep a row, in float32, then rounded as the latents are.

    (``1 - abar`` of a small t is nothing but rounding error in bf16.)
    """
    signal = _signal(alphas_cumprod, t, latents.device)
    return (signal.sqrt() * latents + (1 - signal).sqrt() * eps.to(latents.device)).to(latents.dtype)


def training_target(
    backbone: Backbone, latents: Float[Tensor, "*b c h w"], eps: Float[Tensor, "b c h w"], t: Tensor
) -> Float[Tensor, "b c h w"]:
    """What the U-Net is trained to say of ``add_noise``'s result: the noise, or for a v-prediction model
    ``sqrt(abar_t) eps - sqrt(1 - abar_t) z0`` (Salimans and Ho 2022, arXiv 2202.00512, appendix D), in float32.
    """
    if backbone.prediction_type == "epsilon":
        return eps
    signal = _signal(backbone.alphas_cumprod, t, latents.device)
    return signal.sqrt() * eps.to(latents.device) - (1 - signal).sqrt() * latents


def check_timesteps(backbone: Backbone, setting: str, timesteps: Sequence[int]) -> None:
    """Raises UsageError, naming the setting, for timesteps that the model's schedule of noise does not have."""
    last = len(backbone.alphas_cumprod) - 1
    if wrong := [t for t in timesteps if not 0 <= t <= last]:
        raise UsageError(f"{setting}: there is no timestep {wrong[0]}; those of {backbone.id} go from 0 to {last}")


def _signal(alphas_cumprod: Tensor, t: Tensor, device: torch.device) -> Float[Tensor, "b 1 1 1"]:
    return alphas_cumprod.to(device, torch.float32)[t.to(device)][:, None, None, None]
