"""The loop: what it asks, what it keeps, and that an interruption changes nothing."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from prisbench import runs
from prisbench.datasets.build import NewDataset, write_dataset
from prisbench.datasets.load import Dataset, open_dataset
from prisbench.datasets.schema import QueryRow, SubjectRow
from prisbench.errors import BackboneError, DataError, UnknownNameError, UsageError, WriteError
from prisbench.evaluate import evaluate
from prisbench.predict import learn_all, predict
from prisbench.predictions import read_predictions
from prisbench.results import read_run
from prisbench.runs import RunOptions, Scope
from prisbench.runtime.locks import locked
from prisbench.score import score
from prisbench.types import Concept, Method, Prediction, Query, Subject
from tests.drawing import FIVE_TYPES, draw_box, draw_scene
from tests.drawn_rows import query_row, subject_row


@dataclasses.dataclass
class Boxes:
    """Answers with a box that follows from query, concept and settings; says what it was asked.

    ``fails`` maps texts to the exception they provoke; ``stop_at`` is the number of the call that is interrupted.
    """

    tau: float = 0.5
    learner: str = "boxes"
    fails: Mapping[str, Exception] = dataclasses.field(default_factory=dict)
    stop_at: int | None = None
    name: str = "boxes"
    asked: list[list[str]] = dataclasses.field(default_factory=list)
    learned: list[str] = dataclasses.field(default_factory=list)

    @property
    def settings(self) -> Mapping[str, Any]:
        return {"tau": self.tau, "sizes": (3, 4)}

    def learn(self, subject: Subject) -> Concept:
        self.learned.append(subject.id)
        return Concept(f"of-{subject.id}", subject.id, subject.noun, self.learner)

    def locate(self, image: np.ndarray, queries: Sequence[Query], concepts: Mapping[str, Concept]) -> list[Prediction]:
        assert all(type(query) is Query for query in queries), "a method never sees the truth"
        if self.stop_at is not None and len(self.asked) == self.stop_at:
            raise KeyboardInterrupt
        self.asked.append([query.text for query in queries])
        for query in queries:
            if query.text in self.fails:
                raise self.fails[query.text]
        return [self.answer(image, query, concepts[query.subject_id]) for query in queries]

    def answer(self, image: np.ndarray, query: Query, concept: Concept) -> Prediction:
        h, w = image.shape[:2]
        if "away" in query.text:
            return Prediction(query.id, None, presence=0.1, seconds=0.25)
        top, left = int(query.id[:4], 16) % (h - 4), (int(query.id[4:8], 16) + len(concept.id)) % (w - 8)
        return Prediction(query.id, draw_box((h, w), top, left, top + 4, left + 5), (top, left), 0.7, seconds=0.25)


SCENES = 4
"""Each is asked about four times: three texts about the mug, one about the bowl."""


def rows() -> tuple[list[SubjectRow], list[QueryRow]]:
    about = (("mug", "test"), ("bowl", "test"), ("book", "test"), ("mug", "validation"))
    subjects = [subject_row(n, noun, split) for n, (noun, split) in enumerate(about)]
    asked = (
        (0, "the {subject}", "plain"),
        (0, "the {subject} left of the box", "relation"),
        (0, "the {subject} far away", "look-alike"),
        (1, "the {subject}", "absent"),
    )
    queries = [query_row(subjects[who], n, text, kind) for n in range(SCENES) for who, text, kind in asked]
    about_book = {
        "subject_id": subjects[2].id,
        "noun": "book",
        "image": draw_scene(200),
        "query_type": "other-category",
    }
    other = {"subject_id": subjects[3].id, "image": draw_scene(201), "split": "validation"}
    queries += [dataclasses.replace(queries[0], **about_book), dataclasses.replace(queries[0], **other)]
    return subjects, queries


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("evaluate") / "data"
    write_dataset(folder, NewDataset("tiny", "3", *rows(), "# Tiny\n"))
    return open_dataset(folder)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# --- the whole loop -------------------------------------------------------------------------------------------------


class Keeping(Boxes):
    """Takes a twentieth of a second to learn what it does not know, and as long to find again what it knows."""

    def known(self, subject: Subject) -> Path | None:
        return Path("kept") if subject.noun in self.fails else None

    def learn(self, subject: Subject) -> Concept:
        time.sleep(0.05)
        return super().learn(subject)


def test_finding_a_concept_again_is_not_learning(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row once said that learning takes as long as reading the store."""
    monkeypatch.setattr(runs, "LEAST_SECONDS", 0.05)
    for n, (known, expected) in enumerate((((), True), (("mug",), True), (("mug", "bowl", "book"), False))):
        method = Keeping(fails=dict.fromkeys(known, ValueError()))
        run, _ = evaluate(dataset, method, tmp_path / str(n))
        assert len(method.learned) == 3 and (run.learn_seconds is not None) is expected
        assert run.learn_seconds is None or 0.05 <= run.learn_seconds < 1


class Slotted:
    """A method without a ``__dict__``, which has something of its own by the name of ``known``."""

    __slots__ = ("known", "name", "settings")

    def __init__(self, known: object) -> None:
        self.known, self.name, self.settings = known, "slotted", {"tau": 0.5}

    def learn(self, subject: Subject) -> Concept:
        return Boxes().learn(subject)

    def locate(self, image: np.ndarray, queries: Sequence[Query], concepts: Mapping[str, Concept]) -> list[Prediction]:
        return Boxes().locate(image, queries, concepts)


@pytest.mark.parametrize("known", [{}, {"mug": 1}, None, 3])
def test_what_a_method_calls_known_for_itself_is_not_asked(known: object, dataset: Dataset, tmp_path: Path) -> None:
    run, _ = evaluate(dataset, Slotted(known), tmp_path)  # type: ignore[arg-type]
    assert run.n_errors == 0 and len(run.queries) == 4 * SCENES + 1


def test_a_method_that_fails_to_say_what_it_knows_is_one_line(dataset: Dataset, tmp_path: Path) -> None:
    method = Boxes()
    method.known = lambda: None  # type: ignore[attr-defined]
    with pytest.raises(DataError, match=r"boxes cannot learn subject '.*': TypeError"):
        evaluate(dataset, method, tmp_path)


def test_a_run_learns_locates_and_scores(dataset: Dataset, tmp_path: Path) -> None:
    method = Boxes()
    assert isinstance(method, Method)
    seen: list[tuple[str, int, int]] = []
    run, path = evaluate(
        dataset,
        method,
        tmp_path,
        options=RunOptions(seed=5),
        progress=lambda what, n, of, _: seen.append((what, n, of)),
    )
    assert path == tmp_path / "tiny-v3" / "boxes--boxes--seed-5" / "run.json"
    assert sorted(files(path.parent)) == ["manifest.json", "predictions.jsonl", "run.json"]
    assert read_run(path) == read_run(path, run.dataset)
    assert [query.query_id for query in run.queries] == [each.query.id for each in dataset.examples("test")]
    assert (run.method, run.concept, run.seed, run.n_errors) == ("boxes", "boxes", 5, 0)
    assert run.dataset.digest == dataset.digest and run.dataset.split == "test"
    assert run.settings == {"tau": 0.5, "sizes": [3, 4]} and run.backbone is None
    assert run.learn_seconds is None, "a learner that takes no time says nothing"
    assert run.seconds_per_image is not None
    assert run.seconds_per_image.median == 1.0, "four answers of a quarter second an image"
    assert run.seconds_per_image.mean == pytest.approx((4 * 1 + 0.25) / 5)
    assert seen == [("learn", n, 3) for n in (1, 2, 3)] + [("locate", n, 17) for n in range(1, 18)]
    assert [len(texts) for texts in method.asked] == [4] * SCENES + [1], "all queries of a scene in one call"


def test_the_counts_are_those_of_the_answered_masks(dataset: Dataset, tmp_path: Path) -> None:
    run, path = evaluate(dataset, Boxes(), tmp_path)
    answers = {record.query_id: record for record in read_predictions(path.with_name("predictions.jsonl"))}
    hits = 0
    for example, result in zip(dataset.examples("test"), run.queries, strict=True):
        mask, counts = answers[example.query.id].mask, result.counts
        if mask is None:
            assert "away" in example.query.text and counts.predicted_area == 0 and counts.wrong_instance is False
            continue
        assert counts.intersection == (mask & example.mask).sum() and counts.predicted_area == mask.sum() == 20
        assert counts.union == (mask | example.mask).sum() and counts.area == 12 * 20
        assert (counts.absent_fp is True) == (example.query_type == "absent")
        peak = answers[example.query.id].peak_yx
        assert peak is not None and (counts.pointing_hit in (None, bool(example.mask[peak])))
        hits += bool(counts.intersection)
    assert hits > 3, "some of the boxes lie on the subject"


def test_a_finished_run_is_not_asked_again_and_comes_out_the_same(dataset: Dataset, tmp_path: Path) -> None:
    first, path = evaluate(dataset, Boxes(), tmp_path)
    before = files(path.parent)
    again = Boxes()
    second, _ = evaluate(dataset, again, tmp_path)
    assert again.asked == [] and files(path.parent) == before
    assert second == dataclasses.replace(first, settings=second.settings)


def test_a_control_and_another_concept_are_runs_of_their_own(dataset: Dataset, tmp_path: Path) -> None:
    for learner in ("noun-only", "none"):
        evaluate(dataset, Boxes(learner=learner), tmp_path)
    assert sorted(path.name for path in (tmp_path / "tiny-v3").iterdir()) == ["boxes--none", "boxes--noun-only"]


def test_the_result_does_not_depend_on_the_order_of_the_questions(dataset: Dataset, tmp_path: Path) -> None:
    subjects, queries = rows()
    write_dataset(tmp_path / "turned", NewDataset("tiny", "3", subjects[::-1], queries[::-1], "# Tiny\n"))
    turned = open_dataset(tmp_path / "turned")
    assert turned.digest == dataset.digest
    first, _ = evaluate(dataset, Boxes(), tmp_path / "a")
    second, _ = evaluate(turned, Boxes(), tmp_path / "b")
    assert [q.query_id for q in first.queries] != [q.query_id for q in second.queries]
    assert {q.query_id: q for q in first.queries} == {q.query_id: q for q in second.queries}


# --- parts ----------------------------------------------------------------------------------------------------------


def test_a_part_of_a_run_says_so_in_its_folder_and_learns_only_who_is_asked_about(
    dataset: Dataset, tmp_path: Path
) -> None:
    names = {subject.id: subject.noun for subject in dataset.subjects("test")}
    for scope, folder, n, learned in (
        (Scope(limit=3), "boxes--boxes--spread-3", 3, ["mug", "bowl", "book"]),
        (Scope(subset="absent"), "boxes--boxes--absent", SCENES, ["bowl"]),
        (Scope("validation"), "boxes--boxes--validation", 1, None),
        (Scope(), "boxes--boxes", 17, ["mug", "bowl", "book"]),
    ):
        method = Boxes()
        run, path = evaluate(dataset, method, tmp_path, scope)
        assert (path.parent.name, len(run.queries)) == (folder, n)
        assert learned is None or [names[one] for one in method.learned] == learned
        manifest = json.loads(path.with_name("manifest.json").read_text())
        assert manifest["concepts"] == {one: f"of-{one}" for one in method.learned}


def test_a_part_that_is_not_there_is_told_before_anything_is_learned_or_written(
    dataset: Dataset, tmp_path: Path
) -> None:
    method = Boxes()
    for scope, kind, message in (
        (Scope(subset="lookalike"), UnknownNameError, "unknown subset 'lookalike': did you mean 'look-alike'"),
        (Scope("tset"), UnknownNameError, "unknown split of tiny-v3 'tset': did you mean 'test'"),
        (Scope(limit=0), UsageError, "a limit of 0 examples leaves nothing"),
        (Scope(limit=-6), UsageError, "a limit of -6 examples leaves nothing; give 1 or more"),
        (
            Scope("validation", subset="absent"),
            UsageError,
            "tiny-v3 has no queries of the subset 'absent' in its validation",
        ),
    ):
        with pytest.raises(kind, match=message):
            evaluate(dataset, method, tmp_path, scope)
    assert method.learned == [] and list(tmp_path.iterdir()) == []


def test_the_gallery_can_learn_everybody(dataset: Dataset) -> None:
    concepts, seconds = learn_all(dataset, Boxes(), "test")
    assert sorted(concepts) == sorted(subject.id for subject in dataset.subjects("test")) and seconds >= 0


# --- interruptions --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stop_at", [0, 1, 3])
def test_an_interrupted_run_goes_on_and_ends_as_if_nothing_had_happened(
    stop_at: int, dataset: Dataset, tmp_path: Path
) -> None:
    _, whole = evaluate(dataset, Boxes(), tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        evaluate(dataset, Boxes(stop_at=stop_at), tmp_path / "parts")
    folder = tmp_path / "parts" / "tiny-v3" / "boxes--boxes"
    assert sorted(files(folder)) == ["manifest.json", "predictions.jsonl"]
    assert len(read_predictions(folder / "predictions.jsonl")) == 4 * stop_at
    method, seen = Boxes(), list[int]()
    evaluate(dataset, method, tmp_path / "parts", progress=lambda what, n, _, __: seen.append(n))
    assert len(method.asked) == SCENES + 1 - stop_at, "what is answered is not asked again"
    assert seen[3:] == list(range(4 * stop_at + 1, 18))
    assert files(folder) == files(whole.parent)


def test_a_crash_in_the_middle_of_a_scene_or_of_a_line_costs_that_answer_only(dataset: Dataset, tmp_path: Path) -> None:
    _, path = evaluate(dataset, Boxes(), tmp_path)
    whole, predictions = files(path.parent), path.with_name("predictions.jsonl")
    lines = whole["predictions.jsonl"].splitlines(keepends=True)
    for rest, asked in (
        (b"".join(lines[:6]), [2, 4, 4, 1]),
        (b"".join(lines[:6]) + lines[6][:25], [2, 4, 4, 1]),
        (lines[0][:-1], [4, 4, 4, 4, 1]),
        (b"", [4, 4, 4, 4, 1]),
    ):
        path.unlink()
        predictions.write_bytes(rest)
        method = Boxes()
        evaluate(dataset, method, tmp_path)
        assert [len(texts) for texts in method.asked] == asked
        assert files(path.parent) == whole


def test_a_file_damaged_elsewhere_than_at_its_end_is_not_repaired(dataset: Dataset, tmp_path: Path) -> None:
    _, path = evaluate(dataset, Boxes(), tmp_path)
    predictions = path.with_name("predictions.jsonl")
    lines = predictions.read_bytes().splitlines(keepends=True)
    predictions.write_bytes(b"".join([lines[0], lines[1][:9] + b"\n", *lines[2:]]))
    with pytest.raises(DataError, match=r"predictions\.jsonl, line 2: not JSON"):
        evaluate(dataset, Boxes(), tmp_path)
    _, path = evaluate(dataset, Boxes(), tmp_path, options=RunOptions(fresh=True))
    assert predictions.read_bytes() == b"".join(lines)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tau": 0.4}, r"holds a run with another settings \(tau: 0\.5 there, 0\.4 now\)"),
        ({"model": "other@1"}, r"holds a run with another backbone \(None there, 'other@1' now\)"),
        ({"digest": "f" * 64}, r"holds a run with another dataset \(digest: '[0-9a-f]{64}' there, 'f{64}' now\)"),
    ],
)
def test_a_run_goes_on_only_as_what_it_was(
    change: dict[str, Any], message: str, dataset: Dataset, tmp_path: Path
) -> None:
    _, path = evaluate(dataset, Boxes(), tmp_path)
    before = files(path.parent)
    method = Boxes(tau=change.get("tau", 0.5))
    if "model" in change:
        vars(method)["model"] = change["model"]
    manifest = dataclasses.replace(dataset.manifest, digest=change.get("digest", dataset.digest))
    changed = dataclasses.replace(dataset, manifest=manifest)
    with pytest.raises(DataError, match=message + "; choose another --out, or say --fresh to start again"):
        evaluate(changed, method, tmp_path)
    assert files(path.parent) == before and method.asked == []
    run, _ = evaluate(changed, method, tmp_path, options=RunOptions(fresh=True))
    assert len(method.asked) == SCENES + 1
    assert run.settings["tau"] == change.get("tau", 0.5)


def test_each_seed_is_a_run_of_its_own(dataset: Dataset, tmp_path: Path) -> None:
    paths = [evaluate(dataset, Boxes(), tmp_path, options=RunOptions(seed=seed))[1] for seed in (0, 1)]
    assert [path.parent.name for path in paths] == ["boxes--boxes", "boxes--boxes--seed-1"]
    assert [read_run(path).seed for path in paths] == [0, 1]


def test_a_run_that_was_scored_before_sizes_were_kept_is_scored_again(dataset: Dataset, tmp_path: Path) -> None:
    run, path = evaluate(dataset, Boxes(), tmp_path)
    manifest = path.parent / "manifest.json"
    record = json.loads(manifest.read_text())
    del record["concept_bytes"]
    manifest.write_text(json.dumps(record))
    again, _ = evaluate(dataset, Boxes(), tmp_path)
    assert again.queries == run.queries and again.concept_bytes == run.concept_bytes


def test_another_concept_under_the_same_name_is_noticed(dataset: Dataset, tmp_path: Path) -> None:
    class Forgetful(Boxes):
        def learn(self, subject: Subject) -> Concept:
            return dataclasses.replace(super().learn(subject), id="another")

    evaluate(dataset, Boxes(), tmp_path)
    with pytest.raises(DataError, match=r"another concepts \((mug|bowl|book)-\w+: 'of-.*' there, 'another' now\)"):
        evaluate(dataset, Forgetful(), tmp_path)


# --- methods that fail ----------------------------------------------------------------------------------------------


def test_a_query_that_fails_fails_alone_and_is_recorded(dataset: Dataset, tmp_path: Path) -> None:
    text = "the {subject} left of the box"
    method = Boxes(fails={text: ValueError("no box\n here")})
    run, path = evaluate(dataset, method, tmp_path)
    failed = [query for query in run.queries if query.error]
    assert run.n_errors == len(failed) == SCENES
    assert {(query.query_type, query.error) for query in failed} == {("relation", "ValueError: no box here")}
    assert all(query.counts.predicted_area == 0 and query.seconds is None for query in failed)
    fine, _ = evaluate(dataset, Boxes(), tmp_path / "fine")
    for query, other in zip(run.queries, fine.queries, strict=True):
        assert query.error or query == other, "the others are answered as ever"
    again = Boxes(fails={text: ValueError("no box")})
    evaluate(dataset, again, tmp_path, options=RunOptions(keep_errors=True))
    assert again.asked == [], "--keep-errors: a failure is an answer"
    assert read_run(path).n_errors == SCENES
    evaluate(dataset, again, tmp_path)
    assert again.asked == [[text]] * SCENES, "what failed is tried again, and nothing else"
    assert read_run(path).n_errors == SCENES
    mended, _ = evaluate(dataset, Boxes(), tmp_path)
    assert mended == fine and files(path.parent) == files(tmp_path / "fine" / "tiny-v3" / "boxes--boxes")


def test_a_run_can_stop_at_the_first_failure(dataset: Dataset, tmp_path: Path) -> None:
    method = Boxes(fails={"the {subject} far away": RuntimeError("CUDA out of memory")})
    with pytest.raises(DataError, match=r"boxes failed on query '\w{16}': RuntimeError: CUDA out of memory"):
        evaluate(dataset, method, tmp_path, options=RunOptions(fail_on_error=True))
    assert not list(tmp_path.rglob("run.json"))
    kept = read_predictions(next(tmp_path.rglob("predictions.jsonl")))
    assert [record.error is None for record in kept].count(False) == 1
    run, _ = evaluate(dataset, Boxes(), tmp_path, options=RunOptions(fail_on_error=True))
    assert run.n_errors == 0


def test_a_method_that_fails_on_everything_makes_no_run(dataset: Dataset, tmp_path: Path) -> None:
    texts = {example.query.text for example in dataset.examples("test")}
    with pytest.raises(
        DataError, match=r"boxes failed on every query: RuntimeError: out of luck; .* same command again"
    ):
        evaluate(dataset, Boxes(fails=dict.fromkeys(texts, RuntimeError("out of luck"))), tmp_path)
    assert not list(tmp_path.rglob("run.json"))
    evaluate(dataset, Boxes(), tmp_path)
    assert len(list(tmp_path.rglob("run.json"))) == 1


@pytest.mark.parametrize("error", [BackboneError("weights are gone"), MemoryError("too small")])
def test_what_is_wrong_with_the_machine_and_not_with_a_query_ends_the_run(
    error: Exception, dataset: Dataset, tmp_path: Path
) -> None:
    with pytest.raises(type(error), match=str(error)):
        evaluate(dataset, Boxes(fails={"the {subject} far away": error}), tmp_path)
    assert not list(tmp_path.rglob("run.json"))
    run, _ = evaluate(dataset, Boxes(), tmp_path)
    assert run.n_errors == 0


def test_answers_that_do_not_match_the_questions_end_the_run(dataset: Dataset, tmp_path: Path) -> None:
    class Turned(Boxes):
        def locate(self, *arguments: Any) -> list[Prediction]:
            return super().locate(*arguments)[::-1]

    class Short(Boxes):
        def locate(self, *arguments: Any) -> list[Prediction]:
            return super().locate(*arguments)[1:]

    for n, method in enumerate((Turned(), Short())):
        with pytest.raises(DataError, match=r"boxes answered \[.*\], asked \[.*\]; answers keep their order"):
            evaluate(dataset, method, tmp_path / str(n))


def test_a_mask_of_another_size_is_named_with_its_query(dataset: Dataset, tmp_path: Path) -> None:
    class Square(Boxes):
        def answer(self, image: np.ndarray, query: Query, concept: Concept) -> Prediction:
            return Prediction(query.id, np.ones((20, 20), bool))

    with pytest.raises(DataError, match=r"the prediction mask is 20 x 20, the scene 12 x 20"):
        evaluate(dataset, Square(), tmp_path)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda hw, queries: [Prediction(q.id, None, presence=1.5) for q in queries], r"query '\w+': presence is 1\.5"),
        (lambda hw, queries: [Prediction(queries[0].id, None)], r"answered \['\w+'\], asked \['\w+', '\w+', "),
        (lambda hw, queries: None, "locate returned None; return a list with one Prediction for each query"),
        (lambda hw, queries: [np.ones(hw, bool)], "answer 1 of locate is of type numpy.ndarray; return prisbench.Pred"),
    ],
)
def test_a_breach_of_the_contract_ends_the_run_before_anything_of_it_is_written(
    answer: Any, message: str, dataset: Dataset, tmp_path: Path
) -> None:
    class Wrong(Boxes):
        def locate(self, image: np.ndarray, queries: Sequence[Query], concepts: Mapping[str, Concept]) -> Any:
            return answer(image.shape[:2], queries)

    with pytest.raises(DataError, match=message):
        evaluate(dataset, Wrong(), tmp_path)
    assert [path.read_bytes() for path in tmp_path.rglob("predictions.jsonl")] == [b""]


def test_a_generator_of_answers_is_as_good_as_a_list_and_may_fail_like_one(dataset: Dataset, tmp_path: Path) -> None:
    class Lazy(Boxes):
        def locate(self, *arguments: Any) -> Any:
            yield from super().locate(*arguments)

    whole, _ = evaluate(dataset, Boxes(), tmp_path / "whole")
    assert evaluate(dataset, Lazy(), tmp_path / "lazy")[0].queries == whole.queries
    failing = Lazy(fails={"the {subject} far away": ValueError("no box")})
    run, _ = evaluate(dataset, failing, tmp_path / "failing")
    assert {query.error for query in run.queries} == {None, "ValueError: no box"} and run.n_errors == SCENES


@pytest.mark.parametrize("given", [None, {"id": "x"}, "concept", Concept])
def test_learning_has_to_give_a_concept(given: Any, dataset: Dataset, tmp_path: Path) -> None:
    class Mute(Boxes):
        def learn(self, subject: Subject) -> Any:
            return given

    with pytest.raises(DataError, match=r"boxes: learn returned .* for subject 'mug-\w+'; return a prisbench\.Concept"):
        evaluate(dataset, Mute(), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_learning_raises_names_the_subject(dataset: Dataset, tmp_path: Path) -> None:
    class Broken(Boxes):
        def learn(self, subject: Subject) -> Concept:
            raise KeyError("no\nmug")

    with pytest.raises(DataError, match=r"^boxes cannot learn subject 'mug-\w+': KeyError: 'no\\nmug'$"):
        evaluate(dataset, Broken(), tmp_path)


def test_a_folder_that_another_process_works_in_is_left_alone(dataset: Dataset, tmp_path: Path) -> None:
    folder = tmp_path / "tiny-v3" / "boxes--boxes"
    method = Boxes()
    with (
        locked(folder),
        pytest.raises(WriteError, match=r"boxes--boxes is in use by process \d+ on .*; wait for it, or choose another"),
    ):
        evaluate(dataset, method, tmp_path, options=RunOptions(fresh=True))
    assert method.asked == [] and len(method.learned) == 1, "noticed before the others are learned"
    with locked(folder):
        evaluate(dataset, Boxes(), tmp_path, options=RunOptions(seed=1))
    evaluate(dataset, method, tmp_path)
    assert sorted(path.name for path in folder.iterdir()) == ["manifest.json", "predictions.jsonl", "run.json"]


def test_a_file_with_doubles_is_mended_where_they_agree(dataset: Dataset, tmp_path: Path) -> None:
    _, path = evaluate(dataset, Boxes(), tmp_path)
    whole, predictions = files(path.parent), path.with_name("predictions.jsonl")
    lines = whole["predictions.jsonl"].splitlines(keepends=True)
    slower = [line.replace(b'"seconds":0.25', b'"seconds":0.75') for line in lines]
    predictions.write_bytes(b"".join([*lines[:9], *slower]))
    method = Boxes()
    evaluate(dataset, method, tmp_path)
    assert method.asked == [] and len(predictions.read_bytes().splitlines()) == 17
    predictions.write_bytes(b"".join([*lines, lines[0].replace(b'"presence":0.7', b'"presence":0.8')]))
    with pytest.raises(DataError, match=r"predictions\.jsonl, line 18: query '\w+' has another answer in line 1"):
        evaluate(dataset, Boxes(), tmp_path)


def test_one_run_has_one_kind_of_concept(dataset: Dataset, tmp_path: Path) -> None:
    class Moody(Boxes):
        def learn(self, subject: Subject) -> Concept:
            return dataclasses.replace(super().learn(subject), learner=subject.noun)

    with pytest.raises(UsageError, match=r"boxes gave concepts of several kinds \(book, bowl, mug\)"):
        evaluate(dataset, Moody(), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_scoring_wants_an_answer_to_every_query(dataset: Dataset, tmp_path: Path) -> None:
    _, path = evaluate(dataset, Boxes(), tmp_path)
    predictions = path.with_name("predictions.jsonl")
    predictions.write_bytes(b"".join(predictions.read_bytes().splitlines(keepends=True)[:-1]))
    manifest = json.loads(path.with_name("manifest.json").read_text())
    with pytest.raises(DataError, match=r"predictions\.jsonl has no answer to query '\w{16}'; run the same command"):
        score(dataset, path.parent, Scope(), manifest)


def test_predicting_then_scoring_gives_the_run_that_evaluating_gives(dataset: Dataset, tmp_path: Path) -> None:
    whole, path = evaluate(dataset, Boxes(), tmp_path / "whole")
    predicted = predict(dataset, Boxes(), tmp_path / "parts")
    assert predicted.out_of_domain is None and not (predicted.folder / "run.json").exists()
    assert files(predicted.folder).items() <= files(path.parent).items()
    manifest = json.loads((predicted.folder / "manifest.json").read_text())
    assert score(dataset, predicted.folder, Scope(), manifest) == whole
    later = Boxes(stop_at=0)
    assert evaluate(dataset, later, tmp_path / "parts")[1].read_bytes() == path.read_bytes() and not later.asked


def test_a_dataset_of_every_type_is_scored_as_it_is(tiny_dataset: Path, tmp_path: Path) -> None:
    run, _ = evaluate(open_dataset(tiny_dataset), Boxes(), tmp_path)
    assert [query.query_type for query in run.queries] == [*FIVE_TYPES] * 2
