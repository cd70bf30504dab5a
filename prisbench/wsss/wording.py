"""How an image's classes become words: what stands for a class, and words that only soak up
attention.

Knows: the published words for VOC's and COCO's classes.  Does not know: tokenizers, templates,
images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Wording:
    """How an image's classes become a text: class phrases, then background words, between commas.

    ``phrases``: what stands for a class, where that is not its name.  ``background``: words that
    soak up attention;
    ``backgrounds``: those of the classes that have others.  An image gets those of all its
    classes, each once.
    ``articles``: "a mug" instead of "mug"; the map is that of the phrase without it.  ``last``
    joins the last word.
    """

    phrases: Mapping[str, str] = field(default_factory=dict)
    background: tuple[str, ...] = ()
    backgrounds: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    articles: bool = False
    last: str = ", and "

    def phrase(self, name: str) -> str:
        """The words for a class."""
        return self.phrases.get(name, name)

    def background_of(self, names: Sequence[str]) -> tuple[str, ...]:
        """The background words of an image of these classes, in order."""
        every = [word for name in names for word in self.backgrounds.get(name, self.background)]
        return tuple(dict.fromkeys(every))


BACKGROUND_WORDS = ("tree", "river", "sea", "lake", "water", "railway", "railroad", "track", "stone", "rocks")
VOC_WORDING = Wording(
    phrases={
        "bird": "bird avian",
        "chair": "chair seat",
        "diningtable": "dining table",
        "person": "person with clothes",
        "pottedplant": "potted plant",
        "tvmonitor": "tv monitor screen",
    },
    background=BACKGROUND_WORDS,
    backgrounds={
        "boat": ("river", "sea", "lake", "water", "mountain"),
        "cow": ("grass", "stone", "rocks"),
        "train": ("railway", "railroad", "track"),
        "tvmonitor": ("keyboard", "wall"),
    },
)


COCO_WORDING = Wording(
    phrases={
        "person": "person with clothes",
        "motorcycle": "motorbike",
        "airplane": "aeroplane",
        "bird": "bird avian",
        "backpack": "backpack, bag",
        "umbrella": "umbrella, parasol",
        "handbag": "handbag, purse",
        "tie": "necktie",
        "baseball glove": "glove",
        "spoon": "dessert spoon",
        "chair": "chair seat",
        "couch": "sofa",
        "tv": "tv monitor screen",
        "remote": "remote control",
        "hair drier": "hairdrier, blowdrier",
    },
    background=BACKGROUND_WORDS,
)
"""Both: Text2Mask, ``scripts/SD_seg.py``.  Its "sknowboard" is written as the word it means."""
