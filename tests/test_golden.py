"""The published procedure, step by step: the maps of its reference runs, through the functions that users run.

PRISBENCH_GOLDEN names another folder of cases in the same format (``tests/data/golden/README.md`` defines it).
"""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import pytest
import torch
from diffusers import DDPMScheduler, UNet2DConditionModel
from safetensors.torch import load_file

from prisbench.diffusion.attention import transformer_blocks
from prisbench.diffusion.text import Conditioning
from prisbench.localizer.attend import Reading, attend, span_columns
from prisbench.localizer.background import with_background
from prisbench.localizer.maps import min_max, self_cross
from prisbench.localizer.presets import preset

OURS = Path(__file__).parent / "data" / "golden"
FOLDER = Path(os.environ.get("PRISBENCH_GOLDEN") or OURS)
CASES = sorted(FOLDER.glob("case_*.json"))


@pytest.fixture(scope="module")
def unet() -> UNet2DConditionModel:
    model = FOLDER if (FOLDER / "unet_config.json").is_file() else OURS
    unet = UNet2DConditionModel.from_config(json.loads((model / "unet_config.json").read_text()))
    weights = load_file(model / "unet_fp16.safetensors")
    unet.load_state_dict({name: weight.float() for name, weight in weights.items()})
    return unet.eval()


def test_there_are_golden_cases() -> None:
    assert CASES, f"no case_*.json in {FOLDER}"


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_the_paper_preset_gives_the_published_maps_and_labels(path: Path, unet: UNet2DConditionModel) -> None:
    case, tensors = json.loads(path.read_text()), load_file(path.with_suffix(".safetensors"))
    blocks = list(transformer_blocks(unet))
    settings = dataclasses.replace(
        preset("paper", "sd"),
        timesteps=(case["timestep"],),
        samples=len(tensors["noise"]),
        cross={blocks[i]: 1.0 for i in case["layers_cross"]},
        self_block=blocks[case["layer_self"]],
        theta=case["theta"],
        tau=case["tau"],
    )
    text = tensors["text_embeddings"]
    alphas = DDPMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012).alphas_cumprod
    timesteps = torch.full((len(tensors["noise"]),), case["timestep"])

    reading = Reading(
        unet,
        alphas,
        tensors["latents"],
        tensors["noise"],
        timesteps,
        Conditioning(text, None),
        span_columns(case["spans"], text.shape[1]),
        settings.cross,
        [settings.self_block],
    )
    maps = self_cross(attend(reading), settings)
    label = torch.from_numpy(with_background(maps.score.numpy(), settings.rule, settings.tau)).argmax(0)

    # Of this one the README promises nothing; the two U-Nets alone differ by up to 1.3e-3 in what they predict.
    assert (min_max(maps.raw[0]) - tensors["cross_attention_first_noise"]).abs().max() <= 1e-2
    assert (maps.score - tensors["self_cross"]).abs().max() <= 5e-3
    assert (label == tensors["label"]).float().mean() >= 0.985


def test_the_paper_preset_names_the_blocks_the_paper_counts(unet: UNet2DConditionModel) -> None:
    blocks = list(transformer_blocks(unet))
    assert list(preset("paper", "sd").cross) == blocks[4:9]
    assert preset("paper", "sd").self_block == blocks[11]
