from __future__ import annotations

import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from fm_al.data import decoding
from fm_al.data.decoding import (
    FORMATS,
    UndecodableError,
    decoded,
    extensions,
    pillow_warnings_logged,
)

SIZE = 8
PIXELS = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
PICTURE = Image.fromarray(PIXELS)


def stored(image: Image.Image, format: str = "png", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def colours(content: bytes) -> np.ndarray:
    """(SIZE, SIZE, 3), as the file has them where it is of that size."""
    return decoded(content, SIZE, 3).transpose(1, 2, 0)


def one_colour(content: bytes) -> tuple[int, ...]:
    pixels = colours(content).reshape(-1, 3)
    assert (pixels == pixels[0]).all()
    return tuple(pixels[0].tolist())


def filled(mode: str, colour: object) -> Image.Image:
    return Image.new(mode, (SIZE, SIZE), colour)


# What a camera held so has stored of the picture that was seen.
AS_STORED = {
    1: lambda seen: seen,
    2: lambda seen: seen[:, ::-1],
    3: lambda seen: seen[::-1, ::-1],
    4: lambda seen: seen[::-1],
    5: lambda seen: seen.transpose(1, 0, 2),
    6: lambda seen: np.rot90(seen),
    7: lambda seen: seen[::-1, ::-1].transpose(1, 0, 2),
    8: lambda seen: np.rot90(seen, -1),
    9: lambda seen: seen,
}


@pytest.mark.parametrize("format", ["png", "tiff"])
@pytest.mark.parametrize("orientation", AS_STORED)
def test_images_are_turned_upright(orientation, format):
    exif = Image.Exif()
    exif[0x0112] = orientation
    sideways = Image.fromarray(np.ascontiguousarray(AS_STORED[orientation](PIXELS)))
    assert np.array_equal(colours(stored(sideways, format, exif=exif)), PIXELS)


def test_a_sideways_photograph_is_turned_before_its_proportions_are_lost():
    exif = Image.Exif()
    exif[0x0112] = 6
    seen = np.zeros((32, 16, 3), np.uint8)
    seen[:16] = 255  # above
    sideways = Image.fromarray(np.ascontiguousarray(np.rot90(seen)))
    upright = colours(stored(sideways, "jpeg", exif=exif, quality=100))
    assert upright[: SIZE // 2 - 1].min() > 250
    assert upright[SIZE // 2 + 1 :].max() < 5


def test_damaged_exif_data_are_said_and_the_image_is_taken_as_it_is(caplog):
    content = stored(PICTURE, "webp", lossless=True, exif=b"MM\0?\0\0\0\x08")
    with pillow_warnings_logged():
        assert np.array_equal(colours(content), PIXELS)
    assert [record.getMessage() for record in caplog.records] == [
        "warnings while images were decoded: damaged EXIF data; the image is taken as it is stored "
        "(1 times)"
    ]


RED_UNSEEN = Image.new("RGBA", (SIZE, SIZE), (255, 0, 0, 0))
PALETTE = filled("P", 0)
PALETTE.putpalette([255, 0, 0] * 256)


@pytest.mark.parametrize(
    "content",
    [
        stored(RED_UNSEEN),
        stored(RED_UNSEEN, "webp", lossless=True, exact=True),
        stored(RED_UNSEEN, "tiff"),
        stored(filled("LA", (7, 0))),
        stored(PALETTE, transparency=0),
        stored(PALETTE, transparency=b"\0" * 256),
        stored(PALETTE, "gif", transparency=0),
        stored(filled("RGB", (255, 0, 0)), transparency=(255, 0, 0)),
        stored(filled("L", 7), transparency=7),
        stored(filled("1", 0), transparency=0),
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_what_is_transparent_is_white_whatever_colour_it_hides(content, channels):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert (decoded(content, SIZE, channels) == 255).all()


def test_half_transparent_colours_are_blended_on_white():
    assert one_colour(stored(filled("RGBA", (0, 100, 255, 51)))) == (204, 224, 255)
    assert one_colour(stored(filled("LA", (0, 51)))) == (204, 204, 204)


def test_images_are_blended_before_they_are_resized():
    pixels = np.zeros((2 * SIZE, SIZE, 4), np.uint8)
    pixels[::2] = (0, 0, 0, 255)
    pixels[1::2] = (255, 0, 0, 0)
    red, blue, _ = decoded(stored(Image.fromarray(pixels)), SIZE, 3)
    assert np.array_equal(red, blue)


def test_opaque_images_with_an_alpha_channel_are_as_without():
    opaque = PICTURE.copy()
    opaque.putalpha(255)
    assert np.array_equal(colours(stored(opaque)), PIXELS)


@pytest.mark.parametrize(
    ("mode", "colour", "format", "expected"),
    [
        ("1", 1, "png", (255, 255, 255)),
        ("L", 90, "png", (90, 90, 90)),
        ("P", 0, "png", (255, 0, 0)),
        ("CMYK", (255, 0, 0, 0), "tiff", (0, 255, 255)),
        ("YCbCr", (100, 128, 128), "tiff", (100, 100, 100)),
        ("LAB", (128, 128, 128), "tiff", (119, 119, 119)),
    ],
)
def test_modes_become_rgb(mode, colour, format, expected):
    image = PALETTE if mode == "P" else filled(mode, colour)
    assert np.allclose(one_colour(stored(image, format)), expected, atol=1)


@pytest.mark.parametrize(
    ("pixels", "format"),
    [
        (np.full((4, 4), 40_000, np.uint16), "png"),
        (np.full((4, 4), 40_000, np.uint16), "tiff"),
        (np.full((4, 4), 40_000, np.uint16), "ppm"),
        (np.full((4, 4), 40_000, np.int32), "tiff"),
        (np.full((4, 4), 0.5, np.float32), "tiff"),
    ],
)
def test_one_channel_of_more_than_eight_bits_is_refused_rather_than_clipped(pixels, format):
    with pytest.raises(UndecodableError, match=r"^more than 8 bits a pixel, mode [IF]"):
        decoded(stored(Image.fromarray(pixels), format), SIZE, 1)


def test_of_sixteen_bits_a_colour_the_upper_eight_are_taken():
    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", SIZE, SIZE, 16, 2, 0, 0, 0)
    rows = (b"\0" + struct.pack(">HHH", 0x12FF, 0x3400, 0xFFFF) * SIZE) * SIZE
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    content += chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    assert one_colour(content) == (0x12, 0x34, 0xFF)


@pytest.mark.parametrize("format", ["gif", "png", "tiff", "webp"])
def test_of_several_pictures_the_first_is_taken(format):
    first, second = filled("RGB", (0, 0, 0)), filled("RGB", (255, 255, 255))
    content = stored(first, format, save_all=True, append_images=[second])
    assert Image.open(io.BytesIO(content)).n_frames == 2
    assert one_colour(content) == (0, 0, 0)


def test_every_format_that_is_read_is_known_by_its_extension():
    of_format = {format: name for name, format in Image.registered_extensions().items()}
    readable = [format for format in FORMATS if format in Image.OPEN]
    assert {"BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF"} <= set(readable)
    for format in readable:
        assert of_format[format] in extensions()
        content = stored(filled("RGB", (200, 200, 200)), format)
        assert np.allclose(one_colour(content), 200, atol=3), format
    for name in (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"):
        assert name in extensions()
    assert not {".eps", ".pdf", ".h5", ".mpg", ".ico"} & {*extensions()}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "^empty$"),
        (b"a text", "^not an image, or in a format that is not supported$"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EOF\n", "^not an image, or"),
        (stored(PICTURE)[:80], "truncated"),
        (stored(PICTURE, "jpeg")[:-100], "(?i)truncated"),
        (stored(PICTURE).replace(b"IHDR", b"IHDX"), "."),
    ],
)
def test_what_is_no_whole_image_says_why(content, message):
    with pytest.raises(UndecodableError, match=message) as raised:
        decoded(content, SIZE, 3)
    assert str(raised.value).isprintable()


def test_large_images_are_read_without_a_warning_and_larger_ones_named_with_their_size(
    monkeypatch, caplog
):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", SIZE)  # Pillow's own, far below
    monkeypatch.setattr(decoding, "MAX_PIXELS", SIZE * SIZE)
    with warnings.catch_warnings(record=True) as said, pillow_warnings_logged():
        assert np.array_equal(colours(stored(PICTURE)), PIXELS)
        with pytest.raises(UndecodableError, match=r"^8 x 9 pixels, above the limit of 64$"):
            decoded(stored(Image.new("L", (SIZE, SIZE + 1))), SIZE, 3)
    assert said == []
    assert caplog.records == []
    assert Image.MAX_IMAGE_PIXELS == SIZE
