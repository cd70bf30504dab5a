"""A run that is shared: shards in any order, missing, twice, of other runs; workers that die; the same bytes always."""

from __future__ import annotations

import dataclasses
import heapq
import json
import os
import random
import re
import shutil
import subprocess
import sys
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from prisbench import split_subjects
from prisbench.cluster.job import Carrier, Job, shards_of, units
from prisbench.cluster.local import LocalWorkers
from prisbench.cluster.merge import merge
from prisbench.cluster.schedule import SHARD, SUBJECT, TRIES, Outcome, Unit, carry_out
from prisbench.cluster.share import evaluate_shared
from prisbench.concepts.store import read_concept, write_concept
from prisbench.datasets.build import NewDataset, write_dataset
from prisbench.datasets.load import Dataset, open_dataset
from prisbench.deaf import deaf_subjects
from prisbench.errors import DataError, MissingExtraError, UsageError, WriteError
from prisbench.evaluate import evaluate
from prisbench.methods import load_method
from prisbench.plan import Cost, Plan
from prisbench.predict import predict
from prisbench.runs import RunOptions, Scope
from prisbench.settings import MethodOptions
from prisbench.sharding import Shard, parse_shard, shard_of, turned
from prisbench.stored import are_whole, known_subjects
from prisbench.trial.checks import unlike
from prisbench.types import Query, Subject
from tests.command_line import called
from tests.drawn_rows import query_row, subject_row

METHOD = '''
import os
from pathlib import Path

from prisbench import Concept, Prediction


class Boxes:
    """Answers with what is bright; dies as files in its folder say."""

    name = "boxes"

    def __init__(self, options):
        self.settings = {"tau": options.settings.get("tau", 0.5)}

    def learn(self, subject):
        self.die("subject", subject.id)
        return Concept(f"of-{subject.id}", subject.id, subject.noun, "boxes")

    def locate(self, image, queries, concepts):
        for query in queries:
            self.die("query", query.id)
        if (Path(__file__).parent / "fail").is_file():
            raise RuntimeError("no luck")
        return [Prediction(q.id, image[..., 0] > int(q.id[:2], 16), (1, 2), 0.25, image[..., 1] / 255.0, 0.5)
                for q in queries]

    def die(self, kind, id):
        for path in sorted(Path(__file__).parent.glob(f"die-{kind}-*")):
            if id == path.name.removeprefix(f"die-{kind}-").removesuffix("-always"):
                if not path.name.endswith("-always"):
                    path.rename(f"{path}-done")
                os._exit(7)


def make(options):
    return Boxes(options)
'''

IMAGES = 16


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("cluster") / "data"
    subjects = [subject_row(n) for n in range(3)]
    texts = "the {subject}", "the {subject} there"
    queries = [query_row(subjects[n % 3], n, text) for n in range(IMAGES) for text in texts]
    write_dataset(folder, NewDataset("tiny", "1", subjects, queries, "# Tiny\n"))
    return open_dataset(folder)


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("code") / "boxes.py"
    path.write_text(METHOD)
    return path


@pytest.fixture
def method(code: Path) -> Iterator[Path]:
    """The method's file; what makes it die or fail is gone afterwards."""
    yield code
    for path in [*code.parent.glob("die-*"), *code.parent.glob("fail")]:
        path.unlink()


@pytest.fixture(scope="module")
def one(data: Dataset, code: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of the run that one process makes, with soft maps."""
    root = tmp_path_factory.mktemp("one")
    return files(evaluate(data, load_method(str(code)), root, None, RunOptions(soft_maps=True))[1].parent)


@pytest.fixture(scope="module")
def eight(data: Dataset, code: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run with eight shards, made in no order; copy it."""
    root = tmp_path_factory.mktemp("eight")
    numbers = random.Random(3).sample(range(1, 9), 8)
    folders = [answer(data, code, root, f"{n}/8", RunOptions(soft_maps=True)) for n in numbers]
    return folders[0].parent.parent


@pytest.fixture
def run(eight: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(eight, tmp_path / "runs/tiny-v1/boxes--boxes"))


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "shards" not in path.relative_to(folder).parts
    }


def answer(
    data: Dataset, method: Path, root: Path, shard: str, options: RunOptions | None = None, **tau: float
) -> Path:
    made = load_method(str(method), MethodOptions(settings=tau))
    return predict(data, made, root, Scope(shard=parse_shard(shard, {})), options).folder


# --- which image is where -------------------------------------------------------------------------------------------


def test_an_image_is_in_one_shard_wherever_it_is_asked() -> None:
    ids = [f"image-{n}" for n in range(800)]
    assert [shard_of(id, 8) for id in ("a", "b", "image-7")] == [3, 3, 1], "for all time"
    counts = Counter(shard_of(id, 8) for id in ids)
    assert sorted(counts) == list(range(1, 9)) and min(counts.values()) > 70
    assert all(sum(Shard(5, n).holds(id) for n in range(1, 6)) == 1 for id in ids)


def test_processes_that_start_together_learn_different_subjects_first() -> None:
    names = [f"s{n}" for n in range(10)]
    starts = [turned(names, Shard(5, n))[0] for n in range(1, 6)]
    assert starts == ["s0", "s2", "s4", "s6", "s8"]
    assert sorted(turned(names, Shard(3, 3))) == names and turned(names, None) == names


@pytest.mark.parametrize("text", ["0/8", "9/8", "3", "3/0", "-1/8", "1.5/8", "3/8/2", "", "a/b", "1/1000000"])
def test_what_is_no_shard_is_one_line(text: str) -> None:
    with pytest.raises(UsageError, match=r"give NUMBER/OF, counted from 1, such as 3/8; or slurm"):
        parse_shard(text, {})


def slurm(**values: object) -> dict[str, str]:
    return {f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in values.items()}


def test_a_slurm_array_says_which_shard_a_task_is() -> None:
    assert parse_shard("slurm", slurm(ID=1, COUNT=8, MIN=1, MAX=8)) == Shard(8, 1)
    assert parse_shard("slurm", slurm(ID=8, COUNT=8, MIN=1)) == Shard(8, 8)
    assert parse_shard("slurm", slurm(ID=0, COUNT=8, MIN=0, MAX=7, STEP=1)) == Shard(8, 1)
    assert parse_shard("slurm", slurm(ID=14, COUNT=8, MIN=0, MAX=14, STEP=2)) == Shard(8, 8)


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({}, "the environment has no SLURM_ARRAY_TASK_ID; submit it with sbatch --array=1-8"),
        (slurm(ID="x", COUNT=8, MIN=1), "the array's variables are no numbers"),
        (slurm(ID=3, COUNT=1, MIN=3, MAX=3), "task 3 of 1 from 3 is no whole array from 0 or 1.*say --shard 3/OF"),
        (slurm(ID=5, COUNT=2, MIN=1, MAX=5), "task 5 of 2 from 1 is no whole array"),
        (slurm(ID=2, COUNT=3, MIN=1, MAX=5), r"the array has gaps \(3 tasks from 1 to 5\).*say --shard 2/OF"),
    ],
)
def test_a_part_of_an_array_is_refused_because_its_shards_would_be_others(
    variables: dict[str, str], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        parse_shard("slurm", variables)


# --- merging --------------------------------------------------------------------------------------------------------


def test_eight_shards_in_any_order_make_the_bytes_of_one_process(
    data: Dataset, run: Path, method: Path, one: dict[str, bytes]
) -> None:
    assert len([name for name in one if name.startswith("soft-maps/")]) == 2 * IMAGES
    merged = merge(random.Random(4).sample(sorted((run / "shards").iterdir()), 8), data)
    assert (merged.shards, merged.twice, merged.path) == (8, 0, run.resolve() / "run.json")
    assert files(run) == one
    merge([run], data)
    assert files(run) == one, "merging again changes nothing"
    evaluate(data, load_method(str(method)), run.parents[1], None, RunOptions(soft_maps=True))
    assert files(run) == one, "and it can be gone on with"


def test_a_missing_shard_and_an_unfinished_one_are_named(
    data: Dataset, run: Path, method: Path, one: dict[str, bytes]
) -> None:
    held = {n: [a for a in Scope().asked(data) if shard_of(a.image_id, 8) == n] for n in range(1, 9)}
    shutil.rmtree(run / "shards" / "3-of-8")
    with pytest.raises(DataError, match=rf"^shard 3/8 is missing: {len(held[3])} of {2 * IMAGES} queries have no answer"
                                        r"; run .* --shard 3/8, then merge again"):  # fmt: skip
        merge([run], data)
    lines = (run / "shards/5-of-8/predictions.jsonl").read_bytes().splitlines(keepends=True)
    (run / "shards/5-of-8/predictions.jsonl").write_bytes(b"".join(lines[:-1]) + lines[-1][:9])
    shutil.rmtree(run / "shards" / "1-of-8")
    with pytest.raises(DataError, match=r"^shards 1/8 and 3/8 are missing and shard 5/8 \(1 to go\) is not finished: "):
        merge([run], data)
    assert not (run / "run.json").exists() and not (run / "manifest.json").exists(), "nothing is written"
    for number in (1, 3, 5):
        answer(data, method, run.parents[1], f"{number}/8", RunOptions(soft_maps=True))
    merge([run], data)
    assert files(run) == one


def test_a_shard_that_comes_twice_counts_once_unless_it_says_something_else(
    data: Dataset, run: Path, tmp_path: Path, one: dict[str, bytes]
) -> None:
    copy = Path(shutil.copytree(run / "shards/2-of-8", tmp_path / "from-elsewhere"))
    held = sum(shard_of(asked.image_id, 8) == 2 for asked in Scope().asked(data))
    merged = merge([run, copy, run], data)
    assert (merged.shards, merged.twice) == (9, held) and held > 0
    assert files(run) == one
    path = copy / "predictions.jsonl"
    path.write_text(path.read_text().replace('"presence":0.25', '"presence":0.5'))
    with pytest.raises(DataError, match=r"from-elsewhere and .*2-of-8 answer query '\w+' differently; leave the wrong"):
        merge([run, copy], data)


def test_shards_of_several_divisions_make_one_run_too(
    data: Dataset, run: Path, method: Path, one: dict[str, bytes]
) -> None:
    shutil.rmtree(run / "shards/4-of-8")
    answer(data, method, run.parents[1], "1/1", RunOptions(soft_maps=True))
    merged = merge([run], data)
    assert files(run) == one and merged.shards == 8 and merged.twice > 0


def test_shards_of_different_runs_are_not_merged(data: Dataset, method: Path, tmp_path: Path) -> None:
    first = answer(data, method, tmp_path / "a", "1/2")
    other = answer(data, method, tmp_path / "b", "2/2", tau=0.4)
    words = r"which is with another settings \(tau: 0\.5 there, 0\.4 now\); merge the shards of one run only"
    with pytest.raises(DataError, match=rf"b/.*2-of-2 is a shard of another run than .*1-of-2, {words}"):
        merge([first, other], data)
    evaluate(data, load_method(str(method)), tmp_path / "d")
    with pytest.raises(
        DataError, match=r"tiny-v1/boxes--boxes holds a run with another settings \(tau: 0\.5 there, 0\.4"
    ):
        answer(data, method, tmp_path / "d", "2/2", tau=0.4)  # told before it is made: it could not be merged
    seeded = answer(data, method, tmp_path / "c", "2/2", RunOptions(seed=1))
    with pytest.raises(DataError, match=r"with another seed \(0 there, 1 now\)"):
        merge([first, seeded], data)
    second = answer(data, method, tmp_path / "a", "2/2")
    path = second / "manifest.json"
    manifest = json.loads(path.read_text())
    [subject, *_] = manifest["concepts"]
    path.write_text(json.dumps({**manifest, "concepts": {**manifest["concepts"], subject: "another"}}))
    with pytest.raises(DataError, match=rf"has the concept another of subject '{subject}', .* has of-{subject}; learn"):
        merge([first, second], data)
    path.write_text(json.dumps({**manifest, "identity": {**manifest["identity"], "code": {"boxes.py": "f" * 16}}}))
    with pytest.raises(DataError, match=r"which is of boxes as it was before: code of boxes\.py changed"):
        merge([first, second], data)


def test_a_whole_run_a_folder_of_nothing_and_another_dataset_are_told_apart(
    data: Dataset, method: Path, tmp_path: Path
) -> None:
    _, path = evaluate(data, load_method(str(method)), tmp_path / "one")
    with pytest.raises(DataError, match=r"is a whole run, no shard; score it with prisbench score"):
        merge([path.parent], data)
    with pytest.raises(UsageError, match=r"holds no shards: no shards/ with some in it"):
        merge([tmp_path], data)
    folder = answer(data, method, tmp_path, "1/1")
    changed = dataclasses.replace(data, manifest=dataclasses.replace(data.manifest, digest="f" * 64))
    with pytest.raises(DataError, match=r"has the digest f{16}; merge it with the dataset it was made on"):
        merge([folder], changed)
    moved = shutil.copytree(folder, tmp_path / "moved")
    with pytest.raises(UsageError, match=r"moved lies in no run's folder; say with --out"):
        merge([moved], data)
    assert merge([moved], data, tmp_path / "new" / "d" / "run").path == tmp_path / "new/d/run/run.json"


def test_two_processes_cannot_make_the_same_shard_at_once(data: Dataset, method: Path, tmp_path: Path) -> None:
    from prisbench.runtime.locks import locked

    folder = answer(data, method, tmp_path, "1/2")
    with locked(folder), pytest.raises(WriteError, match=r"1-of-2 is in use by process"):
        answer(data, method, tmp_path, "1/2")


def test_a_subject_that_no_query_of_a_shard_is_about_makes_no_nan(
    data: Dataset, run: Path, one: dict[str, bytes]
) -> None:
    shards = [json.loads(path.read_text()) for path in run.glob("shards/*/manifest.json")]
    assert any(len(each["concepts"]) < 3 for each in shards), "some shards know fewer than all subjects"
    merge([run], data)
    assert b"NaN" not in one["run.json"] and files(run) == one


def test_a_shard_without_an_image_and_the_command_line(
    data: Dataset, method: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    command = ["evaluate", "--method", method, "--dataset", data.folder, "--out", tmp_path / "runs", "--device", "cpu"]
    filled = {shard_of(asked.image_id, 64) for asked in Scope().asked(data)}
    empty = next(n for n in range(1, 65) if n not in filled)
    code, out, _ = called(monkeypatch, capfd, *command, "--shard", f"{empty}/64")
    assert (code, out) == (0, f"shard {empty}/64 holds none of the images; there is nothing to do\n")
    for number in (1, 2):
        for name, value in slurm(ID=number, COUNT=2, MIN=1, MAX=2).items():
            monkeypatch.setenv(name, value)
        code, out, _ = called(monkeypatch, capfd, *command, "--shard", "slurm")
        assert code == 0 and f"when all 2 are there: prisbench merge {tmp_path}/runs/tiny-v1/boxes--boxes" in out
    code, out, err = called(
        monkeypatch, capfd, "merge", tmp_path / "runs/tiny-v1/boxes--boxes", "--dataset", data.folder
    )
    assert code == 0 and "boxes" in out and "merged 2 shards" in err
    assert "--shard" not in json.loads((tmp_path / "runs/tiny-v1/boxes--boxes/manifest.json").read_text())["provenance"]
    code, _, err = called(monkeypatch, capfd, *command, "--shard", "1/2", "--executor", "local")
    assert code == 1 and "--shard is one share, --executor hands out all of them" in err
    code, _, err = called(monkeypatch, capfd, *command, "--workers", "2")
    assert code == 1 and "--workers: only with --executor" in err


# --- who gets what --------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Simulated:
    """Workers that take a unit's seconds of a clock that nobody waits for; ``dies`` says at which units which dies."""

    count: int
    seconds: Callable[[Unit], float] = lambda unit: 1.0
    dies: Callable[[int, Unit], bool] = lambda worker, unit: False
    now: float = 0.0
    begun: Counter[tuple[str, str]] = dataclasses.field(default_factory=Counter)
    queue: list[tuple[float, int, Unit]] = dataclasses.field(default_factory=list)

    @property
    def names(self) -> list[str]:
        return [f"worker {n + 1}" for n in range(self.count)]

    def give(self, worker: int, unit: Unit) -> None:
        assert all(busy != worker for _, busy, _ in self.queue), "one unit at a time"
        heapq.heappush(self.queue, (self.now + self.seconds(unit), worker, unit))

    def wait(self) -> Outcome:
        self.now, worker, unit = heapq.heappop(self.queue)
        self.begun[unit[:2]] += 1
        died = "exit code 7" if self.dies(worker, unit) else None
        return Outcome(worker, unit, None if died else unit.name, died)

    def close(self) -> None: ...


def shards(n: int) -> Iterator[Unit]:
    return (Unit(SHARD, f"{number}/{n}") for number in range(1, n + 1))


def carried(workers: Simulated, todo: Any) -> tuple[list[str], list[str]]:
    done: list[str] = []
    said: list[str] = []
    carry_out(workers, todo, lambda unit, value: done.append(value), said.append)
    return done, said


def test_every_unit_is_done_once_in_as_little_time_as_the_workers_allow() -> None:
    workers = Simulated(4)
    done, said = carried(workers, shards(40))
    assert len(done) == len(set(done)) == 40 and said == [] and workers.now == 10.0


def test_a_worker_that_dies_loses_nothing() -> None:
    once = {"3/9", "5/9"}
    workers = Simulated(3, dies=lambda worker, unit: unit.name in once and unit.tried == 0)
    done, said = carried(workers, shards(9))
    assert sorted(done) == sorted(unit.name for unit in shards(9))
    assert [line.partition(" died at ")[2] for line in said] == [
        f"shard {name} (exit code 7); it is tried again" for name in ("3/9", "5/9")
    ]


def test_a_unit_that_kills_every_worker_is_given_up_after_three_tries_and_named() -> None:
    workers = Simulated(3, dies=lambda worker, unit: unit.name == "4/9")
    done: list[str] = []
    with pytest.raises(DataError, match=r"^given up after 3 tries each: shard 4/9 \(exit code 7\); all else is kept"):
        carry_out(workers, shards(9), lambda unit, value: done.append(value))
    assert len(done) == 8 and workers.begun[SHARD, "4/9"] == TRIES


def test_a_worker_that_dies_at_every_unit_gets_no_more_and_the_others_do_its_work() -> None:
    workers = Simulated(3, dies=lambda worker, unit: worker == 1)
    done, said = carried(workers, shards(20))
    assert sorted(done) == sorted(unit.name for unit in shards(20))
    assert said[-1] == "worker 2 died 3 times in a row and gets no more; the others go on"
    with pytest.raises(UsageError, match=r"^every worker died 3 times in a row, last at shard \d/20 \(exit code 7\)"):
        carried(Simulated(2, dies=lambda worker, unit: True), shards(20))
    with pytest.raises(DataError, match=r"^given up after 3 tries each: shard 1/20"):
        carried(Simulated(1, dies=lambda worker, unit: unit.name == "1/20"), shards(20))


def test_no_shard_is_begun_once_a_subject_is_given_up() -> None:
    todo = [Unit(SUBJECT, "a"), Unit(SUBJECT, "b"), Unit(SUBJECT, "c"), *shards(5)]
    workers = Simulated(1, dies=lambda worker, unit: unit.name == "b")
    with pytest.raises(DataError, match=r"subject b \(exit code 7\)"):
        carry_out(workers, todo, lambda unit, value: None)
    assert workers.begun == {(SUBJECT, "a"): 1, (SUBJECT, "b"): 3, (SUBJECT, "c"): 1}


def test_a_mistake_ends_the_run_at_once() -> None:
    class Mistaken(Simulated):
        def wait(self) -> Outcome:
            return super().wait()._replace(error=DataError("no photo"))

    with pytest.raises(DataError, match=r"^no photo$"):
        carried(Mistaken(2), shards(4))


def test_ten_thousand_subjects_on_sixty_four_workers() -> None:
    """Nothing is quadratic, and the driver's memory does not grow with the work."""

    def simulated(subjects: int) -> tuple[float, int, Simulated]:
        todo = (
            Unit(kind, f"{n}") for kind, count in ((SUBJECT, subjects), (SHARD, subjects // 4)) for n in range(count)
        )
        workers = Simulated(64, seconds=lambda unit: 30.0 if unit.kind == SUBJECT else 8.0, begun=Forgetful())
        count = 0

        def done(unit: Unit, value: Any) -> None:
            nonlocal count
            count += 1

        start = time.process_time()
        tracemalloc.start()
        carry_out(workers, todo, done)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert count == subjects + subjects // 4
        return time.process_time() - start, peak, workers

    class Forgetful(Counter[tuple[str, str]]):
        def __setitem__(self, key: Any, value: int) -> None: ...

    small_seconds, small, _ = simulated(1_000)
    seconds, large, workers = simulated(10_000)
    assert large < 1.5 * small + 20_000, "flat memory"
    assert seconds < 30 * small_seconds + 0.5
    assert workers.now == pytest.approx((10_000 * 30 + 2_500 * 8) / 64, rel=0.01), "all sixty-four at work to the end"


def test_the_number_of_shards_follows_from_the_queries_alone(data: Dataset, tmp_path: Path) -> None:
    assert [shards_of(n) for n in (1, 5, 40, 1920, 400_000)] == [1, 5, 8, 30, 1024]
    job = Job("x", MethodOptions(), data.folder, tmp_path, Scope(), RunOptions())
    todo = units(job, data)
    assert Counter(unit.kind for unit in todo) == {SUBJECT: 3, SHARD: len({u.name for u in todo if u.kind == SHARD})}
    assert all(unit.name.endswith("/8") for unit in todo if unit.kind == SHARD)


# --- workers of this machine ----------------------------------------------------------------------------------------


def job_of(data: Dataset, method: Path, root: Path, **run: Any) -> Job:
    return Job(str(method), MethodOptions(), data.folder, root, Scope(), RunOptions(**run))


def locally(job: Job) -> LocalWorkers:
    return LocalWorkers(job, ["cpu", "cpu"])


def test_two_processes_of_which_one_dies_make_the_bytes_of_one(
    data: Dataset, method: Path, tmp_path: Path, one: dict[str, bytes]
) -> None:
    victims = [asked.query_id for asked in Scope().asked(data)]
    (method.parent / f"die-query-{victims[11]}").touch()
    said: list[str] = []
    seen: list[tuple[str, int, int]] = []
    run, path = evaluate_shared(
        job_of(data, method, tmp_path / "shared", soft_maps=True),
        data,
        locally,
        lambda *a: seen.append(a[:3]),
        said.append,
    )
    assert (method.parent / f"die-query-{victims[11]}-done").exists(), "one did die"
    assert len(said) == 1 and "died at shard " in said[0] and "(exit code 7); it is tried again" in said[0]
    assert files(path.parent) == one and len(run.queries) == 2 * IMAGES
    assert ("learn", 3, 3) in seen and seen[-1][0] == "locate" and seen[-1][1] == seen[-1][2]


@pytest.mark.slow
def test_a_subject_and_an_image_that_kill_every_process_are_named_and_the_rest_is_kept(
    data: Dataset, method: Path, tmp_path: Path, one: dict[str, bytes]
) -> None:
    victim = next(Scope().asked(data))
    fatal = method.parent / f"die-query-{victim.query_id}-always"
    fatal.touch()
    number = shard_of(victim.image_id, 8)
    with pytest.raises(DataError, match=rf"given up after 3 tries each: shard {number}/8 \(exit code 7\); all else"):
        evaluate_shared(job_of(data, method, tmp_path / "runs", soft_maps=True), data, locally)
    fatal.unlink()
    marker = method.parent / f"die-subject-{victim.subject_id}-always"
    marker.touch()
    with pytest.raises(DataError, match=rf"given up after 3 tries each: subject {victim.subject_id} \(exit code 7\)"):
        evaluate_shared(job_of(data, method, tmp_path / "others", soft_maps=True), data, locally)
    marker.unlink()
    _, path = evaluate_shared(job_of(data, method, tmp_path / "others", soft_maps=True, fresh=True), data, locally)
    assert files(path.parent) == one


@pytest.mark.slow
def test_a_method_that_fails_everywhere_is_told_as_one_process_tells_it(
    data: Dataset, method: Path, tmp_path: Path
) -> None:
    (method.parent / "fail").touch()
    with pytest.raises(DataError, match="boxes failed on every query: RuntimeError: no luck"):
        evaluate_shared(job_of(data, method, tmp_path), data, locally)


WHOLE = '''
import uuid
from pathlib import Path

import numpy as np
from prisbench import Concept, Prediction

HERE = Path(__file__).parent


class Whole:
    """Leaves a folder for each subject that it learns; reads a file that it tells nobody of."""

    name, settings, concepts_are_whole = "whole", {}, True

    def learn(self, subject):
        (HERE / f"learned-{uuid.uuid4()}").mkdir()
        level = float((HERE / "level.txt").read_text()) + subject.photos[0].mean()
        return Concept(subject.id[:8], subject.id, subject.noun, "level", tensors={"level": np.array([level])},
                       recipe={"sizes": (1, 2)})

    def locate(self, image, queries, concepts):
        levels = [concepts[query.subject_id].tensors["level"][0] / 2 for query in queries]
        return [Prediction(q.id, image[..., 0] > level, seconds=0.5) for q, level in zip(queries, levels)]


def make(options):
    return Whole()
'''


def test_workers_share_what_a_method_learned_that_says_its_concepts_are_whole(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PRISBENCH_HOME", str(tmp_path / "home"))
    code = tmp_path / "whole.py"
    code.write_text(WHOLE)
    (tmp_path / "level.txt").write_text("0.5")

    def learned() -> int:
        return len(list(tmp_path.glob("learned-*")))

    def by_two(root: str) -> dict[str, bytes]:
        job = job_of(data, code, tmp_path / root)
        team = Carrier(job, "cpu"), Carrier(job, "cpu")
        made = [team[n % 2].carry_out(unit) for n, unit in enumerate(units(job, data))]
        return files(merge([Path(folder) for folder in made if folder], data).path.parent)

    shared = by_two("shared")
    assert learned() == 3, "each subject once, by whichever worker"
    assert b"level.txt" in shared["manifest.json"], "the file behind what others learned, too"
    assert files(evaluate(data, load_method(str(code)), tmp_path / "one")[1].parent) == shared and learned() == 6
    answer(data, code, tmp_path / "later", "1/2")
    assert learned() == 6, "and shards of other times and machines find it, too"
    command = ["plan", "--method", code, "--dataset", data.folder, "--out", tmp_path / "x", "--device", "cpu"]
    _, text, _ = called(monkeypatch, capfd, *command, "--workers", 2, "--format", "json")
    assert json.loads(text)["costs"][0]["known"] == 3 and json.loads(text)["trainings"] == 0
    before = learned()
    (tmp_path / "level.txt").write_text("0.6")
    by_two("changed")
    assert learned() == before + 3, "what was learned from another file is learned again"
    code.write_text(WHOLE.replace(", True\n", ", False\n"))
    by_two("silent")
    assert learned() > before + 6, "without that word each worker learns for itself"


@pytest.mark.parametrize("name", ["network-free-combined", "persam-f", "sam-matching", "clipseg"])
def test_our_methods_that_say_so_answer_from_concepts_on_disk_alone(name: str, tmp_path: Path) -> None:
    options = MethodOptions(settings={"clipseg": {"prompt": "photo"}, "persam-f": {"steps": 3}}.get(name, {}))
    first, second = load_method(name, options), load_method(name, options)
    assert are_whole(first)
    photo = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    mask = np.zeros(photo.shape[:2], bool)
    mask[10:30, 20:40] = True
    concept = first.learn(Subject("s", "mug", (photo, photo[::-1].copy()), (mask, mask[::-1].copy())))
    read = read_concept(write_concept(concept, tmp_path / "concept"))
    query, scene = Query("q", "s", "the {subject}"), photo[:, ::-1].copy()
    answers = [m.locate(scene, [query], {"s": each})[0] for m, each in ((first, concept), (second, read))]
    assert unlike(*answers, exact=True) is None


# --- what it will take ----------------------------------------------------------------------------------------------

STEPPING = """
import time

import numpy as np
from prisbench import Concept, Prediction


class Stepping:
    name = "stepping"

    def __init__(self, options):
        self.settings = {"learner": {"steps": options.settings.get("learner.steps", 500)}}
        self.progress = options.progress

    def learn(self, subject):
        assert self.settings["learner"]["steps"] <= 4, "a plan trains nothing to its end"
        for step in range(self.settings["learner"]["steps"]):
            time.sleep(0.02)
            self.progress(step + 1, self.settings["learner"]["steps"], 0.5)
        return Concept(subject.id, subject.id, subject.noun, "stepped", tensors={"v": np.zeros(100, np.float32)})

    def locate(self, image, queries, concepts):
        time.sleep(0.05)
        return [Prediction(query.id, image[..., 0] > 99) for query in queries]


def make(options):
    return Stepping(options)
"""


def test_a_plan_counts_measures_a_little_and_multiplies(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "stepping.py").write_text(STEPPING)
    out = tmp_path / "runs"
    command = ["plan", "--method", tmp_path / "stepping.py", "--dataset", data.folder, "--out", out, "--device", "cpu"]
    code, text, _ = called(monkeypatch, capfd, *command, "--format", "json")
    plan = json.loads(text)
    [cost] = plan["costs"]
    assert code == 0 and not out.exists(), "nothing is started, nothing is left"
    counts = {name: plan[name] for name in ("subjects", "images", "queries", "trainings", "workers")}
    assert counts == {"subjects": 3, "images": IMAGES, "queries": 2 * IMAGES, "trainings": 3, "workers": 1}
    assert (cost["concept"], cost["steps"], cost["of_steps"], cost["concept_bytes"]) == ("stepped", 4, 500, 400)
    assert 500 * 0.02 <= cost["learn_seconds"] < 500 * 0.2 and 0.05 <= cost["locate_seconds"] < 1
    assert plan["work_seconds"] == pytest.approx(3 * cost["learn_seconds"] + IMAGES * cost["locate_seconds"])
    assert plan["disk_bytes"] == pytest.approx(2 * IMAGES * (cost["query_bytes"] + 200) + 3 * 400)
    code, text, _ = called(monkeypatch, capfd, *command, "--workers", 3, "--limit", 9)
    assert code == 0 and "4 of 500 steps measured" in text and "9 queries; 1 runs, 9 trainings" in text
    assert "with 3 workers" in text and "memory: " in text and "disk: " in text
    assert "each worker learns the subjects that it answers about" in " ".join(text.split())


def test_a_plan_leaves_out_what_is_there_already(
    data: Dataset, method: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "runs"
    command = ["--method", method, "--dataset", data.folder, "--out", out, "--device", "cpu"]
    code, text, _ = called(monkeypatch, capfd, "predict", *command, "--shard", "1/2")
    assert code == 0 and "shard 1/2: " in text and "prisbench merge" in text
    held = {asked.image_id for asked in Scope().asked(data) if shard_of(asked.image_id, 2) == 1}
    _, text, _ = called(monkeypatch, capfd, "plan", *command, "--format", "json")
    plan = json.loads(text)
    assert 0 < plan["costs"][0]["answered"] == len(held) < plan["images"]
    left = (plan["images"] - len(held)) * plan["costs"][0]["locate_seconds"]
    assert plan["work_seconds"] == pytest.approx(plan["subjects"] * plan["costs"][0]["learn_seconds"] + left)
    _, text, _ = called(monkeypatch, capfd, "plan", *command)
    assert f"there already: answers about {len(held)} images" in " ".join(text.split())
    _, text, _ = called(monkeypatch, capfd, "plan", *command, "--seed", "1", "--format", "json")
    assert json.loads(text)["costs"][0]["answered"] == 0, "another run's answers"


class Keeping:
    """A method that keeps the concepts of some subjects."""

    def __init__(self, there: set[str]) -> None:
        self.there, self.subjects = there, ()
        self.name, self.settings = "keeping", {}

    def learn(self, subject: Subject) -> Any:
        raise AssertionError("nothing is learned to know what is known")

    def locate(self, image: Any, queries: Any, concepts: Any) -> Any:
        raise AssertionError("nothing is located")

    def known(self, subject: Subject) -> Path | None:
        return Path("store") if subject.id in self.there else None


def test_concepts_that_are_kept_need_not_be_learned(data: Dataset) -> None:
    subjects = data.subjects("test")
    one: Any = Keeping({subjects[0].id})
    assert known_subjects(one, subjects, subjects) == 1 and one.subjects == subjects
    inside: Any = load_method("center-box")
    assert known_subjects(inside, subjects, subjects) == 0
    inside.words = Keeping({subject.id for subject in subjects})
    assert known_subjects(inside, subjects, subjects) == len(subjects), "kept by the method inside"


def test_a_shard_reads_the_photos_of_its_own_subjects_alone(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    whole = split_subjects.subject_row

    def noted(record: Any, path: Path) -> Any:
        read.append(record["id"])
        return whole(record, path)

    monkeypatch.setattr(split_subjects, "subject_row", noted)
    everybody = split_subjects.SplitSubjects(data, "test", "photos")
    ids = [subject.id for subject in data.subjects("test")]
    assert len(everybody) == len(ids) and everybody.ids == ids
    read.clear()
    assert everybody.of([ids[1]])[ids[1]].id == ids[1] and read == [ids[1]]
    assert everybody[1].id == ids[1] and read == [ids[1]], "what was read stays"
    assert [subject.id for subject in everybody] == ids and sorted(read) == sorted(ids)
    assert all(mask is None for subject in everybody for mask in subject.masks)
    deaf = split_subjects.SplitSubjects(data, "test", "photos", "subject")
    plain = deaf_subjects(split_subjects.given(data.subjects("test"), "photos"), "subject")
    assert deaf[0].id == plain[0].id and np.array_equal(deaf[0].photos[0], plain[0].photos[0])


def test_a_plan_of_many_workers_is_bounded_by_what_cannot_be_cut() -> None:
    cost = Cost("ti", 2, True, 60.0, 4, 200, 1.0, 100.0, 3000)
    some = dataclasses.replace(cost, known=40, answered=320)
    less = Plan("d", 48, 640, 1920, 1, (some,), None, None)
    assert (less.trainings, less.work_seconds) == (56, 56 * 60 + 960)
    assert dataclasses.replace(less, workers=10).wall_seconds == 2 * (3 * 60 + 0.75 * 3 * 640 / 30)
    everyone = Plan("d", 48, 640, 1920, 10, (dataclasses.replace(cost, kept=False),), None, None)
    assert everyone.trainings == 960 and everyone.wall_seconds == 2 * (48 * 60 + 3 * 640 / 30)
    plan = Plan("d", 48, 640, 1920, 1, (cost,), None, None)
    assert (plan.trainings, plan.work_seconds, plan.wall_seconds) == (96, 7040.0, 7040.0)
    assert dataclasses.replace(plan, workers=10).wall_seconds == 2 * (5 * 60 + 3 * 640 / 30)
    assert dataclasses.replace(plan, workers=1000).wall_seconds == 2 * (60 + 640 / 30)


# --- a page that can be followed ------------------------------------------------------------------------------------

SBATCH = """#!/bin/bash
# A Slurm of one machine: an array's tasks one after the other, the last first.
for word in "$@"; do script=$word; done
array=$(sed -n 's/^#SBATCH --array=1-\\([0-9]*\\).*/\\1/p' "$script")
for task in $(seq "${array:-1}" -1 1); do
    if [ -n "$array" ]; then
        export SLURM_ARRAY_TASK_ID=$task SLURM_ARRAY_TASK_COUNT=$array
        export SLURM_ARRAY_TASK_MIN=1 SLURM_ARRAY_TASK_MAX=$array SLURM_ARRAY_TASK_STEP=1
    fi
    bash "$script" >>"$LOGS" 2>&1 || echo "task $task failed" >>"$LOGS"
done
echo 4711
"""


@pytest.mark.slow
def test_the_slurm_array_of_the_page_works_as_printed(
    data: Dataset, method: Path, tmp_path: Path, one: dict[str, bytes]
) -> None:
    page = (Path(__file__).parents[1] / "docs/cluster.md").read_text()
    blocks = re.findall(r"```bash\n(.*?)```", page, re.DOTALL)
    scripts = {re.search(r"^# (\w+\.sh)$", block, re.MULTILINE)[1]: block for block in blocks if "#SBATCH" in block}
    assert sorted(scripts) == ["array.sh", "merge.sh"]
    for name, text in scripts.items():
        (tmp_path / name).write_text(text)
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "sbatch").write_text(SBATCH)
    (programs / "prisbench").write_text(f'#!/bin/bash\nexec "{sys.executable}" -m prisbench "$@"\n')
    for path in programs.iterdir():
        path.chmod(0o755)
    env = os.environ | {"PATH": f"{programs}:{os.environ['PATH']}", "LOGS": str(tmp_path / "log")}
    env |= {"PYTHONPATH": str(Path(__file__).parents[1]), "METHOD": str(method), "DATASET": str(data.folder)}
    env |= {"RUN": "runs/tiny-v1/boxes--boxes"}
    [submit] = [block for block in blocks if "sbatch" in block and "#SBATCH" not in block and "afterany" in block]
    done = subprocess.run(["bash", "-c", submit], cwd=tmp_path, env=env, capture_output=True, text=True)
    log = (tmp_path / "log").read_text()
    assert done.returncode == 0 and "failed" not in log and "merged" in log, f"{done.stderr}\n{log}"
    found = files(tmp_path / "runs/tiny-v1/boxes--boxes")
    assert found["predictions.jsonl"] == one["predictions.jsonl"] and "run.json" in found


# --- Ray ------------------------------------------------------------------------------------------------------------


def test_without_ray_one_line_says_how_to_get_it(
    data: Dataset, method: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    from prisbench.cluster.rayed import RayWorkers

    with pytest.raises(MissingExtraError, match=r"--executor ray needs ray.*pip install 'prisbench\[ray\]'"):
        RayWorkers(job_of(data, method, tmp_path), "cpu")
    command = [
        "evaluate",
        "--method",
        method,
        "--dataset",
        data.folder,
        "--out",
        tmp_path / "runs",
        "--executor",
        "ray",
    ]
    code, out, err = called(monkeypatch, capfd, *command, "--device", "cpu")
    assert (code, out) == (1, "") and "pip install 'prisbench[ray]'" in err and "Traceback" not in err


@pytest.mark.slow
def test_two_actors_of_a_local_ray_cluster_of_which_one_dies_make_the_bytes_of_one_process(
    data: Dataset, method: Path, tmp_path: Path, one: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    from prisbench.cluster.rayed import RayWorkers

    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]), prepend=":")
    victims = [asked.query_id for asked in Scope().asked(data)]
    (method.parent / f"die-query-{victims[9]}").touch()
    said: list[str] = []
    ray.init(num_cpus=2, include_dashboard=False, logging_level="ERROR")
    try:
        with pytest.raises(UsageError, match=r"--workers 3: the Ray cluster has 2 CPUs"):
            RayWorkers(job_of(data, method, tmp_path), "cpu", 3)
        job = job_of(data, method, tmp_path / "shared", soft_maps=True)
        run, path = evaluate_shared(job, data, lambda job: RayWorkers(job, "cpu", 2), say=said.append)
    finally:
        ray.shutdown()
    assert (method.parent / f"die-query-{victims[9]}-done").exists(), "one did die"
    assert len(said) == 1 and "died at shard " in said[0] and "it is tried again" in said[0]
    assert len(run.queries) == 2 * IMAGES and files(path.parent) == one
