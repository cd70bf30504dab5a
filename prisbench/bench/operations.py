"""What the methods that need outside weights cost, computed: the operations of their networks at published sizes, and
from them hours on a named GPU.

A network is built at full width on torch's device "meta", where tensors have shapes and no numbers, and its parts run
there under torch's counter, called as the method calls them.  No weights are needed and nothing is allocated.  Counted
are products of matrices, convolutions and attention, a multiplication and an addition as two.

Knows: the table of published networks, torch's counter.  Does not know: weights, photos, how fast a machine is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from prisbench.bench.published_networks import PHOTOS, PUBLISHED, Work


class Size(NamedTuple):
    """A benchmark.  ``calls``: of ``locate``, each about one scene; the two texts of a pair are in two calls."""

    name: str
    subjects: int
    scenes: int
    calls: int
    queries: int


SIZES = (
    Size("tabletop-v3", 48, 1536, 1920, 1920),
    Size("YCB-Video", 21, 2949, 10322, 10322),
)
"""The test split of ``tabletop-v3``, as its rows have it.  YCB-Video: the 2,949 key frames of its 12 test videos and
its 21 objects (Xiang et al. 2018, arXiv 1711.00199, section 5), with 3.5 queries a frame, as the committed sample has
them; every query is about another subject, so ``calls`` counts the subjects in scenes there."""


class Gpu(NamedTuple):
    """``peak``: operations a second in float32, by its data sheet, without reduced precision; ``used``: the share of
    them that we assume a network to reach.
    """

    name: str
    peak: float
    used: float


GPU = Gpu("A100", 19.5e12, 0.4)
"""NVIDIA's A100 (data sheet of 2021).  Methods run in float32, so its faster, shorter formats do not count."""


class Row(NamedTuple):
    """A method on a network: how many weights it has, and ``work``."""

    method: str
    network: str
    weights: int
    work: Work

    def operations(self, size: Size) -> int:
        """All that a benchmark takes."""
        work = self.work
        parts = (
            (work.learn, size.subjects), (work.scene, size.scenes), (work.subject, size.calls),
            (work.query, size.queries),
        )  # fmt: skip
        return sum(operations * times for operations, times in parts)

    def hours(self, size: Size, gpu: Gpu = GPU) -> float:
        """Of the networks alone: reading the set, and what methods do beside their networks, come on top."""
        return self.operations(size) / (gpu.peak * gpu.used) / 3600


def operations(say: Callable[[str], None] = lambda _: None) -> list[Row]:
    """A row a method and network, each network counted once."""
    return list(_rows(say))


def _rows(say: Callable[[str], None]) -> Iterator[Row]:
    known: dict[str, tuple[int, dict[str, int]]] = {}
    for method, networks, work in PUBLISHED:
        for each in networks:
            if each.name not in known:
                say(f"{each.name} ...")
                known[each.name] = each.parts()
        weights = sum(known[each.name][0] for each in networks)
        parts = {key: value for each in networks for key, value in known[each.name][1].items()}
        yield Row(method, " and ".join(each.name for each in networks), weights, work(parts))


def records(rows: Sequence[Row]) -> list[dict[str, object]]:
    """The rows for a program: operations, not millions of them."""
    return [
        {
            "method": row.method,
            "network": row.network,
            "weights": row.weights,
            **row.work._asdict(),
            **{f"hours {size.name}": row.hours(size) for size in SIZES},
        }
        for row in rows
    ]


def cost_line(row: Row) -> str:
    """What a method's card says."""
    each = [
        f"{_tera(value)} {what}"
        for value, what in (
            (row.work.scene, "a scene"),
            (row.work.subject, "a subject in a call"),
            (row.work.query, "a query"),
            (row.work.learn, "to learn a subject"),
        )
        if value
    ]
    hours = ", ".join(f"{row.hours(size):.2f} h for {size.name}" for size in SIZES)
    return f"{row.network}, in TFLOP: {', '.join(each)}; {hours}."


def _tera(operations: int) -> str:
    return f"{operations / 1e12:.2g}" if operations < 1e12 else f"{operations / 1e12:.1f}"


def markdown(rows: Sequence[Row]) -> str:
    """The rows as a table to read, in their order."""
    heads = ["method", "network", "M weights", "scene", "subject", "query", "learn"]
    heads += [f"h, {size.name}" for size in SIZES]
    lines = ["| " + " | ".join(heads) + " |", "| :--- | :--- |" + " ---: |" * (len(heads) - 2)]
    for row in rows:
        cells = [row.method, row.network, f"{row.weights / 1e6:.0f}"]
        cells += [_tera(each) if each else "–" for each in row.work]
        cells += [f"{row.hours(size):.2f}" for size in SIZES]
        lines.append("| " + " | ".join(cells) + " |")
    said = (
        f"Scene, subject, query, learn: TFLOP of a scene, of a subject in a call, of a query, and to learn a subject "
        f"from {PHOTOS} photos.\n"
        f"Hours: on one {GPU.name}, {GPU.used:.0%} of its {GPU.peak / 1e12:g} TFLOP/s in float32 assumed; computed, "
        "not measured."
    )
    return "\n".join([*lines, "", *(f"- {line}" for line in said.splitlines())]) + "\n"
