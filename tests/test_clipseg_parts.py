"""Parts that CLIPSeg offers, from the small model that comes along, and its texts read for it."""

from __future__ import annotations

import random

import numpy as np
import pytest
from scipy import ndimage

from prisbench.clipseg.method import ClipSegMethod
from prisbench.images.regions import iou
from prisbench.methods import load_method
from prisbench.settings import MethodOptions
from prisbench.tabletop.captions import ordinary_scene
from prisbench.tabletop.scenes import Scene
from prisbench.types import Query, Subject


@pytest.fixture(scope="module")
def scene() -> Scene:
    """A scene with several things, of which one noun is there once."""
    for n in range(40):
        found, _ = ordinary_scene(f"clipseg-parts/{n}")
        nouns = [thing.individual.noun for thing in found.things]
        if len(nouns) >= 3 and len(set(nouns)) == len(nouns):
            return found
    raise AssertionError("no such scene")


@pytest.fixture(scope="module")
def clipseg() -> ClipSegMethod:
    return ClipSegMethod.make(MethodOptions())


def subject_of(scene: Scene, n: int) -> Subject:
    return Subject("s", scene.things[n].individual.noun, (scene.image,))


def test_parts_are_connected_have_the_photos_size_and_the_likeliest_comes_first(
    clipseg: ClipSegMethod, scene: Scene
) -> None:
    found = clipseg.candidates(scene.image, subject_of(scene, 0))
    assert found and [part.score for part in found] == sorted((part.score for part in found), reverse=True)
    query = Query("q", "s", "the {subject}")
    (answer,) = clipseg.locate(scene.image, [query], {"s": clipseg.learn(subject_of(scene, 0))})
    assert answer.score is not None
    for part in found:
        assert part.mask.shape == scene.image.shape[:2] and part.mask.any()
        assert ndimage.label(part.mask)[1] == 1
        assert part.score == pytest.approx(float(answer.score[part.mask].mean()), abs=1e-6), "of the map it answers by"
    masks = [part.mask for part in found]
    assert all(iou(a, b) <= 0.8 for n, a in enumerate(masks) for b in masks[:n])


def test_parts_of_a_large_photo_have_its_size(clipseg: ClipSegMethod, scene: Scene) -> None:
    large = np.repeat(np.repeat(scene.image, 5, axis=0), 4, axis=1)
    found = clipseg.candidates(large, subject_of(scene, 0))
    assert found and all(part.mask.shape == large.shape[:2] for part in found)


def test_a_text_about_place_is_read_for_clipseg(scene: Scene) -> None:
    reads = load_method("clipseg", MethodOptions(settings={"text.relations": True}))
    plain = load_method("clipseg", MethodOptions())
    assert reads.name == "clipseg+relations" and reads.settings["text"]["landmarks"] == "colour words"
    subject = subject_of(scene, 0)
    concepts = {"s": reads.learn(subject)}
    texts = ("the {subject}", "the leftmost {subject}", "the rightmost {subject}")
    queries = [Query(text, "s", text) for text in texts]
    own, left, right = reads.locate(scene.image, queries, concepts)
    (alone,) = plain.locate(scene.image, queries[:1], concepts)
    assert np.array_equal(own.mask, alone.mask), "a text without a place is the method's own"
    parts = [part.mask for part in plain.candidates(scene.image, subject)]  # type: ignore[attr-defined]
    for answer in (left, right):
        if answer.mask is not None:
            assert max(iou(answer.mask, part) for part in [*parts, alone.mask]) > 0.8, "a part, or its own mask"
    single = [reads.locate(scene.image, [query], concepts)[0] for query in random.Random(1).sample(queries, 3)]
    for answer in single:
        (same,) = [each for each in (own, left, right) if each.query_id == answer.query_id]
        assert (answer.mask is None) == (same.mask is None)
        assert answer.mask is None or np.array_equal(answer.mask, same.mask)
