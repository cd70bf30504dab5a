"""Photos and label images of other people's sets to arrays, or one line saying which file cannot be read, and why.

Knows: photos that may be published as they are, PNG files of labels, sizes.  Does not know: which labels mean what;
binary masks (``mask_files``).

Images and masks are ``h w``.
"""

from __future__ import annotations

import io
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int, UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

from prisbench.datasets.sources.reading.files import file_bytes, in_one_line, named
from prisbench.errors import DataError
from prisbench.images.photos import decode_photo

MOST_IMAGE_BYTES = 2**28
"""A photo or mask above 256 MiB is none: the largest image that is opened has 268 MB of raw pixels."""

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


def image_file(path: Path, where: str = "") -> ImageFile:
    """The photo in a file, as ``photos.decode_photo`` gives it, and the file when it can be published as it is.

    As it is: a JPEG, PNG or WebP of one picture, 8 bits, RGB, grey or palette, upright, opaque, no heavier than its
    pixels, and without the place it was taken at, its owner's name or the camera's number in it.  What the file shows
    is then exactly ``pixels``; otherwise ``file`` is None.  What the file is, its content says, not its suffix.

    Raises DataError and MissingExtraError as ``photos.load_photo``, naming ``where`` and the file.
    """
    name = named(path, where)
    data = file_bytes(path, MOST_IMAGE_BYTES, where)
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
    name = named(path, where)
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
    name = named(path, where)
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
    return png_data(file_bytes(path, MOST_IMAGE_BYTES, where), named(path, where))


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
        raise DataError(f"{name} is damaged or cut short ({in_one_line(error)}); copy it again") from None


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
