"""The door: each check of ``prisbench try`` passes a sound method, and a broken one shows that it can fail."""

from __future__ import annotations

import dataclasses
import gc
import inspect
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from prisbench.cli.main import app
from prisbench.errors import DataError, UnknownNameError
from prisbench.methods import load_method, names
from prisbench.network_free.predictors import PREDICTORS
from prisbench.settings import MethodOptions
from prisbench.trial.calls import Caller, decoy, words
from prisbench.trial.checks import Bench, all_checks, unlike
from prisbench.trial.records import CHECKS, Check, Trial
from prisbench.trial.run import Limits, try_method
from prisbench.trial.scenes import TrialSet, draw_set, read_set, write_set
from prisbench.types import Candidate, Concept, Prediction, Query, Subject


@pytest.fixture(scope="module")
def set_() -> TrialSet:
    return draw_set()


class Bright:
    """A sound method: what is red is the subject, from a threshold that its photos decide."""

    name = "bright"
    settings: Mapping[str, Any] = {"share": 0.5}

    def learn(self, subject: Subject) -> Concept:
        level = np.array([photo[..., 0].mean() for photo in subject.photos]).mean(keepdims=True)
        return Concept(f"bright-{level[0]:.3f}", subject.id, subject.noun, "mean", tensors={"level": level})

    def locate(self, image: np.ndarray, queries: Sequence[Query], concepts: Mapping[str, Concept]) -> list[Any]:
        return [self.answer(image, query, concepts[query.subject_id]) for query in queries]

    def answer(self, image: np.ndarray, query: Query, concept: Concept) -> Any:
        mask = image[..., 0] > concept.tensors["level"][0]
        return Prediction(query.id, mask, (1, 2), 0.5, mask.astype(float))

    def candidates(self, image: np.ndarray, subject: Subject) -> list[Candidate]:
        whole = np.ones(image.shape[:2], bool)
        return [Candidate(whole, 0.75), Candidate(image[..., 0] >= image[..., 0].max(), 0.5)]


class Ahead(Bright):
    """Sound, and looks at several scenes together."""

    def __init__(self) -> None:
        self.seen: dict[bytes, np.ndarray] = {}

    def look_ahead(self, images: Sequence[np.ndarray]) -> None:
        self.seen = {image.tobytes(): image[..., 0] for image in images}

    def answer(self, image: np.ndarray, query: Query, concept: Concept) -> Any:
        red = self.seen.get(image.tobytes(), image[..., 0])
        mask = red > concept.tensors["level"][0]
        return Prediction(query.id, mask, (1, 2), 0.5, mask.astype(float))


def checks(set_: TrialSet, kind: Callable[[], Any] = Bright) -> dict[str, Check]:
    """What becomes of a method, by check; in this process."""
    caller = Caller(kind(), lambda _: None, 5.0)
    return {check.name: check for check in all_checks(Bench(caller, set_, kind, 5.0))}


def test_a_sound_method_passes_every_check(set_: TrialSet) -> None:
    found = checks(set_, Ahead)
    assert {check.state for check in found.values()} == {"ok"}, found
    assert list(found) == [name for name in CHECKS if name not in ("loads", "stdout", "time")]


def test_a_method_that_cannot_look_ahead_is_not_asked_to(set_: TrialSet) -> None:
    found = checks(set_)
    assert found["ahead"].state == "skipped" and {check.state for check in found.values()} == {"ok", "skipped"}


# --- a broken method for each check ---------------------------------------------------------------------------------


class Unwritable(Bright):
    settings: Mapping[str, Any] = {"share": np.float32(0.5)}  # type: ignore[dict-item]


class Forgetful(Bright):
    def learn(self, subject: Subject) -> Any:
        return None


class TwoKinds(Bright):
    def learn(self, subject: Subject) -> Concept:
        return dataclasses.replace(super().learn(subject), learner=subject.noun)


class Lists(Bright):
    def learn(self, subject: Subject) -> Concept:
        concept = super().learn(subject)
        object.__setattr__(concept, "tensors", {"level": [1.0, 2.0]})  # the tests check types where they are made
        return concept


class Lazy(Bright):
    def learn(self, subject: Subject) -> Concept:
        import no_such_package  # noqa: F401

        return super().learn(subject)


class Grey(Bright):
    def answer(self, image: np.ndarray, query: Query, concept: Concept) -> Any:
        prediction = Prediction(query.id, None)
        object.__setattr__(prediction, "mask", image[..., 0] / 255)  # the tests check types where they are made
        return prediction


class NotANumber(Bright):
    def answer(self, image: np.ndarray, query: Query, concept: Concept) -> Any:
        return Prediction(query.id, None, score=np.full(image.shape[:2], np.nan))


class Swapped(Bright):
    def locate(self, image: np.ndarray, queries: Sequence[Query], concepts: Mapping[str, Concept]) -> list[Any]:
        return super().locate(image, queries, concepts)[::-1]


class Transposed(Bright):
    """Right where height is at most width."""

    def answer(self, image: np.ndarray, query: Query, concept: Concept) -> Any:
        h, w = sorted(image.shape[:2])
        return Prediction(query.id, np.ones((h, w), bool))


class Even(Bright):
    """Right where sides are even, as after a network that halves."""

    def answer(self, image: np.ndarray, query: Query, concept: Concept) -> Any:
        half = image[::2, ::2, 0] > 100
        return Prediction(query.id, half.repeat(2, 0).repeat(2, 1))


class OnlyPresent(Bright):
    """The table of the scene without the subject is lighter than those of the others, say."""

    def locate(self, image: np.ndarray, queries: Sequence[Query], concepts: Mapping[str, Concept]) -> list[Any]:
        if queries[0].id.startswith("absent"):
            raise IndexError("index 0 is out of bounds")
        return super().locate(image, queries, concepts)


class OneSubject(Bright):
    def locate(self, image: np.ndarray, queries: Sequence[Query], concepts: Mapping[str, Concept]) -> list[Any]:
        (about,) = {query.subject_id for query in queries}
        return [self.answer(image, query, concepts[about]) for query in queries]


class Crowd(Bright):
    """Looks at how many are asked."""

    def locate(self, image: np.ndarray, queries: Sequence[Query], concepts: Mapping[str, Concept]) -> list[Any]:
        return [Prediction(query.id, image[..., 0] > 60 * len(queries)) for query in queries]


class FirstWins(Bright):
    """Gives what is left of the image to those that are asked later."""

    def locate(self, image: np.ndarray, queries: Sequence[Query], concepts: Mapping[str, Concept]) -> list[Any]:
        if len(queries) == 1:
            return super().locate(image, queries, concepts)
        return [Prediction(query.id, image[..., 0] > 20 * n) for n, query in enumerate(queries)]


class Dice(Bright):
    def answer(self, image: np.ndarray, query: Query, concept: Concept) -> Any:
        return Prediction(query.id, np.random.default_rng().random(image.shape[:2]) > 0.5)


class OtherDice(Bright):
    """Random once for each copy of it."""

    def __init__(self) -> None:
        self.level = np.random.default_rng().random() * 255

    def answer(self, image: np.ndarray, query: Query, concept: Concept) -> Any:
        return Prediction(query.id, image[..., 0] > self.level, presence=self.level / 255)


class NewIds(Bright):
    def learn(self, subject: Subject) -> Concept:
        return dataclasses.replace(super().learn(subject), id=str(np.random.default_rng().random()))


class Remembers(Bright):
    """Takes the last other image for its background."""

    def __init__(self) -> None:
        self.seen: list[bytes] = []

    def answer(self, image: np.ndarray, query: Query, concept: Concept) -> Any:
        if image.tobytes() not in self.seen:
            self.seen.append(image.tobytes())
        return Prediction(query.id, image[..., 0] > 10 * len(self.seen))


class Writes(Bright):
    def answer(self, image: np.ndarray, query: Query, concept: Concept) -> Any:
        image[0, 0] = 0
        return Prediction(query.id, None)


class Pops(Bright):
    def locate(self, image: np.ndarray, queries: Sequence[Query], concepts: Mapping[str, Concept]) -> list[Any]:
        answers = super().locate(image, queries, concepts)
        queries.pop()  # type: ignore[attr-defined]
        return answers


class LooksUp(Bright):
    """Looks for an example in those that call it."""

    def answer(self, image: np.ndarray, query: Query, concept: Concept) -> Any:
        for frame in inspect.stack():
            for value in frame.frame.f_locals.values():
                for each in value if isinstance(value, list) else [value]:
                    if type(each).__name__ == "Example" and each.query.id == query.id:
                        return Prediction(query.id, each.mask)
        return Prediction(query.id, None)


class Collects(Bright):
    """Looks for an example in everything there is."""

    def answer(self, image: np.ndarray, query: Query, concept: Concept) -> Any:
        for each in gc.get_objects():
            if type(each).__name__ == "Example" and each.query.id == query.id:
                return Prediction(query.id, each.mask.copy())
        return Prediction(query.id, None)


class Unsorted(Bright):
    def candidates(self, image: np.ndarray, subject: Subject) -> list[Candidate]:
        return super().candidates(image, subject)[::-1]


class Hollow(Bright):
    def candidates(self, image: np.ndarray, subject: Subject) -> list[Candidate]:
        return [Candidate(np.zeros(image.shape[:2], bool), 0.5)]


class NoList(Bright):
    candidates = lambda self, image, subject: None  # type: ignore[assignment]  # noqa: E731


class LateError(Bright):
    def candidates(self, image: np.ndarray, subject: Subject) -> Any:
        raise ValueError("late")
        yield None


class Whole(Bright):
    concepts_are_whole = True


class Secretive(Whole):
    """Says that its concepts are whole, and keeps the best of them for itself."""

    def learn(self, subject: Subject) -> Concept:
        self.level = super().learn(subject).tensors["level"]
        return Concept("some", subject.id, subject.noun, "mean")

    def answer(self, image: np.ndarray, query: Query, concept: Concept) -> Any:
        return Prediction(query.id, image[..., 0] > getattr(self, "level", 0))


class Mixed(Ahead):
    """Gives a scene another one's encoding."""

    def look_ahead(self, images: Sequence[np.ndarray]) -> None:
        self.seen = {image.tobytes(): 255 - image[..., 0] for image in images}


class OneSize(Ahead):
    def look_ahead(self, images: Sequence[np.ndarray]) -> None:
        np.stack(images)


BROKEN = [
    (Mixed, "ahead", r"after a look at several scenes, its answer differs; keep each scene's encoding by its pixels"),
    (
        OneSize,
        "ahead",
        r"look_ahead, \d scenes of several sizes: ValueError: all input arrays must have the same shape",
    ),
    (Secretive, "again", r"a copy that did not learn differs; put all that locate needs into the concept, or do not"),
    (NoList, "candidates", r"candidates gave NoneType; give a list of prisbench.Candidate"),
    (LateError, "candidates", r"ValueError: late \(test_trial.py, line \d+\)"),
    (Unwritable, "protocol", r"the setting 'share' cannot be written as JSON"),
    (Forgetful, "learns", r"learning 'mug-1': bright: learn returned None .* return a prisbench.Concept"),
    (TwoKinds, "learns", r"concepts of several kinds \(book, bottle, mug\)"),
    (Lists, "learns", r"hold something of type list; give a dict of numpy arrays by name"),
    (Lazy, "learns", r"ModuleNotFoundError: No module named 'no_such_package' .*; install no_such_package"),
    (Grey, "answers", r"the mask is of float64, not bool; threshold it"),
    (NotANumber, "answers", r"the score holds NaN or infinity"),
    (Swapped, "answers", r"answers keep their order, one for each query"),
    (Transposed, "sizes", r"'portrait' of 144 x 112 .* is 112 x 144, the scene 144 x 112 .*height comes first"),
    (Even, "sizes", r"'odd' of 91 x 133 pixels: .* 92 x 134, the scene 91 x 133"),
    (OnlyPresent, "absent", r"the scene 'absent' .*: IndexError: index 0 is out of bounds \(test_trial.py, line \d+\)"),
    (OneSubject, "several", r"the scene 'several' .*: ValueError: too many values to unpack"),
    (Crowd, "alone", r"alone, its answer differs; answer each query from image, text and concept alone"),
    (FirstWins, "order", r"asked in another order, its answer differs"),
    (Dice, "again", r"asked twice, its answer differs; draw random numbers from a generator seeded with options.seed"),
    (OtherDice, "again", r"a second copy differs; keep nothing random in learn or make"),
    (NewIds, "again", r"the concept of 'mug-1' has another id when it is learned again"),
    (Remembers, "images", r"its answer depends on the images before; keep nothing of one image for the next"),
    (Writes, "arguments", r"locate wrote into the image of the scene .*; work on image.copy\(\)"),
    (Pops, "arguments", r"locate changed the list of queries"),
    (LooksUp, "truth", r"answers with the mask of an Example that it was not given"),
    (Collects, "truth", r"answers with the mask of an Example that it was not given"),
    (Unsorted, "candidates", r"not in the order of their scores; give the likeliest first"),
    (Hollow, "candidates", r"candidate 1: its mask is empty; leave such a candidate out"),
]


@pytest.mark.parametrize(("kind", "name", "message"), BROKEN, ids=[kind.__name__ for kind, *_ in BROKEN])
def test_what_a_method_breaks_fails_that_check_and_names_the_mend(
    kind: type[Bright], name: str, message: str, set_: TrialSet
) -> None:
    found = checks(set_, kind)
    assert found[name].failed and re.search(message, found[name].said), found[name]
    assert "\n" not in found[name].said


@pytest.mark.parametrize("kind", [Transposed, OnlyPresent, OneSubject, LooksUp, Unsorted])
def test_one_break_fails_one_check_and_the_others_go_on(kind: type[Bright], set_: TrialSet) -> None:
    found = checks(set_, kind)
    assert sum(check.failed for check in found.values()) == 1 and len(found) == len(CHECKS) - 3


def test_a_method_that_opens_a_dataset_is_told_so(set_: TrialSet, tiny_dataset: Path) -> None:
    from prisbench.datasets.load import open_dataset

    class Opens(Bright):
        def answer(self, image: np.ndarray, query: Query, concept: Concept) -> Any:
            next(iter(open_dataset(tiny_dataset).examples("test")))
            return super().answer(image, query, concept)

    found = checks(set_, Opens)
    assert found["truth"].failed and "dataset.json, a dataset's table, which holds truths" in found["truth"].said


def test_a_method_without_candidates_is_not_asked_for_them(set_: TrialSet) -> None:
    class Without(Bright):
        candidates = None  # type: ignore[assignment]

    assert checks(set_, Without)["candidates"].state == "skipped"


def test_answers_of_other_batches_may_differ_by_rounding_and_no_more() -> None:
    mask = np.zeros((40, 60), bool)
    one = mask.copy()
    one[:2, :2] = True
    many = mask.copy()
    many[:4, :4] = True
    old = Prediction("q", mask, presence=0.5)
    assert unlike(old, Prediction("q", one, presence=0.5 + 1e-6)) is None
    assert unlike(old, Prediction("q", one, presence=0.5), exact=True) == "4 of 2400 pixels"
    assert unlike(old, Prediction("q", many, presence=0.5)) == "16 of 2400 pixels"
    assert unlike(old, Prediction("q", mask, presence=0.6)) == "presence 0.5 and 0.6"
    assert unlike(old, Prediction("q", None, presence=0.5)) == "a mask and no mask"


def test_an_error_is_told_in_one_line_with_its_place() -> None:
    try:
        raise ValueError("no\nbox")
    except ValueError as error:
        assert words(error).startswith("ValueError: no box (test_trial.py, line ")
    assert words(DataError("as it is")) == "as it is"


# --- the set --------------------------------------------------------------------------------------------------------


def test_the_set_is_not_square_the_same_each_time_and_goes_through_files_whole(tmp_path: Path) -> None:
    drawn = draw_set(masks=True)
    write_set(tmp_path, drawn)
    read, again = read_set(tmp_path), draw_set()
    for other in (read, again):
        for name, scene in drawn.scenes.items():
            assert scene.image.shape[0] != scene.image.shape[1]
            assert np.array_equal(other.scenes[name].image, scene.image)
            assert other.scenes[name].queries == scene.queries
    for a, b in zip(drawn.subjects, read.subjects, strict=True):
        assert (a.id, a.noun, len(a.photos)) == (b.id, b.noun, len(b.photos)) and a.masks
        assert all(np.array_equal(x, y) for x, y in zip(a.masks, b.masks, strict=True))
    assert all(subject.masks == () for subject in again.subjects), "photos alone have no masks"
    assert "mask" not in json.loads((tmp_path / "set.json").read_text()), "no truth is written"
    assert len({query.subject_id for query in drawn.scenes["several"].queries}) == 3


def test_a_decoy_is_no_mask_that_an_image_suggests(set_: TrialSet) -> None:
    for scene in set_.scenes.values():
        for query in scene.queries:
            mask = decoy(scene, query).mask
            assert mask.shape == scene.image.shape[:2] and 0.02 < mask.mean() < 0.7


# --- in a process of its own ----------------------------------------------------------------------------------------

FILE = """
import numpy as np
from prisbench import Concept, Prediction

class Red:
    name, settings = "red", {{}}

    def learn(self, subject):
        return Concept("red", subject.id, subject.noun, "none")

    def locate(self, image, queries, concepts):
        {line}
        return [Prediction(query.id, image[..., 0] > 100) for query in queries]

def make(options):
    return Red()
"""


def written(tmp_path: Path, line: str, name: str = "method.py") -> str:
    (tmp_path / name).write_text(FILE.format(line=line))
    return str(tmp_path / name)


def test_a_method_that_never_ends_is_ended_and_told_of(tmp_path: Path) -> None:
    line = "\n        ".join(("while True:", "    try: pass", "    except BaseException: pass"))
    trial = try_method(written(tmp_path, line), limits=Limits(image=0.7))
    (failed,) = trial.failures
    assert failed.name == "time" and "'landscape'" in failed.said
    assert "did not come back within 0.7 s and was ended; let every loop end" in failed.said
    assert {check.state for check in trial.checks} == {"ok", "FAILED", "not reached"}


def test_a_method_that_ends_its_process_is_told_of(tmp_path: Path) -> None:
    trial = try_method(written(tmp_path, "import ctypes; ctypes.string_at(0)"))
    assert [check.name for check in trial.failures] == ["time"] and "signal SIGSEGV" in str(trial.complaint)


def test_what_a_method_prints_is_told_and_keeps_stdout_clean(tmp_path: Path) -> None:
    path = written(tmp_path, "print('here', len(queries)); import os; os.write(1, b'there')")
    done = CliRunner().invoke(app, ["try", path, "--format", "json"])
    assert done.exit_code == 0, done.output
    record = json.loads(done.stdout)
    by_name = {check["name"]: check for check in record["checks"]}
    assert record["ok"] and by_name["stdout"]["state"] == "note"
    assert "first 'here 2'" in by_name["stdout"]["said"] and "options.say(line)" in by_name["stdout"]["said"]
    assert list(by_name) == list(CHECKS) and record["learn_seconds"] < record["seconds"] < 30


def test_the_command_shows_a_table_and_one_line_of_what_failed(tmp_path: Path) -> None:
    path = written(tmp_path, "return [Prediction(query.id, image[..., 0] / 255) for query in queries]")
    command = [sys.executable, "-m", "prisbench.cli", "try", path]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: red: 4 of 11 checks failed: answers: ") and "threshold it" in line
    assert all(name in done.stdout for name in CHECKS) and done.stdout.count("FAILED") == 4


def test_a_file_that_is_no_method_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "method.py").write_text("import no_such_extra\ndef make(options): pass\n")
    with pytest.raises(DataError, match="No module named 'no_such_extra'; install no_such_extra") as caught:
        try_method(str(tmp_path / "method.py"))
    assert "\n" not in str(caught.value)


def test_an_unknown_name_offers_the_nearest_before_anything_is_drawn() -> None:
    with pytest.raises(UnknownNameError, match="unknown method 'centre-box': did you mean 'center-box'"):
        try_method("centre-box")


def test_a_baseline_passes_with_the_photos_masks_and_its_settings_are_taken() -> None:
    trial = try_method("center-box", MethodOptions(settings={"share": 0.3}), reference="photos+masks")
    assert trial.complaint is None and trial.seconds < 30, trial
    assert {check.name for check in trial.checks if check.state == "ok"} == set(CHECKS) - {"candidates", "ahead"}


QUICK: dict[str, dict[str, Any]] = {
    "persam-f": {"steps": 5},
    **{name: {"localizer.preset": "fast"} for name in ("attn", "attn-features")},
}
"""Settings that make a method quick."""

HERE = (
    *("always-absent", "whole-image", "center-box", "random-box"),
    *(f"network-free-{name}" for name in PREDICTORS),
    *("clipseg", "persam", "persam-f", "sam-matching", "unet-features", "attn", "attn-features"),
)
"""The methods that run on what comes along."""

TINY_MODELS = {
    "grounding-dino": "test_detection.py",
    "owlv2-image-guided": "test_detection.py",
    "dinov3-features": "test_matching.py",
    "sam3-noun": "test_segmenters.py",
    "sam3-canvas": "test_segmenters.py",
    "seggpt": "test_segmenters.py",
}
"""Those that need weights from elsewhere: the file that tries each on a tiny model of its real class."""


@pytest.mark.slow
@pytest.mark.parametrize("name", HERE)
def test_every_method_that_runs_here_keeps_every_check(name: str) -> None:
    options = MethodOptions("noun-only" if name.startswith("attn") else None, settings=QUICK.get(name, {}))
    shared: dict[Any, Any] = {}
    found = checks(draw_set(masks=True), lambda: load_method(name, dataclasses.replace(options, shared=shared)))
    assert {check.state for check in found.values()} <= {"ok", "skipped"}, found


def test_no_method_goes_untried() -> None:
    assert {*HERE, *TINY_MODELS} == set(names())
    for name, file in TINY_MODELS.items():
        text = (Path(__file__).parent / file).read_text()
        assert f'"{name}"' in text and "found = checks(draw_set(masks=" in text, name


def test_a_complaint_counts_what_failed() -> None:
    every = (Check("answers", "FAILED", "no mask; give one"), Check("order", "FAILED", "x"), Check("again", "ok"))
    found = Trial("mine", every).complaint
    assert found == "mine: 2 of 3 checks failed: answers: no mask; give one; also failed: order"
    assert Trial("mine", every[2:]).complaint is None


def test_a_trial_whose_parent_was_killed_ends_and_leaves_no_folder(tmp_path: Path) -> None:
    file = tmp_path / "method.py"
    file.write_text("import time\n\ndef make(options):\n    time.sleep(60)\n")
    environment = {**os.environ, "TMPDIR": str(tmp_path / "temp")}
    (tmp_path / "temp").mkdir()
    trial = subprocess.Popen([sys.executable, "-m", "prisbench", "try", file], env=environment, stderr=subprocess.PIPE)
    for _ in range(200):
        if list((tmp_path / "temp").glob("*/printed.txt")):
            break
        time.sleep(0.1)
    trial.kill()
    assert trial.communicate(timeout=30)[1] == b""  # the child ends, too, and closes stderr
    assert list((tmp_path / "temp").iterdir()) == []
