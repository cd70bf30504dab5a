"""Every number of the method ``attn``.

Knows: what may be chosen.  Does not know: which choices are good (``localizer.presets``), torch, models, images.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from prisbench.diffusion.families import DIRECTIONS, KINDS
from prisbench.diffusion.prompts import TOKEN_GROUPS
from prisbench.errors import UsageError
from prisbench.localizer.refine import PHOTO_ADAPTIVE, AdaptiveParameters, CrfParameters

AGAINST = ("noun", "nothing")
"""Alternatives to the subject's words: the noun in the same text, and the text without even that."""


ADDED = {"direction": "image", "maps": "attention"}
"""Settings that came later, and what was done before there was a choice."""


@dataclass(frozen=True)
class Evidence:
    """Where the subject's words explain the photo better than other words do; see ``prisbench.localizer.evidence``.

    ``timesteps`` and ``samples``: the noises compared; no timesteps is no evidence.  ``against``:
    the alternatives, see AGAINST; the first that differs from the subject's words decides whether
    the subject is there at all.  ``blur``: deviation of the Gaussian that gathers it, as a share of
    the photo's side (of a square of its area).  ``power``: the map is multiplied by (evidence / its
    maximum) ** power for each alternative.  ``attention``: whether the subject is there at all is
    told by the evidence times (the highest attention that the learned words get) ** attention.
    ``text``: what is said of the subject in place of the query's own text, with the slot ``{subject}``; queries about
    one subject then share its passes.  None: each query's own.
    """

    timesteps: tuple[int, ...] = ()
    samples: int = 2
    against: tuple[str, ...] = ("nothing",)
    blur: float = 0.12
    power: float = 0.5
    attention: float = 0.0
    text: str | None = None

    def __bool__(self) -> bool:
        return bool(self.timesteps)


@dataclass(frozen=True)
class Places:
    """How one part of the map is chosen, and what the text says of place; see ``prisbench.localizer.places``.

    ``alone``: a text means one thing, so the other parts lose this share of their height, 0..1.  ``power``: a part of
    the map is multiplied by (its grade / the best one) ** power; 0: places are not read.  ``silence``: presence is
    multiplied by (the best grade, weighed by the parts' heights) ** silence, so that a text that no part keeps means
    nothing.  ``least``: parts are at least this share of the map's maximum high.  ``valley``: two peaks are one part
    where the map between them stays above this share of the lower one.
    """

    alone: float = 0.0
    power: float = 0.0
    silence: float = 0.0
    least: float = 0.3
    valley: float = 0.7

    def __bool__(self) -> bool:
        return self.alone > 0 or self.reads

    @property
    def reads(self) -> bool:
        """Whether what a text says of place is read."""
        return self.power > 0 or self.silence > 0


@dataclass(frozen=True)
class LocalizerSettings:
    """Every number that decides a mask.

    What the network sees.  ``template`` holds ``{text}``.  ``timesteps`` x ``samples`` noises, all of them also of the
    mirrored photo with ``flip``.  ``caption`` None: each query has its own pass; a text: one pass conditioned on it
    serves all queries of the photo, whose keys are scored against its queries.  ``working_size``: "native", "paper",
    or n for an area of n x n pixels.

    Attention to map.  ``tokens``: groups whose maps are multiplied (geometric mean); see TOKEN_GROUPS.  ``cross``:
    block names and weights.  ``weights``: "given", or "consensus": heads and blocks weigh as much as they agree with
    the others, on this photo.  ``share``: a token's part in the attention that all content words get, pixel by pixel.
    ``contrast_noun``, ``contrast_others``: how much of the attention of the bare noun, and of other subjects of that
    noun, is taken off.  ``self_block`` and ``hops``: whose self-attention spreads the map, how often.  ``theta``: a
    hop pulls only from inside the bounding boxes of {map > theta max}; None pulls from everywhere.
    ``published_boxes``: as released, boxes never hold the last row and column.  ``direction``: "image" (how much of a
    place's attention the words have), or in joint attention "text" (where the words look).  ``maps``: "attention", or
    in joint attention "outputs" (how alike what attention gave places and words are).

    Map to mask.  ``rule``: "threshold" (subject where the map is above tau) or "squared" (where it beats (2 tau -
    map)^2).  ``refine``: "none", "crf" or "adaptive".  ``presence``: below this share of what the subject's own photos
    show the answer is "not here"; None always answers.
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
    caption: str | None = None
    flip: bool = False
    weights: str = "given"
    share: bool = False
    contrast_noun: float = 0.0
    contrast_others: float = 0.0
    evidence: Evidence = Evidence()
    places: Places = Places()
    adaptive: AdaptiveParameters = PHOTO_ADAPTIVE
    direction: str = "image"
    maps: str = "attention"

    def __post_init__(self) -> None:
        checks = {
            "template": self.template.count("{text}") == 1,
            "tokens": len(self.tokens) > 0 and set(self.tokens) <= set(TOKEN_GROUPS),
            "timesteps": len(self.timesteps) > 0 and are_timesteps(self.timesteps),
            "samples": self.samples >= 1,
            "cross": len(self.cross) > 0 and min(self.cross.values()) >= 0 and sum(self.cross.values()) > 0,
            "hops": self.hops >= 0,
            "theta": self.theta is None or 0 <= self.theta < 1,
            "rule": self.rule in ("threshold", "squared"),
            "tau": 0 < self.tau < 1,
            "refine": self.refine in ("none", "crf", "adaptive"),
            "presence": self.presence is None or self.presence > 0,
            "working_size": self.working_size in ("native", "paper")
            or (isinstance(self.working_size, int) and self.working_size >= 64),
            "weights": self.weights in ("given", "consensus"),
            "direction": self.direction in DIRECTIONS,
            "maps": self.maps in KINDS and (self.maps == "attention" or self.direction == "image"),
            "contrast_noun": self.contrast_noun >= 0,
            "contrast_others": self.contrast_others >= 0,
            "evidence": self.evidence.samples >= 1
            and len(self.evidence.against) > 0
            and set(self.evidence.against) <= set(AGAINST)
            and self.evidence.blur >= 0
            and self.evidence.power >= 0
            and self.evidence.attention >= 0
            and are_timesteps(self.evidence.timesteps),
            "places": min(self.places.power, self.places.silence) >= 0
            and 0 <= self.places.alone <= 1
            and 0 < self.places.least < 1
            and 0 < self.places.valley < 1,
        }
        for name, fits in checks.items():
            if not fits:
                raise UsageError(f"localizer.{name}={getattr(self, name)!r} makes no sense; see LocalizerSettings")

    def as_record(self) -> dict[str, Any]:
        """Plain JSON values, for the record of a run.

        What joint attention alone has is left out where it is as ever, so that runs from before it keep their records.
        """
        record = dataclasses.asdict(self)
        return {k: v for k, v in record.items() if k not in ADDED or v != ADDED[k]}


def are_timesteps(given: tuple[Any, ...]) -> bool:
    """Whether these are timesteps: whole numbers from 0 on."""
    return all(isinstance(t, int) and not isinstance(t, bool) and t >= 0 for t in given)
