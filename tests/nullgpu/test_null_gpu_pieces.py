"""Benchmarks of single pieces on a GPU that does nothing: what is captured there could be on a real one."""

import pytest
from null_gpu import missing, run

pytestmark = [pytest.mark.nullgpu, pytest.mark.skipif(missing() is not None, reason=str(missing()))]


@pytest.mark.slow
def test_pieces_are_timed_by_replays_and_by_launches_where_a_capture_is_refused():
    replayed, refused = run(
        "pieces", *({"network": "wrn-10-1", "refuse_capture": refuses} for refuses in (False, True))
    )
    for found, timed in ((replayed, "replays"), (refused, "launches")):
        assert list(found["stem"]) == ["separate", "grouped", "dense"]
        assert {stem[f"{way}_timed"] for stem in found["stem"].values() for way in ("eager", "compiled")} == {timed}
        assert {layer["timed"] for layer in found["ceiling"]["layers"]} == {timed}
        assert found["peak"][1] == timed
    assert replayed["illegal"] == []
    assert replayed["replays"] > 5 * 9 and refused["replays"] == 0
