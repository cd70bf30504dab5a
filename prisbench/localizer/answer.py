"""The method ``attn``: where does a frozen diffusion model look when it reads the subject's words?

After "From Text to Mask" (arXiv 2309.04109, section 3 and ``scripts/SD_seg.py`` of its release).  A photo's latents are
noised a little, the U-Net reads the query, and the cross-attention of the subject's tokens becomes a map, which the
self-attention of one block then spreads over the thing it touches.  ``localizer.evidence`` may have a say: is it this
one, or another of its kind?

    observe   image, queries, concepts  ->  observations   the network's work
    predict   observation, settings     ->  a prediction   arithmetic only, so many settings can share a pass

Knows: the method.  Does not know: its numbers (``localizer.settings``), datasets, truth, how a concept is learned.

The rows of a U-Net call are the noises of one query (or of the caption that serves them all) and nothing else, so an
answer is the same, bit for bit, whatever else is asked about the image.
"""

from __future__ import annotations

import dataclasses
import math
import re
import statistics
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from scipy import ndimage
from torch import Tensor, nn
from torch.nn import functional as F

from prisbench.concepts.store import check_backbone
from prisbench.concepts.weights import adapted, text_key, weights_key
from prisbench.diffusion.attention import Attention, Recording, hop, record, transformer_blocks
from prisbench.diffusion.backbone import (
    VECTORS,
    Backbone,
    Conditioning,
    Encoded,
    Geometry,
    add_noise,
    condition,
    fit,
    learned_vectors,
    noise,
    to_photo,
)
from prisbench.diffusion.encodings import latents_of, made_by, once
from prisbench.diffusion.prompts import CONTENT, TOKEN_GROUPS, Prompt, Words, compose
from prisbench.errors import BackboneError
from prisbench.images.arrays import ImageLike, as_image
from prisbench.images.photos import image_id
from prisbench.localizer import evidence
from prisbench.localizer import settings as presets
from prisbench.localizer.refine import adaptive, dense_crf
from prisbench.localizer.settings import LocalizerSettings
from prisbench.runtime.files import sha256_bytes, sha256_json
from prisbench.runtime.source_code import code_sha256
from prisbench.types import SLOT, Concept, Prediction, Query

SLOT_NAME = SLOT.strip("{}")

COLUMNS = (*TOKEN_GROUPS, CONTENT, "bare", "others")
"""What is kept of a query's cross-attention: the mean over each group's tokens; the sum over all content words; the
noun in the same text without the learned vectors; the mean over other subjects' tokens in it.
"""

OWN_WORDS = COLUMNS.index("token")
"""The column of what was learned of this one thing: its vectors or rare word."""

ROWS_BYTES = 2**29
"""The memory that the rows of one U-Net call may take, above the weights; one row may take more."""


def rows_at_once(unet: nn.Module, latent_hw: tuple[int, int]) -> int:
    """How many noises one U-Net call takes.

    A row's peak is near 32 maps of the first level's width (skip connections and the widest feed-forward layer;
    measured by ``prisbench bench localizer``).
    """
    unet_: Any = unet
    weight = next(unet.parameters())
    row = 32 * math.prod(latent_hw) * unet_.config["block_out_channels"][0] * weight.element_size()
    return max(1, ROWS_BYTES // row)


def default_preset(backbone: Backbone) -> str:
    """The preset made for a backbone's family."""
    return presets.DEFAULTS.get(backbone.family, "paper")


def default_settings(backbone: Backbone, name: str | None = None) -> LocalizerSettings:
    """A preset of the backbone's family, by default the family's own.

    Raises BackboneError for a layout of blocks nobody has given roles, UnknownNameError for the name.
    """
    if backbone.family not in presets.PRESETS:
        raise BackboneError(
            f"{backbone.id}: no preset knows this U-Net's blocks ({', '.join(transformer_blocks(backbone.unet))})"
        )
    return presets.preset(name or default_preset(backbone), backbone.family)


def cost(backbone: Backbone, settings: LocalizerSettings, photo_hw: tuple[int, int]) -> str:
    """What one photo of that size will take of the network, in words."""
    geometry = fit(photo_hw, settings.working_size, backbone.native_area_px, backbone.stride)
    h, w = (n // backbone.vae_factor for n in geometry.padded_hw)
    rows = len(settings.timesteps) * settings.samples * (1 + settings.flip)
    at_once = min(rows, rows_at_once(backbone.unet, (h, w)))
    row = ROWS_BYTES / rows_at_once(backbone.unet, (h, w)) / 2**20
    each = "a photo" if settings.caption is not None else "a query"
    more = (1 + len(settings.evidence.against)) * len(settings.evidence.timesteps) * settings.evidence.samples
    return (
        f"attn on {backbone.id}: {rows} noises {each} in batches of {at_once} (at most {at_once * row:.0f} MB)"
        + (f", and {more} passes a query for the evidence" if more else "")
        + f"; latents of {h} x {w} on {backbone.device}"
    )


# --- the network pass -----------------------------------------------------------------------------------------------


class Row(NamedTuple):
    """What one row of a recording's batch saw: a timestep and the number of its noise."""

    timestep: int
    sample: int


@dataclass(frozen=True, eq=False)
class Observation:
    """What the network said about one query on one photo: all that ``predict`` needs.

    Column i of ``recording.cross`` is COLUMNS[i]; those that nobody asked for are zero.  The batch axis follows
    ``rows``.  ``mirrored`` is the same of the mirror image.  ``evidence`` is what was found against each rival, empty
    when the settings do not ask; ``typical`` is what the subject's own photos show of the first.
    """

    recording: Recording
    rows: tuple[Row, ...]
    geometry: Geometry
    mirrored: Recording | None = None
    evidence: tuple[evidence.Found, ...] = ()
    typical: float | None = None


def observe(
    backbone: Backbone,
    photo: ImageLike,
    query: Query,
    concept: Concept,
    settings: LocalizerSettings,
    blocks: Collection[str] | None = None,
    others: Sequence[Concept] = (),
) -> Observation:
    """Run the U-Net once on every noise of a query and keep the attention.

    ``blocks`` None records what ``settings`` needs; names record more, ``transformer_blocks(backbone.unet)`` all: then
    other blocks, tokens, contrasts, timesteps and samples within the settings' own can be tried by ``predict`` without
    a new pass.  Raises UsageError for a text without slot or too long, BackboneError for a concept of another backbone
    and for blocks this one does not have.
    """
    concepts = {concept.subject_id: concept} | {other.subject_id: other for other in others}
    query = dataclasses.replace(query, subject_id=concept.subject_id)
    return observe_all(backbone, photo, [query], concepts, settings, blocks)[0]


@torch.no_grad()
def observe_all(
    backbone: Backbone,
    photo: ImageLike,
    queries: Sequence[Query],
    concepts: Mapping[str, Concept],
    settings: LocalizerSettings,
    blocks: Collection[str] | None = None,
    encodings: Path | None = None,
) -> list[Observation]:
    """``observe`` for several queries about one photo, which is encoded once; with a caption, in one pass for all.

    Concepts that changed the network's weights are looked for one after the other, each with its own weights in place.
    The other concepts of a query's noun matter when ``settings.contrast_others`` does.  ``encodings`` is a folder that
    keeps what the encoders made, by content.
    """
    photo = as_image(photo)
    keys = {query.subject_id: weights_key(concepts[query.subject_id]) for query in queries}
    answers: dict[int, Observation] = {}
    for key in dict.fromkeys(keys.values()):
        mine = [i for i, query in enumerate(queries) if keys[query.subject_id] == key]
        asked = [queries[i] for i in mine]
        with adapted(backbone, concepts[asked[0].subject_id]):
            seen = _observe_some(backbone, photo, asked, concepts, settings, blocks, encodings)
        answers |= dict(zip(mine, seen, strict=True))
    return [answers[i] for i in range(len(queries))]


def _observe_some(
    backbone: Backbone,
    photo: UInt8[np.ndarray, "h w 3"],
    queries: Sequence[Query],
    concepts: Mapping[str, Concept],
    settings: LocalizerSettings,
    blocks: Collection[str] | None,
    encodings: Path | None,
) -> list[Observation]:
    """``observe_all`` of queries whose concepts share the weights that are in place."""
    known = transformer_blocks(backbone.unet)
    if blocks is None:
        cross, self_ = set(settings.cross), {settings.self_block} if settings.hops else set()
    else:
        cross, self_ = set(blocks), {name for name in blocks if name in known and known[name].has_self_attention}
    if unknown := sorted((cross | self_) - set(known)):
        raise BackboneError(f"{backbone.id} has no block {unknown[0]}; its blocks: {', '.join(known)}")
    changed = text_key(concepts[queries[0].subject_id])
    asked = _Asked(backbone, settings, concepts, encodings, blocks is not None, changed)

    encoded = asked.image(photo)
    views = [(photo, encoded, [_Texts.of(query, query.text, asked, encoded.geometry) for query in queries])]
    if settings.flip:
        other = np.ascontiguousarray(photo[:, ::-1])
        texts = [_Texts.of(query, mirror(query.text), asked, encoded.geometry) for query in queries]
        views.append((other, asked.image(other), texts))
    rows = tuple(Row(t, k) for t in settings.timesteps for k in range(settings.samples))
    recordings: list[list[Recording]] = []
    for image, (latents, geometry), texts in views:
        name, shape = image_id(image), tuple(latents.shape[1:])
        eps = torch.stack([noise(name, row.sample, shape) for row in rows])
        times = torch.tensor([row.timestep for row in rows])
        heads = settings.weights == "consensus"

        def look(
            text: Conditioning, prompts: Sequence[_Texts], latents: Tensor = latents, eps: Tensor = eps,
            times: Tensor = times, heads: bool = heads,
        ) -> Recording:  # fmt: skip
            return attend(
                backbone.unet,
                backbone.alphas_cumprod,
                latents,
                eps,
                times,
                text.states,
                torch.cat([each.columns for each in prompts]),
                cross,
                self_,
                prompts=torch.cat([each.states for each in prompts]),
                per_head=heads,
                added=text.added,
            )

        if settings.caption is None:
            recordings.append([each.fold(look(each.text, [each])) for each in texts])
            continue
        caption = asked.text(compose(backbone.tokenizer, settings.caption, {}), {}, geometry)
        everything, at, mine = look(caption, texts), 0, []
        for each in texts:
            mine.append(each.fold(everything, at))
            at += len(each.columns) * each.columns.shape[2]
        recordings.append(mine)

    answers, errors = [], dict[tuple[int, ...], list[Tensor]]()
    for i, query in enumerate(queries):
        concept = concepts[query.subject_id]
        found = tuple(asked.evidence(photo, encoded, query.text, concept, errors)) if settings.evidence else ()
        mirrored = recordings[1][i] if settings.flip else None
        typical = concept.calibration.get(calibration_key(settings))
        answers.append(Observation(recordings[0][i], rows, encoded.geometry, mirrored, found, typical))
    return answers


@dataclass(frozen=True, eq=False)
class _Asked:
    """What the parts of an observation have in common."""

    backbone: Backbone
    settings: LocalizerSettings
    concepts: Mapping[str, Concept]
    encodings: Path | None
    everything: bool
    weights: str | None
    """Names the weights of the text encoders, where they are not the backbone's own."""

    def image(self, photo: UInt8[np.ndarray, "h w 3"]) -> Encoded:
        return latents_of(self.encodings, self.backbone, photo, self.settings.working_size)

    def text(self, prompt: Prompt, vectors: Mapping[str, Mapping[str, Tensor]], geometry: Geometry) -> Conditioning:
        hashes = {
            slot: {name: sha256_bytes(tensor.cpu().numpy().tobytes()) for name, tensor in of.items()}
            for slot, of in vectors.items()
        }
        parts = {"ids": prompt.ids, "learned": prompt.learned, "vectors": hashes}
        if self.backbone.text_encoder_2 is not None:  # it hears sizes, too
            parts["geometry"] = dataclasses.asdict(geometry)
        if self.weights is not None:
            parts["weights"] = self.weights

        def compute() -> dict[str, Tensor]:
            made = condition(self.backbone, [prompt], vectors, geometry)
            return {"states": made.states} | {f"added.{k}": v for k, v in (made.added or {}).items()}

        made = once(self.encodings, made_by(self.backbone) | parts, self.backbone.device, compute)
        added = {k.removeprefix("added."): v for k, v in made.items() if k.startswith("added.")}
        return Conditioning(made["states"], added or None)

    def vectors(self, concept: Concept) -> dict[str, Tensor]:
        check_backbone(concept, self.backbone.id)
        return learned_vectors(self.backbone, concept.tensors, concept.id)

    def count(self, concept: Concept) -> int:
        """How many places its learned vectors take in a text."""
        return len(self.vectors(concept)[VECTORS[0]])

    def prompt(self, text: str, concept: Concept, learned: bool = True) -> Prompt:
        """The text about a subject, with its learned vectors and rare word or with its noun alone."""
        own = Words(concept.noun, self.count(concept), rare_word(concept))
        slots = {SLOT_NAME: own if learned else Words(concept.noun)}
        return compose(self.backbone.tokenizer, text, slots, self.settings.template)

    def reading(self, text: str, concept: Concept, geometry: Geometry, learned: bool = True) -> Conditioning:
        vectors = {SLOT_NAME: self.vectors(concept)} if learned else {}
        return self.text(self.prompt(text, concept, learned), vectors, geometry)

    def evidence(
        self,
        photo: UInt8[np.ndarray, "h w 3"],
        encoded: Encoded,
        text: str,
        concept: Concept,
        known: dict[tuple[int, ...], list[Tensor]],
    ) -> Iterator[evidence.Found]:
        """Of the subject's words against each rival's in the same text; a rival that says the same is none.

        ``known`` keeps the errors of this photo's rivals, which hold no learned words, by their tokens: what several
        queries leave unsaid alike is asked once.
        """
        settings, latents, name = self.settings.evidence, encoded.latents, image_id(photo)
        most = min(8, rows_at_once(self.backbone.unet, (int(latents.shape[2]), int(latents.shape[3]))))

        def errors(heard: Conditioning) -> list[Tensor]:
            return evidence.errors(self.backbone, encoded, name, heard, settings, most)

        rivals = []
        for rival in settings.against:
            if rival == "nothing":
                # Where the map is of the whole phrase, nothing of it may stand.
                rest = "" if "phrase" in self.settings.tokens else " ".join(text.replace(SLOT, " ").split())
                rivals.append(compose(self.backbone.tokenizer, rest, {}, self.settings.template))
            elif self.count(concept) or rare_word(concept):
                rivals.append(self.prompt(text, concept, learned=False))
        own = errors(self.reading(text, concept, encoded.geometry)) if rivals else []
        for prompt in rivals:
            if prompt.ids not in known:
                known[prompt.ids] = errors(self.text(prompt, {}, encoded.geometry))
            yield evidence.compare(own, known[prompt.ids], encoded.geometry, settings)


@dataclass(frozen=True, eq=False)
class _Texts:
    """A query's prompt, and further ones whose keys are scored against the same queries: first its own, then the bare
    noun's, then those of other subjects.
    """

    text: Conditioning
    states: Float[Tensor, "p t d"]
    columns: Float[Tensor, "p t c"]
    bare: bool

    @classmethod
    def of(cls, query: Query, text: str, asked: _Asked, geometry: Geometry) -> _Texts:
        settings, concept = asked.settings, asked.concepts[query.subject_id]
        own = asked.reading(text, concept, geometry)
        bare = asked.everything or settings.contrast_noun > 0
        others = [
            other
            for key, other in sorted(asked.concepts.items())
            if key != query.subject_id and other.noun == concept.noun and other.tensors
            and weights_key(other) is None and (asked.everything or settings.contrast_others > 0)
        ]  # fmt: skip
        more = [(concept, False)] * bare + [(other, True) for other in others]
        prompts = [asked.prompt(text, concept)] + [asked.prompt(text, who, learned) for who, learned in more]
        states = [own.states] + [asked.reading(text, who, geometry, learned).states for who, learned in more]
        spans = [[prompt.groups[SLOT_NAME, group] for group in TOKEN_GROUPS] for prompt in prompts]
        length = int(own.states.shape[1])
        columns = torch.stack([span_columns(each, length) for each in spans])
        whole = torch.zeros(len(prompts), length, 1)
        for i, prompt in enumerate(prompts):
            whole[i, list(prompt.groups[SLOT_NAME, CONTENT])] = 1
        return cls(own, torch.cat(states), torch.cat([columns, whole], 2), bare)

    def fold(self, seen: Recording, at: int = 0) -> Recording:
        """The columns of these prompts, which begin at ``at``, as COLUMNS."""
        each = self.columns.shape[2]

        def folded(cross: Tensor) -> Tensor:
            own = cross[:, :, at : at + each]
            further = cross[:, :, at + each : at + each * len(self.columns)].unflatten(2, (-1, each))
            nothing = torch.zeros_like(own[:, :, :1])
            bare = further[:, :, 0, TOKEN_GROUPS.index("noun")][:, :, None] if self.bare else nothing
            rest = further[:, :, int(self.bare) :, TOKEN_GROUPS.index("token")]
            others = rest.mean(2, keepdim=True) if rest.shape[2] else nothing
            return torch.cat([own, bare, others], 2)

        return Recording({name: folded(cross) for name, cross in seen.cross.items()}, seen.self_attention)


def rare_word(concept: Concept) -> str:
    """The word that DreamBooth taught the network to read as the subject; empty for other learners."""
    return str(concept.recipe.get("rare", ""))


def mirror(text: str) -> str:
    """What the text says of the mirror image: left and right change places."""
    sides = {"left": "right", "right": "left"}
    return re.sub(r"\b(left|right)\b", lambda found: sides[found[1]], text)


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
    columns: Float[Tensor, "*p t spans"],
    cross: Collection[str],
    self_: Collection[str],
    prompts: Float[Tensor, "_p t d"] | None = None,
    per_head: bool = False,
    added: Mapping[str, Tensor] | None = None,
) -> Recording:
    """Attention of the conditional branch alone, one row a noise, up to the last block named, in bounded batches.

    ``prompts`` and ``per_head`` are those of ``record``; ``added`` is what a conditioning holds besides its states.
    """
    at_once = rows_at_once(unet, (int(latents.shape[-2]), int(latents.shape[-1])))
    columns = columns if columns.ndim == 3 else columns[None]
    parts = []
    for start in range(0, len(eps), at_once):
        part = slice(start, start + at_once)
        noisy = add_noise(alphas_cumprod, latents, eps[part].to(latents), timesteps[part])
        n = len(noisy)
        more = None if added is None else {key: value.expand(n, *value.shape[1:]) for key, value in added.items()}
        with record(unet, columns, cross, self_, prompts, per_head) as seen:
            times = timesteps[part].to(latents.device)
            unet(noisy, times, encoder_hidden_states=text.expand(n, -1, -1), added_cond_kwargs=more)
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


def self_cross(
    recording: Recording,
    settings: LocalizerSettings,
    geometry: Geometry | None = None,
    columns: Sequence[int] | None = None,
) -> Maps:
    """The maps of all columns, or of some of COLUMNS, which then are shared and contrasted as the settings say.

    Without a geometry the whole grid shows the photo.  Padding is cut from queries, keys and maps alike, so it takes no
    attention and no part in any scaling.  (The release leaves it in; photos that need no padding are treated alike.)
    """
    if settings.hops:
        grid = recording.self_attention[settings.self_block].grid_hw
    else:
        grid = max((_grid(recording.cross[name]) for name in settings.cross), key=math.prod)
    h, w = geometry.valid_hw(grid) if geometry else grid

    stack = torch.cat([_enlarged(recording.cross[name], grid) for name in settings.cross], 1)[..., :h, :w]
    heads = [recording.cross[name].shape[1] for name in settings.cross]
    given = [weight / k for weight, k in zip(settings.cross.values(), heads, strict=True) for _ in range(k)]
    weights = torch.tensor(given, device=stack.device) / sum(settings.cross.values())
    if settings.weights == "consensus":
        weights = consensus(stack if columns is None else stack[:, :, list(columns)], weights)
    raw = torch.einsum("bkchw,k->bchw", stack, weights)
    plain = raw if columns is None else raw[:, list(columns)]
    maps = min_max(plain if columns is None else _contrasted(raw, plain, settings))
    if settings.hops:
        seen = recording.self_attention[settings.self_block]
        cut = Attention(_cut(seen.queries, grid, (h, w)), _cut(seen.keys, grid, (h, w)), seen.scale, (h, w))
        if settings.theta is not None:
            maps = maps * boxes(maps, settings.theta, settings.published_boxes)
        values = maps.flatten(2).transpose(1, 2)
        for _ in range(settings.hops):
            values = hop(cut, values)
        maps = min_max(values.transpose(1, 2).unflatten(2, (h, w)))
    return Maps(maps.mean(dim=0), plain, grid)


def consensus(stack: Float[Tensor, "b k c h w"], given: Float[Tensor, "k"]) -> Float[Tensor, "k"]:
    """Weights of blocks and heads: the given ones times how each one's maps correlate with the mean of the others'.

    Those that contradict the rest get none; where all do, the given weights stand.
    """
    flat = stack.flatten(3).permute(1, 0, 2, 3).flatten(1, 2)  # k, maps, cells
    flat = flat - flat.mean(-1, keepdim=True)
    size = flat.norm(dim=-1, keepdim=True)
    flat = flat / torch.where(size > 0, size, torch.ones_like(size))
    rest = torch.einsum("k,kmn->mn", given, flat) - given[:, None, None] * flat
    length = rest.norm(dim=-1)
    agreement = ((flat * rest).sum(-1) / torch.where(length > 0, length, torch.ones_like(length))).mean(-1).clamp(min=0)
    weights = given * agreement
    return weights / weights.sum() if weights.sum() > 0 else given


def _contrasted(
    raw: Float[Tensor, "b c h w"], chosen: Float[Tensor, "b d h w"], settings: LocalizerSettings
) -> Float[Tensor, "b d h w"]:
    """The chosen columns as shares of the content words' attention, less what the bare noun and other subjects get."""
    rivals = settings.contrast_noun * raw[:, [COLUMNS.index("bare")]]
    rivals = rivals + settings.contrast_others * raw[:, [COLUMNS.index("others")]]
    difference = (chosen - rivals).clamp(min=0)
    if not settings.share:
        return difference
    content = raw[:, [COLUMNS.index(CONTENT)]]
    return torch.where(content > 0, difference / torch.where(content > 0, content, 1), torch.zeros_like(difference))


def _enlarged(cross: Float[Tensor, "b k c h w"], grid: tuple[int, int]) -> Float[Tensor, "b k c h2 w2"]:
    flat = F.interpolate(cross.flatten(1, 2), size=grid, mode="bilinear", align_corners=False)
    return flat.unflatten(1, cross.shape[1:3])


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


def predict(observation: Observation, photo: ImageLike, query_id: str, settings: LocalizerSettings) -> Prediction:
    """The mask cut from an observation; ``score`` is the map in the photo's frame before refinement.

    ``presence``, 0..1, is kept from before anything is scaled, because scaling makes every map reach 1: with evidence,
    what was found as a share of it and what the subject's own photos show (``evidence.presence``); else the highest
    mean attention probability of the first token group, averaged over rows.  Only the first says "not here", when it
    is below ``settings.presence``.
    """
    score, attention = soft_map(observation, settings)
    presence, absent = attention, False
    if observation.evidence and settings.evidence and observation.typical:
        presence = evidence.presence(believed(observation, settings), observation.typical)
        absent = settings.presence is not None and presence < settings.presence
    soft = score[0].cpu().numpy()
    peak_y, peak_x = np.unravel_index(int(soft.argmax()), soft.shape)
    return Prediction(
        query_id=query_id,
        mask=None if absent else cut(score, photo, settings),
        peak_yx=(int(peak_y), int(peak_x)),
        presence=presence,
        score=soft,
    )


def believed(observation: Observation, settings: LocalizerSettings) -> float:
    """What an observation with evidence shows of the subject (``evidence.belief``), before any scaling."""
    attention = 0.0
    if settings.evidence.attention:
        seen = _select(observation.recording, settings, _rows(observation, settings))
        raw = self_cross(seen, dataclasses.replace(settings, hops=0), observation.geometry, [OWN_WORDS]).raw
        attention = float(raw.amax((-2, -1)).mean())
    return evidence.belief(observation.evidence[0].cells, attention, settings.evidence)


def _rows(observation: Observation, settings: LocalizerSettings) -> list[int]:
    """Where the settings' noises are in an observation."""
    wanted = {Row(t, k) for t in settings.timesteps for k in range(settings.samples)}
    rows = [i for i, row in enumerate(observation.rows) if row in wanted]
    assert len(rows) == len(wanted), "the settings ask for timesteps or samples that were not observed"
    return rows


def soft_map(observation: Observation, settings: LocalizerSettings) -> tuple[Float[Tensor, "1 h w"], float]:
    """The map in the photo's frame, 0..1, and the highest raw attention of the first token group."""
    rows = _rows(observation, settings)
    columns = [TOKEN_GROUPS.index(group) for group in settings.tokens]
    maps = self_cross(_select(observation.recording, settings, rows), settings, observation.geometry, columns)
    score = maps.score
    if observation.mirrored is not None and settings.flip:
        other = self_cross(_select(observation.mirrored, settings, rows), settings, observation.geometry, columns)
        score = (score + other.score.flip(-1)) / 2
    score = score.prod(dim=0, keepdim=True) ** (1 / len(columns))
    score = to_photo(score, maps.grid_hw, observation.geometry).clamp(0, 1)
    if settings.evidence:
        for found in observation.evidence:
            score = weighed(score, found, observation.geometry, settings)
    return score, float(maps.raw[:, 0].amax((-2, -1)).mean())


def cut(score: Float[Tensor, "1 h w"], photo: ImageLike, settings: LocalizerSettings) -> Bool[np.ndarray, "h w"]:
    """The mask: the map against the background, refined by the photo's colours."""
    background, subject = with_background(score, settings).cpu().numpy()
    if settings.refine == "crf":
        background, subject = dense_crf(photo, np.stack([background, subject]), settings.crf)
    elif settings.refine == "adaptive":
        background, subject = adaptive(photo, np.stack([background, subject]), settings.adaptive)
    return subject > background


def weighed(
    score: Float[Tensor, "1 h w"], found: evidence.Found, geometry: Geometry, settings: LocalizerSettings
) -> Float[Tensor, "1 h w"]:
    """The map times (evidence / its maximum) ** power, scaled to reach 1; where nothing is found, the map as it is."""
    gathered = torch.from_numpy(evidence.blurred(found.cells, settings.evidence)).clamp(min=0)
    if not settings.evidence.power or float(gathered.max()) <= 0:
        return score
    share = to_photo((gathered / gathered.max())[None], found.grid_hw, geometry).clamp(0, 1).to(score)
    product = score * share**settings.evidence.power
    top = float(product.max())
    return product / top if top > 0 else score


def _select(recording: Recording, settings: LocalizerSettings, rows: list[int]) -> Recording:
    """The part of a recording that the settings speak of."""
    self_ = {settings.self_block} if settings.hops else set()
    cross = {name: recording.cross[name][rows] for name in settings.cross}
    if settings.weights == "given":  # also where single heads were kept
        cross = {name: maps.mean(1, keepdim=True) for name, maps in cross.items()}
    return Recording(
        cross,
        {
            name: seen._replace(queries=seen.queries[rows], keys=seen.keys[rows])
            for name, seen in recording.self_attention.items()
            if name in self_
        },
    )


def locate(
    backbone: Backbone,
    image: ImageLike,
    queries: Sequence[Query],
    concepts: Mapping[str, Concept],
    settings: LocalizerSettings,
    encodings: Path | None = None,
) -> list[Prediction]:
    """Answer all queries about one image, in their order.

    ``encodings`` is a folder that keeps what the encoders made, by content.  ``seconds`` of an answer are its own
    arithmetic and its share of the network's work.
    """
    start = time.perf_counter()
    image = as_image(image)
    seen = observe_all(backbone, image, queries, concepts, settings, None, encodings)
    shared = (time.perf_counter() - start) / max(1, len(queries))
    predictions = []
    for query, observation in zip(queries, seen, strict=True):
        start = time.perf_counter()
        answer = predict(observation, image, query.id, settings)
        predictions.append(dataclasses.replace(answer, seconds=shared + time.perf_counter() - start))
    return predictions


# --- what the subject's own photos show -------------------------------------------------------------------------------


def calibration_key(settings: LocalizerSettings) -> str:
    """Names the settings, and the code, that a calibration holds for."""
    parts = {"evidence": dataclasses.asdict(settings.evidence), "template": settings.template, "version": 3}
    parts |= {"working_size": settings.working_size, "code": code_sha256(Path(__file__))}
    if settings.evidence.attention:
        names = ("timesteps", "samples", "cross", "weights", "caption")
        parts |= {name: getattr(settings, name) for name in names}
    return sha256_json(parts)[:16]


@torch.no_grad()
def calibrate(
    backbone: Backbone,
    concept: Concept,
    photos: Sequence[ImageLike],
    settings: LocalizerSettings,
    encodings: Path | None = None,
) -> Concept:
    """The concept with what its subject's own photos show of the evidence, in the median, so that "not here" can be
    said.

    Nothing else is looked at: no other photo, no truth.  Without evidence against a rival, and where this calibration
    is there already, the concept comes back as it is.
    """
    key, who = calibration_key(settings), concept.subject_id
    if not settings.evidence or key in concept.calibration or not photos:
        return concept
    query, settings = Query("own photo", who, f"a photo of a {SLOT}"), dataclasses.replace(settings, flip=False)
    found = []
    for photo in photos:
        (seen,) = observe_all(backbone, photo, [query], {who: concept}, settings, None, encodings)
        if not seen.evidence:
            return concept
        found.append(believed(seen, settings))
    return dataclasses.replace(concept, calibration={**concept.calibration, key: statistics.median(found)})
