"""The method ``attn``: where does a frozen diffusion model look when it reads the subject's words?

After "From Text to Mask" (arXiv 2309.04109, section 3 and ``scripts/SD_seg.py`` of its release).  A photo's latents are
noised a little, the U-Net reads the query, and the cross-attention of the subject's tokens becomes a map, which the
self-attention of one block then spreads over the thing it touches.

    observe   image, query, concept  ->  attention        the one network pass
    predict   attention, settings    ->  a prediction     arithmetic only, so many settings can share a pass

Knows: the method and all its numbers (``PRESETS``).  Does not know: datasets, truth, files, how a concept is learned.

The rows of a U-Net call are the noises of one query and nothing else, so an answer is the same, bit for bit, whatever
else is asked about the image.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from scipy import ndimage
from torch import Tensor, nn
from torch.nn import functional as F

from prisbench.concepts.store import check_backbone
from prisbench.diffusion.attention import Attention, Recording, hop, record, transformer_blocks
from prisbench.diffusion.backbone import (
    Backbone,
    Encoded,
    Geometry,
    add_noise,
    encode_image,
    encode_text,
    noise,
    to_photo,
)
from prisbench.diffusion.prompts import TOKEN_GROUPS, Words, compose
from prisbench.errors import BackboneError, UnknownNameError, UsageError
from prisbench.photos import image_id
from prisbench.refine import EMBEDDED_CRF, PUBLISHED_CRF, CrfParameters, dense_crf
from prisbench.types import SLOT, Concept, Prediction, Query

LATENT_CELLS_AT_ONCE = 16_384
"""A U-Net call takes as many noises of a query as have this many latent cells together (4 at 64 x 64), at least one."""


@dataclass(frozen=True)
class LocalizerSettings:
    """Every number that decides a mask.

    ``template`` holds ``{text}``.  ``tokens``: groups whose maps are multiplied (geometric mean); see TOKEN_GROUPS.
    ``cross``: block names and weights.  ``self_block`` and ``hops``: whose self-attention spreads the map, how often.
    ``theta``: a hop pulls only from inside the bounding boxes of {map > theta max}; None pulls from everywhere.
    ``published_boxes``: as released, boxes never hold the last row and column.
    ``rule``: "threshold" (subject where the map is above tau) or "squared" (where it beats (2 tau - map)^2).
    ``refine``: "none" or "crf".  ``presence``: below this raw attention the answer is "not here"; None always answers.
    """

    template: str
    tokens: tuple[str, ...]
    timesteps: tuple[int, ...]
    samples: int
    cross: Mapping[str, float]
    self_block: str
    hops: int
    theta: float | None
    published_boxes: bool
    rule: str
    tau: float
    refine: str
    crf: CrfParameters
    presence: float | None
    working_size: str | int

    def __post_init__(self) -> None:
        checks = {
            "template": self.template.count("{text}") == 1,
            "tokens": len(self.tokens) > 0 and set(self.tokens) <= set(TOKEN_GROUPS),
            "timesteps": len(self.timesteps) > 0 and min(self.timesteps) >= 0,
            "samples": self.samples >= 1,
            "cross": len(self.cross) > 0 and min(self.cross.values()) >= 0 and sum(self.cross.values()) > 0,
            "hops": self.hops >= 0,
            "theta": self.theta is None or 0 <= self.theta < 1,
            "rule": self.rule in ("threshold", "squared"),
            "tau": 0 < self.tau < 1,
            "refine": self.refine in ("none", "crf"),
            "working_size": self.working_size in ("native", "paper")
            or (isinstance(self.working_size, int) and self.working_size >= 64),
        }
        for name, fits in checks.items():
            if not fits:
                raise UsageError(f"localizer.{name}={getattr(self, name)!r} makes no sense; see LocalizerSettings")

    def as_record(self) -> dict[str, Any]:
        """Plain JSON values, for the record of a run."""
        return dataclasses.asdict(self)


PRESETS: dict[str, LocalizerSettings] = {
    # The published procedure.  Blocks 4-8 and 11 in forward order; the words after the text only soak up attention.
    "paper": LocalizerSettings(
        template="a photo including {text}, tree, river, sea, lake, water, railway, railroad, track, stone, and rocks.",
        tokens=("subject",),
        timesteps=(150,),
        samples=10,
        cross={"down.2.0": 1.0, "down.2.1": 1.0, "mid.0": 1.0, "up.1.0": 1.0, "up.1.1": 1.0},
        self_block="up.2.1",
        hops=2,
        theta=0.2,
        published_boxes=True,
        rule="squared",
        tau=0.5,
        refine="none",
        crf=PUBLISHED_CRF,
        presence=None,
        working_size="paper",
    ),
    # For the backbone in prisbench/diffusion/embedded; chosen on validation subjects (docs/decisions.md).
    "embedded": LocalizerSettings(
        template="{text}",
        tokens=("token", "subject"),
        timesteps=(100, 300),
        samples=2,
        cross={"up.1.0": 1.0, "up.1.1": 2.0, "up.2.0": 1.0, "up.2.1": 1.0},
        self_block="up.1.1",
        hops=0,
        theta=None,
        published_boxes=False,
        rule="threshold",
        tau=0.42,
        refine="crf",
        crf=EMBEDDED_CRF,
        presence=None,
        working_size="native",
    ),
}


def preset(name: str) -> LocalizerSettings:
    """The settings of that name.  Raises UnknownNameError."""
    if name not in PRESETS:
        raise UnknownNameError("localizer preset", name, PRESETS)
    return PRESETS[name]


def default_preset(backbone: Backbone) -> str:
    """The preset made for a backbone's family."""
    return "embedded" if backbone.family == "embedded" else "paper"


# --- the network pass -----------------------------------------------------------------------------------------------


class Row(NamedTuple):
    """What one row of a recording's batch saw: a timestep and the number of its noise."""

    timestep: int
    sample: int


@dataclass(frozen=True, eq=False)
class Observation:
    """The attention of one query on one photo: all that ``predict`` needs.

    Column i of ``recording.cross`` is the mean attention of TOKEN_GROUPS[i].  The batch axis follows ``rows``.
    """

    recording: Recording
    rows: tuple[Row, ...]
    geometry: Geometry


@torch.no_grad()
def observe(
    backbone: Backbone,
    photo: UInt8[np.ndarray, "h w 3"],
    query: Query,
    concept: Concept,
    settings: LocalizerSettings,
    blocks: Collection[str] | None = None,
    encoded: Encoded | None = None,
) -> Observation:
    """Run the U-Net once on every noise of a query and keep the attention.

    ``blocks`` None records what ``settings`` needs; names record more, ``transformer_blocks(backbone.unet)`` all: then
    other blocks, tokens, timesteps and samples within the settings' own can be tried by ``predict`` without a new pass.
    ``encoded`` saves encoding the photo again.  Raises UsageError for a text without slot or too long, BackboneError
    for a concept of another backbone and for blocks this one does not have.
    """
    check_backbone(concept, backbone.id)
    known = transformer_blocks(backbone.unet)
    if blocks is None:
        cross, self_ = set(settings.cross), {settings.self_block} if settings.hops else set()
    else:
        cross, self_ = set(blocks), {name for name in blocks if name in known and known[name].has_self_attention}
    if unknown := sorted((cross | self_) - set(known)):
        raise BackboneError(f"{backbone.id} has no block {unknown[0]}; its blocks: {', '.join(known)}")

    learned = torch.from_numpy(concept.tensors.get("vectors", np.empty((0, backbone.token_table.shape[1]), np.float32)))
    if learned.ndim != 2 or learned.shape[1] != backbone.token_table.shape[1]:
        raise BackboneError(f"concept {concept.id}: vectors of shape {tuple(learned.shape)} do not fit {backbone.id}")
    slot = SLOT.strip("{}")
    words = Words(concept.noun, len(learned))
    prompt = compose(backbone.tokenizer, query.text, {slot: words}, settings.template)
    text = encode_text(backbone, [prompt], {slot: learned.to(backbone.device)})
    columns = span_columns([prompt.groups[slot, group] for group in TOKEN_GROUPS], text.shape[1])

    latents, geometry = encoded or encode_image(backbone, photo, settings.working_size)
    name, shape = image_id(photo), tuple(latents.shape[1:])
    rows = tuple(Row(t, k) for t in settings.timesteps for k in range(settings.samples))
    eps = torch.stack([noise(name, row.sample, shape) for row in rows])
    timesteps = torch.tensor([row.timestep for row in rows])
    recording = attend(backbone.unet, backbone.alphas_cumprod, latents, eps, timesteps, text, columns, cross, self_)
    return Observation(recording, rows, geometry)


def span_columns(spans: Sequence[Iterable[int]], length: int) -> Float[Tensor, "length spans"]:
    """One column a span: weights that take the mean over its positions."""
    columns = torch.zeros(length, len(spans))
    for i, span in enumerate(spans):
        positions = list(span)
        columns[positions, i] = 1 / len(positions)
    return columns


@torch.no_grad()
def attend(
    unet: nn.Module,
    alphas_cumprod: Float[Tensor, "steps"],
    latents: Float[Tensor, "1 c h w"],
    eps: Float[Tensor, "rows c h w"],
    timesteps: Int[Tensor, "rows"],
    text: Float[Tensor, "1 t d"],
    columns: Float[Tensor, "t spans"],
    cross: Collection[str],
    self_: Collection[str],
) -> Recording:
    """Attention of the conditional branch alone, one row a noise, up to the last block named, in bounded batches."""
    at_once = max(1, LATENT_CELLS_AT_ONCE // math.prod(latents.shape[-2:]))
    parts = []
    for start in range(0, len(eps), at_once):
        part = slice(start, start + at_once)
        noisy = add_noise(alphas_cumprod, latents, eps[part].to(latents), timesteps[part])
        n = len(noisy)
        with record(unet, columns.expand(n, -1, -1), cross, self_) as seen:
            unet(noisy, timesteps[part].to(latents.device), encoder_hidden_states=text.expand(n, -1, -1))
        parts.append(seen)
    first = parts[0].self_attention
    return Recording(
        {name: torch.cat([part.cross[name] for part in parts]) for name in cross},
        {
            name: Attention(
                torch.cat([part.self_attention[name].queries for part in parts]),
                torch.cat([part.self_attention[name].keys for part in parts]),
                first[name].scale,
                first[name].grid_hw,
            )
            for name in self_
        },
    )


# --- attention to maps ----------------------------------------------------------------------------------------------


class Maps(NamedTuple):
    """``score``: 0..1, the mean over rows of each row's own min-max scaled map, on the photo's part of ``grid_hw``.

    ``raw`` is the cross-attention before any scaling: mean probability, comparable between photos.
    """

    score: Float[Tensor, "c h w"]
    raw: Float[Tensor, "rows c h w"]
    grid_hw: tuple[int, int]


def self_cross(recording: Recording, settings: LocalizerSettings, geometry: Geometry | None = None) -> Maps:
    """The maps of all columns.  Without a geometry the whole grid shows the photo.

    Padding is cut from queries, keys and maps alike, so it takes no attention and no part in any scaling.  (The release
    leaves it in; photos that need no padding are treated alike.)
    """
    if settings.hops:
        grid = recording.self_attention[settings.self_block].grid_hw
    else:
        grid = max((_grid(recording.cross[name]) for name in settings.cross), key=math.prod)
    h, w = geometry.valid_hw(grid) if geometry else grid

    total = sum(settings.cross.values())
    raw = sum(
        weight / total * F.interpolate(recording.cross[name], size=grid, mode="bilinear", align_corners=False)
        for name, weight in settings.cross.items()
    )[..., :h, :w]  # type: ignore[index]
    maps = min_max(raw)
    if settings.hops:
        seen = recording.self_attention[settings.self_block]
        cut = Attention(_cut(seen.queries, grid, (h, w)), _cut(seen.keys, grid, (h, w)), seen.scale, (h, w))
        if settings.theta is not None:
            maps = maps * boxes(maps, settings.theta, settings.published_boxes)
        values = maps.flatten(2).transpose(1, 2)
        for _ in range(settings.hops):
            values = hop(cut, values)
        maps = min_max(values.transpose(1, 2).unflatten(2, (h, w)))
    return Maps(maps.mean(dim=0), raw, grid)


def min_max(maps: Float[Tensor, "*n h w"]) -> Float[Tensor, "*n h w"]:
    """Each map scaled to 0..1; a flat map says nothing about place and becomes zero everywhere."""
    low, high = maps.amin((-2, -1), keepdim=True), maps.amax((-2, -1), keepdim=True)
    spread = torch.where(high > low, high - low, torch.ones_like(low))
    return (maps - low) / spread


def boxes(maps: Float[Tensor, "n c h w"], theta: float, published: bool) -> Float[Tensor, "n c h w"]:
    """1 inside the union of the bounding boxes of {map > theta max}'s connected parts (8 neighbours), else 0.

    Levels are bytes, as in the released code.  ``published``: there, a box's lower right corner is clamped to the last
    index and then taken as exclusive, so no box holds the last row or column.
    """
    inside = np.zeros(maps.shape, np.float32)
    levels = (maps * 255).to(torch.uint8).cpu().numpy()
    for at in np.ndindex(*levels.shape[:2]):
        parts, _ = ndimage.label(levels[at] > int(theta * levels[at].max()), structure=np.ones((3, 3)))
        for box in ndimage.find_objects(parts):
            inside[at][box] = 1
    if published:
        inside[..., -1, :] = 0
        inside[..., -1] = 0
    return torch.from_numpy(inside).to(maps)


def with_background(maps: Float[Tensor, "c h w"], settings: LocalizerSettings) -> Float[Tensor, "c1 h w"]:
    """Scores of [background, map 1 .. map c]; a pixel belongs to the highest.

    "squared" is the published ``(2 tau - max)^2`` against the maps as they are.  "threshold" bends the maps piecewise
    linearly so that tau falls on a half, and gives the background the rest: probabilities, with equality at tau.
    """
    if settings.rule == "squared":
        return torch.cat([(2 * settings.tau - maps.amax(0, keepdim=True)) ** 2, maps])
    tau = settings.tau
    bent = torch.where(maps > tau, 0.5 + 0.5 * (maps - tau) / (1 - tau), 0.5 * maps / tau)
    return torch.cat([1 - bent.amax(0, keepdim=True), bent])


def _grid(maps: Tensor) -> tuple[int, int]:
    return int(maps.shape[-2]), int(maps.shape[-1])


def _cut(x: Float[Tensor, "b heads n d"], grid: tuple[int, int], to: tuple[int, int]) -> Float[Tensor, "b heads m d"]:
    """The queries or keys of the grid's upper left part."""
    return x.unflatten(2, grid)[:, :, : to[0], : to[1]].flatten(2, 3)


# --- answers --------------------------------------------------------------------------------------------------------


def predict(
    observation: Observation, photo: UInt8[np.ndarray, "h w 3"], query_id: str, settings: LocalizerSettings
) -> Prediction:
    """The mask cut from an observation.

    ``score`` is the map in the photo's frame before refinement; ``presence`` its raw counterpart, the highest mean
    attention probability of the first token group, averaged over rows: it is kept before anything is scaled, because
    scaling makes every map reach 1.
    """
    wanted = {Row(t, k) for t in settings.timesteps for k in range(settings.samples)}
    rows = [i for i, row in enumerate(observation.rows) if row in wanted]
    assert len(rows) == len(wanted), "the settings ask for timesteps or samples that were not observed"
    columns = [TOKEN_GROUPS.index(group) for group in settings.tokens]
    maps = self_cross(_select(observation.recording, settings, rows, columns), settings, observation.geometry)
    presence = float(maps.raw[:, 0].amax((-2, -1)).mean())

    score = maps.score.prod(dim=0, keepdim=True) ** (1 / len(columns))
    score = to_photo(score, maps.grid_hw, observation.geometry).clamp(0, 1)
    background, subject = with_background(score, settings).cpu().numpy()
    if settings.refine == "crf":
        background, subject = dense_crf(photo, np.stack([background, subject]), settings.crf)
    soft = score[0].cpu().numpy()
    peak_y, peak_x = np.unravel_index(int(soft.argmax()), soft.shape)
    absent = settings.presence is not None and presence < settings.presence
    return Prediction(
        query_id=query_id,
        mask=None if absent else subject > background,
        peak_yx=(int(peak_y), int(peak_x)),
        presence=presence,
        score=soft,
    )


def _select(recording: Recording, settings: LocalizerSettings, rows: list[int], columns: list[int]) -> Recording:
    """The part of a recording that the settings speak of."""
    self_ = {settings.self_block} if settings.hops else set()
    return Recording(
        {name: recording.cross[name][rows][:, columns] for name in settings.cross},
        {
            name: seen._replace(queries=seen.queries[rows], keys=seen.keys[rows])
            for name, seen in recording.self_attention.items()
            if name in self_
        },
    )


def locate(
    backbone: Backbone,
    image: UInt8[np.ndarray, "h w 3"],
    queries: Sequence[Query],
    concepts: Mapping[str, Concept],
    settings: LocalizerSettings,
) -> list[Prediction]:
    """Answer all queries about one image, in their order; the image is encoded once.

    ``seconds`` of an answer are its own and its share of the encoding.
    """
    start = time.perf_counter()
    encoded = encode_image(backbone, image, settings.working_size)
    shared = (time.perf_counter() - start) / max(1, len(queries))
    predictions = []
    for query in queries:
        start = time.perf_counter()
        seen = observe(backbone, image, query, concepts[query.subject_id], settings, encoded=encoded)
        answer = predict(seen, image, query.id, settings)
        predictions.append(dataclasses.replace(answer, seconds=shared + time.perf_counter() - start))
    return predictions
