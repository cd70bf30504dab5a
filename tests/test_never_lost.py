"""Work is never lost: an evaluation that is killed again and again ends as if nothing had happened."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from prisbench.datasets.build import NewDataset, write_dataset
from prisbench.datasets.load import open_dataset
from prisbench.predictions import read_predictions
from tests.drawn_rows import query_row, subject_row

KILLS = 20

METHOD = '''
import os
import time
from pathlib import Path

from prisbench import Concept, Prediction


class Slow:
    """Learns and answers slowly, and notes every query it is given."""

    name = "slow"
    settings = {"tau": 0.5}

    def learn(self, subject):
        time.sleep(0.004)
        return Concept(f"of-{subject.id}", subject.id, subject.noun, "boxes")

    def locate(self, image, queries, concepts):
        answers = []
        for query in queries:
            with open(os.environ["NOTES"], "a") as notes:
                notes.write(query.id + "\\n")
            time.sleep(0.004)
            mask = image[..., 0] > int(query.id[:2], 16)
            answers.append(Prediction(query.id, mask, (1, 2), 0.25, seconds=0.5))
        return answers


def make(options):
    return Slow()
'''

SERVER = '''
"""Runs one command in fresh forks; each is killed after so many milliseconds, the last is not."""
import os, signal, sys, time

import prisbench.cli.main as cli
import prisbench.datasets.named, prisbench.sweep, prisbench.leaderboard.render, prisbench.methods

delays, argv = [float(each) for each in sys.argv[1].split(",")], sys.argv[2:]
for delay in [*delays, None]:
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        sys.argv = ["prisbench", *argv]
        for stream in (1, 2):
            os.dup2(os.open(os.environ["OUTPUT"], os.O_WRONLY | os.O_APPEND | os.O_CREAT), stream)
        try:
            cli.main()
        except SystemExit as done:
            os._exit(done.code or 0)
        os._exit(0)
    if delay is not None:
        time.sleep(delay / 1000)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    print("killed" if os.WIFSIGNALED(status) else os.WEXITSTATUS(status), flush=True)
'''


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lost") / "data"
    subjects = [subject_row(n) for n in range(3)]
    texts = "the {subject}", "the {subject} there"
    queries = [query_row(subjects[n % 3], n // 3, text) for n in range(18) for text in texts]
    write_dataset(folder, NewDataset("tiny", "1", subjects, queries, "# Tiny\n"))
    return folder


def run(data: Path, out: Path, delays: list[float], home: Path) -> list[str]:
    """What became of each start of one and the same command, killed after these milliseconds."""
    out.mkdir(parents=True, exist_ok=True)
    (out.parent / "notes").unlink(missing_ok=True)
    (out.parent / "slow.py").write_text(METHOD)
    argv = ["evaluate", "--method", str(out.parent / "slow.py"), "--dataset", str(data), "--out", "runs"]
    times = ",".join(str(each) for each in delays) if delays else "0"
    env = os.environ | {
        "NOTES": str(out.parent / "notes"),
        "OUTPUT": str(out / "output"),
        "PRISBENCH_HOME": str(home),
        "PYTHONPATH": str(Path(__file__).parents[1]),
    }
    done = subprocess.run(
        [sys.executable, "-c", SERVER, times, *argv], cwd=out, env=env, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def finished(out: Path) -> dict[str, bytes]:
    folder = out / "runs/tiny-v1/slow--boxes"
    files = {name: (folder / name).read_bytes() for name in ("run.json", "predictions.jsonl", "manifest.json")}
    assert sorted(path.name for path in folder.iterdir()) == sorted(files), "nothing half-written is left behind"
    return files


def test_an_evaluation_that_is_killed_at_any_moment_ends_as_if_nothing_had_happened(data: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    assert run(data, tmp_path / "whole", [], home)[-1] == "0"
    whole = finished(tmp_path / "whole")
    ids = {example.query.id for example in open_dataset(data).examples("test")}
    rng = np.random.default_rng(16)
    kills = 0
    for attempt in range(12):
        if kills >= KILLS:
            break
        out = tmp_path / f"killed-{attempt}"
        # short ones fall into the start and the resume itself, long ones into learning, locating and scoring
        became = run(data, out, [float(each) for each in rng.uniform(5, 150, 4)], home)
        kills += became.count("killed")
        assert became[-1] == "0" and set(became) <= {"killed", "0"}, (out / "output").read_text()
        assert finished(out) == whole
        assert {
            record.query_id for record in read_predictions(out / "runs/tiny-v1/slow--boxes/predictions.jsonl")
        } == ids
        notes = (tmp_path / "notes").read_text().split()
        assert set(notes) == ids and len(notes) <= len(ids) + 6 * became.count("killed"), (
            "only what was in flight again"
        )
    assert kills >= KILLS


def test_a_lost_line_would_be_noticed(data: Path, tmp_path: Path) -> None:
    run(data, tmp_path / "whole", [], tmp_path / "home")
    path = tmp_path / "whole/runs/tiny-v1/slow--boxes/predictions.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    before = (tmp_path / "notes").read_text().split()
    assert run(data, tmp_path / "whole", [], tmp_path / "home")[-1] == "0"
    asked_again = (tmp_path / "notes").read_text().split()
    assert len(asked_again) == 1 and asked_again[0] in before
    assert json.loads(path.read_bytes().splitlines()[-1])["query_id"] == asked_again[0]
