"""What a compiled training step asks of a GPU, counted on the null GPU: launches, bytes and peak memory.

    PYTHONPATH=tests/support python tests/nullgpu/count.py benchmarks/results/launches_null_gpu.json

Nothing is timed. Convolutions are counted apart: how many kernels cuDNN makes of one, only a GPU can say.
"""

import json
import sys
import tempfile
from pathlib import Path

import torch
from null_gpu import missing, run

NETWORKS = (
    *(("wrn-28-10", 2, 64), ("wrn-28-10", 1, 64)),
    *(("res18-1", 2, 100), ("res18-2", 2, 100), ("res18-3", 2, 100)),
)

DEFINITIONS = {
    "captured_launches": "kernels in the graph of a step, convolutions not counted",
    "convolutions": "calls in a step: forward, and backward (weights' and inputs' gradients in one call)",
    "launches_outside": "kernels of a step outside the graph, on batches of the resident pipeline",
    "copies_outside": "copies of a step outside the graph",
    "compiled_bytes": "what the compiled parts of a step and of the assembly read and write, as Inductor counts it, "
    "convolutions' arrays included, whatever a cache would keep; the update of the weights is not compiled",
    "peak_bytes": "highest memory of tensors, the data set and cuDNN's workspaces not counted",
}


def count(network: str, members: int, rows: int) -> dict[str, object]:
    """The numbers of one setting; all passes compile anew, because bytes are counted while compiling."""
    with tempfile.TemporaryDirectory() as folder:
        more = {"TORCH_LOGS": "inductor_metrics", "TORCHINDUCTOR_CACHE_DIR": folder}
        setting = {"network": network, "members": members, "rows": rows, "compile": True}
        (found,) = run("steps", setting, **more)
    assert not (found["illegal"] or found["lines"] or found["error"]), found
    step = found["steps"][-1]
    return {
        **{"network": network, "members": members, "rows": rows, "captured_launches": found["captured"]},
        "convolutions": {
            which: number // 4 for which, number in found["convolutions"].items()
        },  # three plain, a capture
        "launches_outside": step["launches"],
        "copies_outside": step["copies"],
        "compiled_bytes": found["compiled_bytes"],
        "peak_bytes": found["peak_bytes"],
    }


def main() -> None:
    """Counts, prints and writes."""
    (target,) = sys.argv[1:]
    if why := missing():
        sys.exit(why)
    settings = []
    for one in NETWORKS:
        settings.append(count(*one))
        print(json.dumps(settings[-1]), flush=True)
    result = {"definitions": DEFINITIONS, "torch": torch.__version__, "compiled_for": "H100 (sm_90)", "steps": settings}
    Path(target).write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
