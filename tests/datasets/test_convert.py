"""Claims about converting: all or nothing, never at the cost of what was there before."""

import errno
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import originals
import pytest

import pipelines.datasets.convert as module
import pipelines.datasets.whole_folder as whole
from mixmo_fast.errors import DataError
from pipelines.datasets import whole_folder
from pipelines.datasets.convert import convert
from pipelines.datasets.store import FILE_NAMES, MANIFEST, open_dataset

ARCHIVE = "cifar-10-python.tar.gz"
WHOLE = sorted((*FILE_NAMES, MANIFEST))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def state(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {path.name: (path.stat().st_ino, path.read_bytes()) for path in folder.iterdir()}


def fail_at(monkeypatch, what: str, error: BaseException) -> None:
    def fail(*_args, **_kwargs):
        raise error

    monkeypatch.setattr(module, what, fail)


def test_second_conversion_finds_the_first_and_touches_nothing(tmp_path):
    first = convert("digits", tmp_path)
    before = state(tmp_path / "digits")
    second = convert("digits", tmp_path)
    assert (first.already, second.already) == (False, True)
    assert first.dataset == second.dataset
    assert state(tmp_path / "digits") == before
    assert names(tmp_path) == ["digits"] and names(tmp_path / "digits") == WHOLE


def test_archive_is_converted_exactly_and_its_name_recorded(tmp_path):
    images = originals.write_cifar10_archive(tmp_path / "in" / ARCHIVE)
    lines, steps = [], []
    result = convert(
        "cifar10",
        tmp_path / "data",
        source=tmp_path / "in" / ARCHIVE,
        verify=False,
        notify=lines.append,
        progress=lambda *step: steps.append(step),
    )
    np.testing.assert_array_equal(result.dataset.load_images("train"), images[:20])
    np.testing.assert_array_equal(result.dataset.load_images("test"), images[20:])
    assert result.dataset.originals == (ARCHIVE,) and not result.dataset.verified
    assert len(lines) == 1 and steps[-1] == ("writing cifar10", 6, 6)
    assert open_dataset(tmp_path / "data", "cifar10", check="sha256") == result.dataset


def test_two_conversions_of_the_same_originals_are_the_same_bytes(tmp_path):
    for folder in ("a", "b"):
        convert("digits", tmp_path / folder)
    for name in WHOLE:
        assert (tmp_path / "a" / "digits" / name).read_bytes() == (tmp_path / "b" / "digits" / name).read_bytes()


def test_truncated_archive_is_named_and_leaves_nothing_behind(tmp_path):
    originals.write_cifar10_archive(tmp_path / ARCHIVE)
    content = (tmp_path / ARCHIVE).read_bytes()
    (tmp_path / ARCHIVE).write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=ARCHIVE):
        convert("cifar10", tmp_path, verify=False, notify=lambda line: None)
    assert names(tmp_path) == [ARCHIVE]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.EIO, "Input/output error"), ValueError("bug")])
@pytest.mark.parametrize("force", [False, True])
def test_interrupted_conversion_leaves_what_was_there(tmp_path, monkeypatch, error, force):
    if force:
        convert("digits", tmp_path)
    before = state(tmp_path / "digits") if force else None
    fail_at(monkeypatch, "write_manifest", error)
    with pytest.raises(DataError if isinstance(error, OSError) else type(error)):
        convert("digits", tmp_path, force=force)
    assert names(tmp_path) == (["digits"] if force else [])
    if force:
        assert state(tmp_path / "digits") == before


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_full_disk_is_one_line_and_leaves_nothing_behind(tmp_path, monkeypatch, number):
    fail_at(monkeypatch, "write_beton", OSError(number, os.strerror(number)))
    with pytest.raises(DataError, match=r"no space left for digits: free about \d+ MB"):
        convert("digits", tmp_path)
    assert names(tmp_path) == []


def test_a_failed_move_puts_the_old_folder_back_where_names_cannot_be_exchanged(tmp_path, monkeypatch):
    monkeypatch.setattr(whole_folder, "swap", lambda *_: False)
    convert("digits", tmp_path)
    before = state(tmp_path / "digits")
    rename = Path.rename

    def failing(self, target):
        if ".tmp-" in self.name and not Path(target).exists():
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(KeyboardInterrupt):
        convert("digits", tmp_path, force=True)
    assert names(tmp_path) == ["digits"] and state(tmp_path / "digits") == before


def test_force_replaces_a_damaged_folder_and_without_it_the_line_says_so(tmp_path):
    convert("digits", tmp_path)
    (tmp_path / "digits" / "train.beton").write_bytes(b"")
    with pytest.raises(DataError, match=r"train\.beton: 0 bytes.*--force`$"):
        convert("digits", tmp_path)
    assert not convert("digits", tmp_path, force=True).already
    assert convert("digits", tmp_path).already
    assert names(tmp_path) == ["digits"]


def test_files_of_somebody_else_are_never_replaced(tmp_path):
    (tmp_path / "digits").mkdir()
    (tmp_path / "digits" / "thesis.tex").write_text("mine")
    (tmp_path / "digits" / MANIFEST).write_text("{}")
    for force in (False, True):
        with pytest.raises(DataError, match=r"thesis\.tex, which conversion did not write"):
            convert("digits", tmp_path, force=force)
    assert names(tmp_path / "digits") == [MANIFEST, "thesis.tex"]


def test_empty_folder_is_filled_and_a_file_in_its_place_is_named(tmp_path):
    (tmp_path / "digits").mkdir()
    assert not convert("digits", tmp_path).already
    (tmp_path / "cifar10").write_text("")
    with pytest.raises(DataError, match="cifar10 is a file, a folder is needed"):
        convert("cifar10", tmp_path)
    (tmp_path / "file").write_text("")
    for data_dir in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(DataError, match="a file stands where a folder is needed"):
            convert("digits", data_dir)


def test_unwritable_data_folder_is_one_line(tmp_path, monkeypatch):
    def refuse(self, *_args, **_kwargs):
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    monkeypatch.setattr(Path, "mkdir", refuse)  # the superuser, who may run this, can write anywhere
    with pytest.raises(DataError, match=f"{tmp_path}: Permission denied: make it readable and writable"):
        convert("digits", tmp_path)


def test_links_that_go_in_a_circle_are_one_line(tmp_path):
    (tmp_path / "digits").symlink_to("digits")
    for force in (False, True):
        with pytest.raises(DataError, match=r"digits is a file, a folder is needed there: move it away"):
            convert("digits", tmp_path, force=force)
    assert names(tmp_path) == ["digits"]


def test_link_to_another_place_is_followed(tmp_path):
    (tmp_path / "big-disk" / "converted").mkdir(parents=True)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "digits").symlink_to(tmp_path / "big-disk" / "converted")
    convert("digits", tmp_path / "data")
    convert("digits", tmp_path / "data", force=True)
    assert (tmp_path / "data" / "digits").is_symlink()
    assert names(tmp_path / "big-disk") == ["converted"] and names(tmp_path / "big-disk" / "converted") == WHOLE


def dead_process() -> int:
    process = subprocess.Popen([sys.executable, "-S", "-c", ""])
    process.wait()
    return process.pid


def leftover(folder: Path, kind: str, process: int, host: str | None = None) -> Path:
    left = folder / f".digits.{kind}-{host or socket.gethostname()}-{process}-0123abcd"
    left.mkdir()
    (left / "train.beton").write_bytes(b"half")
    return left


def test_leftovers_of_the_dead_are_removed_and_those_of_the_living_and_of_other_machines_stay(tmp_path):
    dead = dead_process()
    leftover(tmp_path, "tmp", dead)
    leftover(tmp_path, "tmp", os.getpid())  # of a process that had this one's number: in a container, all have 1
    stay = [
        leftover(tmp_path, "tmp", os.getppid()),
        leftover(tmp_path, "tmp", dead, host="another"),
        leftover(tmp_path, "tmp", dead, host=f"{socket.gethostname()}-{dead}"),
    ]
    convert("digits", tmp_path)
    assert names(tmp_path) == sorted(["digits", *(path.name for path in stay)])


def test_folder_moved_away_by_a_killed_swap_is_put_back(tmp_path):
    convert("digits", tmp_path)
    before = state(tmp_path / "digits")
    moved = f".digits.old-{socket.gethostname()}-{dead_process()}-0123abcd"
    (tmp_path / "digits").rename(tmp_path / moved)
    assert convert("digits", tmp_path).already
    assert state(tmp_path / "digits") == before and names(tmp_path) == ["digits"]


@pytest.mark.parametrize("force", [False, True])
def test_two_conversions_at_once_end_with_one_whole_folder(tmp_path, monkeypatch, force):
    if force:
        convert("digits", tmp_path)
    together = threading.Barrier(2)
    move = whole._move_into_place
    turn = threading.Lock()

    def at_once(*arguments):
        together.wait(timeout=60)
        with turn:
            return move(*arguments)

    monkeypatch.setattr(whole, "_move_into_place", at_once)
    results = []
    threads = [
        threading.Thread(target=lambda: results.append(convert("digits", tmp_path, force=force))) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(result.already for result in results) == ([False, False] if force else [False, True])
    assert names(tmp_path) == ["digits"] and convert("digits", tmp_path).already
