"""How fast soft maps become labels: the dense CRF in worker processes, in this one, and the refinement in torch.

Knows: how to time ``labelling``.  Does not know: networks.

The photos are Tabletop scenes drawn large: what a CRF costs depends on how many colours lie near one another, so noise
or one flat colour would not do.
"""

from __future__ import annotations

import dataclasses
import random
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import UInt8
from scipy import ndimage

from prisbench.errors import UsageError
from prisbench.localizer.refine import PHOTO_ADAPTIVE, PUBLISHED_CRF
from prisbench.provenance import current_environment
from prisbench.runtime.workers import in_order, worker_processes
from prisbench.tabletop.individuals import draw_individual
from prisbench.tabletop.scenes import Plan, compose
from prisbench.wsss.labelling import Labels, LabelSettings, label
from prisbench.wsss.maps import SoftMap

PUBLISHED = LabelSettings("squared", 0.5, "crf", PUBLISHED_CRF, PHOTO_ADAPTIVE)


def drawn(index: int, size_hw: tuple[int, int]) -> tuple[UInt8[np.ndarray, "h w 3"], SoftMap]:
    """A scene of two things, and soft maps of them as blurred as a network's."""
    rng = random.Random(f"crf bench/{index}")
    h, w = size_hw
    who = [draw_individual(rng, noun) for noun in ("mug", "bottle")]
    scene = compose(rng, who, Plan((0.3 * min(h, w), 0.5 * min(h, w)), size_hw=size_hw))
    blurred = [ndimage.gaussian_filter(mask.astype(np.float32), 0.04 * min(h, w)) for mask in scene.masks]
    scores = np.stack([each / each.max() for each in blurred])
    return scene.image, SoftMap((1, 2), scores.astype(np.float16))


def bench_crf(
    images: int = 8,
    workers: int = 2,
    repeats: int = 1,
    size_hw: tuple[int, int] = (375, 500),
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Images a second of the CRF stage; a record that fits JSON.

    ``ours``: in ``workers`` processes that are already running; ``reference``: one after the other in this process;
    ``adaptive``: the same loop with the refinement in torch.  Medians of ``repeats``.  Raises UsageError, and
    MissingExtraError without the extra ``crf``.
    """
    if images < 1 or workers < 1 or repeats < 1:
        raise UsageError(f"{images} images, {workers} workers, {repeats} repeats: each must be at least 1")
    given = [drawn(i, size_hw) for i in range(images)]
    began = time.perf_counter()
    label(*given[0], PUBLISHED)
    one = time.perf_counter() - began
    whole = 3 * one * (images * repeats + 1)
    say(f"about {whole:.0f} seconds: {images} images of {size_hw[0]} x {size_hw[1]}, {one:.2f} s for one")
    soft = dataclasses.replace(PUBLISHED, refine="adaptive")
    label(*given[0], soft)
    with worker_processes(workers) as pool:
        together = partial(in_order, pool, label, [(*each, PUBLISHED) for each in given], images)
        alone = partial(in_order, None, label, [(*each, PUBLISHED) for each in given], images)
        averaged = partial(in_order, None, label, [(*each, soft) for each in given], images)
        list(in_order(pool, label, [(*given[0], PUBLISHED)] * 2 * workers, 2 * workers))  # until all have started
        seconds: dict[str, list[float]] = {"ours": [], "reference": [], "adaptive": []}
        answers: dict[str, list[Labels]] = {}
        for _ in range(repeats):
            for name, call in (("ours", together), ("reference", alone), ("adaptive", averaged)):
                began = time.perf_counter()
                answers[name] = list(call())
                seconds[name].append(time.perf_counter() - began)
    rates = {name: images / statistics.median(each) for name, each in seconds.items()}
    same = [np.array_equal(a.after, b.after) for a, b in zip(answers["ours"], answers["reference"], strict=True)]
    return {
        "ratio": rates["ours"] / rates["reference"],
        **rates,
        "adaptive_ratio": rates["adaptive"] / rates["reference"],
        "unit": "images per second",
        "same_labels": all(same),
        "images": images,
        "workers": workers,
        "repeats": repeats,
        "size_hw": list(size_hw),
        "classes": 3,
        "environment": dataclasses.asdict(current_environment()),
    }


def render(record: dict[str, Any]) -> str:
    """For people."""
    h, w = record["size_hw"]
    return (
        f"CRF of {h} x {w} pixels, images per second: {record['ours']:.2f} in {record['workers']} processes, "
        f"{record['reference']:.2f} in a plain loop ({record['ratio']:.2f} times as many); "
        f"refinement in torch: {record['adaptive']:.2f} ({record['adaptive_ratio']:.2f} times)"
    )
