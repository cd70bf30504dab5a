"""The named sets of the localizer's numbers, for each backbone family.

``paper`` is the published procedure (arXiv 2309.04109), ``fast`` one pass of the network for all queries of a photo,
``accurate`` the best that one model gives, ``balanced`` the same with half of its evidence.  One code path serves all
of them.

Knows: the blocks of each backbone family by the role they play, and the presets.  Does not know: torch, images.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, NamedTuple

from prisbench.diffusion.families import FAMILIES
from prisbench.errors import BackboneError, UnknownNameError
from prisbench.localizer.refine import EMBEDDED_CRF, PUBLISHED_CRF, TABLETOP_ADAPTIVE
from prisbench.localizer.settings import Evidence, LocalizerSettings, Places

if TYPE_CHECKING:
    from prisbench.diffusion.backbone import Backbone


def default_settings(backbone: Backbone, name: str | None = None) -> LocalizerSettings:
    """A preset of the backbone's family, by default the family's own.

    Raises BackboneError for a layout of blocks nobody has given roles, UnknownNameError for the name.
    """
    if backbone.family not in PRESETS:
        from prisbench.diffusion.joint import blocks_of

        network = "transformer" if backbone.is_transformer else "U-Net"
        raise BackboneError(
            f"{backbone.id}: no preset knows this {network}'s blocks ({', '.join(blocks_of(backbone.unet))})"
        )
    return preset(name or DEFAULTS.get(backbone.family, "paper"), backbone.family)


def preset(name: str, family: str) -> LocalizerSettings:
    """The settings of that name for a backbone family.  Raises UnknownNameError."""
    if family not in PRESETS:
        raise UnknownNameError("backbone family", family, PRESETS)
    if name not in PRESETS[family]:
        raise UnknownNameError("localizer preset", name, PRESETS[family])
    return PRESETS[family][name]


class Roles(NamedTuple):
    """What the blocks of a backbone family are good for, by name, whatever order a library counts them in.

    ``meaning``: the cross-attention the published method reads, blocks 4 to 8 of Stable Diffusion 1.x and their like.
    ``shape``: the finest cross-attention whose words are still clear.  ``affinity``: the self-attention that spreads.
    """

    meaning: tuple[str, ...]
    shape: tuple[str, ...]
    affinity: str


def _one_grid(word: str, *numbers: int) -> Roles:
    """Blocks of a transformer that all play each role; the first one spreads."""
    blocks = tuple(f"{word}.{n}" for n in numbers)
    return Roles(blocks, blocks, blocks[0])


ROLES: dict[str, Roles] = {
    "embedded": Roles(("down.2.0", "mid.0", "up.0.0", "up.0.1"), ("up.1.0", "up.1.1", "up.2.0", "up.2.1"), "up.1.1"),
    "sd": Roles(("down.2.0", "down.2.1", "mid.0", "up.1.0", "up.1.1"), ("up.1.2", "up.2.0", "up.2.1"), "up.2.1"),
    # Ten transformer blocks in one attention module: the last of each; its finest attention has stride 2.
    "sdxl": Roles(
        ("down.2.0.9", "down.2.1.9", "mid.0.9", "up.0.0.9", "up.0.1.9"), ("up.1.0.1", "up.1.1.1"), "up.1.1.1"
    ),
    # Transformers have one grid, so one block can play all roles.  Published: Seg4Diff's ninth block of Stable
    # Diffusion 3, ConceptAttention's blocks 15 to 18 of Flux.1 and 5 to 7 of the eight of Flux.2.  The others are at
    # the same share of the depth, PixArt's and the embedded DiT's in the middle of it: guesses.
    "embedded-dit": _one_grid("joint", 3, 4),
    "sd3": _one_grid("joint", 9),
    "sd3-large": _one_grid("joint", 14),
    "flux": _one_grid("double", 15, 16, 17, 18),
    "klein": _one_grid("double", 3, 4),
    "klein-9b": _one_grid("double", 5, 6, 7),
    "pixart": _one_grid("block", 12, 13, 14, 15),
}
"""Backbone family -> roles.  "sd" is Stable Diffusion 1.x and 2.x, which have one layout of blocks; the transformers'
families are those of ``diffusion.families``."""


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
    hop: DiffSegmenter) and what Tabletop's validation subjects taught about the rest: one noise and one pass for all
    queries lose nothing, the evidence needs one noise a timestep, the text's places are read.  They were not tuned on
    photographs.
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
        refine="crf",
        evidence=Evidence((300, 500, 700, 850), samples=1),
        tau=0.2,
        presence=0.2,
        places=Places(alone=1.0, power=1.0, silence=1.0),
    )
    balanced = dataclasses.replace(accurate, evidence=dataclasses.replace(accurate.evidence, timesteps=(300, 700)))
    return {"paper": paper, "fast": fast, "balanced": balanced, "accurate": accurate}


# For the backbone in prisbench/embedded/weights; chosen on validation subjects (docs/localizer.md).
_TABLETOP = LocalizerSettings(
    template="{text}",
    tokens=("subject",),
    caption="a photo",
    timesteps=(300,),
    samples=1,
    cross={"up.1.0": 1.0, "up.1.1": 2.0, "up.2.0": 1.0, "up.2.1": 1.0},
    self_block=ROLES["embedded"].affinity,
    hops=0,
    theta=None,
    published_boxes=False,
    rule="threshold",
    tau=0.2,
    refine="crf",
    crf=dataclasses.replace(EMBEDDED_CRF, colour_px=15.0),
    presence=0.25,
    working_size="native",
    evidence=Evidence((100, 300, 500, 700), samples=1, blur=0.06, power=0.25, attention=2.0),
    places=Places(alone=1.0, power=1.0, silence=1.0),
    adaptive=TABLETOP_ADAPTIVE,
)

MIDDLE = 500
"""Half noise: ConceptAttention's second of four steps; Seg4Diff's eighth of 28 is near it on either side."""


def _for_embedded_dit() -> dict[str, LocalizerSettings]:
    """What was chosen for the embedded U-Net, read from a transformer's blocks; nothing of it was tuned."""
    roles = ROLES["embedded-dit"]
    read = {"cross": _evenly(roles.meaning), "self_block": roles.affinity, "timesteps": (MIDDLE,), "share": True}
    known = _for_embedded()
    return {name: dataclasses.replace(known[name], **read) for name in ("fast", "balanced", "accurate")}  # type: ignore[arg-type]


def _for_transformers(roles: Roles, **changes: Any) -> dict[str, LocalizerSettings]:
    """The presets of a diffusion transformer that knows photographs; nothing of them was tuned, or tried on a photo.

    Blocks, timestep and kind of map are what was published for such models (docs/backbones.md says by whom, and where
    that is a guess); the rest is as in ``_for_photos``.
    """
    known = _for_photos(roles)
    fast = dataclasses.replace(known["fast"], timesteps=(MIDDLE,), cross=_evenly(roles.meaning), **changes)
    same = ("timesteps", "cross", *changes)
    accurate = dataclasses.replace(known["accurate"], **{name: getattr(fast, name) for name in same})
    return {"fast": fast, "accurate": accurate}


def _for_embedded() -> dict[str, LocalizerSettings]:
    return {
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
            tau=0.45,
            refine="none",
            presence=None,
            evidence=Evidence(),
            places=Places(),
        ),
        "balanced": dataclasses.replace(
            _TABLETOP, evidence=dataclasses.replace(_TABLETOP.evidence, timesteps=(100, 500))
        ),
        "accurate": _TABLETOP,
    }


PRESETS: dict[str, dict[str, LocalizerSettings]] = {
    "embedded": _for_embedded(),
    "embedded-dit": _for_embedded_dit(),
    "sd": _for_photos(ROLES["sd"]),
    "sdxl": _for_photos(ROLES["sdxl"]),
    "sd3": _for_transformers(ROLES["sd3"], share=True),
    "sd3-large": _for_transformers(ROLES["sd3-large"], share=True),
    "flux": _for_transformers(ROLES["flux"], maps="outputs"),
    "klein": _for_transformers(ROLES["klein"], maps="outputs"),
    "klein-9b": _for_transformers(ROLES["klein-9b"], maps="outputs"),
    "pixart": _for_transformers(ROLES["pixart"]),
}
"""Backbone family -> name -> settings."""

DEFAULTS = {
    "embedded": "accurate",
    "sd": "paper",
    "sdxl": "paper",
    **dict.fromkeys(FAMILIES.values(), "fast"),
    "embedded-dit": "accurate",
}
"""The preset a family gets when none is named: where nothing was measured, what was published."""
