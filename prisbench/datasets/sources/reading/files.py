"""The files and folders of other people's sets: found below their folder, listed, and read up to a size.

Knows: which paths are refused.  Does not know: what is in a file, any set's layout.

A path stays inside its folder, and a file's size is looked at before its bytes are.  ``where`` names the record in
errors, like ``instances.json: annotation 12``; it is "" when the file says enough.
"""

from __future__ import annotations

import os
import re
import reprlib
import stat
from collections.abc import Collection, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from prisbench.errors import DataError
from prisbench.runtime.files import as_stored, cannot_read, read_bytes

PHOTOS = frozenset({".jpg", ".jpeg", ".png"})
"""What public sets store photos as, in small letters."""

_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_DRIVE = re.compile(r"[A-Za-z]:")


def inside(root: Path, name: str, where: str = "") -> Path:
    """The file or folder below ``root`` that a set's own file calls ``name`` (parts divided by ``/``).

    Raises DataError when the name is empty, absolute, has ``..``, a backslash or a control character, when a part of it
    is a link that leaves ``root``, and when there is nothing, or neither file nor folder, of that name.
    """
    at = f"{where}: " if where else ""
    why = unsafe_name(name)
    if why:
        raise DataError(f"{at}the path {reprlib.repr(name)} {why}; give one that lies below {root}")
    home = os.path.realpath(root)
    path = Path(root)
    try:
        for part in PurePosixPath(name).parts:
            path = as_stored(path, part)
            _check_link(path, home, at)
        mode = os.stat(path).st_mode
    except OSError as error:
        raise DataError(f"{at}{cannot_read(path, error)}") from None
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise DataError(f"{at}{path} is neither a file nor a folder")
    return path


def unsafe_name(name: Any) -> str | None:
    """What is wrong with a path that a set or an archive names, as the end of a sentence; None when nothing is."""
    if not isinstance(name, str):
        return "is no text"
    if _UNPRINTABLE.search(name):
        return "has a character that cannot be printed"
    if "\\" in name:
        return "has a backslash"
    if name.startswith("/") or _DRIVE.match(name):
        return "is absolute"
    if ".." in name.split("/"):
        return "leaves its folder by '..'"
    if not name.strip("/. "):
        return "is empty"
    if len(name) > 4000 or any(len(part.encode()) > 255 for part in name.split("/")):
        return "is too long"
    return None


def top(root: Path, wanted: Sequence[str], title: str, layout: str) -> Path:
    """The folder that holds all of ``wanted``: ``root``, or the one folder in it that does, as archives wrap them.

    Raises DataError, showing the layout, when there is none.
    """
    for folder in (root, *folders(root)):
        if all((folder / name).exists() for name in wanted):
            return folder
    shown = "; ".join(line.strip() for line in layout.strip().splitlines())
    raise DataError(f"{root} is not laid out as {title} is: it wants {' and '.join(wanted)} ({shown})")


def listing(folder: Path, suffixes: Collection[str] | None = None, where: str = "") -> list[Path]:
    """The files of a folder, by name; those with one of ``suffixes`` (small letters, with the dot) when given.

    Hidden files and folders inside are left alone.  Raises DataError when the folder cannot be read, when one of the
    files is a link that leaves the folder or leads nowhere, is no plain file, or has a control character in its name.
    """
    return [path for path in _entries(folder, where, suffixes) if not path.is_dir()]


def folders(folder: Path, where: str = "") -> list[Path]:
    """The folders of a folder, by name, but for hidden ones.  Raises DataError as ``listing``."""
    return [path for path in _entries(folder, where) if path.is_dir()]


def file_bytes(path: Path, most_bytes: int, where: str = "") -> bytes:
    """The content of a plain file.

    Raises DataError naming ``where`` and the file when it is missing, no plain file, empty, or too large.
    """
    at = f"{where}: " if where else ""
    try:
        found = os.stat(path)
        if stat.S_ISDIR(found.st_mode):
            raise DataError(f"{at}{path} is a folder; a file is wanted")
        if not stat.S_ISREG(found.st_mode):
            raise DataError(f"{at}{path} is not a plain file")
    except OSError as error:
        raise DataError(f"{at}{cannot_read(path, error)}") from None
    if found.st_size > most_bytes:
        raise DataError(f"{at}{path} has {_size(found.st_size)}, more than the {_size(most_bytes)} that are read")
    if not found.st_size:
        raise DataError(f"{at}{path} is empty (0 bytes)")
    try:
        return read_bytes(path)
    except DataError as error:
        raise DataError(f"{at}{error}") from None


def named(path: Path, where: str) -> str:
    """How an error calls a file."""
    return f"{where}: {path}" if where else str(path)


def in_one_line(error: Exception) -> str:
    """What another library says of a file."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def _entries(folder: Path, where: str, suffixes: Collection[str] | None = None) -> list[Path]:
    at = f"{where}: " if where else ""
    try:
        names = sorted(os.listdir(folder))
    except NotADirectoryError:
        raise DataError(f"{at}{folder} is a file; a folder is wanted") from None
    except OSError as error:
        raise DataError(f"{at}{cannot_read(folder, error)}") from None
    home = os.path.realpath(folder)
    found = []
    for name in names:
        path = Path(folder) / name
        if name.startswith(".") or (suffixes is not None and path.suffix.lower() not in suffixes):
            continue
        if _UNPRINTABLE.search(name):
            raise DataError(f"{at}{folder} has a file {reprlib.repr(name)}, a name that cannot be printed; rename it")
        try:
            _check_link(path, home, at)
            mode = os.stat(path).st_mode
        except OSError as error:
            raise DataError(f"{at}{cannot_read(path, error)}") from None
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise DataError(f"{at}{path} is neither a file nor a folder")
        found.append(path)
    return found


def _check_link(path: Path, home: str, at: str) -> None:
    """Raises DataError when ``path`` is a link to outside of ``home``, or to nothing."""
    if not path.is_symlink():
        return
    target = os.path.realpath(path)
    if os.path.commonpath([target, home]) != home:
        raise DataError(f"{at}{path} is a link that leaves {home}; put the file itself there (cp -L)")
    if not os.path.exists(target):
        raise DataError(f"{at}{path} is a link to {os.readlink(path)!r}, where nothing is")


def _size(n: int) -> str:
    return f"{n / 2**30:.1f} GiB" if n >= 2**30 else f"{n / 2**20:.1f} MiB" if n >= 2**20 else f"{n} bytes"
