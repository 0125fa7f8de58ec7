"""`mixmo-fast doctor`: what this machine has, and what to run for what is missing.

`machine.py` asks, `findings.py` judges; here the questions are listed, the data sets looked at and the findings shown.
Nothing is fetched, and nothing is written but the file that was asked for.
"""

import importlib
import json
import platform
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from importlib import metadata
from itertools import pairwise
from pathlib import Path
from types import ModuleType

from rich.text import Text

from mixmo_fast import __version__
from mixmo_fast.cores import available_cores
from mixmo_fast.doctor import findings, machine
from mixmo_fast.doctor.findings import Finding
from mixmo_fast.errors import DataError
from mixmo_fast.files import write_text
from mixmo_fast.tables import Column, Sheet

_STYLES = {"ok": "green", "missing": "dim", "warning": "yellow", "damaged": "red", "broken": "bold red"}
_COMPILERS = ("c++", "g++", "clang++")
_DALI_PACKAGES = tuple(f"nvidia-dali-cuda{version}" for version in ("120", "130", "110"))


def examine(data_dir: Path, verify: bool = False) -> list[Finding]:
    """Looks at everything.

    Args:
        data_dir: Folder of data sets.
        verify: Whether to read the converted data sets and compare their checksums, not only their sizes.
    """
    torch, problem = _import("torch")
    gpus = machine.read_gpus(torch) if torch else machine.Gpus()
    return [*_machine(), *_software(torch, problem, gpus), *_extras(gpus), *_data(data_dir, verify)]


def trainable(found: Iterable[Finding]) -> bool:
    """Whether the core works, whatever extras are missing."""
    return all(finding.state != "broken" for finding in found)


def undamaged(found: Iterable[Finding]) -> bool:
    """Whether all data sets that are converted are what was written, as far as was looked."""
    return all(finding.state != "damaged" for finding in found)


def findings_table(found: Sequence[Finding]) -> Sheet:
    """One row a finding, a section an area."""
    columns = (Column("", "word"), Column("state", "word"), Column("found", "prose"))
    rows = tuple((one.name, Text(one.state, _STYLES[one.state]), one.detail) for one in found)
    ends = (place for place, (one, after) in enumerate(pairwise(found)) if after.area != one.area)
    return Sheet(columns, rows, f"mixmo-fast {__version__}", rules=frozenset(ends))


def in_words(found: Sequence[Finding]) -> list[str]:
    """What to run for whatever is not ok, a line each, unbroken so that it can be copied; then the verdict."""
    open_ones = [finding for finding in found if finding.state != "ok"]
    width = max((len(finding.name) for finding in open_ones), default=0)
    lines = ["What to do:"] if open_ones else []
    lines += [f"  {finding.name:{width}}  {finding.remedy}" for finding in open_ones]
    broken = [finding.name for finding in found if finding.state == "broken"]
    damaged = [finding.name for finding in found if finding.state == "damaged"]
    if broken:
        return [*lines, f"Nothing can be trained before this is mended: {', '.join(broken)}"]
    return [
        *lines,
        f"Ready to train, but not on what is damaged: {', '.join(damaged)}" if damaged else "Ready to train",
    ]


def write_json(found: Sequence[Finding], path: Path) -> None:
    """Writes the findings to a file.

    Raises:
        MixmoError: When it cannot be written.
    """
    content = {"mixmo_fast": __version__, "trainable": trainable(found), "findings": [asdict(one) for one in found]}
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def _machine() -> Iterator[Finding]:
    memory = machine.memory_bytes()
    yield Finding("machine", "Python", "ok", f"{platform.python_version()}, {sys.executable}")
    yield Finding("machine", "system", "ok", platform.platform())
    yield Finding("machine", "processor", "ok", f"{machine.processor()[0]}, {available_cores()} cores to use")
    yield Finding("machine", "memory", "ok", findings.gigabytes(memory) if memory else "its size cannot be told")


def _software(torch: ModuleType | None, problem: str, gpus: machine.Gpus) -> Iterator[Finding]:
    version = torch.__version__ if torch else machine.installed("torch")
    yield findings.judge_core("torch", version, problem, f"built for {gpus.built_for or 'CPUs only'}")
    yield findings.judge_core("numba", machine.installed("numba"), _import("numba")[1])
    with suppress(metadata.PackageNotFoundError):  # run from its folder, it has no list of what it requires
        yield findings.judge_requirements(metadata.requires("mixmo-fast") or (), machine.installed)
    yield from findings.judge_gpus(gpus)
    yield findings.judge_bf16(gpus, machine.processor()[1])
    yield findings.judge_compiler(any(map(machine.has_program, _COMPILERS)), bool(gpus.seen))


def _extras(gpus: machine.Gpus) -> Iterator[Finding]:
    ffcv = findings.judge_extra("ffcv", machine.extra("ffcv", "ffcv"), "make setup-ffcv")
    has_pkg_config = machine.has_program("pkg-config")
    yield ffcv
    for name, library in (("libturbojpeg", "libturbojpeg"), ("OpenCV", "opencv4")):
        version = machine.library_version(library)
        yield findings.judge_headers(name, version, has_pkg_config, ffcv.state == "ok")
    dali = machine.extra("nvidia.dali", *_DALI_PACKAGES)
    yield findings.judge_dali(dali, gpus)


def _data(data_dir: Path, verify: bool) -> Iterator[Finding]:
    try:
        from pipelines.datasets.catalog import DATASETS
        from pipelines.datasets.names import converted_names
    except Exception as error:  # whatever a broken installation raises
        yield Finding(
            "data", "data sets", "broken", f"cannot be looked at: {machine.one_line(error)}", findings.INSTALL
        )
        return
    largest = max(
        (info.train_images + info.test_images) * info.height * info.width * info.channels for info in DATASETS.values()
    )
    # Each image is kept twice: for FFCV, and as .npy.
    yield findings.judge_disk(data_dir, machine.disk(data_dir), 2 * largest)
    yield findings.judge_shared_memory(machine.shared_memory_bytes())
    for name in (*DATASETS, *(name for name in converted_names(data_dir) if name not in DATASETS)):
        yield describe_dataset(name, data_dir, verify)


def describe_dataset(name: str, data_dir: Path, verify: bool) -> Finding:
    """Whether a data set is converted and whole, damaged, ready to be converted, or absent.

    Args:
        name: Of the catalogue, or of a converted folder.
        data_dir: Folder of data sets.
        verify: Whether to read all of it.
    """
    from pipelines.datasets.catalog import dataset_info
    from pipelines.datasets.names import convert_command, how_to_get
    from pipelines.datasets.sources import find_original
    from pipelines.datasets.store import mend, open_dataset

    command = convert_command(data_dir, name)
    try:
        if (data_dir / name).exists():
            dataset = open_dataset(data_dir, name, "sha256" if verify else "size")
            counts = f"{dataset.train_images:,} + {dataset.test_images:,} images of {dataset.height}x{dataset.width}"
            checked = "checksums are right" if verify else "sizes are right"
            skipped = f"; {dataset.skipped:,} originals could not be read" if dataset.skipped else ""
            unverified = "" if dataset.verified else "; its originals were not compared with published checksums"
            return Finding("data", name, "ok", f"{counts}, {checked}{skipped}{unverified}")
        info = dataset_info(name)
        original = find_original(info, data_dir)
    except DataError as error:
        reason = str(error).removesuffix(f": {mend(data_dir, name)}")
        return Finding("data", name, "damaged", reason, f"{command} --force")
    except OSError as error:
        found = f"cannot be looked at: {error.strerror or error}"
        return Finding("data", name, "warning", found, "name another folder with --data")
    if original is not None:
        return Finding("data", name, "missing", f"not converted; originals found in {original}", command)
    if info.embedded:
        return Finding("data", name, "missing", "not converted; its originals come with the program", command)
    if info.downloadable:
        return Finding("data", name, "missing", "not here", f"{command} # downloads the originals")
    return Finding("data", name, "missing", "not here", how_to_get(data_dir, name).replace("`", ""))


def _import(name: str) -> tuple[ModuleType | None, str]:
    """A module, and why it cannot be imported: one of the two."""
    try:
        return importlib.import_module(name), ""
    except Exception as error:  # whatever a broken installation raises
        return None, machine.one_line(error)
