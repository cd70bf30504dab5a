"""What bad and hostile input meets: one line that names the file and the record, and nothing half-written.

One table, ``OWN`` and ``COCO``: a good set is spoilt in one way, and built through the public functions.  ``GOOD`` is
its twin: what is unusual but sound must work.  Whatever the row, the set, the place of the target and the temporary
folder end as they were.
"""

from __future__ import annotations

import io
import json
import os
import re
import resource
import stat
import struct
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from prisbench.datasets.build import NewDataset, write_dataset
from prisbench.datasets.load import open_dataset
from prisbench.datasets.named import build_source
from prisbench.datasets.schema import QueryRow, SubjectRow
from prisbench.datasets.sources import archives
from prisbench.errors import DataError, PrisbenchError, UsageError, WriteError
from prisbench.images.masks import to_rle
from tests.drawing import draw_box, draw_scene

SIZE = (12, 20)
BOX = draw_box(SIZE, 3, 4, 9, 15)
SQUARE = [4, 3, 15, 3, 15, 9, 4, 9]

# --- two good sets --------------------------------------------------------------------------------------------------


def own_photos(root: Path) -> None:
    """A set for the source ``folder``: one mug, two photos, one scene."""
    for n, name in enumerate(("photos/01.png", "photos/02.png", "scenes/kitchen.png")):
        save(root / "mug-anna" / name, draw_scene(n))
    save(root / "mug-anna/masks/kitchen.png", BOX)


def coco_set(root: Path) -> None:
    """A set for the source ``coco``: one mug in three images."""
    for n in (1, 2, 3):
        save(root / f"images/{n}.png", draw_scene(n))
    record = {
        "images": [{"id": n, "file_name": f"{n}.png", "height": 12, "width": 20} for n in (1, 2, 3)],
        "categories": [{"id": 5, "name": "mug"}],
        "annotations": [
            {"id": 10 + n, "image_id": n, "category_id": 5, "subject": "anna", "iscrowd": 0, "segmentation": [SQUARE]}
            for n in (1, 2, 3)
        ],
    }
    (root / "set.json").write_text(json.dumps(record))


SETS = {"folder": own_photos, "coco": coco_set}

# --- ways to spoil --------------------------------------------------------------------------------------------------

Spoil = Callable[[Path], Path | None]
"""Spoils the set in a folder, beside which it may put things; gives another place to build from, or None."""


def as_it_is(_: Path) -> None:
    pass


def save(path: Path, image: np.ndarray | Image.Image, **how: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(path, **how)


def put(name: str, data: bytes | str) -> Spoil:
    """The file ``name`` of the set is now this."""

    def spoil(root: Path) -> None:
        path = root / name
        path.unlink(missing_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.encode() if isinstance(data, str) else data)

    return spoil


def picture(name: str, image: np.ndarray | Image.Image, **how: Any) -> Spoil:
    return lambda root: save(root / name, image, **how)


def link(name: str, target: str) -> Spoil:
    """The file ``name`` is now a link; ``target`` is seen from the set, which has a ``secret.png`` beside it."""

    def spoil(root: Path) -> None:
        save(root.parent / "beside" / "secret.png", draw_scene(99))
        path = root / name
        path.unlink(missing_ok=True)
        path.symlink_to(root / target)

    return spoil


def cut(name: str, share: float = 0.5) -> Spoil:
    """Only the beginning of the file is there."""
    return lambda root: os.truncate(root / name, int((root / name).stat().st_size * share))


def sparse(name: str, size: int) -> Spoil:
    """The file is that large, at no cost."""

    def spoil(root: Path) -> None:
        (root / name).touch()
        os.truncate(root / name, size)

    return spoil


def pipe(name: str) -> Spoil:
    def spoil(root: Path) -> None:
        (root / name).unlink(missing_ok=True)
        os.mkfifo(root / name)

    return spoil


def edited(change: Callable[[dict[str, Any]], Any]) -> Spoil:
    """The JSON of the COCO set after a change."""

    def spoil(root: Path) -> None:
        record = json.loads((root / "set.json").read_text())
        change(record)
        (root / "set.json").write_text(json.dumps(record))

    return spoil


def region(segmentation: Any) -> Spoil:
    """Annotation 12 of the COCO set has another region."""
    return edited(lambda record: record["annotations"][1].update(segmentation=segmentation))


def named(file_name: Any) -> Spoil:
    """Image 2 of the COCO set has another name."""
    return edited(lambda record: record["images"][1].update(file_name=file_name))


def run_lengths(counts: Any, size: Any = (12, 20)) -> Spoil:
    return region({"size": size, "counts": counts})


def asked(line: str) -> Spoil:
    """A ``queries.csv`` of one line."""
    return put("mug-anna/queries.csv", f"scene,mask\n{line}\n")


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def claiming_png(h: int, w: int) -> bytes:
    """A PNG of a few bytes that says it is that large."""
    header = struct.pack(">IIBBBBB", w, h, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


def jpeg(image: np.ndarray | Image.Image) -> bytes:
    out = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(out, format="JPEG")
    return out.getvalue()


def palette(labels: np.ndarray, *colours: int) -> Image.Image:
    image = Image.fromarray(labels.astype(np.uint8))
    image.putpalette(list(colours))
    return image


def number(value: int, characters: int) -> bytes:
    """A run length in compressed form, in more characters than it needs."""
    parts = [(value >> 5 * n) & 0x1F | (0x20 if n < characters - 1 else 0) for n in range(characters)]
    return bytes(part + 48 for part in parts)


def overlong_counts() -> str:
    """240 pixels in all, but a decoder that shifts by more than 31 bits reads more of them, and writes past the end."""
    return (number(20, 2) + number(90, 2) + number(20, 2) + number(-64, 8) + number(84 - 20, 3)).decode()


# --- archives -------------------------------------------------------------------------------------------------------


def zipped(change: Callable[[zipfile.ZipFile], Any] = lambda archive: None, plus: bool = True) -> Spoil:
    """The set as ``set.zip``, with something more in it."""

    def spoil(root: Path) -> Path:
        path = root.parent / "set.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in sorted(root.rglob("*.*")) if plus else ():
                archive.write(file, file.relative_to(root).as_posix())
            change(archive)
        return path

    return spoil


def tarred(change: Callable[[tarfile.TarFile], Any] = lambda archive: None, how: str = "w:gz") -> Spoil:
    """The set as ``set.tar.gz`` (or ``set.tar``), with something more in it."""

    def spoil(root: Path) -> Path:
        path = root.parent / ("set.tar" if how == "w" else "set.tar.gz")
        with tarfile.open(path, how) as archive:  # type: ignore[call-overload]
            for file in sorted(root.rglob("*.*")):
                archive.add(file, file.relative_to(root).as_posix())
            change(archive)
        return path

    return spoil


def then(first: Spoil, change: Callable[[bytes], bytes]) -> Spoil:
    """The archive that the first makes, its bytes changed."""

    def spoil(root: Path) -> Path:
        path = first(root)
        assert path is not None
        path.write_bytes(change(path.read_bytes()))
        return path

    return spoil


def zip_member(name: str, mode: int = 0, data: bytes = b"x", **fields: Any) -> Callable[[zipfile.ZipFile], None]:
    def add(archive: zipfile.ZipFile) -> None:
        member = zipfile.ZipInfo(name)
        member.external_attr = mode << 16
        archive.writestr(member, data, fields.pop("compress_type", zipfile.ZIP_DEFLATED))
        for field_name, value in fields.items():
            setattr(member, field_name, value)

    return add


def tar_member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> Callable[[tarfile.TarFile], None]:
    def add(archive: tarfile.TarFile) -> None:
        member = tarfile.TarInfo(name)
        member.type, member.linkname = kind, target
        archive.addfile(member)

    return add


def tar_bomb(size: int) -> Callable[[tarfile.TarFile], None]:
    def add(archive: tarfile.TarFile) -> None:
        member = tarfile.TarInfo("bomb.png")
        member.size = size
        archive.addfile(member, Zeros(size))  # type: ignore[arg-type]

    return add


@dataclass
class Zeros:
    """A file of zeros of which nothing is kept."""

    left: int

    def read(self, n: int) -> bytes:
        n = min(n, self.left)
        self.left -= n
        return bytes(n)


def tar_header(name: str, kind: bytes, size: int) -> Callable[[tarfile.TarFile], None]:
    """A member of which only the header is there, whatever it says of its size."""

    def add(archive: tarfile.TarFile) -> None:
        member = tarfile.TarInfo(name)
        member.type, member.size = kind, size
        archive.fileobj.write(member.tobuf(tarfile.GNU_FORMAT))  # type: ignore[union-attr]
        archive.offset += 512

    return add


def lying(size: int) -> Spoil:
    """A .zip whose member ``lie.png`` of 5000 bytes is said to have so many, in its directory and in front of it."""

    def change(archive: bytes) -> bytes:
        assert archive.count(struct.pack("<I", 5000)) == 2
        return archive.replace(struct.pack("<I", 5000), struct.pack("<I", size))

    return then(zipped(zip_member("lie.png", data=bytes(5000)), plus=False), change)


def nul(data: bytes) -> bytes:
    return data.replace(b"evXl", b"ev\0l")


def flipped(share: float) -> Callable[[bytes], bytes]:
    """One byte is another."""

    def change(data: bytes) -> bytes:
        at = int(len(data) * share)
        return data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]

    return change


def wrong_checksum(data: bytes) -> bytes:
    return data[:-8] + b"\0\0\0\0" + data[-4:]


def without_end(data: bytes) -> bytes:
    """A .tar without the zeros that end it, cut where a header begins."""
    return data.rstrip(b"\0").ljust(-(-len(data.rstrip(b"\0")) // 512) * 512, b"\0")


def second_header_broken(data: bytes) -> bytes:
    at = data.index(b"mug-anna", 512)
    return data[:at] + b"XXX" + data[at + 3 :]


# --- targets --------------------------------------------------------------------------------------------------------


@contextmanager
def nothing_special(_: Path) -> Iterator[None]:
    yield


@contextmanager
def full(_: Path) -> Iterator[None]:
    """No file grows beyond 500 bytes: what a full disk does to a writer, for this process alone."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextmanager
def no_room(_: Path) -> Iterator[None]:
    """The disk says that it has a megabyte left."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 2**20})())
        yield


@contextmanager
def few_members(_: Path) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(archives, "MOST_MEMBERS", 3)
        yield


# --- the table ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """A spoilt set and the line it meets, as a pattern; ``{set}``, ``{out}`` and ``{tmp}`` are the folders."""

    name: str
    spoil: Spoil
    says: str
    error: type[PrisbenchError] = DataError
    during: Callable[[Path], Any] = nothing_special
    options: Mapping[str, str] = field(default_factory=dict)


PHOTO, SCENE, MASK = "mug-anna/photos/01.png", "mug-anna/scenes/kitchen.png", "mug-anna/masks/kitchen.png"
CSV = "queries.csv, line 2"
JSON = "set.json: annotation 12"
IMAGE = "set.json: image 2"
HOSTILE_YAML = "a: &a [x, x]\nb: &b [*a, *a]\nnoun: [*b, *b]\n"

OWN = [
    # Paths that leave the folder.
    Row("a scene by ..", asked("../beside/secret.png,kitchen.png"), rf"{CSV}: .*\.\./beside.* leaves its"),
    Row("a scene by a deep ..", asked("mug-anna/scenes/../../../x.png,"), rf"{CSV}: .* leaves its folder by"),
    Row("an absolute scene", asked("/etc/passwd,kitchen.png"), rf"{CSV}: .*/etc/passwd.* is absolute"),
    Row("a mask by ..", asked("kitchen.png,../../secret.png"), rf"{CSV}: .* leaves its folder by '\.\.'"),
    Row("a backslash", asked(r"mug-anna/..\..\x.png,"), rf"{CSV}: the path .* has a backslash"),
    Row("a photo that is a link out", link(PHOTO, "../beside/secret.png"), r"01\.png is a link that leaves .*"),
    Row("a mask that is a link out", link(MASK, "../beside/secret.png"), r"kitchen\.png is a link that leave"),
    Row("a subject that is a link out", link("bowl", "../beside"), r"{set}/bowl is a link that leaves .*cp -L"),
    Row(
        "a link to nothing",
        link(PHOTO, "mug-anna/photos/nothing.png"),
        r"01\.png is a link to .*nothing\.png', where noth",
    ),
    Row("a link in a circle", link(PHOTO, PHOTO), r"01\.png (cannot be read|is a link to)"),
    Row("a pipe", pipe(PHOTO), r"01\.png is neither a file nor a folder$"),
    Row("a name with a line break", put("mug-anna/photos/a\nb.png", b"x"), r"a\\nb\.png', a name that cannot be"),
    Row("a name that is no text", put("mug-anna/photos/a\udcff.png", b"x"), r"a\\udcff\.png', a name that can"),
    # Images.
    Row("an empty photo", put(PHOTO, b""), r"01\.png is empty \(0 bytes\)"),
    Row("a web page as photo", put(PHOTO, "<!doctype html><p>404"), r"01\.png is not a photo that can be read"),
    Row("a PNG cut short", cut(PHOTO), r"01\.png is damaged or cut short \(.*\); copy it again$"),
    Row("a JPEG cut short", put(SCENE, jpeg(draw_scene(1))[:-200]), r"kitchen\.png is damaged or cut short"),
    Row("a photo that is a bomb", put(PHOTO, claiming_png(60_000, 50_000)), r"01\.png has more than \d+ million"),
    Row("a small bomb", put(SCENE, claiming_png(10_000, 9_500)), r"kitchen\.png has more than \d+ million pix"),
    Row("a mask that is a bomb", put(MASK, claiming_png(60_000, 50_000)), r"masks/kitchen\.png has more than"),
    Row("a mask, a small bomb", put(MASK, claiming_png(10_000, 9_500)), r"masks/kitchen\.png has more than"),
    Row("a photo of 5 GB", sparse(PHOTO, 5 * 2**30), r"01\.png has 5\.0 GiB, more than the 256\.0 MiB that are"),
    Row("an empty mask file", put(MASK, b""), r"masks/kitchen\.png is empty \(0 bytes\)"),
    Row("a mask cut short", cut(MASK), r"masks/kitchen\.png is damaged"),
    Row("a mask that is a JPEG", put(MASK, jpeg(BOX)), r"masks/kitchen\.png is a JPEG, which changes labels; mas"),
    Row("a mask that is text", put(MASK, "white"), r"masks/kitchen\.png is no PNG; masks are PNG files"),
    Row("a mask of another size", picture(MASK, BOX[:, :-1]), r"kitchen\.png is 12 x 19, its image 12 x 20 \(h"),
    Row("a mask that was not turned", picture(MASK, BOX.T), r"is 20 x 12, its image 12 x 20 .*EXIF orientation"),
    Row("a mask in colour", picture(MASK, draw_scene(9)), r"masks/kitchen\.png is in colour \(\(.*at x 0, y 0\)"),
    Row(
        "a palette that contradicts itself",
        picture(MASK, palette(BOX, 255, 255, 255, 0, 0, 0)),
        r"kitchen\.png: its palette shows index 0 in a colour and index 1 in black",
    ),
    Row("a photo's mask all black", picture("mug-anna/photos_masks/01.png", BOX & False), r"01\.png is all black"),
    # JSON and YAML.
    Row("YAML nested 10,000 deep", put("mug-anna/subject.yaml", "[" * 10_000), r"subject\.yaml, line 1 is nested"),
    Row("YAML that unfolds", put("mug-anna/subject.yaml", HOSTILE_YAML), r"subject\.yaml, line 2: \*a stands for"),
    Row("YAML that makes objects", put("mug-anna/subject.yaml", "noun: !!python/name:os.system"), r"line 1 is not pl"),
    Row("YAML of 2 GB", sparse("mug-anna/subject.yaml", 2 * 10**9), r"subject\.yaml has 1\.9 GiB, more than the"),
    Row("YAML in Latin-1", put("mug-anna/subject.yaml", b"noun: tasse \xe0"), r"subject\.yaml is not UTF-8 text"),
    Row("CSV of 2 GB", sparse("mug-anna/queries.csv", 2 * 10**9), r"queries\.csv has .* more than"),
    Row("CSV with a NUL", asked("kit\0chen.png,"), rf"{CSV}: unknown scene 'kit\\x00chen\.png'"),
    # Ids.
    Row("a scene twice", picture("mug-anna/scenes/again.png", draw_scene(2)), r"again.png"),
    Row("a scene that is a photo", picture(SCENE, draw_scene(0)), r"scene [0-9a-f]{16} is a reference photo of"),
    Row(
        "the same subject twice",
        lambda root: own_photos(root / "x") or os.rename(root / "x/mug-anna", root / "mug-ben") or os.rmdir(root / "x"),
        r"subject mug-[0-9a-f]{10} comes twice: the same noun and photos",
    ),
    # Nothing there.
    Row("an empty folder", lambda root: empty(root), r"empty has no folder with photos"),
    Row("no such folder", lambda root: root / "nowhere", r"^no folder {set}/nowhere: "),
    Row("photos without scenes", lambda root: (root / SCENE).unlink(), r"kitchen\.png belongs to no scene"),
    Row("a scene without a mask", lambda root: (root / MASK).unlink(), r"kitchen\.png has no mask: draw"),
    # Archives.
    Row("a zip that leaves by ..", zipped(zip_member("../evil.png")), r"set\.zip: '\.\./evil\.png' leaves its fol"),
    Row("a zip with an absolute path", zipped(zip_member("/tmp/evil.png")), r"set\.zip: '/tmp/evil\.png' is absol"),
    Row("a zip with a backslash", zipped(zip_member(r"..\evil.png")), r"set\.zip: .*evil\.png' has a backslash"),
    Row(
        "a zip with a NUL", then(zipped(zip_member("evXl.png")), nul), r"set\.zip: 'ev\\x00l\.png' has a character that"
    ),
    Row("a zip with a link", zipped(zip_member("evil.png", stat.S_IFLNK)), r"set\.zip: 'evil\.png' is a link; only"),
    Row("a zip with a device", zipped(zip_member("evil", stat.S_IFBLK)), r"set\.zip: 'evil' is a device; only"),
    Row("an encrypted zip", zipped(zip_member("secret.png", flag_bits=1)), r"set\.zip: 'secret\.png' is encrypted"),
    Row("a zip bomb", zipped(zip_member("bomb.png", data=bytes(80 * 2**20))), r"set\.zip: 'bomb\.png' makes it 80"),
    Row(
        "a zip that says too little", lying(50), r"set\.zip is damaged or cut short \(Bad CRC-32 for file 'lie\.png'\)"
    ),
    Row(
        "a zip that says too much", lying(9999), r"set\.zip: 'lie\.png' has not the 9999 bytes it is said to have; the"
    ),
    Row("a zip with a path twice", zipped(zip_member(PHOTO)), rf"set\.zip: '{PHOTO}' comes twice; such an archive"),
    Row("a zip with a file as folder", zipped(zip_member(f"{PHOTO}/a.png")), r"a\.png' lies below a file; such an"),
    Row("a zip packed by LZMA", zipped(zip_member("a", compress_type=zipfile.ZIP_LZMA)), r"'a' is packed by method"),
    Row("a zip cut short", then(zipped(), lambda data: data[:-40]), r"set\.zip is damaged or cut short \(.*\); copy"),
    Row("a zip with one byte changed", then(zipped(), flipped(0.2)), r"set\.zip is damaged or cut short"),
    Row("a zip of many members", zipped(), r"set\.zip has more than 3 members", during=few_members),
    Row(
        "a zip and no room",
        zipped(zip_member("a", data=bytes(2**22))),
        r"cannot unpack {set}\.zip: 5 MiB are wanted and 1 MiB are free; free some space, or set TMPDIR",
        WriteError,
        no_room,
    ),
    Row("a tar that leaves by ..", tarred(tar_member("a/../../evil.png")), r"set\.tar\.gz: .*evil\.png' leaves its"),
    Row("a tar with an absolute path", tarred(tar_member("/tmp/evil.png")), r"set\.tar\.gz: .* is absolute"),
    Row("a tar with a link", tarred(tar_member("evil", tarfile.SYMTYPE, "/etc")), r"gz: 'evil' is a link; only files"),
    Row("a tar with a hard link", tarred(tar_member("evil", tarfile.LNKTYPE, "/etc/passwd")), r"'evil' is a link; on"),
    Row("a tar with a device", tarred(tar_member("evil", tarfile.BLKTYPE)), r"set\.tar\.gz: 'evil' is a device; only"),
    Row("a tar with a pipe", tarred(tar_member("evil", tarfile.FIFOTYPE)), r"set\.tar\.gz: 'evil' is a device; only"),
    Row("a tar bomb", tarred(tar_bomb(80 * 2**20)), r"set\.tar\.gz: 'bomb\.png' makes it 80 MiB unpacked, 64 are"),
    Row("a tar that claims a terabyte", tarred(tar_header("a", tarfile.REGTYPE, 2**40)), r"'a' makes it 1048576 MiB"),
    Row(
        "a tar with a name of 5 GB",
        tarred(tar_header("n", tarfile.GNUTYPE_LONGNAME, 5 * 2**30)),
        r"set\.tar\.gz has a header of 5368709120 bytes; such an archive is not unpacked",
    ),
    Row("a tar with a path twice", tarred(tar_member(PHOTO)), rf"set\.tar\.gz: '{PHOTO}' comes twice"),
    Row("a tar.gz cut short", then(tarred(), lambda data: data[:-100]), r"set\.tar\.gz is damaged or cut short"),
    Row("a tar cut short", then(tarred(how="w"), lambda data: data[:3000]), r"set\.tar is damaged or cut short"),
    Row("a tar without its end", then(tarred(how="w"), without_end), r"set\.tar is damaged or cut short after 4 memb"),
    Row("a tar with a broken header", then(tarred(how="w"), second_header_broken), r"set\.tar is damaged or cut sh"),
    Row("a tar.gz with one byte changed", then(tarred(), flipped(0.6)), r"set\.tar\.gz is damaged or cut short"),
    Row(
        "a tar.gz with a wrong checksum", then(tarred(), wrong_checksum), r"set\.tar\.gz is damaged .*CRC check failed"
    ),
    Row("no archive", lambda root: root / PHOTO, r"01\.png is neither a folder nor a \.zip, \.tar or \.tar\.gz"),
    Row(
        "a bad set in an archive",
        lambda root: picture(MASK, BOX[1:])(root) or zipped()(root),
        r"^.*/set\.zip/mug-anna/masks/kitchen\.png is 11 x 20, its image",
    ),
    # Targets.
    Row("a full disk", as_it_is, r"cannot write {out}/.*: the disk is full; free some space", WriteError, full),
    Row(
        "a full disk for an archive",
        zipped(zip_member("a", data=draw_scene(1).tobytes())),
        r"cannot write {tmp}/prisbench-\w+/set: the disk is full",
        WriteError,
        full,
    ),
]
"""Own photos, which the source ``folder`` reads."""

COCO = [
    # Paths that leave the folder.
    Row("COCO: by ..", named("../../beside/secret.png"), rf"{IMAGE}: the path .* leaves its folder by '\.\.'"),
    Row("COCO: absolute", named("/etc/passwd"), rf"{IMAGE}: the path '/etc/passwd' is absolute"),
    Row("COCO: a drive", named("C:secret.png"), rf"{IMAGE}: the path 'C:secret\.png' is absolute"),
    Row("COCO: a NUL", named("a\0.png"), rf"{IMAGE}: the path .* has a character that cannot be"),
    Row("COCO: not there", named("9.png"), rf"{IMAGE}: {{set}}/images/9\.png does not exist$"),
    Row("COCO: 5000 letters", named("a" * 5000), rf"{IMAGE}: the path .* is too long"),
    Row("COCO: no text", named(["2.png"]), rf"{IMAGE} has no file_name"),
    Row("COCO: a folder", named("."), rf"{IMAGE}: the path '\.' is empty"),
    Row("COCO: a link out", link("images/2.png", "../beside/secret.png"), rf"{IMAGE}: .*2\.png is a link that"),
    Row("COCO: the JSON by ..", as_it_is, r"leaves its folder by '\.\.'", options={"instances": "../a.json"}),
    # Polygons.
    Row("a polygon in another image's frame", region([[90, 2, 95, 2, 95, 9]]), rf"{JSON}: the corner \(90, 2\) is far"),
    Row("half a point", region([[1, 1, 5, 5, 9, 1, 3]]), rf"{JSON}: a polygon of 7 numbers; they come in pairs"),
    Row("a corner in letters", region([[1, 1, 5, "5", 9, 1]]), rf"{JSON}: a polygon holds '5', which is no number"),
    Row("a corner that is true", region([[1, 1, 5, True, 9, 1]]), rf"{JSON}: a polygon holds True, which is no"),
    Row("a corner that is no number", region([[1, 1, 5, float("nan"), 9, 1]]), rf"{JSON}: .* is not finite"),
    Row("a corner at infinity", region([[1, 1, 5, float("inf"), 9, 1]]), rf"{JSON}: .* is not finite"),
    Row("a corner of 400 digits", region([[1, 1, 5, 10**400, 9, 1]]), rf"{JSON}: .* is not finite"),
    Row("a corner far outside", region([[1, 1, 5, 1e9, 9, 1]]), rf"{JSON}: the corner \(5, 1e\+09\) is far outsid"),
    Row("an endless outline", region([[0, 0, 19, 11] * 150_000 + [0, 11]]), rf"{JSON}: .* pixels long; 4000000"),
    Row("polygons that are text", region("M 1 1 L 5 5"), rf"{JSON}: 'M 1 1 L 5 5' is no run-length record"),
    Row("polygons not in a list", region(SQUARE), rf"{JSON}: .* is no list of polygons"),
    # Run lengths.
    Row("runs too short", run_lengths([20, 30]), rf"{JSON}: its run lengths do not add up to its size 12 x 20"),
    Row("runs too long", run_lengths([20, 30, 200]), rf"{JSON}: its run lengths do not add up to its size"),
    Row("a negative run", run_lengths([20, 300, -80]), rf"{JSON}: its run lengths do not add up"),
    Row("runs beyond 64 bits", run_lengths([2**64 - 10, 250]), rf"{JSON}: its run lengths do not add up"),
    Row("runs that are fractions", run_lengths([20.5, 219.5]), rf"{JSON}: its run lengths do not add up"),
    Row("compressed runs cut short", run_lengths(to_rle(BOX)["counts"][:-1]), rf"{JSON}: the RLE's runs do not"),
    Row("compressed runs too long", run_lengths(to_rle(BOX)["counts"] + "9"), rf"{JSON}: the RLE's runs do not"),
    Row("compressed runs of other letters", run_lengths("~~~~"), rf"{JSON}: the RLE's runs do not add up"),
    Row("compressed runs beyond ASCII", run_lengths("é5"), rf"{JSON}: not a COCO RLE"),
    Row("a number of 40 bits", run_lengths(overlong_counts()), rf"{JSON}: the RLE.s runs do not add up"),
    Row("counts that are a number", run_lengths(10**12), rf"{JSON}: .* is no run-length record"),
    Row("runs of another size", run_lengths([240], [20, 12]), rf"{JSON}: run lengths of size \[20, 12\], its im"),
    Row("runs of no size", run_lengths([240], None), rf"{JSON}: run lengths of size None, its image is \[12, 20"),
    Row("a region that is a number", region(7), rf"{JSON}: 7 is no run-length record"),
    # JSON and YAML.
    Row("JSON of 2 GB", sparse("set.json", 2 * 10**9), r"{set}/set\.json has 1\.9 GiB, more than the 1\.0 GiB that"),
    Row("JSON nested 10,000 deep", put("set.json", "[" * 10_000 + "]" * 10_000), r"set\.json is nested too deep"),
    Row("objects nested 10,000 deep", put("set.json", '{"a":' * 10_000), r"set\.json is nested too deep to be read"),
    Row("JSON cut short", cut("set.json"), r"{set}/set\.json is not JSON \(.*line 1 column .*\); it was cut short"),
    Row("JSON in UTF-16", put("set.json", "{}".encode("utf-16")), r"set\.json is not UTF-8 text \(byte 0\); save it"),
    Row("JSON with a number of 10,000 digits", put("set.json", "9" * 10_000), r"set\.json is not JSON \(Exceeds"),
    Row("empty JSON", put("set.json", ""), r"set\.json is empty \(0 bytes\)"),
    Row("JSON of another kind", put("set.json", "[1, 2]"), r"{set}/set\.json has no list 'images'"),
    Row("no JSON at all", lambda root: (root / "set.json").unlink(), r"{set} has no annotations/instances_\*\.json"),
    # Ids.
    Row("an image id twice", edited(lambda r: r["images"].append(r["images"][0])), r"set\.json: the id 1 is in ima"),
    Row(
        "an annotation id twice",
        edited(lambda r: r["annotations"].append(r["annotations"][1])),
        r"set\.json: the id 12 is in annotations twice",
    ),
    Row(
        "a category id twice",
        edited(lambda r: r["categories"].append({"id": 5, "name": "bowl"})),
        r"set\.json: the id 5 is in categories twice",
    ),
    Row("an image twice", named("1.png"), r"set\.json: image 2 has the file_name '1\.png', and so has another"),
    Row(
        "an annotation of no image",
        edited(lambda r: r["annotations"][1].update(image_id=77)),
        rf"{JSON} has the image_id 77, which is not there",
    ),
    Row(
        "a size that is not the image's",
        edited(lambda r: r["images"][1].update(width=21)),
        r"2\.png is 12 x 20, its annotations 12 x 21",
    ),
    Row(
        "a size of a billion",
        edited(lambda r: r["images"][1].update(height=10**9, width=10**9)),
        rf"{IMAGE}: height 1000000000 and width 1000000000 are no size",
    ),
    # Nothing there.
    Row("an empty folder for COCO", lambda root: empty(root), r"empty has no annotations/instances_\*\.json"),
    Row(
        "a set without annotations",
        edited(lambda record: record.update(annotations=[])),
        r"set\.json has no list 'annotations'",
    ),
]
"""COCO's instances."""


def empty(root: Path) -> Path:
    folder = root.parent / "empty"
    folder.mkdir()
    return folder


def everything(folder: Path) -> dict[Path, tuple[int, int, int]]:
    """Path -> kind, size and time of change of all that is below a folder, hidden files too; of a folder, its kind."""
    found = {}
    for path in folder.rglob("*"):
        seen = path.lstat()
        kind = stat.S_IFMT(seen.st_mode)
        found[path] = (kind, 0, 0) if kind == stat.S_IFDIR else (kind, seen.st_size, seen.st_mtime_ns)
    return found


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with ``set`` (to be made), ``out`` and the temporary folder ``tmp``."""
    for name in ("set", "out", "tmp"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    return tmp_path


CASES = [(source, row) for source, rows in (("folder", OWN), ("coco", COCO)) for row in rows]


@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
@pytest.mark.parametrize(("source", "row"), CASES, ids=[f"{source}: {row.name}" for source, row in CASES])
def test_bad_input_meets_one_line_and_leaves_nothing_behind(source: str, row: Row, places: Path) -> None:
    root = places / "set"
    SETS[source](root)
    start = row.spoil(root) or root
    before = everything(places)
    with pytest.raises(row.error) as caught, row.during(places / "out"):
        build_source(source, start, row.options, places / "out" / "new")
    line, says = str(caught.value), row.says
    for name in ("set", "out", "tmp"):
        says = says.replace(f"{{{name}}}", re.escape(str(places / name)))
    assert re.search(says, line), line
    assert len(line.splitlines()) == 1
    assert line.isprintable()
    assert len(line) < 700
    assert everything(places) == before


@pytest.mark.usefixtures("without_root")
def test_a_read_only_place_is_one_line() -> None:
    with tempfile.TemporaryDirectory() as made:
        places = Path(made)
        own_photos(places / "set")
        (places / "out").mkdir(mode=0o555)
        before = everything(places)
        with pytest.raises(
            WriteError, match=r"^cannot write .*/out/new: no permission; choose a place you may write to$"
        ):
            build_source("folder", places / "set", {}, places / "out" / "new")
        assert everything(places) == before


@pytest.mark.parametrize("standing", ["file", "folder"])
def test_a_target_that_is_something_else_is_left_as_it_was(standing: str, places: Path) -> None:
    own_photos(places / "set")
    target = places / "out" / "new"
    if standing == "file":
        target.write_text("mine")
    else:
        target.mkdir()
        (target / "thesis.tex").write_text("mine")
    before = everything(places)
    for overwrite in (False, True):
        with pytest.raises(WriteError, match=r"/out/new"):
            build_source("folder", places / "set", {}, target, overwrite=overwrite)
    assert everything(places) == before


def test_an_option_is_checked_before_anything_is_written(places: Path) -> None:
    own_photos(places / "set")
    before = everything(places)
    with pytest.raises(UsageError, match=r"unknown option of the source folder 'licens': did you mean 'licence'\?"):
        build_source("folder", places / "set", {"licens": "CC0-1.0"}, places / "out" / "new")
    assert everything(places) == before


def test_rows_that_break_a_rule_leave_nothing_either(places: Path) -> None:
    subject = SubjectRow("mug", (draw_scene(0),), "test", "CC0-1.0", "drawn")
    fields = dict(subject_id=subject.id, noun="mug", text="the {subject}", query_type="plain", look_alikes=())
    good = QueryRow(image=draw_scene(1), mask=BOX, split="test", licence="CC0-1.0", source="drawn", **fields)
    bad = QueryRow(image=draw_scene(2), mask=BOX[1:], split="test", licence="CC0-1.0", source="drawn", **fields)
    before = everything(places)
    for queries, says in (
        ([good, bad], r"query [0-9a-f]{16} .*: a mask of \(11, 20\) \(h, w\) on a scene of \(12, 20\)"),
        ([good, good], r"query [0-9a-f]{16} .* comes twice: the same subject, scene and text"),
        ([], r"the dataset bad-v1 would have no queries"),
    ):
        with pytest.raises(DataError, match=says):
            write_dataset(places / "out" / "new", NewDataset("bad", "1", [subject], queries, "# Bad\n"))
    assert everything(places) == before


# --- what is unusual and sound --------------------------------------------------------------------------------------


def turned(root: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    save(root / "mug-anna/scenes/kitchen.png", np.rot90(draw_scene(2)), exif=exif)


GOOD: dict[str, tuple[str, Spoil]] = {
    "as it is": ("folder", as_it_is),
    "a mask of 16 bits": ("folder", picture(MASK, BOX.astype(np.uint16) * 256)),
    "a mask with a palette": ("folder", picture(MASK, palette(BOX * 7, *[0] * 21, 128, 0, 0))),
    "a mask with a palette of four bits": ("folder", picture(MASK, palette(BOX, 0, 0, 0, 255, 255, 255), bits=4)),
    "a mask in grey": ("folder", picture(MASK, BOX.astype(np.uint8) * 255)),
    "a mask in grey, saved as colour": ("folder", picture(MASK, np.repeat(BOX[:, :, None] * np.uint8(255), 3, axis=2))),
    "a CMYK JPEG": ("folder", put(SCENE, jpeg(Image.fromarray(draw_scene(2)).convert("CMYK")))),
    "a grey scene of 16 bits": ("folder", picture(SCENE, draw_scene(2)[:, :, 0].astype(np.uint16) * 257)),
    "a transparent scene": ("folder", picture(SCENE, np.dstack([draw_scene(2), draw_scene(3)[:, :, :1]]))),
    "a turned photo": ("folder", turned),
    "a link that stays inside": ("folder", link("mug-anna/photos/03.png", "mug-anna/photos/02.png")),
    "a .zip": ("folder", zipped()),
    "a .zip from a Mac": ("folder", zipped(zip_member("__MACOSX/mug-anna/photos/._01.png"))),
    "a .tar.gz": ("folder", tarred()),
    "a .tar": ("folder", tarred(how="w")),
    "JSON with a byte order mark": ("coco", lambda root: mark(root / "set.json")),
    "COCO as it is": ("coco", as_it_is),
    "run lengths": ("coco", edited(lambda r: [a.update(segmentation=to_rle(BOX)) for a in r["annotations"]])),
    "polygons that go over the border": (
        "coco",
        edited(lambda r: [a.update(segmentation=[[-5, 3, 15, 3, 15, 9, -5, 9]]) for a in r["annotations"]]),
    ),
}


def mark(path: Path) -> None:
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())


@pytest.mark.parametrize("name", GOOD)
def test_unusual_input_that_is_sound_works(name: str, places: Path) -> None:
    source, spoil = GOOD[name]
    SETS[source](places / "set")
    build_source(source, spoil(places / "set") or places / "set", {}, places / "out" / "new")
    examples = list(open_dataset(places / "out" / "new").examples("test"))
    wanted = BOX.copy()
    if name.startswith("polygons"):
        wanted[3:9, :4] = True
    assert examples
    for example in examples:
        assert example.image.shape == (12, 20, 3)
        assert np.array_equal(example.mask, wanted)
    assert list((places / "tmp").iterdir()) == []
    assert [path.name for path in (places / "out").iterdir()] == ["new"]
