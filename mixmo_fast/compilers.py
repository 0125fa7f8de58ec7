"""Whether torch.compile finds what it needs on this machine.

torch says so only when a compiled function is first called, by an error; who knows before can do without.
"""

import importlib.util
import os
import shutil
import sysconfig
from pathlib import Path

import torch


def can_compile(device: torch.device) -> bool:
    """Whether torch.compile has a compiler for this device."""
    return missing_for(device) is None


def missing_for(device: torch.device) -> str | None:
    """What torch.compile lacks for this device, in words; None where it has everything.

    A CPU's code goes through a C++ compiler. A GPU's goes through Triton, which compiles a stub in C that includes
    Python's headers.
    """
    if device.type != "cuda":
        return None if _one_of(os.environ.get("CXX"), "g++", "clang++") else "no C++ compiler (g++ or clang++)"
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed"
    if not _one_of(os.environ.get("CC"), "gcc", "clang"):
        return "no C compiler (gcc or clang)"
    if not (Path(sysconfig.get_config_var("INCLUDEPY")) / "Python.h").is_file():
        return "Python's headers are missing (python3-dev)"
    return None


def _one_of(*names: str | None) -> bool:
    return any(name and shutil.which(name) for name in names)
