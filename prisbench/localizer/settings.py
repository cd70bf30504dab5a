"""Every number of the method ``attn``, and the named sets of them.

Knows: what may be chosen, the blocks of each backbone family by the role they play, and the presets.
Does not know: torch, models, images.

One code path serves all presets: ``paper`` is the published procedure (arXiv 2309.04109), ``fast`` one pass of the
network for all queries of a photo, ``accurate`` the best that one model gives.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from prisbench.diffusion.prompts import TOKEN_GROUPS
from prisbench.errors import UnknownNameError, UsageError
from prisbench.localizer.refine import (
    EMBEDDED_CRF,
    PHOTO_ADAPTIVE,
    PUBLISHED_CRF,
    TABLETOP_ADAPTIVE,
    AdaptiveParameters,
    CrfParameters,
)

AGAINST = ("noun", "nothing")
"""Rivals of the subject's words: the noun in the same text, and the text without even that."""


@dataclass(frozen=True)
class Evidence:
    """Where the subject's words explain the photo better than other words do; see ``prisbench.localizer.evidence``.

    ``timesteps`` and ``samples``: the noises compared; no timesteps is no evidence.  ``against``: the rivals, see
    AGAINST; the first one that differs from the subject's words decides whether it is there at all.  ``blur``:
    deviation of the Gaussian that gathers it, as a share of the photo's side (of a square of its area).  ``power``: the
    map is multiplied by (evidence / its maximum) ** power for each rival.  ``attention``: whether it is there at all is
    told by the evidence times (the highest attention that the learned words get) ** attention.
    """

    timesteps: tuple[int, ...] = ()
    samples: int = 2
    against: tuple[str, ...] = ("nothing",)
    blur: float = 0.12
    power: float = 0.5
    attention: float = 0.0

    def __bool__(self) -> bool:
        return bool(self.timesteps)


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
    ``published_boxes``: as released, boxes never hold the last row and column.

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
    adaptive: AdaptiveParameters = PHOTO_ADAPTIVE

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
            "refine": self.refine in ("none", "crf", "adaptive"),
            "presence": self.presence is None or self.presence > 0,
            "working_size": self.working_size in ("native", "paper")
            or (isinstance(self.working_size, int) and self.working_size >= 64),
            "weights": self.weights in ("given", "consensus"),
            "contrast_noun": self.contrast_noun >= 0,
            "contrast_others": self.contrast_others >= 0,
            "evidence": self.evidence.samples >= 1
            and len(self.evidence.against) > 0
            and set(self.evidence.against) <= set(AGAINST)
            and self.evidence.blur >= 0
            and self.evidence.power >= 0
            and self.evidence.attention >= 0
            and all(t >= 0 for t in self.evidence.timesteps),
        }
        for name, fits in checks.items():
            if not fits:
                raise UsageError(f"localizer.{name}={getattr(self, name)!r} makes no sense; see LocalizerSettings")

    def as_record(self) -> dict[str, Any]:
        """Plain JSON values, for the record of a run."""
        return dataclasses.asdict(self)


class Roles(NamedTuple):
    """What the blocks of a backbone family are good for, by name, whatever order a library counts them in.

    ``meaning``: the cross-attention the published method reads, blocks 4 to 8 of Stable Diffusion 1.x and their like.
    ``shape``: the finest cross-attention whose words are still clear.  ``affinity``: the self-attention that spreads.
    """

    meaning: tuple[str, ...]
    shape: tuple[str, ...]
    affinity: str


ROLES: dict[str, Roles] = {
    "embedded": Roles(("down.2.0", "mid.0", "up.0.0", "up.0.1"), ("up.1.0", "up.1.1", "up.2.0", "up.2.1"), "up.1.1"),
    "sd": Roles(("down.2.0", "down.2.1", "mid.0", "up.1.0", "up.1.1"), ("up.1.2", "up.2.0", "up.2.1"), "up.2.1"),
    # Ten transformer blocks in one attention module: the last of each; its finest attention has stride 2.
    "sdxl": Roles(
        ("down.2.0.9", "down.2.1.9", "mid.0.9", "up.0.0.9", "up.0.1.9"), ("up.1.0.1", "up.1.1.1"), "up.1.1.1"
    ),
}
"""Backbone family -> roles.  "sd" is Stable Diffusion 1.x and 2.x, which have one layout of blocks."""


def _evenly(blocks: tuple[str, ...]) -> dict[str, float]:
    return dict.fromkeys(blocks, 1.0)


PUBLISHED = LocalizerSettings(
    template="a photo including {text}, tree, river, sea, lake, water, railway, railroad, track, stone, and rocks.",
    tokens=("subject",),
    timesteps=(150,),
    samples=10,
    cross=_evenly(ROLES["sd"].meaning),
    self_block=ROLES["sd"].affinity,
    hops=2,
    theta=0.2,
    published_boxes=True,
    rule="squared",
    tau=0.5,
    refine="none",
    crf=PUBLISHED_CRF,
    presence=None,
    working_size="paper",
)
"""The published procedure; the words after the text only soak up attention."""


def _for_photos(roles: Roles) -> dict[str, LocalizerSettings]:
    """The presets of a backbone that knows photographs.

    ``fast`` and ``accurate`` follow what other localizers found on such models (timestep 100: DiffSegmenter, iSeg; one
    hop: DiffSegmenter; 4 noises suffice) and what Tabletop's validation subjects taught about the rest; they were not
    tuned on photographs.
    """
    paper = dataclasses.replace(PUBLISHED, cross=_evenly(roles.meaning), self_block=roles.affinity)
    fast = dataclasses.replace(
        paper,
        template="a photo of {text}",
        caption="a photo",
        timesteps=(100,),
        samples=1,
        cross=_evenly((*roles.meaning[2:], *roles.shape[-1:])),
        hops=1,
        theta=None,
        published_boxes=False,
        rule="threshold",
        tau=0.45,
        working_size="native",
    )
    accurate = dataclasses.replace(
        fast,
        caption=None,
        timesteps=(100, 250),
        samples=2,
        refine="crf",
        evidence=Evidence((300, 500, 700, 850)),
        tau=0.2,
        presence=0.2,
    )
    return {"paper": paper, "fast": fast, "accurate": accurate}


# For the backbone in prisbench/embedded/weights; chosen on validation subjects (docs/localizer.md).
_TABLETOP = LocalizerSettings(
    template="{text}",
    tokens=("subject",),
    timesteps=(100, 300),
    samples=2,
    cross={"up.1.0": 1.0, "up.1.1": 2.0, "up.2.0": 1.0, "up.2.1": 1.0},
    self_block=ROLES["embedded"].affinity,
    hops=0,
    theta=None,
    published_boxes=False,
    rule="threshold",
    tau=0.15,
    refine="crf",
    crf=EMBEDDED_CRF,
    presence=0.15,
    working_size="native",
    evidence=Evidence((300, 500, 700, 850), attention=2.0),
    adaptive=TABLETOP_ADAPTIVE,
)

PRESETS: dict[str, dict[str, LocalizerSettings]] = {
    "embedded": {
        # The published steps on this model's blocks; it reads 40 tokens, too few for the words that follow the text.
        "paper": dataclasses.replace(
            PUBLISHED,
            template="a photo of {text}",
            cross=_evenly(ROLES["embedded"].meaning),
            self_block=ROLES["embedded"].affinity,
            working_size="native",
        ),
        "fast": dataclasses.replace(
            _TABLETOP,
            caption="a photo",
            samples=1,
            timesteps=(300,),
            tau=0.45,
            refine="none",
            presence=None,
            evidence=Evidence(),
        ),
        "accurate": _TABLETOP,
    },
    "sd": _for_photos(ROLES["sd"]),
    "sdxl": _for_photos(ROLES["sdxl"]),
}
"""Backbone family -> name -> settings."""

DEFAULTS = {"embedded": "accurate", "sd": "paper", "sdxl": "paper"}
"""The preset a family gets when none is named: where nothing was measured, what was published."""


def preset(name: str, family: str) -> LocalizerSettings:
    """The settings of that name for a backbone family.  Raises UnknownNameError."""
    if family not in PRESETS:
        raise UnknownNameError("backbone family", family, PRESETS)
    if name not in PRESETS[family]:
        raise UnknownNameError("localizer preset", name, PRESETS[family])
    return PRESETS[family][name]
