"""How well a subject is found in its own photos, where their masks are known but not given: ``bench own-photos``.

Knows: ways to find it, true masks.  Does not know: scenes, queries.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

import numpy as np

from prisbench.appearance.agreement import View
from prisbench.appearance.method import FeaturesMethod
from prisbench.appearance.sight import own_views
from prisbench.errors import UsageError
from prisbench.images.regions import iou
from prisbench.network_free.colours import mask_resized
from prisbench.network_free.method import reference_of
from prisbench.results import REFERENCES
from prisbench.types import Subject


def overlaps(method: FeaturesMethod, subjects: Iterable[Subject]) -> dict[str, dict[str, float]]:
    """Way -> subject -> mean IoU with the true masks over its photos.

    The ways: words, the largest thing, what the method does (agreement), and the best thing that was found; all the
    same where things are not found.  Raises UsageError for a subject without masks.
    """
    found: dict[str, dict[str, float]] = {}
    for subject in subjects:
        if reference_of(subject) != REFERENCES[1]:
            raise UsageError(f"{subject.id} has photos without masks; how well it is found there cannot be said")
        bare = dataclasses.replace(subject, masks=())
        among = method.among(bare)
        views = own_views(method.photo_reader(), bare, method.words.learn(bare), among)
        good = [_overlaps(view, mask) for view, mask in zip(views, subject.masks, strict=True) if mask is not None]
        ways = {
            "by words": [int(np.argmax(view.shown)) for view in views],
            "the largest thing": [int(np.argmax([thing.sum() for thing in view.things])) for view in views],
            "by agreement": among.choose(views) if among else [0] * len(views),
            "the best thing": [int(np.argmax(each)) for each in good],
        }
        for way, places in ways.items():
            mean = np.mean([each[place] for each, place in zip(good, places, strict=True)])
            found.setdefault(way, {})[subject.id] = float(mean)
    return found


def markdown(found: Mapping[str, Mapping[str, float]]) -> str:
    """Each way's mean over subjects."""
    lines = ["| the subject in its own photos | subjects | mIoU |", "| :--- | ---: | ---: |"]
    lines += [f"| {way} | {len(of)} | {np.mean(list(of.values())):.3f} |" for way, of in found.items()]
    return "\n".join(lines) + "\n"


def _overlaps(view: View, mask: np.ndarray) -> list[float]:
    true = mask_resized(mask, view.scene.size_hw)
    return [iou(thing, true) for thing in view.things]
