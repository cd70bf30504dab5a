"""Methods side by side: what the clocks count, and what the table says of a method that does not run."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import torch
from torch import nn

from prisbench.bench.methods import Clock, MethodJob, bench_methods, inside_modules, markdown


class Slow(nn.Module):
    def __init__(self, inner: nn.Module | None = None, ends: bool = False) -> None:
        super().__init__()
        self.inner, self.ends = inner, ends

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        time.sleep(0.02)
        if self.ends:
            raise StopIteration
        return x if self.inner is None else self.inner(x)


def test_the_clock_counts_the_outermost_module_alone_also_one_that_ends_early() -> None:
    clock, x = Clock(), torch.zeros(1)
    with inside_modules(clock):
        time.sleep(0.05)
        Slow(Slow())(x)
        with contextlib.suppress(StopIteration):
            Slow(Slow(ends=True))(x)
        Slow()(x)
    Slow()(x)
    assert clock.calls == 3 and clock.cpu < 0.05 <= 0.1 <= clock.total


AHEAD = """
from prisbench import Concept, Prediction
import time

class Ahead:
    name, settings = "ahead", {}

    def __init__(self):
        self.seen = set()

    def look_ahead(self, images):
        self.work()
        self.seen |= {image.tobytes() for image in images}

    def learn(self, subject):
        return Concept("c", subject.id, subject.noun, "none")

    def locate(self, image, queries, concepts):
        if image.tobytes() not in self.seen:
            self.work()
        return [Prediction(query.id, None) for query in queries]

    def work(self):
        end = time.process_time() + 0.02
        while time.process_time() < end:
            pass

def make(options):
    return Ahead()
"""


def test_what_several_scenes_at_once_bring_is_measured_where_a_method_looks_ahead(
    tiny_dataset: Path, tmp_path: Path
) -> None:
    (tmp_path / "ahead.py").write_text(AHEAD)
    (row,) = bench_methods([MethodJob(str(tmp_path / "ahead.py"), str(tiny_dataset), "test", 2, 10, at_once=5)])
    assert row["error"] is None and row["images"] == 10
    assert row["cpu_seconds"] > 0.019 > 0.012 > row["together_cpu_seconds"] >= 2 * 0.02 / 10 * 0.9
    text = markdown([row])
    assert " x |\n" in text and "as many times as fast with 5 scenes in one pass" in text


def test_a_method_is_measured_in_its_own_process_and_one_that_cannot_run_says_why(
    tiny_dataset: Path, tmp_path: Path
) -> None:
    (tmp_path / "broken.py").write_text("def make(options): raise ValueError('no weights')\n")
    jobs = [MethodJob(name, str(tiny_dataset), "test", 2, 10) for name in ("center-box", str(tmp_path / "broken.py"))]
    box, broken = bench_methods(jobs)
    assert box["error"] is None and box["images"] == 10 and box["queries"] == 10 and box["network_cpu_seconds"] == 0
    assert 0 < box["cpu_seconds"] < box["harness_cpu_seconds"] and box["peak_bytes"] > 10e6
    assert "no weights" in broken["error"]
    assert box["together_cpu_seconds"] is None, "it cannot look ahead"
    text = markdown([box, broken])
    assert "| – |\n" in text and "in one pass" not in text
    assert "| center-box |" in text and "- 10 queries about 10 scenes" in text
    assert "broken.py does not run here: " in text and text.count("\n| ") == 2
