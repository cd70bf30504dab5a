"""Every number that decides a pseudo mask, and the presets.

Knows: the published numbers, those of the embedded backbone.  Does not know: how a map is made
(``attention_maps``) or becomes labels (``labelling``).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from prisbench.diffusion.backbone import Backbone
from prisbench.errors import UnknownNameError, UsageError
from prisbench.localizer.presets import PUBLISHED, ROLES, default_settings
from prisbench.localizer.refine import TABLETOP_ADAPTIVE
from prisbench.localizer.settings import Evidence, LocalizerSettings
from prisbench.wsss.labelling import CONFIDENCES, LabelSettings
from prisbench.wsss.layouts import LAYOUTS
from prisbench.wsss.sets import SegmentationSet
from prisbench.wsss.wording import BACKGROUND_WORDS, COCO_WORDING, VOC_WORDING, Wording

MAP_SIDE = 160
"""The longer side of a stored map, in pixels, when the photo's is longer.  A map's finest cells
are some eleven pixels of a VOC photo wide, so a third of its size holds it; 58 kB instead of 560
for an image of 1.5 classes."""


@dataclass(frozen=True)
class PseudoMaskSettings:
    """Every number that decides a pseudo mask.

    Of ``localizer``, ``template`` is the sentence around the text.  With ``evidence``, the classes
    of an image share a place by how much better the photo is explained there with their words than
    without.  ``against`` and ``attention`` are not used: the other condition is the prompt without
    the class's words, and a class is known to be there.  ``tokens`` is not used, because a class
    has nothing but its phrase.  ``confidence``: see ``LabelSettings``.

    Raises UsageError for parts of the localizer that are about a single subject.
    """

    localizer: LocalizerSettings
    wording: Wording
    confidence: float = CONFIDENCES["crf"]

    def __post_init__(self) -> None:
        plain = dataclasses.replace(
            self.localizer, caption=None, share=False, contrast_noun=0.0, contrast_others=0.0, presence=None
        )
        if plain != self.localizer:
            raise UsageError(
                "caption, share, contrast_noun, contrast_others and presence ask about one subject; "
                "leave them out of the settings of pseudo masks"
            )
        _ = self.labelling

    @property
    def labelling(self) -> LabelSettings:
        """The part that turns a soft map into labels."""
        each = self.localizer
        return LabelSettings(each.rule, each.tau, each.refine, each.crf, each.adaptive, self.confidence)

    def maps_record(self) -> dict[str, Any]:
        """Plain JSON values of all that decides a soft map."""
        used = ("template", "timesteps", "samples", "cross", "self_block", "hops", "theta", "published_boxes")
        record = {name: getattr(self.localizer, name) for name in (*used, "working_size", "flip", "weights")}
        found = dataclasses.asdict(self.localizer.evidence) if self.localizer.evidence else None
        if found:
            del found["against"], found["attention"]
        return {**record, "evidence": found, "wording": dataclasses.asdict(self.wording), "map_side": MAP_SIDE}


EVIDENCE = Evidence((300, 500, 700), power=1.0)
"""What ``--evidence`` adds.  Timesteps as the localizer's preset "accurate"; on 40 Tabletop
scenes, with CRF, mIoU rose from 0.67 to 0.81.  Not measured on photographs."""

_PUBLISHED = dataclasses.replace(PUBLISHED, template="a photo including {text}.", refine="crf")
_TABLETOP = dataclasses.replace(
    _PUBLISHED,
    template="a photo of {text}",
    timesteps=(100, 300),
    samples=2,
    cross={"up.1.0": 1.0, "up.1.1": 2.0, "up.2.0": 1.0, "up.2.1": 1.0},
    self_block=ROLES["embedded"].affinity,
    theta=None,
    published_boxes=False,
    rule="threshold",
    tau=0.2,
    adaptive=TABLETOP_ADAPTIVE,
    working_size="native",
    evidence=EVIDENCE,
)


PRESETS = {
    "voc12": PseudoMaskSettings(_PUBLISHED, VOC_WORDING),
    "coco14": PseudoMaskSettings(dataclasses.replace(_PUBLISHED, samples=1, theta=0.5, tau=0.35), COCO_WORDING),
    "folder": PseudoMaskSettings(_PUBLISHED, Wording(background=BACKGROUND_WORDS)),
    "tabletop": PseudoMaskSettings(_TABLETOP, Wording(articles=True, last=" and ")),
}
"""The first two: ``run_scripts.sh`` (thresholds, samples) and ``scripts/SD_seg.py`` (boxes, CRF)
of the release.  "folder" takes VOC's numbers and the folder's own class names.  "tabletop" is for
the embedded backbone, whose captions read "a photo of a mug, a bowl and a plant"; blocks and
timesteps as its localizer's, the rest chosen on 40 scenes of its own (docs/wsss.md)."""


@dataclass(frozen=True)
class Changes:
    """Numbers that somebody has chosen; None leaves what the preset, or an earlier run, says.

    ``samples``, ``theta`` and ``evidence`` decide the maps, the others what becomes of them.
    Another ``refine`` brings its own confidence where none is given.
    """

    samples: int | None = None
    theta: float | None = None
    evidence: bool | None = None
    tau: float | None = None
    refine: str | None = None
    confidence: float | None = None

    def labelling(self) -> dict[str, Any]:
        """Those that decide what becomes of a map, without those that nobody has chosen."""
        sure = CONFIDENCES[self.refine] if self.refine is not None and self.confidence is None else self.confidence
        numbers = {"tau": self.tau, "refine": self.refine, "confidence": sure}
        return {name: value for name, value in numbers.items() if value is not None}

    def of(self, settings: PseudoMaskSettings) -> PseudoMaskSettings:
        """The settings with these numbers."""
        return changed(settings, evidence=self.evidence, samples=self.samples, theta=self.theta, **self.labelling())


def check_backbone(backbone: str | None, dataset: SegmentationSet) -> None:
    """Raises UsageError for the embedded backbone (None) on a set of photographs."""
    if backbone is None and dataset.layout.name in LAYOUTS:
        raise UsageError(
            f"the embedded backbone knows Tabletop only, not the photographs of {dataset.name}: name Stable "
            "Diffusion's folder, or its id on the hub, with --backbone"
        )


def settings_for(backbone: Backbone, dataset: SegmentationSet, preset: str | None = None) -> PseudoMaskSettings:
    """A preset with the blocks of the backbone's family; by default the data set's, or "tabletop"
    on the embedded one.

    Raises UnknownNameError, and BackboneError for a layout of blocks nobody has given roles.
    """
    name = preset or ("tabletop" if backbone.family == "embedded" else dataset.layout.name)
    chosen = preset_of(name)
    own = default_settings(backbone, "paper")
    if name == "tabletop":
        if backbone.family != "embedded":
            raise UsageError(f"the preset tabletop is for the embedded backbone, not for {backbone.id}")
        return chosen
    localizer = dataclasses.replace(
        chosen.localizer, cross=own.cross, self_block=own.self_block, working_size=own.working_size
    )
    return dataclasses.replace(chosen, localizer=localizer)


def preset_of(name: str) -> PseudoMaskSettings:
    """The settings of that name.  Raises UnknownNameError."""
    if name not in PRESETS:
        raise UnknownNameError("preset of pseudo masks", name, PRESETS)
    return PRESETS[name]


def changed(
    settings: PseudoMaskSettings, confidence: float | None = None, evidence: bool | None = None, **numbers: Any
) -> PseudoMaskSettings:
    """The settings with some numbers of the localizer replaced (None
    leaves one), and with or without evidence.
    """
    given = {name: value for name, value in numbers.items() if value is not None}
    if evidence is not None and evidence != bool(settings.localizer.evidence):
        given["evidence"] = EVIDENCE if evidence else Evidence()
    localizer = dataclasses.replace(settings.localizer, **given)
    sure = settings.confidence if confidence is None else confidence
    return dataclasses.replace(settings, localizer=localizer, confidence=sure)
