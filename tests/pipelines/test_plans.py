"""Plans that are drawn ahead: the same plans, in the same order, whatever happens to the epoch before."""

import threading
from dataclasses import fields

import numpy as np
import pytest
import torch
from recipes import small_recipe

from mixmo_fast.mixing.plan import StepPlan, draw_plan_block, draw_step_plan
from mixmo_fast.mixing.recipe import Recipe
from pipelines.plans import PlanFeed, drawing_threads, pack, steps_per_block, unpack

CPU = torch.device("cpu")


def recipe(rows: int = 4, **changes) -> Recipe:
    return small_recipe(**{"images": 600, "rows": rows, "repetitions": 1} | changes)


def assert_same(tensors: StepPlan, arrays: StepPlan) -> None:
    for field in fields(StepPlan):
        tensor, array = getattr(tensors, field.name), getattr(arrays, field.name)
        assert isinstance(tensor, torch.Tensor)
        np.testing.assert_array_equal(tensor.numpy(), array, field.name)
        assert tensor.numpy().dtype == array.dtype


@pytest.mark.parametrize(("method", "msda"), [("patch", "cutmix"), ("cow", "channel"), ("channel", "noise")])
@pytest.mark.parametrize("steps", [1, 7])
def test_a_plan_is_packed_into_one_buffer_and_found_again(method, msda, steps):
    block = draw_plan_block(recipe(mixing=method, msda=msda), 3, 1, 2, steps)
    assert_same(unpack(pack(block), block), block)
    assert_same(unpack(pack(block.at(0)), block.at(0)), block.at(0))


@pytest.mark.parametrize("rows", [4, 64, 300, 600])
def test_every_step_of_an_epoch_comes_once_in_order(rows):
    a_recipe = recipe(rows)
    feed = PlanFeed(a_recipe, 5, CPU)
    for epoch in (1, 2):
        plans = list(feed.epoch(epoch))
        assert len(plans) == a_recipe.steps_per_epoch
        for step, (host, device) in enumerate(plans):
            expected = draw_step_plan(a_recipe, 5, epoch, step)
            for field in fields(StepPlan):
                np.testing.assert_array_equal(getattr(host, field.name), getattr(expected, field.name))
            assert_same(device, expected)
    feed.close()


def test_an_epoch_that_was_given_up_does_not_disturb_the_next():
    a_recipe = recipe(4)
    assert a_recipe.steps_per_epoch > 4 * steps_per_block(4)
    feed = PlanFeed(a_recipe, 5, CPU)
    given_up = feed.epoch(1)
    next(given_up)
    again = [device for _, device in feed.epoch(1)]
    assert_same(again[-1], draw_step_plan(a_recipe, 5, 1, a_recipe.steps_per_epoch - 1))
    host, _ = next(given_up)  # and can itself go on
    np.testing.assert_array_equal(host.index, draw_step_plan(a_recipe, 5, 1, 1).index)
    feed.close()


def test_blocks_have_a_few_thousand_rows_at_most_and_at_least_one_step():
    assert [steps_per_block(rows) for rows in (1, 64, 1024, 2048, 10_000)] == [32, 32, 2, 1, 1]


def test_half_of_the_cores_that_a_process_may_use_draw_for_a_gpu(monkeypatch):
    for cores, threads in ((1, 1), (2, 1), (4, 2), (64, 4)):
        monkeypatch.setattr("pipelines.plans.available_cores", lambda cores=cores: cores)
        assert drawing_threads(torch.device("cuda")) == threads
        assert drawing_threads(CPU) == 1


def test_closing_ends_the_threads():
    feed = PlanFeed(recipe(), 5, CPU)
    next(feed.epoch(1))
    assert any(thread.name.startswith("plans") for thread in threading.enumerate())
    feed.close()
    assert not any(thread.name.startswith("plans") for thread in threading.enumerate())


def test_an_error_while_drawing_reaches_whoever_asks(monkeypatch):
    def broken(*_):
        raise MemoryError("no more")

    monkeypatch.setattr("pipelines.plans.draw_plan_block", broken)
    feed = PlanFeed(recipe(), 5, CPU)
    with pytest.raises(MemoryError, match="no more"):
        next(feed.epoch(1))
    feed.close()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_plans_arrive_whole_on_a_gpu():
    a_recipe = recipe(4)
    feed = PlanFeed(a_recipe, 5, torch.device("cuda"))
    for host, device in feed.epoch(1):
        for field in fields(StepPlan):
            assert torch.equal(getattr(device, field.name).cpu(), torch.from_numpy(getattr(host, field.name)))
    feed.close()
