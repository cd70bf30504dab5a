"""The stage that trains the embedded DiT together with its text encoders.

The recipe of Stable Diffusion 3 (Esser et al. 2024, arXiv 2403.03206, section 3.1) in small: a latent and noise lie at
the ends of a straight line, the model predicts the line's direction, and places on it are drawn from a logit-normal
distribution.

Knows: the straight line, captions and their mirror images.  Does not know: pixels; masks are never shown to it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import CLIPTextModelWithProjection, CLIPTokenizer

from prisbench.embedded.denoiser import batches, read_on_from, spread_words
from prisbench.embedded.dit import build_dit, build_readers, load_dit, read_texts
from prisbench.embedded.files import SceneFolder
from prisbench.embedded.halves import Halves
from prisbench.embedded.recipe import DiTRecipe
from prisbench.embedded.stage import Running, Stage, in_bfloat16, rate_shape

STEPS = 1000
"""Timesteps: at t the noise's share is t / STEPS."""

NOISE_STAGE = 0
"""Tells its random numbers from those of other stages, which are 1 to 7.  Batches are those of the U-Net's stage."""


def train_dit(
    folder: SceneFolder, recipe: DiTRecipe, tokenizer: CLIPTokenizer, running: Running, start: Path | None = None
) -> tuple[Any, tuple[Any, Any]]:
    """Rectified flow; transformer and text encoders learn together.  Returns their running averages."""
    dit, readers = beginning(recipe, tokenizer)
    if start is not None:
        go_on_from(start, dit, readers, tokenizer)
    parts = {"dit": dit, "text": readers[0], "text_2": readers[1]}
    for part in parts.values():
        part.to(running.device)
    text_rates = {"text": recipe.text_rate, "text_2": recipe.text_rate}
    stage = Stage(folder.out / f"{recipe.architecture}-run", parts, recipe.rate, recipe.ema, text_rates)
    batch, of_rows = batches(folder, recipe, tokenizer), flow_loss(running.device)
    halves = Halves(tuple(parts.values()), None if running.device == "cpu" else 1)

    def loss(step: int) -> tuple[Tensor | None, dict[str, float]]:
        latents, tokens = batch(step)
        sigma, eps = noise(recipe, latents.shape, step)
        rows = (each.to(running.device) for each in (latents, tokens, sigma, eps))
        return None, {"loss": halves.backward(of_rows, *rows)}

    stage.run(
        recipe.steps,
        "denoiser",
        loss,
        lambda s: recipe.rate * rate_shape(s, recipe.steps, recipe.decay_share),
        running.report,
        running.checkpoint_seconds,
    )
    stage.apply_average()
    return dit.eval(), (readers[0].eval(), readers[1].eval())


def noise(recipe: DiTRecipe, shape: torch.Size, step: int) -> tuple[Tensor, Tensor]:
    """The noise's share of each latent, in 0..1: b; and the noise: b c h w.  Both are on the CPU."""
    g = recipe.generator(NOISE_STAGE, step)
    sigma = torch.sigmoid(recipe.noise_mean + recipe.noise_spread * torch.randn(shape[0], generator=g))
    return sigma, torch.randn(shape, generator=g)


def flow_loss(device: str) -> Callable[..., Tensor]:
    """``loss(dit, text, text_2, latents, tokens, sigma, eps)``: the squared error of the predicted direction, which is
    noise minus latent, a mean over rows.
    """

    def of_rows(dit: Any, text: Any, text_2: Any, *rows: Tensor) -> Tensor:
        latents, tokens, sigma, eps = rows
        share = sigma[:, None, None, None]
        with in_bfloat16(device):
            states, pooled = read_texts((text, text_2), tokens)
            noisy = (1 - share) * latents + share * eps
            predicted = dit(noisy, states, pooled, sigma * STEPS, return_dict=False)[0]
        return (predicted.float() - (eps - latents)).square().mean()

    return of_rows


def beginning(recipe: DiTRecipe, tokenizer: CLIPTokenizer) -> tuple[Any, tuple[Any, Any]]:
    """The transformer and the text encoders before the first step; words stand apart (``Recipe.token_spread``)."""
    torch.manual_seed(recipe.seed + 1)
    dit = build_dit(recipe)
    torch.manual_seed(recipe.seed + 2)
    readers = build_readers(recipe, tokenizer)
    for reader in readers:
        spread_words(reader, recipe)
    return dit, readers


def go_on_from(start: Path, dit: Any, readers: tuple[Any, Any], tokenizer: CLIPTokenizer) -> None:
    """Give all parts the weights of a finished pipeline; words and layers that it lacks as with the U-Net."""
    dit.load_state_dict(load_dit(start / "transformer").state_dict())
    for reader, part in zip(readers, ("", "_2"), strict=True):
        former = CLIPTextModelWithProjection.from_pretrained(start / f"text_encoder{part}", torch_dtype=torch.float32)
        read_on_from(former, reader, CLIPTokenizer.from_pretrained(start / f"tokenizer{part}"), tokenizer)
