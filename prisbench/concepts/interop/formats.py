"""Concepts in the files that other programs read and write, and back.

    learned-embeds    diffusers' textual inversion: ``learned_embeds.safetensors`` {token: n x d}; SDXL's second text
                      encoder has ``learned_embeds_2.safetensors`` (diffusers ``loaders/textual_inversion.py``)
    a1111             one file named as its token: {"emb_params": n x d}, of SDXL {"clip_l", "clip_g"}
    lora              diffusers and peft: ``pytorch_lora_weights.safetensors``, ``unet.<module>.lora_A.weight``, ...
    kohya             one file: ``lora_unet_<module with _ for .>.lora_down.weight``, ``.lora_up.weight``, ``.alpha``
    custom-diffusion  diffusers: ``pytorch_custom_diffusion_weights.safetensors``, the token in ``<token>.safetensors``
    folder            whole models with the concept's weights in them, as ``save_pretrained`` writes: ``unet``, and
                      ``text_encoder`` where it was changed; vectors beside them as learned-embeds

Of transformers ``lora`` and ``folder`` say ``transformer`` for ``unet``, and Flux.1 has ``learned-embeds`` for CLIP and
T5; no program is known to read learned tokens of the others.

A learned token stands before its noun here ("a photo of a <token> mug"); write it so in the other
program, too.  Only safetensors is read; a pickled file could run anything.

Knows: file names and keys.  Does not know: shapes, how anything is learned or used.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

FORMATS: Mapping[str, tuple[str, ...]] = {
    "learned-embeds": ("vectors",),
    "a1111": ("vectors",),
    "lora": ("lora",),
    "kohya": ("lora",),
    "custom-diffusion": ("vectors", "keys and values"),
    "folder": ("vectors", "lora", "keys and values", "weights"),
}
"""Format -> the kinds of tensors it can hold."""

EMBEDS = ("learned_embeds.safetensors", "learned_embeds_2.safetensors")
LORA_FILE = "pytorch_lora_weights.safetensors"
CUSTOM_FILE = "pytorch_custom_diffusion_weights.safetensors"
MODEL_FILES = {
    "unet": "diffusion_pytorch_model",
    "transformer": "diffusion_pytorch_model",
    "text_encoder": "model",
    "text_encoder_2": "model",
    "text_encoder_3": "model",
}
PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
XL_KEYS = ("clip_l", "clip_g")
FLUX_KEYS = ("clip_l", "t5")
"""Of one file for both text encoders: SDXL's, and those that diffusers' trainer of Flux.1 writes."""

CUSTOM_KEY = re.compile(
    r"(?P<block>.+\.attn2)\.processor\."
    r"(?P<which>to_[kvq]|to_out)_custom_diffusion(?P<rest>\.weight|\.0\.weight|\.0\.bias)"
)
LORA_KEY = re.compile(
    r"(?P<module>.+?)\.(?:(?P<a>lora_A(?:\.\w+)?|lora\.down|lora_down|lora_linear_layer\.down|down)\.weight"
    r"|(?P<b>lora_B(?:\.\w+)?|lora\.up|lora_up|lora_linear_layer\.up|up)\.weight|alpha)"
)
OTHER_ADAPTERS = {
    "lora_magnitude_vector": "a DoRA",
    "dora_scale": "a DoRA",
    "hada_w": "a LoHa of LyCORIS",
    "lokr_w": "a LoKr of LyCORIS",
    "oft_": "an OFT adapter",
    "boft_": "a BOFT adapter",
    "ia3_l": "an IA3 adapter",
    "vera_lambda": "a VeRA adapter",
}
"""What the keys of adapters have that no concept here can hold -> what they are."""

KEYS_AND_VALUES = re.compile(r"unet\.(?P<block>.+\.attn2)\.(?P<which>to_[kv])\.weight")
