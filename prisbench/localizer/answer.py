"""The method ``attn``: where does a frozen diffusion model look when it reads the subject's words?

After "From Text to Mask" (arXiv 2309.04109, section 3 and ``scripts/SD_seg.py`` of its release).  A photo's latents are
noised a little, the U-Net reads the query, and the cross-attention of the subject's tokens becomes a map, which the
self-attention of one block then spreads over the thing it touches.  ``localizer.evidence`` adds whether it is this
one, or another of its kind.

    locate        image, queries, concepts  ->  predictions
    observe_all   image, queries, concepts  ->  observations   the network's work (``localizer.observe``)
    predict       observation, settings     ->  a prediction   arithmetic only, so many settings can share a pass
    candidates    observation, settings     ->  the mask's parts, to choose among

Knows: the method.  Does not know: its numbers (``localizer.settings``), datasets, truth, how a concept is learned.
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32
from scipy import ndimage
from torch import Tensor

from prisbench.diffusion.attention import Recording
from prisbench.diffusion.backbone import Backbone
from prisbench.diffusion.images import Geometry, to_photo
from prisbench.diffusion.prompts import TOKEN_GROUPS
from prisbench.images.arrays import ImageLike, as_image
from prisbench.localizer import evidence, places
from prisbench.localizer.background import with_background
from prisbench.localizer.maps import self_cross
from prisbench.localizer.observe import Observation, draws, observe_all
from prisbench.localizer.presence import calibration_key
from prisbench.localizer.refine import adaptive, dense_crf
from prisbench.localizer.settings import LocalizerSettings
from prisbench.localizer.texts import OWN_WORDS, Reader
from prisbench.types import SLOT, Candidate, Concept, Prediction, Query


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
    seen = observe_all(Reader(backbone, settings, encodings), image, queries, concepts)
    shared = (time.perf_counter() - start) / max(1, len(queries))
    predictions = []
    for query, observation in zip(queries, seen, strict=True):
        start = time.perf_counter()
        answer = predict(observation, image, query.id, settings)
        predictions.append(dataclasses.replace(answer, seconds=shared + time.perf_counter() - start))
    return predictions


def predict(observation: Observation, photo: ImageLike, query_id: str, settings: LocalizerSettings) -> Prediction:
    """The mask cut from an observation; ``score`` is the map in the photo's frame before refinement.

    ``presence``, 0..1, is kept from before anything is scaled, because scaling makes every map reach 1: with evidence,
    what was found as a share of it and what the subject's own photos show (``evidence.presence``); else the highest
    mean attention probability of the first token group, averaged over rows.  Only the first says "not here", when it
    is below ``settings.presence``.
    """
    score, attention = soft_map(observation, settings)
    score, kept = placed(score, observation, settings)
    presence, absent = attention, False
    if observation.evidence and settings.evidence and observation.typical:
        presence = evidence.presence(observed_presence(observation, settings) * kept, observation.typical)
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


def candidates(observation: Observation, photo: ImageLike, settings: LocalizerSettings) -> list[Candidate]:
    """The connected parts (8 neighbours) of the mask, the highest in the map first, of equals the upper left one.

    A part's score is the highest of the map in it.  The threshold of presence and ``settings.places`` take no part:
    the choice is the caller's.
    """
    score, _ = soft_map(observation, settings)
    soft = score[0].cpu().numpy()
    parts, count = ndimage.label(cut(score, photo, settings), structure=np.ones((3, 3)))
    found = [Candidate(parts == n, float(soft[parts == n].max())) for n in range(1, count + 1)]
    return sorted(found, key=lambda each: -each.score)


def part_at(mask: Bool[np.ndarray, "h w"], yx: tuple[int, int]) -> Bool[np.ndarray, "h w"]:
    """The connected part (8 neighbours) of a mask that holds a pixel of it."""
    labels, _ = ndimage.label(mask, structure=np.ones((3, 3)))
    return np.asarray(labels == labels[yx])


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


def placed(
    score: Float[Tensor, "1 h w"], observation: Observation, settings: LocalizerSettings
) -> tuple[Float[Tensor, "1 h w"], float]:
    """The map with the parts that the text's places rule out made lower, and the share of presence that they leave."""
    if not (settings.places.alone or (settings.places.reads and observation.told)):
        return score, 1.0
    said = conditions(observation, settings)
    soft = score[0].cpu().numpy()
    there = places.parts(soft, settings.places)
    graded = places.grades(there, said, settings.places)
    lowered = places.chosen(soft, there, graded, settings.places)
    return torch.from_numpy(lowered)[None].to(score), places.best(there, graded) ** settings.places.silence


def conditions(observation: Observation, settings: LocalizerSettings) -> list[places.Placed]:
    """What the text says of place, with the maps of its landmarks in the photo's frame."""
    said = []
    for told in observation.told:
        views = [(told.landmark, False), (told.mirrored, True)]
        marks = [_landmark(each, observation, settings, back) for each, back in views if each is not None]
        said.append(places.Placed(told.condition, np.mean(marks, axis=0) if marks else None))
    return said


def _landmark(
    recording: Recording, observation: Observation, settings: LocalizerSettings, mirrored: bool
) -> Float32[np.ndarray, "h w"]:
    """The map of a landmark's phrase in the photo's frame."""
    seen = _select(recording, settings, _rows(observation, settings))
    maps = self_cross(seen, settings, observation.geometry, [TOKEN_GROUPS.index("phrase")])
    score = maps.score.flip(-1) if mirrored else maps.score
    return to_photo(score, maps.grid_hw, observation.geometry).clamp(0, 1)[0].float().cpu().numpy()


def cut(score: Float[Tensor, "1 h w"], photo: ImageLike, settings: LocalizerSettings) -> Bool[np.ndarray, "h w"]:
    """The mask: the map against the background, refined by the photo's colours."""
    background, subject = with_background(score.cpu().numpy(), settings.rule, settings.tau)
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


def observed_presence(observation: Observation, settings: LocalizerSettings) -> float:
    """What an observation with evidence shows of the subject (``evidence.unscaled_presence``), before any scaling."""
    attention = 0.0
    if settings.evidence.attention:
        seen = _select(observation.recording, settings, _rows(observation, settings))
        raw = self_cross(seen, dataclasses.replace(settings, hops=0), observation.geometry, [OWN_WORDS]).raw
        attention = float(raw.amax((-2, -1)).mean())
    return evidence.unscaled_presence(observation.evidence[0].cells, attention, settings.evidence)


def _rows(observation: Observation, settings: LocalizerSettings) -> list[int]:
    """Where the settings' noises are in an observation."""
    wanted = set(draws(settings))
    rows = [i for i, row in enumerate(observation.rows) if row in wanted]
    assert len(rows) == len(wanted), "the settings need timesteps or samples that were not observed"
    return rows


def _select(recording: Recording, settings: LocalizerSettings, rows: list[int]) -> Recording:
    """The part of a recording that the settings need."""
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

    Nothing else is looked at: no other photo, no truth.  Without evidence against an alternative,
    and where this calibration is there already, the concept comes back as it is.
    """
    key, who = calibration_key(settings), concept.subject_id
    if not settings.evidence or key in concept.calibration or not photos:
        return concept
    query, settings = Query("own photo", who, f"a photo of a {SLOT}"), dataclasses.replace(settings, flip=False)
    reader, found = Reader(backbone, settings, encodings), []
    for photo in photos:
        (seen,) = observe_all(reader, photo, [query], {who: concept})
        if not seen.evidence:
            return concept
        found.append(observed_presence(seen, settings))
    return dataclasses.replace(concept, calibration={**concept.calibration, key: statistics.median(found)})
