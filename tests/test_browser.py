"""The pages of the leaderboard as files: what is packed, what may run, what can be read.  No browser takes part."""

from __future__ import annotations

import base64
import dataclasses
import json
import re
import shutil
import zlib
from pathlib import Path

import numpy as np
import pytest

from prisbench.browser import board, browse, bundle
from prisbench.browser.packing import deflated, packed
from prisbench.browser.write import Overlay, page_of, write_pages, write_queries
from prisbench.datasets.load import open_dataset
from prisbench.errors import DataError
from prisbench.leaderboard import ceilings
from prisbench.leaderboard.pages import check, readme, write_readme
from prisbench.leaderboard.reported import reported
from prisbench.leaderboard.rows import load_runs
from prisbench.results import Run
from prisbench.subsets import NAMED
from tests import leaderboards
from tests.leaderboards import big, block

WEB = bundle.WEB
EVIL = "</script><script>alert('1')</script><b>\"x"


@pytest.fixture(scope="module")
def made(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return leaderboards.make(tiny_dataset, tmp_path_factory.mktemp("made"))


@pytest.fixture
def results(made: Path, tmp_path: Path) -> Path:
    """A leaderboard folder of the tiny dataset with two methods and their predictions, to do with as one likes."""
    return Path(shutil.copytree(made, tmp_path / "boards" / "tiny-v1"))


def inflated(text: str) -> bytes:
    return zlib.decompress(base64.b64decode(text))


def columns(heads: list[list[str]], data: bytes, n: int) -> dict[str, np.ndarray]:
    found, at = {}, 0
    for name, kind in heads:
        size = n * int(kind[1])
        found[name] = np.frombuffer(data[at : at + size], f"<{kind}")
        at += size
    return found


def test_numbers_are_packed_in_the_narrowest_kind_and_come_back() -> None:
    given = {"few": [0, 255], "more": [256, 3], "many": [70000, 1], "real": [0.1, -2.5]}
    heads, data = packed(given)
    assert [kind for _, kind in heads] == ["u1", "u2", "u4", "f8"]
    assert {name: each.tolist() for name, each in columns(heads, data, 2).items()} == given
    assert inflated(deflated("ä")) == "ä".encode()


def test_the_page_holds_every_count_of_every_answer(results: Path) -> None:
    runs = load_runs(results)
    page = page_of(runs)
    data = json.loads(block(page, "data"))
    n, raw = data["queries"]["n"], inflated(block(page, "counts"))
    size = sum(n * int(kind[1]) for _, kind in data["queries"]["columns"])
    about = columns(data["queries"]["columns"], raw[:size], n)
    assert [NAMED[k] for k in about["named"]] == [query.query_type for query in runs[0].queries]
    at = size
    for run, entry in zip(runs, data["runs"], strict=True):
        size = sum(n * int(kind[1]) for _, kind in entry["columns"])
        found = columns(entry["columns"], raw[at : at + size], n)
        at += size
        assert found["intersection"].tolist() == [query.counts.intersection for query in run.queries]
        assert found["boundary_union"].tolist() == [query.counts.boundary_union for query in run.queries]
        wrong = [None if k == 0 else bool(k == 2) for k in (found["flags"] >> 4) & 3]
        assert wrong == [query.counts.wrong_instance for query in run.queries] and any(
            each is not None for each in wrong
        )
    assert at == len(raw)


def test_a_presence_is_the_same_double_in_the_page(results: Path) -> None:
    run = load_runs(results)[0]
    for presences, kind in (([0.460782, 1.0, 0.1], "u4"), ([1 / 3, 0.5, 0.25], "f8")):
        queries = [dataclasses.replace(q, presence=p) for q, p in zip(run.queries, presences, strict=False)]
        page = page_of([dataclasses.replace(run, queries=tuple(queries))])
        data = json.loads(block(page, "data"))
        heads = data["runs"][0]["columns"]
        raw = inflated(block(page, "counts"))
        about = sum(3 * int(k[1]) for _, k in data["queries"]["columns"])
        name = "presence" if kind == "u4" else "presence_exact"
        found = columns(heads, raw[about:], 3)[name]
        assert dict(heads)[name] == kind
        assert (found / (1e6 if kind == "u4" else 1)).tolist() == presences


@pytest.mark.parametrize("scripts", [board.BOARD, browse.BROWSE])
def test_a_script_is_given_only_what_stands_before_it(scripts: tuple[str, ...]) -> None:
    there: dict[str, set[str]] = {}
    for name in scripts:
        text = (WEB / name).read_text()
        for names, source in re.findall(r'^import \{([^}]*)\} from "\./([^"]+)";$', text, re.M):
            wanted = {each.strip().split(" as ")[0] for each in names.split(",") if each.strip()}
            assert wanted <= there.get(source, set()), f"{name} imports {wanted} from {source}"
        there[name] = set(re.findall(r"^export (?:async )?(?:function|const|class) (\w+)", text, re.M))
        assert text.count("import ") - text.count(" import ") == len(re.findall(r"^import \{", text, re.M)), name
    assert not re.search(r"^(import|export) ", bundle.bundled(scripts), re.M)
    assert {path.name for path in WEB.glob("*.js")} == {*board.BOARD, *browse.BROWSE}


def test_web_files_are_small_and_fetch_nothing() -> None:
    for path in sorted(WEB.iterdir()):
        text = path.read_text()
        assert text.count("\n") <= 400, path.name
        plain = text.replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://|fetch\(|XMLHttpRequest|@import|url\(|innerHTML|eval\(", plain), path.name


def test_the_policy_names_what_may_run_and_lets_nothing_be_fetched(results: Path) -> None:
    page = page_of(load_runs(results))
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page)
    script, style = re.search(r"<script>(.*?)</script>", page, re.S), re.search(r"<style>(.*?)</style>", page, re.S)
    assert policy and script and style
    rules = dict(each.strip().split(" ", 1) for each in policy[1].replace("&#39;", "'").split(";"))
    assert rules["default-src"] == "'none'" and rules["img-src"] == "'self' file: data:"
    assert rules["script-src"] == bundle.policy_hash(script[1])
    assert rules["style-src"] == bundle.policy_hash(style[1])
    assert not re.search(r"<[^>]+\son\w+=|<[^>]+\sstyle=", page[: page.index("<script")])


def test_no_name_or_text_can_end_its_place(results: Path) -> None:
    run = load_runs(results)[0]
    hostile = dataclasses.replace(run, method=EVIL, concept=EVIL, dataset=dataclasses.replace(run.dataset, name=EVIL))
    picture = Overlay(EVIL, EVIL, b"\x89PNG\r\n\x1a\n")
    for page, clean in ((page_of([hostile], [picture]), page_of([run])),):
        assert page.count("<script") == clean.count("<script") and page.count("</script") == clean.count("</script")
        assert EVIL not in page and json.loads(block(page, "data"))["methods"][0]["method"] == EVIL


def luminance(colour: str) -> float:
    parts = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_letters_stand_out_from_their_ground_in_light_and_dark() -> None:
    assert contrast("#ffffff", "#000000") == pytest.approx(21)
    text = (WEB / "page.css").read_text()
    light, dark = (dict(re.findall(r"--([\w-]+): (#\w{6})", part)) for part in re.findall(r":root \{([^}]*)\}", text))
    for palette in (light, {**light, **dark}):
        for ink in ("ink", "soft", "accent", "warn", "p0", "p1", "p2", "p3", "p4"):
            for ground in ("paper", "band"):
                assert contrast(palette[ink], palette[ground]) >= 4.5, (ink, ground)
        assert contrast(palette["ink"], palette["accent-soft"]) >= 4.5
        assert contrast(palette["firm"], palette["paper"]) >= 3, "borders of controls"


def above(run: Run) -> ceilings.Ceilings:
    """A ceiling of every query of a run."""
    asked = [ceilings.Asked("test", q.query_id, q.subject_id, q.query_type, q.grade) for q in run.queries]
    scores = {query.query_id: 1.0 for query in run.queries}
    best = ceilings.Ceiling("best outline", "truth", "every outline", "test", {}, scores)
    return ceilings.Ceilings(run.dataset, "0", asked, [best])


def test_pages_are_written_with_scenes_where_predictions_and_dataset_are_at_hand(
    results: Path, tiny_dataset: Path, tmp_path: Path
) -> None:
    dataset = open_dataset(tiny_dataset)
    steps: list[tuple[int, int]] = []
    ceilings.write_ceilings(above(load_runs(results)[0]), results)
    pages = write_pages(results, tmp_path / "a", [], lambda _: dataset, lambda *step: steps.append(step))
    assert pages.browse == tmp_path / "a" / "browse.html" and steps[-1] == (10, 10)
    images = {example.image_id for example in dataset.examples("test")}
    assert {path.stem for path in (tmp_path / "a" / "scenes").iterdir()} == images
    again = write_pages(results, tmp_path / "b", [], lambda _: dataset)
    assert again.browse and pages.browse.read_bytes() == again.browse.read_bytes()
    extra = json.loads(block(pages.board.read_text(), "extra"))
    assert extra["browse"] == "browse.html"
    names = [(row["name"], row["kind"], row["n"]) for row in extra["ceilings"]]
    assert names[0] == ("best outline", "truth", 10)
    assert {name for name, kind, _ in names[1:] if kind == "floor"} == {"whole-image", "center-box"}

    alone = write_pages(results, tmp_path / "c", [], None)
    assert alone.browse is None and not (tmp_path / "c" / "scenes").exists()
    assert json.loads(block(alone.board.read_text(), "extra"))["browse"] is None
    for path in results.glob("*.gz"):
        path.unlink()
    bare = write_pages(results, tmp_path / "d", [], lambda _: dataset)
    assert bare.why == "no predictions are kept beside the result files"


def test_predictions_of_another_run_are_refused(results: Path, tiny_dataset: Path, tmp_path: Path) -> None:
    kept = sorted(results.glob("*.gz"))
    kept[0].write_bytes(kept[1].read_bytes())
    with pytest.raises(DataError, match=r"are not the predictions that center-box--none\.json was scored from"):
        write_pages(results, tmp_path / "a", [], lambda _: open_dataset(tiny_dataset))
    assert not (tmp_path / "a" / "board.html").exists()


def test_a_dataset_alone_is_browsed_too(tiny_dataset: Path, tmp_path: Path) -> None:
    page = write_queries(open_dataset(tiny_dataset), "test", tmp_path, subset="look-alike").read_text()
    data = json.loads(block(page, "data"))
    assert data["methods"] == [] and data["queries"]["n"] == 2 and data["subsets"] == ["present", "look-alike"]
    truth = json.loads(inflated(block(page, "truth")))
    assert all(each["beside"][0][0] == "look-alike" for each in truth)
    shown = json.loads(inflated(block(page, "shown")))
    assert all((tmp_path / "scenes" / each["scene"]).is_file() for each in shown)


def test_reported_numbers_stand_apart(results: Path) -> None:
    assert reported(results) == []
    record = {
        "method": "PerSAM",
        "data": "PerSeg",
        "number": "mIoU 89.3",
        "protocol": "a | b",
        "source": "s",
    }
    (results / "reported.yaml").write_text(json.dumps([record]))
    assert reported(results) == [record]
    assert json.loads(block(page_of(load_runs(results), [], reported(results)), "extra"))["reported"] == [record]
    page = readme(load_runs(results), None, reported(results))
    below = page.partition("## Reported elsewhere, not measured here")[2]
    assert "| PerSAM | PerSeg | mIoU 89.3 | a \\| b | s |" in below and "never ranked" in below
    assert "PerSAM" not in page.partition("## Reported elsewhere")[0], "no measured row has it"
    write_readme(results)
    assert (results / "README.md").read_text() == page and check(results) == []
    for text, message in (("- 1", "record 1 must have exactly"), ("a: 1", "expected a list"), ("[", "is no YAML")):
        (results / "reported.yaml").write_text(text)
        with pytest.raises(DataError, match=f"reported.yaml.*{message}"):
            reported(results)


def test_thirty_methods_on_two_thousand_queries_stay_small(results: Path) -> None:
    run = load_runs(results)[0]
    many = big(run, 2000)
    runs = [dataclasses.replace(many, method=f"method-{n}", seed=n) for n in range(2)]
    one, two = (len(page_of(runs[:n])) for n in (1, 2))
    assert one + 14 * (two - one) < 2_000_000, "15 methods"
