"""The stage that trains the U-Net together with its text encoder.

Knows: noise prediction, captions and their mirror images.  Does not know: pixels; masks are never
shown to it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from prisbench.embedded.files import SceneFolder, read_array
from prisbench.embedded.halves import Halves
from prisbench.embedded.models import alphas_cumprod, build_denoiser, build_text_encoder, load_denoiser
from prisbench.embedded.recipe import AnyRecipe, Recipe
from prisbench.embedded.stage import Running, Stage, in_bfloat16, rate_shape
from prisbench.embedded.words import token_ids

_OTHER_SIDE = {"left": "right", "right": "left"}


def train_denoiser(
    folder: SceneFolder,
    recipe: Recipe,
    tokenizer: CLIPTokenizer,
    running: Running,
    start: Path | None = None,
) -> tuple[Any, CLIPTextModel]:
    """Noise prediction; U-Net and text encoder learn together.  Returns their running averages."""
    unet, text = beginning(recipe, tokenizer)
    if start is not None:
        go_on_from(start, unet, text, tokenizer)
    if running.device == "cpu":  # the plain products train faster there than the fused ones
        unet.set_attn_processor(AttnProcessor())
        text.set_attn_implementation("eager")
    parts: dict[str, Any] = {"unet": unet, "text": text}
    for part in parts.values():
        part.to(running.device)
    stage = Stage(folder.out / "unet-run", parts, recipe.rate, recipe.ema, {"text": recipe.text_rate})
    batch, of_rows = batches(folder, recipe, tokenizer), noise_loss(recipe, running.device)
    halves = Halves((unet, text), None if running.device == "cpu" else 1)

    def loss(step: int) -> tuple[Tensor | None, dict[str, float]]:
        latents, tokens = batch(step)
        g = recipe.generator(3, step)
        t = _timesteps(recipe, g)
        eps = torch.randn(latents.shape, generator=g)
        rows = (each.to(running.device) for each in (latents, tokens, t, eps))
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
    return unet.eval(), text.eval()


def noise_loss(recipe: Recipe, device: str) -> Callable[..., Tensor]:
    """``loss(unet, text, latents, tokens, t, eps)``: the weighted error of the predicted noise, a mean over rows."""
    abar = alphas_cumprod().to(device)

    def of_rows(unet: Any, text: Any, latents: Tensor, tokens: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        a = abar[t][:, None, None, None]
        with in_bfloat16(device):
            context = text(tokens).last_hidden_state
            predicted = unet(a.sqrt() * latents + (1 - a).sqrt() * eps, t, context).sample
        each = (predicted.float() - eps).square().mean((1, 2, 3))
        return ((1 / abar[t]).clamp(max=recipe.most_weight) * each).mean()

    return of_rows


def beginning(recipe: Recipe, tokenizer: CLIPTokenizer) -> tuple[Any, CLIPTextModel]:
    """The U-Net and the text encoder before the first step; words stand apart
    (``Recipe.token_spread``).
    """
    torch.manual_seed(recipe.seed + 1)
    unet = build_denoiser(recipe)
    torch.manual_seed(recipe.seed + 2)
    text = build_text_encoder(recipe, tokenizer)
    spread_words(text, recipe)
    return unet, text


def spread_words(text: nn.Module, recipe: AnyRecipe) -> None:
    """Draw the embeddings of words and positions anew, so that words stand apart."""
    for name, p in text.named_parameters():
        if "token_embedding" in name:
            nn.init.normal_(p, std=recipe.token_spread)
        elif "position_embedding" in name:
            nn.init.normal_(p, std=recipe.position_spread)


def go_on_from(start: Path, unet: Any, text: CLIPTextModel, tokenizer: CLIPTokenizer) -> None:
    """Give both the weights of a finished pipeline.  A word that its tokenizer has not keeps its own embedding; a layer
    that its text encoder has not adds nothing at first, so the outputs are those of the shallower one.
    """
    unet.load_state_dict(load_denoiser(start / "unet").state_dict())
    theirs = CLIPTextModel.from_pretrained(start / "text_encoder", torch_dtype=torch.float32)
    read_on_from(theirs, text, CLIPTokenizer.from_pretrained(start / "tokenizer"), tokenizer)


def read_on_from(former: nn.Module, text: nn.Module, words: CLIPTokenizer, tokenizer: CLIPTokenizer) -> None:
    """Give a text encoder the weights of a former one, whose tokenizer is ``words``; as ``go_on_from`` says."""
    theirs = former.state_dict()
    mine = text.state_dict()
    known = words.get_vocab()
    for name, value in theirs.items():
        if "token_embedding" in name:
            for token, row in tokenizer.get_vocab().items():
                if token in known:
                    mine[name][row] = value[known[token]]
        else:
            mine[name] = value
    for name in mine.keys() - theirs.keys():
        if ".out_proj." in name or ".fc2." in name:
            mine[name] = torch.zeros_like(mine[name])
    text.load_state_dict(mine)


def averaged_denoiser(out: Path, recipe: Recipe, tokenizer: CLIPTokenizer) -> tuple[Any, CLIPTextModel, int]:
    """The running averages of the newest checkpoint and its step, also while training goes on."""
    unet, text = build_denoiser(recipe), build_text_encoder(recipe, tokenizer)
    stage = Stage(out / "unet-run", {"unet": unet, "text": text}, recipe.rate, recipe.ema)
    stage.load()
    stage.apply_average()
    return unet.eval(), text.eval(), stage.step


class Batch(NamedTuple):
    latents: Tensor
    tokens: Tensor


def batches(folder: SceneFolder, recipe: AnyRecipe, tokenizer: CLIPTokenizer) -> Callable[[int], Batch]:
    """``batch(step)``: scenes of one size, drawn with that step's own generator."""
    pools = []
    empty = token_ids(tokenizer, [""], recipe.positions)[0]
    for hw in folder.sizes_hw:
        latents = read_array(folder.latents(hw))
        plain = json.loads(folder.captions(hw).read_text())
        pools.append((latents, token_ids(tokenizer, plain + [mirror(c) for c in plain], recipe.positions)))
    if max(int((tokens != empty[-1]).sum(1).max()) for _, tokens in pools) > recipe.context - 2:
        raise AssertionError("a caption is longer than the context")

    def batch(step: int) -> Batch:
        g = recipe.generator(2, step)
        latents, tokens = pools[step % len(pools)]
        rows = torch.randint(len(latents), (recipe.batch,), generator=g)
        chosen = tokens[rows].clone()
        chosen[torch.rand(recipe.batch, generator=g) < recipe.caption_dropout] = empty
        order = rows.argsort()
        return Batch(torch.from_numpy(latents[rows[order].numpy()]).float(), chosen[order, : recipe.context])

    return batch


def mirror(caption: str) -> str:
    """The caption of the mirror image."""
    return re.sub(r"\b(left|right)(?=\b|most\b)", lambda side: _OTHER_SIDE[side[0]], caption)


def _timesteps(recipe: Recipe, g: torch.Generator) -> Tensor:
    uniform = torch.rand(recipe.batch, generator=g)
    coin = torch.rand(recipe.batch, generator=g)
    low, high = recipe.strong_noise
    strong = low + uniform * (high - low)
    return torch.where(coin < recipe.strong_noise_share, strong, uniform * 1000).long().clamp(0, 999)
