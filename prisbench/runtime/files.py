"""Files that appear whole or not at all, and hashes of content.

Knows: how to write a file or a folder so that an interruption, a full disk or a missing permission leaves what stood
there before; where the cache lies.  Does not know: what is in the files.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import secrets
import shutil
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from prisbench.errors import DataError, WriteError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}


def write_bytes(path: str | os.PathLike[str], data: bytes) -> Path:
    """Write a file in one step; missing parent folders are made.

    Raises WriteError, with the cause, when it cannot be written; a file that stood there is then untouched.
    """
    with replacing(path) as temp, open(temp, "xb") as file:
        file.write(data)
    return Path(path)


def write_text(path: str | os.PathLike[str], text: str) -> Path:
    """Write UTF-8 text in one step, newlines as they are.  Raises WriteError."""
    return write_bytes(path, text.encode("utf-8"))


def write_json(path: str | os.PathLike[str], value: Any) -> Path:
    """Write JSON in one step: the same value always gives the same bytes (sorted keys, two spaces, final newline).

    Raises WriteError, and ValueError for NaN or infinity: undefined is null.
    """
    text = json.dumps(value, allow_nan=False, ensure_ascii=False, indent=2, sort_keys=True)
    return write_text(path, text + "\n")


def composed(name: str) -> str:
    """A name as tables write it: some systems store an accent apart from its letter (Unicode's form NFD)."""
    return unicodedata.normalize("NFC", name)


def stem_of(path: Path) -> str:
    """A file's name without its suffix, composed: what pairs a photo with its mask."""
    return composed(path.stem)


def as_stored(folder: Path, name: str) -> Path:
    """``folder / name``, or what is there under the same name with accents stored another way, if there is one such."""
    path = folder / name
    if name.isascii() or os.path.exists(path):
        return path
    try:
        alike = [entry for entry in os.listdir(folder) if composed(entry) == composed(name)]
    except OSError:
        return path
    return folder / alike[0] if len(alike) == 1 else path


def read_json(path: str | os.PathLike[str]) -> Any:
    """The value in a JSON file.  Raises DataError when it is missing, unreadable, or not JSON."""
    try:
        return json.loads(read_bytes(path))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON ({error}); it was cut short or edited") from None


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """The content of a file.  Raises DataError when it is missing or unreadable."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise DataError(cannot_read(path, error)) from None


def cannot_read(path: str | os.PathLike[str], error: OSError) -> str:
    """One line about a file that could not be opened."""
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return f"{path} does not exist"
    if isinstance(error, IsADirectoryError):
        return f"{path} is a folder; a file is wanted"
    if error.errno in _DENIED:
        return f"{path}: no permission to read it"
    return f"{path} cannot be read ({error.strerror or error})"


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary path in the same folder; when the block ends well it takes the place of ``path`` in one step.

    When the block raises, the temporary file is removed and ``path`` is as it was.  An OSError becomes a WriteError.
    A symbolic link is followed, so it stays a link.
    """
    target = Path(os.path.realpath(path))
    temp = target.with_name(f".{secrets.token_hex(8)}.tmp")
    with write_errors(path):
        if target.is_dir():
            raise WriteError(f"cannot write {path}: a folder has that name")
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temp
            with open(temp, "rb+") as file:
                os.fsync(file.fileno())
            os.replace(temp, target)
        except BaseException:
            with contextlib.suppress(OSError):
                temp.unlink(missing_ok=True)
            raise


@contextlib.contextmanager
def new_folder(target: str | os.PathLike[str], overwrite: bool = False, marker: str | None = None) -> Iterator[Path]:
    """A temporary folder beside ``target``; when the block ends well it appears as ``target``, whole, in one step.

    When the block raises (Ctrl-C too), the temporary folder is removed and ``target`` is as it was.  An empty folder at
    ``target`` may be taken.  Any other is an error unless ``overwrite``, and is overwritten only when it holds a file
    called ``marker``: so that a mistyped path cannot remove a folder of something else.

    Raises WriteError.
    """
    final = Path(os.path.realpath(target))
    temp = final.with_name(f".{secrets.token_hex(8)}.tmp")
    with write_errors(target):
        _check_free(final, target, overwrite, marker)
        final.parent.mkdir(parents=True, exist_ok=True)
        temp.mkdir()
    try:
        yield temp
        with write_errors(target):
            _take_place(temp, final)
    finally:
        shutil.rmtree(temp, ignore_errors=True)


def _check_free(final: Path, target: str | os.PathLike[str], overwrite: bool, marker: str | None) -> None:
    """Raises WriteError when what stands at ``target`` is not to be replaced: see ``new_folder``."""
    full = final.exists() and not (final.is_dir() and not any(final.iterdir()))
    if full and not final.is_dir():
        raise WriteError(f"cannot write the folder {target}: a file has that name")
    if full and not overwrite:
        raise WriteError(f"{target} already exists; choose another folder, or say --overwrite")
    if full and (marker is None or not (final / marker).is_file()):
        raise WriteError(f"{target} holds something else (no {marker} in it), so it is not overwritten")


def check_writable(folder: str | os.PathLike[str], cure: str = "") -> None:
    """Raises WriteError when no file could be written in a folder now, or the folder could not be made.

    It is tried out with a small file, which is removed; nothing is left behind.  ``cure`` ends the message.
    """
    try:
        with write_errors(folder):
            place = Path(os.path.realpath(folder))
            while not place.exists():
                place = place.parent
            if not place.is_dir():
                raise NotADirectoryError(errno.ENOTDIR, "not a folder")
            probe = place / f".{secrets.token_hex(8)}.tmp"
            try:
                with open(probe, "xb") as file:
                    file.write(bytes(4096))
                    os.fsync(file.fileno())
            finally:
                probe.unlink(missing_ok=True)
    except WriteError as error:
        raise WriteError(f"{error}{cure and '; '}{cure}") from error


def check_new_folder(target: str | os.PathLike[str], overwrite: bool = False, marker: str | None = None) -> None:
    """Raises WriteError, before any work is done, when ``new_folder`` with these arguments would."""
    final = Path(os.path.realpath(target))
    with write_errors(target):
        _check_free(final, target, overwrite, marker)
    check_writable(final.parent)


def _take_place(temp: Path, final: Path) -> None:
    """Rename a folder over another; what stood there is put back when that fails."""
    if not final.exists():
        os.rename(temp, final)
        return
    old = final.with_name(f".{secrets.token_hex(8)}.tmp")
    os.rename(final, old)
    try:
        os.rename(temp, final)
    except BaseException:
        os.rename(old, final)
        raise
    shutil.rmtree(old, ignore_errors=True)


@contextlib.contextmanager
def write_errors(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn an OSError raised in the block into a WriteError that names ``path`` and the cure."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            why = "the disk is full; free some space or choose another place"
        elif error.errno in _DENIED:
            why = "no permission; choose a place you may write to"
        elif error.errno in (errno.ENOTDIR, errno.EEXIST):
            why = "a file stands where a folder is wanted"
        else:
            why = error.strerror or str(error)
        raise WriteError(f"cannot write {path}: {why}") from error


def sha256_bytes(data: bytes) -> str:
    """64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: str | os.PathLike[str]) -> str:
    """64 hexadecimal digits, reading a block at a time.  Raises DataError when the file cannot be read."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(cannot_read(path, error)) from None


def sha256_json(value: Any) -> str:
    """64 hexadecimal digits of a value's canonical JSON: sorted keys, no spaces, UTF-8.  ValueError for NaN."""
    text = json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    return sha256_bytes(text.encode("utf-8"))


def cache_folder() -> Path:
    """Where concepts, drawn datasets and encodings are kept: the environment's PRISBENCH_HOME, else ``prisbench`` in
    its XDG_CACHE_HOME, which is ``~/.cache`` where it is not set or no absolute path (XDG base directories).
    """
    home, caches = os.environ.get("PRISBENCH_HOME"), Path(os.environ.get("XDG_CACHE_HOME") or "").expanduser()
    if home:
        return Path(home).expanduser()
    return (caches if caches.is_absolute() else Path.home() / ".cache") / "prisbench"
