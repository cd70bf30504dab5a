"""How long files and functions may be, and how many parameters they take.  What is over a limit stands in a list that
may only shrink: an entry that is no longer over it, or larger than it was, fails.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "prisbench"

LINES, FUNCTION_LINES, PARAMETERS = 400, 60, 6

LONG_FILES: dict[str, int] = {}
"""Files of more than LINES lines, and how many they have at most."""

LONG_FUNCTIONS: dict[str, int] = {}
"""Functions outside the command line of more than FUNCTION_LINES lines."""

MANY_PARAMETERS: dict[str, int] = {}
"""Functions outside the command line of more than PARAMETERS parameters; a noun is missing there."""

COMMANDS = ("cli",)
"""Where a function is a command, its parameters are the options."""


def functions(source: str) -> Iterator[tuple[str, int, int]]:
    """(qualified name, lines, parameters without self) of every function, decorators not counted."""

    def walk(node: ast.AST, prefix: str) -> Iterator[tuple[str, int, int]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                given = [*child.args.posonlyargs, *child.args.args]
                own = [each for each in given if each.arg not in ("self", "cls")]
                lines = (child.end_lineno or child.lineno) - child.lineno + 1
                yield f"{prefix}{child.name}", lines, len(own) + len(child.args.kwonlyargs)
                yield from walk(child, f"{prefix}{child.name}.")
            elif isinstance(child, ast.ClassDef):
                yield from walk(child, f"{prefix}{child.name}.")
            else:
                yield from walk(child, prefix)

    yield from walk(ast.parse(source), "")


def is_command(relative: str) -> bool:
    return relative.split("/")[0].removesuffix(".py") in COMMANDS or relative.endswith("/commands.py")


def over() -> tuple[dict[str, int], dict[str, int], dict[str, int]]:
    """What is over each limit now."""
    files, long, many = dict[str, int](), dict[str, int](), dict[str, int]()
    for path in sorted(PACKAGE.rglob("*.py")):
        source, name = path.read_text(), path.relative_to(PACKAGE).as_posix()
        if (lines := len(source.splitlines())) > LINES:
            files[name] = lines
        for function, lines, parameters in functions(source):
            if not is_command(name):
                if lines > FUNCTION_LINES:
                    long[f"{name}:{function}"] = lines
                if parameters > PARAMETERS:
                    many[f"{name}:{function}"] = parameters
    return files, long, many


def complaints(found: dict[str, int], allowed: dict[str, int], limit: int, slack: int = 0) -> list[str]:
    """What is over the limit and not allowed, grown, or allowed though it need not be (by more than ``slack``)."""
    lines = [
        f"{name}: {n}, at most {allowed.get(name, limit)}" for name, n in found.items() if n > allowed.get(name, limit)
    ]
    lines += [f"{name}: {found.get(name, 'under the limit')} now, take it from the list or lower its number"
              for name, n in allowed.items() if found.get(name, 0) < n - slack]  # fmt: skip
    return lines


def test_no_file_grows_over_the_limit() -> None:
    assert complaints(over()[0], LONG_FILES, LINES, slack=25) == []


def test_no_function_grows_over_the_limit() -> None:
    assert complaints(over()[1], LONG_FUNCTIONS, FUNCTION_LINES) == []


def test_no_function_takes_more_parameters_than_the_limit() -> None:
    assert complaints(over()[2], MANY_PARAMETERS, PARAMETERS) == []


def test_what_is_over_a_limit_would_be_noticed() -> None:
    body = "\n".join(["    pass"] * 60)
    source = f"class A:\n    def f(self, a, b, *, c):\n        pass\n\ndef g(a, b, c, d, e, f, g):\n{body}\n"
    assert list(functions(source)) == [("A.f", 2, 3), ("g", 61, 7)]
    assert complaints({"new": 401}, {}, 400) == ["new: 401, at most 400"]
    assert complaints({"old": 501}, {"old": 500}, 400) == ["old: 501, at most 500"]
    assert complaints({"old": 500}, {"old": 500}, 400) == []
    assert complaints({"old": 450}, {"old": 500}, 400) == ["old: 450 now, take it from the list or lower its number"]
    assert complaints({"old": 450}, {"old": 500}, 400, slack=50) == []
    assert complaints({}, {"old": 500}, 400)[0].startswith("old: under the limit now")


if __name__ == "__main__":  # the three lists as they would stand here now
    for found in over():
        print("{")
        for name, n in sorted(found.items()):
            print(f'    "{name}": {n},')
        print("}")
