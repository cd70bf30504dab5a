"""What decides a run's answers beside its settings and its dataset: the method's code, weights, packages and device.

It is kept in a run's ``manifest.json``, part by part, so that a difference can be named.

Knows: where a method object came from, how weights and versions are told apart.  Does not know: how a run goes.
"""

from __future__ import annotations

import functools
import importlib.metadata
import inspect
import marshal
import re
import sys
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from prisbench.runtime.files import sha256_bytes, sha256_file, sha256_json
from prisbench.runtime.reads import changed_since, files_of, inner, reference
from prisbench.runtime.source_code import label, sources_of

SILENT = {
    *("accelerate", "fsspec", "huggingface_hub", "jaxtyping", "matplotlib", "pandas", "pillow_heif", "pycocotools"),
    *("pytest", "rich", "safetensors", "tqdm", "typer", "typing_extensions", "yaml"),
}
"""Packages that change no mask, whatever their version."""

COMPUTING = {"torch", "jax", "tensorflow", "cupy", "onnxruntime"}
"""Packages whose numbers depend on the device."""

BROUGHT = {"transformers": ("tokenizers",)}
"""What a package computes with, though nobody imports it by name."""

DIGITS = 16


class Origin(NamedTuple):
    """Where a method was loaded from, for which device, the files of modules that it brought along, and what the user
    gave that the method shows nowhere ("--concept", "--model", "--set NAME").
    """

    file: Path
    device: str
    modules: tuple[Path, ...] = ()
    given: Mapping[str, Any] = {}


_ORIGINS: dict[int, tuple[Callable[[], Any], Origin]] = {}


def remember(method: Any, origin: Origin) -> None:
    """Keep where a method came from for as long as it lives; one that cannot be referred to weakly lives on."""
    _ORIGINS[id(method)] = (reference(method), origin)


def origin_of(method: Any) -> Origin | None:
    """Where ``remember`` was told that the method came from."""
    kept = _ORIGINS.get(id(method))
    return kept[1] if kept and kept[0]() is method else None


def identity(method: Any) -> dict[str, Any]:
    """What decides the method's answers, as plain JSON values.

    ``file`` and ``class``: where it is defined.  ``code``: SHA-256 by file, as seen from the method's folder.
    ``weights``: by name, of the method's optional member ``weights``, which holds paths and hub ids (or, by name, what
    identifies their content), or else of ``model``.  ``packages``: versions of what the code imports; null when it is
    not installed.  ``device``: the kind, where numbers depend on it.  ``given``: options that the method shows in none
    of its members; a model with what identifies its content.
    """
    origin, kind, inside = origin_of(method), type(method), type(inner(method))
    files = [path for path in (origin.file if origin else None, _file_of(inside), _file_of(kind)) if path]
    home = files[0].resolve().parent if files else Path.cwd()
    code: dict[str, str] = {}
    packages: set[str] = set()
    for path in dict.fromkeys(each.resolve() for each in files):
        found = sources_of(path, home)
        code |= {label(each, home): digest[:DIGITS] for each, digest in found.files.items()}
        packages |= found.packages
    code |= {label(each, home): sha256_file(each)[:DIGITS] for each in (origin.modules if origin else ())}
    if not files:
        code[inside.__qualname__] = sha256_bytes(b"".join(_bytecode(inside)))[:DIGITS]
        packages |= {name for name in COMPUTING if name in sys.modules}
    packages |= {more for name in packages for more in BROUGHT.get(name, ())}
    own = getattr(method, "device", None) or getattr(getattr(method, "backbone", None), "device", None)
    device = own or (origin.device if origin else None)
    weights, given = _weights(method), dict(origin.given if origin else {})
    if "--model" in given:
        name = given.pop("--model")
        given |= {} if weights else {"--model": f"{name} ({content_of(name) or 'content unknown'})"}
    return {
        "given": given,
        "file": str(files[0].resolve()) if files else kind.__module__,
        "class": kind.__qualname__ if kind is inside else f"{kind.__qualname__}({inside.__qualname__})",
        "code": code,
        "weights": weights,
        "packages": _versions(packages - SILENT),
        "device": str(device).split(":")[0] if device is not None and packages & COMPUTING else None,
    }


def difference(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str | None:
    """The first part in which two identities differ, in words; None when they are the same.

    Where the file lies is no difference, as long as the code is the same.
    """
    written = set(found.get("written", ()))
    for name, words in (("packages", ""), ("weights", "weights of "), ("class", ""), ("code", "code of ")):
        there, now = (
            {key: digest for key, digest in each.items() if key not in written}
            if name == "code" and isinstance(each, Mapping)
            else each
            for each in (found.get(name), wanted[name])
        )
        if there == now:
            continue
        elsewhere = found.get("file") != wanted["file"]
        origin = (
            f" ({found.get('file')} there, {wanted['file']} now)" if elsewhere and name in ("class", "code") else ""
        )
        if not isinstance(there, Mapping) or not isinstance(now, Mapping):
            return f"{name} {there!r} there, {now!r} now{origin}"
        for key in [*now, *there]:
            old, new = there.get(key), now.get(key)
            if old != new and name == "packages":
                return f"{key} {old or 'not used or installed'} there, {new or 'not used or installed'} now"
            if old != new:
                change = (
                    "changed" if key in there and key in now else "is new" if key in now else "is not used any more"
                )
                return f"{words}{key} {change}{origin}"
    if found.get("device") != wanted["device"]:
        return f"device {found.get('device')!r} there, {wanted['device']!r} now"
    old, new = found.get("given", {}), wanted.get("given", {})
    for key in [*new, *old]:
        if old.get(key) != new.get(key):
            return f"{key} {old.get(key, 'not given')!r} there, {new.get(key, 'not given')!r} now"
    return changed_since(found.get("read", {}), Path(wanted["file"]).parent)


def with_files(known: Mapping[str, Any], method: Any) -> dict[str, Any]:
    """An identity with the files that the method read (SHA-256 by file) and wrote so far, beside those of its code.

    What it writes itself, such as a log or a cache, is no part of what its answers come from.
    """
    files = files_of(method).record(Path(known["file"]).parent, known["code"])
    written = sorted({*known.get("written", ()), *files["written"]})
    read = {**files["read"], **known.get("read", {})}
    read = {name: digest for name, digest in read.items() if name not in written}
    more = {name: value for name, value in (("read", read), ("written", written)) if value}
    return {**{key: value for key, value in known.items() if key not in ("read", "written")}, **more}


def _file_of(kind: type) -> Path | None:
    with suppress(TypeError, OSError):
        path = inspect.getsourcefile(kind) or inspect.getfile(kind)
        return Path(path) if Path(path).is_file() else None
    return None


def _bytecode(kind: type) -> Iterator[bytes]:
    """What a class made without a file consists of."""
    for base in kind.__mro__[:-1]:
        for name, value in sorted(vars(base).items()):
            function = getattr(value, "fget", None) or getattr(value, "__func__", value)
            if isinstance(function, types.FunctionType):
                yield name.encode() + marshal.dumps(function.__code__.replace(co_filename="", co_firstlineno=1))


def _weights(method: Any) -> dict[str, str | None]:
    named = getattr(method, "weights", None)
    if isinstance(named, Mapping):
        return {str(name): None if value is None else str(value) for name, value in named.items()}
    if not isinstance(named, str | Path | Sequence):
        named = getattr(method, "model", None)
    many = [named] if isinstance(named, str | Path) else list(named or ())
    return {str(each): content_of(each) for each in many if isinstance(each, str | Path)}


def content_of(where: str | Path) -> str | None:
    """What identifies weights: a hash of a file, or of every file in a folder; a hub id's commit; None when unknown."""
    path = Path(where).expanduser()
    with suppress(OSError):
        if path.is_file():
            return sha256_file(path)[:DIGITS]
        if path.is_dir():
            inside = (each for each in sorted(path.rglob("*")) if each.is_file())
            seen = [each for each in inside if not any(p.startswith(".") for p in each.relative_to(path).parts)]
            return sha256_json({each.relative_to(path).as_posix(): sha256_file(each) for each in seen})[:DIGITS]
    if not re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", str(where)):
        return None
    from huggingface_hub import try_to_load_from_cache

    for name in ("config.json", "model_index.json", "preprocessor_config.json"):
        kept = try_to_load_from_cache(str(where), name)
        if isinstance(kept, str):
            return f"commit {Path(kept).parent.name}"
    return None


@functools.cache
def _distributions() -> Mapping[str, list[str]]:
    return importlib.metadata.packages_distributions()


def _versions(names: set[str]) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for name in sorted(names):
        for distribution in sorted(set(_distributions().get(name, [name]))):
            try:
                found[distribution] = importlib.metadata.version(distribution)
            except importlib.metadata.PackageNotFoundError:
                found[distribution] = None
    return found
