"""What the pages of the repository promise about themselves: width, paths, links, examples.  Each rule has a twin."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
COLUMNS = 100
PAGES = [
    *(ROOT / name for name in ("README.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "baselines").glob("*/README.md")),
    *sorted((ROOT / "data_cards").glob("*.md")),
    ROOT / "leaderboards" / "LOG.md",
]
CURRENT = [page for page in PAGES if page.name not in ("CHANGELOG.md", "LOG.md")]
"""Pages about the code as it is; the two others also name what was."""

FOREIGN = {"scripts/SD_seg.py", "path/to/method.py"}
"""Paths that are not of this repository."""


def prose(text: str) -> Iterator[tuple[int, str]]:
    """Numbered lines that people wrote: no front matter, tables, fenced code, or blocks that a command makes."""
    made, fenced = False, False
    lines = text.splitlines()
    start = lines.index("---", 1) + 1 if lines[:1] == ["---"] else 0
    for number, line in enumerate(lines[start:], start + 1):
        if re.match(r"<!-- (table|learners|facts|made by)\b", line):
            made = True
        elif re.match(r"<!-- (/\w+|end) -->", line):
            made = False
        elif line.lstrip().startswith("```"):
            fenced = not fenced
        elif not made and not fenced and not line.startswith("|"):
            yield number, line


def too_wide(text: str) -> list[int]:
    """Lines of prose that reach column 100; an address may be as long as it is."""
    return [number for number, line in prose(text) if len(line) >= COLUMNS and "://" not in line]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_prose_ends_before_column_100(page: Path) -> None:
    assert too_wide(page.read_text()) == []


def test_a_line_that_is_too_wide_would_be_noticed() -> None:
    wide = "word " * 20 + "end"
    assert too_wide(f"short\n{wide}\n") == [2]
    assert too_wide(f"    {wide}\n") == [1], "an indented block is read as prose is"
    assert too_wide(f"| {wide} |\n```\n{wide}\n```\n<!-- table x -->\n{wide}\n<!-- /table -->\n") == []
    assert too_wide(f"```\n```\n{wide}\n<!-- made by x -->\n<!-- end -->\n{wide}\n") == [3, 6]
    assert too_wide(f"https://example.org/{'x' * 100}\n") == []
    assert too_wide(f"---\n{wide}\n---\n{wide}\n") == [4]


def gone(text: str) -> list[str]:
    """Files of code and modules that a page names and that do not exist."""
    files = set(re.findall(r"(?<![\w./-])(?:[\w-]+/)+[\w-]+\.py\b", text)) - FOREIGN
    wrong = [name for name in files if not ((ROOT / name).is_file() or (ROOT / "prisbench" / name).is_file())]
    for module in set(re.findall(r"`(prisbench(?:\.\w+)+)`", text)):
        if not exists(module.split(".")):
            wrong.append(module)
    return sorted(wrong)


def exists(dotted: list[str]) -> bool:
    """Whether names lead to a module, or to something that a module's source defines."""
    for end in range(len(dotted), 0, -1):
        place = ROOT.joinpath(*dotted[:end])
        source = next((path for path in (place.with_suffix(".py"), place / "__init__.py") if path.is_file()), None)
        if source:
            rest = dotted[end:]
            return not rest or re.search(rf"\b{rest[0]}\b", source.read_text()) is not None
    return False


@pytest.mark.parametrize("page", CURRENT, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_file_and_module_named_exists(page: Path) -> None:
    assert gone(page.read_text()) == []


def test_a_file_that_moved_would_be_noticed() -> None:
    assert gone("`prisbench/metrics.py`, (runtime/files.py), `prisbench.metrics`, `prisbench.metrics.count`") == []
    assert gone("see prisbench/localize.py and `tests/test_x.py`") == ["prisbench/localize.py", "tests/test_x.py"]
    assert gone("`prisbench.localize.locate`, `prisbench.metrics.no_such`") == [
        "prisbench.localize.locate",
        "prisbench.metrics.no_such",
    ]


def broken(page: Path, text: str) -> list[str]:
    """Links of a page into the repository that lead nowhere."""
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text)
    return [link for link in links if "://" not in link and not (page.parent / link).exists()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_into_the_repository_leads_somewhere(page: Path) -> None:
    assert broken(page, page.read_text()) == []


def test_a_broken_link_would_be_noticed() -> None:
    text = "[a](docs/metrics.md#how) [b](docs/nothing.md) [c](https://example.org/x.md)"
    assert broken(ROOT / "README.md", text) == ["docs/nothing.md"]


def unknown_imports(text: str) -> list[str]:
    """What the Python examples of a page import from prisbench and cannot have; their syntax is checked on the way."""
    wrong = []
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "prisbench":
                wrong += [f"{node.module}.{alias.name}" for alias in node.names if not importable(node.module, alias)]
    return wrong


def importable(module: str | None, alias: ast.alias) -> bool:
    try:
        return hasattr(importlib.import_module(module or ""), alias.name) or bool(
            importlib.import_module(f"{module}.{alias.name}")
        )
    except ImportError:
        return False


@pytest.mark.parametrize("page", CURRENT, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_examples_import_what_exists(page: Path) -> None:
    assert unknown_imports(page.read_text()) == []


def test_an_example_that_cannot_run_would_be_noticed() -> None:
    text = "```python\nfrom prisbench.datasets import nothing\nfrom prisbench import Query\n```\n"
    assert unknown_imports(text) == ["prisbench.datasets.nothing"]
    with pytest.raises(SyntaxError):
        unknown_imports("```python\nx = = 1\n```\n")


README = (ROOT / "README.md").read_text()

WORDS = "subject noun concept scene query mask method run look-alike absent".split()  # noqa: SIM905

TIMED = (
    "demo",
    "learn-concept",
    "segment",
    "build-dataset",
    "validate",
    "evaluate",
    "leaderboard",
    "wsss demo",
    "train-backbone",
)


def section(text: str, title: str) -> str:
    """What stands under a heading, up to the next one; nothing where there is no such heading."""
    _, heading, rest = text.partition(f"# {title}\n")
    return re.split(r"^#+ ", rest, maxsplit=1, flags=re.MULTILINE)[0] if heading else ""


def unexplained(text: str) -> list[str]:
    """Words of the project that the README's glossary lacks."""
    rows = dict(re.findall(r"^\| ([\w-]+) \| (.+) \|$", section(text, "Words"), re.MULTILINE))
    return [word for word in WORDS if not rows.get(word)]


def untimed(text: str) -> list[str]:
    """Commands whose time the README does not give."""
    rows = re.findall(r"^\| (.+) \| .*\d.* (?:s|min|h)\b.* \|$", section(text, "How long they take"), re.MULTILINE)
    return [command for command in TIMED if not any(re.search(rf"`.*\b{command}\b", row) for row in rows)]


def reading_order(text: str) -> list[str]:
    """The files that the README wants read, in their order."""
    return re.findall(r"^\d+\. `([^`]+)`: \S", section(text, "Files"), re.MULTILINE)


def test_the_readme_explains_ten_words() -> None:
    assert len(WORDS) == 10 and unexplained(README) == []
    assert unexplained(README.replace("| noun |", "| kind |")) == ["noun"]
    assert unexplained(README.replace("## Words", "## Terms")) == WORDS


def test_the_readme_says_how_long_commands_take() -> None:
    assert untimed(README) == []
    assert "two cores" in section(README, "How long they take"), "a time needs its machine"
    assert untimed(README.replace("`prisbench wsss demo`", "`prisbench`")) == ["wsss demo"]
    assert untimed("") == list(TIMED)


def test_the_files_of_the_reading_order_exist() -> None:
    files = reading_order(README)
    assert 7 <= len(files) <= 12 and [name for name in files if not (ROOT / name).is_file()] == []
    assert reading_order(README.replace("## Files", "## Elsewhere")) == []


def test_the_readme_says_how_to_install_the_package() -> None:
    text = section(README, "Install")
    assert "pip install --constraint constraints.txt" in text and "git+" in text


def test_the_readme_opens_with_what_it_is() -> None:
    wanted = ("# prisbench\n", "](docs/pictures/", "make demo", "make test", "<!-- table ", "## Words", "## Files")
    places = [README.index(each) for each in wanted]
    assert places == sorted(places)
