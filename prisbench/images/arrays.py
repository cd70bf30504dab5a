"""What callers give as pictures and masks becomes plain arrays, or one line says why not.

Images are ``h w 3`` uint8 arrays or Pillow images of any mode; masks are ``h w`` boolean arrays
or Pillow images of mode "1".  An array may be read-only, strided, reversed or in Fortran order: the
same pixels give the same result.  Values are never scaled here: whether 0.5 is grey or nearly
black, only the caller knows.

Knows: memory layouts, Pillow's modes.  Does not know: files, what is in a picture.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image, ImageOps

from prisbench.errors import DataError

ImageLike: TypeAlias = np.ndarray | Image.Image
"""What ``as_image`` takes."""

MaskLike: TypeAlias = np.ndarray | Image.Image
"""What ``as_mask`` takes."""

if TYPE_CHECKING:
    MadeImage: TypeAlias = UInt8[np.ndarray, "h w 3"]
    MadeMask: TypeAlias = Bool[np.ndarray, "h w"]
else:  # a dataclass is given these, and makes those of them
    MadeImage, MadeMask = ImageLike, MaskLike


def as_image(image: Any, name: str = "the image") -> UInt8[np.ndarray, "h w 3"]:
    """The pixels of an image, in C order and writable; the caller's own array where it is so, else a copy.

    A Pillow image is turned as its EXIF orientation says and becomes RGB as a photo's file does (``to_rgb``).

    Raises DataError, beginning with ``name``, for anything else than a uint8 array of ``h w 3`` with at least one pixel
    or a Pillow image; it names the cure.
    """
    if isinstance(image, Image.Image):
        try:
            return to_rgb(ImageOps.exif_transpose(image), name)
        except (OSError, ValueError) as error:  # its file may be cut short, its mode have no way to RGB
            raise DataError(f"{name} cannot be turned to RGB ({' '.join(str(error).split())})") from None
    if not isinstance(image, np.ndarray):
        kind = f"{type(image).__module__}.{type(image).__qualname__}".removeprefix("builtins.")
        raise DataError(f"{name} is of type {kind}; give a NumPy array (uint8, h w 3) or a Pillow image")
    shape = " x ".join(map(str, image.shape)) or "no axes"
    if image.dtype != np.uint8:
        raise DataError(f"{name} is an array of {image.dtype} ({shape}); images are uint8, 0 to 255: {_scaled(image)}")
    if image.ndim != 3 or image.shape[2] != 3:
        raise DataError(f"{name} is an array of {shape}; images are h x w x 3: {_reshaped(image)}")
    if not image.size:
        raise DataError(f"{name} is an array of {shape}, without a pixel; look at how it was cropped")
    return np.require(image, requirements=["C_CONTIGUOUS", "WRITEABLE", "ENSUREARRAY"])


def as_mask(mask: Any, name: str = "the mask") -> Bool[np.ndarray, "h w"]:
    """A mask in C order and writable; the caller's own array where it is so, else a copy.

    Raises DataError, beginning with ``name``, for anything else than a boolean array of ``h w`` or a Pillow image of
    mode "1"; it names the cure.
    """
    if isinstance(mask, Image.Image):
        if mask.mode != "1":
            raise DataError(
                f"{name} is a Pillow image of mode {mask.mode!r}; masks are boolean: give numpy.asarray(image) > 0, or "
                "compare with the value that the thing has"
            )
        mask = np.array(mask).view(np.uint8) > 0  # Pillow's true is the byte 255, NumPy's is 1
    if not isinstance(mask, np.ndarray):
        kind = f"{type(mask).__module__}.{type(mask).__qualname__}".removeprefix("builtins.")
        raise DataError(f"{name} is of type {kind}; give a boolean NumPy array of h x w")
    shape = " x ".join(map(str, mask.shape)) or "no axes"
    if mask.dtype != np.bool_:
        raise DataError(
            f"{name} is an array of {mask.dtype} ({shape}); masks are boolean: give mask > 0, or mask > 0.5 where it "
            "holds probabilities"
        )
    if mask.ndim != 2:
        raise DataError(f"{name} is an array of {shape}; masks are h x w: give one mask, without further axes")
    mask = np.require(mask, requirements=["C_CONTIGUOUS", "WRITEABLE", "ENSUREARRAY"])
    bytes_ = mask.view(np.uint8)
    return bytes_ > 0 if bytes_.size and bytes_.max() > 1 else mask


def to_rgb(image: Image.Image, name: str) -> UInt8[np.ndarray, "h w 3"]:
    """Any of Pillow's modes as RGB: transparency over white, 16-bit grey scaled (65535 to 255), CMYK by the plain
    formula, palettes looked up.

    Raises DataError, beginning with ``name``, for floating-point values and for integers outside 0..65535.
    """
    if image.mode in ("I", "I;16", "I;16B", "I;16L", "I;16N"):
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise DataError(f"{name} has {image.mode!r} values outside 0..65535; save it as 8-bit PNG")
        grey = ((values * 255 + 32767) // 65535).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.mode == "F":
        raise DataError(f"{name} has floating-point values; save it as 8-bit PNG")
    if image.has_transparency_data:
        top = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", top.size, "white"), top)
    return np.array(image.convert("RGB"))


def _scaled(image: np.ndarray) -> str:
    """How an array of other numbers becomes uint8."""
    if image.dtype == np.bool_:
        return "give numpy.uint8(255) * image"
    if np.issubdtype(image.dtype, np.floating):
        return "give (image * 255).round().astype(numpy.uint8) where it runs from 0 to 1"
    if image.dtype == np.uint16:
        return "give (image // 257).astype(numpy.uint8) where it runs to 65535"
    return "give image.astype(numpy.uint8) where it runs from 0 to 255"


def _reshaped(image: np.ndarray) -> str:
    """How an array of another shape becomes one of h w 3."""
    if image.ndim == 2:
        return "give numpy.stack([image] * 3, axis=2) where it is grey"
    if image.ndim == 3 and image.shape[2] == 1:
        return "give numpy.repeat(image, 3, axis=2) where it is grey"
    if image.ndim == 3 and image.shape[2] == 4:
        return "give PIL.Image.fromarray(image), which is laid over white, or image[:, :, :3]"
    if image.ndim == 3 and image.shape[0] == 3:
        return "give image.transpose(1, 2, 0)"
    if image.ndim == 4:
        return "give one image at a time"
    return "give an array of height, width and the three colours"
