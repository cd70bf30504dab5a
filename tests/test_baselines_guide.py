"""``baselines/README.md`` teaches by whole files: each of them passes the trial that it is taught for."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from test_trial import checks

from prisbench.answers import BreachError, one_checked
from prisbench.headline import subset_scores
from prisbench.leaderboard.ceilings import FLOORS
from prisbench.methods import baselines_folder, load_method, names
from prisbench.pairs import pair_accuracy
from prisbench.results import read_run
from prisbench.settings import MethodOptions
from prisbench.trial.scenes import draw_set
from prisbench.types import GivesCandidates, Prediction

TEXT = (Path(__file__).parents[1] / "baselines" / "README.md").read_text()
BOARD = Path(__file__).parents[1] / "leaderboards" / "tabletop-v3"
BLOCKS = re.findall(r"^```python\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("n", range(len(BLOCKS)))
@pytest.mark.parametrize("masks", [False, True])
def test_each_step_is_a_whole_method_that_passes_every_check(n: int, masks: bool, tmp_path: Path) -> None:
    path = tmp_path / "my-colour" / "method.py"
    path.parent.mkdir()
    path.write_text(BLOCKS[n])
    found = checks(draw_set(masks), lambda: load_method(str(path)))
    assert {check.state for check in found.values()} <= {"ok", "skipped"}, found
    assert load_method(str(path)).name == path.parent.name


def test_the_steps_are_the_four_that_it_promises_and_the_last_has_its_texts_read(tmp_path: Path) -> None:
    assert len(BLOCKS) == 4 == len(re.findall(r"^## \d\. ", TEXT, re.MULTILINE))
    path = tmp_path / "method.py"
    for n, block in enumerate(BLOCKS):
        path.write_text(block)
        assert isinstance(load_method(str(path)), GivesCandidates) == (n == 3)
    read = checks(draw_set(), lambda: load_method(str(path), MethodOptions(settings={"text.relations": True})))
    assert {name: check.state for name, check in read.items() if check.state != "ok"} == {"ahead": "skipped"}, read


def test_what_it_says_of_settings_and_refusals_is_so(tmp_path: Path) -> None:
    path = tmp_path / "method.py"
    path.write_text(BLOCKS[2])
    assert load_method(str(path), MethodOptions(settings={"reach": 30})).settings == {"reach": 30, "least": 0.3}
    scene = draw_set().scenes["landscape"]
    answer = Prediction("q", None)
    object.__setattr__(answer, "mask", scene.image.mean(axis=2))
    with pytest.raises(BreachError) as caught:
        one_checked("my-colour", answer, (112, 144))
    assert str(caught.value).partition(": ")[2] in " ".join(TEXT.split())


def seen() -> dict[str, list[str]]:
    """What the table says that each method sees: photos, masks, noun, text."""
    table = TEXT.split("## Who sees what")[1].split("\n## ")[0]
    rows = [line.strip("|").split(" | ") for line in table.splitlines() if line.startswith("| ")][2:]
    return {name.strip(): [cell.strip() for cell in row[1:5]] for row in rows for name in row[0].split(",")}


@pytest.mark.parametrize("name", names())
def test_what_a_method_sees_is_the_same_in_the_table_and_in_its_card(name: str) -> None:
    assert set(seen()) == set(names()), "one row a method"
    photos, masks, noun, text = seen()[name]
    if name in FLOORS:
        assert (photos, masks, noun, text) == ("no",) * 4
        return
    card = (baselines_folder() / name / "README.md").read_text()
    sees = " ".join(card.split("**Sees:**")[1].split("\n- ")[0].split()).lower()
    assert (photos == "no") == ("photo" not in sees or "no photos" in sees), sees
    assert (noun == "no") == ("no noun" in sees or not re.search(r"noun|class word", sees)), sees
    assert (text == "no") == ("no text" in sees), sees
    assert (masks == "needs") == ("run with `--reference photos+masks`" in sees), sees
    assert (masks == "no") == ("mask" not in sees or "no masks" in sees), sees


def test_what_reading_is_worth_follows_from_the_rows() -> None:
    table = TEXT.split("## What reading is worth")[1].split("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("| ")][2:]
    assert len(rows) == 5
    for who, alone, read, pairs, _ in rows:
        name = re.split(r",| \(", who)[0]
        concept = {"unet-features": "features", "clipseg": "photo"}.get(name, name)
        masks = "--photos+masks" if who.endswith("(photos+masks)") else ""
        runs = [read_run(BOARD / f"{method}--{concept}{masks}.json") for method in (name, f"{name}+relations")]
        scores = [subset_scores(run.queries).value for run in runs]
        right = [pair_accuracy([run.queries]).value for run in runs]
        assert [f"{score:.3f}" for score in scores if score is not None] == [alone, read], who
        assert right[0] == 0 and f"{right[1]:.2f}" == pairs, who


def test_every_command_of_it_is_one_that_there_is() -> None:
    from typer.main import get_command

    from prisbench.cli.main import app

    commands = re.findall(r"^    prisbench (\S+)(.*)$", TEXT, re.MULTILINE)
    known = get_command(app).commands  # type: ignore[attr-defined]
    assert commands and {name for name, _ in commands} <= set(known)
    for name, rest in commands:
        options = {flag for each in known[name].params for flag in each.opts}
        assert set(re.findall(r"--[\w-]+", rest)) <= options
