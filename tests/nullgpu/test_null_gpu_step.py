"""A training step on a GPU that does nothing: everything but time and numbers (`nullgpu.c` says how)."""

import pytest
from null_gpu import missing, run

pytestmark = [pytest.mark.nullgpu, pytest.mark.skipif(missing() is not None, reason=str(missing()))]

RES18_EAGER = {"network": "res18-1", "members": 2, "stem": "grouped"}
EAGER = (
    {"network": "wrn-10-1", "members": 1},
    {"network": "wrn-10-1", "members": 2, "precision": "fp16", "stem": "dense"},
    {"network": "wrn-10-1", "members": 3, "precision": "fp32", "deterministic": True},
    RES18_EAGER,
)
COMPILED = (
    {"network": "wrn-10-1", "members": 2, "evaluates": True},
    {"network": "wrn-10-1", "members": 3, "precision": "fp16", "stem": "dense"},
)
OTHERS_COMPILED = ({"network": "res18-1", "members": 1, "precision": "fp32", "deterministic": True},)


def assert_captured(found: dict, setting: dict) -> None:
    """One graph that holds the whole step, replayed without a wait; the host's part of a step is two launches."""
    assert (found["illegal"], found["lines"], found["error"]) == ([], [], None), setting
    *warm_up, capture, first, second, third = found["steps"]
    assert [step["replays"] for step in warm_up] == [0, 0, 0]
    assert capture["replays"] == 1
    for replay in (first, second, third):
        happened = {name: count for name, count in replay.items() if count and name != "captured"}
        window_ends = {"copies": 1} if replay is second else {}  # the sum of losses so far
        assert happened == {"launches": 2, "replays": 1} | window_ends, setting  # a batch and a learning rate
    assert found["captured"] > 50
    outermost = [layout for layout in found["layouts"] if layout != "channels_last"]
    # torch's gradient of a mean over the map has channels outermost; PreActResNets end with one. Compiled, it has not.
    assert outermost == (["strides (8192, 16, 4, 1) of (8, 512, 4, 4)"] if setting is RES18_EAGER else []), setting
    passes = found["convolutions"]
    assert passes["forward"] == passes["backward"] > 0
    assert found["peak_bytes"] < 400e6, setting  # 8 rows; the data set is not counted


@pytest.mark.parametrize(
    ("settings", "compiled"),
    [
        (EAGER, False),
        pytest.param(COMPILED, True, marks=pytest.mark.slow),
        pytest.param(OTHERS_COMPILED, True, marks=pytest.mark.slow),
    ],
    ids=["eager", "compiled", "others compiled"],
)
def test_a_step_is_captured_whole_and_replayed_without_a_wait(settings, compiled):
    for setting, found in zip(settings, run("steps", *({**one, "compile": compiled} for one in settings)), strict=True):
        assert_captured(found, setting)
        evaluates = "evaluates" in setting
        assert found["evaluated"] == (3 * 9 if evaluates else None)  # convolutions of each of three batches
        # The assembly, the step and the evaluation, each compiled once.
        assert found["graphs"] == 1 + compiled + evaluates, setting


def test_what_spoils_a_step_is_seen():
    """Controls: a look at the host, maps with channels outermost, and a capture that the device refuses."""
    plain = {"network": "wrn-10-1", "members": 2, "compile": False}
    wait, required, outermost, refused = run(
        "steps",
        {**plain, "spoilt": "item"},
        {**plain, "spoilt": "item", "cuda_graph": True},
        {**plain, "spoilt": "nchw"},
        {**plain, "precision": "fp16", "refuse_capture": True},
    )
    assert wait["illegal"]
    (line,) = wait["lines"]
    assert line.startswith("the step cannot be captured as a CUDA graph here (")
    assert "not permitted when stream is capturing" in line
    assert len(wait["steps"]) == 7 and not any(step["replays"] for step in wait["steps"])
    assert "not permitted when stream is capturing); train with --set step.cuda_graph=false" in required["error"]
    assert [layout for layout in outermost["layouts"] if layout.startswith("strides")]
    assert len(refused["lines"]) == 1 and len(refused["steps"]) == 7 and refused["error"] is None
