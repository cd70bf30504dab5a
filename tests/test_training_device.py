"""Training the backbones on another device: every operation of a step has its tensors in one place.

No GPU is asked for.  The steps run on torch's device "meta", and every operation is looked at: one that gets tensors of
two devices would fail on a GPU.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from prisbench.embedded.autoencoder import encode_latents, train_autoencoder
from prisbench.embedded.denoiser import noise_loss, train_denoiser
from prisbench.embedded.files import SceneFolder, save_array
from prisbench.embedded.models import alphas_cumprod, build_autoencoder, build_denoiser, build_text_encoder
from prisbench.embedded.recipe import DiTRecipe, Recipe
from prisbench.embedded.rectified_flow import train_dit
from prisbench.embedded.stage import Running, Stage, in_bfloat16
from prisbench.embedded.words import make_tokenizer, token_ids

HW = (16, 32)
SHARED: dict[str, Any] = {"positions": 16, "context": 16, "vae_channels": (8, 8, 8), "vae_steps": 1, "vae_batch": 2}
SHARED |= {"vae_crop": 16, "text_width": 16, "text_layers": 2, "steps": 1, "batch": 2}
UNET = Recipe(unet_channels=(8, 16, 16), **SHARED)
DIT = DiTRecipe(width=16, layers=2, heads=2, **SHARED)
THERE = Running(lambda *_: None, 1e9, "meta")

MOVES = (torch.ops.aten._to_copy, torch.ops.aten.copy_)


class OneDevice(TorchDispatchMode):
    """Raises for an operation on tensors of several devices; counts those on "meta".  Numbers alone may be anywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.counted = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        tensors = [each for each in tree_leaves((args, kwargs or {})) if isinstance(each, Tensor) and each.ndim]
        devices = {each.device.type for each in tensors}
        if len(devices) > 1 and func.overloadpacket not in MOVES:
            raise AssertionError(f"{func} has tensors of {sorted(devices)}")
        self.counted += "meta" in devices
        return func(*args, **(kwargs or {}))


@pytest.fixture
def folder(tmp_path: Path) -> SceneFolder:
    made = SceneFolder(tmp_path, (HW,))
    save_array(made.scenes(HW), np.random.default_rng(0).integers(0, 256, (4, *HW, 3), dtype=np.uint8))
    save_array(made.latents(HW), np.random.default_rng(1).normal(size=(8, 4, 4, 8)).astype(np.float16))
    made.captions(HW).write_text(json.dumps(["a red mug", "a mug", "a red mug", "red"]))
    return made


@pytest.fixture
def words(tmp_path: Path) -> Any:
    return make_tokenizer(tmp_path / "words", ["a", "red", "mug"], 16)


@pytest.fixture
def numberless(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tensors of "meta" hold no numbers: none is read, none is written, and the fused optimizer does not take them."""
    monkeypatch.setattr(Tensor, "item", lambda self: 0.5)
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda self: None)
    monkeypatch.setattr(Stage, "save", lambda self: None)
    monkeypatch.setattr(AutoencoderKL, "save_pretrained", lambda self, folder: None)


JOBS: dict[str, Callable[[SceneFolder, Any], Any]] = {
    "unet": lambda folder, words: train_denoiser(folder, UNET, words, THERE)[0],
    "sd3": lambda folder, words: train_dit(folder, DIT, words, THERE)[0],
    "autoencoder": lambda folder, words: train_autoencoder(folder, UNET, THERE),
}


@pytest.mark.usefixtures("numberless")
@pytest.mark.parametrize("job", JOBS)
def test_a_step_computes_on_its_device_alone(job: str, folder: SceneFolder, words: Any) -> None:
    with OneDevice() as seen:
        trained = JOBS[job](folder, words)
    assert {parameter.device.type for parameter in trained.parameters()} == {"meta"}
    assert seen.counted > 200, "the network, its gradients and their average were computed there"


def test_latents_are_encoded_on_the_device_and_come_back(folder: SceneFolder) -> None:
    folder.latents(HW).unlink()
    with OneDevice() as seen, pytest.raises(NotImplementedError, match="meta tensor"):
        encode_latents(folder, build_autoencoder(UNET).to("meta"), THERE)
    assert seen.counted > 20 and not folder.latents(HW).exists(), "what was there has no numbers to come back with"


def test_a_tensor_in_the_wrong_place_would_be_noticed() -> None:
    with OneDevice(), pytest.raises(AssertionError, match=r"aten.add.Tensor has tensors of \['cpu', 'meta'\]"):
        torch.ones(2, device="meta") + torch.ones(2)


def test_the_loss_on_the_cpu_is_the_published_formula_to_the_last_bit(words: Any) -> None:
    torch.manual_seed(0)
    unet, text = build_denoiser(UNET), build_text_encoder(UNET, words)
    latents, eps = torch.randn(2, 4, 4, 8), torch.randn(2, 4, 4, 8)
    tokens, t = token_ids(words, ["a red mug", "mug"], 16), torch.tensor([30, 900])
    with torch.no_grad():
        found = noise_loss(UNET, "cpu")(unet, text, latents, tokens, t, eps)
        abar = alphas_cumprod()
        a = abar[t][:, None, None, None]
        with in_bfloat16():
            predicted = unet(a.sqrt() * latents + (1 - a).sqrt() * eps, t, text(tokens).last_hidden_state).sample
        each = (predicted.float() - eps).square().mean((1, 2, 3))
        expected = ((1 / abar[t]).clamp(max=UNET.most_weight) * each).mean()
    assert torch.equal(found, expected)
