"""The stage that trains the autoencoder, and the one that encodes every scene by it.

Knows: the loss on pixels.  Does not know: captions, the U-Net.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from prisbench.embedded.files import SceneFolder, read_array, save_array
from prisbench.embedded.models import build_autoencoder, load_autoencoder
from prisbench.embedded.recipe import AnyRecipe
from prisbench.embedded.stage import Running, Stage, in_bfloat16, rate_shape
from prisbench.runtime.files import new_folder


def train_autoencoder(folder: SceneFolder, recipe: AnyRecipe, running: Running, start: Path | None = None) -> Any:
    """L1 + L2 + a small KL on random crops; the latents' scale is measured afterwards and stored
    in the config.  ``start`` is the folder of a pipeline whose autoencoder training begins with.
    """
    done, device = folder.out / "vae", running.device
    if (done / "config.json").exists():
        return load_autoencoder(done).to(device)
    if start is not None and not recipe.vae_steps:
        return load_autoencoder(start / "vae").to(device)
    torch.manual_seed(recipe.seed)
    vae = build_autoencoder(recipe)
    if start is not None:
        vae.load_state_dict(load_autoencoder(start / "vae").state_dict())
    vae.to(device)
    stage = Stage(folder.out / "vae-run", {"vae": vae}, recipe.vae_rate, recipe.ema)
    stacks = [read_array(folder.scenes(hw)) for hw in folder.sizes_hw]

    def loss(step: int) -> tuple[Tensor, dict[str, float]]:
        g = recipe.generator(1, step)
        x = _crops(stacks, recipe.vae_crop, recipe.vae_batch, g).to(device)
        with in_bfloat16(device):
            posterior = vae.encode(x).latent_dist
            z = posterior.mean + posterior.std * torch.randn(posterior.mean.shape, generator=g).to(device)
            y = vae.decode(z).sample
        error = y.float() - x
        l1, l2 = error.abs().mean(), error.square().mean()
        kl = posterior.kl().float().mean() / x[0].numel()
        return l1 + 2 * l2 + 2e-4 * kl, {"l1": l1.item(), "l2": l2.item(), "kl": kl.item()}

    stage.run(
        recipe.vae_steps,
        "autoencoder",
        loss,
        lambda s: recipe.vae_rate * rate_shape(s, recipe.vae_steps, 0.4),
        running.report,
        running.checkpoint_seconds,
    )
    stage.apply_average()
    vae.eval()
    with torch.no_grad():
        crops = _crops(stacks, recipe.vae_crop, 256, recipe.generator(1, 10**6))
        z = vae.encode(crops.to(device)).latent_dist.mean
    vae.register_to_config(scaling_factor=round(1 / z.std().item(), 5))
    with new_folder(done) as temp:
        vae.save_pretrained(temp)
    return vae


def _crops(stacks: Sequence[np.ndarray], side: int, n: int, g: torch.Generator) -> Tensor:
    """Squares of so many pixels out of scenes of any size, in -1..1: n 3 side side."""
    picks = []
    for _ in range(n):
        stack = stacks[int(torch.randint(len(stacks), (), generator=g))]
        at = [
            int(torch.randint(m, (), generator=g))
            for m in (len(stack), stack.shape[1] - side + 1, stack.shape[2] - side + 1)
        ]
        crop = stack[at[0], at[1] : at[1] + side, at[2] : at[2] + side]
        picks.append(torch.from_numpy(np.ascontiguousarray(crop)))
    return torch.stack(picks).permute(0, 3, 1, 2).float() / 127.5 - 1


def encode_latents(folder: SceneFolder, vae: Any, running: Running) -> None:
    """Scaled posterior means of all scenes, then of their mirror images: ``latents-<h>x<w>.npy``,
    fp16.
    """
    for hw in folder.sizes_hw:
        path = folder.latents(hw)
        if path.exists():
            continue
        scenes = read_array(folder.scenes(hw))
        both = []
        for mirrored in (False, True):
            parts = []
            for at in range(0, len(scenes), 64):
                chunk = np.array(scenes[at : at + 64, :, ::-1] if mirrored else scenes[at : at + 64])
                x = torch.from_numpy(chunk).permute(0, 3, 1, 2).float() / 127.5 - 1
                with torch.no_grad(), in_bfloat16(running.device):
                    z = vae.encode(x.to(running.device)).latent_dist.mean.float() * vae.config.scaling_factor
                parts.append(z.half().cpu().numpy())
                running.report("latents", at + mirrored * len(scenes), 2 * len(scenes), {})
            both.append(np.concatenate(parts))
        save_array(path, np.concatenate(both))
