"""The contract of all pipelines: one plan, one batch, to the last bit, whoever makes it.

The witness is `pipelines.assembly.assemble`, plain torch on the plan of `draw_step_plan`. No pipeline is allowed a
difference: bytes become floats by a table or by torchvision's own float32 arithmetic, which the table was made with,
and mixing rounds each product and each sum to float32 everywhere.

Shapes: N images, B rows, M members.
"""

import dataclasses
import gc
import importlib.util
import os
import shutil
import subprocess
import sys
import threading
from contextlib import closing
from functools import lru_cache
from itertools import islice, product
from pathlib import Path

import numba
import numpy as np
import own_images
import pytest
import torch
from lab import Lab, assert_same_tensors
from places import REPOSITORY, TESTS
from small_dataset import assert_same_batch

from mixmo_fast.batch import Batch, TrainingBatches
from mixmo_fast.config.load import parse_config
from mixmo_fast.config.schema import Config
from mixmo_fast.errors import DataError
from mixmo_fast.mixing.plan import draw_step_plan
from mixmo_fast.run import build
from mixmo_fast.training.precision import Precision
from pipelines.assembly.assemble import assemble, normalisation_table
from pipelines.datasets.catalog import dataset_info
from pipelines.datasets.convert import write_folder
from pipelines.datasets.sources import OriginalImages
from pipelines.datasets.store import Dataset, open_dataset
from pipelines.plans import pack, unpack
from pipelines.reference import ReferenceTraining, Rows

CPU, FP32 = torch.device("cpu"), Precision("fp32", "cpu")
FFCV = pytest.param("ffcv", marks=[pytest.mark.ffcv, pytest.mark.filterwarnings("default")])
DALI = pytest.param("dali", marks=[pytest.mark.dali, pytest.mark.filterwarnings("default")])
PIPELINES = ["resident", FFCV, DALI, "reference"]
# data set, members, manifold mixing, input mixing, repetitions
CASES = [
    ("cifar100", 1, None, None, 1),
    ("cifar100", 1, None, "cutmix", 2),
    ("cifar100", 2, "patch", "cutmix", 4),
    ("cifar100", 2, "linear", "mixup", 2),
    ("cifar100", 2, "cow", "noise", 1),
    ("cifar100", 3, "patch", "patchupsoft", 2),
    ("cifar100", 3, "channel", "channel", 2),
    ("tinyimagenet", 2, "patch", "cutmix", 4),
    ("tinyimagenet", 2, "stackchannel", "cow", 2),
    ("tinyimagenet", 3, "patch", "mixup", 1),
    ("tinyimagenet", 1, None, "mixup", 1),
    ("digits", 2, "patch", "cutmix", 2),
    ("digits", 3, "stackvertical", "stackhorizontal", 4),
    ("pets", 2, "patch", "cutmix", 4),
]
USUAL = CASES[2]
# the same, then the fraction held out
AUGMIX_CASES = [
    ("cifar100", 1, None, None, 2, 0.0),
    ("cifar100", 2, "patch", "cutmix", 4, 0.3),
    ("tinyimagenet", 2, "linear", "mixup", 1, 0.0),
    ("cifar100", 3, "cow", None, 4, 0.0),
]
RESIZED_CROPS = ["augmentation: resized_crop", "augmentation: resized_crop, crop_scale: [0.02, 0.3], flip: false"]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """A data folder with few images of each shape, 103 so that they never fill whole steps; the pets are own images."""
    folder = tmp_path_factory.mktemp("contract")
    random = np.random.default_rng(0)
    for name in ("cifar100", "tinyimagenet", "digits"):
        info = dataset_info(name)
        images = random.integers(0, 256, (103, info.height, info.width, 3), dtype=np.uint8)
        labels = random.integers(0, info.classes, 103)
        (folder / name).mkdir()
        write_folder(info, OriginalImages(images, labels, images[:9], labels[:9], ("made up",), False), folder / name)
    for number in range(112):
        path = folder / "photographs" / ("train" if number < 103 else "val") / "abc"[number % 3] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(own_images.encoded(number, side=20))
    own_images.convert(folder / "photographs", folder)
    return folder


@pytest.fixture(autouse=True)
def finalisers_complain_here(request):
    """The functions that FFCV compiles complain when they are finalised; here, and not in somebody else's test."""
    yield
    if request.node.get_closest_marker("ffcv"):
        gc.collect()


def config_of(
    name: str,
    members: int,
    mixing: str | None,
    msda: str | None,
    repetitions: int,
    data: str = "",
) -> Config:
    """A small run; `data` is what else its data section has."""
    manifold = "null" if mixing is None else f"{{method: {mixing}, prob: {1.0 if mixing == 'linear' else 0.6}}}"
    network = "preact_resnet, depth: 18" if name == "tinyimagenet" else "wide_resnet, depth: 10"
    return parse_config(
        f"""
data: {{dataset: {name}, {data}}}
network: {{kind: {network}, width: 1, members: {members}}}
mixing: {manifold}
msda: {f"{{method: {msda}, prob: 0.6}}" if msda else "null"}
batch: {{rows: 12, repetitions: {repetitions}}}
optimizer: {{lr: 0.1, weight_decay: 0.0}}
schedule: {{epochs: 10, warmup_steps: 0}}
seed: 7
""",
        "case.yaml",
    )


def skip_without_library(pipeline: str) -> None:
    """Looks for the library without importing it, which may change this process's number of threads."""
    name = {"ffcv": "ffcv", "dali": "nvidia.dali"}.get(pipeline, "torch")
    try:
        found = importlib.util.find_spec(name)
    except ModuleNotFoundError:  # not even what it would lie in
        found = None
    if found is None:
        pytest.skip(f"needs {name}")


def make_batches(config: Config, dataset: Dataset, pipeline: str, workers: int | None = 0) -> TrainingBatches:
    """The pipeline, if what it needs is installed; without workers `reference` works in this process."""
    skip_without_library(pipeline)
    if (pipeline, workers) == ("reference", 0):
        arrays, recipe = (
            (dataset.load_images("train"), dataset.load_labels("train")),
            build.make_recipe(config, dataset),
        )
        return ReferenceTraining(*arrays, dataset.mean, dataset.std, recipe, config.seed, CPU, workers=0)
    options = build.PipelineOptions(pipeline, 1 if workers == 0 else workers)
    return build.make_training_batches(config, dataset, options, CPU, FP32)


@lru_cache(maxsize=1)  # for the four pipelines, one after the other
def witness(folder: Path, case: tuple, settings: str) -> dict[tuple[int, int], Batch]:
    """(epoch, step) -> batch: of two epochs the first steps, and the last ones, of a later block of plans."""
    config, dataset = config_of(*case, settings), open_dataset(folder, case[0])
    recipe = build.make_recipe(config, dataset)
    images = torch.from_numpy(dataset.load_images("train"))
    labels = torch.from_numpy(dataset.load_labels("train"))
    table = torch.from_numpy(normalisation_table(dataset.mean, dataset.std))
    by_pillow, batches = ByPillow(config, dataset), {}
    for epoch, step in product((1, 2), {*range(6), recipe.steps_per_epoch - 2, recipe.steps_per_epoch - 1}):
        plan = draw_step_plan(recipe, config.seed, epoch, step)
        batch = assemble(images, labels, table, unpack(pack(plan), plan), recipe.crop_padding, torch.float32)
        others = recipe.augmix or recipe.resized_crop
        images_by_pillow = {"images": by_pillow[epoch, step]} if others else {}
        batches[epoch, step] = dataclasses.replace(batch, **images_by_pillow)
    return batches


def assert_epochs_are_the_witness(
    folder: Path, case: tuple, pipeline: str, settings: str = "", workers: int | None = 0
) -> None:
    config, dataset = config_of(*case, settings), open_dataset(folder, case[0])
    expected, steps = witness(folder, case, settings), build.make_recipe(config, dataset).steps_per_epoch
    with closing(make_batches(config, dataset, pipeline, workers)) as batches:
        assert batches.steps_per_epoch == steps
        for epoch in (1, 2):
            seen = 0
            for batch in batches.epoch(epoch):
                if (epoch, seen) in expected:
                    assert_same_batch(batch, expected[epoch, seen], epoch, seen)
                seen += 1
            assert seen == steps


class ByPillow:
    """The images of a step by torchvision and Pillow alone, one after the other: float32 (B, M * C, H, W)."""

    def __init__(self, config: Config, dataset: Dataset):
        recipe, statistics = build.make_recipe(config, dataset), (dataset.mean, dataset.std)
        arrays = dataset.load_images("train"), dataset.load_labels("train")
        self._rows, self._count = Rows(*arrays, *statistics, recipe, config.seed), recipe.rows

    def __getitem__(self, step: tuple[int, int]) -> torch.Tensor:
        return torch.stack([self._rows[(*step, row)][0] for row in range(self._count)]).permute(0, 3, 1, 2)


@pytest.mark.parametrize("pipeline", PIPELINES)
@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case)))
def test_every_pipeline_makes_the_planned_batches(data, pipeline, case):
    assert_epochs_are_the_witness(data, case, pipeline)


@pytest.mark.parametrize("pipeline", PIPELINES)
@pytest.mark.parametrize("settings", ["crop_padding: 0", "crop_padding: 40", "flip: false", "holdout: 0.3"])
def test_crops_flips_and_images_held_out_are_those_of_the_plan(data, pipeline, settings):
    assert_epochs_are_the_witness(data, USUAL, pipeline, settings)


@pytest.mark.parametrize("pipeline", [FFCV, DALI, "reference"])
@pytest.mark.parametrize("workers", [1, 3, None])
@pytest.mark.filterwarnings("ignore:This DataLoader will create 3 worker")  # where there are fewer cores
def test_the_number_of_workers_changes_nothing(data, pipeline, workers):
    assert_epochs_are_the_witness(data, USUAL, pipeline, workers=workers)


@pytest.mark.parametrize("pipeline", PIPELINES)
@pytest.mark.parametrize("case", AUGMIX_CASES, ids=lambda case: "-".join(map(str, case)))
def test_every_pipeline_makes_the_same_batches_of_augmixed_images(data, pipeline, case):
    *science, holdout = case
    assert_epochs_are_the_witness(data, tuple(science), pipeline, f"holdout: {holdout}, augmentation: augmix")


@pytest.mark.parametrize("pipeline", PIPELINES)
@pytest.mark.parametrize("case", AUGMIX_CASES, ids=lambda case: "-".join(map(str, case)))
@pytest.mark.parametrize("crops", RESIZED_CROPS, ids=["usual", "small"])
def test_every_pipeline_makes_the_same_batches_of_resized_crops(data, pipeline, case, crops):
    *science, holdout = case
    assert_epochs_are_the_witness(data, tuple(science), pipeline, f"holdout: {holdout}, {crops}")


@pytest.mark.parametrize("pipeline", [FFCV, DALI, "reference"])
@pytest.mark.parametrize("workers", [1, None])
def test_nor_with_resized_crops_does_the_number_of_workers(data, pipeline, workers):
    assert_epochs_are_the_witness(data, USUAL, pipeline, RESIZED_CROPS[0], workers)


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_an_epoch_of_resized_crops_goes_on_from_any_step(data, pipeline):
    config, dataset = config_of(*USUAL, RESIZED_CROPS[0]), open_dataset(data, "cifar100")
    with (
        closing(make_batches(config, dataset, pipeline)) as found,
        closing(make_batches(config, dataset, "resident")) as whole,
    ):
        assert found.steps_per_epoch > 32  # more than a block of plans
        for step, expected in enumerate(whole.epoch(2)):
            if step in (1, 33):
                assert_same_batch(next(iter(found.epoch(2, step))), expected, step)


@pytest.fixture(scope="module")
def by_resident(tmp_path_factory, digits) -> dict[str, torch.Tensor]:
    """The weights that an epoch ends in."""
    place = Lab(tmp_path_factory.mktemp("resident"), digits)
    place.train("schedule.epochs=1", pipeline="resident")
    return place.checkpoint()["network"]


@pytest.mark.parametrize("pipeline", [FFCV, DALI, "reference"])
def test_training_ends_in_the_same_weights_whatever_the_pipeline(lab, by_resident, pipeline):
    skip_without_library(pipeline)
    lab.train("schedule.epochs=1", pipeline=pipeline, workers=1)
    assert_same_tensors(lab.checkpoint()["network"], by_resident)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"classes": 5}, "label.* allowed are 0 to 4"), ({"height": 16}, "not an array|sizes|16")],
    ids=["fewer classes", "another shape"],
)
@pytest.mark.parametrize("pipeline", PIPELINES)
def test_a_data_set_that_is_not_what_its_manifest_says_is_refused(data, pipeline, change, message):
    dataset = dataclasses.replace(open_dataset(data, "cifar100"), **change)
    with pytest.raises(DataError, match=message):
        make_batches(config_of(*USUAL), dataset, pipeline, 1)


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_a_flipped_bit_of_a_pixel_is_found_before_the_first_batch(data, tmp_path, pipeline):
    shutil.copytree(data / "cifar100", tmp_path / "cifar100")
    dataset = open_dataset(tmp_path, "cifar100")
    path = dataset.beton_path("train") if pipeline == "ffcv" else dataset.images_path("train")
    content = path.read_bytes()
    place = content.index(dataset.load_images("train")[50].tobytes())
    path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    with pytest.raises(DataError, match=rf"{path.name}: its sha256 is not that of what was written"):
        make_batches(config_of(*USUAL), open_dataset(tmp_path, "cifar100"), pipeline, 1)


# Beginning and ending


@pytest.mark.parametrize("data_section", ["", "augmentation: augmix", "augmentation: resized_crop"])
@pytest.mark.parametrize("pipeline", PIPELINES)
def test_an_epoch_that_is_given_up_changes_no_other(data, pipeline, data_section):
    config, dataset = config_of("cifar100", 2, "patch", "cutmix", 1, data_section), open_dataset(data, "cifar100")
    batches, expected = make_batches(config, dataset, pipeline), make_batches(config, dataset, "resident")
    with closing(batches), closing(expected):
        for taken in (0, 1, 3, batches.steps_per_epoch):
            held = batches.epoch(2)
            assert len(list(islice(held, taken))) == taken
            for step, (one, other) in enumerate(zip(batches.epoch(1), expected.epoch(1), strict=True)):
                assert_same_batch(one, other, step)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("pipeline", PIPELINES)
def test_numbers_of_threads_stay_as_they_were(data, pipeline, workers):
    seen = []

    def numbers() -> tuple[int, int, int]:
        # A new thread begins with the process's number, which a library's threads could change.
        thread = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
        thread.start()
        thread.join()
        return torch.get_num_threads(), numba.get_num_threads(), seen.pop()

    config, dataset = config_of(*USUAL), open_dataset(data, "cifar100")
    before = numbers()
    with closing(make_batches(config, dataset, pipeline, workers)) as batches:
        assert numbers() == before
        for _ in islice(batches.epoch(1), 5):
            assert numbers() == before
    assert numbers() == before


PROGRAM = """
import sys
from pathlib import Path
import numba, torch

if __name__ == "__main__":
    from test_contract import USUAL, config_of, make_batches, open_dataset
    torch.set_num_threads(3)
    numba.set_num_threads(2)
    dataset = open_dataset(Path(sys.argv[1]), "cifar100")
    batches = make_batches(config_of(*USUAL), dataset, sys.argv[2], 1)
    epoch = batches.epoch(1)
    next(epoch)
    print(torch.get_num_threads(), numba.get_num_threads())
"""


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_a_program_that_ends_in_the_middle_of_an_epoch_ends_quietly_and_kept_its_threads(data, tmp_path, pipeline):
    """In a process that has not imported FFCV or DALI yet."""
    skip_without_library(pipeline)
    (tmp_path / "program.py").write_text(PROGRAM)
    path = os.pathsep.join(map(str, (REPOSITORY, TESTS / "support", TESTS / "pipelines")))
    environment = os.environ | {"NUMBA_NUM_THREADS": "2", "PYTHONPATH": path}
    command = [sys.executable, str(tmp_path / "program.py"), str(data), pipeline]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "3 2\n", "")


BROKEN = "raise ImportError('libgone.so: cannot open\\nfile')"


@pytest.mark.parametrize(
    ("pipeline", "package", "path", "remedy"),
    [
        ("ffcv", "ffcv", "ffcv", "run `make setup-ffcv`, or `pip install 'mixmo-fast[ffcv]'` after `apt-get install "),
        ("dali", "nvidia-dali-cuda120", "nvidia/dali", "run `make setup-dali`, or `pip install 'mixmo-fast[dali]'`"),
    ],
)
def test_a_library_that_is_missing_or_does_not_load_is_one_line(
    data, tmp_path, monkeypatch, pipeline, package, path, remedy
):
    config, dataset = config_of(*USUAL), open_dataset(data, "cifar100")
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, path.replace("/", "."), None)
        with pytest.raises(DataError) as missing:
            build.make_training_batches(config, dataset, build.PipelineOptions(pipeline), CPU, FP32)
    assert str(missing.value).startswith(f"the {pipeline} pipeline needs {package}: {remedy}")
    # Here it may have been imported already, so what does not load is imported elsewhere.
    (tmp_path / path).mkdir(parents=True)
    (tmp_path / path.split("/")[0] / "__init__.py").touch()
    (tmp_path / path / "__init__.py").write_text(BROKEN)
    find = {
        "ffcv": "from pipelines.ffcv_loader import _import_image_file as find",
        "dali": "from pipelines.dali_loader import _import_dali as find",
    }
    code = f"import sys; sys.path[:0] = [{str(tmp_path)!r}]; sys.modules.pop('nvidia', None); {find[pipeline]}; find()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY)
    reason = "which is installed but does not load (libgone.so: cannot open file)"
    assert f"DataError: the {pipeline} pipeline needs {package}, {reason}: {remedy}" in done.stderr
