"""Originals that are damaged, or made to do harm: refused in a line, or converted; nothing outside is touched."""

import gc
import random
import resource
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.faults.campaign import Campaign, Fault, check_line, outcome
from benchmarks.faults.damage import OTHER_KINDS, damaged
from benchmarks.faults.originals import write_cifar, write_cifar_c, write_fashion, write_tiny
from benchmarks.faults.own_originals import OWN_FORMS
from mixmo_fast.errors import MixmoError
from pipelines.datasets.cifar_c import CORRUPTIONS, find_cifar_c, open_cifar_c
from pipelines.datasets.convert import convert
from pipelines.datasets.names import MANIFEST
from pipelines.datasets.own.convert import convert_folder
from pipelines.datasets.store import FILE_NAMES, SPLITS, open_dataset

_CIFAR_C, _OWN = "cifar_c", "pets"
_PUBLISHED = ("fashion_mnist", "cifar10", "cifar100", "tinyimagenet", _CIFAR_C)
_LARGEST = 2 * 2**30  # bytes, of a process that decodes


class HostileArchives(Campaign):
    """What is read is read in place: it writes nothing elsewhere, runs nothing, and leaves nothing when refused."""

    name = "archives"
    title = "originals and own images in every form, damaged or made to do harm"
    inputs = 1_200
    seconds = 60.0

    def attempt(self, draw: random.Random, number: int, folder: Path) -> str:
        """Writes originals of a form, and converts them."""
        source, outside, data_dir = folder / "source", folder / "outside", folder / "data"
        for place in (source, outside):
            place.mkdir()
        (outside / "secret").write_bytes(b"not to be read")
        form = draw.choice((*_PUBLISHED, *OWN_FORMS))
        notes: list[str] = []
        if form in OWN_FORMS:
            what = form
            named = OWN_FORMS[form](draw, source, outside)
            options = {"skip_bad": draw.random() < 0.5, "size": draw.choice((None, 8))}
            work = partial(convert_folder, named, _OWN, data_dir, workers=1, notify=notes.append, **options)
        else:
            what = _write_published(form, draw, source, outside)
            work = _reader(form, source, data_dir, notes.append)
        if draw.random() < 0.3:
            what += f", {_damage_one(draw, source)}"
        before, children = _state(folder), _memory_of_children()
        try:
            with warnings.catch_warnings(record=True) as warned:
                warnings.simplefilter("always")
                made = outcome(work)
            gc.collect()
            for line in notes:
                check_line(line)
            if printed := [one for one in warned if not issubclass(one.category, ResourceWarning)]:
                raise Fault("Python's warnings are printed", str(printed[0].message))
            if _memory_of_children() > children + _LARGEST:
                raise Fault("a process that decodes takes much memory", f"{_memory_of_children() / 1e9:.1f} GB")
            self._check(made, folder, before, _OWN if form in OWN_FORMS else form)
        except Fault as fault:
            raise Fault(fault.kind, f"{what}: {fault.shown}") from fault
        return f"{form} {'refused' if isinstance(made, MixmoError) else 'accepted'}"

    def _check(self, made: object, folder: Path, before: dict[str, tuple[int, ...]], name: str) -> None:
        """Demands that nothing outside the data folder is another, and nothing half made in it."""
        data_dir = folder / "data"
        after = _state(folder)
        changed = {path for path in before | after if before.get(path) != after.get(path)}
        if elsewhere := sorted(path for path in changed if Path(path).parts[:1] != ("data",)):
            raise Fault("something outside the data folder is changed", ", ".join(elsewhere[:3]))
        inside = {path.relative_to(data_dir).as_posix() for path in data_dir.rglob("*")}
        if isinstance(made, MixmoError) or name == _CIFAR_C:
            if inside:
                raise Fault("something is left after a refusal", ", ".join(sorted(inside)[:3]))
            return
        if inside != {name, *(f"{name}/{file}" for file in (*FILE_NAMES, MANIFEST))}:
            raise Fault("other files are made than a data set's", ", ".join(sorted(inside)))
        dataset = open_dataset(data_dir, name, "sha256")
        for split in SPLITS:
            dataset.load_images(split)
            dataset.load_labels(split)
        for line in (dataset.title, *dataset.class_names, *dataset.originals):
            check_line(line)


def _write_published(form: str, draw: random.Random, source: Path, outside: Path) -> str:
    match form:
        case "fashion_mnist":
            return write_fashion(draw, source, outside)
        case "tinyimagenet":
            return write_tiny(draw, source, outside)
        case "cifar_c":
            return write_cifar_c(draw, source, outside)
    return write_cifar(draw, source, outside, form)


def _reader(form: str, source: Path, data_dir: Path, notify: Callable[[str], None]) -> Callable[[], object]:
    """What reads the originals of a published data set."""
    if form != _CIFAR_C:
        return lambda: convert(form, data_dir, source, verify=False, notify=notify)

    def read() -> object:
        opened = open_cifar_c(find_cifar_c("cifar10", data_dir, source), 10)
        return np.concatenate([opened.images(corruption, 5) for corruption in CORRUPTIONS])

    return read


def _damage_one(draw: random.Random, source: Path) -> str:
    """Damages one of the files, or puts something else into its place; says what."""
    path = draw.choice(sorted(path for path in source.rglob("*") if path.is_file() and not path.is_symlink()))
    content = path.read_bytes()
    if draw.random() < 0.3:
        kind = draw.choice(sorted(OTHER_KINDS))
        path.unlink()
        OTHER_KINDS[kind](path)
        return f"{kind} in place of {path.name}"
    path.write_bytes(damaged(draw, content))
    return f"{path.name} damaged"


def _state(folder: Path) -> dict[str, tuple[int, ...]]:
    """Everything there is in a folder: its kind, size and time of change; of folders only that they are there."""
    found = {}
    for path in folder.rglob("*"):
        status = path.lstat()
        numbers = (status.st_mode,) if path.is_dir() else (status.st_mode, status.st_size, status.st_mtime_ns)
        found[str(path.relative_to(folder))] = numbers
    return found


def _memory_of_children() -> int:
    """The most that one process that was started and has ended had at a time, bytes."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
