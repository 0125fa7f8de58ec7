"""What a reproduction consists of: counted by hand, compared with networks and pipelines themselves, kept safely."""

import io
import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lab import CONFIG, ROOT
from programs import run_timed
from rich.console import Console

from mixmo_fast.config.load import load_config, parse_config
from mixmo_fast.config.paper import PAPER_RUNS, PUBLISHED_TOP1, paper_config
from mixmo_fast.config.schema import NetworkConfig, ScheduleConfig
from mixmo_fast.errors import ConfigError, MixmoError
from mixmo_fast.networks import work as counted
from mixmo_fast.report.words import UNKNOWN
from mixmo_fast.reproduce.command import reproduce
from mixmo_fast.reproduce.disk import checkpoint_bytes, dataset_bytes
from mixmo_fast.reproduce.estimate import Speed, estimate, read_speed, speeds_of_runs
from mixmo_fast.reproduce.extend import extend, update_plan
from mixmo_fast.reproduce.plan import PLAN, parse_seeds, plan_reproduction, read_plan, write_plan
from mixmo_fast.reproduce.shorten import shorten
from mixmo_fast.reproduce.targets import FASHION_RUNS, fashion_config, title_of
from mixmo_fast.reproduce.work import network_size
from mixmo_fast.run import build
from pipelines.datasets.catalog import DATASETS, dataset_info

VANILLA = "exp_cifar10_wrn2810_1net_standard_bar1"
BEST = "exp_cifar100_wrn2810-2_cutmixmo-p5_msdacutmix_bar4"
FASHION = ROOT / "configs" / "fashion_mnist"


def schedule_of(config, scale):
    return shorten(config, scale).schedule


@pytest.mark.parametrize("members", [1, 2, 3])
@pytest.mark.parametrize(
    ("kind", "depth", "width", "side"),
    [
        ("wide_resnet", 10, 1, 32),
        ("wide_resnet", 16, 2, 16),
        ("wide_resnet", 28, 10, 32),
        ("wide_resnet", 40, 4, 64),
        ("preact_resnet", 18, 1, 64),
        ("preact_resnet", 18, 3, 64),
        ("preact_resnet", 18, 2, 32),
    ],
)
def test_the_formula_counts_what_the_network_itself_does(kind, depth, width, side, members):
    network = NetworkConfig(kind=kind, depth=depth, width=width, members=members)
    mixing = {"mixing": {"method": "linear", "prob": 1.0}} if members > 1 else {}
    config = paper_config(VANILLA).model_validate(paper_config(VANILLA).model_dump() | mixing | {"network": network})
    with torch.device("meta"):
        built = build.make_network(config, classes=100)
    size = network_size(network, 100, side, side)
    assert size.macs == counted.forward_macs(built, side, side)
    assert size.parameters == sum(parameter.numel() for parameter in built.parameters())


@pytest.mark.parametrize("name", [*PAPER_RUNS, *FASHION_RUNS])
def test_the_steps_are_those_of_the_pipelines(name):
    target = PAPER_RUNS.get(name, "fashion")
    for overrides in ((), ("data.holdout=0.13", "batch.rows=96", "batch.repetitions=3")):
        (run,) = (run for run in plan_reproduction([target], [1], 1.0, overrides).runs if run.name == name)
        recipe = build.make_recipe(run.config, dataset_info(run.dataset))
        assert run.steps == recipe.steps_per_epoch * run.epochs
        assert run.rows == run.steps * run.config.batch.rows


def test_everything_is_every_published_run_with_three_seeds():
    runs = plan_reproduction(["all"]).runs
    assert [(run.name, run.seed) for run in runs] == [(name, seed) for name in PAPER_RUNS for seed in (1, 2, 3)]
    for run in runs:
        assert run.config == paper_config(run.name).model_copy(update={"seed": run.seed})
        assert run.published == PUBLISHED_TOP1[run.name]
        assert run.epochs == run.full_epochs == (1200 if "tiny" in run.name else 300)
    assert {len(plan_reproduction([group], [7]).runs) for group in ("cifar10", "cifar100", "fashion")} == {8}
    assert len(plan_reproduction(["tiny"], [7]).runs) == 11
    (best,) = (run for run in runs if run.key == (BEST, 2))
    assert best.title == "Cut-MixMo + CutMix, WRN-28-10, CIFAR-100"
    # 50,000 images x 4 repetitions are 3,125 steps of 64 rows.
    assert best.rows == 300 * 3125 * 64
    assert best.flop == best.rows * best.size.macs * 6
    assert best.folder(Path("out")) == Path("out/runs/seed2") / BEST
    assert best.config_path(Path("out")) == Path(f"out/configs/seed2/{BEST}.yaml")


def test_the_runs_on_fashion_mnist_are_the_files():
    assert {path.stem: load_config(path) for path in FASHION.glob("*_wrn101*.yaml")} == {
        name: fashion_config(name) for name in FASHION_RUNS
    }
    for name in FASHION_RUNS:  # the paper's table, run for run
        assert title_of(fashion_config(name)).split(", ")[0] in (FASHION / f"{name}.yaml").read_text()
        assert name.replace("fashion_mnist_wrn101", "cifar10_wrn2810") in PAPER_RUNS
    assert all(run.published is None for run in plan_reproduction(["fashion"]).runs)


def test_published_numbers_are_for_what_was_published():
    """Another speed, or a shorter run, which is said, may be compared; another experiment may not."""
    for override, comparable in (
        ("step.precision=fp32", True),
        ("evaluation.every_epochs=5", True),
        ("schedule.epochs=30", True),
        ("network.width=2", False),
        ("data.holdout=0.1", False),
        ("optimizer.lr=0.2", False),
        ("data.dataset=fashion_mnist", False),
    ):
        for run in plan_reproduction(["cifar10"], [1], 1.0, [override]).runs:
            assert (run.published == PUBLISHED_TOP1[run.name]) is comparable, override
            assert run.full_epochs == 300


def test_a_shortened_recipe_is_the_one_that_was_shortened_by_hand():
    """The files on Fashion-MNIST have CIFAR's milestones at 20 and at 60 of 300 epochs."""
    assert schedule_of(paper_config(VANILLA), 20 / 300).milestones == {8: 0.1, 14: 0.1, 16: 0.1}
    sixty = schedule_of(paper_config(VANILLA), 0.2)
    assert (sixty.epochs, sixty.milestones) == (60, {21: 0.1, 41: 0.1, 46: 0.1})
    assert sixty.warmup_steps == 156  # a fifth of 782
    tiny = schedule_of(paper_config("exp_tinyimagenet_res18-2_linearmixmo_standard_bar4"), 0.01)
    assert (tiny.epochs, tiny.warmup_steps, tiny.milestones) == (12, 40, {7: 0.1, 10: 0.1})


def test_milestones_that_fall_together_multiply_and_those_past_the_end_go():
    config = paper_config(VANILLA)
    two = schedule_of(config, 2 / 300)  # a third is 2/3 of an epoch, and the last two come after 1 1/3 and 1 1/2
    assert two.epochs == 2 and two.milestones == {2: pytest.approx(0.01)}
    assert schedule_of(config, 1e-6).epochs == 1 and schedule_of(config, 1e-6).milestones == {}
    later = config.model_copy(
        update={"schedule": config.schedule.model_copy(update={"milestones": {1: 0.5, 900: 0.1}})}
    )
    assert schedule_of(later, 0.1).milestones == {1: 0.5}
    assert shorten(config, 1.0) is config


@given(
    st.integers(1, 2000),
    st.integers(0, 10_000),
    st.dictionaries(st.integers(1, 2500), st.floats(0.05, 1.0), max_size=5),
    st.floats(1e-4, 1.0),
)
def test_a_shorter_schedule_keeps_its_shape(epochs, warmup, milestones, scale):
    full = ScheduleConfig(epochs=epochs, warmup_steps=warmup, milestones=milestones)
    config = paper_config(VANILLA).model_copy(update={"schedule": full})
    short = shorten(config, scale).schedule
    assert abs(short.epochs - scale * epochs) <= 1 and 1 <= short.epochs <= epochs
    assert abs(short.warmup_steps - warmup * short.epochs / epochs) <= 1
    if scale == 1:
        return
    assert all(epoch <= short.epochs for epoch in short.milestones)
    # At each moment of the run the factor is that of the same share of the full run, within an epoch.
    for epoch in range(1, short.epochs + 1):
        factor = product(value for start, value in short.milestones.items() if start <= epoch)
        stretch = epochs / short.epochs
        around = [(epoch - 1 + shift) * stretch + 1 for shift in (-1.01, 1.01)]
        least, most = (
            product(value for start, value in milestones.items() if start <= min(place, epochs) or start == 1)
            for place in reversed(around)
        )
        assert least * (1 - 1e-9) <= factor <= most * (1 + 1e-9)


def product(values):
    result = 1.0
    for value in values:
        result *= value
    return result


@pytest.mark.parametrize("scale", [0.0, -1.0, 1.01, float("nan"), float("inf")])
def test_a_scale_that_is_none_is_refused(scale):
    with pytest.raises(ConfigError, match=r"--scale: found .*, allowed: above 0, at most 1"):
        plan_reproduction(["fashion"], [1], scale)


def test_seeds_are_counted_or_named():
    assert parse_seeds("3") == (1, 2, 3)
    assert parse_seeds("1") == (1,)
    assert parse_seeds(" 1, 5 ") == (1, 5)
    assert parse_seeds("5,") == (5,)
    assert parse_seeds("0,7") == (0, 7)
    for text in ("", "0", "-1", "1.5", "a", "1,1", "1,,2", ",", "1001", "٣", f"{2**63},"):
        with pytest.raises(ConfigError, match=r"^--seeds: found "):
            parse_seeds(text)


def test_what_cannot_be_reproduced_is_refused_in_one_line(tmp_path):
    (tmp_path / "a").mkdir()
    for folder, text in ((tmp_path, CONFIG), (tmp_path / "a", CONFIG.replace("epochs: 4", "epochs: 5"))):
        (folder / "x.yaml").write_text(text)
    (tmp_path / "big.yaml").write_text(CONFIG.replace("rows: 64", "rows: 4096"))
    for targets, overrides, match in (
        ([], (), "nothing to reproduce"),
        (["imagenet"], (), "'imagenet': nothing to reproduce by that name, allowed: cifar10, .*X.yaml"),
        ([str(tmp_path / "none.yaml")], (), "none.yaml"),
        ([str(tmp_path / "x.yaml"), str(tmp_path / "a" / "x.yaml")], (), "another configuration of the name x"),
        (["cifar10"], ["seed=4"], "--set seed: .*--seeds names"),
        (["cifar10"], ["network.members=3"], "mixing: missing with network.members 3"),
        ([str(tmp_path / "big.yaml")], (), "big: batch.rows: an epoch of digits does not fill one step"),
        (["cifar10"], ["data.dataset=mars"], "unknown data set 'mars'"),
    ):
        with pytest.raises(MixmoError, match=match) as refused:
            plan_reproduction(targets, [1], 1.0, overrides)
        assert "\n" not in str(refused.value)


def test_a_plan_is_read_as_it_was_written(tmp_path):
    plan = plan_reproduction(["all", "fashion"], [1, 5], 0.05, ["step.precision=fp32"])
    write_plan(plan, tmp_path)
    assert read_plan(tmp_path) == plan
    for run in plan.runs:
        assert load_config(run.config_path(tmp_path)) == run.config
    saved = json.loads((tmp_path / PLAN).read_text())["runs"][-1]
    run = plan.runs[-1]
    for key in ("name", "seed", "title", "scale", "full_epochs", "epochs", "rows", "flop", "network", "dataset"):
        assert saved[key] == getattr(run, key)
    assert tmp_path / saved["run_folder"] == run.folder(tmp_path)
    assert tmp_path / saved["config_file"] == run.config_path(tmp_path)
    assert not list(tmp_path.rglob("*.tmp"))


@pytest.mark.parametrize("text", [None, "", "{", "{}", '{"format": 2}', '{"format": 1, "requests": [], "runs": [{}]}'])
def test_a_plan_that_is_none_is_refused_in_one_line(tmp_path, text):
    if text is not None:
        (tmp_path / PLAN).write_text(text)
    with pytest.raises(MixmoError, match=r"plan.json: not ") as refused:
        read_plan(tmp_path)
    assert "\n" not in str(refused.value)


def test_a_folder_is_extended_and_never_mixed(tmp_path):
    first = plan_reproduction(["fashion"], [1, 2], 0.5)
    update_plan(first, tmp_path)
    both = update_plan(plan_reproduction(["fashion", "cifar10"], [2, 3], 0.5), tmp_path)
    assert both == read_plan(tmp_path)
    assert [run.key for run in both.runs] == [
        *(run.key for run in first.runs),
        *((name, 3) for name in FASHION_RUNS),
        *((name, seed) for name in PAPER_RUNS if "cifar10_" in name for seed in (2, 3)),
    ]
    assert update_plan(first, tmp_path) == both  # the same again changes nothing
    for scale, overrides, match in (
        (1.0, (), r"--scale: .* holds runs at scale 0.5, now 1 is asked for; use another --out"),
        (0.5, ["optimizer.lr=0.2"], r"is planned there with other settings \(optimizer\.lr: it has 0.05, now 0.2\)"),
    ):
        with pytest.raises(ConfigError, match=match):
            update_plan(plan_reproduction(["fashion"], [1], scale, overrides), tmp_path)
    assert read_plan(tmp_path) == both
    faster = update_plan(plan_reproduction(["fashion"], [1], 0.5, ["step.compile=false"]), tmp_path)
    assert {run.config.step.compile for run in faster.runs if run.seed == 1} == {False}
    assert {run.config.step.compile for run in faster.runs if run.seed != 1} == {"auto"}


def test_nothing_is_lost_where_several_begin_at_the_same_time(tmp_path):
    plans = [plan_reproduction(["fashion"], [seed]) for seed in range(8)]
    threads = [threading.Thread(target=update_plan, args=(plan, tmp_path)) for plan in plans]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {run.key for run in read_plan(tmp_path).runs} == {(name, seed) for name in FASHION_RUNS for seed in range(8)}


def test_the_command_of_a_request_asks_for_the_same(tmp_path):
    for seeds, scale, overrides in (((1, 2, 3), 1.0, ()), ((5,), 0.25, ("msda={method: mixup}",))):
        plan = plan_reproduction(["cifar10"], seeds, scale, overrides)
        command = plan.requests[0].command(tmp_path)
        words = subprocess.run(["sh", "-c", f"printf '%s\\n' {command}"], capture_output=True, text=True, check=True)
        words = words.stdout.splitlines()
        assert parse_seeds(words[words.index("--seeds") + 1]) == seeds
        assert ("--scale" in words) == (scale != 1)
        assert [words[i + 1] for i, word in enumerate(words) if word == "--set"] == list(overrides)
        assert extend(plan, plan, tmp_path) == plan


def benchmark_file(folder, network, members, rate, macs) -> Path:
    path = folder / f"{network}-{members}.json"
    contestants = {"default": {"rows_per_second": rate}, "reference": {"error": "out of memory"}}
    content = {
        "network": network,
        "members": members,
        "macs_per_row": macs,
        "device": "ada",
        "contestants": contestants,
    }
    path.write_text(json.dumps(content))
    return path


def test_hours_are_of_the_measured_network_or_carried_over_by_work(tmp_path):
    runs = {run.name: run for run in plan_reproduction(["all"], [1]).runs}
    best, vanilla, tiny = runs[BEST], runs[VANILLA], runs["exp_tinyimagenet_res183_1net_standard_bar1"]
    assert estimate(best, ()) is None
    speed = read_speed(benchmark_file(tmp_path, "wrn-28-10", 2, 2000.0, best.size.macs))
    found = estimate(best, [speed])
    assert (found.basis, found.hours) == ("measured", pytest.approx(best.rows / 2000 / 3600))
    found = estimate(tiny, [speed])
    rate = 2000 * best.size.macs / tiny.size.macs
    assert (found.basis, found.hours) == ("by work", pytest.approx(tiny.rows / rate / 3600))
    # One member is another network; of several measured ones the nearest in work is asked.
    far = read_speed(
        benchmark_file(tmp_path, "res18-1", 1, 9.0, runs["exp_tinyimagenet_res18_1net_standard_bar1"].size.macs)
    )
    assert estimate(vanilla, [far, speed]).basis == "by work"
    assert estimate(vanilla, [far, speed]).hours == pytest.approx(vanilla.rows / 2000 / 3600, rel=0.01)
    # The same network on images of another size is not measured.
    small = Speed(tiny.config.network, tiny.size.macs // 4, 100.0, "x")
    assert estimate(tiny, [small]).basis == "by work"
    assert estimate(tiny, [small]).hours == pytest.approx(tiny.rows / 25 / 3600)


def test_runs_that_are_complete_tell_how_fast_they_were(tmp_path):
    runs = plan_reproduction(["fashion"], [1, 2, 3]).runs
    for run, epochs, rate in zip(runs, (20, 20, 19), (100.0, 300.0, 7000.0), strict=False):
        run.folder(tmp_path).mkdir(parents=True)
        summary = {"epochs": epochs, "rows_per_second": rate, "device": "ada"}
        (run.folder(tmp_path) / "summary.json").write_text(json.dumps(summary))
    (runs[3].folder(tmp_path)).mkdir(parents=True)
    (runs[3].folder(tmp_path) / "summary.json").write_text('{"epochs": 20, "rows_per')
    speeds = speeds_of_runs(runs, tmp_path)
    found = estimate(runs[2], speeds)
    assert found.hours == pytest.approx(runs[2].rows / 200 / 3600)
    assert (found.basis, "ada" in found.source) == ("measured", True)


@pytest.mark.parametrize(
    "text",
    [
        None,
        "[]",
        "{",
        '{"network": "vgg", "members": 1, "macs_per_row": 5, "contestants": {"default": {"rows_per_second": 1}}}',
        '{"network": "wrn-16-2", "members": 1, "macs_per_row": 5, "contestants": {"default": {"error": "no"}}}',
    ],
)
def test_a_measurement_that_is_none_is_refused_in_one_line(tmp_path, text):
    path = tmp_path / "m.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(MixmoError, match=r"^--measured .*m\.json: ") as refused:
        read_speed(path)
    assert "\n" not in str(refused.value)


def test_the_measurement_in_the_repository_is_read():
    path = ROOT / "benchmarks" / "results" / "training_wrn-16-2_cpu.json"
    speed = read_speed(path)
    assert speed.rows_per_second == json.loads(path.read_text())["contestants"]["default"]["rows_per_second"]
    assert speed.macs == network_size(speed.network, 100, 32, 32).macs


def test_the_disk_that_is_announced_is_the_disk_that_is_taken(trained, digits):
    files = [path for path in (digits / "digits").iterdir() if path.name != "dataset.json"]
    assert sum(path.stat().st_size for path in files) == dataset_bytes(DATASETS["digits"])
    (run,) = plan_reproduction([str(trained.config)], [1]).runs
    taken = sum(path.stat().st_size for path in (trained.run / "checkpoints").glob("*.pt"))
    assert len(list((trained.run / "checkpoints").glob("*.pt"))) == 2 + 2  # the last, the best, and epochs 2 and 4
    assert taken == pytest.approx(checkpoint_bytes(run), rel=0.1)  # names and statistics of batch-norm come on top
    plain = parse_config(CONFIG.replace("weight_decay: 0.0006", "weight_decay: 0.1, momentum: 0, nesterov: false"), "x")
    assert 2 * checkpoint_bytes(run.model_copy(update={"config": plain})) == checkpoint_bytes(run)


def dry_run(tmp_path, *targets, **options) -> str:
    printed = io.StringIO()
    console = Console(file=printed, width=200)
    assert reproduce(targets, tmp_path / "out", tmp_path / "data", console, dry_run=True, **options) == 0
    return printed.getvalue()


def test_a_dry_run_tells_all_and_does_nothing(tmp_path):
    told = dry_run(tmp_path, "cifar10", seeds="2")
    assert "16 runs into" in told and "Time: not measured" in told
    assert told.count(UNKNOWN) == 9  # eight rows, and their sum
    assert "python -m benchmarks.training" in told
    # 781 steps of 64 rows for each of 300 epochs, twice; 36.5 million weights, twice 4 bytes, 2 + 10 checkpoints.
    assert f"{2 * 300 * 781 * 64:,}" in told
    assert "7.0 GB" in told and "CIFAR-10 to convert" in told
    macs = network_size(paper_config(VANILLA).network, 10, 32, 32).macs
    assert f"{2 * 300 * 781 * 64 * macs * 6 / 1e15:,.0f}" in told
    measured = benchmark_file(tmp_path, "wrn-28-10", 1, 1000.0, macs)
    told = dry_run(tmp_path, "cifar10", seeds="2", measured=[measured], gpus=2, scale=0.1)
    assert "30 of 300" in told and "not measured" not in told
    vanilla = next(line for line in told.splitlines() if VANILLA in line)
    assert " 49 min 59 s " in vanilla.replace("│", " ") and "measured" in vanilla  # 2 x 30 x 781 x 64 rows at 1,000/s
    assert told.count("by work") == 6 and "On 2 workers: " in told
    shared = dry_run(tmp_path, "cifar10", seeds="2", measured=[measured], gpus=2, scale=0.1, runs_per_gpu="3")
    (line,) = set(shared.splitlines()) - set(told.splitlines())  # times are as without it, and that is said
    assert "3 runs on a GPU are assumed to take 3 times as long as one" in line
    assert sorted(path.name for path in tmp_path.iterdir()) == [measured.name]


def test_a_dry_run_knows_what_is_there(tmp_path):
    update_plan(plan_reproduction(["fashion"], [1], 0.5), tmp_path / "out")
    with pytest.raises(ConfigError, match=r"holds runs at scale 0\.5"):
        dry_run(tmp_path, "fashion", seeds="1")
    before = (tmp_path / "out" / PLAN).read_bytes()
    dry_run(tmp_path, "fashion", "cifar10", seeds="1", scale=0.5)
    assert (tmp_path / "out" / PLAN).read_bytes() == before


def test_a_dry_run_of_everything_takes_no_time_and_no_torch(tmp_path):
    code = (
        "import sys; from pathlib import Path; from rich.console import Console;"
        "from mixmo_fast.reproduce.command import reproduce;"
        "reproduce(['all'], Path('out'), Path('data'), Console(width=160), dry_run=True);"
        "print('torch' in sys.modules)"
    )
    done, seconds = run_timed([sys.executable, "-c", code], cwd=tmp_path)
    assert done.stdout.endswith("False\n")
    assert "81 runs" in done.stdout and all(name in done.stdout for name in PAPER_RUNS)
    assert seconds < 2


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"engine": "slurm"}, "--engine: found 'slurm', allowed: local, ray"),
        ({"device": "tpu"}, "--device: found 'tpu', allowed: auto, cuda, cpu"),
        ({"gpus": 0}, "--gpus: found 0, allowed: 1 to"),
        ({"workers": 0}, "--workers: found 0"),
        ({"retries": -1}, "--retries: found -1, allowed: 0 to"),
        ({"gpus": 1, "workers": 2}, "--gpus: counts GPUs"),
        ({"gpus": 1, "device": "cpu"}, "--gpus: counts GPUs"),
        ({"runs_per_gpu": "0"}, "--runs-per-gpu: found 0, allowed: a whole number from 1 to 48"),
        ({"runs_per_gpu": "1.5"}, r"--runs-per-gpu: found 1\.5, allowed: a whole number from 1 to 48"),
        ({"runs_per_gpu": "2", "device": "cpu"}, "--runs-per-gpu: found 2, allowed: 1 with --workers or --device cpu"),
        ({"runs_per_gpu": "2", "workers": 2}, "--runs-per-gpu: found 2, allowed: 1 with --workers or --device cpu"),
        ({"seeds": "x"}, "--seeds: found 'x'"),
    ],
)
def test_options_that_mean_nothing_are_refused(tmp_path, options, match):
    with pytest.raises(ConfigError, match=match):
        dry_run(tmp_path, "fashion", **options)
