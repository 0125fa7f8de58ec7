"""MixMo: several subnetworks in one network, trained at the speed of the hardware.

What is listed here is the contract with users, `import mixmo_fast as mf`; everything else may move. A name is imported
when it is first used, so the import itself takes next to no time.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mixmo_fast.api.own_data import batches_of as batches_of
    from mixmo_fast.api.own_data import mean_and_std as mean_and_std
    from mixmo_fast.api.own_data import normalise as normalise
    from mixmo_fast.api.parts import build_network as build_network
    from mixmo_fast.api.parts import convert as convert
    from mixmo_fast.api.parts import convert_folder as convert_folder
    from mixmo_fast.api.parts import load_config as load_config
    from mixmo_fast.api.parts import make_recipe as make_recipe
    from mixmo_fast.api.parts import open_dataset as open_dataset
    from mixmo_fast.api.parts import test_batches as test_batches
    from mixmo_fast.api.parts import training_batches as training_batches
    from mixmo_fast.api.preview import preview as preview
    from mixmo_fast.api.runs import Run as Run
    from mixmo_fast.api.runs import evaluate as evaluate
    from mixmo_fast.api.runs import open_run as open_run
    from mixmo_fast.api.runs import train as train
    from mixmo_fast.batch import Batch as Batch
    from mixmo_fast.config.schema import Config as Config
    from mixmo_fast.errors import MixmoError as MixmoError
    from mixmo_fast.mixing.block import mix_features as mix_features
    from mixmo_fast.mixing.block import render_masks as render_masks
    from mixmo_fast.mixing.plan import StepPlan as StepPlan
    from mixmo_fast.mixing.plan import draw_step_plan as draw_step_plan
    from mixmo_fast.mixing.recipe import InputMixing as InputMixing
    from mixmo_fast.mixing.recipe import ManifoldMixing as ManifoldMixing
    from mixmo_fast.mixing.recipe import Recipe as Recipe
    from mixmo_fast.mixing.recipe import ResizedCrop as ResizedCrop
    from mixmo_fast.networks.mimoify import mimoify as mimoify
    from mixmo_fast.networks.multi import MixMo as MixMo
    from mixmo_fast.run.deploy import Exported as Exported
    from mixmo_fast.run.evaluate import Evaluation as Evaluation
    from mixmo_fast.run.network_formats import load_exported as load_exported
    from mixmo_fast.run.predict import Predictions as Predictions
    from mixmo_fast.run.predict import Predictor as Predictor
    from mixmo_fast.training.loss import soft_cross_entropy as soft_cross_entropy
    from pipelines.datasets.store import Dataset as Dataset

__version__ = "0.1.0"

_NAMES = {  # the same, for Python itself
    "mixmo_fast.api.own_data": ("batches_of", "mean_and_std", "normalise"),
    "mixmo_fast.api.parts": (
        *("build_network", "convert", "convert_folder", "load_config", "make_recipe", "open_dataset"),
        *("test_batches", "training_batches"),
    ),
    "mixmo_fast.api.preview": ("preview",),
    "mixmo_fast.api.runs": ("Run", "evaluate", "open_run", "train"),
    "mixmo_fast.batch": ("Batch",),
    "mixmo_fast.config.schema": ("Config",),
    "mixmo_fast.errors": ("MixmoError",),
    "mixmo_fast.mixing.block": ("mix_features", "render_masks"),
    "mixmo_fast.mixing.plan": ("StepPlan", "draw_step_plan"),
    "mixmo_fast.mixing.recipe": ("InputMixing", "ManifoldMixing", "Recipe", "ResizedCrop"),
    "mixmo_fast.networks.mimoify": ("mimoify",),
    "mixmo_fast.networks.multi": ("MixMo",),
    "mixmo_fast.run.deploy": ("Exported",),
    "mixmo_fast.run.evaluate": ("Evaluation",),
    "mixmo_fast.run.network_formats": ("load_exported",),
    "mixmo_fast.run.predict": ("Predictions", "Predictor"),
    "mixmo_fast.training.loss": ("soft_cross_entropy",),
    "pipelines.datasets.store": ("Dataset",),
}
_HOME = {name: module for module, names in _NAMES.items() for name in names}

__all__ = list(_HOME)


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
