"""The contract of all pipelines: one plan, one batch, to the last bit, whoever makes it.

The witness is `pipelines.assembly.assemble`, plain torch on the plan of `draw_step_plan`. No pipeline is allowed a
difference: bytes become floats by a table or by torchvision's own float32 arithmetic, which the table was made with,
and mixing rounds each product and each sum to float32 everywhere.

Shapes: N images, B rows, M members.
"""

import dataclasses
import gc
from contextlib import closing
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch

from mixmo_fast.batch import Batch
from mixmo_fast.config.load import parse_config
from mixmo_fast.config.schema import Config
from mixmo_fast.mixing.plan import draw_step_plan
from mixmo_fast.run import build
from mixmo_fast.training.precision import Precision
from pipelines.assembly.assemble import assemble, normalisation_table
from pipelines.datasets.catalog import dataset_info
from pipelines.datasets.convert import write_folder
from pipelines.datasets.sources import OriginalImages
from pipelines.datasets.store import Dataset, open_dataset
from pipelines.plans import pack, unpack
from pipelines.reference import Rows

CPU = torch.device("cpu")
PIPELINES = [
    "resident",
    pytest.param("ffcv", marks=[pytest.mark.ffcv, pytest.mark.filterwarnings("default")]),
    pytest.param("dali", marks=[pytest.mark.dali, pytest.mark.filterwarnings("default")]),
    "reference",
]
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
]
# the same, then workers and the fraction held out
AUGMIX_CASES = [
    ("cifar100", 1, None, None, 2, 2, 0.0),
    ("cifar100", 2, "patch", "cutmix", 4, 2, 0.3),
    ("tinyimagenet", 2, "linear", "mixup", 1, 1, 0.0),
    ("cifar100", 3, "cow", None, 4, 1, 0.0),
]


@pytest.fixture(scope="module")
def data(tmp_path_factory, digits) -> Path:
    """A data folder with few images of each shape; 103 of them never fill a whole number of steps."""
    folder = tmp_path_factory.mktemp("contract")
    (folder / "digits").symlink_to(digits / "digits")
    random = np.random.default_rng(0)
    for name in ("cifar100", "tinyimagenet"):
        info = dataset_info(name)
        images = random.integers(0, 256, (103, info.height, info.width, 3), dtype=np.uint8)
        labels = random.integers(0, info.classes, 103)
        (folder / name).mkdir()
        write_folder(info, OriginalImages(images, labels, images[:9], labels[:9], ("made up",), False), folder / name)
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
    holdout: float = 0.0,
    augmentation: str = "standard",
) -> Config:
    manifold = "null" if mixing is None else f"{{method: {mixing}, prob: {1.0 if mixing == 'linear' else 0.6}}}"
    network = "preact_resnet, depth: 18" if name == "tinyimagenet" else "wide_resnet, depth: 10"
    return parse_config(
        f"""
data: {{dataset: {name}, holdout: {holdout}, augmentation: {augmentation}}}
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


def assert_epochs_are_the_witness(config: Config, dataset: Dataset, options: build.PipelineOptions, steps: int) -> None:
    recipe = build.make_recipe(config, dataset)
    images = torch.from_numpy(dataset.load_images("train"))
    labels = torch.from_numpy(dataset.load_labels("train"))
    table = torch.from_numpy(normalisation_table(dataset.mean, dataset.std))
    by_pillow = ByPillow(config, dataset)
    batches = build.make_training_batches(config, dataset, options, CPU, Precision("fp32", "cpu"))
    with closing(batches):
        assert batches.steps_per_epoch == recipe.steps_per_epoch
        for epoch in (1, 2):
            seen = 0
            for step, batch in enumerate(batches.epoch(epoch)):
                if step < steps or step >= recipe.steps_per_epoch - 2:
                    plan = draw_step_plan(recipe, config.seed, epoch, step)
                    tensors = unpack(pack(plan), plan)
                    twin = assemble(images, labels, table, tensors, recipe.crop_padding, torch.float32)
                    if recipe.augmix:
                        twin = dataclasses.replace(twin, images=by_pillow[epoch, step])
                    for field in fields(Batch):
                        found, expected = getattr(batch, field.name), getattr(twin, field.name)
                        assert found.dtype == expected.dtype and torch.equal(found, expected), (epoch, step, field.name)
                    assert batch.images.is_contiguous(memory_format=torch.channels_last)
                seen += 1
            assert seen == recipe.steps_per_epoch


class ByPillow:
    """The images of a step by torchvision and Pillow alone, one after the other: float32 (B, M * C, H, W)."""

    def __init__(self, config: Config, dataset: Dataset):
        recipe, statistics = build.make_recipe(config, dataset), (dataset.mean, dataset.std)
        arrays = dataset.load_images("train"), dataset.load_labels("train")
        self._rows, self._count = Rows(*arrays, *statistics, recipe, config.seed), recipe.rows

    def __getitem__(self, step: tuple[int, int]) -> torch.Tensor:
        return torch.stack([self._rows[(*step, row)][0] for row in range(self._count)]).permute(0, 3, 1, 2)


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case)))
@pytest.mark.parametrize("pipeline", PIPELINES)
def test_every_pipeline_makes_the_planned_batches(data, pipeline, case):
    pytest.importorskip({"ffcv": "ffcv", "dali": "nvidia.dali"}.get(pipeline, "torch"))
    config = config_of(*case)
    assert_epochs_are_the_witness(config, open_dataset(data, case[0]), build.PipelineOptions(pipeline, 1), 12)


@pytest.mark.parametrize("pipeline", PIPELINES)
@pytest.mark.parametrize("workers", [2, 3, None])
@pytest.mark.filterwarnings("ignore:This DataLoader will create 3 worker")  # where there are fewer cores
def test_the_number_of_workers_changes_nothing(data, pipeline, workers):
    pytest.importorskip({"ffcv": "ffcv", "dali": "nvidia.dali"}.get(pipeline, "torch"))
    config = config_of("cifar100", 2, "patch", "cutmix", 4)
    assert_epochs_are_the_witness(config, open_dataset(data, "cifar100"), build.PipelineOptions(pipeline, workers), 99)


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_images_held_out_of_training_are_held_out_by_every_pipeline(data, pipeline):
    pytest.importorskip({"ffcv": "ffcv", "dali": "nvidia.dali"}.get(pipeline, "torch"))
    config = config_of("cifar100", 2, "patch", "cutmix", 4, holdout=0.3)
    assert_epochs_are_the_witness(config, open_dataset(data, "cifar100"), build.PipelineOptions(pipeline, 1), 99)


@pytest.mark.parametrize("case", AUGMIX_CASES, ids=lambda case: "-".join(map(str, case)))
@pytest.mark.parametrize("pipeline", PIPELINES)
def test_every_pipeline_makes_the_same_batches_of_augmixed_images(data, pipeline, case):
    pytest.importorskip({"ffcv": "ffcv", "dali": "nvidia.dali"}.get(pipeline, "torch"))
    *science, workers, holdout = case
    config, dataset = config_of(*science, holdout, "augmix"), open_dataset(data, case[0])
    assert_epochs_are_the_witness(config, dataset, build.PipelineOptions(pipeline, workers), 8)


@pytest.mark.ffcv
@pytest.mark.filterwarnings("default")
def test_ffcv_makes_them_with_either_cache(data):
    pytest.importorskip("ffcv")
    config, dataset = config_of("cifar100", 2, "patch", "cutmix", 4), open_dataset(data, "cifar100")
    assert_epochs_are_the_witness(config, dataset, build.PipelineOptions("ffcv", 2, "process"), 99)


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_training_ends_in_the_same_weights_whatever_the_pipeline(lab, pipeline):
    pytest.importorskip({"ffcv": "ffcv", "dali": "nvidia.dali"}.get(pipeline, "torch"))
    results = []
    for name in ("resident", pipeline):
        lab.train("schedule.epochs=1", pipeline=name, workers=1, from_scratch=True)
        results.append(lab.checkpoint()["network"])
    first, second = results
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name


@pytest.mark.parametrize(
    ("change", "message"),
    [({"classes": 5}, "label.* allowed are 0 to 4"), ({"height": 16}, "not an array|sizes|16")],
    ids=["fewer classes", "another shape"],
)
@pytest.mark.parametrize("pipeline", PIPELINES)
def test_a_data_set_that_is_not_what_its_manifest_says_is_refused(data, pipeline, change, message):
    from mixmo_fast.errors import DataError

    pytest.importorskip({"ffcv": "ffcv", "dali": "nvidia.dali"}.get(pipeline, "torch"))
    dataset = dataclasses.replace(open_dataset(data, "cifar100"), **change)
    config = config_of("cifar100", 2, "patch", "cutmix", 4)
    with pytest.raises(DataError, match=message):
        build.make_training_batches(config, dataset, build.PipelineOptions(pipeline, 1), CPU, Precision("fp32", "cpu"))
