"""Subjects and queries of drawn scenes, as a dataset is built of."""

from __future__ import annotations

from prisbench.datasets.schema import QueryRow, SubjectRow
from tests.drawing import draw_box, draw_scene


def subject_row(n: int, noun: str = "mug", split: str = "test", photos: int = 2) -> SubjectRow:
    """The ``n``-th subject: its photos are scenes of 9 x 14 that no other one has."""
    return SubjectRow(noun, tuple(draw_scene(9 * n + i, (9, 14)) for i in range(photos)), split, "CC0-1.0", "drawn")


def query_row(subject: SubjectRow, scene: int, text: str, kind: str = "plain") -> QueryRow:
    """A query about a scene of 12 x 20: a box is meant unless it is absent, and a look-alike stands beside it where
    the kind says so.
    """
    return QueryRow(
        subject_id=subject.id,
        noun=subject.noun,
        image=draw_scene(100 + scene),
        text=text,
        query_type=kind,
        mask=draw_box((12, 20), 2, 3, 8, 9) & (kind != "absent"),
        look_alikes=(draw_box((12, 20), 1, 12, 9, 18),) if kind == "look-alike" else (),
        split="test",
        licence="CC0-1.0",
        source="drawn",
    )
