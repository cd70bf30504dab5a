"""The published networks of the methods that need outside weights: their sizes, and what a method asks of each.

Sizes are those of the configuration files beside the released weights, or of transformers' own defaults where these are
the released sizes; what differs from the defaults is written here, with its source.

Knows: classes of transformers, architectures of diffusion models, torch's device "meta".  Does not know: weights, GPUs,
benchmarks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from unittest import mock

PHOTOS = 5
"""Of a subject, as ``tabletop-v3`` has them."""

POINTS = 16
"""Prompts of ``sam-matching`` in a scene, at most."""

HW = (448, 576)
"""A photo of 7 : 9, as most of ``tabletop-v3`` are; only networks that keep a photo's sides' ratio look at it."""

TOKENS = {"clipseg": 77, "grounding-dino": 16, "sam3": 32}
"""Of a text.  CLIPSeg's most; what a text of ``tabletop-v3`` has about, with 6 words; what SAM 3 pads to."""


class Work(NamedTuple):
    """Operations of a scene, once; of a subject in a call; of a query; to learn a subject from ``PHOTOS`` photos."""

    scene: int = 0
    subject: int = 0
    query: int = 0
    learn: int = 0


class Network(NamedTuple):
    """``parts`` gives how many weights it has, and the operations of each part by name."""

    name: str
    parts: Callable[[], tuple[int, dict[str, int]]]


def _built(kind: Any, config: Any) -> Any:
    import torch

    with torch.device("meta"):
        network = kind(config).eval().requires_grad_(False)
    return network.to("meta")  # some are made by a constructor that knows of no device


def _weights(*networks: Any) -> int:
    return sum(parameter.numel() for network in networks for parameter in network.parameters())


def _counted(parts: Mapping[str, Callable[[], object]]) -> dict[str, int]:
    """The operations of each call."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    found = {}
    for name, call in parts.items():
        counter = FlopCounterMode(display=False)
        with torch.device("meta"), torch.no_grad(), counter:
            call()
        found[name] = counter.get_total_flops()
    return found


def _empty(*size: int) -> Any:
    import torch

    return torch.empty(*size, device="meta")


def _words(length: int) -> Any:
    import torch

    return torch.zeros(1, length, dtype=torch.long, device="meta")


def _prompted(network: Any, seen: Any, points: int) -> Any:
    import torch

    labels = torch.ones(1, points, 1, dtype=torch.int, device="meta")
    return network(image_embeddings=seen, input_points=_empty(1, points, 1, 2), input_labels=labels)


def sam_huge() -> tuple[int, dict[str, int]]:
    """``facebook/sam-vit-huge``: width, depth, heads and global layers of ``build_sam_vit_h`` (release,
    ``segment_anything/build_sam.py``)."""
    from transformers import SamConfig, SamModel

    vision = dict(
        hidden_size=1280, num_hidden_layers=32, num_attention_heads=16, global_attn_indexes=[7, 15, 23, 31]
    )  # fmt: skip
    network, features = _built(SamModel, SamConfig(vision_config=vision)), _empty(1, 256, 64, 64)
    parts = {
        "sam": lambda: network.get_image_embeddings(_empty(1, 3, 1024, 1024)),
        "mask": lambda: _prompted(network, features, 1),
        "masks": lambda: _prompted(network, features, POINTS),
    }
    return _weights(network), _counted(parts)


def sam2_large() -> tuple[int, dict[str, int]]:
    """``facebook/sam2.1-hiera-large``: ``sam2/configs/sam2.1/sam2.1_hiera_l.yaml`` of the release."""
    from transformers import Sam2Config, Sam2Model

    backbone = dict(
        model_type="sam2_hiera_det_model", hidden_size=144, num_attention_heads=2, blocks_per_stage=[2, 6, 36, 4],
        embed_dim_per_stage=[144, 288, 576, 1152], num_attention_heads_per_stage=[2, 4, 8, 16],
        global_attention_blocks=[23, 33, 43], window_positional_embedding_background_size=[7, 7],
        window_size_per_stage=[8, 4, 16, 8],
    )  # fmt: skip
    vision = dict(backbone_config=backbone, backbone_channel_list=[1152, 576, 288, 144])
    network = _built(Sam2Model, Sam2Config(vision_config=vision))
    seen: list[Any] = []
    parts = {
        "sam": lambda: seen.extend(network.get_image_embeddings(_empty(1, 3, 1024, 1024))),
        "mask": lambda: _prompted(network, seen, 1),
        "masks": lambda: _prompted(network, seen, POINTS),
    }
    return _weights(network), _counted(parts)


def clipseg() -> tuple[int, dict[str, int]]:
    """``CIDAS/clipseg-rd64-refined``: CLIP's ViT-B/16 at 352 pixels (its ``config.json``)."""
    from transformers import CLIPSegConfig, CLIPSegForImageSegmentation

    config = CLIPSegConfig(vision_config=dict(image_size=352, patch_size=16), use_complex_transposed_convolution=True)
    network = _built(CLIPSegForImageSegmentation, config)
    seen: list[Any] = []

    def look() -> None:
        found = network.clip.get_image_features(_empty(1, 3, 352, 352), output_hidden_states=True)
        seen.extend(found.hidden_states[n + 1] for n in network.extract_layers)

    parts = {
        "image": look,
        "text": lambda: network.clip.get_text_features(input_ids=_words(TOKENS["clipseg"])),
        "decoder": lambda: network.decoder(seen, _empty(1, 512)),
    }
    return _weights(network), _counted(parts)


def dinov3_large() -> tuple[int, dict[str, int]]:
    """``facebook/dinov3-vitl16-pretrain-lvd1689m``: ViT-L with four registers (arXiv 2508.10104, table 2)."""
    from transformers import DINOv3ViTConfig, DINOv3ViTModel

    from prisbench.matching.dinov3 import SIDE

    config = DINOv3ViTConfig(
        hidden_size=1024, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=16, num_register_tokens=4
    )
    network = _built(DINOv3ViTModel, config)
    h, w = (round(n * SIDE / max(HW) / 16) * 16 for n in HW)
    return _weights(network), _counted({"image": lambda: network(pixel_values=_empty(1, 3, h, w))})


def owlv2_base() -> tuple[int, dict[str, int]]:
    """``google/owlv2-base-patch16-ensemble``: ViT-B/16 at 960 pixels (its ``config.json``)."""
    from transformers import Owlv2Config, Owlv2ForObjectDetection

    network = _built(Owlv2ForObjectDetection, Owlv2Config(vision_config=dict(image_size=960, patch_size=16)))

    def look() -> None:
        features, _ = network.image_embedder(pixel_values=_empty(1, 3, 960, 960))
        network.box_predictor(features.flatten(1, 2), features)

    parts = {"look": look, "find": lambda: network.class_predictor(_empty(1, 60 * 60, 768), _empty(1, 1, 512))}
    return _weights(network), _counted(parts)


def grounding_dino_base() -> tuple[int, dict[str, int]]:
    """``IDEA-Research/grounding-dino-base``: Swin-B at 384 pixels' windows (``GroundingDINO_SwinB_cfg.py``)."""
    import torch
    from transformers import GroundingDinoConfig, GroundingDinoForObjectDetection
    from transformers.models.grounding_dino import modeling_grounding_dino as library

    swin = dict(
        model_type="swin", image_size=384, window_size=12, embed_dim=128, depths=[2, 2, 18, 2],
        num_heads=[4, 8, 16, 32], out_indices=[2, 3, 4],
    )  # fmt: skip
    config = GroundingDinoConfig(backbone_config=swin, text_config=dict(model_type="bert"), disable_custom_kernels=True)
    network = _built(GroundingDinoForObjectDetection, config)
    scale = min(800 / min(HW), 1333 / max(HW))
    h, w = (int(n * scale) for n in HW)
    pixels, mask = _empty(1, 3, h, w), torch.ones(1, h, w, dtype=torch.long, device="meta")
    words = _words(TOKENS["grounding-dino"])
    parts = {
        "look": lambda: network.model.backbone.conv_encoder(pixels, mask),
        "all": lambda: network(
            pixel_values=pixels, pixel_mask=mask, input_ids=words, token_type_ids=words, attention_mask=words + 1
        ),
    }
    with mock.patch.object(library, "torch_compilable_check", lambda *_: None):  # of numbers, which are not there
        return _weights(network), _counted(parts)


def sam3() -> tuple[int, dict[str, int]]:
    """``facebook/sam3``: transformers' defaults, which are its sizes.  The encoder of example boxes is left out."""
    from transformers import Sam3Config, Sam3Model

    network = _built(Sam3Model, Sam3Config())
    seen: list[Any] = []

    def find() -> None:
        side = _empty(72)  # its cells; the library reads their number out of a tensor, which has none here
        network.detr_decoder._get_coords = lambda *_, **__: (side, side)
        network(vision_embeds=seen[0], text_embeds=seen[1])

    parts = {
        "image": lambda: seen.append(network.get_vision_features(pixel_values=_empty(1, 3, 1008, 1008))),
        "text": lambda: seen.append(network.get_text_features(input_ids=_words(TOKENS["sam3"]))),
        "find": find,
    }
    return _weights(network), _counted(parts)


def seggpt_large() -> tuple[int, dict[str, int]]:
    """``BAAI/seggpt-vit-large``: transformers' defaults, which are its sizes; ``PHOTOS`` examples at once."""
    from transformers import SegGptConfig, SegGptForImageSegmentation

    network, one = _built(SegGptForImageSegmentation, SegGptConfig()), _empty(PHOTOS, 3, 448, 448)
    parts = {
        "draw": lambda: network(
            pixel_values=one, prompt_pixel_values=one, prompt_masks=one, feature_ensemble=PHOTOS > 1
        )
    }
    return _weights(network), _counted(parts)


def stable_diffusion() -> tuple[int, dict[str, int]]:
    """Stable Diffusion 1.5 (``diffusion/architectures.py``): its autoencoder, and eight noises up to DIFT's layer."""
    from prisbench.diffusion.features import module_features
    from prisbench.diffusion.loading import shapes_of
    from prisbench.matching.unet import CHOSEN

    (vae, unet), chosen = shapes_of("sd15-random"), CHOSEN["sd"]
    h, w = (n // 8 for n in HW)

    def look() -> None:
        vae.encode(_empty(1, 3, *HW))
        with module_features(unet, [chosen.layers]):
            unet(
                _empty(chosen.samples, 4, h, w),
                _empty(chosen.samples),
                encoder_hidden_states=_empty(chosen.samples, 77, 768),
            )

    return _weights(unet, vae), _counted({"image": look})


def stable_diffusion_words() -> tuple[int, dict[str, int]]:
    """Stable Diffusion 1.5 as ``attn`` uses it: a step of textual inversion by the recipe for photos, and a text in
    the preset ``paper``, its noises up to the last block that is read.  Reading the maps is not counted."""
    import torch
    from transformers import CLIPTextConfig, CLIPTextModel

    from prisbench.concepts.recipes import default_recipe
    from prisbench.diffusion.architectures import ARCHITECTURES
    from prisbench.diffusion.attention import transformer_blocks
    from prisbench.diffusion.features import module_features
    from prisbench.diffusion.loading import shapes_of
    from prisbench.localizer.presets import preset

    vae, unet = shapes_of("sd15-random")
    text = _built(CLIPTextModel, CLIPTextConfig(**ARCHITECTURES["sd15-random"].text[0]))
    text.get_input_embeddings().requires_grad_(True)  # the words are what is learned
    loop, settings = default_recipe("sd", "textual-inversion").loop, preset("paper", "sd")
    noises, (h, w) = settings.samples * len(settings.timesteps), (n // 8 for n in HW)
    names = {module: name for name, module in unet.named_modules()}
    spreads = transformer_blocks(unet)[settings.self_block].module  # the blocks of ``cross`` stand before it
    last = f"{names[spreads]}.attn1.to_k"

    def step() -> None:
        with torch.enable_grad():
            words = text(_words(77)).last_hidden_state
            predicted = unet(_empty(loop.batch, 4, h, w), _empty(loop.batch), words.expand(loop.batch, -1, -1)).sample
            predicted.sum().backward()

    def ask() -> None:
        words = text(_words(77)).last_hidden_state
        with module_features(unet, [last]):
            unet(_empty(noises, 4, 64, 64), _empty(noises), words.expand(noises, -1, -1))

    parts = {"image": lambda: vae.encode(_empty(1, 3, *HW)), "square": lambda: vae.encode(_empty(1, 3, 512, 512))}
    found = _counted({**parts, "step": step, "ask": ask})
    return _weights(unet, vae, text), {**found, "learn": PHOTOS * found["image"] + loop.steps * found["step"]}


SAM, SAM2 = Network("SAM ViT-H", sam_huge), Network("SAM 2.1 Hiera-L", sam2_large)
CLIPSEG, DINOV3 = Network("CLIPSeg ViT-B/16", clipseg), Network("DINOv3 ViT-L/16", dinov3_large)
OWLV2, GROUNDING = Network("OWLv2 ViT-B/16", owlv2_base), Network("Grounding DINO Swin-B", grounding_dino_base)
SAM3, SEGGPT, SD = Network("SAM 3", sam3), Network("SegGPT ViT-L", seggpt_large), Network("SD 1.5", stable_diffusion)
WORDS = Network("SD 1.5 and its text encoder", stable_diffusion_words)

Parts = Mapping[str, int]


def _persam(n: Parts) -> Work:
    """Three masks, one after the other; learned from one photo."""
    return Work(scene=n["sam"], subject=3 * n["mask"], learn=n["sam"])


def _persam_f(n: Parts) -> Work:
    return Work(scene=n["sam"], subject=3 * n["mask"], learn=n["sam"] + n["mask"])


def _matching(n: Parts) -> Work:
    return Work(scene=n["sam"], subject=n["masks"], learn=PHOTOS * n["sam"])


PUBLISHED: tuple[tuple[str, tuple[Network, ...], Callable[[Parts], Work]], ...] = (
    ("attn", (WORDS,), lambda n: Work(scene=n["square"], query=n["ask"], learn=n["learn"])),
    ("clipseg", (CLIPSEG,), lambda n: Work(scene=n["image"], query=n["text"] + n["decoder"])),
    ("dinov3-features", (DINOV3,), lambda n: Work(scene=n["image"], learn=PHOTOS * n["image"])),
    (
        "grounding-dino", (GROUNDING, SAM),
        lambda n: Work(scene=n["look"] + n["sam"], query=n["all"] - n["look"] + n["mask"]),
    ),
    (
        "owlv2-image-guided", (OWLV2, SAM),
        lambda n: Work(scene=n["look"] + n["sam"], query=n["find"] + n["mask"], learn=PHOTOS * (n["look"] + n["find"])),
    ),
    ("persam", (SAM,), _persam),
    ("persam", (SAM2,), _persam),
    ("persam-f", (SAM,), _persam_f),
    ("persam-f", (SAM2,), _persam_f),
    ("sam-matching", (SAM,), _matching),
    ("sam-matching", (SAM2,), _matching),
    ("sam3-canvas", (SAM3,), lambda n: Work(subject=n["image"] + n["find"])),
    ("sam3-noun", (SAM3,), lambda n: Work(scene=n["image"], query=n["text"] + n["find"])),
    ("seggpt", (SEGGPT,), lambda n: Work(subject=n["draw"])),
    ("unet-features", (SD,), lambda n: Work(scene=n["image"], learn=PHOTOS * n["image"])),
)  # fmt: skip
"""Method, the networks that it stands on, and what it asks of them.  A photo's canvas, its colours, the matching of
features and a text's vector that is kept are not counted."""
