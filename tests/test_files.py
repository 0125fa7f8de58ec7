"""Files are written whole or not at all, never through a link, and nothing else in the program opens one to write."""

import errno
import os
import socket
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path

import pytest
from places import REPOSITORY
from small_disk import fill_disk, room_for, state

from mixmo_fast import files
from mixmo_fast.errors import MixmoError
from mixmo_fast.files import appending, replacing, swap, temporary_name, write_bytes, write_text

OLD, NEW = b"old " * 1000, b"new" * 3000
DO = {
    errno.ENOSPC: "the disk is full, free some of it or write to another",
    errno.EDQUOT: "the disk quota is used up, free some of it or write to another disk",
    errno.EFBIG: r"files may not become so large here \(ulimit -f\), raise that or write to another disk",
}


@pytest.fixture
def old(tmp_path) -> Path:
    """A file in a folder of its own."""
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "result.json").write_bytes(OLD)
    return tmp_path / "own" / "result.json"


@pytest.mark.parametrize("number", DO)
@pytest.mark.parametrize("room", [0, 1, 8191, 8192, 8193, len(NEW) - 1])
def test_where_there_is_no_room_the_line_says_what_to_do_and_the_older_file_stays(old, monkeypatch, number, room):
    fill_disk(monkeypatch, number, room)
    with pytest.raises(MixmoError, match=rf"^{old}: cannot write: {DO[number]}$"):
        write_bytes(old, NEW)
    assert state(old.parent) == {old.name: OLD}


@pytest.mark.parametrize("limit", [0, 1, 4095, 4096, 8192, len(NEW) - 1])
def test_the_systems_own_limit_is_one_line_as_well(old, limit):
    with room_for(limit), pytest.raises(MixmoError, match=DO[errno.EFBIG]):
        write_bytes(old, NEW)
    assert state(old.parent) == {old.name: OLD}
    with room_for(len(NEW)):
        write_bytes(old, NEW)
    assert state(old.parent) == {old.name: NEW}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts disks")
def test_a_disk_that_is_really_full_keeps_the_older_file(tmp_path):
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "small", tmp_path], capture_output=True)
    if mounted.returncode:
        pytest.skip("root may not mount here")
    try:
        write_bytes(tmp_path / "a", b"a" * 5000)
        for size in (9000, 13_000, 100_000):
            with pytest.raises(MixmoError, match="the disk is full"):
                write_bytes(tmp_path / "a", b"b" * size)
            assert state(tmp_path) == {"a": b"a" * 5000}
    finally:
        subprocess.run(["umount", tmp_path], check=True)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, ValueError])
def test_whatever_ends_the_writing_leaves_the_older_file_and_nothing_else(old, error):
    with pytest.raises(error), replacing(old) as file:
        file.write(NEW)
        raise error
    assert state(old.parent) == {old.name: OLD}


def test_an_error_that_a_library_hides_or_keeps_is_told_all_the_same(old, monkeypatch):
    fill_disk(monkeypatch, errno.ENOSPC)
    with pytest.raises(MixmoError, match="the disk is full"), replacing(old) as file:
        try:
            file.write(NEW)
        except OSError as error:
            raise RuntimeError("unexpected pos 64 vs 0") from error
    full = pytest.raises(MixmoError, match="the disk is full")
    with full, replacing(old) as file, zipfile.ZipFile(file, "w") as archive:
        archive.writestr("noise", NEW * 5)
    assert state(old.parent) == {old.name: OLD}


def test_another_files_error_within_the_block_keeps_its_name(old, tmp_path):
    with pytest.raises(FileNotFoundError), replacing(old):
        (tmp_path / "missing").read_bytes()
    assert state(old.parent) == {old.name: OLD}


def test_aliases_are_the_same_file_or_where_there_are_no_hard_links_copies(old, monkeypatch):
    alias = old.with_name("alias")
    with replacing(old, [alias]) as file:
        file.write(NEW)
    assert old.samefile(alias)

    def refuse(*_):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    with replacing(old, [alias]) as file:
        file.write(OLD)
    assert not old.samefile(alias) and state(old.parent) == {old.name: OLD, "alias": OLD}


def test_nobody_can_guess_a_temporary_name(old):
    assert temporary_name(old) != temporary_name(old)
    long = old.with_name("ü" * 127)  # 254 bytes, of the 255 that there may be
    write_text(long, "fits")
    assert long.read_text() == "fits"


def test_a_link_is_replaced_and_what_it_leads_to_stays(old, tmp_path):
    victim, link = tmp_path / "victim", old.with_name("link")
    victim.write_bytes(OLD)
    link.symlink_to(victim)
    write_bytes(link, NEW)
    assert not link.is_symlink() and link.read_bytes() == NEW and victim.read_bytes() == OLD
    link.unlink()
    link.symlink_to(tmp_path / "not there")
    write_bytes(link, NEW)
    assert link.read_bytes() == NEW and not (tmp_path / "not there").exists()


def test_nothing_is_appended_through_a_link_and_nobody_is_waited_for(old, tmp_path):
    victim, link, pipe = tmp_path / "victim", old.with_name("log.txt"), old.with_name("pipe")
    link.symlink_to(victim)
    with pytest.raises(MixmoError, match=r"log.txt: cannot write: is a link, which nothing is written through$"):
        appending(link)
    assert not victim.exists()
    os.mkfifo(pipe)
    with pytest.raises(MixmoError, match=r"pipe: cannot write: "):
        appending(pipe)
    for line in (b"one\n", b"two\n"):
        with appending(old.with_name("new") / "log.txt") as log:
            log.write(line)
    assert (old.parent / "new" / "log.txt").read_text() == "one\ntwo\n"


def test_pipes_and_devices_are_written_to_as_they_are(old):
    pipe, read = old.with_name("pipe"), []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    write_bytes(pipe, NEW)
    reader.join()
    assert read == [NEW] and pipe.is_fifo()
    full = old.with_name("full")
    full.symlink_to("/dev/full")
    with pytest.raises(MixmoError, match=r"full: cannot write: the disk is full"):
        write_bytes(full, NEW)
    assert full.is_symlink()


@pytest.mark.parametrize("redirected", [False, True])
def test_standard_output_stays_standard_output_where_it_is_a_file_too(tmp_path, redirected):
    code = "from pathlib import Path; from mixmo_fast.files import write_text; print('first', flush=True)\n"
    code += f"Path({str(tmp_path)!r}, 'link').symlink_to('/dev/stdout')\n"
    code += f"for path in ('/dev/stdout', {str(tmp_path / 'link')!r}): write_text(Path(path), 'more\\n')"
    with (tmp_path / "out").open("w") as out:
        where = out if redirected else subprocess.PIPE
        done = subprocess.run([sys.executable, "-c", code], stdout=where, text=True, check=True, cwd=REPOSITORY)
    printed = (tmp_path / "out").read_text() if redirected else done.stdout
    assert printed == "first\nmore\nmore\n"
    assert Path("/dev/stdout").is_symlink() and (tmp_path / "link").is_symlink()


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(MixmoError, match=rf"^{tmp_path}: cannot write: Is a directory$"):
        write_text(tmp_path, "text")


def test_what_a_killed_process_left_is_removed_by_the_next_write_of_the_same_file(old):
    code = f"""
import os
from pathlib import Path
from mixmo_fast.files import replacing
with replacing(Path({str(old)!r})) as file:
    file.write(b"half" * 5000)
    print("writing", flush=True)
    input()
"""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code], cwd=REPOSITORY, **pipes) as child:
        assert child.stdout.readline() == b"writing\n"
        write_bytes(old.with_name("other.json"), NEW)
        write_bytes(old, NEW)
        assert len(list(old.parent.glob(".*"))) == 1  # that of the living stays
        child.kill()
        child.wait()
        write_bytes(old.with_name("other.json"), NEW)
        assert len(list(old.parent.glob(".*"))) == 1  # it is another file's
        write_bytes(old, NEW)
    assert state(old.parent) == {old.name: NEW, "other.json": NEW}


def test_whose_a_temporary_name_is_decides_who_may_remove_it(old):
    host, own = socket.gethostname(), temporary_name(old)
    of_my_number = old.with_name(f".{old.name}.tmp-{host}-{os.getpid()}-0123abcd-0123abcd")
    others = [
        old.with_name(f".{old.name}.tmp-{words}-0123abcd-0123abcd")
        for words in (f"{host}-{os.getppid()}", "another-1", f"{host}-1234567-1")
    ]
    for path in (own, of_my_number, *others, old.with_name(f".{old.name}.tmp")):
        path.touch()
    write_bytes(old, NEW)
    assert sorted(old.parent.glob(".*")) == sorted([own, *others, old.with_name(f".{old.name}.tmp")])


def test_threads_that_write_one_file_at_once_leave_one_of_theirs(old):
    contents = [bytes([letter]) * 50_000 for letter in b"abcdefgh"]
    until = time.monotonic() + 1
    failed = []

    def write(content: bytes) -> None:
        while time.monotonic() < until and not failed:
            try:
                write_bytes(old, content)
            except MixmoError as error:
                failed.append(error)

    writers = [threading.Thread(target=write, args=(content,)) for content in contents]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert not failed and old.read_bytes() in contents and state(old.parent).keys() == {old.name}


def test_a_library_cannot_write_past_the_file_by_its_number(old):
    with replacing(old) as file, pytest.raises(OSError, match="fileno"):
        file.fileno()
    assert files.abandoned(old) == []


def test_two_folders_exchange_their_names_at_once_where_the_system_can(tmp_path):
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "content").write_text(name)
    if not swap(tmp_path / "one", tmp_path / "other"):
        pytest.skip("not on this file system")
    assert (tmp_path / "one" / "content").read_text() == "other"
    assert (tmp_path / "other" / "content").read_text() == "one"
    assert not swap(tmp_path / "one", tmp_path / "missing") and (tmp_path / "one").is_dir()


def test_names_for_the_same_file_clear_away_what_a_dead_process_left(tmp_path, monkeypatch):
    alias = tmp_path / "best.pt"
    left = temporary_name(alias)
    left.write_text("x")
    monkeypatch.setattr(files, "_PROCESS", "0" * 8)  # this process is another one now
    with replacing(tmp_path / "last.pt", [alias]) as file:
        file.write(b"y")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.pt", "last.pt"]
