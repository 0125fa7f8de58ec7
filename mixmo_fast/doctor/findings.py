"""What the doctor finds, and what to do about it: plain values in, one `Finding` out.

Nothing here looks at the machine, so that a test can tell of any machine.
"""

import shlex
import sys
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from mixmo_fast.doctor.machine import Extra, Gpus

State = Literal["ok", "missing", "warning", "damaged", "broken"]

# As in `mixmo_fast.training.precision`, which needs a torch that works.
_FAST_BF16 = ("avx512_bf16", "amx_bf16")

_LITTLE_SHARED_MEMORY_BYTES = 10**9

_GET_DRIVER = "install NVIDIA's driver: https://www.nvidia.com/drivers, or the system's package of it"
_GET_CUDA_TORCH = "install a torch that is built for CUDA: https://pytorch.org/get-started/locally"
_GET_LIBRARIES = (
    "apt-get install libturbojpeg0-dev libopencv-dev pkg-config, "
    "or conda install -c conda-forge libjpeg-turbo opencv pkg-config compilers"
)
DALI_OF_THE_EXTRA = "nvidia-dali-cuda120"
"""What `make setup-dali` installs."""

_PIP = f"{shlex.quote(sys.executable)} -m pip"
INSTALL = f"{_PIP} install --editable ."


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        area: What it belongs to.
        name: What it is.
        state: `ok`; `missing`, which training can do without; `warning`, which may get in the way; `damaged`, a
            data set that is not what was written; `broken`, without which nothing can be trained.
        detail: What was found.
        remedy: What to run or do about it; empty when ok.
    """

    area: str
    name: str
    state: State
    detail: str
    remedy: str = ""


def judge_core(name: str, version: str | None, problem: str, note: str = "") -> Finding:
    """A package without which nothing runs: its version, and why importing it failed (empty where it did not)."""
    if problem:
        found = f"{version or 'not installed'}: {problem}"
        return Finding("software", name, "broken", found, f"{_PIP} install --force-reinstall {name}")
    return Finding("software", name, "ok", ", ".join(filter(None, (version or "version unknown", note))))


def judge_requirements(requirements: Iterable[str], installed: Callable[[str], str | None]) -> Finding:
    """Whether all required packages are there, and new enough.

    Args:
        requirements: As in the package's metadata, such as `numpy>=1.26`.
        installed: Gives the installed version of a package, or None.
    """
    try:
        from packaging.requirements import Requirement
    except ImportError:
        found, remedy = "cannot be checked without the package `packaging`", f"{_PIP} install packaging"
        return Finding("software", "requirements", "warning", found, remedy)
    wanted = [Requirement(requirement) for requirement in requirements]
    wanted = [one for one in wanted if one.marker is None or one.marker.evaluate({"extra": ""})]
    versions = {one: installed(one.name) for one in wanted}
    lacking = [one for one, version in versions.items() if version is None]
    old = [one for one, version in versions.items() if version and not one.specifier.contains(version, True)]
    if not (lacking or old):
        return Finding("software", "requirements", "ok", f"all {len(wanted)} packages are there and new enough")
    faults = [f"{one.name} is missing" for one in lacking]
    faults += [f"{one.name} is {versions[one]}, wanted is {one.specifier}" for one in old]
    return Finding("software", "requirements", "broken" if lacking else "warning", "; ".join(faults), INSTALL)


def _remedy(problem: str) -> str:
    """What to do about a GPU on which a small calculation failed."""
    if "busy or unavailable" in problem or "out of memory" in problem:
        return "nvidia-smi shows who uses it; end that, or wait for it"
    return f"choose a torch that supports this GPU and driver: {_GET_CUDA_TORCH}" if problem else ""


def judge_gpus(gpus: Gpus) -> list[Finding]:
    """One finding for each GPU; where there is none, why, as far as that can be told."""
    if gpus.seen:
        return [
            Finding(
                "GPU",
                f"GPU {index}",
                "warning" if gpu.problem else "ok",
                f"{gpu.name}, {gigabytes(gpu.memory_bytes)}, compute capability {gpu.capability}, "
                f"driver {gpus.driver or 'of unknown version'}{': ' + gpu.problem if gpu.problem else ''}",
                _remedy(gpu.problem),
            )
            for index, gpu in enumerate(gpus.seen)
        ]
    driver = f"NVIDIA's driver {gpus.driver}"
    if gpus.built_for is None and (gpus.driver or gpus.on_bus):
        found = f"an NVIDIA GPU is here ({driver if gpus.driver else 'no driver'}), but this torch is a CPU build"
        remedy = _GET_CUDA_TORCH if gpus.driver else f"{_GET_DRIVER}; then {_GET_CUDA_TORCH}"
        return [Finding("GPU", "GPU", "warning", found, remedy)]
    if gpus.hidden and (gpus.driver or gpus.on_bus):
        return [Finding("GPU", "GPU", "warning", "hidden by CUDA_VISIBLE_DEVICES", "unset CUDA_VISIBLE_DEVICES")]
    if gpus.driver:
        found = f"{driver} is here, but torch cannot use a GPU: {gpus.complaint or 'it does not say why'}"
        remedy = f"a newer driver, or a torch for an older CUDA than {gpus.built_for}: {_GET_CUDA_TORCH}"
        return [Finding("GPU", "GPU", "warning", found, remedy)]
    if gpus.on_bus:
        return [Finding("GPU", "GPU", "warning", "an NVIDIA GPU is here, but not its driver", _GET_DRIVER)]
    return [Finding("GPU", "GPU", "missing", "none seen", "nothing to do: training uses the CPU")]


def judge_bf16(gpus: Gpus, instructions: Collection[str]) -> Finding:
    """Whether the arithmetic of GPUs, or else of a processor with these instruction sets, has bfloat16."""
    if gpus.seen:
        lacking = [gpu.name for gpu in gpus.seen if not gpu.bf16]
        if not lacking:
            return Finding("GPU", "bf16", "ok", "on the GPU; step.precision: auto uses it")
        found = f"not on {', '.join(lacking)}; step.precision: auto is fp32 there"
        return Finding("GPU", "bf16", "missing", found, "train with --set step.precision=fp16 for more speed")
    here = sorted(set(_FAST_BF16) & set(instructions))
    if here:
        return Finding("GPU", "bf16", "ok", f"on the processor ({', '.join(here)}); step.precision: auto uses it")
    return Finding("GPU", "bf16", "missing", "not on this processor", "nothing to do: step.precision: auto is fp32")


def judge_extra(name: str, extra: Extra, setup: str) -> Finding:
    """An optional package, and the command that installs it."""
    if not extra.found:
        return Finding("extras", name, "missing", "not installed", setup)
    version = extra.version or "version unknown"
    if extra.problem:
        remedy = f"{setup}; if that changes nothing: {_PIP} uninstall {extra.package}, and again"
        return Finding("extras", name, "warning", f"{version} does not load: {extra.problem}", remedy)
    return Finding("extras", name, "ok", version)


def judge_dali(extra: Extra, gpus: Gpus) -> Finding:
    """DALI, which comes as one package for each CUDA, of which the one that torch is built for fits."""
    # A torch without CUDA uses DALI on the processor, for which the package of the extra is as good as any.
    fitting = "nvidia-dali-cuda130" if (gpus.built_for or "").startswith("CUDA 13") else DALI_OF_THE_EXTRA
    beside = f"{fitting} fits this torch, built for {gpus.built_for or 'CPUs only'}"
    setup = "make setup-dali" if fitting == DALI_OF_THE_EXTRA else f"{_PIP} install '{fitting}>=2.0'"
    finding = judge_extra("DALI", extra, setup)
    if not extra.found:
        return replace(finding, detail=f"not installed; {beside}")
    if finding.state == "ok" and gpus.seen and extra.package != fitting:
        remedy = f"{_PIP} uninstall {extra.package}; {setup}"  # both would lie in one folder
        return replace(
            finding, state="warning", detail=f"{extra.package} {finding.detail}, but {beside}", remedy=remedy
        )
    return replace(finding, detail=f"{extra.package} {finding.detail}")


def judge_headers(name: str, version: str | None, has_pkg_config: bool, ffcv_loads: bool) -> Finding:
    """A C library that ffcv is compiled against, as pkg-config knows it."""
    if version:
        return Finding("extras", name, "ok", f"{version}, with headers")
    found = "no headers found" if has_pkg_config else "cannot be told without pkg-config"
    if ffcv_loads:
        return Finding("extras", name, "ok", f"{found}; not needed, since ffcv is built")
    return Finding("extras", name, "missing", f"{found}; ffcv compiles against it", _GET_LIBRARIES)


def judge_compiler(there: bool, has_gpu: bool) -> Finding:
    """Whether there is a C++ compiler, which torch calls to make kernels for a GPU."""
    if there:
        return Finding("extras", "C++ compiler", "ok", "found")
    found = "none found; training on a GPU, step.compile and building ffcv need one"
    remedy = "apt-get install g++, or conda install -c conda-forge compilers"
    return Finding("extras", "C++ compiler", "warning" if has_gpu else "missing", found, remedy)


def judge_disk(folder: Path, disk: tuple[Path, int, bool] | None, needed_bytes: int) -> Finding:
    """Room for data sets.

    Args:
        folder: The data folder.
        disk: Its nearest existing place, free bytes there, and whether it can be written to.
        needed_bytes: What the largest data set takes.
    """
    if disk is None:
        return Finding("data", "disk", "warning", f"{folder} cannot be looked at", "name another folder with --data")
    place, free_bytes, writable = disk
    found = f"{gigabytes(free_bytes)} free in {place}"
    if not writable:
        return Finding("data", "disk", "warning", f"{place} cannot be written to", "name another folder with --data")
    if free_bytes < needed_bytes:
        found += f"; the largest data set takes {gigabytes(needed_bytes)}"
        return Finding("data", "disk", "warning", found, "make room, or name another folder with --data")
    return Finding("data", "disk", "ok", found)


def judge_shared_memory(size_bytes: int | None) -> Finding:
    """Room in /dev/shm, through which worker processes hand over batches; None for a system that has none."""
    if size_bytes is None:
        return Finding("data", "shared memory", "ok", "no /dev/shm on this system")
    found = f"{gigabytes(size_bytes)} in /dev/shm"
    if size_bytes >= _LITTLE_SHARED_MEMORY_BYTES:
        return Finding("data", "shared memory", "ok", found)
    remedy = "as root: mount -o remount,size=8G /dev/shm; or --pipeline resident, which has no workers"
    return Finding("data", "shared memory", "warning", f"{found}: too little for data loading workers", remedy)


def gigabytes(size_bytes: int) -> str:
    """A size in GB (10**9 bytes)."""
    return f"{size_bytes / 1e9:,.1f} GB"
