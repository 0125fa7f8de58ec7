"""What this machine has, asked in ways that also work where half of it is missing: no answer is None, not an error.

Nothing is changed, and nothing is fetched. `torch.utils.collect_env` needs a torch that works, waits for programs
without limit, and tells neither memory, nor disks, nor whether a GPU computes; so it is not used. What the answers mean
is the business of `mixmo_fast.doctor.findings`.
"""

import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import warnings
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from types import ModuleType

_ANSWER_LIMIT_S = 20.0
_IMPORT_LIMIT_S = 120.0
_MEMORY_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
_NVIDIA = "0x10de"
_DISPLAY = "0x03"


@dataclass(frozen=True)
class Gpu:
    """One GPU that torch sees.

    Attributes:
        name: Its name.
        memory_bytes: Its memory.
        capability: Compute capability, such as `9.0`.
        bf16: Whether its arithmetic has bfloat16.
        problem: Why a small calculation on it failed; empty where it did not.
    """

    name: str
    memory_bytes: int
    capability: str
    bf16: bool
    problem: str = ""


@dataclass(frozen=True)
class Gpus:
    """What torch, the driver and the bus say of GPUs.

    Attributes:
        seen: Those that torch sees.
        built_for: What torch is built for, such as `CUDA 13.0`; None for a CPU build.
        driver: Version of NVIDIA's driver, or None.
        on_bus: Whether an NVIDIA GPU is plugged in, driver or not.
        hidden: Whether `CUDA_VISIBLE_DEVICES` hides all of them.
        complaint: What torch said while it looked; empty where it was content.
    """

    seen: tuple[Gpu, ...] = ()
    built_for: str | None = None
    driver: str | None = None
    on_bus: bool = False
    hidden: bool = False
    complaint: str = ""


@dataclass(frozen=True)
class Extra:
    """An optional package.

    Attributes:
        package: Its name to pip.
        version: Of what is installed; None where that is unknown.
        found: Whether it is installed at all.
        problem: Why it cannot be imported; empty where it can.
    """

    package: str
    version: str | None = None
    found: bool = False
    problem: str = ""


def one_line(error: object) -> str:
    """An error's text in one line; its type's name where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__


def answer(*command: str, limit_s: float = _ANSWER_LIMIT_S) -> tuple[bool, str]:
    """Runs a program: whether it ended well, and what it printed or else the last line of its complaint."""
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            text=True,
            errors="replace",
            timeout=limit_s,
            env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1", "LC_ALL": "C"},
        )
    except subprocess.TimeoutExpired:
        return False, f"no answer in {limit_s:g} s"
    except (OSError, ValueError) as error:
        return False, one_line(error)
    if done.returncode == 0:
        return True, done.stdout.strip()
    complaint = (done.stderr.strip() or done.stdout.strip()).splitlines()
    return False, complaint[-1].strip() if complaint else f"ended with exit status {done.returncode}"


def read_text(path: str) -> str:
    """A small file's text; empty where it cannot be read."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def processor() -> tuple[str, frozenset[str]]:
    """The processor's name and its instruction sets, as far as they can be known."""
    fields = dict(re.findall(r"^([^:\n]*?)\s*:[ \t]*(.*)$", read_text("/proc/cpuinfo"), flags=re.MULTILINE))
    name = fields.get("model name") or platform.processor() or platform.machine() or "unknown"
    return name, frozenset((fields.get("flags") or fields.get("Features") or "").split())


def memory_bytes() -> int | None:
    """The memory that this process may use: the machine's, or less where its control group is limited."""
    limits = [read_text(path).strip() for path in _MEMORY_LIMITS]
    sizes = [int(limit) for limit in limits if limit.isdecimal()]
    with suppress(AttributeError, OSError, ValueError):
        sizes.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    return min(sizes, default=None)


def shared_memory_bytes() -> int | None:
    """Size of `/dev/shm`, through which worker processes hand over batches; None where there is none."""
    try:
        return shutil.disk_usage("/dev/shm").total
    except OSError:
        return None


def disk(folder: Path) -> tuple[Path, int, bool] | None:
    """Where a folder is or would be made: the nearest existing place, its free bytes, whether it can be written to."""
    for place in (folder.absolute(), *folder.absolute().parents):
        try:
            if place.exists():
                return place, shutil.disk_usage(place).free, place.is_dir() and os.access(place, os.W_OK | os.X_OK)
        except OSError:
            continue
    return None


def installed(package: str) -> str | None:
    """The version of an installed package, without importing it."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def extra(module: str, *packages: str) -> Extra:
    """An optional package under one of several names, tried in a process of its own.

    Importing may fail for want of a system library, may take seconds, and may change settings of the whole process.
    """
    versions = {package: installed(package) for package in packages}
    package = next((name for name, version in versions.items() if version), packages[0])
    if not _is_importable(module):
        return Extra(package)
    loaded, text = answer(sys.executable, "-c", f"import {module}", limit_s=_IMPORT_LIMIT_S)
    return Extra(package, versions[package], True, "" if loaded else text)


def _is_importable(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError, AttributeError):
        return False


def library_version(name: str) -> str | None:
    """The version of a C library whose headers are installed, from pkg-config."""
    found, version = answer("pkg-config", "--modversion", name)
    return version if found else None


def has_program(name: str) -> bool:
    """Whether a program of that name would be found."""
    return shutil.which(name) is not None


def read_gpus(torch: ModuleType) -> Gpus:
    """What is known of GPUs; each that torch sees is given a small calculation."""
    built_for = None
    if torch.version.cuda:
        built_for = f"CUDA {torch.version.cuda}"
    elif getattr(torch.version, "hip", None):
        built_for = f"ROCm {torch.version.hip}"
    seen, complaint = [], ""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            if torch.cuda.is_available():
                seen = [_read_gpu(torch, index) for index in range(torch.cuda.device_count())]
        except Exception as error:  # drivers fail in more ways than there are names for
            complaint = one_line(error)
    complaint = complaint or (one_line(caught[0].message) if caught else "")
    return Gpus(
        seen=tuple(seen),
        built_for=built_for,
        driver=driver_version(),
        on_bus=_nvidia_is_plugged_in(),
        hidden=os.environ.get("CUDA_VISIBLE_DEVICES", "0").strip() in ("", "-1"),
        complaint=complaint,
    )


def _read_gpu(torch: ModuleType, index: int) -> Gpu:
    properties = torch.cuda.get_device_properties(index)
    bf16, problem = False, ""
    try:
        with torch.cuda.device(index):
            bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
            ones = torch.ones(64, 64, device="cuda")
            if (ones @ ones).sum().item() != 64**3:
                problem = "a small matrix product came out wrong"
    except Exception as error:  # see above; what CUDA says first, without torch's advice to programmers
        problem = one_line(str(error).strip().split("\n")[0] or error)
    capability = f"{properties.major}.{properties.minor}"
    return Gpu(properties.name, properties.total_memory, capability, bf16, problem)


def driver_version() -> str | None:
    """The version of NVIDIA's driver that is loaded."""
    found, text = answer("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
    if found and text:
        return text.splitlines()[0].strip()
    kernel = re.search(r"Kernel Module[^\d]*([\d.]+)", read_text("/proc/driver/nvidia/version"))
    return kernel.group(1) if kernel else None


def _nvidia_is_plugged_in() -> bool:
    try:
        devices = list(Path("/sys/bus/pci/devices").iterdir())
    except OSError:
        return False
    return any(
        read_text(f"{device}/vendor").strip() == _NVIDIA and read_text(f"{device}/class").startswith(_DISPLAY)
        for device in devices
    )
