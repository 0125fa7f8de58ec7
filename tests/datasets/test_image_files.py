"""Any picture becomes upright RGB of the wanted size, and what is none is one line."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mixmo_fast.errors import DataError
from pipelines.datasets.image_files import FITS, fit_image, read_image


def gradient(height: int, width: int) -> np.ndarray:
    return np.linspace(0, 255, height * width * 3).round().astype(np.uint8).reshape(height, width, 3)


def test_colours_come_back_bit_for_bit_from_a_lossless_file(tmp_path):
    pixels = gradient(5, 7)
    for suffix in ("png", "bmp", "tiff", "webp"):
        path = tmp_path / f"picture.{suffix}"
        Image.fromarray(pixels).save(path, **({"lossless": True} if suffix == "webp" else {}))
        image = read_image(path)
        assert image.mode == "RGB" and np.array_equal(np.asarray(image), pixels), suffix


@pytest.mark.parametrize(
    "mode", ["1", "L", "P", "LA", "PA", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "F", "I", "I;16", "RGBX"]
)
def test_every_mode_becomes_rgb(tmp_path, mode):
    path = tmp_path / "picture.tiff"
    image = Image.new(mode, (6, 4))
    try:
        image.save(path)
    except OSError:  # TIFF has no such mode
        path = tmp_path / "picture.png"
        image.convert("RGBA" if mode == "PA" else "RGB").save(path)
    found = read_image(path)
    assert (found.mode, found.size) == ("RGB", (6, 4))


def test_sixteen_bits_are_scaled_to_eight(tmp_path):
    Image.fromarray(np.array([[0, 257, 128 * 257, 65535]], dtype=np.uint16)).save(tmp_path / "deep.png")
    assert np.asarray(read_image(tmp_path / "deep.png"))[0, :, 0].tolist() == [0, 1, 128, 255]


def test_what_is_transparent_is_black(tmp_path):
    pixels = np.full((1, 3, 4), 200, dtype=np.uint8)
    pixels[0, :, 3] = (0, 255, 128)
    Image.fromarray(pixels).save(tmp_path / "glass.png")
    palette = Image.new("P", (2, 1))
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.putpixel((1, 0), 1)
    palette.save(tmp_path / "palette.png", transparency=0)
    assert np.asarray(read_image(tmp_path / "glass.png"))[0, :, 0].tolist() == [0, 200, pytest.approx(100, abs=1)]
    assert np.asarray(read_image(tmp_path / "palette.png")).tolist() == [[[0, 0, 0], [40, 50, 60]]]


def test_a_picture_is_turned_as_its_camera_says(tmp_path):
    pixels = gradient(4, 6)
    exif = Image.Exif()
    exif[0x0112] = 6  # the top of the picture is at the right of what was stored
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    assert np.array_equal(np.asarray(read_image(tmp_path / "turned.png")), np.rot90(pixels, -1))


def test_what_is_no_image_is_one_line_that_names_the_file(tmp_path):
    def refused(name: str, words: str) -> None:
        with pytest.raises(DataError, match=words) as found:
            read_image(tmp_path / name)
        assert str(found.value).startswith(f"{tmp_path / name}: ") and "\n" not in str(found.value)

    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "empty.png").touch()
    for name, kind in (("cut.png", "png"), ("cut.jpg", "jpeg")):
        Image.effect_noise((50, 50), 60).save(tmp_path / name, kind)
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:800])
    header = b"P6 60000 60000 255\n"
    (tmp_path / "huge.ppm").write_bytes(header + bytes(100))
    refused("text.png", "not an image")
    refused("empty.png", "an empty file")
    refused("cut.png", "a damaged image")
    refused("cut.jpg", "a damaged image")
    refused("huge.ppm", "claims more pixels than")
    refused("missing.png", "No such file")
    refused("", "not a file")


@settings(deadline=None, max_examples=60)
@given(st.tuples(*[st.integers(1, 40)] * 4), st.sampled_from(FITS))
def test_every_shape_gets_the_wanted_size(sizes, fit):
    height, width, wanted_height, wanted_width = sizes
    image = Image.fromarray(gradient(height, width))
    found = fit_image(image, wanted_height, wanted_width, fit)
    assert (found.shape, found.dtype) == ((wanted_height, wanted_width, 3), np.uint8)
    if (height, width) == (wanted_height, wanted_width):
        assert np.array_equal(found, gradient(height, width))


def test_a_crop_is_of_the_centre_and_padding_is_black_on_both_sides():
    pixels = np.zeros((10, 30, 3), dtype=np.uint8)
    pixels[:, 10:20] = 90
    pixels[:, 20:] = 200
    image = Image.fromarray(pixels)
    assert (fit_image(image, 10, 10, "crop") == 90).all()
    padded = fit_image(image, 30, 30, "pad")
    assert not padded[:10].any() and not padded[20:].any() and np.array_equal(padded[10:20], pixels)
    stretched = fit_image(image, 10, 10, "stretch")
    assert stretched[0, 0, 0] == 0 and stretched[0, -1, 0] == 200


def test_shrinking_averages_what_it_leaves_out():
    stripes = np.zeros((64, 64, 3), dtype=np.uint8)
    stripes[:, ::2] = 254
    found = fit_image(Image.fromarray(stripes), 8, 8, "stretch")
    assert found[:, 1:-1].min() >= 120 and found[:, 1:-1].max() <= 134
