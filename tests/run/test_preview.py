"""`mixmo-fast preview`: the picture shows what the network is given, and nothing else."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from mixmo_fast.batch import Batch
from mixmo_fast.config.load import load_config
from mixmo_fast.evaluation import plots
from mixmo_fast.mixing.plan import draw_step_plan
from mixmo_fast.run import build
from mixmo_fast.run.preview import first_patch_step, preview_run, recipe_in_a_line
from pipelines.datasets.store import open_dataset

PNG = b"\x89PNG"
CONFIG = """
data: {dataset: digits}
network: {kind: wide_resnet, depth: 10, width: 1, members: 2}
mixing: {method: patch, prob: 0.5}
msda: {method: cutmix}
batch: {rows: 64, repetitions: 2}
optimizer: {lr: 0.05, weight_decay: 0.0006}
schedule: {epochs: 12, warmup_steps: 22}
"""
SINGLE = ("network.members=1", "mixing=null")


@pytest.fixture
def config(tmp_path) -> Path:
    path = tmp_path / "cut_$x$_two.yaml"
    path.write_text(CONFIG)
    return path


@pytest.fixture
def preview(config, digits, tmp_path):
    """Draws into a file and returns what was said of it."""

    def draw(*overrides: str, out: str = "preview.png", **options) -> str:
        return preview_run(config, tmp_path / out, pytest.fail, data=digits, overrides=overrides, **options)

    return draw


@pytest.fixture
def pages(monkeypatch) -> list[Figure]:
    """Collects figures instead of writing them."""
    kept = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: kept.append(figure))
    return kept


@pytest.fixture
def draw_by_command(command, config, digits, tmp_path):
    def run(*arguments: object, out: object = "preview.png") -> tuple[int, str, str]:
        return command("preview", config, "--data", digits, "-o", tmp_path / out, *arguments)

    return run


def texts(page: Figure) -> list[str]:
    """What stands on it; a line that is broken is one."""
    return [text.get_text().replace("\n", " ") for text in page.texts]


def pictures(page: Figure) -> list[np.ndarray]:
    return [np.asarray(axes.images[0].get_array()) for axes in page.axes]


def a_batch(members: int = 2, **changes) -> Batch:
    """Three rows of 4x4 images under linear masks."""
    kappa = torch.full((3, members, 2), 1 / members)
    batch = Batch(
        images=torch.zeros(3, 3 * members, 4, 4),
        feature_box=torch.zeros(3, 4, dtype=torch.int32),
        feature_pattern=torch.zeros(3, 0, 0, 0, dtype=torch.uint8),
        feature_values=kappa,
        labels=torch.tensor([[[0, 1]] * members] * 3),
        share=torch.ones(3, members),
        weight=torch.ones(3, members),
    )
    return replace(batch, **changes)


def draw(batch: Batch, mean: float = 0.0, std: float = 1.0) -> None:
    plots.plot_batch(batch, (4, 4), ((mean,) * 3, (std,) * 3), ("cat", "dog"), ("name",), Path("/dev/null"), 6)


def test_the_command_draws_a_picture_in_a_folder_that_it_makes(draw_by_command, tmp_path):
    code, out, err = draw_by_command(out="new/folder/picture.png")
    assert (code, err) == (0, "")
    assert "Cut-MixMo (patch, p = 0.5), CutMix p = 0.5, M = 2, b = 2" in out
    assert str(tmp_path / "new" / "folder" / "picture.png") in out
    assert (tmp_path / "new" / "folder" / "picture.png").read_bytes().startswith(PNG)


def test_nothing_is_trained_and_no_run_folder_appears(preview, tmp_path, config):
    preview()
    assert {path.name for path in tmp_path.iterdir()} == {config.name, "preview.png"}


@pytest.mark.parametrize("suffix", [".PNG", ".svg", ".pdf"])
def test_the_suffix_names_the_format(preview, tmp_path, suffix):
    preview(out=f"picture{suffix}", rows_shown=1)
    assert (tmp_path / f"picture{suffix}").stat().st_size > 1000


def test_the_same_arguments_draw_the_same_picture_and_another_seed_another(preview, tmp_path):
    for name, seed in (("a", None), ("b", 1), ("c", 2)):
        preview(out=f"{name}.png", seed=seed, rows_shown=2)
    a, b, c = ((tmp_path / f"{name}.png").read_bytes() for name in "abc")
    assert a == b
    assert a != c


def test_a_run_leaves_the_picture_that_the_preview_showed(lab, tmp_path):
    lab.train("schedule.epochs=1", device="cpu")
    out = tmp_path / "preview.png"
    preview_run(lab.config, out, pytest.fail, data=lab.data, overrides=("schedule.epochs=1",))
    assert (lab.run / "first_batch.png").read_bytes() == out.read_bytes()


def test_the_heading_says_run_recipe_epoch_step_and_seed(preview, pages):
    preview(epoch=3, step=5, rows_shown=4, seed=9)
    first, second, third, *_ = texts(pages[0])
    assert first == "cut_$x$_two"
    assert second.endswith(": Cut-MixMo (patch, p = 0.5), CutMix p = 0.5, M = 2, b = 2")
    assert third == "epoch 3 of 12, step 5 of 44 (counted from 0), 4 of 64 rows, seed 9"


def test_an_image_that_nothing_changes_is_shown_as_it_is_in_the_data_set(preview, pages, config, digits):
    preview("data.crop_padding=0", "data.flip=false", *SINGLE, "msda=null", step=7)
    dataset = open_dataset(digits, "digits")
    plan = draw_step_plan(build.make_recipe(load_config(config, (*SINGLE, "msda=null")), dataset), 1, 1, 7)
    originals = dataset.load_images("train")[plan.index[:6, 0, 0]]
    for shown, original in zip(pictures(pages[0]), originals, strict=True):
        np.testing.assert_allclose(shown, original / 255, atol=1e-6)


@pytest.mark.parametrize("members", [2, 3, 4])
def test_each_member_has_an_image_and_a_mask_in_each_row_and_masks_add_up(preview, pages, members):
    preview(f"network.members={members}", rows_shown=3)
    shown = pictures(pages[0])[members:]  # the legend comes first
    assert len(shown) == members * 3 * 2
    masks = np.stack(shown[1::2]).reshape(members, 3, 16, 16)
    np.testing.assert_allclose(masks.sum(axis=0), 1, atol=1e-6)
    assert (masks.min(axis=(0, 2, 3)) == 0).all()  # patches


def test_a_single_network_has_images_alone(preview, pages):
    preview(*SINGLE, rows_shown=5)
    assert len(pages[0].axes) == 5
    assert not any("mask" in text or "member" in text for text in texts(pages[0]))


def test_no_more_rows_are_shown_than_there_are(preview, pages):
    preview(*SINGLE, "batch.rows=4", rows_shown=9)
    assert len(pages[0].axes) == 4


def test_labels_come_with_their_shares_only_where_images_are_mixed(pages):
    share = torch.tensor([[0.75, 1.0]] * 3)
    draw(a_batch(share=share, weight=torch.tensor([[1.25, 0.75]] * 3)))
    said = texts(pages[0])
    assert [said.count(text) for text in ("cat", "dog", "0.75", "0.25")] == [6, 3, 3, 3]
    assert [said.count(text) for text in ("weight 1.25", "weight 0.75", "mask 0.50")] == [3, 3, 6]


@pytest.mark.parametrize("members", [1, 2, 4])
@pytest.mark.parametrize("name", ["cat", "aquarium_fish", "a class of which the name is very long"])
def test_words_stay_on_a_page_of_a_telephones_width_and_do_not_overlap(pages, members, name):
    share = torch.full((3, members), 0.75)
    batch = a_batch(members, share=share)
    heading = ("cut_" + 90 * "x", "A data set: " + 12 * "words, ", "epoch 1 of 300")
    plots.plot_batch(batch, (4, 4), ((0,) * 3, (1,) * 3), (name, name), heading, Path("/dev/null"), 3)
    page = pages[0]
    assert page.get_size_inches()[0] == 4
    page.canvas.draw()
    boxes = [text.get_window_extent() for text in page.texts]
    pictures = [axes.get_window_extent() for axes in page.axes]
    for text, box in zip(page.texts, boxes, strict=True):
        assert box.x0 >= 0 and box.x1 <= page.bbox.x1 and box.y0 >= 0 and box.y1 <= page.bbox.y1, text.get_text()
        for other in (*(one for one in boxes if one is not box), *pictures):
            width = min(box.x1, other.x1) - max(box.x0, other.x0)
            height = min(box.y1, other.y1) - max(box.y0, other.y0)
            assert width <= 1 or height <= 1.5, text.get_text()  # of 100 dots an inch


def test_classes_without_names_are_numbered(preview, pages, monkeypatch):
    opened = build.ensure_dataset
    monkeypatch.setattr(build, "ensure_dataset", lambda *asked: replace(opened(*asked), class_names=()))
    preview(*SINGLE, "msda=null")
    assert any(text.startswith("class ") for text in texts(pages[0]))


def test_pixels_are_denormalised_and_never_smoothed(pages):
    images = torch.randn(3, 6, 4, 4).clip(-1, 1)
    draw(a_batch(images=images), mean=0.5, std=0.25)
    image = pages[0].axes[2].images[0]
    np.testing.assert_allclose(image.get_array(), images[0, :3].permute(1, 2, 0) * 0.25 + 0.5, atol=1e-6)
    assert image.get_interpolation() == "nearest"


def test_half_precision_images_can_be_drawn(pages):
    draw(a_batch(images=torch.zeros(3, 6, 4, 4, dtype=torch.bfloat16)))
    assert len(pages) == 1


def test_a_mask_is_white_where_a_member_has_no_part_and_coloured_where_it_is_alone(pages):
    values = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]] * 3)
    draw(a_batch(feature_box=torch.tensor([[0, 2, 0, 4]] * 3, dtype=torch.int32), feature_values=values))
    mask = pages[0].axes[3].images[0]
    colours = mask.to_rgba(mask.get_array())[..., :3]
    np.testing.assert_allclose(colours[2:], 1)
    np.testing.assert_allclose(colours[:2], np.broadcast_to(to_rgb("tab:blue"), (2, 4, 3)))


@pytest.mark.parametrize(("channels", "lines", "columns"), [(16, 1, 16), (48, 2, 32), (192, 6, 32)])
def test_a_mask_that_differs_between_channels_is_drawn_as_strips(pages, channels, lines, columns):
    pattern = torch.zeros(3, channels, 1, 1, dtype=torch.uint8)
    values = torch.tensor([[[1.0, 0.25], [0.0, 0.75]]] * 3)
    draw(a_batch(feature_pattern=pattern, feature_values=values))
    strips = np.ma.filled(pages[0].axes[3].images[0].get_array(), np.nan)
    assert strips.shape == (lines, columns)
    np.testing.assert_allclose(strips.ravel()[:channels], 0.25)
    assert np.isnan(strips.ravel()[channels:]).all()
    assert any(f"each of {channels} channels" in text for text in texts(pages[0]))


def test_a_mask_for_each_channel_that_is_the_same_in_all_is_drawn_as_a_map(pages):
    pattern = torch.zeros(3, 16, 4, 4, dtype=torch.uint8)
    pattern[0, :, :2] = pattern[1, :8] = 128
    draw(a_batch(feature_pattern=pattern, feature_values=torch.tensor([[[1.0, 0.0], [0.0, 1.0]]] * 3)))
    drawn = [np.ma.filled(axes.images[0].get_array(), np.nan) for axes in pages[0].axes if axes.images]
    assert any(mask.shape == (4, 4) and (mask[:2] == 1).all() and (mask[2:] == 0).all() for mask in drawn)
    assert any(mask.shape == (1, 16) and (mask[0] == [1] * 8 + [0] * 8).all() for mask in drawn)
    assert any("at each place, or in each of 16 channels" in text for text in texts(pages[0]))


@pytest.mark.parametrize("epoch", [1, 2, 11])
def test_the_default_step_is_the_first_that_mixes_patches(config, digits, epoch):
    recipe = build.make_recipe(load_config(config, ()), open_dataset(digits, "digits"))
    found = first_patch_step(recipe, 1, epoch)
    has_patches = [draw_step_plan(recipe, 1, epoch, step).feature_box.any() for step in range(found + 1)]
    assert has_patches == [False] * found + [True]


@pytest.mark.parametrize("overrides", [("mixing.method=linear",), ("mixing.prob=0",), SINGLE])
def test_the_default_step_is_the_first_where_nothing_mixes_patches(config, digits, overrides):
    recipe = build.make_recipe(load_config(config, overrides), open_dataset(digits, "digits"))
    assert first_patch_step(recipe, 1, 1) == 0


@pytest.mark.parametrize(
    ("overrides", "epoch", "line"),
    [
        ((), 1, "Cut-MixMo (patch, p = 0.5), CutMix p = 0.5, M = 2, b = 2"),
        (("mixing.replacement=cow",), 1, "Cut-MixMo (patch, p = 0.5, else cow), CutMix p = 0.5, M = 2, b = 2"),
        ((), 12, "Cut-MixMo (patch, p = 0.5, decayed to 0 by now), CutMix p = 0.5, M = 2, b = 2"),
        (("mixing.method=linear", "msda.method=mixup"), 1, "Linear-MixMo, Mixup p = 0.5, M = 2, b = 2"),
        (("mixing.method=linear", "mixing.alpha=0", "msda=null"), 1, "MIMO, M = 2, b = 2"),
        (("data.augmentation=augmix", "msda=null", "mixing.method=linear"), 1, "Linear-MixMo, AugMix, M = 2, b = 2"),
        (("data.augmentation=resized_crop", *SINGLE, "msda=null"), 1, "single network, resized crop, b = 2"),
        ((*SINGLE, "msda=null", "batch.input_repetition=0.5"), 1, "single network, b = 2, rho = 0.5"),
    ],
)
def test_the_recipe_reads_like_the_paper(config, overrides, epoch, line):
    assert recipe_in_a_line(load_config(config, overrides), epoch) == line


@pytest.mark.parametrize(
    ("out", "arguments", "parts"),
    [
        ("a.docx", (), ("a.docx", "'.docx'", ".png")),
        ("a.pgf", (), ("'.pgf'", ".png")),
        ("a", (), ("no suffix", ".png")),
        ("a.png", ("--rows-shown", 0), ("--rows-shown", "0", "1 to 32")),
        ("a.png", ("--epoch", 13), ("--epoch", "13", "1 to 12")),
        ("a.png", ("--step", 44), ("--step", "44", "0 to 43")),
        ("a.png", ("--step", -1), ("--step", "-1", "0 to 43")),
        ("a.png", ("--pipeline", "dali2"), ("'dali2'", "resident")),
        ("a.png", ("--device", "tpu"), ("'tpu'", "cpu")),
        ("a.png", ("--set", "mixing.method=cutmax"), ("mixing.method", "cutmax")),
        ("a.png", ("--set", "data.dataset=cifar100"), ("cifar100", "mixmo-fast convert cifar100")),
        ("cut_$x$_two.yaml/a.png", (), ("cut_$x$_two.yaml", "cannot write")),
    ],
)
def test_what_cannot_be_drawn_is_one_line(draw_by_command, tmp_path, out, arguments, parts):
    code, _, err = draw_by_command(*arguments, out=out)
    assert code == 2
    assert len(err.splitlines()) == 1, err
    assert err.startswith("mixmo-fast: ")
    for part in parts:
        assert part in err
    assert not (tmp_path / "a.png").exists()


def test_a_folder_is_not_a_picture(draw_by_command, tmp_path):
    (tmp_path / "folder.png").mkdir()
    code, _, err = draw_by_command(out="folder.png")
    assert (code, len(err.splitlines())) == (2, 1)
    assert "folder.png: cannot write: Is a directory" in err
