"""Benchmarks of single pieces on a GPU that does nothing: what is captured there could be on a real one."""

import pytest
from null_gpu import missing, run

pytestmark = [pytest.mark.nullgpu, pytest.mark.skipif(missing() is not None, reason=str(missing()))]


@pytest.mark.parametrize("compiles", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["eager", "compiled"])
def test_pieces_are_timed_by_replays_and_by_launches_where_a_capture_is_refused(compiles):
    replayed, refused = run(
        "pieces",
        *({"network": "wrn-10-1", "compiles": compiles, "refuse_capture": refuses} for refuses in (False, True)),
    )
    for found, timed in ((replayed, "replays"), (refused, "launches")):
        ways = ("eager", "compiled") if compiles else ("eager",)
        assert list(found["stem"]) == ["separate", "grouped", "dense"]
        assert {stem[f"{way}_timed"] for stem in found["stem"].values() for way in ways} == {timed}
        assert {layer["timed"] for layer in found["ceiling"]["layers"]} == {timed}
        assert found["peak"][1] == timed
    assert replayed["illegal"] == []
    assert replayed["replays"] > 5 * 9 and refused["replays"] == 0


@pytest.mark.slow
def test_torch_compile_has_its_channels_innermost_where_they_are_asked_for():
    """In all tensors of all convolutions, so that beating that contestant is no accident of layouts."""
    twin, plain = run("rivals", *((f"compile_{name}", "wrn-10-1", 2, 8) for name in ("channels_last", "defaults")))
    assert twin["channels_last"] == twin["tensors"] > 0
    assert plain["channels_last"] < plain["tensors"]


@pytest.mark.slow
def test_a_whole_measurement_of_a_step_asks_nothing_of_a_gpu_that_it_would_refuse():
    found = run("measurement", "default,compile_channels_last")
    result = found["result"]
    assert found["illegal"] == []
    assert [name for name in ("data", "ceiling", "stem", "idle") if "error" in result[name]] == []
    assert [name for name, one in result["contestants"].items() if "error" in one] == []
    assert result["contestants"]["default"]["options"]["cuda_graph"]
    assert result["matrix_peak_timed"] == {"bf16": "replays"}
    assert result["first_step_after_seconds"] > result["contestants"]["default"]["first_steps_seconds"] / 2
    assert not [line for line in found["lines"] if "launches" in line]
