"""From an image file's bytes to pixels, by Pillow."""

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

from fm_al.data.base import shown

logger = logging.getLogger(__name__)

DECODING = 2  # raise it when decoding changes, so that what is cached is decoded again
# Formats of one picture that Pillow decodes by itself and knows by their first bytes.
FORMATS = ("AVIF", "BMP", "DIB", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "QOI", "TIFF", "WEBP")
MOST_WARNINGS = 5  # that are listed
LARGEST = 178_956_970  # pixels; Pillow's own limit
TURNS = {  # by the EXIF orientation
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
    """A file's bytes are no image that can be decoded; says why."""


@functools.cache
def _formats() -> tuple[str, ...]:
    """Of `FORMATS`, those of this build of Pillow."""
    Image.init()
    return tuple(each for each in FORMATS if each in Image.OPEN)


@functools.cache
def extensions() -> tuple[str, ...]:
    """Of the files that are read, in lower case, with their dot."""
    registered = Image.registered_extensions().items()
    return tuple(sorted(name for name, format in registered if format in _formats()))


def decoders() -> dict[str, str | None]:
    """The versions of what decodes, which pixels depend on."""
    return {"decoding": str(DECODING), "pillow": PIL.__version__} | {
        name: features.version(name) for name in LIBRARIES
    }


@contextmanager
def pillow_in_our_words() -> Iterator[None]:
    """For as long as images are decoded: Pillow's limit of pixels, which `decoded` checks, is off,
    and its warnings are logged in the end, in one line. Both are the whole process's."""
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("ignore")
            warnings.simplefilter("always", UserWarning)
            yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit
    counted = Counter(" ".join(str(each.message).split()) for each in said)
    if counted:
        listed = [f"{message} ({n} times)" for message, n in counted.most_common(MOST_WARNINGS)]
        if len(counted) > MOST_WARNINGS:
            listed.append(f"and {len(counted) - MOST_WARNINGS} others")
        logger.warning("warnings while images were decoded: %s", "; ".join(listed))


def decoded(content: bytes, size: int, channels: int) -> np.ndarray:
    """Decode, turn upright, flatten and resize an image.

    Its EXIF orientation is applied; damaged EXIF data are a warning. Transparency, of whatever
    kind, is blended on white. Of an animation or a file of several pages the first picture is
    taken. 16 bits a channel of colour images become their upper 8; colour profiles are ignored.
    Resizing is bilinear, whatever the proportions.

    Args:
        content: the file's bytes.
        size: height and width of the result, in pixels.
        channels: 1 for grey, 3 for RGB.

    Returns:
        uint8 (channels, size, size).

    Raises:
        UndecodableError: for bytes that are no image in one of `FORMATS`, a damaged one, one of
            more than `LARGEST` pixels, or one of a single channel with more than 8 bits, whose
            range is not known.
    """
    try:
        with Image.open(io.BytesIO(content), formats=_formats()) as opened:
            width, height = opened.size
            if width * height > LARGEST:
                raise UndecodableError(f"{width} x {height} pixels, above the limit of {LARGEST:,}")
            if opened.mode.startswith(("I", "F")):
                raise UndecodableError(f"more than 8 bits a pixel, mode {opened.mode}")
            image = _on_white(_upright(opened)).convert("L" if channels == 1 else "RGB")
            image = image.resize((size, size), Image.Resampling.BILINEAR)
            return np.asarray(image).reshape(size, size, -1).transpose(2, 0, 1)
    except (UndecodableError, MemoryError):
        raise
    except UnidentifiedImageError:
        reason = "no image, or in a format that is not read" if content else "empty"
        raise UndecodableError(reason) from None
    except Exception as error:  # Pillow's decoders each fail in ways of their own
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UndecodableError(shown(reason)) from error


def _upright(image: Image.Image) -> Image.Image:
    """As `ImageOps.exif_transpose`, which fails where it can't write what else is in the EXIF."""
    image.load()  # some formats read their EXIF only then
    try:
        turn = TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # as for decoding itself
        warnings.warn("damaged EXIF data; the image is taken as it is stored", stacklevel=2)
        return image
    return image if turn is None else image.transpose(turn)


def _on_white(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image
    if image.mode == "La":  # premultiplied, which Pillow converts to LA only
        image = image.convert("LA")
    white = Image.new("RGBA", image.size, "white")
    white.alpha_composite(image.convert("RGBA"))
    return white
