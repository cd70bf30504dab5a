"""Photos to arrays: every file a camera, phone or editor writes becomes upright 8-bit RGB, or one line saying why not.

Knows: files and folders of photos, their content hash, their size, and what looks like a mask instead.  Does not know:
subjects, what masks say, datasets.

Images are ``h w 3`` uint8 arrays; functions take any that ``arrays.as_image`` takes.  Pillow speaks
``(width, height)``; this module turns it round.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import math
import os
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

from prisbench.errors import DataError, MissingExtraError
from prisbench.images.arrays import ImageLike, as_image, to_rgb
from prisbench.runtime.files import cannot_read, read_bytes, stem_of

FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM", "AVIF", "JPEG2000")
"""What is opened, by Pillow's names.  Not all that Pillow can: EPS, for one, would run another program."""

SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".webp", ".tif", ".tiff", ".bmp"}
    | {".gif", ".ppm", ".pgm", ".pnm", ".avif", ".jp2", ".heic", ".heif"}
)
"""What counts as a photo in a folder, in any case."""

MOST_PHOTOS = 30
"""More photos of one subject than this are taken for a mistyped folder."""

SMALLEST_SIDE = 32
"""Pixels; a photo whose shorter side is below shows too little to learn from."""

_ORIENTATION = 0x0112
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")


class Photo(NamedTuple):
    """A photo of a folder: its file name and its pixels."""

    name: str
    image: UInt8[np.ndarray, "h w 3"]


class PhotoFile(NamedTuple):
    """A photo's file; ``beside``: the PNG of the same stem in the same folder, which has to be its mask."""

    path: Path
    beside: Path | None


def load_photo(path: str | os.PathLike[str]) -> UInt8[np.ndarray, "h w 3"]:
    """The photo in a file; what is done to it: see ``decode_photo``.

    Raises DataError naming the file when it is missing, empty, cut short, no photo, or too large to open, and
    MissingExtraError for HEIC without pillow-heif.
    """
    return decode_photo(read_bytes(path), str(path))


def load_photos(folder: str | os.PathLike[str], check_beside: bool = True) -> list[Photo]:
    """The photos of one subject, by file name; what ``photo_files`` finds.  Masks are left out: see ``own_photos``.

    One bad photo fails the whole folder: to go on without it would change what is learned.

    Raises DataError as ``photo_files``, for a photo that cannot be read, that looks like a mask, or whose shorter side
    is under ``SMALLEST_SIDE`` pixels, and, with ``check_beside``, for a PNG beside a photo of its stem that does not
    look like a mask.
    """
    files = photo_files(folder)
    photos = [subject_photo(file.path) for file in files]
    for file, photo in zip(files, photos, strict=True):
        if check_beside and file.beside is not None and not looks_like_mask(load_photo(file.beside)):
            raise DataError(
                f"{file.beside} has the name of {photo.name} but is not black and white, as masks are; save it so, or "
                "rename it if it is another photo"
            )
    return photos


def subject_photo(path: Path) -> Photo:
    """A photo of a subject.  Raises DataError as ``load_photos``."""
    photo = Photo(path.name, load_photo(path))
    h, w = photo.image.shape[:2]
    if min(h, w) < SMALLEST_SIDE:
        raise DataError(f"{path} is {w} x {h} pixels; the shorter side must have at least {SMALLEST_SIDE}")
    if looks_like_mask(photo.image):
        raise DataError(
            f"{path} looks like a mask (two colours at most, or black and white), not like a photo; put masks "
            f"into {path.parent / 'masks'}, each a PNG with its photo's name"
        )
    return photo


def photo_files(folder: str | os.PathLike[str]) -> list[PhotoFile]:
    """The photos in a folder by file name, none of them opened.

    Photos are the files with one of ``SUFFIXES``; hidden files, other files and folders inside are left alone.  A PNG
    that has the stem of a photo in another format lies beside it.

    Raises DataError for a folder that is missing, without photos or with more than ``MOST_PHOTOS``, and for a PNG that
    lies beside two photos.
    """
    try:
        entries = sorted(Path(folder).iterdir(), key=lambda entry: entry.name)
    except NotADirectoryError:
        raise DataError(f"{folder} is a file; a folder of photos is wanted") from None
    except OSError as error:
        raise DataError(cannot_read(folder, error)) from None
    files = [entry for entry in entries if entry.suffix.lower() in SUFFIXES and not entry.name.startswith(".")]
    files = [entry for entry in files if not entry.is_dir()]
    if not files and (Path(folder) / "photos").is_dir():
        raise DataError(f"no photos in {folder} itself; give the folder {Path(folder) / 'photos'}")
    if not files:
        deeper = {path: n for path, n in photos_below(Path(folder)).items() if not path.name.endswith("masks")}
        there = f"; {sum(deeper.values())} are in folders inside, give {next(iter(deeper))}" if deeper else ""
        raise DataError(
            f"no photos in {folder} ({len(entries)} other files){there or '; put 3 to 6 .jpg or .png files there'}"
        )
    of_stem: defaultdict[str, list[Path]] = defaultdict(list)
    for file in files:
        of_stem[stem_of(file)].append(file)
    beside: dict[Path, Path] = {}
    for group in of_stem.values():
        pngs = [file for file in group if file.suffix.lower() == ".png"]
        if not 0 < len(pngs) < len(group):
            continue
        if len(group) > 2:
            raise DataError(
                f"{', '.join(file.name for file in group)} in {folder} have one name, so it is not clear what is whose "
                "mask; rename all but one photo and its mask"
            )
        (photo,) = (file for file in group if file not in pngs)
        beside[photo] = pngs[0]
    found = [PhotoFile(file, beside.get(file)) for file in files if file not in beside.values()]
    if len(found) > MOST_PHOTOS:
        raise DataError(f"{len(found)} photos in {folder}: at most {MOST_PHOTOS} of one subject; 3 to 6 are enough")
    return found


def photos_below(folder: Path) -> dict[Path, int]:
    """Folders inside of a folder, and so on, that have photos, and how many; hidden ones and links are left alone."""
    found: dict[Path, int] = {}
    for top, inner, names in os.walk(folder):
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        n = sum(Path(name).suffix.lower() in SUFFIXES and not name.startswith(".") for name in names)
        if n and Path(top) != folder:
            found[Path(top)] = n
    return found


def scene_files(given: Sequence[Path], say: Callable[[str], None] = lambda _: None) -> list[Path]:
    """The photos to search by what a user names: files as they are, of folders the photos in them, by name.

    A PNG with the stem of a photo in another format is that one's mask.  ``say`` is told what in a folder is not
    searched.  Raises DataError for what is not there, and for a folder without photos.
    """
    found: list[Path] = []
    for place in given:
        if not place.is_dir():
            if not place.exists():
                raise DataError(f"{place} does not exist")
            found.append(place)
            continue
        try:
            entries = sorted(entry for entry in place.iterdir() if not entry.name.startswith("."))
        except OSError as error:
            raise DataError(cannot_read(place, error)) from None
        files = [entry for entry in entries if entry.suffix.lower() in SUFFIXES and not entry.is_dir()]
        photos = {stem_of(file) for file in files if file.suffix.lower() != ".png"}
        inside = [file for file in files if file.suffix.lower() != ".png" or stem_of(file) not in photos]
        if not inside:
            raise DataError(
                f"{place} is a folder; a file is wanted, or a folder with photos: this one has none "
                f"({len(entries)} other files and folders)"
            )
        if len(inside) < len(entries):
            say(f"{place}: {len(inside)} photos; {len(entries) - len(inside)} other files and folders are not searched")
        found += inside
    return found


def looks_like_mask(image: ImageLike) -> bool:
    """Whether a picture has at most two colours, or is grey with more of its darkest pixels, and more of its brightest,
    than of all between: a mask with soft edges.
    """
    image = as_image(image)
    h, w = image.shape[:2]
    some = image[:: 1 + h // 64, :: 1 + w // 64]  # what does not hold there does not hold
    if _grey(some) and _grey(image):
        counts = np.bincount(image[:, :, 0].ravel(), minlength=256)
        counts = counts[counts > 0]
        return len(counts) <= 2 or bool(counts[1:-1].sum() < min(counts[0], counts[-1]))
    return _two_colours(some) and _two_colours(image)


def _grey(image: UInt8[np.ndarray, "h w 3"]) -> bool:
    return bool((image == image[:, :, :1]).all())


def _two_colours(image: UInt8[np.ndarray, "h w 3"]) -> bool:
    others = image[(image != image[0, 0]).any(axis=2)]
    return len(others) == 0 or bool((others == others[0]).all())


def decode_photo(data: bytes, where: str) -> UInt8[np.ndarray, "h w 3"]:
    """The photo in ``data``, upright, as 8-bit RGB; ``where`` names it in errors.

    - Turned as its EXIF orientation says.
    - Transparency is composited over white, the paper colour: what an invisible pixel holds is chance.
    - Grey and palette images become RGB; 16-bit grey is scaled (65535 to 255), not clipped.
    - CMYK is converted by the plain formula.  Colour profiles are not applied.
    - Of an animation or a stack, the first image.

    Raises DataError and MissingExtraError as ``load_photo``.
    """
    with _opened(data, where) as image:
        image.load()
        return to_rgb(ImageOps.exif_transpose(image), where)


def orientation(data: bytes, where: str) -> int:
    """The EXIF orientation, 1 to 8, by which ``decode_photo`` turns the stored pixels of a photo; 1 for upright ones.

    1 for HEIC, whose pixels no program gives but turned.  Raises DataError as ``load_photo``.
    """
    if _is_heic(data):
        return 1
    with _opened(data, where) as image:  # not loaded yet: loading a TIFF turns it
        found = image.getexif().get(_ORIENTATION, 1)
    return found if found in range(2, 9) else 1


def turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """What lies on the stored pixels of a photo, ``h w`` or ``h w c``, as its EXIF orientation shows it."""
    rows = pixels[::-1] if orientation in (3, 4, 6, 7) else pixels
    both = rows[:, ::-1] if orientation in (2, 3, 7, 8) else rows
    return np.ascontiguousarray(both.swapaxes(0, 1) if orientation >= 5 else both)


@contextlib.contextmanager
def _opened(data: bytes, where: str) -> Iterator[Image.Image]:
    """The image in ``data``, not yet decoded.  What decoding raises inside becomes a DataError that names ``where``."""
    if not data:
        raise DataError(f"{where} is empty (0 bytes)")
    try:
        with warnings.catch_warnings():
            # Pillow only warns between one and two times its limit; a photo is either opened or refused.
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with _open(data, where) as image:
                if image.width * image.height > (Image.MAX_IMAGE_PIXELS or math.inf):  # threads share the filter above
                    raise Image.DecompressionBombError
                yield image
    except (DataError, MissingExtraError):
        raise
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        limit = (Image.MAX_IMAGE_PIXELS or 0) // 1_000_000
        raise DataError(f"{where} has more than {limit} million pixels; make it smaller first") from None
    except UnidentifiedImageError:
        raise DataError(f"{where} is not a photo that can be read; save it as JPEG or PNG") from None
    except Exception as error:  # Pillow's decoders raise whatever a malformed file leads them to
        why = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{where} is damaged or cut short ({why}); copy it again") from None


def encode_png(image: ImageLike) -> bytes:
    """A lossless PNG."""
    out = io.BytesIO()
    Image.fromarray(as_image(image)).save(out, format="PNG")
    return out.getvalue()


def pixels_sha256(image: ImageLike) -> str:
    """64 hexadecimal digits of the shape and the pixels, whatever file they came from."""
    image = as_image(image)
    h, w = image.shape[:2]
    digest = hashlib.sha256(f"{h} {w} 3\n".encode("ascii"))
    digest.update(image.tobytes())
    return digest.hexdigest()


def image_id(image: ImageLike) -> str:
    """The first 16 digits of ``pixels_sha256``: the name of a scene."""
    return pixels_sha256(image)[:16]


def resize_to(image: ImageLike, size_hw: tuple[int, int]) -> UInt8[np.ndarray, "h2 w2 3"]:
    """Another size, by Lanczos with its support widened when shrinking, so nothing aliases."""
    h, w = size_hw
    image = as_image(image)
    if image.shape[:2] == (h, w):
        return image
    return np.array(Image.fromarray(image).resize((w, h), Image.Resampling.LANCZOS))


def fit_within(image: ImageLike, long_side: int) -> UInt8[np.ndarray, "h2 w2 3"]:
    """The image with its longer side at most ``long_side``, the proportions kept; a smaller one is left as it is."""
    image = as_image(image)
    h, w = image.shape[:2]
    longer = max(h, w)
    if longer <= long_side:
        return image
    return resize_to(image, (max(1, round(h * long_side / longer)), max(1, round(w * long_side / longer))))


def _is_heic(data: bytes) -> bool:
    return data[4:8] == b"ftyp" and data[8:12] in _HEIC_BRANDS and b"avif" not in data[8:64]


def _open(data: bytes, where: str) -> Image.Image:
    """The image, not yet decoded."""
    if _is_heic(data):
        try:
            import pillow_heif
        except ImportError:
            raise MissingExtraError("pillow-heif", "heic", f"{where}: a HEIC photo") from None
        opened: Image.Image = pillow_heif.open_heif(io.BytesIO(data)).to_pillow()
        return opened
    Image.init()
    return Image.open(io.BytesIO(data), formats=[name for name in FORMATS if name in Image.OPEN])
