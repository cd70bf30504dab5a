"""Predictors without a network: they find a drawn thing, say when it is not there, and need what they say they need."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from prisbench.datasets.build import NewDataset, write_dataset
from prisbench.datasets.load import Dataset, open_dataset
from prisbench.datasets.schema import QueryRow, SubjectRow
from prisbench.errors import DataError, MissingExtraError, UnknownNameError, UsageError
from prisbench.images.regions import iou
from prisbench.methods import load_method
from prisbench.network_free import audit, fitting, needed
from prisbench.network_free.audit import Row
from prisbench.network_free.colour_words import likeness_to, named
from prisbench.network_free.colours import BALANCES, codes, histogram, shape_of, shrunk
from prisbench.network_free.foreground import soft_foreground
from prisbench.network_free.patches import describe, nearest
from prisbench.network_free.predictors import PREDICTORS
from prisbench.network_free.regions import parts
from prisbench.network_free.weights import Weights, fit_logistic, weights_for
from prisbench.settings import MethodOptions
from prisbench.types import Method, Query, Subject, Thing

SIZE = (72, 96)
RED, BLUE = ((190, 40, 40), (235, 220, 90)), ((40, 60, 190), (220, 220, 220))
Colours = tuple[tuple[int, int, int], tuple[int, int, int]]


def table(seed: int, size_hw: tuple[int, int] = SIZE) -> np.ndarray:
    """A grainy grey-brown surface, another shade for every seed."""
    rng = np.random.default_rng(seed)
    shade = rng.integers(90, 190) + rng.integers(-12, 13, 3)
    return np.clip(shade + rng.normal(0, 4, (*size_hw, 3)), 0, 255).astype(np.uint8)


def put(image: np.ndarray, top: int, left: int, colours: Colours, side: int = 28) -> np.ndarray:
    """Draws a thing, striped from side to side, and returns its mask."""
    mask = np.zeros(image.shape[:2], bool)
    mask[top : top + side, left : left + side] = True
    rows = (np.arange(image.shape[0]) - top) // 4 % 2
    for n, colour in enumerate(colours):
        image[mask & (rows == n)[:, None]] = colour
    return mask


def photos(colours: Colours, seed: int = 0) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Three photos of a thing, and its masks in them."""
    shown, masks = [], []
    for n in range(3):
        shown.append(table(seed + n))
        masks.append(put(shown[-1], 16 + 4 * n, 20 + 12 * n, colours, 34))
    return shown, masks


THING = Subject("red-1", "mug", tuple(photos(RED)[0]))


def scene(*, red: tuple[tuple[int, int], ...] = ((34, 12),), blue: bool = True) -> tuple[np.ndarray, list[np.ndarray]]:
    """Red things at these places (top, left), and a blue one; their masks in this order."""
    image = table(77)
    masks = [put(image, *place, RED) for place in red]
    return image, masks + ([put(image, 8, 56, BLUE)] if blue else [])


def test_what_the_photos_share_is_the_subject() -> None:
    shown, masks = photos(RED)
    for soft, mask in zip(soft_foreground(shown), masks, strict=True):
        assert iou(soft > 0.5, mask) > 0.8 and 0 <= soft.min() <= soft.max() <= 1
    assert iou(soft_foreground(shown[:1])[0] > 0.5, masks[0]) > 0.5, "one photo goes by its border and its middle"


@pytest.mark.parametrize("balance", BALANCES)
def test_colours_have_a_bin_each_and_shares_that_sum_to_one(balance: str) -> None:
    image, (mask, other) = scene()
    found = codes(image, balance)
    assert found.shape == SIZE and found.min() >= 0 and found.max() < np.prod(shape_of(balance))
    own, its = (histogram(found, each.astype(np.float32), shape_of(balance)) for each in (mask, other))
    assert own.sum() == pytest.approx(1, abs=1e-5) and np.sqrt(own * its).sum() < 0.6
    assert histogram(found, np.zeros(SIZE, np.float32), shape_of(balance)).sum() == 0


def test_a_tint_of_the_light_moves_grey_world_less_than_plain_colours() -> None:
    image, (mask, _) = scene()
    tinted = np.clip(image * np.array([1.0, 0.85, 0.7]), 0, 255).astype(np.uint8)

    def kept(balance: str) -> float:
        a, b = (histogram(codes(each, balance), mask.astype(np.float32), shape_of(balance)) for each in (image, tinted))
        return float(np.sqrt(a * b).sum())

    assert kept("grey-world") > kept("none")


def test_large_photos_are_made_smaller_and_small_ones_stay() -> None:
    assert shrunk(table(0, (480, 640))).shape == (118, 157, 3)
    assert np.array_equal(shrunk(table(0)), table(0))


def test_the_nearest_patch_is_the_one_a_loop_finds() -> None:
    found = describe(scene()[0])
    asked, known = found[::9, ::9].reshape(-1, found.shape[-1]), found[4::11, 5::11].reshape(-1, found.shape[-1])
    loop = [min(float(np.linalg.norm(a - k)) for k in known) for a in asked]
    assert np.allclose(nearest(asked, known), loop, atol=1e-3)
    assert (nearest(asked, known[:0]) == 10).all()


def test_parts_of_a_map_fall_apart_at_higher_levels() -> None:
    map_ = np.zeros(SIZE, np.float32)
    map_[10:40, 10:70] = 0.3
    map_[10:40, 10:30] = map_[10:40, 50:70] = 0.9
    found = parts(map_)
    assert len(found) == 3 and iou(found[0] | found[1] | found[2], map_ > 0) > 0.99
    assert parts(np.zeros(SIZE, np.float32)) == []


def test_colours_are_found_by_their_names() -> None:
    image, (red, blue) = scene()
    assert named("the striped red and Blue mug, red") == ["red", "blue"] and named("the mug") == []
    assert likeness_to(image, "red")[red].mean() > 5 * likeness_to(image, "red")[blue].mean()
    assert likeness_to(image, "blue")[blue].mean() > 5 * likeness_to(image, "blue")[red].mean()


# --- the methods ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PREDICTORS)
def test_each_predictor_finds_the_thing_beside_another(name: str) -> None:
    method = load_method(f"network-free-{name}", MethodOptions(settings={"threshold": 0.0}))
    assert isinstance(method, Method) and method.name == f"network-free-{name}"
    image, (red, blue) = scene()
    (answer,) = method.locate(image, [Query("q", "red-1", "the {subject}")], {"red-1": method.learn(THING)})
    if name == "keypoints" and answer.mask is None:
        return  # stripes from side to side have few keypoints
    assert answer.mask is not None and iou(answer.mask, red) > 0.6 and not (answer.mask & blue).any()
    assert answer.peak_yx is not None and red[answer.peak_yx] and 0 < (answer.presence or 0) <= 1


def test_an_answer_does_not_depend_on_its_company_and_a_missing_thing_is_less_present() -> None:
    method = load_method("network-free-colour")
    concept, (image, _) = method.learn(THING), scene()
    other = method.learn(Subject("blue-1", "mug", tuple(photos(BLUE)[0])))
    concepts = {"red-1": concept, "blue-1": other}
    asked = [Query("a", "red-1", "the {subject}"), Query("b", "blue-1", "the {subject}")]
    together = method.locate(image, asked, concepts)
    for query, answer in zip(asked, together, strict=True):
        (alone,) = method.locate(image, [query], concepts)
        assert alone.presence == answer.presence and alone.peak_yx == answer.peak_yx
        assert np.array_equal(alone.mask, answer.mask)  # type: ignore[arg-type]
    (gone,) = method.locate(scene(red=())[0], asked[:1], concepts)
    assert (gone.presence or 0) < 0.5 * (together[0].presence or 0)
    assert method.learn(THING).id == concept.id != other.id


def test_the_reader_tells_copies_apart_and_the_one_that_does_not_read_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    image, (left, right) = scene(red=((34, 4), (34, 60)), blue=False)
    masks = {}
    for name in ("reader", "combined"):
        method: Any = load_method(f"network-free-{name}", MethodOptions(settings={"threshold": 0.0}))
        strong = weights_for("photos", "found", name)
        monkeypatch.setattr(
            "prisbench.network_free.method.weights_for",
            lambda *_, w=strong: Weights(**{**vars(w), "power": 4.0}),
        )
        concepts = {"red-1": method.learn(THING)}
        for text in ("the leftmost {subject}", "the {subject} on the far right"):
            (answer,) = method.locate(image, [Query("q", "red-1", text)], concepts)
            assert answer.mask is not None
            masks[name, text] = answer.mask
    one, two = (mask for (name, _), mask in masks.items() if name == "reader")
    assert iou(one, left) > 0.6 and iou(two, right) > 0.6
    one, two = (mask for (name, _), mask in masks.items() if name == "combined")
    assert np.array_equal(one, two)


def test_photos_with_masks_have_weights_of_their_own() -> None:
    method = load_method("network-free-colour")
    with_masks = Subject("red-1", "mug", tuple(photos(RED)[0]), tuple(photos(RED)[1]))
    assert method.learn(THING).recipe["reference"] == "photos"
    assert method.learn(with_masks).recipe["reference"] == "photos+masks"
    with pytest.raises(DataError, match="has no weights of 'colour' for found regions and sketches"):
        weights_for("sketches", "found", "colour")


def test_without_opencv_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    for name in ("keypoints", "combined", "reader"):
        with pytest.raises(MissingExtraError, match=r"pip install 'prisbench\[network-free\]'"):
            load_method(f"network-free-{name}")
    assert load_method("network-free-patches").learn(THING).tensors["places"].shape == (0, 2)


def test_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="unknown balance 'gray-world': did you mean 'grey-world'"):
        load_method("network-free-colour", MethodOptions(settings={"balance": "gray-world"}))
    with pytest.raises(UsageError, match="unknown setting 'treshold'"):
        load_method("network-free-colour", MethodOptions(settings={"treshold": 0.1}))
    method = load_method("network-free-colour")
    with pytest.raises(DataError, match="is not one of a network-free method: it has no 'colour'"):
        concept = load_method("center-box").learn(THING)
        method.locate(scene()[0], [Query("q", "red-1", "the {subject}")], {"red-1": concept})


# --- weights, audit -------------------------------------------------------------------------------------------------


def test_a_logistic_function_is_found_again() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(4000, 2)) * [1, 3]
    right = rng.random(4000) < 1 / (1 + np.exp(-(2 * rows[:, 0] - rows[:, 1] / 3 - 0.5)))
    found = fit_logistic(rows, right, ("a", "b"), [str(n) for n in range(4000)])
    assert found.weight == pytest.approx((2, -1), abs=0.2) and found.offset == pytest.approx(-0.5, abs=0.15)
    again = Weights.of(found.record())
    assert np.allclose(again.chance(rows), found.chance(rows), atol=1e-4)
    none = fit_logistic(rows, right & False, ("a", "b"), [""] * 4000)
    assert none.weight == (0, 0) and none.chance(rows).max() < 0.001, "nothing is ever right, whatever the numbers"
    with pytest.raises(DataError, match="no regions to fit weights on"):
        fit_logistic(rows[:0], right[:0], ("a", "b"), [])


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Two subjects a split: each alone, beside a look-alike, twice (a pair), and absent."""
    subjects, queries = [], []
    for split in ("validation", "test"):
        for n, (own, other) in enumerate(((RED, BLUE), (BLUE, RED))):
            shown, masks = photos(own, 10 * n + (split == "test") * 40)
            subject = SubjectRow("mug", tuple(shown), split, "CC0-1.0", "drawn", tuple(masks))
            subjects.append(subject)
            mixed = ("other", None, (own[0], other[1]))
            for kind, text, things, meant in (
                ("plain", "the {subject}", [("subject", None, own)], 0),
                ("look-alike", "the {subject}", [("subject", None, own), ("look-alike", "colour", other), mixed], 0),
                ("referred", "the leftmost {subject}", [("subject", None, own), ("look-alike", "copy", own)], 0),
                ("referred", "the rightmost {subject}", [("look-alike", "copy", own), ("subject", None, own)], 1),
                ("absent", "the {subject}", [("look-alike", "colour", other), mixed], None),
            ):
                image = table(100 + n + 10 * (kind in ("plain", "absent")) + 50 * (split == "test"))
                seen = [
                    Thing(put(image, 30, 4 + 31 * at, look), "jar" if role == "other" else "mug", role, grade)
                    for at, (role, grade, look) in enumerate(things)
                ]
                queries.append(
                    QueryRow(
                        subject_id=subject.id,
                        noun="mug",
                        image=image,
                        text=text,
                        query_type=kind,
                        mask=np.zeros(SIZE, bool) if meant is None else seen[meant].mask,
                        look_alikes=tuple(thing.mask for thing in seen if thing.role == "look-alike"),
                        split=split,
                        licence="CC0-1.0",
                        source="drawn",
                        things=tuple(seen),
                        meant=meant,
                        pair_id=f"{split}-{n}" if kind == "referred" else None,
                    )
                )
    folder = tmp_path_factory.mktemp("network-free") / "drawn"
    write_dataset(folder, NewDataset("drawn", "1", subjects, queries, "# Drawn\n"))
    return open_dataset(folder)


def test_weights_are_fitted_on_validation_and_the_audit_shows_what_inputs_are_worth(
    dataset: Dataset, tmp_path: Path
) -> None:
    file = tmp_path / "weights.json"
    fitting.fit_file(dataset, "photos", file)
    rows = audit.measure(dataset, "test", fitting.without_masks(dataset.subjects("test")), audit.Options(weights=file))
    by = {(row.predictor, row.regions, row.deaf, row.scope): row for row in rows}
    assert by["combined", "found", None, "look-alike"].miou > 0.6  # type: ignore[operator]
    assert by["reader", "outlines", None, "referred"].right == 1.0
    assert by["reader", "outlines", "relation", "referred"].right == 0.5, "two texts about one scene, one answer"
    assert by["combined", "outlines", "subject", "look-alike"].right == 0.0, "the other subject is its look-alike"
    assert by["text alone", "outlines", None, "look-alike"].miou == pytest.approx(1 / 3), "no text tells them apart"
    assert by["combined", "found", None, "look-alike: copy"].n == 4
    assert audit.rows_of(audit.records(rows))[0].predictor == rows[0].predictor
    text = audit.markdown(rows)
    assert "| reader, deaf to relation |" in text and "regions: outlines" in text
    gates = {gate.name: gate for gate in audit.gates(rows)}
    assert gates["photos: referred: share right lost when deaf to relation"].shut
    with pytest.raises(UsageError, match="unknown --reference 'sketches'"):
        fitting.fit_file(dataset, "sketches", file)


def test_a_gate_is_open_when_its_number_is_on_the_wrong_side() -> None:
    def row(scope: str, deaf: str | None, **values: float) -> Row:
        some = {"miou": None, "interval": None, "wrong": None, "right": None, "silent": None, "auc": None, **values}
        return Row("d-v1", "test", "photos", "reader", "outlines", deaf, scope, 9, **some)  # type: ignore[arg-type]

    rows = [
        row("referred", None, right=0.9),
        row("referred", "relation", right=0.8),
        row("look-alike", None, right=0.7),
    ]
    assert audit.open_gates(rows) == ["photos: referred: share right lost when deaf to relation"]
    rows[1] = row("referred", "relation", right=0.5)
    assert audit.open_gates(rows) == []
    rows[2] = row("look-alike", None, right=0.95)
    assert audit.open_gates(rows) == ["photos: look-alike: best share right, true outlines"]


AUDIT = Path(__file__).parents[1] / "docs" / "audit"
"""Rows of datasets (``prisbench bench network-free --format json``), and the gates of each that are open."""


def changed(rows: dict[str, list[Row]], known: dict[str, list[str]]) -> list[str]:
    """Gates that are open and not known to be, and gates known to be open that are shut or that no rows speak of."""
    there = {name: set(audit.open_gates(each)) for name, each in rows.items()}
    new = [f"{name}: {gate} is open now" for name, gates in there.items() for gate in gates - set(known.get(name, ()))]
    gone = [
        f"{name}: {gate} is shut now, take it from the list"
        for name, gates in known.items()
        for gate in set(gates) - there.get(name, set())
    ]
    return sorted(new + gone)


def test_the_list_of_open_gates_can_only_shrink() -> None:
    known = json.loads((AUDIT / "open-gates.json").read_text())
    known = {name: gates for name, gates in known.items() if "without the photos" not in name}  # test_shortcuts.py
    files = sorted((AUDIT / "network-free").glob("*.json"))
    assert changed({path.stem: audit.rows_of(json.loads(path.read_text())) for path in files}, known) == []


@pytest.mark.parametrize("mark", ["network-free rows", "needed inputs"])
def test_the_docs_tables_follow_from_the_rows(mark: str) -> None:
    rows = audit.rows_of(json.loads((AUDIT / "network-free" / "tabletop-v3.json").read_text()))
    expected = audit.markdown(rows) if mark == "network-free rows" else needed.markdown(rows)
    block = (AUDIT.parent / "shortcuts.md").read_text().partition(f"<!-- {mark} -->\n")[2].partition("<!-- end -->")[0]
    assert block == expected


@pytest.mark.parametrize("content", ["3", "[]", '{"photos": 3}', '{"photos": {"found": {"colour": {"names": 1}}}}'])
def test_a_damaged_file_of_weights_is_one_line(tmp_path: Path, content: str) -> None:
    (tmp_path / "weights.json").write_text(content)
    with pytest.raises(DataError, match="holds no weights of network-free predictors"):
        weights_for("photos", "found", "colour", tmp_path / "weights.json")


def test_a_gate_that_opens_or_shuts_would_be_noticed() -> None:
    rows = audit.rows_of([{**EASY, "interval": [0.6, 0.8]}])
    gate = "photos: look-alike: best mIoU, regions found"
    assert changed({"d-v1": rows}, {}) == [f"d-v1: {gate} is open now"]
    assert changed({"d-v1": rows}, {"d-v1": [gate]}) == []
    assert changed({"d-v1": audit.rows_of([{**EASY, "miou": 0.5}])}, {"d-v1": [gate]}) == [
        f"d-v1: {gate} is shut now, take it from the list"
    ]


EASY = {
    **{"dataset": "d-v1", "split": "test", "reference": "photos", "predictor": "colour", "regions": "found"},
    **{"deaf": None, "scope": "look-alike", "n": 9, "miou": 0.7, "interval": None},
    **{"wrong": None, "right": None, "silent": None, "auc": None},
}
