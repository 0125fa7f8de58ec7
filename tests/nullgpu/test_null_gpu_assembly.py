"""The assembly that is compiled for a GPU: one kernel, nothing in local memory, and the bits of its readable twin."""

import pytest
from null_gpu import missing, run

pytestmark = [
    pytest.mark.nullgpu,
    pytest.mark.slow,
    pytest.mark.skipif(missing() is not None, reason=str(missing())),
]


def test_the_assembly_is_one_kernel_that_makes_the_bits_of_its_twin(tmp_path):
    float32, bfloat16, fused, several = (str(tmp_path / f"{name}.py") for name in ("f32", "bf16", "fused", "several"))
    emitted = run(
        "assembly",
        *([float32, "float32"], [bfloat16, "bfloat16"]),
        *([fused, "float32", "fused"], [several, "float32", "sum"]),
    )
    assert [one["kernels"] for one in emitted[:3]] == [1, 1, 1]
    assert emitted[3]["kernels"] > 1  # the control
    *ours, control = run("emitted", "compile", *([path] for path in (float32, bfloat16, fused)))
    for block in (*ours[0], *ours[1]):
        assert (block["stack"], block["local"], block["fused"]) == (0, 0, 0)
        assert block["registers"] <= 48  # 10 blocks of 128 threads on a multiprocessor of 65,536
    assert all(block["fused"] for block in control)
    pointers = emitted[0]["pointers"]
    assert sorted(pointers) == ["box", "flip", "images", "index", "offset", "pixels", "table", "values"]
    (interpreted,) = run("emitted", "interpret", [float32, pointers], TRITON_INTERPRET="1")
    assert interpreted == {"differ": 0, "of": 16 * 2 * 3 * 32 * 32}
