"""Methods by name and by path, their settings, and ``attn`` behind the seam on a tiny pipeline of the real classes."""

from __future__ import annotations

import dataclasses
import shutil
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import tiny
from scipy import ndimage

from prisbench.concepts.recipes import LEARNERS, default_recipe
from prisbench.errors import BackboneError, DataError, UnknownNameError, UsageError
from prisbench.localizer.method import CONCEPTS, AttentionMethod
from prisbench.methods import baselines_folder, check_options, load_method, names
from prisbench.settings import MethodOptions, parse_settings, take_settings, variants
from prisbench.types import Concept, GivesCandidates, KnowsItsWorld, Method, Query, Subject, TellsCost, WantsSubjects

QUICK = {"learner.steps": 2, "learner.batch": 1, "localizer.refine": "none", "localizer.samples": 1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save(tmp_path_factory.mktemp("methods") / "tiny")


def photo(seed: int, size_hw: tuple[int, int] = (112, 144)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size_hw, 3), dtype=np.uint8)


SUBJECT = Subject("mine", "mug", (photo(0), photo(1, (144, 112))))


# --- by name and by path --------------------------------------------------------------------------------------------


def test_every_folder_with_a_method_is_a_name_and_so_is_attn() -> None:
    without = [
        f"network-free-{cue}" for cue in ("colour", "colour-texture", "combined", "keypoints", "patches", "reader")
    ]
    assert names() == [
        "always-absent",
        "attn",
        "attn-features",
        "center-box",
        "clipseg",
        "dinov3-features",
        "grounding-dino",
        *without,
        "owlv2-image-guided",
        "persam",
        "persam-f",
        "random-box",
        "sam-matching",
        "sam3-canvas",
        "sam3-noun",
        "seggpt",
        "unet-features",
        "whole-image",
    ]
    for name in ("always-absent", "center-box", "random-box", "whole-image"):
        method = load_method(name)
        assert isinstance(method, Method) and method.name == name
        assert (baselines_folder() / name / "README.md").is_file(), "each has its card"


@pytest.mark.parametrize(("name", "near"), [("atn", "attn"), ("centre-box", "center-box"), ("clip-seg", "clipseg")])
def test_an_unknown_method_offers_the_nearest(name: str, near: str) -> None:
    with pytest.raises(UnknownNameError, match=f"unknown method '{name}': did you mean '{near}'"):
        load_method(name)


STRANGER = """
from __future__ import annotations

from dataclasses import dataclass

from prisbench import Concept, Prediction


@dataclass(frozen=True)
class Stranger:
    options: object
    name: str = "stranger"
    scale: float = 1.0

    @property
    def settings(self):
        return {"scale": self.scale}

    def learn(self, subject):
        return Concept("c", subject.id, subject.noun, "none")

    def locate(self, image, queries, concepts):
        return [Prediction(query.id, None) for query in queries]


def make(options):
    return Stranger(options)
"""


def test_a_strangers_file_has_the_same_standing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my-method.py").write_text(STRANGER)
    options = MethodOptions(seed=7, settings={"a": 1})
    method = load_method(str(tmp_path / "my-method.py"), options)
    assert isinstance(method, Method) and method.name == "stranger"
    assert vars(method)["options"] is options
    monkeypatch.chdir(tmp_path)
    assert load_method("my-method.py").settings == {"scale": 1.0}


def test_a_file_that_is_no_method_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no method file .*gone\.py: give a path to a Python file that defines make"):
        load_method(str(tmp_path / "gone.py"))
    path = tmp_path / "method.py"
    for text, message in (
        ("x = 1\n", r"method\.py defines no make\(options\); see baselines/center-box/method\.py"),
        ("make = 3\n", r"method\.py defines no make\(options\)"),
        ("def make(options): return 5\n", r"make\(options\) gave int, which lacks name, settings, learn or locate"),
        ("def make(options) return\n", r"method\.py cannot be loaded: SyntaxError: "),
        ("import no_such_package\n", r"cannot be loaded: ModuleNotFoundError: No module named 'no_such_package'"),
    ):
        path.write_text(text)
        before = set(sys.modules)
        with pytest.raises(DataError, match=message):
            load_method(str(path))
        if "cannot be loaded" in message:
            assert {name for name in set(sys.modules) - before if name.startswith("prisbench_method")} == set()


# --- settings -------------------------------------------------------------------------------------------------------


def test_settings_are_json_where_they_can_be_and_text_elsewhere() -> None:
    pairs = ["a.tau=0.3", "b=[1, 2]", "c=crf", "d=x=y", "e=null", 'f={"up.1.0": 1}', "g=", "h=true", "i=NaN"]
    assert parse_settings(pairs) == {
        "a.tau": 0.3,
        "b": [1, 2],
        "c": "crf",
        "d": "x=y",
        "e": None,
        "f": {"up.1.0": 1},
        "g": "",
        "h": True,
        "i": "NaN",
    }
    for pair in ("tau", "=3", ""):
        with pytest.raises(UsageError, match=f"--set '{pair}': expected KEY=VALUE, such as localizer.tau=0.3"):
            parse_settings([pair])


def test_taking_settings_keeps_the_others_and_only_its_own_prefix() -> None:
    known = {"tau": 0.4, "steps": 3}
    assert take_settings(known, {"x.tau": 0.2, "y.steps": 9}, "x.") == {"tau": 0.2, "steps": 3}
    assert take_settings(known, {"tau": 1}) == {"tau": 1, "steps": 3}
    assert known == {"tau": 0.4, "steps": 3}
    with pytest.raises(UnknownNameError, match=r"unknown setting 'x\.tua': did you mean 'x\.tau'\? known: x\.steps"):
        take_settings(known, {"x.tua": 0.2}, "x.")


@pytest.mark.parametrize(("key", "value"), [("tau", "0,3"), ("steps", 1.5), ("steps", True), ("cross", 3), ("on", 1)])
def test_a_setting_of_another_kind_is_refused_naming_its_default(key: str, value: object) -> None:
    known = {"tau": 0.4, "steps": 3, "cross": {"mid.0": 1.0}, "on": False}
    with pytest.raises(UsageError, match=f"setting {key}=.* is of another kind than its default"):
        take_settings(known, {key: value})


@pytest.mark.parametrize("name", ["always-absent", "center-box", "random-box", "whole-image"])
def test_a_baseline_refuses_settings_it_does_not_have(name: str) -> None:
    with pytest.raises(UnknownNameError, match=r"unknown setting 'localizer\.tau'"):
        load_method(name, MethodOptions(settings={"localizer.tau": 0.3}))


def test_attn_refuses_what_it_does_not_know_before_it_loads_any_weights() -> None:
    nowhere = "/nowhere/at/all"
    with pytest.raises(UnknownNameError, match="unknown concept 'noun': did you mean 'noun-only'"):
        load_method("attn", MethodOptions("noun", nowhere))
    with pytest.raises(UsageError, match=r"unknown setting 'tau': those of attn begin with 'localizer\.'"):
        load_method("attn", MethodOptions(model=nowhere, settings={"tau": 0.3}))
    for given, message in (
        ({"learner.step": 3}, r"unknown setting 'learner\.step': did you mean 'learner\.steps'"),
        ({"learner.steps": "many"}, r"setting learner\.steps='many' is of another kind"),
        ({"learner.steps": -1}, r"learner\.steps=-1 makes no sense"),
    ):
        with pytest.raises(UsageError, match=message):
            load_method("attn", MethodOptions(model=nowhere, settings=given))
    with pytest.raises(UsageError, match=r"unknown setting 'learner\.rank': .*known: learner\.accumulate, "):
        load_method("attn", MethodOptions(model=nowhere, settings={"learner.rank": 4}))
    with pytest.raises(UsageError, match=r"learner\.prior\.images=-3 makes no sense"):
        load_method("attn", MethodOptions("dreambooth", nowhere, settings={"learner.prior": {"images": -3}}))
    with pytest.raises(BackboneError, match="no such backbone folder: /nowhere/at/all"):
        load_method("attn", MethodOptions(model=nowhere))


def test_attn_takes_settings_over_its_preset(folder: Path) -> None:
    method = AttentionMethod.make(
        MethodOptions(
            "textual-inversion",
            str(folder),
            seed=4,
            settings={
                "localizer.tau": 0.3,
                "localizer.timesteps": [50, 150],
                "localizer.tokens": "phrase",
                "localizer.cross": {"up.1.0": 2},
                "localizer.crf": {"iterations": 3, "smooth_px": 2},
                "localizer.theta": None,
                "learner.steps": 7,
                "learner.timesteps": [10, 20],
            },
        )
    )
    found = method.settings
    localizer, learner = found["localizer"], found["learner"]
    assert (localizer["tau"], localizer["timesteps"], localizer["tokens"]) == (0.3, (50, 150), ("phrase",))
    assert repr(localizer["cross"]) == "{'up.1.0': 2.0}" and localizer["crf"]["iterations"] == 3
    assert localizer["crf"]["colour_px"] == 15.0, "the rest of the preset stays"
    assert (learner["steps"], learner["timesteps"], learner["seed"]) == (7, (10, 20), 4)
    lora = {"learner.rank": 2, "learner.prior": {"images": 3}, "learner.targets": "to_k"}
    learner = AttentionMethod.make(MethodOptions("dreambooth-lora", str(folder), settings=lora)).settings["learner"]
    assert (learner["rank"], learner["targets"], learner["prior"]["images"]) == (2, ("to_k",), 3)
    assert learner["prior"]["guidance"] == default_recipe("embedded", "dreambooth-lora").prior.guidance
    one = {"localizer.preset": "paper", "localizer.timestep": 150}
    paper = AttentionMethod.make(MethodOptions(model=str(folder), settings=one))
    assert paper.settings["localizer"]["rule"] == "squared"
    assert paper.settings["localizer"]["timesteps"] == (150,)
    assert method.model == method.backbone.id and method.model.startswith("tiny@")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"localizer.tua": 0.3}, r"unknown setting 'localizer\.tua': did you mean 'localizer\.tau'"),
        ({"localizer.tau": 3}, r"localizer\.tau=3"),
        ({"localizer.tau": "high"}, r"setting localizer\.tau='high' is of another kind than its default"),
        ({"localizer.tau": None}, r"settings that make no sense \(localizer\.tau=None\)"),
        ({"localizer.crf": {"sharpness": 1}}, r"unknown setting 'localizer\.crf\.sharpness'"),
        ({"localizer.places": {"powr": 1}}, r"unknown setting 'localizer\.places\.powr': did you mean .*\.power'"),
        ({"localizer.places": {"power": "x"}}, r"setting localizer\.places\.power='x' is of another kind"),
        ({"localizer.evidence": {"samples": 1.5}}, r"setting localizer\.evidence\.samples=1\.5 is of another kind"),
        ({"localizer.preset": "papier"}, "unknown localizer preset 'papier': did you mean 'paper'"),
        ({"localizer.preset": 3}, "unknown localizer preset '3'"),
        ({"learner.step": 3}, r"unknown setting 'learner\.step': did you mean 'learner\.steps'"),
        ({"learner.steps": "many"}, r"setting learner\.steps='many' is of another kind"),
        ({"learner.steps": -1}, r"learner\.steps=-1 makes no sense"),
        (
            {"localizer.timestep": 1000},
            r"localizer\.timesteps: there is no timestep 1000; those of \S+ go from 0 to 999",
        ),
        ({"localizer.evidence": {"timesteps": [300, 5000]}}, r"localizer\.evidence: there is no timestep 5000"),
        ({"learner.timesteps": [0, 1001]}, r"learner\.timesteps: there is no timestep 1000"),
        ({"learner.timesteps": [5]}, r"settings that make no sense \(learner\.timesteps=\[5\]\)"),
    ],
)
def test_a_setting_of_attn_that_makes_no_sense_is_one_line(
    folder: Path, given: dict[str, object], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        AttentionMethod.make(MethodOptions(model=str(folder), settings=given))


# --- attn -----------------------------------------------------------------------------------------------------------


PARTS = {
    "noun-only": set(),
    "dreambooth": {"unet", "text_encoder"},
    "dreambooth-lora": {"unet", "text_encoder"},
    "custom-diffusion": {"unet", "vectors"},
}
"""What a concept holds, where it is not vectors alone."""


@pytest.mark.parametrize("concept", CONCEPTS)
def test_attn_learns_and_locates_with_each_kind_of_concept(concept: str, folder: Path, tmp_path: Path) -> None:
    few = {"learner.prior": {"images": 1, "steps": 1}} if "unet" in PARTS.get(concept, ()) else {}
    method = AttentionMethod.make(MethodOptions(concept, str(folder), settings=QUICK | few, store=str(tmp_path)))
    method.subjects = (SUBJECT, Subject("other", "mug", (photo(2),)))
    learned = method.learn(SUBJECT)
    assert (learned.learner, learned.subject_id, learned.noun) == (concept, "mine", "mug")
    parts = {name.split(".")[0] for name in learned.tensors} - {"losses"}
    assert parts == PARTS.get(concept, {"vectors"})
    kept = concept in (*LEARNERS, "another-subject")
    assert len(list(tmp_path.iterdir())) == kept, "controls are not kept"
    scene, queries = photo(5), [Query("a", "mine", "the {subject}"), Query("b", "mine", "the {subject} on the bowl")]
    both = method.locate(scene, queries, {"mine": learned})
    assert [answer.query_id for answer in both] == ["a", "b"]
    for answer, query in zip(both, queries, strict=True):
        assert answer.mask is not None and answer.mask.shape == (112, 144)
        (again,) = method.locate(scene, [query], {"mine": learned})
        assert again.mask is not None and np.array_equal(again.mask, answer.mask), "whatever else is asked"
    expected = {
        "noun-only": {"seed"},
        "untrained-token": {"seed", "vectors"},
    }
    learner = expected.get(concept, {"seed", "steps", "templates", "version"})
    assert set(method.settings["learner"]) >= learner


def test_a_concept_that_was_learned_before_is_taken_from_the_store(folder: Path, tmp_path: Path) -> None:
    options = MethodOptions("textual-inversion", str(folder), settings=QUICK, store=str(tmp_path))
    steps: list[int] = []
    for _ in range(2):
        method = AttentionMethod.make(options)
        method.progress = lambda step, total, loss: steps.append(step)
        learned = method.learn(SUBJECT)
    assert steps == [1, 2], "the second time nothing is learned"
    assert [path.name for path in tmp_path.iterdir()] == [learned.id]
    renamed = method.learn(Subject("theirs", "mug", SUBJECT.photos))
    assert (renamed.id, renamed.subject_id, len(steps)) == (learned.id, "theirs", 2), "the photos decide, not the name"

    other = AttentionMethod.make(dataclasses.replace(options, seed=1))
    assert other.learn(SUBJECT).id != learned.id
    assert len(list(tmp_path.iterdir())) == 2, "another seed is another concept"


def test_an_interrupted_learner_leaves_nothing_in_the_store(folder: Path, tmp_path: Path) -> None:
    def stop(step: int, steps: int, loss: float) -> None:
        raise KeyboardInterrupt

    method = AttentionMethod.make(MethodOptions(None, str(folder), settings=QUICK, store=str(tmp_path)))
    method.progress = stop
    with pytest.raises(KeyboardInterrupt):
        method.learn(SUBJECT)
    assert list(tmp_path.iterdir()) == []


def test_the_store_is_in_the_cache_unless_said_otherwise(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRISBENCH_HOME", "/some/where")
    assert AttentionMethod.make(MethodOptions(model=str(folder))).store == Path("/some/where/concepts")


def test_of_two_that_want_the_same_concept_one_learns_it(folder: Path, tmp_path: Path) -> None:
    options = MethodOptions("textual-inversion", str(folder), settings=QUICK, store=str(tmp_path))
    first, second = AttentionMethod.make(options), AttentionMethod.make(options)
    steps, learned, waiting = list[str](), dict[str, Concept](), threading.Event()
    second.say = lambda line: waiting.set()

    def other() -> None:
        second.progress = lambda *_: steps.append("second")
        learned["second"] = second.learn(SUBJECT)

    thread = threading.Thread(target=other)

    def begin(step: int, *_: object) -> None:
        steps.append("first")
        if step == 1:
            thread.start()
            assert waiting.wait(30)

    first.progress = begin
    learned["first"] = first.learn(SUBJECT)
    thread.join(60)
    assert steps == ["first", "first"], "the second waits, and finds it"
    assert learned["second"].id == learned["first"].id
    assert [path.name for path in tmp_path.iterdir()] == [learned["first"].id]


def test_a_copy_of_attn_under_another_name_has_the_same_standing(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "mine" / "method.py"
    other.parent.mkdir()
    shutil.copy(baselines_folder() / "attn" / "method.py", other)
    thing = Subject("mug-1", "mug", (photo(1), photo(2)))
    queries = [Query("q", thing.id, "the {subject} on the bowl"), Query("r", thing.id, "the {subject}")]
    answers, steps, lines = [], [], []
    for name in ("attn", str(other)):
        options = MethodOptions(
            None, str(folder), settings=QUICK, store=str(tmp_path / "store" / str(len(answers))),
            progress=lambda step, *_: steps.append(step), say=lines.append,
        )  # fmt: skip
        check_options(name, [options])
        method = load_method(name, options)
        assert isinstance(method, TellsCost) and isinstance(method, WantsSubjects) and isinstance(method, KnowsItsWorld)
        concept = method.learn(thing)
        answers.append(method.locate(photo(3), queries, {thing.id: concept}))
    assert steps == [1, 2, 1, 2], "progress reaches both"
    for first, second in zip(*answers, strict=True):
        assert (first.query_id, first.presence, first.peak_yx) == (second.query_id, second.presence, second.peak_yx)
        assert np.array_equal(first.score, second.score) and (first.mask is None) == (second.mask is None)
        assert first.mask is None or np.array_equal(first.mask, second.mask)
    with pytest.raises(UnknownNameError, match="unknown concept 'textual-invertion'"):
        check_options(str(other), [MethodOptions("textual-invertion")])


def test_attn_gives_the_parts_of_its_mask_to_choose_among(folder: Path, tmp_path: Path) -> None:
    settings = QUICK | {"localizer.presence": 1e-9, "localizer.places": {"alone": 0.0}}
    options = MethodOptions(model=str(folder), store=str(tmp_path), settings=settings)
    method, scene = load_method("attn", options), photo(7)
    assert isinstance(method, GivesCandidates)
    found = method.candidates(scene, SUBJECT)
    text = Query("q", "mine", "a photo of a {subject}")
    (answer,) = method.locate(scene, [text], {"mine": method.learn(SUBJECT)})
    assert answer.mask is not None and answer.score is not None and len(found) > 1
    assert np.array_equal(np.sum([each.mask for each in found], axis=0), answer.mask.astype(int)), "each pixel once"
    scores = [each.score for each in found]
    assert scores == sorted(scores, reverse=True) and 0 < min(scores) <= max(scores) <= 1
    assert [float(answer.score[each.mask].max()) for each in found] == scores
    assert found[0].mask[answer.peak_yx], "the peak of the map lies in the first"
    assert all(ndimage.label(each.mask, np.ones((3, 3)))[1] == 1 for each in found)


CHOOSER = """
from prisbench import AttentionMethod, Candidate, GivesCandidates

class Largest:
    name, settings = "largest", {}

    def __init__(self, options):
        self.inner = AttentionMethod.make(options)

    def learn(self, subject):
        return self.inner.learn(subject)

    def locate(self, image, queries, concepts):
        return self.inner.locate(image, queries, concepts)

    def candidates(self, image, subject):
        found = sorted(self.inner.candidates(image, subject), key=lambda each: -each.mask.sum())
        return [Candidate(each.mask, each.mask.mean()) for each in found]

def make(options):
    return Largest(options)
"""


def test_a_strangers_file_gives_candidates_too_and_need_not(folder: Path, tmp_path: Path) -> None:
    options = MethodOptions(model=str(folder), store=str(tmp_path), settings=QUICK)
    (tmp_path / "largest.py").write_text(CHOOSER)
    method = load_method(str(tmp_path / "largest.py"), options)
    assert isinstance(method, GivesCandidates) and not isinstance(load_method("center-box"), GivesCandidates)
    sizes = [each.mask.sum() for each in method.candidates(photo(7), SUBJECT)]
    assert sizes == sorted(sizes, reverse=True) and len(sizes) > 1
    shutil.copy(baselines_folder() / "attn" / "method.py", tmp_path / "mine.py")
    ours, theirs = (load_method(name, options) for name in ("attn", str(tmp_path / "mine.py")))
    assert isinstance(ours, GivesCandidates) and isinstance(theirs, GivesCandidates)
    pairs = zip(ours.candidates(photo(7), SUBJECT), theirs.candidates(photo(7), SUBJECT), strict=True)
    assert all(a.score == b.score and np.array_equal(a.mask, b.mask) for a, b in pairs)


def test_the_methods_of_one_command_share_what_is_loaded(folder: Path) -> None:
    first = MethodOptions("noun-only", str(folder), settings=QUICK)
    second = dataclasses.replace(first, concept="untrained-token")
    one, other = load_method("attn", first), load_method("attn", second)
    assert one.backbone is other.backbone, "replace keeps the place where they are shared"  # type: ignore[attr-defined]
    assert load_method("attn", MethodOptions("noun-only", str(folder))).backbone is not one.backbone  # type: ignore[attr-defined]


def test_variants_are_every_concept_with_every_seed_each_once() -> None:
    shared = MethodOptions(model="m", settings={"a": 1})
    found = variants(shared, ["x", "y", "x"], [0, 1, 0])
    assert [(each.concept, each.seed) for each in found] == [("x", 0), ("x", 1), ("y", 0), ("y", 1)]
    assert all((each.model, each.settings) == ("m", {"a": 1}) for each in found)
    assert variants(shared) == [shared]
