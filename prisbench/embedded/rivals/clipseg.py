"""Training the embedded CLIPSeg: from phrases, and from photos of other things that look the same, to masks.

The release trains a decoder on CLIP's frozen towers (Lüddecke and Ecker 2022, arXiv 2112.10003, section 3); there is no
CLIP of Tabletop.  Here the text tower begins as the embedded backbone's text encoder, which is of the same shape, and
learns slowly; the image tower begins with nothing.  In the place of CLIP's own training it also learns to name what
each patch shows, by linear layers that are thrown away: through the decoder alone, words meant next to nothing to it
after 400 steps, and what CLIP compares, projections of patches and of phrases, told things from no things, and not one
from another.  Binary cross-entropy as
published, and the Dice loss of what is there; a share of the prompts means nothing in the scene.

Knows: ``CLIPSegForImageSegmentation``'s parts, phrases, masks.  Does not know: subjects, queries.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, interpolate
from transformers import (
    CLIPSegConfig,
    CLIPSegForImageSegmentation,
    CLIPSegTextConfig,
    CLIPSegVisionConfig,
    CLIPTokenizer,
)

from prisbench.clipseg.model import activations, as_pixels
from prisbench.clipseg.prompts import visual_prompt
from prisbench.diffusion.loading import load_backbone
from prisbench.embedded.rivals.pools import Drawn, Pool, draw_rows, drawn
from prisbench.embedded.rivals.recipes import ClipSegRecipe
from prisbench.embedded.words import token_ids
from prisbench.sam.persam import dice

TEMPLATES = ("{}", "a {}", "the {}", "a photo of a {}", "a photo of the {}", "a picture of a {}", "a picture of the {}")
"""What stands around a phrase; all words are of training's captions."""

RARE = -2.0
"""The logit that the decoder begins with."""

LETTERS = "abcdefghijklmnopqrstuvwxyz"


class Prompt(NamedTuple):
    """A phrase, or a photo, asked of scene ``scene`` of a step, and the numbers of the things that it means there."""

    scene: int
    asked: str | UInt8[np.ndarray, "a b 3"]
    meant: Sequence[int]


class Twins:
    """Where things of each look stand: what a photo of one thing may be asked of."""

    def __init__(self, pools: Sequence[Pool]) -> None:
        self.pools = pools
        self.places: dict[str, list[tuple[int, int, int]]] = {}
        for number, pool in enumerate(pools):
            for row, told in enumerate(pool.things):
                for thing, look in enumerate(told["looks"]):
                    self.places.setdefault(look, []).append((number, row, thing))

    def photo(self, look: str, g: torch.Generator) -> UInt8[np.ndarray, "a b 3"]:
        """A visual prompt of a thing of that look, anywhere in training, mirrored by lot; where a scene holds nothing
        else, half of the time the whole scene."""
        places = self.places[look]
        number, row, thing = places[int(torch.randint(len(places), (), generator=g))]
        lots = torch.rand(2, generator=g)
        scene = drawn(self.pools[number], row, bool(lots[0] < 0.5))
        whole = len(scene.told["looks"]) == 1 and bool(lots[1] < 0.5)
        return visual_prompt(scene.image, None if whole else scene.ids == thing + 1)


class Names(nn.Module):
    """Names what a patch shows: its noun or nothing, its main colour, its pattern.  A part of training alone."""

    CLEAR = 0.6
    """A patch shows what covers so much of it; nothing where no thing covers more than the rest."""

    def __init__(self, pools: Sequence[Pool], recipe: ClipSegRecipe) -> None:
        super().__init__()
        told = [look.split() for pool in pools for each in pool.things for look in each["looks"]]
        self.words = [["", *sorted({look[-1] for look in told})], *(sorted({look[n] for look in told}) for n in (1, 0))]
        torch.manual_seed(recipe.seed + 1)
        self.heads = nn.ModuleList(nn.Linear(recipe.width, len(words)) for words in self.words)

    def loss(self, patches: Float[Tensor, "b t c"], scenes: Sequence[Drawn]) -> Float[Tensor, ""]:
        """The mean cross-entropy of the three, each over the patches that have such a name."""
        grid = int(patches.shape[1] ** 0.5)
        truth = torch.stack([self.truth(scene, grid) for scene in scenes], 1)
        found = [
            cross_entropy(head(patches).flatten(0, 1), names.flatten(), ignore_index=-1)
            for head, names in zip(self.heads, truth, strict=True)
        ]
        return torch.stack(found).mean()

    def truth(self, scene: Drawn, grid: int) -> Int64[Tensor, "3 t"]:
        """The number of each name; -1 where a patch shows several things, or none."""
        looks = [look.split() for look in scene.told["looks"]]
        shares = torch.stack([truth_of(scene, [n], grid).flatten() for n in range(len(looks))])
        most, which = shares.max(0)
        names = []
        for words, place in zip(self.words, (-1, 1, 0), strict=True):
            numbers = torch.tensor([words.index(look[place]) for look in looks])[which]
            names.append(torch.where(most >= self.CLEAR, numbers, -1))
        names[0] = torch.where(shares.sum(0) <= 1 - self.CLEAR, 0, names[0])
        return torch.stack(names)


def build_clipseg(recipe: ClipSegRecipe, tokenizer: CLIPTokenizer) -> CLIPSegForImageSegmentation:
    """The model before it has learned anything but words.

    The class begins the plain layers of its decoder with deviation 1, made for loading; here they begin as torch has
    them, what a prompt multiplies by begins at 1, and few pixels are expected to be meant.
    """
    vision = CLIPSegVisionConfig(
        hidden_size=recipe.width,
        intermediate_size=4 * recipe.width,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        image_size=recipe.side,
        patch_size=recipe.patch,
    )
    words = load_backbone(None if recipe.start == "embedded" else recipe.start).text_encoder
    shape = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "max_position_embeddings")
    text = CLIPSegTextConfig(
        vocab_size=len(tokenizer),
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **{name: getattr(words.config, name) for name in shape},
    )
    torch.manual_seed(recipe.seed)
    network = CLIPSegForImageSegmentation(
        CLIPSegConfig(
            text_config=text,
            vision_config=vision,
            projection_dim=recipe.width,
            extract_layers=list(recipe.extract),
            reduce_dim=recipe.reduced,
            decoder_intermediate_size=4 * recipe.reduced,
            use_complex_transposed_convolution=True,
        )
    )
    network.clip.text_model.load_state_dict(
        {name.removeprefix("text_model."): value for name, value in words.state_dict().items()}
    )
    decoder: Any = network.decoder
    for layer in (decoder.film_mul, decoder.film_add, *decoder.reduces, *decoder.transposed_convolution):
        if hasattr(layer, "reset_parameters"):
            layer.reset_parameters()
    nn.init.ones_(decoder.film_mul.bias)
    nn.init.constant_(decoder.transposed_convolution[-1].bias, RARE)
    return network


def trained_parts(network: Any) -> dict[str, nn.Module]:
    """What learns and ships, the text tower apart; CLIP's temperature has no part in masks."""
    clip = network.clip
    seeing = {
        "vision": clip.vision_model,
        "visual_projection": clip.visual_projection,
        "text_projection": clip.text_projection,
        "decoder": network.decoder,
    }
    return {"seeing": nn.ModuleDict(seeing), "text": clip.text_model}


def clipseg_loss(
    network: Any, recipe: ClipSegRecipe, given: tuple[Sequence[Pool], Twins, CLIPTokenizer, Names], step: int
) -> tuple[Tensor, dict[str, float]]:
    """The loss of a step's scenes, and what to show of it."""
    pools, twins, tokenizer, names = given
    g = recipe.generator(step)
    scenes = draw_rows(pools[step % len(pools)], recipe.batch, g)
    prompts = [prompt for n, scene in enumerate(scenes) for prompt in phrases(n, scene, recipe, g)]
    photos = by_photo(scenes, twins, recipe, g)
    logits, patches = answers(network, scenes, (prompts, photos), recipe, tokenizer)
    truth = torch.stack([truth_of(scenes[prompt.scene], prompt.meant, logits.shape[1]) for prompt in prompts + photos])
    logits, truth = logits.flatten(1), truth.flatten(1)
    named = names.loss(patches, scenes)
    there = truth.amax(1) > 0.5
    cross = binary_cross_entropy_with_logits(logits, truth)
    loss = recipe.cross * cross + (dice(logits, truth) * there).mean() + recipe.naming * named
    with torch.no_grad():
        found, true = logits > 0, truth > 0.5
        both, either = (found & true).sum(1).float(), (found | true).sum(1).float().clamp(min=1)
        told = torch.arange(len(there)) < len(prompts)
        shown = {
            "loss": loss.item(),
            "named": named.item(),
            "iou": mean(both / either, there & told),
            "iou_photo": mean(both / either, there & ~told),
            "empty": mean((found.sum(1) == 0).float(), ~there),
        }
    return loss, shown


def mean(values: Float[Tensor, " n"], which: Tensor) -> float:
    """Of those; 0 of none."""
    return float(values[which].mean()) if bool(which.any()) else 0.0


def phrases(n: int, scene: Drawn, recipe: ClipSegRecipe, g: torch.Generator) -> list[Prompt]:
    """Phrases about a scene by lot, so many of them about what is not there."""
    told = scene.told["phrases"]
    there, absent = ([each for each in told if bool(each[1]) is which] for which in (True, False))
    found = []
    for _ in range(recipe.prompts):
        lots = torch.rand(2, generator=g).tolist()
        among = absent if absent and lots[0] < recipe.absent else there
        text, meant = among[int(lots[1] * len(among))]
        found.append(Prompt(n, worded(text, recipe, g), meant))
    return found


def worded(phrase: str, recipe: ClipSegRecipe, g: torch.Generator) -> str:
    """A phrase in a template; at times with words that mean nothing before or after it, as queries may have."""
    lots = torch.rand(4, generator=g).tolist()
    text = TEMPLATES[int(lots[0] * len(TEMPLATES))].format(phrase)
    if lots[1] >= recipe.strange:
        return text
    words = []
    for _ in range(1 + int(lots[2] * 3)):
        letters = torch.randint(26, (int(torch.randint(2, 7, (), generator=g)),), generator=g)
        words.append("".join(LETTERS[int(n)] for n in letters))
    return " ".join([*words, text] if lots[3] < 0.5 else [text, *words])


def by_photo(scenes: Sequence[Drawn], twins: Twins, recipe: ClipSegRecipe, g: torch.Generator) -> list[Prompt]:
    """Photos of things that look like one of the first scenes' things, each asked of its scene and of the next one."""
    found = []
    for n in range(recipe.photos):
        looks = scenes[n].told["looks"]
        look = looks[int(torch.randint(len(looks), (), generator=g))]
        photo = twins.photo(look, g)
        for m in (n, (n + 1) % len(scenes)):
            found.append(Prompt(m, photo, [k for k, each in enumerate(scenes[m].told["looks"]) if each == look]))
    return found


def answers(
    network: Any,
    scenes: Sequence[Drawn],
    prompts: tuple[Sequence[Prompt], Sequence[Prompt]],
    recipe: ClipSegRecipe,
    tokenizer: CLIPTokenizer,
) -> tuple[Float[Tensor, "n a a"], Float[Tensor, "b t c"]]:
    """The decoder's logits, phrases first, then photos; and the last layer's patches of each scene.

    Each scene and each photo goes through the tower once.  The class computes its towers without gradients, so its
    parts are called one by one; a test holds the two equal.
    """
    texts, photos = prompts
    asked = [prompt.asked for prompt in photos[::2] if not isinstance(prompt.asked, str)]
    pixels = as_pixels([*(scene.image for scene in scenes), *asked], recipe.side)
    layers, vectors = activations(network, pixels)
    ids = token_ids(tokenizer, [str(prompt.asked) for prompt in texts], recipe.positions)
    ids = ids[:, : int((ids != tokenizer.eos_token_id).sum(1).max()) + 1]
    told = network.clip.get_text_features(ids).pooler_output
    shown = vectors[len(scenes) :].repeat_interleave(2, 0)
    rows = torch.tensor([prompt.scene for prompt in [*texts, *photos]])
    found: Tensor = network.decoder([layer[rows] for layer in layers], torch.cat([told, shown])).logits
    return found, layers[-1][: len(scenes), 1:]


def truth_of(scene: Drawn, meant: Sequence[int], side: int) -> Float[Tensor, "a a"]:
    """What a prompt means of a scene, squashed into the decoder's square."""
    mask = torch.from_numpy(np.isin(scene.ids, [n + 1 for n in meant])).float()[None, None]
    return interpolate(mask, (side, side), mode="bilinear", align_corners=False, antialias=True)[0, 0]
