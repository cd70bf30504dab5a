"""Which files a method's answers come from: the code that it imports, and the data that its code names.

The code is read, not run: imports anywhere in a file count, also those inside functions.  Followed are the method's own
folder, other folders that are no installed package, and the modules of prisbench that can change a mask.

Knows: Python's syntax, how names become files.  Does not know: methods, runs, versions.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
import re
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import prisbench
from prisbench.runtime.files import sha256_bytes, sha256_file, sha256_json

PACKAGE = Path(__file__).parents[1]

NO_NUMBERS = {
    *("__init__", "answers", "bench", "cli", "concepts.cost", "concepts.watch", "counts", "datasets", "demo"),
    *("doctor", "embedded", "errors", "evaluate", "foreign", "images.drawing", "leaderboard", "localizer.sheet"),
    *("methods", "metrics", "pairs", "predict", "predictions", "presence", "provenance", "results", "runs"),
    *("runtime.console", "runtime.files", "runtime.identity", "runtime.locks", "runtime.method_files"),
    *("runtime.reads", "runtime.resume", "runtime.source_code", "runtime.strict_json", "score", "settings"),
    *("statistics", "sweep", "types", "wsss"),
}
"""Modules of prisbench that change no mask; every other one, also one to come, counts.  A dataset's digest says what
``datasets`` made of its files.
"""

DATA = {
    *(".bin", ".ckpt", ".csv", ".json", ".model", ".npy", ".npz", ".onnx", ".pt", ".pth", ".safetensors", ".toml"),
    *(".txt", ".yaml", ".yml"),
}
"""Suffixes of the files that count in a folder with a model."""

MODEL_FOLDER = ("config.json", "model_index.json")
"""A folder that the code names is a model when it holds one of these, or safetensors."""


@dataclass
class Sources:
    """``files``: path -> SHA-256.  ``packages``: names of imported modules that are installed, or found nowhere."""

    files: dict[Path, str] = field(default_factory=dict)
    packages: set[str] = field(default_factory=set)


def sources_of(path: Path, home: Path | None = None) -> Sources:
    """The files that a Python file needs, itself first.  ``home``: its own folder, where it differs."""
    path = path.resolve()
    home = home.resolve() if home else path.parent
    found = Sources()
    todo = [path]
    while todo:
        each = todo.pop()
        if each in found.files or not each.is_file():
            continue
        code = _read(each)
        found.files[each] = sha256_bytes(code)
        tree = _tree(code)
        inside = each.is_relative_to(PACKAGE)
        for name in _imported(tree, each):
            if name.split(".")[0] == prisbench.__name__:
                todo += _of_prisbench(name)
            else:
                todo += _of_others(name, home, found.packages)
        if not inside:
            for data in _named(tree, {home, each.parent}):
                found.files.setdefault(data, sha256_file(data))
    return found


@functools.cache
def code_sha256(path: Path) -> str:
    """64 hexadecimal digits of a module of prisbench and of all that it imports."""
    return sha256_json(sorted((label(each, PACKAGE), digest) for each, digest in sources_of(path).files.items()))


def label(path: Path, home: Path) -> str:
    """What a file is called in a record: as seen from the method's folder, or from prisbench's."""
    if path.is_relative_to(PACKAGE):
        return f"prisbench/{path.relative_to(PACKAGE).as_posix()}"
    return path.relative_to(home).as_posix() if path.is_relative_to(home) else str(path)


def _read(path: Path) -> bytes:
    """Its bytes, with one kind of line end, whoever checked it out."""
    data = path.read_bytes()
    return data.replace(b"\r\n", b"\n") if path.suffix == ".py" else data


def _tree(code: bytes) -> ast.Module:
    """An empty one for what is no Python: it cannot be imported, and says so itself."""
    with suppress(SyntaxError, ValueError, RecursionError):
        return ast.parse(code)
    return ast.Module([], [])


def _imported(tree: ast.Module, path: Path) -> Iterator[str]:
    """Dotted names that a file imports, or may: also "module.name" of every ``from module import name``.

    A relative one is a path instead of a name: it begins with "/" or a drive.
    """
    ours = {"prisbench"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            ours |= {alias.asname for alias in node.names if alias.name == "prisbench" and alias.asname}
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = str(_above(path, node.level)) if node.level else ""
            module = ".".join(part for part in (start, node.module or "") if part)
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call):
            yield from _called_import(node, path)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            if re.fullmatch(r"prisbench(\.\w+)+", node.value):
                yield node.value
        elif isinstance(node, ast.Attribute):
            names = _chain(node)
            if names and names[0] in ours:
                yield ".".join(["prisbench", *names[1:]])


def _above(path: Path, level: int) -> Path:
    return path.parents[level - 1] if level <= len(path.parents) else path.parents[-1]


def _called_import(node: ast.Call, path: Path) -> Iterator[str]:
    """``import_module("name")`` and ``__import__("name")``."""
    called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    name = node.args[0].value if node.args and isinstance(node.args[0], ast.Constant) else None
    if called in ("import_module", "__import__") and isinstance(name, str) and name:
        level = len(name) - len(name.lstrip("."))
        yield f"{_above(path, level)}.{name[level:]}" if level else name


def _chain(node: ast.AST) -> list[str]:
    """``a.b.c`` -> ["a", "b", "c"]; nothing for anything else."""
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    return [node.id, *reversed(names)] if isinstance(node, ast.Name) else []


def _of_prisbench(name: str) -> list[Path]:
    """The file of ``prisbench.results``, ``prisbench.concepts.store.read_concept`` or ``prisbench.load_photo``."""
    parts = name.split(".")[1:]
    if parts and parts[0] in prisbench._HOME:
        parts = prisbench._HOME[parts[0]].split(".")
    if not parts or any(".".join(parts[: n + 1]) in NO_NUMBERS for n in range(len(parts))):
        return []
    return [path for path in _along(PACKAGE, parts) if path != PACKAGE / "__init__.py"]


def _of_others(name: str, home: Path, packages: set[str]) -> list[Path]:
    """The files of a name outside of prisbench; what is installed is put among ``packages`` instead."""
    if Path(name).is_absolute():  # relative imports: "/folder.module.name"
        folder, _, rest = name.rpartition("/")
        start, *parts = rest.split(".")
        while parts and not (Path(folder) / start).is_dir():  # a folder with a dot in its name
            start = f"{start}.{parts.pop(0)}"
        return _along(Path(folder) / start, parts)
    top, *rest_of_name = name.split(".")
    if top in sys.stdlib_module_names:
        return []
    for base in _places(top):
        if is_installed(base):
            packages.add(top)
            return []
        if base.is_file():
            return [base]
        return _along(base.parent, [base.stem, *rest_of_name])
    own = _along(home, [top, *rest_of_name])
    if not own:
        packages.add(top)
    return own


def _places(top: str) -> list[Path]:
    """Where Python finds a module or package: its file, or its folder."""
    with suppress(ImportError, ValueError, AttributeError):
        spec = importlib.util.find_spec(top)
        if spec is not None:
            if spec.submodule_search_locations:
                return [Path(place).resolve() for place in spec.submodule_search_locations]
            if spec.origin and Path(spec.origin).is_file():
                return [Path(spec.origin).resolve()]
    return []


def is_installed(path: Path) -> bool:
    """Whether a file belongs to an installed package, to Python or to prisbench."""
    if path.is_relative_to(PACKAGE):
        return True
    if {"site-packages", "dist-packages"} & set(path.parts):
        return True
    return any(path.is_relative_to(sysconfig.get_path(kind)) for kind in ("stdlib", "platstdlib"))


def _along(folder: Path, parts: Sequence[str]) -> list[Path]:
    """The files on the way of a dotted name below a folder: packages' ``__init__.py``, then the module; a name in a
    module ends it, and "*" takes all modules of a package.
    """
    files = [folder / "__init__.py"] if (folder / "__init__.py").is_file() else []
    for n, part in enumerate(parts):
        if part == "*":
            return files + (sorted(folder.glob("*.py")) if n and files else [])
        module = folder / f"{part}.py"
        if module.is_file() and not (folder / part / "__init__.py").is_file():
            return [*files, module]
        binary = sorted(folder.glob(f"{part}.*.so")) + sorted(folder.glob(f"{part}.*pyd"))
        if binary:
            return [*files, *binary]
        folder /= part
        if not folder.is_dir():
            break
        files += [folder / "__init__.py"] if (folder / "__init__.py").is_file() else []
    return files


def _named(tree: ast.Module, folders: set[Path]) -> set[Path]:
    """The files whose names stand in the code as text, in the file's folder or below it; of f-strings, the files that
    fit; of a folder with a model, all that belong to it.
    """
    texts = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            texts.add(node.value)
        elif isinstance(node, ast.JoinedStr):
            parts = [each.value if isinstance(each, ast.Constant) else "*" for each in node.values]
            texts.add("".join(map(str, parts)))
    texts = {text for text in texts if 2 < len(text) < 200 and not any(sign in text for sign in ("\n", "\0", "**"))}
    folders |= {place / text for text in texts for place in folders if _is_inside(place / text, place)}
    found: set[Path] = set()
    for text in texts:
        pattern = f"*{text}" if text.lower() in DATA else text
        for place in folders:
            with suppress(OSError, ValueError, NotImplementedError, IndexError):
                if "*" in pattern:
                    found |= {each for each in place.glob(pattern) if each.suffix in DATA}
                elif (place / pattern).is_file():
                    found.add(place / pattern)
                elif _is_model(place / pattern):
                    found |= {each for each in (place / pattern).rglob("*") if each.suffix in DATA and each.is_file()}
    return {each.resolve() for each in found if each.is_file()}


def _is_inside(path: Path, place: Path) -> bool:
    with suppress(OSError, ValueError):
        return path.is_dir() and path.resolve() != place and path.resolve().is_relative_to(place)
    return False


def _is_model(folder: Path) -> bool:
    if not folder.is_dir():
        return False
    return any((folder / name).is_file() for name in MODEL_FOLDER) or any(folder.glob("*.safetensors"))
