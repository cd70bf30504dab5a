"""Photos that a method's model knows nothing of: what is said of them, and when a run is refused.

A method may have the member ``strangeness(image) -> Strangeness | None``: how far a photo is from what its model was
trained on, and where its own world ends.  Methods without it, and those that answer None, are never warned of.

Knows: that member.  Does not know: how it is measured, any method.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from prisbench.datasets.load import Dataset
from prisbench.errors import DataError, PrisbenchError
from prisbench.images.arrays import ImageLike
from prisbench.types import Example, KnowsItsWorld

SAMPLE = 32
"""Queries whose scenes are looked at before a run, spread over subjects, types and grades."""


TOLERATED = 0.1
"""Of many photos of a model's own world one in a hundred is outside by chance; up to this share nothing is said."""


REFUSED = 0.25
"""A run is refused where more of the scenes are outside.  Of sets of real photos 0.9 are, of the benchmark 0.03
(docs/localizer.md)."""

CURE = "name a model that knows photographs (--backbone, --model, or --set sam=...)"


class Strangeness(NamedTuple):
    """How strange a photo is to a model, and what 99 in 100 photos of the model's own world stay below."""

    value: float
    threshold: float

    @property
    def outside(self) -> bool:
        return self.value > self.threshold


def look(method: Any, image: ImageLike) -> Strangeness | None:
    """What a method says of a photo; None where it says nothing, or cannot look at the photo."""
    if not isinstance(method, KnowsItsWorld):
        return None
    try:
        found: Strangeness | None = method.strangeness(image)
    except PrisbenchError:  # such a photo fails by itself, when its turn comes
        return None
    return found


def in_domain(found: Strangeness | None) -> bool | None:
    """As results have it: None where nothing is known."""
    return None if found is None else not found.outside


def warning(found: Sequence[Strangeness | None], what: str) -> str | None:
    """One line about those that are outside, where they are more than TOLERATED; ``what`` names one ("photo")."""
    outside = [each for each in found if each is not None and each.outside]
    if len(outside) <= TOLERATED * len(found):
        return None
    many = f"{len(outside)} of {len(found)} {what}s are" if len(found) > 1 else f"this {what} is"
    strangest, threshold = max(each.value for each in outside), outside[0].threshold
    return (
        f"WARNING: {many} unlike anything this model was trained on "
        f"(strangeness {strangest:.1f}, its own world's 99th percentile {threshold:.1f}): masks "
        f"and concepts are meaningless there; {CURE}"
    )


def scenes(examples: Iterable[Example]) -> Iterator[Example]:
    """One example a scene, in their order."""
    seen: set[str] = set()
    for example in examples:
        if example.image_id not in seen:
            seen.add(example.image_id)
            yield example


def check_dataset(dataset: Dataset, method: Any, split: str, allowed: bool) -> str | None:
    """Look at up to SAMPLE scenes of a split before a run; a warning where some are outside.

    Raises DataError when more than REFUSED of them are, unless ``allowed``.
    """
    if not isinstance(method, KnowsItsWorld):
        return None
    first = next(scenes(dataset.examples(split, 1)), None)
    if first is None or look(method, first.image) is None:
        return None
    found = [look(method, example.image) for example in scenes(dataset.examples(split, SAMPLE))]
    outside = sum(each is not None and each.outside for each in found)
    line = warning(found, "scene")
    if line is not None and outside > REFUSED * len(found) and not allowed:
        raise DataError(
            f"{outside} of {len(found)} scenes of {dataset.id} are unlike anything the model of {method.name} was "
            f"trained on, so its scores would mean nothing; {CURE}, or say --out-of-domain to run it all the same"
        )
    return line


def count_outside(method: Any, examples: Iterable[Example]) -> int | None:
    """How many scenes are outside, for the record of a run; None where nothing is known of any."""
    if not isinstance(method, KnowsItsWorld):
        return None
    found = []
    for example in scenes(examples):
        found.append(look(method, example.image))
        if found[0] is None and len(found) == 1:
            return None
    return sum(each is not None and each.outside for each in found)
