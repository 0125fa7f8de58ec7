"""The kernel in a file that `assembly.py` wrote, compiled for an H100 ahead of time, or interpreted on the host.

Shapes: N images of the data set, B rows, M members, P = 2 (image, partner), C channels, H W pixels.
"""

import importlib.util
import re
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

PADDING = 4
_N, _B, _M, _P, _C, _H, _W = 50_000, 16, 2, 2, 3, 32, 32

ARRAYS = (
    ("images", (_N, _H, _W, _C), "uint8"),
    ("table", (_C, 256), "float32"),
    ("index", (_B, _M, _P), "int32"),
    ("offset", (_B, _M, _P, 2), "int32"),
    ("flip", (_B, _M, _P), "uint8"),
    ("box", (_B, _M, 4), "int32"),
    ("pattern", (_B, _M, 0, 0, 0), "uint8"),
    ("values", (_B, _M, 2), "float32"),
)
"""What `assemble_pixels` reads in a step of 16 rows, M=2, on CIFAR: name, shape, dtype."""


def load(path: str) -> tuple[Any, dict[str, str], bool]:
    """The Triton function, its signature (name -> type), and whether it may round a product and a sum once."""
    pattern = r"^(triton_\w+) = async_compile\.triton\('\w+', '''(.*?)''', device_str"
    name, body = re.search(pattern, Path(path).read_text(), re.MULTILINE | re.DOTALL).groups()
    plain = re.sub(r"@triton_heuristics\.\w+\(.*?\n\)\n@triton\.jit", "@triton.jit", body, flags=re.DOTALL)
    source = Path(path).with_suffix(".kernel.py")  # Triton reads a function's file
    source.write_text(plain.replace("triton_helpers.set_driver_to_gpu()", ""))
    spec = importlib.util.spec_from_file_location("kernel", source)
    module: ModuleType = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    signature = re.search(r"'signature': \{(.*?)\}", body)[1]
    may_fuse = "'enable_fp_fusion': False" not in body
    return getattr(module, name), dict(re.findall(r"'(\w+)': '([*\w]+)'", signature)), may_fuse


def compile_for_h100(path: str) -> list[dict[str, int]]:
    """What ptxas makes of it for two sizes of a block.

    Returns:
        `registers` of a thread, bytes of `stack` and of `local` memory (where registers spill to), and `fused`: how
        many instructions round a product and a sum once.
    """
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    tools = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
    kernel, signature, may_fuse = load(path)
    aligned = {(number,): [["tt.divisibility", 16]] for number, kind in enumerate(signature.values()) if "*" in kind}
    found = []
    for block, warps in ((256, 4), (512, 8)):
        source = ASTSource(fn=kernel, signature=signature, constexprs={"XBLOCK": block}, attrs=aligned)
        options = {"num_warps": warps, "enable_fp_fusion": may_fuse, "debug": False}
        made = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)
        with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
            file.write(made.asm["cubin"])
            file.flush()
            usage, code = (
                subprocess.run([tools / tool, option, file.name], capture_output=True, text=True, check=True).stdout
                for tool, option in (("cuobjdump", "--dump-resource-usage"), ("nvdisasm", "-c"))
            )
        names = {"registers": "REG", "stack": "STACK", "local": "LOCAL"}
        numbers = {name: int(re.search(rf"{word}:(\d+)", usage)[1]) for name, word in names.items()}
        found.append(numbers | {"fused": len(re.findall(r"\bFFMA\b", code))})
    return found


def interpret(path: str, pointers: Sequence[str]) -> dict[str, int]:
    """How many float32 pixels of a step differ from those of the readable twin.

    Args:
        path: The file.
        pointers: Names of what the kernel is given, in order: `pixels`, and those of `ARRAYS`.
    """
    from pipelines.assembly.assemble import assemble_pixels

    arrays = {name: torch.from_numpy(array) for name, array in _step().items()}
    expected = assemble_pixels(*arrays.values(), PADDING, torch.float32)
    found = torch.full_like(expected, torch.nan)
    kernel, *_ = load(path)
    block = 1024
    given = [found if name == "pixels" else arrays[name] for name in pointers]
    kernel[(found.numel() // block,)](*given, found.numel(), XBLOCK=block)
    return {"differ": int((found != expected).sum()), "of": found.numel()}


def _step() -> dict[str, np.ndarray]:
    """Anything that a plan may ask for: crops beyond the edges, flips, boxes, and values that round."""
    random = np.random.default_rng(0)
    highest = {"images": 256, "index": _N, "offset": 2 * PADDING + 1, "flip": 2}
    arrays = {}
    for name, shape, kind in ARRAYS:
        if name in highest:
            arrays[name] = random.integers(0, highest[name], shape, dtype=kind)
        else:
            arrays[name] = random.random(shape, dtype="float32").astype(kind)
    sides = np.sort(random.integers(0, _H + 1, (_B, _M, 2, 2)), axis=-1)
    arrays["box"] = sides.reshape(_B, _M, 4).astype(np.int32)
    return arrays


if __name__ == "__main__":
    from inside import answer, arguments

    what, *several = arguments()
    answer([{"compile": compile_for_h100, "interpret": interpret}[what](*one) for one in several])
