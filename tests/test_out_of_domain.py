"""Photos that a backbone knows nothing of are told from its own world, warned of, recorded, refused."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from PIL import Image

from prisbench.cli import main as cli
from prisbench.datasets.build import NewDataset, write_dataset
from prisbench.datasets.load import Dataset, open_dataset
from prisbench.datasets.schema import QueryRow, SubjectRow
from prisbench.diffusion.backbone import Backbone
from prisbench.diffusion.domain import (
    FEATURES,
    FILE,
    RECONSTRUCTED,
    Domain,
    read_domain,
    statistics_of,
    write_domain,
)
from prisbench.diffusion.loading import EMBEDDED, has_embedded, load_backbone
from prisbench.embedded.card import measure_domain
from prisbench.errors import BackboneError, DataError
from prisbench.evaluate import evaluate
from prisbench.images.photos import load_photo
from prisbench.leaderboard.render import render
from prisbench.leaderboard.rows import rows
from prisbench.localizer.method import AttentionMethod
from prisbench.methods import load_method
from prisbench.out_of_domain import Strangeness, check_dataset, count_outside, in_domain, look, warning
from prisbench.own_world import disagreement, features, strangeness, strangeness_to
from prisbench.predict import predict
from prisbench.results import read_run, write_run
from prisbench.runtime.files import sha256_file
from prisbench.score import score_folder
from prisbench.settings import MethodOptions
from prisbench.small_networks import WEIGHTS
from prisbench.tabletop.captions import ordinary_scene
from prisbench.things.network import Config, ThingsNet, see, see_both
from prisbench.things.regions import Finder
from prisbench.types import Concept, Prediction, Query, Subject
from tests.drawing import draw_box, draw_scene

ZEROS, ONES = dict.fromkeys(FEATURES, 0.0), dict.fromkeys(FEATURES, 1.0)
ANYTHING = Domain(ZEROS, ONES, 1e9, 3, "anything")
NOTHING = Domain(ZEROS, ONES, -1e9, 3, "nothing")


# --- the measurement ------------------------------------------------------------------------------------------------


def test_noise_is_not_structure_and_structure_without_noise_is_strange() -> None:
    draw = np.random.default_rng(0)
    noise = draw.normal(0, 0.05, (3, 40, 56)).astype(np.float32)
    grey = (128 + 127.5 * noise.transpose(1, 2, 0)).astype(np.uint8)
    wave = 0.05 * np.cos(np.pi / 2 * np.arange(56))
    waves = np.broadcast_to(np.outer(wave[:40], wave) / 0.05, (3, 40, 56)).astype(np.float32)
    blocks = np.kron(draw.normal(0, 0.05, (8, 8)), np.ones((5, 7))).astype(np.float32)[None].repeat(3, 0)
    of = {"noise": -noise, "waves": waves, "blocks": blocks}
    noisy = {name: statistics_of(grey, error) for name, error in of.items()}
    smooth = statistics_of(np.full((40, 56, 3), 128, np.uint8), blocks)
    assert noisy["blocks"]["structure"] > noisy["noise"]["structure"] + 2
    assert smooth["share"] > noisy["blocks"]["share"] + 5
    assert noisy["waves"]["texture"] > 0.9
    assert noisy["blocks"]["texture"] < -0.5 and abs(noisy["noise"]["texture"]) < 0.1
    still = statistics_of(np.zeros((20, 30, 3), np.uint8), np.zeros((3, 20, 30), np.float32))
    assert all(np.isfinite(value) for value in still.values()) and still["texture"] == 0


class Told(ThingsNet):
    """A network that sees maps made by hand: one disk whose pixels point to its middle, or beside it."""

    def __init__(self, off: float, mirrored_off: float, sure: float = 9.0) -> None:
        super().__init__(Config(widths=(8, 16), groups=4))
        self.offs, self.sure = (off, mirrored_off), sure

    def maps(self, photos: torch.Tensor) -> torch.Tensor:
        rows, columns = torch.meshgrid(*map(torch.arange, photos.shape[2:]), indexing="ij")
        middle = photos.shape[2] // 2, (photos.shape[3] - 1) / 2
        away = torch.hypot(rows - middle[0], columns - middle[1])
        one = torch.stack([self.sure - away, 8.0 - 4 * away, middle[0] - rows, middle[1] - columns])
        plain, turned = (_slipped(one, off) for off in self.offs)
        return torch.stack([plain, turned.flip(2) * torch.tensor([1.0, 1.0, 1.0, -1.0])[:, None, None]])


def told(*numbers: float) -> Finder:
    finder = Finder.__new__(Finder)
    finder.network = Told(*numbers)
    return finder


def _slipped(maps: torch.Tensor, off: float) -> torch.Tensor:
    """In units of the network's reach, the ways ``off`` pixels too far down on one half."""
    ways = maps[2:].clone()
    ways[0, :, : ways.shape[2] // 2] += off
    return torch.cat([maps[:2], ways / 16.0])


def test_a_finder_that_contradicts_itself_is_told_from_one_that_agrees() -> None:
    photo = np.zeros((48, 64, 3), np.uint8)
    agreed, torn = (disagreement(told(*offs), photo) for offs in ((0.0, 0.0), (6.0, 0.0)))
    assert agreed == pytest.approx({"mirror": np.log(1e-3), "scatter": np.log(1e-3)}, abs=0.05)
    assert torn["mirror"] == pytest.approx(np.log(3.0), abs=0.3), "6 pixels on half of the disk"
    assert torn["scatter"] > agreed["scatter"] + 3
    network, empty = Told(6.0, 2.0), torch.zeros(48, 64, 3, dtype=torch.uint8)
    mean, (first, second) = see(network, empty), see_both(network, empty)
    assert all(torch.allclose(m, (a + b) / 2, atol=1e-5) for m, a, b in zip(mean, first, second, strict=True))


def test_a_photo_in_which_nothing_is_found_is_judged_by_what_is_left() -> None:
    assert disagreement(told(0.0, 0.0, -9.0), np.zeros((48, 64, 3), np.uint8)) == {}
    domain = Domain(ZEROS, ONES, 2.5, 3, "a world")
    assert domain.strangeness(dict.fromkeys(RECONSTRUCTED, 1.0)) == 3 < domain.strangeness(ONES) == 5


def test_a_file_from_before_the_finder_took_part_is_read(tmp_path: Path) -> None:
    old = Domain(dict.fromkeys(RECONSTRUCTED, 0.0), dict.fromkeys(RECONSTRUCTED, 1.0), 4.0, 9, "a world")
    path = write_domain(old, tmp_path)
    assert json.loads(path.read_text())["format"] == 1 and read_domain(tmp_path) == old
    assert old.strangeness(ONES) == 3


@pytest.mark.skipif(not has_embedded(), reason="the embedded backbone is not installed")
def test_the_domain_that_comes_along_was_measured_with_the_finder_that_comes_along() -> None:
    domain = read_domain(EMBEDDED)
    assert domain is not None and domain.finder == sha256_file(Finder().folder / WEIGHTS)
    assert json.loads((EMBEDDED / "card.json").read_text())["domain"] == dataclasses.asdict(domain)


def test_a_domain_is_written_beside_the_weights_and_leaves_the_backbones_id_alone(tmp_path: Path) -> None:
    folder = tiny.save(tmp_path / "tiny")
    before = load_backbone(folder)
    assert before.domain is None
    measured = measure_domain(folder, 4)
    after = load_backbone(folder)
    assert after.id == before.id and after.domain == measured == read_domain(folder)
    again = features(after, ordinary_scene("domain/0")[0].image)
    assert measured.scenes == 8 and measured.strangeness(again) <= measured.threshold * 1.0001 + 1e-3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 3}, r"has format 3, this version reads 1 and 2; measure it again"),
        ({"mean": {}}, r"does not say what this version reads"),
        ({"threshold": None}, r"does not say what this version reads"),
        ({"deviation": ONES | {"share": 0.0}}, r"numbers that make no sense"),
    ],
)
def test_a_domain_that_cannot_be_used_is_one_line(change: dict[str, object], message: str, tmp_path: Path) -> None:
    path = write_domain(ANYTHING, tmp_path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(BackboneError, match=message):
        read_domain(tmp_path)


needs_embedded = pytest.mark.skipif(not has_embedded(), reason="the embedded backbone is not installed")


@needs_embedded
def test_the_embedded_backbone_knows_its_own_scenes() -> None:
    backbone = load_backbone()
    assert backbone.domain is not None
    own = [ordinary_scene(f"a test's own/{n}")[0].image for n in range(8)]
    strange = [backbone.domain.strangeness(features(backbone, photo)) > backbone.domain.threshold for photo in own]
    assert sum(strange) <= 1


@needs_embedded
def test_the_embedded_backbone_does_not_know_a_picture_of_another_kind() -> None:
    backbone = load_backbone()
    assert backbone.domain is not None
    found = features(backbone, strange_picture(112, 144))
    assert backbone.domain.strangeness(found) > backbone.domain.threshold


def strange_picture(h: int, w: int) -> np.ndarray:
    y, x = np.mgrid[:h, :w]
    drawn = np.stack([127 + 100 * np.sin(x * y / 90), 127 + 90 * np.cos(x / 3 + y / 7), 2.0 * y], 2)
    return drawn.clip(0, 255).astype(np.uint8)


@needs_embedded
@pytest.mark.parametrize("name", ["clipseg", "persam", "sam-matching"])
def test_a_rival_that_knows_tabletop_alone_refuses_another_world(name: str, tmp_path: Path) -> None:
    method = load_method(name)
    own, other = ordinary_scene("a test's own/0")[0].image, strange_picture(112, 144)
    assert look(method, own) == strangeness(load_backbone(), own)
    assert [in_domain(look(method, each)) for each in (own, other)] == [True, False]
    data = dataset(tmp_path / "set", 0, scenes=[other, own, other[:, ::-1].copy()])
    with pytest.raises(DataError, match=f"2 of 3 scenes of tiny-v1 are unlike anything the model of {name} was"):
        check_dataset(data, method, "test", False)
    line = check_dataset(data, method, "test", True)
    assert line is not None and "WARNING: 2 of 3 scenes" in line and "--set sam=..." in line


def test_weights_without_a_card_of_ours_may_know_anything(tmp_path: Path) -> None:
    assert strangeness_to(tmp_path, strange_picture(112, 144)) is None


@needs_embedded
@pytest.mark.data
@pytest.mark.skipif("PRISBENCH_DATA" not in os.environ, reason="PRISBENCH_DATA names no folder of real photos")
def test_nearly_all_real_photos_are_strange_to_the_embedded_backbone() -> None:
    root, backbone = Path(os.environ["PRISBENCH_DATA"]), load_backbone()
    patterns = ("dreambooth512/*/*.jpg", "perseg_examples/Images/*/*.jpg", "ycb_video/**/*-color.png")
    paths = [path for pattern in patterns for path in sorted(root.glob(pattern))]
    assert len(paths) > 40 and backbone.domain is not None
    strange = [backbone.domain.strangeness(features(backbone, load_photo(path))) for path in paths]
    outside = np.mean(np.asarray(strange) > backbone.domain.threshold)
    assert outside >= 0.93, "178 of 187 where it was measured; rounding may move one or two"


# --- what is made of it ---------------------------------------------------------------------------------------------


class Boxes:
    """Any method with the member: scenes whose first pixel is bright are strange to it."""

    name = "boxes"
    settings: dict[str, object] = {}  # noqa: RUF012

    def __init__(self, limit: float = 128.0) -> None:
        self.limit = limit

    def strangeness(self, image: np.ndarray) -> Strangeness | None:
        return Strangeness(float(image[0, 0, 0]), self.limit)

    def learn(self, subject: Subject) -> Concept:
        return Concept(subject.id, subject.id, subject.noun, "none")

    def locate(self, image: np.ndarray, queries: list[Query], concepts: object) -> list[Prediction]:
        return [Prediction(query.id, np.ones(image.shape[:2], bool)) for query in queries]


class Timed(Boxes):
    def locate(self, image: np.ndarray, queries: list[Query], concepts: object) -> list[Prediction]:
        return [dataclasses.replace(answer, seconds=0.25) for answer in super().locate(image, queries, concepts)]


class Silent(Boxes):
    strangeness = None  # type: ignore[assignment]


def dataset(folder: Path, bright: int, of: int = 5, scenes: Sequence[np.ndarray] = ()) -> Dataset:
    """So many drawn scenes, of which some are bright; or those that are given."""
    subject = SubjectRow("mug", (draw_scene(0, (24, 40)),), "test", "CC0-1.0", "drawn")
    queries = []
    drawn = [draw_scene(n + 1, (24, 40)) for n in range(of)]
    for n, scene in enumerate(drawn):
        scene[0, 0] = 255 if n < bright else 0
    for scene in scenes or drawn:
        mask = draw_box(scene.shape[:2], 3, 9, 4, 12)
        queries.append(
            QueryRow(subject.id, "mug", scene, "the {subject}", "plain", mask, (), "test", "CC0-1.0", "drawn")
        )
    write_dataset(folder, NewDataset("tiny", "1", [subject], queries, "# Tiny\n\nDrawn by the tests.\n"))
    return open_dataset(folder)


def test_one_line_counts_what_is_outside() -> None:
    inside, outside = Strangeness(1.0, 4.0), Strangeness(9.0, 4.0)
    assert warning([inside, None], "photo") is None and warning([], "photo") is None
    assert warning([outside] + [inside] * 9, "photo") is None and warning([outside] + [inside] * 8, "photo") is not None
    line = warning([inside, outside, outside], "photo")
    assert line is not None and line.startswith("WARNING: 2 of 3 photos are unlike anything this model")
    assert "strangeness 9.0, its own world's 99th percentile 4.0" in line and "--backbone" in line
    one = warning([outside], "photo")
    assert one is not None and one.startswith("WARNING: this photo is unlike")
    assert [in_domain(each) for each in (None, inside, outside)] == [None, True, False]


def test_a_method_without_the_member_is_never_asked(tmp_path: Path) -> None:
    data = dataset(tmp_path / "set", 5)
    assert look(Silent(), draw_scene(0)) is None and look(object(), draw_scene(0)) is None
    assert check_dataset(data, Silent(), "test", False) is None
    run, path = evaluate(data, Silent(), tmp_path)
    assert run.out_of_domain is None and b'"out_of_domain"' not in path.read_bytes()


def test_a_set_of_which_much_is_outside_is_refused_unless_allowed(tmp_path: Path) -> None:
    few, many = dataset(tmp_path / "few", 1), dataset(tmp_path / "many", 2)
    assert check_dataset(dataset(tmp_path / "none", 0), Boxes(), "test", False) is None
    line = check_dataset(few, Boxes(), "test", False)
    assert line is not None and line.startswith("WARNING: 1 of 5 scenes are unlike")
    with pytest.raises(DataError, match=r"^2 of 5 scenes of tiny-v1 are unlike .* of boxes .*--out-of-domain"):
        check_dataset(many, Boxes(), "test", False)
    assert check_dataset(many, Boxes(), "test", True) is not None


def test_a_run_records_what_is_outside_and_its_row_says_so(tmp_path: Path) -> None:
    data = dataset(tmp_path / "set", 2)
    run, path = evaluate(data, Boxes(), tmp_path)
    assert run.out_of_domain == 2 == count_outside(Boxes(), data.examples("test"))
    assert read_run(path) == run or read_run(path).out_of_domain == 2
    before = path.read_bytes()
    write_run(read_run(path), path)
    assert path.read_bytes() == before
    assert evaluate(data, Boxes(), tmp_path)[0].out_of_domain == 2  # the same after it went on
    assert "boxes / none: 40% of the scenes are unlike anything its model" in render(rows([run]), "md")
    clean = dataclasses.replace(run, out_of_domain=0)
    assert "unlike" not in render(rows([clean]), "md")


def test_scoring_a_folder_keeps_what_predicting_found_outside(tmp_path: Path) -> None:
    data = dataset(tmp_path / "set", 2)
    _, path = evaluate(data, Timed(), tmp_path / "whole")
    folder = predict(data, Timed(), tmp_path / "parts").folder
    manifest = (folder / "manifest.json").read_bytes()
    assert json.loads(manifest)["out_of_domain"] == 2
    apart = write_run(score_folder(folder, data), tmp_path / "apart.json")
    assert read_run(apart).out_of_domain == 2 and apart.read_bytes() == path.read_bytes()
    predict(data, Timed(), tmp_path / "parts")
    assert (folder / "manifest.json").read_bytes() == manifest, "the same run goes on"
    silent = predict(data, Silent(), tmp_path / "silent").folder
    assert "out_of_domain" not in json.loads((silent / "manifest.json").read_text())
    assert score_folder(silent, data).out_of_domain is None


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One pipeline that knows anything, and one that knows nothing."""
    made = {}
    for name, domain in (("anything", ANYTHING), ("nothing", NOTHING)):
        made[name] = tiny.save(tmp_path_factory.mktemp(name) / "tiny")
        write_domain(domain, made[name])
    return made


def test_commands_warn_once_and_say_it_in_json(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def prisbench(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["prisbench", *map(str, arguments)])
        with pytest.raises(SystemExit) as done:
            cli.main()
        return int(done.value.code or 0), *capsys.readouterr()

    (tmp_path / "photos").mkdir()
    for n in range(2):
        Image.fromarray(draw_scene(n, (112, 144))).save(tmp_path / "photos" / f"{n}.png")
    quick = ["--set=learner.steps=1", "--set=learner.batch=1", "--set=localizer.preset=fast", "--format", "json"]
    find = ["segment", tmp_path / "photos" / "0.png", "--noun", "mug", "--out", tmp_path / "found", *quick]
    learn = ["learn-concept", "--photos", tmp_path / "photos", "--noun", "mug", "--out", tmp_path / "mug", *quick]
    for name, known in (("anything", True), ("nothing", False)):
        code, out, err = prisbench(*find, "--backbone", folders[name])
        assert (
            code == 0 and json.loads(out)["in_domain"] is known and err.count("WARNING: this photo is") == (not known)
        )
        code, out, err = prisbench(*learn, "--backbone", folders[name])
        assert code == 0 and json.loads(out)["in_domain"] == [known, known]
        assert err.count("WARNING: 2 of 2 photos are unlike") == (not known)

    data = dataset(tmp_path / "set", 0)
    run = ["evaluate", "--dataset", tmp_path / "set", "--concept", "noun-only", "--out", tmp_path / "runs", *quick[2:]]
    code, _, err = prisbench(*run, "--backbone", folders["nothing"])
    assert code == 1 and f"5 of 5 scenes of {data.id} are unlike" in err and not (tmp_path / "runs").exists()
    code, out, err = prisbench(*run, "--backbone", folders["nothing"], "--out-of-domain")
    assert code == 0 and err.count("WARNING") == 1
    assert read_run(Path(json.loads(out)["run"])).out_of_domain == 5


def test_a_backbone_without_a_domain_says_nothing(tmp_path: Path) -> None:
    backbone: Backbone = load_backbone(tiny.save(tmp_path / "tiny"))
    method = AttentionMethod.make(MethodOptions("noun-only"), backbone)
    assert in_domain(look(method, draw_scene(0, (112, 144)))) is None
    assert (EMBEDDED / FILE).is_file() or not has_embedded()


def test_a_photo_that_cannot_be_looked_at_is_not_judged(folders: dict[str, Path]) -> None:
    method = AttentionMethod.make(MethodOptions("noun-only"), load_backbone(folders["nothing"]))
    assert look(method, draw_scene(0, (12, 20))) is None
    asked: Callable[[np.ndarray], Strangeness | None] = method.strangeness
    assert asked(draw_scene(0, (112, 144))) is not None
