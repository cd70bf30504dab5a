"""The recipe of the embedded backbone: a latent diffusion pipeline trained from scratch on Tabletop's captioned scenes.

``train`` goes through five stages, each skipped when its result is on disk: draw the scenes, make the tokenizer, train
the autoencoder, encode the latents, train the U-Net together with its text encoder.  Checkpoints are safetensors and
JSON; the data and noise of step n follow from (seed, n) alone, so a resumed run goes on as if it had never stopped.

Knows: the architecture, the losses, the schedule.  Does not know: masks.  Only scenes and captions teach the backbone;
where things are is never shown to it.
"""

from __future__ import annotations

import itertools
import json
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from tokenizers import pre_tokenizers
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from prisbench.runtime.checkpoints import Checkpoint, moments, put_moments, read_checkpoint, write_checkpoint
from prisbench.runtime.devices import computes_bfloat16
from prisbench.runtime.files import new_folder, read_json, replacing, write_json
from prisbench.runtime.locks import locked
from prisbench.runtime.resume import claim
from prisbench.tabletop import render as drawing
from prisbench.tabletop import scenes as tabletop

SD_BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000}
"""Noise schedule of Stable Diffusion 1.x."""


@dataclass(frozen=True)
class Recipe:
    """Every number that shapes the embedded backbone.  Sizes in scenes, pixels, steps."""

    seed: int = 0
    scenes: int = tabletop.TRAINING_SCENES
    positions: int = 64
    """Positions the text encoder has."""
    context: int = 40
    """Tokens a prompt may have, and is padded to.  Padding takes attention and gives none: few are better."""
    vae_channels: tuple[int, ...] = (16, 32, 48)
    vae_steps: int = 3_000
    vae_batch: int = 16
    vae_crop: int = 64
    vae_rate: float = 2e-3
    unet_channels: tuple[int, ...] = (32, 64, 128)
    text_width: int = 128
    text_layers: int = 2
    steps: int = 8_600
    batch: int = 32
    rate: float = 1.5e-3
    decay_share: float = 0.25
    """The last share of the steps, over which the rate falls to zero."""
    ema: float = 0.999
    caption_dropout: float = 0.08
    strong_noise: tuple[int, int] = (450, 960)
    """``strong_noise_share`` of the timesteps come from this range, where only the caption can tell colours and
    patterns (a thing covers some 50 latent cells, so they show through any weaker noise), the rest from all; and the
    loss is divided by abar (at most ``most_weight``), as a velocity loss would weigh it.
    """
    strong_noise_share: float = 0.5
    most_weight: float = 25.0
    token_spread: float = 0.3
    """Deviation of the first token embeddings, and the text encoder's share of the learning rate: words differ from the
    first step on.  With the library's small initial embeddings and the full rate, all outputs of the text encoder
    collapsed to one direction within a few hundred steps, and stayed there."""
    position_spread: float = 0.1
    text_rate: float = 0.2


class Batch(NamedTuple):
    latents: Tensor
    tokens: Tensor


def cost(recipe: Recipe) -> str:
    """What training will take, in words.  Rates measured on two cores of a 2023 server CPU with bf16."""
    minutes = recipe.scenes / 16_000 + recipe.vae_steps * 0.19 / 60 + recipe.scenes / 8_000 + recipe.steps * 0.75 / 60
    gigabytes = recipe.scenes * (16_000 * 3 + 2 * 8_000) / 1e9 + 0.2
    slower = "" if computes_bfloat16("cpu") else " (this processor has no bfloat16: several times that)"
    return (
        f"training: {recipe.scenes} scenes, {recipe.vae_steps} + {recipe.steps} steps; about {minutes / 60:.1f} hours "
        f"on two recent cores{slower}, {gigabytes:.1f} GB of disk; interrupt it at will, the same command goes on"
    )


GRAMMAR = "a an the of and with on left right in front behind next to photo picture stripes lines dots checks band"
"""The words of captions that name no thing, colour, pattern or surface."""

Report = Callable[[str, int, int, dict[str, float]], None]
"""Called with stage, step, steps and the numbers to show."""


def train(out: Path, recipe: Recipe, report: Report = lambda *_: None, checkpoint_seconds: float = 180.0) -> Path:
    """Run the recipe into ``out`` and return the finished pipeline folder ``out/pipeline``.

    Raises DataError when ``out`` holds the beginnings of another recipe, WriteError when it cannot be written.
    """
    with locked(out):
        _claim(out, recipe)
        draw_scenes(out, recipe, report)
        tokenizer = make_tokenizer(out / "tokenizer", recipe)
        vae = train_autoencoder(out, recipe, report, checkpoint_seconds)
        encode_latents(out, recipe, vae, report)
        unet, text = train_denoiser(out, recipe, tokenizer, report, checkpoint_seconds)
        return assemble(out / "pipeline", vae, unet, text, tokenizer)


def _claim(out: Path, recipe: Recipe) -> None:
    """Write the recipe beside its results.  ``steps`` may grow on resuming: the schedule decays only at its end."""
    claim(
        out / "recipe.json",
        asdict(recipe),
        lambda changed: f"{out} holds another recipe ({changed[0].words}); choose an empty --out",
        free=("steps", "decay_share"),
    )


# ---------------------------------------------------------------------------------------------------------------------
# scenes and words


def _draw(index: int) -> tuple[np.ndarray, str]:
    scene, caption = tabletop.ordinary_scene(f"train/{index}")
    return scene.image, caption


def draw_scenes(out: Path, recipe: Recipe, report: Report) -> None:
    """``scenes-<h>x<w>.npy`` and ``captions-<h>x<w>.json``, one pair for each scene size."""
    if all(_captions(out, hw).exists() for hw in tabletop.SIZES_HW):
        return
    images: dict[tuple[int, int], list[np.ndarray]] = {hw: [] for hw in tabletop.SIZES_HW}
    captions: dict[tuple[int, int], list[str]] = {hw: [] for hw in tabletop.SIZES_HW}
    with ProcessPoolExecutor() as pool:
        for i, (image, caption) in enumerate(pool.map(_draw, range(recipe.scenes), chunksize=128)):
            h, w = image.shape[:2]
            images[h, w].append(image)
            captions[h, w].append(caption)
            if i % 500 == 0:
                report("scenes", i, recipe.scenes, {})
    for hw in tabletop.SIZES_HW:
        _save(out / f"scenes-{hw[0]}x{hw[1]}.npy", np.stack(images[hw]))
        write_json(_captions(out, hw), captions[hw])


def _save(path: Path, array: np.ndarray) -> None:
    """An .npy file, whole or not at all: a stage is skipped when its file is there."""
    with replacing(path) as temp, open(temp, "wb") as file:
        np.save(file, array, allow_pickle=False)


def _captions(out: Path, hw: tuple[int, int]) -> Path:
    return out / f"captions-{hw[0]}x{hw[1]}.json"


def _scenes(out: Path, hw: tuple[int, int]) -> np.ndarray:
    return np.load(out / f"scenes-{hw[0]}x{hw[1]}.npy", mmap_mode="r", allow_pickle=False)


def make_tokenizer(folder: Path, recipe: Recipe) -> CLIPTokenizer:
    """A byte-level CLIPTokenizer that has each of Tabletop's words as one token; any other text falls to pieces.

    One that is in the folder already is taken as it is: a run goes on with the ids it began with.
    """
    if (folder / "tokenizer.json").is_file():
        return CLIPTokenizer.from_pretrained(folder, model_max_length=recipe.context)
    words = sorted(
        {*tabletop.NOUNS, *drawing.COLOURS, *drawing.SEEN_PATTERNS, *" ".join(drawing.SURFACES).split()}
        | set(GRAMMAR.split())
    )
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = byte_pairs(words)
    vocab: dict[str, int] = {}
    for piece in [
        *alphabet,
        *(c + "</w>" for c in alphabet),
        *(a + b for a, b in merges),
        "<|startoftext|>",
        "<|endoftext|>",
    ]:
        vocab.setdefault(piece, len(vocab))
    tokenizer = CLIPTokenizer(vocab=vocab, merges=cast(Any, merges), model_max_length=recipe.context)
    for word in words:
        if len(tokenizer(word, add_special_tokens=False).input_ids) != 1:
            raise AssertionError(f"{word!r} is not one token")
    with new_folder(folder) as temp:
        tokenizer.save_pretrained(temp)
    return tokenizer


def byte_pairs(words: list[str]) -> list[tuple[str, str]]:
    """Merges that make each word one piece: always the commonest pair, of equals the first in the alphabet.

    ``tokenizers``' own trainer breaks ties by the order of a hash table, which is another one in every process.
    """
    pieces = [[*word[:-1], f"{word[-1]}</w>"] for word in words]
    merges: list[tuple[str, str]] = []
    while counts := Counter(pair for word in pieces for pair in itertools.pairwise(word)):
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        merges.append(best)
        for word in pieces:
            for i in range(len(word) - 2, -1, -1):
                if tuple(word[i : i + 2]) == best:
                    word[i : i + 2] = ["".join(best)]
    return merges


def token_ids(tokenizer: CLIPTokenizer, texts: list[str], length: int) -> Tensor:
    """Padded to ``length``, as the pipeline does."""
    encoded = tokenizer(texts, padding="max_length", max_length=length, truncation=False, return_tensors="pt")
    if encoded.input_ids.shape[1] != length:
        raise AssertionError("a caption is longer than the context")
    return encoded.input_ids


# ---------------------------------------------------------------------------------------------------------------------
# checkpoints


def _generator(recipe: Recipe, stage: int, step: int) -> torch.Generator:
    return torch.Generator().manual_seed((recipe.seed * 8 + stage) * 1_000_003 + step)


class _Run:
    """Parameters, their average and the optimizer's moments of one stage, on disk between steps."""

    def __init__(
        self,
        folder: Path,
        modules: dict[str, nn.Module],
        rate: float,
        ema: float,
        scale: dict[str, float] | None = None,
    ) -> None:
        self.folder, self.decay, self.step, self.seconds, self.log = folder, ema, 0, 0.0, list[dict[str, float]]()
        self.scale = scale or {}  # a module's share of the rate
        self.between_steps = True
        self.parameters = {f"{m}.{n}": p for m, module in modules.items() for n, p in module.named_parameters()}
        self.average = {k: p.detach().clone() for k, p in self.parameters.items()}
        groups = []
        for module in modules:
            mine = [p for k, p in self.parameters.items() if k.startswith(f"{module}.")]
            for decay, params in ((0.01, [p for p in mine if p.ndim >= 2]), (0.0, [p for p in mine if p.ndim < 2])):
                groups.append({"params": params, "weight_decay": decay, "module": module})
        self.optimizer = torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98), fused=True)

    def update(self, loss: Tensor, rate: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = rate * self.scale.get(group["module"], 1.0)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters.values(), 1.0)
        self.between_steps = False
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        keep = min(self.decay, (1 + self.step) / (10 + self.step))
        averages = list(self.average.values())
        torch._foreach_lerp_(averages, [p.detach() for p in self.parameters.values()], 1 - keep)
        self.between_steps = True

    def save(self) -> None:
        """Write the state; the log first, because rows past the state's step are dropped on loading."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.folder / "log.json", self.log)
        tensors: dict[str, Tensor] = {f"now.{k}": p for k, p in self.parameters.items()}
        tensors |= {f"average.{k}": p for k, p in self.average.items()}
        tensors |= moments(self.optimizer, self.parameters)
        header = {"step": str(self.step), "seconds": str(self.seconds)}
        write_checkpoint(self.folder / "state.safetensors", Checkpoint(tensors, header))

    def load(self) -> None:
        path = self.folder / "state.safetensors"
        if not path.exists():
            return
        tensors, header = read_checkpoint(path)
        self.step, self.seconds = int(header["step"]), float(header["seconds"])
        self.log = [row for row in read_json(self.folder / "log.json") if row["step"] <= self.step]
        with torch.no_grad():
            for k, p in self.parameters.items():
                p.copy_(tensors[f"now.{k}"])
                self.average[k].copy_(tensors[f"average.{k}"])
        put_moments(self.optimizer, self.parameters, tensors)

    def apply_average(self) -> None:
        with torch.no_grad():
            for k, p in self.parameters.items():
                p.copy_(self.average[k])

    def loop(
        self,
        steps: int,
        stage: str,
        step_loss: Callable[[int], tuple[Tensor, dict[str, float]]],
        rate: Callable[[int], float],
        report: Report,
        every: float,
    ) -> None:
        """Steps until done, saving every so many seconds and at the end; also when interrupted, unless in the middle of
        an update: then the last saved state stands.
        """
        self.load()
        saved = last = time.monotonic()
        sums: dict[str, float] = {}
        counted = 0
        try:
            while self.step < steps:
                loss, numbers = step_loss(self.step)
                self.update(loss, rate(self.step))
                now = time.monotonic()
                self.seconds += now - last
                last = now
                counted += 1
                for k, v in numbers.items():
                    sums[k] = sums.get(k, 0.0) + v
                if self.step % 50 == 0:
                    means = {k: round(v / counted, 5) for k, v in sums.items()}
                    sums, counted = {}, 0
                    self.log.append({"step": self.step, "seconds": round(self.seconds, 1), **means})
                    report(stage, self.step, steps, means)
                if now - saved > every:
                    self.save()
                    saved = time.monotonic()
        finally:
            if self.between_steps:
                self.save()


# ---------------------------------------------------------------------------------------------------------------------
# autoencoder


def build_autoencoder(recipe: Recipe) -> Any:
    c = recipe.vae_channels
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * len(c),
        up_block_types=("UpDecoderBlock2D",) * len(c),
        block_out_channels=c,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        mid_block_add_attention=False,
        sample_size=128,
    )


def train_autoencoder(out: Path, recipe: Recipe, report: Report, every: float) -> Any:
    """L1 + L2 + a small KL on random crops; the latents' scale is measured afterwards and stored in the config."""
    done = out / "vae"
    if (done / "config.json").exists():
        return AutoencoderKL.from_pretrained(done)
    torch.manual_seed(recipe.seed)
    vae = build_autoencoder(recipe)
    run = _Run(out / "vae-run", {"vae": vae}, recipe.vae_rate, recipe.ema)
    stacks = [_scenes(out, hw) for hw in tabletop.SIZES_HW]

    def crops(g: torch.Generator, n: int) -> Tensor:
        picks = []
        for _ in range(n):
            stack = stacks[int(torch.randint(len(stacks), (), generator=g))]
            at = [
                int(torch.randint(m, (), generator=g))
                for m in (len(stack), stack.shape[1] - recipe.vae_crop + 1, stack.shape[2] - recipe.vae_crop + 1)
            ]
            crop = stack[at[0], at[1] : at[1] + recipe.vae_crop, at[2] : at[2] + recipe.vae_crop]
            picks.append(torch.from_numpy(np.ascontiguousarray(crop)))
        return torch.stack(picks).permute(0, 3, 1, 2).float() / 127.5 - 1

    def loss(step: int) -> tuple[Tensor, dict[str, float]]:
        g = _generator(recipe, 1, step)
        x = crops(g, recipe.vae_batch)
        with _bfloat16():
            posterior = vae.encode(x).latent_dist
            z = posterior.mean + posterior.std * torch.randn(posterior.mean.shape, generator=g)
            y = vae.decode(z).sample
        error = y.float() - x
        l1, l2 = error.abs().mean(), error.square().mean()
        kl = posterior.kl().float().mean() / x[0].numel()
        return l1 + 2 * l2 + 2e-4 * kl, {"l1": l1.item(), "l2": l2.item(), "kl": kl.item()}

    run.loop(
        recipe.vae_steps,
        "autoencoder",
        loss,
        lambda s: recipe.vae_rate * _shape(s, recipe.vae_steps, 0.4),
        report,
        every,
    )
    run.apply_average()
    vae.eval()
    with torch.no_grad():
        z = vae.encode(crops(_generator(recipe, 1, 10**6), 256)).latent_dist.mean
    vae.register_to_config(scaling_factor=round(1 / float(z.std()), 5))
    with new_folder(done) as temp:
        vae.save_pretrained(temp)
    return vae


def _bfloat16() -> torch.autocast:
    """Compute in bfloat16 where the processor has instructions for it; elsewhere that would take ten times as long."""
    return torch.autocast("cpu", torch.bfloat16, enabled=computes_bfloat16("cpu"))


def _shape(step: int, steps: int, decay_share: float, warmup: int = 100) -> float:
    """Warm up, stay, and fall to zero over the last share."""
    left = (steps - step) / max(steps * decay_share, 1)
    return min(1.0, (step + 1) / warmup, max(left, 0.0))


def encode_latents(out: Path, recipe: Recipe, vae: Any, report: Report) -> None:
    """Scaled posterior means of all scenes, then of their mirror images: ``latents-<h>x<w>.npy``, fp16."""
    for hw in tabletop.SIZES_HW:
        path = out / f"latents-{hw[0]}x{hw[1]}.npy"
        if path.exists():
            continue
        scenes = _scenes(out, hw)
        halves = []
        for mirrored in (False, True):
            parts = []
            for at in range(0, len(scenes), 64):
                chunk = np.array(scenes[at : at + 64, :, ::-1] if mirrored else scenes[at : at + 64])
                x = torch.from_numpy(chunk).permute(0, 3, 1, 2).float() / 127.5 - 1
                with torch.no_grad(), _bfloat16():
                    z = vae.encode(x).latent_dist.mean.float() * vae.config.scaling_factor
                parts.append(z.half().numpy())
                report("latents", at + mirrored * len(scenes), 2 * len(scenes), {})
            halves.append(np.concatenate(parts))
        _save(path, np.concatenate(halves))


def mirror(caption: str) -> str:
    """The caption of the mirror image."""
    return caption.replace(" left of ", " \0 ").replace(" right of ", " left of ").replace(" \0 ", " right of ")


# ---------------------------------------------------------------------------------------------------------------------
# denoiser and text encoder


def build_denoiser(recipe: Recipe) -> Any:
    """Three levels.  At the finest, cross-attention only and only on the way up: a 4-pixel grid at little cost."""
    return UNet2DConditionModel(
        sample_size=(28, 36),
        layers_per_block=1,
        block_out_channels=recipe.unet_channels,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        only_cross_attention=(True, False, False),
        cross_attention_dim=recipe.text_width,
        attention_head_dim=(1, 2, 4),  # heads a level; diffusers' name is historical
        norm_num_groups=8,
    )


def build_text_encoder(recipe: Recipe, tokenizer: CLIPTokenizer) -> CLIPTextModel:
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=recipe.text_width,
            intermediate_size=4 * recipe.text_width,
            num_hidden_layers=recipe.text_layers,
            num_attention_heads=4,
            max_position_embeddings=recipe.positions,
            projection_dim=recipe.text_width,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.eos_token_id,
        )
    )


def batches(out: Path, recipe: Recipe, tokenizer: CLIPTokenizer) -> Callable[[int], Batch]:
    """``batch(step)``: scenes of one size, drawn with that step's own generator."""
    pools = []
    empty = token_ids(tokenizer, [""], recipe.positions)[0]
    for hw in tabletop.SIZES_HW:
        latents = np.load(out / f"latents-{hw[0]}x{hw[1]}.npy", mmap_mode="r", allow_pickle=False)
        plain = json.loads(_captions(out, hw).read_text())
        pools.append((latents, token_ids(tokenizer, plain + [mirror(c) for c in plain], recipe.positions)))
    if max(int((tokens != empty[-1]).sum(1).max()) for _, tokens in pools) > recipe.context - 2:
        raise AssertionError("a caption is longer than the context")

    def batch(step: int) -> Batch:
        g = _generator(recipe, 2, step)
        latents, tokens = pools[step % len(pools)]
        rows = torch.randint(len(latents), (recipe.batch,), generator=g)
        chosen = tokens[rows].clone()
        chosen[torch.rand(recipe.batch, generator=g) < recipe.caption_dropout] = empty
        order = rows.argsort()
        return Batch(torch.from_numpy(latents[rows[order].numpy()]).float(), chosen[order, : recipe.context])

    return batch


def _timesteps(recipe: Recipe, g: torch.Generator) -> Tensor:
    uniform = torch.rand(recipe.batch, generator=g)
    torch.randn(recipe.batch, generator=g)  # unused; the weights that ship were trained with this stream
    coin = torch.rand(recipe.batch, generator=g)
    low, high = recipe.strong_noise
    strong = low + uniform * (high - low)
    return torch.where(coin < recipe.strong_noise_share, strong, uniform * 1000).long().clamp(0, 999)


def alphas_cumprod() -> Tensor:
    betas = torch.linspace(SD_BETAS["beta_start"] ** 0.5, SD_BETAS["beta_end"] ** 0.5, 1000, dtype=torch.float64) ** 2  # type: ignore[operator]
    return torch.cumprod(1 - betas, 0).float()


def train_denoiser(
    out: Path, recipe: Recipe, tokenizer: CLIPTokenizer, report: Report, every: float
) -> tuple[Any, CLIPTextModel]:
    """Noise prediction; U-Net and text encoder learn together.  Returns their running averages."""
    unet, text = beginning(recipe, tokenizer)
    unet.set_attn_processor(AttnProcessor())  # on CPU the plain product trains faster than the fused one
    run = _Run(out / "unet-run", {"unet": unet, "text": text}, recipe.rate, recipe.ema, {"text": recipe.text_rate})
    batch, abar = batches(out, recipe, tokenizer), alphas_cumprod()

    def loss(step: int) -> tuple[Tensor, dict[str, float]]:
        latents, tokens = batch(step)
        g = _generator(recipe, 3, step)
        t = _timesteps(recipe, g)
        eps = torch.randn(latents.shape, generator=g)
        a = abar[t][:, None, None, None]
        with _bfloat16():
            context = text(tokens).last_hidden_state
            predicted = unet(a.sqrt() * latents + (1 - a).sqrt() * eps, t, context).sample
        each = (predicted.float() - eps).square().mean((1, 2, 3))
        weighted = ((1 / abar[t]).clamp(max=recipe.most_weight) * each).mean()
        return weighted, {"loss": weighted.item(), "noise_error": each.mean().item()}

    run.loop(
        recipe.steps,
        "denoiser",
        loss,
        lambda s: recipe.rate * _shape(s, recipe.steps, recipe.decay_share),
        report,
        every,
    )
    run.apply_average()
    return unet.eval(), text.eval()


def beginning(recipe: Recipe, tokenizer: CLIPTokenizer) -> tuple[Any, CLIPTextModel]:
    """The U-Net and the text encoder before the first step; words stand apart (``Recipe.token_spread``)."""
    torch.manual_seed(recipe.seed + 1)
    unet = build_denoiser(recipe)
    torch.manual_seed(recipe.seed + 2)
    second, text = build_denoiser(recipe), build_text_encoder(recipe, tokenizer)
    for name, p in text.named_parameters():
        if "token_embedding" in name:
            nn.init.normal_(p, std=recipe.token_spread)
        elif "position_embedding" in name:
            nn.init.normal_(p, std=recipe.position_spread)
    # Cross-attention from the second draw: so began the weights that ship.
    finest = f"up_blocks.{len(recipe.unet_channels) - 1}."  # there both attentions of a block are cross-attention
    drawn = dict(second.named_parameters())
    with torch.no_grad():
        for name, p in unet.named_parameters():
            if ".attn2." in name or (name.startswith(finest) and ".attn1." in name):
                p.copy_(drawn[name])
    return unet, text


def averaged_denoiser(out: Path, recipe: Recipe, tokenizer: CLIPTokenizer) -> tuple[Any, CLIPTextModel, int]:
    """The running averages of the newest checkpoint and its step, also while training goes on."""
    unet, text = build_denoiser(recipe), build_text_encoder(recipe, tokenizer)
    run = _Run(out / "unet-run", {"unet": unet, "text": text}, recipe.rate, recipe.ema)
    run.load()
    run.apply_average()
    return unet.eval(), text.eval(), run.step


# ---------------------------------------------------------------------------------------------------------------------
# the folder that ships


def assemble(folder: Path, vae: Any, unet: Any, text: CLIPTextModel, tokenizer: CLIPTokenizer) -> Path:
    """A diffusers pipeline folder, fp16 safetensors."""
    scheduler = PNDMScheduler(**SD_BETAS, skip_prk_steps=True, set_alpha_to_one=False, steps_offset=1)
    pipeline: Any = StableDiffusionPipeline(
        vae=vae,
        text_encoder=text,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    vae.register_to_config(_name_or_path="")  # loaded from a checkpoint, it would ship the name of that folder
    for part in (vae, unet, text):
        part.half()
    pipeline.save_pretrained(folder, safe_serialization=True)
    for part in (vae, unet, text):
        part.float()
    return folder


def samples_sheet(
    folder: Path, prompts: list[str], size_hw: tuple[int, int] = (112, 144), steps: int = 30, seed: int = 0
) -> np.ndarray:
    """Pictures the pipeline makes of the prompts, in rows of four: uint8 rows*h 4*w 3."""
    pipeline: Any = StableDiffusionPipeline.from_pretrained(folder, torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    h, w = size_hw
    pictures = []
    for i, prompt in enumerate(prompts):
        g = torch.Generator().manual_seed(seed + i)
        result: Any = pipeline(
            prompt, height=h, width=w, num_inference_steps=steps, guidance_scale=4.0, generator=g, output_type="np"
        )
        pictures.append((result.images[0] * 255).round().astype(np.uint8))
    pictures += [np.zeros((h, w, 3), np.uint8)] * (-len(pictures) % 4)
    return np.concatenate([np.concatenate(pictures[i : i + 4], 1) for i in range(0, len(pictures), 4)], 0)
