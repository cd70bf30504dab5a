"""What several test files share: a cache of their own, somebody who is not root, a dataset of fifteen queries."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.drawing import draw_box, draw_scene

os.environ.setdefault("HF_HUB_OFFLINE", "1")


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads or writes the user's own cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PRISBENCH_HOME", str(tmp_path_factory.mktemp("home")))
        yield


@pytest.fixture
def without_root() -> Iterator[None]:
    """Permissions mean nothing to root: be somebody else for the length of a test."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture(scope="session")
def tiny_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset folder ``tiny-v1``: a validation mug, a test mug and a test bowl with one query of each type."""
    from prisbench.datasets.build import write_dataset
    from prisbench.datasets.schema import QueryRow, SubjectRow
    from prisbench.types import QUERY_TYPES

    subjects = [
        SubjectRow(noun, tuple(draw_scene(100 * n + i, (9, 14 + i)) for i in range(2)), split, "CC0-1.0", "drawn")
        for n, (noun, split) in enumerate((("mug", "validation"), ("mug", "test"), ("bowl", "test")))
    ]
    queries = [
        QueryRow(
            subject_id=subject.id,
            noun=subject.noun,
            image=draw_scene(1000 * n + i),
            text="the {subject} left of the box" if kind == "relation" else "the {subject}",
            query_type=kind,
            mask=draw_box((12, 20), 2, 3 + n, 8, 9) & (kind != "absent"),
            look_alikes=(draw_box((12, 20), 1, 12, 9, 18),) if kind == "look-alike" else (),
            split=subject.split,
            licence="CC0-1.0",
            source="drawn",
        )
        for n, subject in enumerate(subjects)
        for i, kind in enumerate(QUERY_TYPES)
    ]
    folder = tmp_path_factory.mktemp("datasets") / "tiny-v1"
    write_dataset(folder, "tiny", "1", subjects, queries, "# Tiny\n\nDrawn by the tests.\n", seed=7)
    return folder
