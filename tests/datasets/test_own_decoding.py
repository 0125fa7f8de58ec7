"""Claims about one image: what it becomes, whatever format, mode and shape it has; and what is refused."""

import hashlib
import io
import os
import struct
import warnings
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from own_images import declaring, png_chunk
from PIL import Image

from pipelines.datasets import decoding
from pipelines.datasets.decoding import UnreadableImage, decode
from pipelines.datasets.own.decoder import Request, work
from pipelines.datasets.own.listing import Original

FITS = ("crop", "pad", "stretch")


def saved(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def pixels(content: bytes, size: int = 8, fit: str = "crop") -> np.ndarray:
    """(S, S, 3)."""
    image = decode(content, size, fit)
    assert image.mode in ("L", "RGB")
    return np.asarray(image.convert("RGB"))


def noise(height: int = 8, width: int = 8, channels: int | None = 3, seed: int = 0) -> np.ndarray:
    shape = (height, width) if channels is None else (height, width, channels)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "GIF", "TIFF", "PPM", "WEBP", "TGA"])
@pytest.mark.parametrize("channels", [None, 3])
def test_what_needs_no_resizing_keeps_its_pixels(kind, channels):
    array = noise(channels=channels) if kind != "GIF" else noise(channels=channels) // 128 * 255
    found = pixels(saved(Image.fromarray(array), kind, **({"lossless": True} if kind == "WEBP" else {})))
    np.testing.assert_array_equal(found, np.broadcast_to(array if channels else array[..., None], (8, 8, 3)))


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(["PNG", "JPEG"]),
    grey=st.booleans(),
    height=st.integers(1, 70),
    width=st.integers(1, 70),
    quality=st.integers(30, 100),
    progressive=st.booleans(),
    subsampling=st.integers(0, 2),
    fit=st.sampled_from(FITS),
    size=st.sampled_from([8, 12, 28]),
)
def test_the_short_way_gives_the_pixels_of_the_long_one(
    kind, grey, height, width, quality, progressive, subsampling, fit, size
):
    options = {"quality": quality, "progressive": progressive, "subsampling": subsampling} if kind == "JPEG" else {}
    content = saved(Image.fromarray(noise(height, width, None if grey else 3)), kind, **options)
    short = decoding._decode_plain(content)
    assert short is not None
    with Image.open(io.BytesIO(content)) as long:
        assert short.mode == long.mode
        np.testing.assert_array_equal(np.asarray(short), np.asarray(long))
    assert decode(content, size, fit).size == (size, size)


@pytest.mark.parametrize("fit", FITS)
def test_small_images_are_pillows_own_bicubic_ones(fit):
    """No shrinking on the way where an image is less than twice as large."""
    image = Image.fromarray(noise(20, 30))
    expected = {
        "crop": image.resize((16, 16), Image.Resampling.BICUBIC, (5, 0, 25, 20)),
        "pad": Image.new("RGB", (16, 16)),
        "stretch": image.resize((16, 16), Image.Resampling.BICUBIC),
    }
    expected["pad"].paste(image.resize((16, 11), Image.Resampling.BICUBIC), (0, 2))
    np.testing.assert_array_equal(pixels(saved(image), 16, fit), np.asarray(expected[fit]))


def test_crop_keeps_the_middle_and_pad_everything_on_black():
    """A white field with a red left third and a blue right third."""
    array = np.full((30, 90, 3), 255, np.uint8)
    array[:, :30], array[:, 60:] = (255, 0, 0), (0, 0, 255)
    cropped, padded = (pixels(saved(Image.fromarray(array)), 24, fit) for fit in ("crop", "pad"))
    assert (cropped[:, 2:-2] == 255).all()
    assert (padded[:7] == 0).all() and (padded[-7:] == 0).all()
    np.testing.assert_array_equal(padded[12, [2, 12, 21]], [(255, 0, 0), (255, 255, 255), (0, 0, 255)])


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_large_images_shrink_to_nearly_what_one_filter_over_all_of_them_gives(kind):
    y, x = np.mgrid[:500, :700]
    smooth = np.stack([127 + 120 * np.sin(x / 90), 127 + 120 * np.cos(y / 70), (x + y) % 1200 / 5], -1)
    content = saved(Image.fromarray(smooth.astype(np.uint8)), kind)
    with Image.open(io.BytesIO(content)) as image:
        expected = np.asarray(image.convert("RGB").resize((32, 32), Image.Resampling.BICUBIC, (100, 0, 600, 500)))
    assert np.abs(pixels(content, 32).astype(int) - expected).max() <= 6


@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_turned_and_mirrored_as_the_camera_noted(orientation):
    upright = Image.fromarray(np.kron(noise(2, 2), np.ones((8, 8, 1), np.uint8)))
    undo = {2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE", 6: "ROTATE_90"}
    undo |= {7: "TRANSVERSE", 8: "ROTATE_270"}
    turned = upright.transpose(Image.Transpose[undo[orientation]]) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    for kind in ("PNG", "TIFF", "WEBP"):
        options = {"lossless": True} if kind == "WEBP" else {}
        found = pixels(saved(turned, kind, exif=exif, **options), 16)
        np.testing.assert_array_equal(found, np.asarray(upright), kind)
    found = pixels(saved(turned, "JPEG", exif=exif, quality=100, subsampling=0), 16)
    assert np.abs(found.astype(int) - np.asarray(upright)).max() <= 6


def test_cmyk_becomes_rgb():
    array = np.zeros((8, 8, 4), np.uint8)
    array[:, :4, 1:3] = 255  # no cyan, all magenta and yellow: red
    found = pixels(saved(Image.fromarray(array, "CMYK"), "TIFF"))
    assert (found[:, :4] == (255, 0, 0)).all() and (found[:, 4:] == 255).all()
    assert (
        np.abs(pixels(saved(Image.fromarray(array, "CMYK"), "JPEG", quality=100))[:, 0].astype(int) - (255, 0, 0)).max()
        < 8
    )


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_to_eight(kind):
    values = np.linspace(0, 65_535, 64).round().astype(np.uint16).reshape(8, 8)
    found = pixels(saved(Image.fromarray(values), kind))
    np.testing.assert_array_equal(found[..., 0], np.round(values / 257.0))
    assert found.min() == 0 and found.max() == 255 and len(np.unique(found)) == 64


def test_sixteen_bits_a_colour_are_scaled_to_eight():
    """Pillow takes their upper bytes."""
    values = np.random.default_rng(1).integers(0, 65_536, (8, 8, 3), dtype=np.uint16)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    content = b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*part) for part in parts)
    np.testing.assert_array_equal(pixels(content), values >> 8)


def test_what_is_transparent_lies_on_black():
    array = noise(channels=4)
    array[..., 3] = np.arange(8) * 36
    expected = np.round(array[..., :3] * (array[..., 3:] / 255))
    found = pixels(saved(Image.fromarray(array)))
    assert np.abs(found - expected).max() <= 1 and (found[:, 0] == 0).all()
    grey = np.dstack([array[..., 0], array[..., 3]])
    assert np.abs(pixels(saved(Image.fromarray(grey)))[..., 1] - expected[..., 0]).max() <= 1


def test_palettes_with_transparency_and_without_become_their_colours():
    image = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8) % 4).convert("P")
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 9, 9])
    plain = pixels(saved(image))
    np.testing.assert_array_equal(plain[0, :4], [(255, 0, 0), (0, 255, 0), (0, 0, 255), (9, 9, 9)])
    clear = pixels(saved(image, transparency=1))
    np.testing.assert_array_equal(clear[0, :4], [(255, 0, 0), (0, 0, 0), (0, 0, 255), (9, 9, 9)])
    half = pixels(saved(image, transparency=bytes([255, 0, 128, 255])))
    np.testing.assert_array_equal(half[0, :4], [(255, 0, 0), (0, 0, 0), (0, 0, 128), (9, 9, 9)])
    keyed = pixels(saved(Image.fromarray(np.full((8, 8), 7, np.uint8)), transparency=7))
    assert (keyed == 0).all()


def test_one_bit_images_are_black_and_white():
    array = np.arange(64).reshape(8, 8) % 2 == 0
    np.testing.assert_array_equal(pixels(saved(Image.fromarray(array)))[..., 0], array * 255)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "0 bytes"),
        (b"hello", "no image that Pillow knows"),
        (saved(Image.fromarray(noise(64, 64)))[:-900], "truncated|incomplete|broken"),
        (saved(Image.fromarray(noise(64, 64)), "JPEG")[:-900], "truncated"),
        (saved(Image.fromarray(noise(8, 8, None).astype(np.float32)), "TIFF"), "no known range"),
        (saved(Image.fromarray(noise(8, 8, None).astype(np.int32) - 9), "TIFF"), "no known range"),
    ],
    ids=["empty", "text", "cut PNG", "cut JPEG", "floats", "negative"],
)
def test_what_cannot_be_read_says_why(content, reason):
    with pytest.raises(UnreadableImage, match=reason):
        decode(content, 8, "crop")


@pytest.mark.parametrize("side", [10_001, 60_000, 2**31 - 1])
def test_an_image_that_declares_too_many_pixels_is_refused_before_it_is_decoded_and_without_a_warning(side):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UnreadableImage, match=rf"declares {side:,} x {side:,} pixels"):
            decode(declaring(side), 8, "crop")


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(["PNG", "JPEG"]), st.data())
def test_damage_is_an_unreadable_image_or_an_image_and_never_another_error(kind, data):
    content = bytearray(saved(Image.fromarray(noise(16, 16)), kind))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as in the process that decodes
        try:
            image = decode(bytes(content), 8, "crop")
        except UnreadableImage:
            return
    assert image.size == (8, 8) and image.mode in ("L", "RGB")


def test_a_request_of_grey_and_coloured_images_is_answered_with_exact_sums_and_without_what_is_broken(tmp_path):
    arrays = [noise(seed=1), noise(channels=None, seed=2), noise(seed=3)]
    contents = [saved(Image.fromarray(array)) for array in arrays]
    (tmp_path / "inside").write_bytes(b"before" + contents[1] + b"after")
    os.mkfifo(tmp_path / "pipe.png")  # would be waited for
    originals = [
        Original("a", content=contents[0]),
        Original("bad", content=b"x"),
        Original("b", str(tmp_path / "inside"), 6, len(contents[1])),
        Original("gone", str(tmp_path / "gone.png")),
        Original("pipe", str(tmp_path / "pipe.png")),
        Original("c", content=contents[2]),
    ]
    answer, found = work(Request(originals, 8, "crop", True))
    expected = np.stack([arrays[0], np.repeat(arrays[1][..., None], 3, 2), arrays[2]])
    np.testing.assert_array_equal(found, expected)
    assert [position for position, _ in answer.failures] == [1, 3, 4]
    assert answer.sums == tuple(expected.sum((0, 1, 2), dtype=int))
    assert answer.squares == tuple((expected.astype(int) ** 2).sum((0, 1, 2)))
    assert answer.sha256 == b"".join(hashlib.sha256(content).digest() for content in contents)
    assert answer.pixel_bytes == expected.nbytes
