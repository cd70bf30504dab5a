"""Which files a method reads and writes while it works, whatever its code calls them.

Python reports every file that is opened in this process.  What C code opens by itself, or another process, is not seen.

Knows: the interpreter's audit events, which files are nobody's data.  Does not know: methods, runs.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prisbench.errors import DataError
from prisbench.runtime.files import cache_folder, sha256_file
from prisbench.runtime.source_code import PACKAGE, is_installed, label

DIGITS = 16

_SYSTEM = tuple(Path(place) for place in ("/proc", "/sys", "/dev", "/etc", "/usr", "/lib", "/run"))
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


@dataclass
class Touched:
    """Absolute paths.  ``digests``: of those read, when they were first looked at; None: does not count."""

    read: set[str] = field(default_factory=set)
    written: set[str] = field(default_factory=set)
    digests: dict[str, str | None] = field(default_factory=dict)

    def record(self, home: Path, known: Mapping[str, str]) -> dict[str, Any]:
        """``read``: SHA-256 by file, without those of ``known`` and those also written; ``written``: the others."""
        for path in self.read - set(self.digests):
            self.digests[path] = _digest(label(Path(path), home), home)
        written = {label(Path(path), home) for path in self.written}
        read = {label(Path(path), home): self.digests[path] for path in self.read}
        left_out = {*known, *written}
        counted = {name: digest for name, digest in sorted(read.items()) if digest and name not in left_out}
        return {"read": counted, "written": sorted(written)}


_NOW: list[Touched] = []
_INSTALLED: list[bool] = []
_OF: dict[int, tuple[Callable[[], Any], Touched]] = {}


def changed_since(record: Mapping[str, str], home: Path) -> str | None:
    """The first file of a record's ``read`` that is another one now, in words; None when all are as they were."""
    for name, digest in record.items():
        now = _digest(name, home)
        if now != digest:
            return f"{name}, which the method reads, {'changed' if now else 'is not there any more'}"
    return None


@contextlib.contextmanager
def watching(touched: Touched) -> Iterator[None]:
    """Note the files that are opened while the body runs."""
    if not _INSTALLED:
        _INSTALLED.append(True)
        sys.addaudithook(_hear)  # it stays; outside of this block it does nothing
    _NOW.append(touched)
    try:
        yield
    finally:
        _NOW[:] = [each for each in _NOW if each is not touched]  # this one, not its equal


def keep(method: Any, touched: Touched) -> None:
    """These are the method's files, for as long as it lives; those of prisbench's own count as weights."""
    _OF[id(method)] = (reference(method), Touched() if is_own(method) else touched)


def inner(method: Any) -> Any:
    """The method itself, or the one that a wrapper of prisbench's (``relations``) has as ``wrapped``."""
    wrapped = getattr(method, "wrapped", None) if type(method).__module__ == f"{PACKAGE.name}.relations" else None
    return method if wrapped is None else wrapped


def is_own(method: Any) -> bool:
    """Whether a method's class is prisbench's; such a class shows all that it was given."""
    method = inner(method)
    return type(method).__module__.partition(".")[0] == PACKAGE.name


def reference(thing: Any) -> Callable[[], Any]:
    """A weak reference, or a strong one of what has none, as of a class with ``__slots__``."""
    try:
        return weakref.ref(thing)
    except TypeError:
        return lambda: thing


def files_of(method: Any) -> Touched:
    """The files of a method so far; ever an empty set for one of prisbench's own, whose files are its weights."""
    method = inner(method)
    kept = _OF.get(id(method))
    if kept is None or kept[0]() is not method:
        touched = Touched()
        keep(method, touched)
        return touched
    return kept[1]


def watched(method: Any) -> contextlib.AbstractContextManager[None]:
    """Note the files that a method opens while the body runs."""
    return contextlib.nullcontext() if is_own(method) else watching(files_of(method))


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    if not _NOW or event not in ("open", "os.rename"):
        return
    with suppress(Exception):  # whatever it is, the method's own call goes on
        path = arguments[1] if event == "os.rename" else arguments[0]
        if isinstance(path, int):
            return
        mode, flags = (None, 0) if event == "os.rename" else arguments[1:3]
        writes = event == "os.rename" or any(sign in (mode or "") for sign in "wax+") or (flags or 0) & _WRITING
        place = os.path.abspath(os.fsdecode(path))
        if place.endswith(".pyc"):
            place = importlib.util.source_from_cache(place)
        for touched in _NOW:
            (touched.written if writes else touched.read).add(os.path.realpath(place))


def _digest(name: str, home: Path) -> str | None:
    """Of a file that counts, named as a record does: no device, no cache, nothing installed."""
    path = home / name
    elsewhere = (*_SYSTEM, cache_folder())
    if any(path.is_relative_to(place) for place in elsewhere) or is_installed(path) or not path.is_file():
        return None
    if any(part.startswith((".", "models--")) for part in Path(name).parts):
        return None
    with suppress(DataError):
        return sha256_file(path)[:DIGITS]
    return None
