"""Training the embedded Segment Anything: from points, boxes and earlier masks to masks.

The recipe of the release in small (Kirillov et al. 2023, arXiv 2304.02643, section 3 and appendix A): prompts are drawn
from the true mask, a second round is given the first answer and a point where it is wrong, of three masks the best one
is trained, by focal and Dice loss, and the head that predicts overlap by its squared error.

Knows: ``SamModel``'s parts, masks.  Does not know: nouns, texts, subjects.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, pad
from transformers import SamConfig, SamMaskDecoderConfig, SamModel, SamPromptEncoderConfig, SamVisionConfig

from prisbench.embedded.rivals.pools import Drawn, Pool, draw_rows
from prisbench.embedded.rivals.recipes import SamRecipe
from prisbench.sam.frame import Frame, in_square
from prisbench.sam.persam import dice_and_focal

KINDS = ("point", "box", "point and ground", "point and box")
CHANCES = (0.4, 0.25, 0.2, 0.15)
"""How often a first prompt is of each kind."""

SEVERAL = {"point": 0.75}
"""How often three masks are asked for; half of the time for other kinds.  One point is the ambiguous prompt."""

BOXED = 0.4
"""How often the second round has a box, too."""

BOX_NOISE, BOX_NOISE_PX = 0.1, 20.0
"""Deviation of a box's sides in shares of its size, and at most so many pixels, as published."""


class Prompts(NamedTuple):
    """Of n masks: points in the square, x first, their labels (1: the thing, 0: not), boxes or None."""

    points: Float[Tensor, "n k 2"]
    labels: Float[Tensor, "n k"]
    boxes: Float[Tensor, "n 4"] | None


def build_sam(recipe: SamRecipe) -> SamModel:
    """The model before it has learned anything.

    Places are encoded by random frequencies of deviation 1 and are not trained, as in the release; the class of
    transformers would draw them with half of the encoder's width, at which near places have nothing in common.
    """
    vision = SamVisionConfig(
        image_size=recipe.side,
        patch_size=recipe.patch,
        hidden_size=recipe.width,
        output_channels=recipe.channels,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        window_size=recipe.window,
        global_attn_indexes=list(recipe.whole),
        num_pos_feats=recipe.channels // 2,
        initializer_range=recipe.spread,
    )
    decoder = SamMaskDecoderConfig(
        hidden_size=recipe.channels,
        mlp_dim=4 * recipe.channels,
        num_attention_heads=recipe.heads,
        iou_head_hidden_dim=recipe.channels,
    )
    prompts = SamPromptEncoderConfig(image_size=recipe.side, patch_size=recipe.patch, hidden_size=recipe.channels)
    torch.manual_seed(recipe.seed)
    network = SamModel(
        SamConfig(
            vision_config=vision,
            prompt_encoder_config=prompts,
            mask_decoder_config=decoder,
            initializer_range=recipe.spread,
        )
    )
    places = network.shared_image_embedding.positional_embedding
    nn.init.normal_(places)
    places.requires_grad_(False)
    return network


def sam_loss(network: Any, recipe: SamRecipe, pools: Sequence[Pool], step: int) -> tuple[Tensor, dict[str, float]]:
    """The loss of a step's scenes, and what to show of it."""
    g = recipe.generator(step)
    pool = pools[step % len(pools)]
    scenes = draw_rows(pool, recipe.batch, g)
    frame = Frame((pool.ids.shape[1], pool.ids.shape[2]), recipe.side)
    truth = torch.cat([truths(scene, frame, recipe, g) for scene in scenes])
    pixels = torch.cat([in_square(scene.image, frame) for scene in scenes])
    features = network.vision_encoder(pixels).last_hidden_state.repeat_interleave(recipe.prompts, 0)
    kind = KINDS[int(torch.multinomial(torch.tensor(CHANCES), 1, generator=g))]
    prompts = first_prompts(kind, truth > 0.5, recipe, g)
    several = chance(g) < SEVERAL.get(kind, 0.5)
    first, logits, overlap = one_round(network, features, (prompts, None), (truth, several), recipe)
    shown = {"loss": first.item(), "iou": overlap}
    if chance(g) >= recipe.again:
        return first, shown
    prompts = next_prompts(prompts, logits > 0, truth > 0.5, recipe, g)
    several = chance(g) < 0.5
    second, _, _ = one_round(network, features, (prompts, logits), (truth, several), recipe)
    return first + second, shown


def chance(g: torch.Generator) -> float:
    return float(torch.rand((), generator=g))


def truths(scene: Drawn, frame: Frame, recipe: SamRecipe, g: torch.Generator) -> Float[Tensor, "p a a"]:
    """The masks that are asked for of a scene, things by lot, as shares of the decoder's cells."""
    things = len(scene.told["looks"])
    chosen = torch.randint(things, (recipe.prompts,), generator=g)
    ids = torch.from_numpy(scene.ids.copy())
    masks = torch.stack([(ids == int(n) + 1).float() for n in chosen])
    return in_cells(masks, frame, cell(recipe))


def cell(recipe: SamRecipe) -> int:
    """Pixels of the square that a cell of the decoder's masks covers: it magnifies features four times."""
    return recipe.patch // 4


def in_cells(masks: Float[Tensor, "n h w"], frame: Frame, size: int) -> Float[Tensor, "n a a"]:
    """Masks of a photo in the square, as the share of each cell of so many pixels that they cover."""
    h, w = frame.inner_hw
    inner = masks[:, None]
    if (h, w) != frame.photo_hw:
        inner = interpolate(inner, (h, w), mode="bilinear", align_corners=False, antialias=True)
    return avg_pool2d(pad(inner, (0, frame.side - w, 0, frame.side - h)), size)[:, 0]


def first_prompts(kind: str, masks: Bool[Tensor, "n a a"], recipe: SamRecipe, g: torch.Generator) -> Prompts:
    """A point in each mask, and by kind: a point elsewhere, a box around it, or the box alone."""
    points, labels = [pixels_of(masks, cell(recipe), g)], [1.0]
    if kind == "point and ground":
        points.append(pixels_of(~masks, cell(recipe), g))
        labels.append(0.0)
    boxes = jittered(boxes_of(masks, cell(recipe)), g) if "box" in kind else None
    if kind == "box":
        points, labels = [], []
    n = len(masks)
    at = torch.stack(points, 1) if points else torch.zeros((n, 0, 2))
    return Prompts(at, torch.tensor(labels).expand(n, len(labels)), boxes)


def next_prompts(
    before: Prompts, found: Bool[Tensor, "n a a"], masks: Bool[Tensor, "n a a"], recipe: SamRecipe, g: torch.Generator
) -> Prompts:
    """The same and a point where the answer is wrong, anywhere in the mask where it is right; at times a box."""
    wrong = found ^ masks
    wrong = torch.where(wrong.flatten(1).any(1)[:, None, None], wrong, masks)
    at = pixels_of(wrong, cell(recipe), g)
    x, y = (at // cell(recipe)).long().unbind(1)
    labels = masks[torch.arange(len(masks)), y, x].float()
    boxes = jittered(boxes_of(masks, cell(recipe)), g) if chance(g) < BOXED else before.boxes
    return Prompts(torch.cat([before.points, at[:, None]], 1), torch.cat([before.labels, labels[:, None]], 1), boxes)


def pixels_of(masks: Bool[Tensor, "n a a"], size: int, g: torch.Generator) -> Float[Tensor, "n 2"]:
    """A pixel of the square by lot in a cell of each mask, x first; anywhere where a mask is empty."""
    n, _, columns = masks.shape
    lots = torch.rand(masks.shape, generator=g) + masks.float()
    place = lots.flatten(1).argmax(1)
    corner = torch.stack([place % columns, place // columns], 1) * size
    return (corner + torch.randint(size, (n, 2), generator=g)).float()


def boxes_of(masks: Bool[Tensor, "n a a"], size: int) -> Float[Tensor, "n 4"]:
    """Left, top, right and bottom pixel of the square; all of it where a mask is empty."""
    found = []
    for mask in masks:
        rows, columns = (mask.any(axis).nonzero().flatten() for axis in (1, 0))
        if not len(rows):
            rows = columns = torch.arange(len(mask))
        found.append([columns[0] * size, rows[0] * size, (columns[-1] + 1) * size - 1, (rows[-1] + 1) * size - 1])
    return torch.tensor(found, dtype=torch.float32)


def jittered(boxes: Float[Tensor, "n 4"], g: torch.Generator) -> Float[Tensor, "n 4"]:
    """Boxes as people draw them."""
    sides = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
    noise = torch.randn(boxes.shape, generator=g) * BOX_NOISE * sides
    return boxes + noise.clamp(-BOX_NOISE_PX, BOX_NOISE_PX)


def one_round(
    network: Any,
    features: Float[Tensor, "n c g g"],
    given: tuple[Prompts, Float[Tensor, "n a a"] | None],
    wanted: tuple[Float[Tensor, "n a a"], bool],
    recipe: SamRecipe,
) -> tuple[Tensor, Float[Tensor, "n a a"], float]:
    """The loss of the answers to some prompts; each one's best mask by the model's own judgement; their mean IoU.

    ``given``: prompts, and logits of an earlier answer; ``wanted``: the truth, and whether three masks are asked for.
    """
    prompts, earlier = given
    truth, several = wanted
    more: dict[str, Tensor] = {}
    if prompts.points.shape[1]:
        more |= {"input_points": prompts.points[:, None], "input_labels": prompts.labels[:, None]}
    if prompts.boxes is not None:
        more["input_boxes"] = prompts.boxes[:, None]
    if earlier is not None:
        more["input_masks"] = earlier[:, None]
    found = network(image_embeddings=features, multimask_output=several, **more)
    logits, judged = found.pred_masks[:, 0], found.iou_scores[:, 0]
    each = dice_and_focal(logits.flatten(2), truth[:, None].expand_as(logits).flatten(2), recipe.focal)
    overlap = ious(logits.detach() > 0, truth[:, None] > 0.5)
    loss = each.amin(1).mean() + (judged - overlap).square().mean()
    best = judged.argmax(1)
    rows = torch.arange(len(best))
    return loss, logits[rows, best].detach(), float(overlap[rows, best].mean())


def ious(found: Bool[Tensor, "n m a a"], truth: Bool[Tensor, "n 1 a a"]) -> Float[Tensor, "n m"]:
    """Intersection over union; 1 of two empty masks."""
    both, either = (found & truth).flatten(2).sum(2).float(), (found | truth).flatten(2).sum(2).float()
    return torch.where(either > 0, both / either.clamp(min=1), torch.ones_like(both))
