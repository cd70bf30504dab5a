"""What several test files share: one thread a process, a cache of their own, somebody who is not root, real photos, a
dataset of fifteen queries; and the option ``--no-skips``, with which a skipped test is a failure.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.drawing import FIVE_TYPES, draw_box, draw_scene

os.environ.setdefault("HF_HUB_OFFLINE", "1")
# One thread a process and as many processes as cores (``make test``): threads of several processes wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--no-skips``: of the second part of continuous integration, where everything has to run."""
    parser.addoption("--no-skips", action="store_true", help="a skipped test is a failure, and so is no test at all")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Turn a skip into a failure that gives the reason, with ``--no-skips``."""
    report = yield
    if item.config.getoption("--no-skips") and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped, which --no-skips forbids: {report.longrepr[2]}"
    return report


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads or writes the user's own cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PRISBENCH_HOME", str(tmp_path_factory.mktemp("home")))
        yield


@pytest.fixture(scope="session")
def real_data() -> Callable[[str], Path]:
    """A folder of real photos by name, below PRISBENCH_DATA; skips, with the reason, where it is not."""

    def folder(name: str = "") -> Path:
        if "PRISBENCH_DATA" not in os.environ:
            pytest.skip("PRISBENCH_DATA is not set, so there are no real photos")
        found = Path(os.environ["PRISBENCH_DATA"]) / name
        if not found.exists():
            pytest.skip(f"PRISBENCH_DATA has no {name}")
        return found

    return folder


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
    from prisbench.datasets.build import NewDataset, write_dataset
    from prisbench.datasets.schema import QueryRow, SubjectRow

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
        for i, kind in enumerate(FIVE_TYPES)
    ]
    folder = tmp_path_factory.mktemp("datasets") / "tiny-v1"
    write_dataset(folder, NewDataset("tiny", "1", subjects, queries, "# Tiny\n\nDrawn by the tests.\n", seed=7))
    return folder
