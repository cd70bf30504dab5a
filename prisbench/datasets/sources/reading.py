"""Files of other people's sets to arrays and values, or one line saying which file and record cannot be read, and why.

Knows: paths that a set's own files name, JSON and YAML of unknown origin, photos, masks as PNG, polygons, run lengths.
Does not know: any set's layout, tables.

Nothing here trusts what it reads.  A path stays inside its folder; a size is looked at before its bytes are; nothing is
repaired in silence.  ``where`` names the record in errors, like ``instances.json: annotation 12``; "" when the file
says enough.  Images and masks are ``h w``.
"""

from __future__ import annotations

import io
import json
import math
import os
import re
import reprlib
import stat
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import yaml
from jaxtyping import Bool, Int, UInt8
from PIL import Image, ImageOps, UnidentifiedImageError
from pycocotools import mask as coco

from prisbench.errors import DataError
from prisbench.images.masks import from_rle
from prisbench.images.photos import decode_photo
from prisbench.runtime.files import as_stored, cannot_read, read_bytes

MOST_IMAGE_BYTES = 2**28
"""A photo or mask above 256 MiB is none: the largest image that is opened has 268 MB of raw pixels."""

MOST_JSON_BYTES = 2**30
"""1 GiB: COCO's largest file has 450 MB.  Parsed it takes several times as much memory."""

MOST_YAML_BYTES = 2**20
"""1 MiB: YAML is written by hand here."""

MOST_OUTLINE = 4_000_000
"""Pixels around one region.  COCO's rasteriser takes 40 bytes for each, and dies when it gets none."""

MOST_YAML_DEPTH = 50

_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_DRIVE = re.compile(r"[A-Za-z]:")
_ORIENTATION, _GPS, _OWNER, _SERIAL = 0x0112, 0x8825, 0xA430, 0xA431
_EXIF_IFD = 0x8769


class ImageFile(NamedTuple):
    """A photo and, when it can be shown as it is, the file it came from."""

    pixels: UInt8[np.ndarray, "h w 3"]
    file: bytes | None


class PngFile(NamedTuple):
    """A decoded PNG, upright; its bits a channel; and the EXIF orientation by which it was turned, 1 for none."""

    image: Image.Image
    bits: int
    turned: int


# --- paths ----------------------------------------------------------------------------------------------------------


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


def listing(folder: Path, suffixes: Collection[str] | None = None, where: str = "") -> list[Path]:
    """The files of a folder, by name; those with one of ``suffixes`` (small letters, with the dot) when given.

    Hidden files and folders inside are left alone.  Raises DataError when the folder cannot be read, when one of the
    files is a link that leaves the folder or leads nowhere, is no plain file, or has a control character in its name.
    """
    return [path for path in _entries(folder, where, suffixes) if not path.is_dir()]


def folders(folder: Path, where: str = "") -> list[Path]:
    """The folders of a folder, by name, but for hidden ones.  Raises DataError as ``listing``."""
    return [path for path in _entries(folder, where) if path.is_dir()]


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


# --- values ---------------------------------------------------------------------------------------------------------


def json_file(path: Path, most_bytes: int = MOST_JSON_BYTES) -> Any:
    """The value in a JSON file, UTF-8 with or without a byte order mark.

    Raises DataError naming the file when it is missing, larger than ``most_bytes``, not UTF-8, not JSON, or nested too
    deep to be read (some 1,000).  NaN and Infinity are let through: whoever uses a number looks at it.
    """
    text = text_file(path, most_bytes)
    try:
        return json.loads(text)
    except RecursionError:
        raise DataError(f"{path} is nested too deep to be read; no set needs that") from None
    except ValueError as error:
        raise DataError(f"{path} is not JSON ({_one_line(error).split(';')[0]}); it was cut short or edited") from None


def yaml_file(path: Path, most_bytes: int = MOST_YAML_BYTES) -> Any:
    """The plain value in a YAML file: no tags that make objects, no aliases (a few of them can unfold to gigabytes).

    Raises DataError as ``json_file``.
    """
    text = text_file(path, most_bytes)
    try:
        depth = 0
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            line = event.start_mark.line + 1
            if isinstance(event, yaml.AliasEvent):
                raise DataError(f"{path}, line {line}: *{event.anchor} stands for another value; write the value out")
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > MOST_YAML_DEPTH:
                raise DataError(f"{path}, line {line} is nested too deep to be read ({MOST_YAML_DEPTH} are the most)")
        return yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise DataError(f"{path}, line {line} is not plain YAML ({error.problem})") from None
    except (yaml.YAMLError, ValueError) as error:
        raise DataError(f"{path} is not YAML that can be read ({_one_line(error)})") from None


def text_file(path: Path, most_bytes: int) -> str:
    """The text in a UTF-8 file, with or without a byte order mark.

    Raises DataError naming the file when it is missing, empty, larger than ``most_bytes`` or not UTF-8.
    """
    try:
        return _bytes(path, most_bytes).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text (byte {error.start}); save it as UTF-8") from None


def _bytes(path: Path, most_bytes: int, where: str = "") -> bytes:
    """The content of a plain file that is not too large."""
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


# --- images ---------------------------------------------------------------------------------------------------------


def image_file(path: Path, where: str = "") -> ImageFile:
    """The photo in a file, as ``photos.decode_photo`` gives it, and the file when it can be published as it is.

    As it is: a JPEG, PNG or WebP of one picture, 8 bits, RGB, grey or palette, upright, opaque, no heavier than its
    pixels, and without the place it was taken at, its owner's name or the camera's number in it.  What the file shows
    is then exactly ``pixels``; otherwise ``file`` is None.  What the file is, its content says, not its suffix.

    Raises DataError and MissingExtraError as ``photos.load_photo``, naming ``where`` and the file.
    """
    name = _name(path, where)
    data = _bytes(path, MOST_IMAGE_BYTES, where)
    pixels = decode_photo(data, name)
    return ImageFile(pixels, data if _as_it_is(data, pixels.nbytes, name) else None)


def label_file(
    path: Path, size_hw: tuple[int, int] | None, where: str = "", known: Collection[int] | None = None
) -> Int[np.ndarray, "h w"]:
    """The label of every pixel of a PNG: palette indices, or grey of 1, 2, 4, 8 or 16 bits, with or without alpha.

    ``size_hw`` is the size of the photo it belongs to, None for any; ``known`` the labels there can be, None for any.
    Raises DataError naming ``where`` and the file when it is missing, damaged, no PNG, in colour, of another size, too
    large to open, or has a label that is not known.
    """
    name = _name(path, where)
    image, bits, _ = png_file(path, where)
    labels = grey_or_index(image, bits, name)
    check_size((labels.shape[0], labels.shape[1]), size_hw, name)
    if known is not None:
        check_labels(labels, known, name)
    return labels


def check_labels(labels: Int[np.ndarray, "h w"], known: Collection[int], name: str) -> None:
    """Raises DataError, calling the file ``name``, for labels that are not among those there can be."""
    counts = np.bincount(labels.ravel())
    strange = [int(n) for n in np.flatnonzero(counts) if int(n) not in known]
    if strange:
        more = f" and {len(strange) - 1} more such labels" if len(strange) > 1 else ""
        raise DataError(
            f"{name} has the label {strange[0]} ({counts[strange[0]]} px){more}; there are only "
            f"{', '.join(map(str, sorted(known)))}"
        )


def colours_file(path: Path, size_hw: tuple[int, int] | None, where: str = "") -> UInt8[np.ndarray, "h w 3"]:
    """The colour of every pixel of a PNG, alpha ignored; a palette's colours where it has one.

    Raises DataError as ``label_file``, and for 16 bits, of which half would be lost.
    """
    name = _name(path, where)
    image, bits, _ = png_file(path, where)
    if bits == 16:
        raise DataError(f"{name} is {kind_of_png(image, bits)}; save it with 8 bits")
    if image.mode == "P":
        image.info.pop("transparency", None)
    colours = np.array(image.convert("RGBA" if image.mode in ("LA", "RGBA") else "RGB"))[:, :, :3]
    check_size((colours.shape[0], colours.shape[1]), size_hw, name)
    return np.ascontiguousarray(colours)


def grey_or_index(image: Image.Image, bits: int, name: str) -> Int[np.ndarray, "h w"]:
    """The numbers in a PNG of one channel.  Raises DataError, calling it ``name``, when it is in colour."""
    if image.mode not in ("1", "L", "P", "I", "I;16", "LA") or (image.mode == "LA" and bits != 8):
        raise DataError(f"{name} is {kind_of_png(image, bits)}; labels are palette indices or grey levels")
    labels = np.array(image.getchannel(0) if image.mode == "LA" else image).astype(np.int32)
    if image.mode == "L" and bits in (2, 4):
        labels //= 255 // (2**bits - 1)  # Pillow stretches them to 0..255
    return labels


def png_file(path: Path, where: str = "") -> PngFile:
    """A decoded PNG.  Raises DataError naming ``where`` and the file when it is missing, damaged or no PNG."""
    return png_data(_bytes(path, MOST_IMAGE_BYTES, where), _name(path, where))


def png_data(data: bytes, name: str) -> PngFile:
    """The PNG with this content.  Raises DataError as ``png_file``, calling it ``name``."""
    if not data.startswith(b"\x89PNG\r\n\x1a\n"):
        what = "a JPEG, which changes labels" if data.startswith(b"\xff\xd8") else "no PNG"
        raise DataError(f"{name} is {what}; masks are PNG files")
    w, h = (int.from_bytes(data[at : at + 4]) for at in (16, 20))
    with _decoding(name):
        if h * w > (Image.MAX_IMAGE_PIXELS or h * w):
            raise Image.DecompressionBombError  # up to twice the limit, Pillow only warns
        image = Image.open(io.BytesIO(data), formats=["PNG"])
        orientation = image.getexif().get(_ORIENTATION, 1)
        turned = ImageOps.exif_transpose(image)
    if getattr(image, "n_frames", 1) > 1:
        raise DataError(f"{name} is an animation; save the one picture that is meant")
    return PngFile(turned, data[24], orientation if orientation in range(2, 9) else 1)


@contextmanager
def _decoding(name: str) -> Iterator[None]:
    """Whatever Pillow raises becomes a DataError."""
    try:
        yield
    except Image.DecompressionBombError:
        limit = (Image.MAX_IMAGE_PIXELS or 0) // 1_000_000
        raise DataError(f"{name} has more than {limit} million pixels; make it smaller first") from None
    except UnidentifiedImageError:
        raise DataError(f"{name} is damaged (its header cannot be read); copy it again") from None
    except Exception as error:  # Pillow's decoders raise whatever a malformed file leads them to
        raise DataError(f"{name} is damaged or cut short ({_one_line(error)}); copy it again") from None


def _as_it_is(data: bytes, most_bytes: int, name: str) -> bool:
    if len(data) > most_bytes + 2**16 or b"GPSLatitude" in data:  # the latter in XMP
        return False
    if not data.startswith((b"\xff\xd8", b"\x89PNG", b"RIFF")):
        return False
    with _decoding(name), Image.open(io.BytesIO(data), formats=["JPEG", "PNG", "WEBP"]) as image:
        exif = image.getexif()
        personal = _GPS in exif or any(tag in (*exif, *exif.get_ifd(_EXIF_IFD)) for tag in (_OWNER, _SERIAL))
        return (
            image.mode in ("1", "L", "P", "RGB")
            and not (image.format == "PNG" and data[24] == 16)
            and not image.has_transparency_data
            and getattr(image, "n_frames", 1) == 1
            and exif.get(_ORIENTATION, 1) == 1
            and not personal
        )


def check_size(
    found_hw: tuple[int, int],
    wanted_hw: tuple[int, int] | None,
    name: str,
    turned: str = "is the photo turned by its EXIF orientation, and the mask not?",
) -> None:
    """Raises DataError when a picture has another size than its image, None for any.

    ``turned``: what to ask and to say where height and width are exchanged.
    """
    if wanted_hw is None or found_hw == wanted_hw:
        return
    (h, w), (height, width) = found_hw, wanted_hw
    why = turned if (w, h) == wanted_hw else "save it at the size of its image, resized by nearest neighbour"
    raise DataError(f"{name} is {h} x {w}, its image {height} x {width} (height x width); {why}")


def kind_of_png(image: Image.Image, bits: int) -> str:
    """What a PNG is, for a message."""
    return f"a PNG in {'colour' if image.mode.startswith('RGB') else 'grey'}, mode {image.mode} of {bits} bits"


# --- regions --------------------------------------------------------------------------------------------------------


def polygons(parts: Any, size_hw: tuple[int, int], where: str) -> Bool[np.ndarray, "h w"]:
    """The pixels of a region given as COCO gives it: a list of polygons, each ``[x1, y1, x2, y2, ...]`` in pixels.

    What lies outside the image is cut off.  All false when a region is too thin for COCO's rasteriser.

    Raises DataError naming ``where`` when it is no list of such lists, a polygon has under three points, an odd count
    of numbers, one that is not finite, or a corner further outside than the image is large, and when the whole region
    lies outside of the image.
    """
    h, w = size_hw
    if not isinstance(parts, list) or not parts or not all(isinstance(part, list) for part in parts):
        raise DataError(f"{where}: {reprlib.repr(parts)} is no list of polygons ([x1, y1, x2, y2, ...] each)")
    outline, touches = 0.0, False
    for part in parts:
        corners = _corners(part, where)
        x, y = corners[:, 0], corners[:, 1]
        far = max(h, w)
        wrong = (x < -far) | (x > w + far) | (y < -far) | (y > h + far)
        if wrong.any():
            n = int(np.argmax(wrong))
            raise DataError(
                f"{where}: the corner ({x[n]:g}, {y[n]:g}) is far outside of the image of {h} x {w} (h x w)"
            )
        touches |= bool(x.min() < w and x.max() > 0 and y.min() < h and y.max() > 0)
        outline += float(np.abs(corners - np.roll(corners, -1, axis=0)).max(axis=1).sum())
    if not touches:
        raise DataError(f"{where}: its polygons lie outside of the image of {h} x {w} (h x w)")
    if outline > MOST_OUTLINE:
        raise DataError(
            f"{where}: its polygons are {outline:.0f} pixels long; {MOST_OUTLINE} are the most that is drawn"
        )
    merged = coco.merge(coco.frPyObjects([[float(n) for n in part] for part in parts], h, w))
    return np.asarray(coco.decode(merged)).astype(bool)


def rle(value: Any, size_hw: tuple[int, int], where: str) -> Bool[np.ndarray, "h w"]:
    """The mask behind a COCO run-length record ``{"size": [h, w], "counts": ...}``: counts as a list, or compressed.

    Raises DataError naming ``where`` when the record has another form, its size is not the image's, or its runs do not
    fill that size exactly.
    """
    h, w = size_hw
    if not isinstance(value, dict) or not isinstance(value.get("counts"), list | str | bytes):
        raise DataError(f"{where}: {reprlib.repr(value)} is no run-length record {{'size': [h, w], 'counts': ...}}")
    if not isinstance(value.get("size"), list | tuple) or list(value["size"]) != [h, w]:
        raise DataError(f"{where}: run lengths of size {reprlib.repr(value.get('size'))}, its image is {[h, w]} (h, w)")
    counts = value["counts"]
    if isinstance(counts, list):
        counts = [int(n) if isinstance(n, float) and n.is_integer() else n for n in counts]
        if not all(type(n) is int and 0 <= n <= h * w for n in counts) or sum(counts) != h * w:
            raise DataError(f"{where}: its run lengths do not add up to its size {h} x {w}; the record is corrupt")
        flat = np.repeat(np.arange(len(counts)) % 2 == 1, np.array(counts, np.int64))
        return np.ascontiguousarray(flat.reshape(w, h).T)
    text = counts.decode("latin-1") if isinstance(counts, bytes) else counts
    if text.startswith(("b'", 'b"')):
        raise DataError(f"{where}: its counts are Python's way to print bytes (b'...'); write counts.decode() instead")
    return from_rle({"size": [h, w], "counts": text}, where)


def _corners(part: list[Any], where: str) -> np.ndarray:
    """``n 2`` corners, x y."""
    if not all(type(n) in (int, float) for n in part):
        odd = next(n for n in part if type(n) not in (int, float))
        raise DataError(f"{where}: a polygon holds {reprlib.repr(odd)}, which is no number")
    if len(part) % 2:
        raise DataError(f"{where}: a polygon of {len(part)} numbers; they come in pairs, x and y")
    if len(part) < 6:
        raise DataError(f"{where}: a polygon of {len(part) // 2} points; a region has at least 3")
    try:
        finite = all(math.isfinite(n) for n in part)
    except OverflowError:  # a whole number beyond what a float holds
        finite = False
    if not finite:
        raise DataError(f"{where}: a polygon holds a number that is not finite")
    return np.array(part, np.float64).reshape(-1, 2)


def _name(path: Path, where: str) -> str:
    return f"{where}: {path}" if where else str(path)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _size(n: int) -> str:
    return f"{n / 2**30:.1f} GiB" if n >= 2**30 else f"{n / 2**20:.1f} MiB" if n >= 2**20 else f"{n} bytes"
