"""A set as it was downloaded: a folder, or a .zip, .tar or .tar.gz that is unpacked for as long as it is read.

Knows: what an archive may do to whoever unpacks it, and refuses it.  Does not know: what is in the files.

Refused are members whose path leaves the folder, links, devices, encryption, a path that comes twice, and bombs: more
than ``MOST_TIMES`` as large as the archive (``FREE_BYTES`` are always free), more than ``MOST_BYTES`` or
``MOST_MEMBERS``.  What a header says of a size is not trusted: bytes are counted as they are written.  Archives
inside an archive stay packed.
"""

from __future__ import annotations

import calendar
import gzip
import os
import reprlib
import shutil
import stat
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path, PurePosixPath
from typing import IO, cast

from prisbench.datasets.sources.reading.files import unsafe_name
from prisbench.errors import DataError, PrisbenchError, WriteError
from prisbench.runtime.files import cannot_read, write_errors

MOST_TIMES = 100
"""Unpacked to packed.  An empty mask alone reaches 1000, a set of photos 2, annotations as text 20."""

FREE_BYTES = 64 * 2**20
MOST_BYTES = 512 * 2**30
MOST_MEMBERS = 1_000_000

_CHUNK = 2**20
_KINDS = {stat.S_IFLNK: "link", stat.S_IFCHR: "device", stat.S_IFBLK: "device"}


@contextmanager
def opened(root: str | os.PathLike[str]) -> Iterator[Path]:
    """The folder of a set: ``root`` itself, or a temporary one with the content of the archive ``root``.

    The temporary folder is gone after the block, and when anything is wrong; errors of the block speak of the archive
    in its place.  That of ``perseg.zip`` is called ``perseg``; when the archive holds nothing but such a folder (in any
    case), that one is given.  Files have the times they have in the archive, so every unpacking gives the same set.
    Folders ``__MACOSX`` are left out.  What a file is, its content says, not its suffix.

    Raises DataError, naming the archive and the member, and WriteError when there is no room for it.
    """
    root = Path(root)
    if root.is_dir():
        yield root
        return
    unpack = _unpacker(root)
    with write_errors(tempfile.gettempdir()):
        temp = tempfile.TemporaryDirectory(prefix="prisbench-")
    with temp as folder:
        target = Path(folder) / _stem(root)
        with write_errors(target):
            target.mkdir()
        unpack(_Desk(root, target))
        inside = _top(target)
        try:
            yield inside
        except PrisbenchError as error:  # the user has never seen the temporary folder
            error.args = (str(error).replace(str(inside), str(root)),)
            raise


def _unpacker(path: Path) -> Callable[[_Desk], None]:
    """How to unpack a file, by its first bytes.  Raises DataError when there is none, or it is no archive."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise DataError(f"{path} is neither a file nor a folder")
        with open(path, "rb") as file:
            start = file.read(512)
    except OSError as error:
        raise DataError(cannot_read(path, error)) from None
    if not start:
        raise DataError(f"{path} is empty (0 bytes)")
    if start.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _unzip
    if start.startswith(b"\x1f\x8b") or start[257:262] == b"ustar":
        return _untar
    raise DataError(f"{path} is neither a folder nor a .zip, .tar or .tar.gz; unpack it first")


def _stem(archive: Path) -> str:
    """``perseg`` for ``perseg.tar.gz``."""
    name = archive.name
    for suffix in (".gz", ".tgz", ".tar", ".zip"):
        name = name[: -len(suffix)] if name.lower().endswith(suffix) else name
    return name or "set"


def _top(folder: Path) -> Path:
    """A folder of the same name in the folder, when there is nothing beside it."""
    entries = list(folder.iterdir())
    if len(entries) == 1 and entries[0].is_dir() and entries[0].name.lower() == folder.name.lower():
        return entries[0]
    return folder


def _unzip(desk: _Desk) -> None:
    with _reading(desk.archive), zipfile.ZipFile(desk.archive) as archive:
        members = archive.infolist()
        for each in members:
            desk.declare(each.orig_filename, each.file_size)
        desk.check_room()
        for each in members:
            kind = stat.S_IFMT(each.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise desk.refusal(each.filename, f"is a {_KINDS.get(kind, 'special file')}; only files are unpacked")
            if each.flag_bits & 0x1:
                raise desk.refusal(each.filename, "is encrypted; unpack it first")
            if each.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise desk.refusal(each.filename, f"is packed by method {each.compress_type}; unpack it first")
            if each.is_dir():
                desk.folder(each.filename)
            else:
                with archive.open(each) as content:
                    desk.file(each.filename, cast(BufferedIOBase, content), each.file_size, _seconds(each.date_time))


def _untar(desk: _Desk) -> None:
    with _reading(desk.archive), _guarded(desk.archive, desk.most) as file:
        with tarfile.open(fileobj=cast(IO[bytes], file), mode="r:") as archive:
            while (each := archive.next()) is not None:
                archive.members.clear()  # type: ignore[attr-defined]  # or it would keep them all
                desk.declare(each.name, each.size)
                desk.check_room()
                if each.isdir():
                    desk.folder(each.name)
                elif each.isreg() and (content := archive.extractfile(each)):
                    desk.file(each.name, cast(BufferedIOBase, content), each.size, int(each.mtime))
                else:
                    kind = "link" if each.islnk() or each.issym() else "device" if each.isdev() else "special file"
                    raise desk.refusal(each.name, f"is a {kind}; only files are unpacked")
        # tarfile takes damage behind the first member for the end; the end is a block of zeros.
        if len(file.last) != tarfile.BLOCKSIZE or file.last.strip(b"\0"):
            raise DataError(f"{desk.archive} is damaged or cut short after {desk.members} members; copy it again")
        while file.read(_CHUNK):  # to the checksum
            pass


@dataclass
class _Desk:
    """Where the members of one archive are looked at, counted, and written below ``target``."""

    archive: Path
    target: Path
    members: int = 0
    declared: int = 0
    written: int = 0

    @property
    def most(self) -> int:
        """Bytes that the archive may become."""
        return min(MOST_BYTES, max(FREE_BYTES, MOST_TIMES * self.archive.stat().st_size))

    def refusal(self, name: str, why: str) -> DataError:
        return DataError(f"{self.archive}: {reprlib.repr(name)} {why}")

    def declare(self, name: str, size: int) -> None:
        """Look at a member's path and size, before anything is made of it."""
        self.members += 1
        self.declared += size
        if PurePosixPath(name) != PurePosixPath(".") and (why := unsafe_name(name)):
            cure = ": pack it with / between folders, or unpack it and give the folder" if "\\" in name else ""
            raise self.refusal(name, f"{why}; such an archive is not unpacked{cure}")
        if self.members > MOST_MEMBERS:
            raise DataError(f"{self.archive} has more than {MOST_MEMBERS} members; unpack it first")
        if self.declared > self.most:
            raise self.refusal(name, _bomb(self.declared, self.most))

    def check_room(self) -> None:
        wanted = self.declared - self.written
        free = shutil.disk_usage(self.target).free
        if wanted > free:
            raise WriteError(
                f"cannot unpack {self.archive}: {wanted // 2**20 + 1} MiB are wanted and {free // 2**20} MiB are free; "
                "free some space, or set TMPDIR to another place"
            )

    def folder(self, name: str) -> None:
        if _wanted(name):
            self._make(name, self.target / name)

    def file(self, name: str, content: BufferedIOBase, size: int, seconds: int) -> None:
        if not _wanted(name):
            return
        path = self.target / name
        self._make(name, path.parent)
        try:
            path.touch(exist_ok=False)
        except FileExistsError:
            raise self.refusal(name, "comes twice; such an archive is not unpacked") from None
        except OSError as error:
            raise WriteError(f"cannot unpack {self.archive}: {reprlib.repr(name)}: {error.strerror}") from None
        written = 0
        with write_errors(self.target), open(path, "wb") as file:
            for data in self._parts(content):
                written += len(data)
                if written > size:
                    break
                file.write(data)
        if written != size:
            raise self.refusal(name, f"has not the {size} bytes it is said to have; the archive is damaged")
        self.written += written
        os.utime(path, (seconds, seconds))

    def _parts(self, content: BufferedIOBase) -> Iterator[bytes]:
        """The content; an OSError of the archive is not one of the folder it is unpacked to."""
        with _reading(self.archive):
            while data := content.read(_CHUNK):
                yield data

    def _make(self, name: str, folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise self.refusal(name, "lies below a file; such an archive is not unpacked") from None
        except OSError as error:
            raise WriteError(f"cannot unpack {self.archive}: {reprlib.repr(name)}: {error.strerror}") from None


def _wanted(name: str) -> bool:
    return PurePosixPath(name).parts[:1] != ("__MACOSX",)


def _bomb(size: int, most: int) -> str:
    return f"makes it {size / 2**20:.0f} MiB unpacked, {most / 2**20:.0f} are the most for its size; unpack it first"


def _seconds(date_time: tuple[int, int, int, int, int, int]) -> int:
    """A .zip's time, whose zone nobody knows, as if it were UTC: the same wherever it is unpacked."""
    try:
        return calendar.timegm(date_time)
    except ValueError:  # month 0: no time was given
        return 0


@dataclass
class _Guarded:
    """The bytes of a .tar.  Never many at once, for a header may claim gigabytes, and never more than ``most``."""

    file: BufferedIOBase
    path: Path
    most: int
    last: bytes = b""

    def read(self, n: int = -1) -> bytes:
        if not 0 <= n <= 4 * _CHUNK:
            raise DataError(f"{self.path} has a header of {n} bytes; such an archive is not unpacked")
        self.last = self.file.read(n)
        self._check(self.tell())
        return self.last

    def seek(self, to: int) -> int:
        self._check(to)
        return self.file.seek(to)

    def tell(self) -> int:
        return self.file.tell()

    def _check(self, place: int) -> None:
        if place > self.most:
            raise DataError(f"{self.path}: its packing {_bomb(place, self.most)}")


@contextmanager
def _guarded(path: Path, most: int) -> Iterator[_Guarded]:
    with open(path, "rb") as raw:
        packed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        yield _Guarded(gzip.GzipFile(fileobj=raw) if packed else raw, path, most)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Whatever the unpackers raise at a malformed archive becomes a DataError."""
    try:
        yield
    except PrisbenchError:
        raise
    except Exception as error:  # zlib, struct, EOFError, ... : whatever the bytes lead them to
        why = " ".join(str(error).split())[:200] or type(error).__name__
        raise DataError(f"{path} is damaged or cut short ({why}); copy it again") from error
