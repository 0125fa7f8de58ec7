"""Claims about the .beton writer: its structure by hand, and that FFCV itself reads what it writes."""

import io
import struct

import numpy as np
import originals
import pytest

from pipelines.datasets.beton import PAGE_BYTES, beton_layout, write_beton


def written(images: np.ndarray, labels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    write_beton(stream, images, labels)
    return stream.getvalue()


def test_header_fields_and_metadata_stand_where_the_format_says():
    images = originals.random_images(7, 16, 24)
    labels = np.arange(7) * -3
    content = written(images, labels)
    version, fields, page, samples, table = struct.unpack_from("<HHIQQ", content)
    assert (version, fields, page, samples) == (2, 2, PAGE_BYTES, 7)
    for index, (kind, name) in enumerate(((2, b"image"), (1, b"label"))):
        start = 24 + 1041 * index
        assert content[start] == kind
        assert content[start + 1 : start + 1041] == name.ljust(1040, b"\0")
    for index in range(7):
        start = 24 + 2 * 1041 + 24 * index
        mode, width, height, position = struct.unpack_from("<BHHQ", content, start)
        assert (mode, width, height) == (1, 24, 16)
        assert struct.unpack_from("<q", content, start + 16) == (labels[index],)
        assert content[position : position + 16 * 24 * 3] == images[index].tobytes()
        assert struct.unpack_from("<QQQ", content, table + 24 * index) == (index, position, 16 * 24 * 3)
    assert len(content) == table + 24 * 7 == beton_layout(7, 16, 24).total


def test_images_start_on_a_page_and_never_cross_one():
    layout = beton_layout(1501, 32, 32)
    positions = layout.positions().astype(np.int64)
    assert layout.images_per_page == 682 and layout.pages == 3
    assert positions[0] == layout.pixels and layout.pixels % PAGE_BYTES == layout.table % PAGE_BYTES == 0
    assert ((positions // PAGE_BYTES) == ((positions + 3071) // PAGE_BYTES)).all()
    assert (np.diff(positions) >= 3072).all() and positions[-1] + 3072 <= layout.table


def test_many_samples_push_the_pixels_to_a_later_page():
    # 24 bytes of metadata each: 100,000 of them need more than one page.
    assert beton_layout(100_000, 1, 1).pixels == 2 * PAGE_BYTES


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        (np.zeros((2, 4, 4, 3), np.float32), np.zeros(2, int)),
        (np.zeros((2, 4, 4, 1), np.uint8), np.zeros(2, int)),
        (np.zeros((2, 4, 4, 3), np.uint8), np.zeros(3, int)),
        (np.zeros((0, 4, 4, 3), np.uint8), np.zeros(0, int)),
        (np.zeros((1, 1024, 1024, 3), np.uint8), np.zeros(1, int)),
    ],
)
def test_what_the_format_cannot_hold_is_refused(images, labels):
    with pytest.raises(ValueError):
        written(images, labels)


@pytest.mark.ffcv
@pytest.mark.filterwarnings("default")  # FFCV's own warnings are not ours to mend
@pytest.mark.parametrize(("size", "count"), [(16, 2803), (32, 701), (64, 173)])
def test_ffcv_reads_back_every_pixel_and_label_in_any_order(tmp_path, ffcv, size, count):
    from ffcv.fields.basics import IntDecoder
    from ffcv.fields.rgb_image import SimpleRGBImageDecoder
    from ffcv.loader import Loader, OrderOption

    images = originals.random_images(count, size, size)
    labels = np.random.default_rng(2).integers(0, 200, count)
    path = tmp_path / "train.beton"
    path.write_bytes(written(images, labels))
    shuffled = np.random.default_rng(3).integers(0, count, 50)
    shuffled[:4] = (count - 1, 0, count - 1, count - 1)
    for os_cache in (True, False):
        for indices in (None, shuffled):
            loader = Loader(
                str(path),
                batch_size=37,
                num_workers=1,
                os_cache=os_cache,
                order=OrderOption.SEQUENTIAL,
                indices=indices,
                drop_last=False,
                pipelines={"image": [SimpleRGBImageDecoder()], "label": [IntDecoder()]},
            )
            # Copied at once: FFCV uses the memory of a batch again.
            batches = [(image.copy(), label.copy()) for image, label in loader]
            order = np.arange(count) if indices is None else indices
            np.testing.assert_array_equal(np.concatenate([image for image, _ in batches]), images[order])
            np.testing.assert_array_equal(np.concatenate([label for _, label in batches])[:, 0], labels[order])


@pytest.mark.ffcv
@pytest.mark.filterwarnings("default")
def test_file_agrees_with_that_of_ffcvs_own_writer(tmp_path, ffcv):
    from ffcv.fields import IntField, RGBImageField
    from ffcv.reader import Reader
    from ffcv.writer import DatasetWriter

    count = 701
    images = originals.random_images(count, 32, 32)
    labels = np.random.default_rng(4).integers(0, 100, count)
    fields = {"image": RGBImageField(write_mode="raw"), "label": IntField()}
    writer = DatasetWriter(str(tmp_path / "theirs.beton"), fields, page_size=PAGE_BYTES, num_workers=1)
    writer.from_indexed_dataset(list(zip(images, labels, strict=True)))
    (tmp_path / "ours.beton").write_bytes(written(images, labels))
    theirs, ours = Reader(str(tmp_path / "theirs.beton")), Reader(str(tmp_path / "ours.beton"))
    assert ours.header == theirs.header
    assert ours.field_names == theirs.field_names
    np.testing.assert_array_equal(ours.field_descriptors, theirs.field_descriptors)
    assert ours.metadata.dtype == theirs.metadata.dtype
    np.testing.assert_array_equal(ours.metadata, theirs.metadata)
    np.testing.assert_array_equal(ours.alloc_table, theirs.alloc_table)
    pixels = slice(beton_layout(count, 32, 32).pixels, None)
    assert (tmp_path / "ours.beton").read_bytes()[pixels] == (tmp_path / "theirs.beton").read_bytes()[pixels]
