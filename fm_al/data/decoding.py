"""Decodes image files by Pillow."""

from __future__ import annotations

import functools
import io
import logging
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import PIL
from PIL import ExifTags, Image, UnidentifiedImageError, features

from fm_al.data.base import escaped

logger = logging.getLogger(__name__)

DECODING = 2  # raise it when decoding changes, so that cached images are decoded again
# Formats that Pillow recognises by the first bytes and decodes without other programs.
FORMATS = ("AVIF", "BMP", "DIB", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "QOI", "TIFF", "WEBP")
MAX_LISTED_WARNINGS = 5
MAX_PIXELS = 178_956_970  # pixels; Pillow's own limit
TURNS = {  # by EXIF orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
LIBRARIES = (*features.codecs, "avif", "libjpeg_turbo", "webp", "zlib_ng")


class UndecodableError(ValueError):
    """A file cannot be decoded; the message says why."""


@functools.cache
def _formats() -> tuple[str, ...]:
    """The formats that this build of Pillow reads."""
    Image.init()
    return tuple(each for each in FORMATS if each in Image.OPEN)


@functools.cache
def extensions() -> tuple[str, ...]:
    """The extensions of the files that are read, in lower case, with their dot."""
    registered = Image.registered_extensions().items()
    return tuple(sorted(name for name, format in registered if format in _formats()))


def decoders() -> dict[str, str | None]:
    """The versions of the decoders. Pixels depend on them."""
    return {"decoding": str(DECODING), "pillow": PIL.__version__} | {
        name: features.version(name) for name in LIBRARIES
    }


@contextmanager
def pillow_warnings_logged() -> Iterator[None]:
    """Collect Pillow's warnings and log them in one line at the end.

    Pillow's own limit of pixels is off meanwhile, because `decoded` checks it. Both settings are
    those of the whole process.
    """
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("ignore")
            warnings.simplefilter("always", UserWarning)
            yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit
    counted = Counter(" ".join(str(each.message).split()) for each in caught)
    if counted:
        listed = [
            f"{message} ({n} times)" for message, n in counted.most_common(MAX_LISTED_WARNINGS)
        ]
        if len(counted) > MAX_LISTED_WARNINGS:
            listed.append(f"and {len(counted) - MAX_LISTED_WARNINGS} others")
        logger.warning("warnings while images were decoded: %s", "; ".join(listed))


def decoded(content: bytes, size: int, channels: int) -> np.ndarray:
    """Decode an image, turn it upright, blend transparency on white, and resize it.

    The EXIF orientation is applied; damaged EXIF data give a warning. Of an animation or several
    pages the first picture is taken. Colour images with 16 bits per channel keep the upper 8.
    Colour profiles are ignored. Resizing is bilinear and does not keep proportions.

    Args:
        content: The file's bytes.
        size: Height and width of the result, in pixels.
        channels: 1 for grey, 3 for RGB.

    Returns:
        uint8 (channels, size, size).

    Raises:
        UndecodableError: If the file is damaged or not in one of `FORMATS`, if it has more than
            `MAX_PIXELS` pixels, or if it has a single channel of more than 8 bits, whose range is
            unknown.
    """
    try:
        with Image.open(io.BytesIO(content), formats=_formats()) as opened:
            width, height = opened.size
            if width * height > MAX_PIXELS:
                raise UndecodableError(
                    f"{width} x {height} pixels, above the limit of {MAX_PIXELS:,}"
                )
            if opened.mode.startswith(("I", "F")):
                raise UndecodableError(f"more than 8 bits a pixel, mode {opened.mode}")
            image = _on_white(_upright(opened)).convert("L" if channels == 1 else "RGB")
            image = image.resize((size, size), Image.Resampling.BILINEAR)
            return np.asarray(image).reshape(size, size, -1).transpose(2, 0, 1)
    except (UndecodableError, MemoryError):
        raise
    except UnidentifiedImageError:
        reason = "not an image, or in a format that is not supported" if content else "empty"
        raise UndecodableError(reason) from None
    except Exception as error:  # each of Pillow's decoders fails in its own way
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UndecodableError(escaped(reason)) from error


def _upright(image: Image.Image) -> Image.Image:
    """Like `ImageOps.exif_transpose`, which fails if it cannot write the rest of the EXIF data."""
    image.load()  # some formats read their EXIF data only then
    try:
        turn = TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # as above
        warnings.warn("damaged EXIF data; the image is taken as it is stored", stacklevel=2)
        return image
    return image if turn is None else image.transpose(turn)


def _on_white(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image
    if image.mode == "La":  # premultiplied; Pillow converts it to LA only
        image = image.convert("LA")
    white = Image.new("RGBA", image.size, "white")
    white.alpha_composite(image.convert("RGBA"))
    return white
