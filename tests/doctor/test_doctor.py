"""`mixmo-fast doctor`: right about any machine, at home on a bare one, and quiet: it loads and writes nothing."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from places import REPOSITORY

from mixmo_fast.doctor import examine as doctor_command
from mixmo_fast.doctor import findings, machine
from mixmo_fast.doctor.examine import describe_dataset, examine, in_words, trainable
from mixmo_fast.doctor.findings import Finding
from mixmo_fast.doctor.machine import Extra, Gpu, Gpus
from pipelines.datasets.catalog import DATASETS

ROOT = REPOSITORY
GPU = Gpu("A GPU", 80 * 10**9, "9.0", bf16=True)


@pytest.fixture
def quick(monkeypatch):
    """No other process is asked, so that a test does not wait for packages to load."""
    monkeypatch.setattr(machine, "answer", lambda *_, **__: (False, "not asked"))


def named(found: list[Finding], name: str) -> Finding:
    return next(finding for finding in found if finding.name == name)


def assert_each_trouble_has_a_remedy(found: list[Finding]) -> None:
    for finding in found:
        assert bool(finding.remedy) == (finding.state != "ok"), finding
        assert finding.detail


def test_this_machine_can_train_and_hears_what_to_do_about_the_rest(quick, tmp_path):
    found = examine(tmp_path)
    assert trainable(found)
    assert_each_trouble_has_a_remedy(found)
    names = {finding.name for finding in found}
    assert names >= {"Python", "processor", "memory", "torch", "numba", "bf16", "ffcv", "DALI", "disk", *DATASETS}


def test_a_bare_machine_is_examined_without_an_error(monkeypatch, quick, tmp_path):
    def nothing(*_, **__):
        raise OSError("no such thing here")

    monkeypatch.setattr(machine, "read_text", lambda _: "")
    monkeypatch.setattr(machine, "has_program", lambda _: False)
    monkeypatch.setattr(machine, "installed", lambda _: None)
    monkeypatch.setattr(machine, "_is_importable", lambda _: False)
    monkeypatch.setattr(shutil, "disk_usage", nothing)
    monkeypatch.setattr(os, "sysconf", nothing)
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    found = examine(tmp_path / "none")
    assert_each_trouble_has_a_remedy(found)
    assert named(found, "ffcv").remedy == "make setup-ffcv"
    assert named(found, "disk").state == "warning"


def test_nothing_is_written(quick, tmp_path):
    examine(tmp_path / "data", verify=True)
    assert list(tmp_path.iterdir()) == []


def test_neither_ffcv_nor_dali_is_loaded_into_this_process(tmp_path):
    code = (
        "import pathlib, sys\n"
        "from mixmo_fast.doctor import examine as doctor_command, machine\n"
        "machine.answer = lambda *_, **__: (False, 'not asked')\n"
        "doctor_command.examine(pathlib.Path(sys.argv[1]))\n"
        "print(*[name for name in ('ffcv', 'nvidia.dali', 'matplotlib') if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code, tmp_path], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == ""


def test_the_command_prints_a_table_then_what_to_do_then_the_verdict(command, quick, digits):
    code, out, err = command("doctor", "--data", digits)
    assert (code, err) == (0, "")
    table, rest = out.split("What to do:")
    assert "1,438 + 359 images of 16x16, sizes are right" in table
    assert f"mixmo-fast convert cifar10 --data {digits}" in rest
    assert rest.strip().endswith("Ready to train")


def test_the_findings_can_be_had_as_json(command, quick, digits, tmp_path):
    path = tmp_path / "new" / "findings.json"
    assert command("doctor", "--data", digits, "--json", path)[0] == 0
    content = json.loads(path.read_text())
    assert content["trainable"] is True
    assert [one["name"] for one in content["findings"] if one["area"] == "data"][-len(DATASETS) :] == list(DATASETS)
    assert set(content["findings"][0]) == {"area", "name", "state", "detail", "remedy"}


def test_json_that_cannot_be_written_is_one_line(command, quick, digits, tmp_path):
    (tmp_path / "file").write_text("")
    code, _, err = command("doctor", "--data", digits, "--json", tmp_path / "file" / "findings.json")
    assert code == 2
    assert len(err.splitlines()) == 1
    assert "cannot write" in err


def test_a_machine_that_cannot_train_ends_with_exit_code_2(command, quick, monkeypatch, digits):
    whole = doctor_command._import
    monkeypatch.setattr(
        doctor_command, "_import", lambda name: (None, "libcudart.so.13: missing") if name == "torch" else whole(name)
    )
    code, out, _ = command("doctor", "--data", digits)
    assert code == 2
    assert "Nothing can be trained before this is mended: torch" in out
    assert "pip install --force-reinstall torch" in out


def test_what_is_to_be_done_is_never_broken_into_lines():
    found = [Finding("data", "x", "missing", "y", "word " * 100), Finding("data", "longer", "ok", "fine")]
    _, line, verdict = in_words(found)
    assert line == f"  x  {'word ' * 100}"
    assert verdict == "Ready to train"
    assert in_words(found[1:]) == ["Ready to train"]


@pytest.mark.parametrize(
    ("gpus", "state", "detail", "remedy"),
    [
        (Gpus((GPU,), "CUDA 13.0", "580.1"), "ok", "A GPU, 80.0 GB, compute capability 9.0, driver 580.1", ""),
        (Gpus((GPU,), "ROCm 7"), "ok", "driver of unknown version", ""),
        (Gpus((Gpu("Old", 1, "3.5", False, "no kernel image"),), "CUDA 13.0"), "warning", "no kernel image", "torch"),
        (Gpus((Gpu("A", 1, "9.0", False, "busy or unavailable"),), "CUDA 13.0"), "warning", "busy", "who uses it"),
        (Gpus(), "missing", "none seen", "CPU"),
        (Gpus(built_for="CUDA 13.0"), "missing", "none seen", "CPU"),
        (Gpus(driver="580.1"), "warning", "this torch is a CPU build", "pytorch.org"),
        (Gpus(on_bus=True), "warning", "no driver", "then install a torch"),
        (Gpus(built_for="CUDA 13.0", on_bus=True), "warning", "not its driver", "install NVIDIA's driver"),
        (Gpus(built_for="CUDA 13.0", driver="470", complaint="too old"), "warning", "too old", "CUDA 13.0"),
        (Gpus(built_for="CUDA 13.0", driver="580.1", hidden=True), "warning", "hidden", "unset CUDA_VISIBLE_DEVICES"),
    ],
)
def test_gpus_are_told_from_missing_drivers_and_cpu_builds(gpus, state, detail, remedy):
    (finding,) = findings.judge_gpus(gpus)
    assert finding.state == state
    assert detail in finding.detail
    assert remedy in finding.remedy
    assert_each_trouble_has_a_remedy([finding])


@pytest.mark.parametrize(
    ("gpus", "instructions", "state", "detail"),
    [
        (Gpus((GPU,)), (), "ok", "on the GPU"),
        (Gpus((GPU, Gpu("Older", 1, "7.0", bf16=False))), (), "missing", "not on Older"),
        (Gpus(), ("avx2", "amx_bf16", "avx512_bf16"), "ok", "amx_bf16, avx512_bf16"),
        (Gpus(), ("avx2",), "missing", "not on this processor"),
    ],
)
def test_bf16_is_looked_for_where_training_would_happen(gpus, instructions, state, detail):
    finding = findings.judge_bf16(gpus, instructions)
    assert finding.state == state
    assert detail in finding.detail


@pytest.mark.parametrize(
    ("extra", "state", "detail"),
    [
        (Extra("ffcv"), "missing", "not installed"),
        (Extra("ffcv", "1.0.2", found=True), "ok", "1.0.2"),
        (Extra("ffcv", "1.0.2", True, "libopencv_core.so: missing"), "warning", "does not load: libopencv_core.so"),
    ],
)
def test_an_extra_is_missing_fine_or_damaged(extra, state, detail):
    finding = findings.judge_extra("ffcv", extra, "make setup-ffcv")
    assert finding.state == state
    assert detail in finding.detail
    assert finding.remedy.startswith("make setup-ffcv" if state != "ok" else "")


@pytest.mark.parametrize(
    ("built_for", "extra", "state", "said"),
    [
        ("CUDA 12.8", Extra("nvidia-dali-cuda120"), "missing", "make setup-dali"),
        (None, Extra("nvidia-dali-cuda120"), "missing", "make setup-dali"),
        ("CUDA 13.0", Extra("nvidia-dali-cuda120"), "missing", "install 'nvidia-dali-cuda130>=2.0'"),
        ("CUDA 13.0", Extra("nvidia-dali-cuda130", "2.1", found=True), "ok", ""),
        ("CUDA 13.0", Extra("nvidia-dali-cuda120", "2.1", found=True), "warning", "uninstall nvidia-dali-cuda120; "),
        ("CUDA 12.8", Extra("nvidia-dali-cuda130", "2.1", found=True), "warning", "make setup-dali"),
        ("CUDA 12.8", Extra("nvidia-dali-cuda120", "2.1", True, "libnvjpeg: missing"), "warning", "make setup-dali"),
    ],
)
def test_the_dali_that_fits_is_the_one_for_torchs_cuda(built_for, extra, state, said):
    finding = findings.judge_dali(extra, Gpus((GPU,), built_for))
    assert finding.state == state
    assert said in finding.remedy
    assert_each_trouble_has_a_remedy([finding])
    if not extra.found:
        assert f"fits this torch, built for {built_for or 'CPUs only'}" in finding.detail


def test_without_a_gpu_any_dali_that_loads_is_fine():
    extra = Extra("nvidia-dali-cuda120", "2.1", found=True)
    assert findings.judge_dali(extra, Gpus(built_for="CUDA 13.0")).state == "ok"


def test_headers_matter_only_until_ffcv_is_built():
    judge = findings.judge_headers
    assert judge("OpenCV", "4.6", has_pkg_config=True, ffcv_loads=False).state == "ok"
    assert judge("OpenCV", None, has_pkg_config=True, ffcv_loads=True).state == "ok"
    assert "apt-get install" in judge("OpenCV", None, has_pkg_config=True, ffcv_loads=False).remedy
    assert "without pkg-config" in judge("OpenCV", None, has_pkg_config=False, ffcv_loads=False).detail


@pytest.mark.parametrize(("size_bytes", "state"), [(None, "ok"), (64 * 2**20, "warning"), (8 * 10**9, "ok")])
def test_little_shared_memory_is_a_warning(size_bytes, state):
    assert findings.judge_shared_memory(size_bytes).state == state


def test_little_room_and_a_folder_that_cannot_be_written_are_warnings():
    here = Path("data")
    assert findings.judge_disk(here, (here, 10**10, True), 10**9).state == "ok"
    assert "1.0 GB" in findings.judge_disk(here, (here, 10**8, True), 10**9).detail
    assert "cannot be written" in findings.judge_disk(here, (here, 10**10, False), 10**9).detail
    assert findings.judge_disk(here, None, 10**9).state == "warning"


def test_required_packages_are_compared_with_what_is_installed():
    wanted = ["numpy>=1.26", "PyYAML>=6", 'ffcv>=1; extra == "ffcv"']

    def state(**versions: str) -> str:
        return findings.judge_requirements(wanted, versions.get).state

    assert state(numpy="2.1", PyYAML="6.0.2") == "ok"
    assert state(numpy="1.20", PyYAML="6.0.2") == "warning"
    assert state(numpy="2.1") == "broken"


def test_data_sets_are_absent_or_only_unconverted(tmp_path):
    absent = describe_dataset("cifar100", tmp_path, verify=False)
    assert (absent.state, absent.detail) == ("missing", "not here")
    assert absent.remedy.startswith(f"mixmo-fast convert cifar100 --data {tmp_path}")
    assert "come with the program" in describe_dataset("digits", tmp_path, verify=False).detail
    assert "tiny-imagenet-200.zip" in describe_dataset("tinyimagenet", tmp_path, verify=False).remedy
    (tmp_path / "cifar-100-python.tar.gz").write_bytes(b"")
    found = describe_dataset("cifar100", tmp_path, verify=False)
    assert (found.state, found.remedy) == ("missing", f"mixmo-fast convert cifar100 --data {tmp_path}")
    assert "originals found" in found.detail


def test_damage_is_named_with_the_command_that_mends_it(digits, tmp_path):
    shutil.copytree(digits / "digits", tmp_path / "digits")
    assert describe_dataset("digits", tmp_path, verify=True).state == "ok"
    labels = tmp_path / "digits" / "train_labels.npy"
    content = bytearray(labels.read_bytes())
    content[-8] ^= 1
    labels.write_bytes(content)
    assert describe_dataset("digits", tmp_path, verify=False).state == "ok"
    for finding in (
        describe_dataset("digits", tmp_path, verify=True),
        (labels.unlink(), describe_dataset("digits", tmp_path, verify=False))[1],
    ):
        assert finding.state == "damaged"
        assert finding.detail.startswith(f"{labels}: ")
        assert finding.remedy == f"mixmo-fast convert digits --data {tmp_path} --force"
        assert finding.remedy not in finding.detail


@pytest.mark.parametrize(
    ("damage", "found_by_sizes"),
    [
        (lambda folder: flip_last_bit(folder / "train_images.npy"), False),
        (lambda folder: flip_last_bit(folder / "test.beton"), False),
        (lambda folder: (folder / "test_images.npy").write_bytes(b""), True),
        (lambda folder: (folder / "train.beton").unlink(), True),
        (lambda folder: replace_in(folder / "dataset.json", '"flip": false', '"flip": true'), True),
        (lambda folder: replace_in(folder / "dataset.json", '"title": "O', '"title": "0'), True),
    ],
    ids=["pixels", "beton", "cut", "gone", "manifest", "title"],
)
def test_a_damaged_data_set_is_told_and_ends_with_exit_code_2(command, quick, digits, tmp_path, damage, found_by_sizes):
    shutil.copytree(digits / "digits", tmp_path / "digits")
    assert command("doctor", "--data", tmp_path, "--verify")[0] == 0
    damage(tmp_path / "digits")
    file = tmp_path / "findings.json"
    for option, is_found in ((), found_by_sizes), (("--verify",), True):
        code, out, err = command("doctor", "--data", tmp_path, "--json", file, *option)
        assert (code, err) == (2 if is_found else 0, "")
        content = json.loads(file.read_text())
        (finding,) = [one for one in content["findings"] if one["name"] == "digits"]
        assert content["trainable"] is True
        assert finding["state"] == ("damaged" if is_found else "ok")
        assert ("Ready to train, but not on what is damaged: digits" in out) is is_found
        assert (f"mixmo-fast convert digits --data {tmp_path} --force" in out) is is_found


def flip_last_bit(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def replace_in(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_the_help_says_when_the_exit_code_is_2(command):
    assert "Exit code 2 where nothing can be trained, or a converted data set is damaged" in " ".join(
        command("doctor", "--help")[1].split()
    )
