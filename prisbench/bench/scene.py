"""What answering a scene's queries costs, in passes of the network.

Knows: one scene of Tabletop with three things.  Does not know: how a query is answered.
"""

from __future__ import annotations

import itertools
import statistics
from typing import Any

from prisbench.bench.network import Call, bare_network, calls_of, last_layer, one_row
from prisbench.bench.process import seconds_of
from prisbench.concepts.controls import noun_only
from prisbench.diffusion.backbone import Backbone
from prisbench.localizer.answer import locate
from prisbench.localizer.settings import LocalizerSettings
from prisbench.tabletop.captions import ordinary_scene
from prisbench.types import Query, Subject


def scene_multiple(backbone: Backbone, settings: LocalizerSettings | None, repeats: int) -> dict[str, Any]:
    """Answering all queries of one scene, as users do, in passes of the network up to the last block needed.

    The scene has three things, and each is asked for.  A pass has one row and reads nothing.  Without settings: nulls.
    """
    if settings is None:
        return dict.fromkeys(("multiple", "multiple_seconds", "multiple_pass_seconds", "multiple_queries"))
    drawn = (ordinary_scene(f"bench/{i}")[0] for i in itertools.count())
    scene = next(scene for scene in drawn if len(scene.things) == 3)
    queries, concepts = [], {}
    for i, thing in enumerate(scene.things):
        subject = Subject(f"thing-{i}", thing.individual.noun, ())
        concepts[subject.id] = noun_only(subject)
        queries.append(Query(f"query-{i}", subject.id, "a photo of the {subject}"))

    def answer() -> None:
        locate(backbone, scene.image, queries, concepts, settings)

    with calls_of(backbone.unet) as calls:
        answer()
    _, layer = last_layer(backbone.unet, settings)
    one = [Call(one_row(calls[0].args), one_row(calls[0].kwargs))]
    bare_network(backbone.unet, one, layer)
    answering, passing = [], []
    for _ in range(max(5, repeats)):  # short, so that one interruption would decide
        answering.append(seconds_of(answer))
        passing.append(seconds_of(lambda: bare_network(backbone.unet, one, layer)))
    answered, passed = statistics.median(answering), statistics.median(passing)
    return {
        "multiple": answered / passed,
        "multiple_seconds": answered,
        "multiple_pass_seconds": passed,
        "multiple_queries": len(queries),
    }
