"""One look at a photo: the network's attention, and the evidence, of all queries about it.

    observe_all   reader, photo, queries, concepts  ->  observations

An observation is the network's work; the arithmetic that makes a mask of it is ``localizer.answer``, so many settings
can share a pass.  The rows of a U-Net call are the noises of one query (or of the caption that serves them all) and
nothing else: an observation is the same, bit for bit, whatever other queries about the image come along.

Knows: what is run, and in which order.  Does not know: maps, masks, truth, how a concept is learned.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import UInt8

from prisbench.concepts.weights import adapted, text_key, weights_key
from prisbench.diffusion.attention import Recording
from prisbench.diffusion.backbone import Backbone
from prisbench.diffusion.images import Encoded, Geometry, fit
from prisbench.diffusion.joint import blocks_of
from prisbench.diffusion.noise import noise
from prisbench.diffusion.prompts import compose
from prisbench.diffusion.text import Conditioning
from prisbench.errors import BackboneError
from prisbench.images.arrays import ImageLike, as_image
from prisbench.images.photos import image_id
from prisbench.localizer import evidence
from prisbench.localizer.attend import ROWS_BYTES, Reading, attend, rows_at_once
from prisbench.localizer.presence import calibration_key
from prisbench.localizer.settings import LocalizerSettings
from prisbench.localizer.texts import QueryTexts, Reader, Wording, landmark, mirror, read, together, told
from prisbench.phrases import Condition
from prisbench.types import Concept, Query


class Told(NamedTuple):
    """A condition of a text, and the recordings of its landmark's phrase, None where it has none; ``mirrored`` is that
    of the mirror image.
    """

    condition: Condition
    landmark: Recording | None
    mirrored: Recording | None = None


class Draw(NamedTuple):
    """What one row of a recording's batch saw: a timestep and the number of its noise."""

    timestep: int
    sample: int


@dataclass(frozen=True, eq=False)
class Observation:
    """What the network showed about one query on one photo: all that ``predict`` needs.

    Column i of ``recording.cross`` is COLUMNS[i]; those that no setting needs are zero.  The batch axis follows
    ``rows``.  ``mirrored`` is the same of the mirror image.  ``evidence`` is what was found against each alternative,
    empty where the settings need none; ``typical`` is what the subject's own photos show of the first.  ``told`` is
    what the text says of place, where the settings read that.
    """

    recording: Recording
    rows: tuple[Draw, ...]
    geometry: Geometry
    mirrored: Recording | None = None
    evidence: tuple[evidence.Found, ...] = ()
    typical: float | None = None
    told: tuple[Told, ...] = ()


def observe(
    backbone: Backbone,
    photo: ImageLike,
    query: Query,
    concept: Concept,
    settings: LocalizerSettings,
    blocks: Collection[str] | None = None,
) -> Observation:
    """Run the U-Net once on every noise of a query and keep the attention.

    ``blocks`` None records what ``settings`` needs; names record more, ``blocks_of(backbone.unet)`` all: then
    other blocks, tokens, contrasts, timesteps and samples within the settings' own can be tried by ``predict`` without
    a new pass.  Raises UsageError for a text without slot or too long, BackboneError for a concept of another backbone
    and for blocks this one does not have.
    """
    query = dataclasses.replace(query, subject_id=concept.subject_id)
    return observe_all(Reader(backbone, settings), photo, [query], {concept.subject_id: concept}, blocks)[0]


@torch.no_grad()
def observe_all(
    reader: Reader,
    photo: ImageLike,
    queries: Sequence[Query],
    concepts: Mapping[str, Concept],
    blocks: Collection[str] | None = None,
) -> list[Observation]:
    """``observe`` for several queries about one photo, which is encoded once; with a caption, in one pass for all.

    Concepts that changed the network's weights are looked for one after the other, each with its own weights in place.
    The other concepts of a query's noun matter when ``settings.contrast_others`` does.
    """
    photo = as_image(photo)
    keys = {query.subject_id: weights_key(concepts[query.subject_id]) for query in queries}
    answers: dict[int, Observation] = {}
    for key in dict.fromkeys(keys.values()):
        mine = [i for i, query in enumerate(queries) if keys[query.subject_id] == key]
        some = [queries[i] for i in mine]
        with adapted(reader.backbone, concepts[some[0].subject_id]):
            seen = _observe_some(reader, photo, some, concepts, blocks)
        answers |= dict(zip(mine, seen, strict=True))
    return [answers[i] for i in range(len(queries))]


def _observe_some(
    reader: Reader,
    photo: UInt8[np.ndarray, "h w 3"],
    queries: Sequence[Query],
    concepts: Mapping[str, Concept],
    blocks: Collection[str] | None,
) -> list[Observation]:
    """``observe_all`` of queries whose concepts share the weights that are in place."""
    settings, kept = reader.settings, _kept(reader, blocks)
    reader = dataclasses.replace(reader, weights=text_key(concepts[queries[0].subject_id]))
    words = [_wording(query, concepts, settings, everything=blocks is not None) for query in queries]
    asked, conditions = zip(*(told(query, settings) for query in queries), strict=True)
    marks = list(dict.fromkeys(each.landmark for of in conditions for each in of if each.landmark is not None))
    wanted = [*zip((query.text for query in asked), words, strict=True), *(landmark(mark) for mark in marks)]

    encoded = reader.image(photo)
    geometry = encoded.geometry
    texts = [read(reader, text, each, geometry) for text, each in wanted]
    views = [_View(photo, encoded, texts)]
    if settings.flip:
        other = np.ascontiguousarray(photo[:, ::-1])
        texts = [read(reader, mirror(text), each, geometry) for text, each in wanted]
        views.append(_View(other, reader.image(other), texts))
    recordings = [_recordings(reader, view, kept) for view in views]

    answers, scene = [], evidence.Scene(image_id(photo), encoded, {})
    of_mark = dict(zip(marks, zip(*(each[len(queries) :] for each in recordings), strict=True), strict=True))
    for i, query in enumerate(asked):
        concept = concepts[query.subject_id]
        found = tuple(evidence.gather(reader, scene, query.text, concept)) if settings.evidence else ()
        mirrored = recordings[1][i] if settings.flip else None
        typical = concept.calibration.get(calibration_key(settings))
        said = tuple(Told(each, *of_mark.get(each.landmark, (None,))) for each in conditions[i])
        answers.append(Observation(recordings[0][i], draws(settings), geometry, mirrored, found, typical, said))
    return answers


class _View(NamedTuple):
    """The photo or its mirror image, and what each query's text says of it."""

    image: UInt8[np.ndarray, "h w 3"]
    encoded: Encoded
    texts: list[QueryTexts]


class _Blocks(NamedTuple):
    """Whose attention is recorded."""

    cross: set[str]
    self_: set[str]


def _kept(reader: Reader, blocks: Collection[str] | None) -> _Blocks:
    """The blocks that the settings need, or those named.  Raises BackboneError."""
    known, settings = blocks_of(reader.backbone.unet), reader.settings
    if blocks is None:
        cross, self_ = set(settings.cross), {settings.self_block} if settings.hops else set()
    else:
        cross, self_ = set(blocks), {name for name in blocks if name in known and known[name].has_self_attention}
    if unknown := sorted((cross | self_) - set(known)):
        raise BackboneError(f"{reader.backbone.id} has no block {unknown[0]}; its blocks: {', '.join(known)}")
    return _Blocks(cross, self_)


def _wording(query: Query, concepts: Mapping[str, Concept], settings: LocalizerSettings, everything: bool) -> Wording:
    """Whose words a query's are contrasted with; ``everything``: also where the settings do not need it."""
    concept = concepts[query.subject_id]
    others = [
        other
        for key, other in sorted(concepts.items())
        if key != query.subject_id and other.noun == concept.noun and other.tensors and weights_key(other) is None
    ]
    contrasted = everything or settings.contrast_others > 0
    return Wording(concept, everything or settings.contrast_noun > 0, tuple(others) if contrasted else ())


def draws(settings: LocalizerSettings) -> tuple[Draw, ...]:
    """The noises of a query, in the order of a recording's rows."""
    return tuple(Draw(t, k) for t in settings.timesteps for k in range(settings.samples))


def _recordings(reader: Reader, view: _View, kept: _Blocks) -> list[Recording]:
    """One recording a query: from a pass of its own, or with a caption from one pass for all."""
    backbone, settings, rows = reader.backbone, reader.settings, draws(reader.settings)
    name, shape = image_id(view.image), tuple(view.encoded.latents.shape[1:])
    eps = torch.stack([noise(name, row.sample, shape) for row in rows])
    times = torch.tensor([row.timestep for row in rows])

    def look(text: Conditioning, texts: Sequence[QueryTexts]) -> Recording:
        return attend(
            Reading(
                unet=backbone.unet,
                alphas_cumprod=backbone.alphas_cumprod,
                latents=view.encoded.latents,
                eps=eps,
                timesteps=times,
                text=text,
                columns=torch.cat([each.columns for each in texts]),
                cross=kept.cross,
                self_=kept.self_,
                prompts=torch.cat([each.states for each in texts]),
                per_head=settings.weights == "consensus",
                beside=together([each.beside for each in texts]),
                direction=settings.direction,
                maps=settings.maps,
                flow=backbone.flow,
            )
        )

    if settings.caption is None:
        return [each.fold(look(each.text, [each])) for each in view.texts]
    prompt = compose(backbone.tokenizer, settings.caption, {})
    everything = look(reader.condition(prompt, {}, view.encoded.geometry), view.texts)
    recordings, at = [], 0
    for each in view.texts:
        recordings.append(each.fold(everything, at))
        at += len(each.columns) * each.columns.shape[2]
    return recordings


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
