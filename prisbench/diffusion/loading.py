"""Pipelines into memory: a folder that diffusers wrote, the hub, the embedded one, or random weights.

Stable Diffusion 1.x, 2.x and SDXL, and transformers (``diffusion.pipelines``); and the U-Nets' architectures at full
size with random weights, to measure speed and memory where no weights are.

Knows: diffusers' and transformers' model classes and the folder format of a pipeline.
Does not know: attention, masks, how a concept is learned.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from diffusers.utils import logging as diffusers_logging
from huggingface_hub.errors import GatedRepoError
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer
from transformers.utils import logging as transformers_logging

from prisbench.diffusion.architectures import ARCHITECTURES, family
from prisbench.diffusion.backbone import Backbone
from prisbench.diffusion.configuration import configuration_sha256
from prisbench.diffusion.domain import FILE as DOMAIN
from prisbench.diffusion.domain import read_domain
from prisbench.diffusion.pipelines import TRANSFORMERS, Source, check_quantised, load_transformer
from prisbench.diffusion.text import TIME_IDS
from prisbench.errors import BackboneError, UnknownNameError
from prisbench.runtime.devices import keep_freed_memory
from prisbench.runtime.hub import GATED, fetch, is_hub_id, not_here, out_of_reach

EMBEDDED = Path(__file__).parents[1] / "embedded" / "weights"
"""The pipeline folder that comes with prisbench."""

VOCABULARIES = ("vocab.json", "merges.txt", "tokenizer.json", "spiece.model", "chat_template.jinja")
"""What decides a text's tokens, of a tokenizer's files."""

TEXT_MODELS: Mapping[str, Any] = {"": CLIPTextModel, "_2": CLIPTextModelWithProjection}
"""Which class a pipeline's ``text_encoder`` and ``text_encoder_2`` have."""


def load_backbone(where: str | Path | None = None, device: str = "cpu", dtype: torch.dtype = torch.float32) -> Backbone:
    """The pipeline in a folder, on the hub ("owner/name"), or (None) the embedded one; frozen, safetensors only.

    A StableDiffusionPipeline, a StableDiffusionXLPipeline or one of ``pipelines.TRANSFORMERS``; or a name in
    ARCHITECTURES, for ``random_backbone``.
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
    if kind not in ("StableDiffusionPipeline", "StableDiffusionXLPipeline", *TRANSFORMERS):
        raise BackboneError(
            f"{name}: a {kind} is not supported; give a StableDiffusionPipeline (version 1 or 2) "
            f"or a StableDiffusionXLPipeline, or one of {', '.join(TRANSFORMERS)}"
        )

    def part(kind: Any, part: str, dtype: torch.dtype = dtype) -> Any:
        if not (folder / part).is_dir():
            raise BackboneError(f"{name}: the pipeline has no {part} folder")
        return load_pretrained(kind, folder / part, dtype, f"{name}: {part}", local_files_only=True)

    if kind in TRANSFORMERS:
        id = f"{name}@{_weights_hash(folder)[:12]}"
        backbone = load_transformer(Source(folder, name, kind, part), id, torch.device(device), dtype)
        return replace(backbone, domain=read_domain(folder), configuration=configuration_sha256(folder))
    is_xl = kind == "StableDiffusionXLPipeline"
    suffixes = ("", "_2") if is_xl else ("",)
    check_quantised(name, folder, ("unet", "vae", "text_encoder", "text_encoder_2"))
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
    with torch.random.fork_rng(devices=[]), quiet():
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


def shapes_of(name: str) -> tuple[AutoencoderKL, UNet2DConditionModel]:
    """Autoencoder and U-Net of an architecture of ARCHITECTURES on torch's device "meta": shapes without numbers, to
    count operations with.  Raises UnknownNameError.
    """
    if name not in ARCHITECTURES:
        raise UnknownNameError("architecture", name, ARCHITECTURES)
    numbers = ARCHITECTURES[name]
    with torch.device("meta"):
        vae, unet = AutoencoderKL(**numbers.vae), UNet2DConditionModel(**numbers.unet)
    return vae.eval().requires_grad_(False), unet.eval().requires_grad_(False)


def load_pretrained(
    kind: Any, where: str | Path, dtype: torch.dtype = torch.float32, name: str | None = None, **options: Any
) -> Any:
    """``kind.from_pretrained(where)`` of diffusers or transformers, quietly; models from safetensors only, and whole.

    Raises BackboneError, in one line that begins with ``name``, when it is missing, pickled, damaged, lacks weights or
    holds NaN.
    """
    name, is_model = name or str(where), issubclass(kind, nn.Module)
    offline = out_of_reach() if is_hub_id(where) and not options.get("local_files_only") else None
    options |= {"local_files_only": True} if offline else {}
    if is_model:
        options |= {"use_safetensors": True, "output_loading_info": True, "torch_dtype": dtype}
        pickled = next(Path(where).glob("*.bin"), None)
        if pickled and not any(Path(where).glob("*.safetensors")):
            raise BackboneError(
                f"{name} holds only pickled weights ({pickled.name}), never loaded; convert to safetensors"
            )
    try:
        with quiet():
            loaded = kind.from_pretrained(where, **options)
    except Exception as error:  # whatever a damaged file provokes in the two libraries: the user mends the folder
        if offline:
            raise BackboneError(not_here(where, offline)) from error
        if _is_gated(error):
            raise BackboneError(GATED.format(where)) from error
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


def _is_gated(error: BaseException | None) -> bool:
    """Whether the hub refused for want of somebody's consent, whatever the libraries made of that."""
    return error is not None and (isinstance(error, GatedRepoError) or _is_gated(error.__cause__ or error.__context__))


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
    if not is_hub_id(where):
        raise BackboneError(
            f"no such backbone folder: {where} (a hub model is named owner/name; with random weights there are "
            f"{', '.join(ARCHITECTURES)})"
        )
    weights = [
        f"{part}/{stem}{shard}.safetensors*"
        for part, stem in (
            ("unet", "diffusion_pytorch_model"),
            ("transformer", "diffusion_pytorch_model"),
            ("vae", "diffusion_pytorch_model"),
            ("text_encoder", "model"),
            ("text_encoder_2", "model"),
            ("text_encoder_3", "model"),
        )
        for shard in ("", "-?????-of-?????")
    ]
    wanted = ["model_index.json", "*/config.json", *(f"tokenizer{i}/*" for i in ("", "_2", "_3")), "scheduler/*"]
    wanted += [DOMAIN, *weights]
    return fetch(str(where), wanted, BackboneError), str(where)


def _weights_hash(folder: Path) -> str:
    """SHA-256 over the weights and the vocabulary; configurations carry version stamps and stay out."""
    digest = hashlib.sha256()
    later = ("transformer", "tokenizer_3", "text_encoder_3")
    for part in ("tokenizer", "text_encoder", "vae", "unet", "tokenizer_2", "text_encoder_2", *later):
        for path in sorted((folder / part).glob("*")):
            if path.suffix == ".safetensors" or path.name in VOCABULARIES:
                digest.update(f"{part}/{path.name}".encode())
                with path.open("rb") as file:
                    digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


@contextmanager
def quiet() -> Iterator[None]:
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
