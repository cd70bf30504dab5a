"""Pipelines of diffusion transformers into memory: Stable Diffusion 3, Flux.1, Flux.2 klein, PixArt.

Knows: the model classes of these pipelines and the files of their folders.  Does not know: attention, where a folder
comes from (``diffusion.loading``).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLFlux2,
    DDPMScheduler,
    Flux2Transformer2DModel,
    FluxTransformer2DModel,
    PixArtTransformer2DModel,
    SD3Transformer2DModel,
)
from transformers import (  # type: ignore[attr-defined]
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    Qwen2TokenizerFast,
    Qwen3ForCausalLM,
    T5EncoderModel,
    T5TokenizerFast,
)

from prisbench.diffusion.backbone import FLOW, VECTORS, Backbone, pixels_a_cell
from prisbench.diffusion.families import SHORT, TEXTS, Texts, family
from prisbench.diffusion.noise import flow_alphas
from prisbench.diffusion.prompts import Section, Sections
from prisbench.diffusion.transformer import STEPS, Transformer
from prisbench.errors import BackboneError

TRANSFORMERS: Mapping[str, Any] = {
    "StableDiffusion3Pipeline": SD3Transformer2DModel,
    "FluxPipeline": FluxTransformer2DModel,
    "Flux2KleinPipeline": Flux2Transformer2DModel,
    "PixArtAlphaPipeline": PixArtTransformer2DModel,
    "PixArtSigmaPipeline": PixArtTransformer2DModel,
}
"""Pipeline class -> the class of its transformer."""

CLASSES = {kind.__name__: kind for kind in TRANSFORMERS.values()}
"""Those classes by name."""

PARTS = ("transformer", "vae", "text_encoder", "text_encoder_2", "text_encoder_3")


class Source(NamedTuple):
    """A pipeline's folder: its name for messages, its class, and what reads a part of it.

    ``part(class, part, dtype)``; raises BackboneError, in one line.
    """

    folder: Path
    name: str
    kind: str
    part: Callable[..., Any]


def load_transformer(source: Source, id: str, device: torch.device, dtype: torch.dtype) -> Backbone:
    """The pipeline as a backbone.  Raises BackboneError for parts that are missing, quantised, or do not fit."""
    check_quantised(source.name, source.folder, PARTS)
    prediction, alphas = _noise(source)
    transformer = source.part(TRANSFORMERS[source.kind], "transformer")
    short = source.kind == "FluxPipeline" and not transformer.config["guidance_embeds"]
    texts = TEXTS[SHORT if short else source.kind]
    encoders, tokenizer, second = _readers(source, texts)
    vae = source.part(AutoencoderKLFlux2 if source.kind == "Flux2KleinPipeline" else AutoencoderKL, "vae")
    _check(source.name, transformer, vae, encoders, texts)
    for model in (*encoders.values(), vae, transformer):
        model.requires_grad_(False).eval().to(device)
    network = Transformer(transformer, pixels_a_cell(vae))
    return Backbone(
        id=id,
        family=family(type(transformer).__name__, transformer.config),
        tokenizer=tokenizer,
        text_encoder=encoders["text_encoder"],
        vae=vae,
        unet=network.eval(),
        alphas_cumprod=alphas,
        prediction_type=prediction,
        device=device,
        dtype=dtype,
        tokenizer_2=second,
        text_encoder_2=encoders.get("text_encoder_2"),
        text_encoder_3=encoders.get("text_encoder_3"),
    )


def check_quantised(name: str, folder: Path, parts: Iterable[str]) -> None:
    """Raises BackboneError for a part whose weights are quantised: their layers are others, and learn nothing."""
    for part in parts:
        try:
            config = json.loads((folder / part / "config.json").read_text())
        except (OSError, ValueError):
            continue  # what loads the part says what is wrong with it
        if isinstance(config, Mapping) and (quantised := config.get("quantization_config")):
            method = quantised.get("quant_method", "unknown") if isinstance(quantised, Mapping) else "unknown"
            raise BackboneError(
                f"{name}: the weights of its {part} are quantised ({method}), which is not supported; give the plain "
                "ones, with --dtype bf16 where memory is short"
            )


def _noise(source: Source) -> tuple[str, torch.Tensor]:
    """What the model predicts, and its schedule."""
    path = source.folder / "scheduler" / "scheduler_config.json"
    if not path.parent.is_dir():
        raise BackboneError(f"{source.name}: the pipeline has no scheduler folder")
    try:
        written = json.loads(path.read_text())
        called = str(written.get("_class_name"))
    except (OSError, ValueError, AttributeError):
        raise BackboneError(f"{source.name}: its scheduler_config.json cannot be read") from None
    if source.kind.startswith("PixArt"):
        scheduler = source.part(DDPMScheduler, "scheduler")
        if "beta_start" in written and scheduler.config["prediction_type"] == "epsilon":
            return "epsilon", scheduler.alphas_cumprod
    elif called.startswith("FlowMatch") and written.get("num_train_timesteps", STEPS) == STEPS:
        return FLOW, flow_alphas(STEPS)
    raise BackboneError(
        f"{source.name}: the noise of its scheduler ({called}) is not supported; a {source.kind} has "
        + ("betas and predicts epsilon" if source.kind.startswith("PixArt") else f"flow matching of {STEPS} timesteps")
    )


def _readers(source: Source, texts: Texts) -> tuple[dict[str, Any], Sections, Any]:
    """The text encoders by part, the tokenizers as Sections, and the second tokenizer where it is CLIP's."""
    encoders: dict[str, Any] = {}
    tokenizers: dict[str, Any] = {}

    def take(part: str, model: Any, tokenizer: Any) -> None:
        tokenizers[part] = source.part(tokenizer, part.replace("text_encoder", "tokenizer"))
        encoders[part] = source.part(model, part)

    for part in texts.clip:
        take(part, CLIPTextModel if texts.pooled else CLIPTextModelWithProjection, CLIPTokenizer)
    blank = 0
    if texts.qwen:
        take(texts.qwen, Qwen3ForCausalLM, Qwen2TokenizerFast)
    if texts.t5 and texts.optional and _saved_without(source, texts.t5):
        blank = texts.length
    elif texts.t5:
        if not (source.folder / texts.t5).is_dir():
            more = "; model_index.json says that it is there" if texts.optional else ", which it cannot do without"
            raise BackboneError(f"{source.name}: the pipeline has no {texts.t5} folder (T5){more}")
        take(texts.t5, T5EncoderModel, T5TokenizerFast)

    def vectors(parts: Iterable[str]) -> tuple[str, ...]:
        numbers = {"text_encoder": 0, "text_encoder_2": 1, "text_encoder_3": 2}
        return tuple(VECTORS[numbers[part]] for part in parts)

    sections = []
    if texts.clip:
        sections.append(_clip_section([tokenizers[part] for part in texts.clip], encoders, texts, vectors(texts.clip)))
    if texts.t5 in encoders:
        t5 = tokenizers[texts.t5]
        ends, padding = (int(t5.eos_token_id),), (int(t5.pad_token_id),)
        sections.append(
            Section(
                t5, vectors([texts.t5]), (), ends, padding, texts.length, True, False, texts.lower, texts.masked, "T5"
            )
        )
    if texts.qwen:
        qwen = tokenizers[texts.qwen]
        start, end = _chat(source.name, qwen)
        padding = (int(qwen.pad_token_id),)
        sections.append(
            Section(qwen, vectors([texts.qwen]), start, end, padding, texts.length, spaced=True, name="Qwen")
        )
    sections.sort(key=lambda section: not section.rows)  # what has no rows comes last
    second = tokenizers[texts.clip[1]] if len(texts.clip) > 1 else None
    return encoders, Sections(tuple(sections), blank), second


def _saved_without(source: Source, part: str) -> bool:
    """Whether the pipeline's own index says that it has no such part."""
    return json.loads((source.folder / "model_index.json").read_text()).get(part) in (None, [None, None])


def _clip_section(tokenizers: list[Any], encoders: Mapping[str, Any], texts: Texts, names: tuple[str, ...]) -> Section:
    first = tokenizers[0]
    if any(each.get_vocab() != first.get_vocab() for each in tokenizers):
        raise BackboneError("the pipeline's two CLIP tokenizers have different vocabularies")
    positions = [int(encoders[part].config.max_position_embeddings) for part in texts.clip]
    length = min([int(each.model_max_length) for each in tokenizers] + positions)
    ends = (int(first.bos_token_id),), (int(first.eos_token_id),)
    paddings = tuple(int(each.pad_token_id) for each in tokenizers)
    return Section(first, names, *ends, paddings, length, rows=not texts.pooled, name="CLIP")


def _chat(name: str, tokenizer: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """What a chat has before and after what a user says, as tokens.  Raises BackboneError without a template."""
    mark = "\x00"
    try:
        whole = tokenizer.apply_chat_template(
            [{"role": "user", "content": mark}], tokenize=False, add_generation_prompt=True, enable_thinking=False
        )
    except Exception as error:  # whatever a template provokes: the user mends the folder
        reason = (str(error).strip() or repr(error)).splitlines()[0]
        raise BackboneError(f"{name}: the chat template of its tokenizer cannot be used: {reason}") from error
    before, _, after = whole.partition(mark)
    return tuple(tuple(tokenizer(text, add_special_tokens=False).input_ids) for text in (before, after))  # type: ignore[return-value]


def _check(name: str, transformer: Any, vae: Any, encoders: Mapping[str, Any], texts: Texts) -> None:
    """Raises BackboneError when the parts do not speak to each other in a way we know."""
    config, made = transformer.config, vae.config["latent_channels"]
    packed = 4 if type(transformer).__name__.startswith("Flux") else 1
    if config["in_channels"] != packed * made:
        raise BackboneError(
            f"{name}: the transformer reads {config['in_channels']} channels and the autoencoder makes "
            f"{packed * made}; models for inpainting or editing are not supported"
        )
    reads = config.get("joint_attention_dim") or config.get("caption_channels")
    if texts.t5 is not None and texts.t5 in encoders:
        writes = encoders[texts.t5].config.d_model
    elif texts.qwen:
        writes = 3 * encoders[texts.qwen].config.hidden_size
    else:
        writes = reads  # without a T5, CLIP's rows are filled up with zeros
    if reads != writes:
        raise BackboneError(f"{name}: the transformer reads text of width {reads}, its text encoder writes {writes}")
    if texts.clip:
        keys = "hidden_size" if texts.pooled else "projection_dim"
        pooled = sum(int(getattr(encoders[part].config, keys)) for part in texts.clip)
        if pooled != config["pooled_projection_dim"]:
            raise BackboneError(
                f"{name}: the transformer reads a vector of {config['pooled_projection_dim']} numbers for the whole "
                f"text, CLIP writes {pooled}"
            )
