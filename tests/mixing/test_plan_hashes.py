"""Plans are a promise: a seed gives the same batches for ever, and on any processor."""

import hashlib
import json
from dataclasses import fields

import pytest
from places import TESTS

from mixmo_fast.config.load import load_config
from mixmo_fast.mixing.plan import StepPlan, draw_plan_block
from mixmo_fast.run import build
from pipelines.datasets.catalog import DATASETS

CONFIGS = {path.stem: path for path in (TESTS.parent / "configs").glob("*/*.yaml")}

HASHES: dict[str, dict[str, str]] = json.loads((TESTS / "golden" / "plan_hashes.json").read_text())
"""Run -> field of its plans, less those that are empty in all of them -> the first 16 hex digits of a SHA-256, drawn on
a processor without AVX-512."""

EMPTY = hashlib.sha256().hexdigest()[:16]


def test_the_promise_is_given_for_every_configuration_file():
    assert HASHES.keys() == CONFIGS.keys()


@pytest.mark.parametrize("name", sorted(HASHES))
def test_the_plans_of_a_run_never_change(name):
    """Steps 0 to 31 of the first epoch, of the one at two thirds and of the last, with seed 1."""
    config = load_config(CONFIGS[name])
    recipe = build.make_recipe(config, DATASETS[config.data.dataset])
    epochs = config.schedule.epochs
    blocks = [draw_plan_block(recipe, 1, epoch, 0, 32) for epoch in (1, 2 * epochs // 3, epochs)]
    for field in fields(StepPlan):
        content = b"".join(getattr(block, field.name).tobytes() for block in blocks)
        expected = HASHES[name].get(field.name, EMPTY)
        assert hashlib.sha256(content).hexdigest()[:16] == expected, field.name
