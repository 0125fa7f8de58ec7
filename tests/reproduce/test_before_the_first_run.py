"""What a reproduction looks for before its first run is started: all data sets, and the disk for all runs."""

import io

import pytest
from rich.console import Console
from runs_lab import TINY, planned

from mixmo_fast.errors import DataError, MixmoError
from mixmo_fast.reproduce import command as command_module
from mixmo_fast.reproduce import disk
from mixmo_fast.reproduce.command import reproduce
from mixmo_fast.reproduce.data_sets import require_data
from mixmo_fast.reproduce.disk import bytes_left, checkpoint_bytes
from mixmo_fast.reproduce.jobs import Outcome
from mixmo_fast.reproduce.plan import plan_reproduction


@pytest.fixture
def configs(tmp_path):
    """Four configurations, one on the digits, which need no originals, and three whose data sets are nowhere."""
    names = {"a": "digits", "b": "cifar100", "c": "tinyimagenet", "d": "cifar100"}
    text = TINY.replace("holdout: 0.8", "holdout: 0.0")
    for name, dataset in names.items():
        (tmp_path / f"{name}.yaml").write_text(text.replace("digits", dataset))
    return [tmp_path / f"{name}.yaml" for name in names]


def test_all_missing_data_sets_are_one_line_and_nothing_is_started(configs, tmp_path, command):
    data, out = tmp_path / "data", tmp_path / "out"
    code, said, err = command("reproduce", *configs, "--data", data, "--out", out, "--device", "cpu")
    assert code == 2 and err.count("\n") == 1
    assert err.startswith("mixmo-fast: nothing was started, 2 of 3 data sets cannot be used: ")
    assert err.count(f"cifar100 is not in {data}: run `mixmo-fast convert cifar100 --data {data}`") == 1
    by_hand = f", then run `mixmo-fast convert tinyimagenet --data {data} --source FILE`"  # nobody may download it
    assert err.count(f"tinyimagenet is not in {data}: fetch http") == 1 and err.count(by_hand) == 1
    assert "12 runs, 0 complete already" in said
    assert not out.exists() and not data.exists()


def test_a_data_set_that_only_its_folder_would_know_is_in_the_same_line(configs, tmp_path, command):
    own = tmp_path / "own.yaml"
    own.write_text(TINY.replace("digits", "flowers"))
    code, _, err = command("reproduce", *configs, own, "--data", tmp_path / "data", "--out", tmp_path / "out")
    assert code == 2 and err.count("\n") == 1 and "3 of 4 data sets cannot be used" in err
    assert "unknown data set 'flowers'" in err and "mixmo-fast convert folder PATH --name flowers" in err
    assert "mixmo-fast convert tinyimagenet" in err


def test_a_damaged_data_set_is_found_before_the_first_run(tmp_path, digits):
    folder = tmp_path / "digits"
    folder.mkdir()
    for path in (digits / "digits").iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    require_data(["digits"], tmp_path)
    (folder / "train_labels.npy").write_bytes(b"short")
    with pytest.raises(DataError, match=r"^[^;]*train_labels\.npy.*`mixmo-fast convert digits --data .* --force`$"):
        require_data(["digits", "digits"], tmp_path)
    (folder / "dataset.json").write_text((digits / "digits" / "dataset.json").read_text().replace("10", "11"))
    with pytest.raises(DataError, match=r"dataset\.json"):
        require_data(["digits"], tmp_path)


def test_data_sets_of_complete_runs_are_not_asked_for(launch, pretend, tmp_path):
    pretend("")
    planned(launch, 1)
    target = [str(tmp_path / "tiny.yaml")]
    settings = {"seeds": "1", "device": "cpu"}
    console = Console(file=io.StringIO(), width=200)
    assert reproduce(target, launch.out, launch.data, console, **settings) == 0
    with pytest.raises(DataError):
        require_data(["cifar10"], tmp_path)
    assert reproduce(target, launch.out, tmp_path / "nowhere", console, **settings) == 0


def test_too_little_room_is_one_line_with_what_is_needed(launch, tmp_path, command, monkeypatch):
    planned(launch, 1)
    monkeypatch.setattr(disk, "free_bytes", lambda _: 1_000_000)
    out = tmp_path / "elsewhere"
    place = ["--data", launch.data, "--out", out, "--device", "cpu", "--seeds", "2"]
    code, _, err = command("reproduce", tmp_path / "tiny.yaml", *place)
    needed = disk.in_words(bytes_left(planned(launch, 2), out))
    assert code == 2 and err.count("\n") == 1 and not out.exists()
    assert f"--out: nothing was started, {out} has 1.0 MB free and what is left of 2 runs may take {needed};" in err


def test_only_checkpoints_that_are_not_there_yet_take_room(launch):
    first, second = planned(launch, 2)
    each = checkpoint_bytes(first)
    whole = bytes_left([first, second], launch.out)
    assert 2 * each < whole < 2 * each + 600_000  # with their pictures and records
    folder = first.folder(launch.out) / "checkpoints"
    folder.mkdir(parents=True)
    (folder / "last.pt").write_bytes(b"x" * 1000)
    (folder / "best.pt").hardlink_to(folder / "last.pt")
    assert bytes_left([first, second], launch.out) == whole - 1000
    (folder / "epoch_0001.pt").write_bytes(b"x" * 2 * each)
    assert bytes_left([first, second], launch.out) == whole - each


def test_the_folder_of_a_run_takes_no_more_than_is_announced(trained):
    (run,) = plan_reproduction([str(trained.config)], [1]).runs
    files = {path.stat().st_ino: path.stat().st_size for path in trained.run.rglob("*") if path.is_file()}
    announced = bytes_left([run], trained.folder / "nowhere")
    assert 0.5 * announced < sum(files.values()) <= announced


def test_data_sets_to_convert_count_where_they_are_on_the_same_disk(launch, tmp_path, monkeypatch):
    runs = planned(launch, 1)
    nowhere = tmp_path / "data"
    converted = sum(map(disk.dataset_bytes, disk.unconverted(runs, nowhere)))
    left = bytes_left(runs, launch.out)
    assert converted > 0 < left
    monkeypatch.setattr(disk, "free_bytes", lambda _: left + converted - 1)
    with pytest.raises(MixmoError, match="--out"):
        disk.require_room(runs, launch.out, nowhere)
    monkeypatch.setattr(disk, "free_bytes", lambda _: left + converted)
    disk.require_room(runs, launch.out, nowhere)
    monkeypatch.setattr(disk, "free_bytes", lambda _: converted - 1)
    with pytest.raises(MixmoError, match="--data"):
        disk.require_room(runs, launch.out, nowhere)


@pytest.mark.parametrize("address", ["ray://elsewhere:10001", "10.0.0.1:6379"])
def test_a_cluster_elsewhere_may_have_the_data_that_this_machine_lacks(configs, tmp_path, monkeypatch, address):
    trained = []

    def engine(runs, launch, notify):
        trained.extend(runs)
        return tuple(Outcome(run.name, run.seed, "stopped", "a test") for run in runs)

    monkeypatch.setenv("RAY_ADDRESS", address)
    monkeypatch.setattr(command_module, "_engine", lambda _: engine)
    said = io.StringIO()
    arguments = ([str(configs[1])], tmp_path / "out", tmp_path / "data", Console(file=said, width=300))
    assert reproduce(*arguments, engine="ray", seeds="1") == 1
    assert [run.name for run in trained] == ["b"]
    assert f"not on this machine in {tmp_path / 'data'}: cifar100; runs fail on machines" in said.getvalue()


@pytest.mark.parametrize("address", [None, "auto", "local"])
def test_a_cluster_of_which_this_machine_is_one_needs_the_data_here(configs, tmp_path, monkeypatch, address):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if address is not None:
        monkeypatch.setenv("RAY_ADDRESS", address)
    console = Console(file=io.StringIO())
    with pytest.raises(MixmoError, match="mixmo-fast convert cifar100"):
        reproduce([str(configs[1])], tmp_path / "out", tmp_path / "data", console, engine="ray", seeds="1")
    assert not (tmp_path / "out").exists()


def test_a_dry_run_says_what_would_be_missing(configs, tmp_path):
    said = io.StringIO()
    out = tmp_path / "out"
    assert reproduce([str(configs[1])], out, tmp_path / "data", Console(file=said, width=300), dry_run=True) == 0
    assert "Data: cifar100 is not in" in said.getvalue() and "are free in" in said.getvalue()
