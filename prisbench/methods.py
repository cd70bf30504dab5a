"""Methods by name or by path.

A baseline is a folder ``baselines/<name>/`` with a ``method.py``; a stranger's ``--method path/to/method.py`` has the
same standing.  The file defines ``make(options) -> Method``, where ``options`` is a ``MethodOptions``, and may define
``check(options)``, which raises for options that make no sense before anything heavy is loaded, and
``USES``, the names of the options that it uses (``options_used``).

Knows: where methods are.  Does not know: datasets, truth, scores, any method.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from prisbench.errors import DataError, PrisbenchError, UnknownNameError, UsageError
from prisbench.relations import TextSettings, split_settings, with_relations
from prisbench.runtime.identity import Origin, remember
from prisbench.runtime.method_files import files_of, module_of
from prisbench.runtime.reads import Touched, is_own, keep, watching
from prisbench.settings import MethodOptions
from prisbench.types import Method


def baselines_folder() -> Path:
    """``baselines/`` of a checkout, or its copy in an installed wheel."""
    checkout = Path(__file__).parent.parent / "baselines"
    return checkout if checkout.is_dir() else Path(__file__).parent / "_baselines"


def names() -> list[str]:
    """Every method that has a name, sorted."""
    return sorted(path.parent.name for path in baselines_folder().glob("*/method.py"))


def method_file(name: str) -> Path:
    """The Python file of a method's name or path.  Raises UnknownNameError with the nearest name, DataError."""
    path = Path(name) if name.endswith(".py") else baselines_folder() / name / "method.py"
    if path.is_file():
        return path
    if Path(name).is_dir():
        raise DataError(
            f"{name} is a folder; name the Python file in it that defines make(options), as {name}/method.py"
        )
    if name.endswith(".py"):
        raise DataError(f"no method file {name}: give a path to a Python file that defines make(options)")
    raise UnknownNameError("method", name, names())


def check_options(name: str, wanted: Sequence[MethodOptions]) -> None:
    """Raises what the method's own ``check(options)`` raises; a file that defines none is not run.

    Raises UsageError for what is given though the method does not use it (``options_used``).
    """
    path = method_file(name)
    for options in wanted:
        _check_used(path, _without_text(options)[1])
    if b"def check(" in path.read_bytes() and callable(check := getattr(module_of(path), "check", None)):
        for options in wanted:
            try:
                check(_without_text(options)[1])
            except (PrisbenchError, MemoryError):
                raise
            except (Exception, SystemExit) as error:
                raise DataError(f"{path}: check(options) failed: {type(error).__name__}: {error}") from error


def load_method(name: str, options: MethodOptions | None = None) -> Method:
    """The method of that name, or the one in a Python file.  Settings ``text.NAME`` are the harness's (``relations``).

    Raises UnknownNameError with the nearest name; DataError for a file that is no method; UsageError for settings that
    the method does not have, and for a concept, a model, a seed or settings that it does not use.
    """
    options = options or MethodOptions()
    text, options = _without_text(options)
    path = method_file(name)
    loaded = set(sys.modules)
    touched = Touched()
    _check_used(path, options)
    with watching(touched):
        module = module_of(path)
    if not callable(getattr(module, "make", None)):
        raise DataError(f"{path} defines no make(options); see baselines/center-box/method.py for the smallest one")
    try:
        with watching(touched):
            method = module.make(options)
    except (PrisbenchError, MemoryError):
        raise
    except (Exception, SystemExit) as error:
        raise DataError(f"{path}: make(options) failed: {type(error).__name__}: {error}") from error
    if isinstance(method, type):
        raise DataError(f"{path}: make(options) gave the class {method.__name__}; return {method.__name__}(...)")
    if not _is_method(method, path):
        raise DataError(
            f"{path}: make(options) gave {type(method).__name__}, which lacks name, settings, learn or locate"
        )
    brought = {each for each in files_of(set(sys.modules) - loaded).values() if each.is_file()} - {path.resolve()}
    origin = Origin(path, options.device, tuple(sorted(brought)), _not_shown(method, options))
    keep(method, touched)
    method = with_relations(method, text)
    remember(method, origin)
    return method


GIVEN = {"concept": "--concept", "model": "--model", "seed": "--seed", "settings": "--set"}
"""What a user may have given -> how it is said."""


USES = "USES"
"""What a method's file may call the tuple of those of ``GIVEN`` that it uses."""


def options_used(path: Path) -> frozenset[str] | None:
    """Which of ``GIVEN`` a method's file uses: what it declares, like ``USES = ("seed", "settings")``, or else what its
    ``make(options)`` reads of them; None where options go elsewhere, and nobody can say.  The file is not run.

    Raises DataError for a declaration of something else.
    """
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return None
    for node in tree.body:
        if isinstance(node, ast.Assign) and [ast.unparse(each) for each in node.targets] == [USES]:
            return _declared(node.value, path)
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name == "make" and len(node.args.args) == 1:
            return _read_of(node.args.args[0].arg, list(ast.walk(node)))
    return None


def _declared(value: ast.expr, path: Path) -> frozenset[str]:
    try:
        names = ast.literal_eval(value)
    except ValueError:
        names = None
    if not isinstance(names, tuple | list) or not all(name in GIVEN for name in names):
        raise DataError(
            f"{path}: {USES} is {ast.unparse(value)}; give a tuple of some of {', '.join(map(repr, GIVEN))}"
        )
    return frozenset(names)


def _read_of(given: str, inside: Sequence[ast.AST]) -> frozenset[str] | None:
    """The attributes that are read of the name ``given``; None where it is used otherwise."""
    uses = sum(isinstance(each, ast.Name) and each.id == given for each in inside)
    read = [
        each.attr
        for each in inside
        if isinstance(each, ast.Attribute) and isinstance(each.value, ast.Name) and each.value.id == given
    ]
    return frozenset(read) if len(read) == uses and "__dict__" not in read else None


def _check_used(path: Path, options: MethodOptions) -> None:
    """Raises UsageError for what a user gave and the method does not use."""
    used = options_used(path)
    for each in GIVEN:
        if used is not None and each not in used and (value := getattr(options, each)):
            said = " ".join(f"{key}={one}" for key, one in value.items()) if isinstance(value, Mapping) else value
            name = path.parent.name if path.name == "method.py" else path.name
            raise UsageError(f"{name} does not look at {GIVEN[each]} {said}; leave it out, or take another method")


def _without_text(options: MethodOptions) -> tuple[TextSettings, MethodOptions]:
    """The harness's settings, and the options as the method gets them: the same object where it has them all."""
    text, own = split_settings(options.settings)
    return text, options if len(own) == len(options.settings) else replace(options, settings=own)


def _is_method(method: Any, path: Path) -> bool:
    """Whether it has the members of a method.  Raises DataError for what its properties raise."""
    try:
        return isinstance(method, Method)
    except Exception as error:
        raise DataError(
            f"{path}: name or settings of {type(method).__name__} raise {type(error).__name__}: {error}; give plain "
            "values"
        ) from error


def _not_shown(method: Method, options: MethodOptions) -> dict[str, Any]:
    """What was given and may decide answers, but stands in none of the method's ``settings``; a warning for settings,
    since nobody can say whether the method took them.
    """
    if is_own(method):
        return {}
    shown = method.settings if isinstance(method.settings, Mapping) else {}
    hidden = {key: value for key, value in options.settings.items() if key not in shown}
    if hidden:
        (options.warn or options.say)(
            f"{method.name} shows no setting {', '.join(map(repr, hidden))}; if it has one of that name, put it into "
            "settings, where results record it"
        )
    changed = {key: value for key, value in options.settings.items() if key in shown and shown[key] != value}
    given = {f"--set {key}": value for key, value in {**hidden, **changed}.items()}
    given |= {"--concept": options.concept} if options.concept is not None else {}
    return given | ({"--model": options.model} if options.model is not None else {})
