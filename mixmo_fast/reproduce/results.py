"""From run folders to the paper's tables: what all seeds of each configuration reached, beside what was published.

Runs are one configuration when they have the same name and the same settings but the seed, so that a shortened run
never counts for a whole one. `Results` is typed in `mixmo_fast.report.compared`; this file fills it and writes it.

Shapes: n complete seeds of a configuration.
"""

import os
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path

from mixmo_fast.config.schema import AnyNetwork, Config, NetworkConfig
from mixmo_fast.config.titles import augmentation_of, method_of
from mixmo_fast.errors import MixmoError, printable
from mixmo_fast.networks.kinds import KINDS
from mixmo_fast.report.compared import DEFINITIONS, ConfigurationResult, Results, SeedResult, Statistic
from mixmo_fast.reproduce.found import FoundRun, find_runs, known_work
from mixmo_fast.reproduce.paper_rows import changes, order_of, settings_of, table_of
from mixmo_fast.reproduce.run_state import read_state
from mixmo_fast.reproduce.targets import config_of_name
from mixmo_fast.runfolder.history import best_epoch, read_progress, tested
from mixmo_fast.runfolder.names import ENVIRONMENT, PAGE
from mixmo_fast.runfolder.record import read_record
from mixmo_fast.runfolder.records import BestScores, Environment, Epoch, RunSummary, StartedFrom
from mixmo_fast.runfolder.scores import Scores
from pipelines.datasets.catalog import DATASETS


def collect(places: Sequence[Path], beside: Path) -> Results:
    """Reads the runs in some folders.

    Args:
        places: Reproductions, run folders, or folders of them at any depth.
        beside: The folder that the paths in the results are relative to.

    Raises:
        MixmoError: When a place has no runs, or a plan or a configuration in it cannot be read.
    """
    groups: dict[tuple[str, str, str | None], dict[int, tuple[FoundRun, SeedResult]]] = {}
    left_out = []
    for run in find_runs(places):
        result = _seed_result(run, beside)
        # Other weights to begin with are another experiment, and averaged with no other.
        group = groups.setdefault((run.planned.name, settings_of(run.config), result.started_from), {})
        other = group.get(run.planned.seed)
        if other is None:
            group[run.planned.seed] = (run, result)
            continue
        # One seed twice is no further evidence: the one that is complete counts, or else the first.
        kept, left = other, (run, result)
        if result.status == "complete" and other[1].status != "complete":
            kept, left = left, kept
        group[run.planned.seed] = kept
        left_out.append(f"{left[1].folder}: the same configuration and seed as {kept[1].folder}")
    firsts: dict[str, Config] = {}
    rows = []
    for (name, *_), group in groups.items():
        runs = [group[seed] for seed in sorted(group)]
        config = runs[0][0].config
        reference = config_of_name(name) or firsts.setdefault(name, config)
        rows.append((order_of(name, config), _configuration(runs, reference)))
    rows.sort(key=lambda row: row[0])
    ordered = tuple(row for _, row in rows)
    return Results(configurations=ordered, left_out=tuple(map(printable, left_out)), definitions=DEFINITIONS)


def _seed_result(run: FoundRun, beside: Path) -> SeedResult:
    state = read_state(run.folder, run.planned)
    history: tuple[Epoch, ...] = ()
    summary, environment, error = None, None, state.error
    try:
        summary, history = read_progress(run.folder)
        environment = read_record(run.folder / ENVIRONMENT, Environment)
    except MixmoError as problem:
        error = error or str(problem)
    environment = environment or Environment()
    last: Scores | None = next(reversed(tested(history)), None)
    best: BestScores | Epoch | None = best_epoch(history)
    if state.status == "complete" and summary:
        last, best = summary.last or last, summary.best_on_test or best
    seconds = summary.train_seconds if state.status == "complete" and summary else None
    return SeedResult(
        seed=run.planned.seed,
        folder=Path(os.path.relpath(run.folder.resolve(), beside.resolve())).as_posix(),
        status=state.status,
        epoch=state.epoch,
        best_on_test=best.top1 if best else None,
        best_epoch=best.epoch if best else None,
        last=last.top1 if last else None,
        nll=last.nll if last else None,
        ece=last.ece if last else None,
        member_top1_mean=last.member_top1_mean if last else None,
        diversity=last.diversity if last else None,
        rows_per_second=state.rows_per_second,
        train_seconds=seconds if seconds is not None else (state.train_seconds if history else None),
        test_images=_test_images(run, summary),
        ranks=environment.ranks or 1,
        device=environment.device or (summary.device if summary else None),
        started_from=_in_words(environment.init),
        error=error,
        history=history,
    )


def _test_images(run: FoundRun, summary: RunSummary | None) -> int | None:
    """As the run says, or else the catalogue; None for own data of a run that does not."""
    if summary and summary.data:
        return summary.data.test_images
    known = DATASETS.get(run.config.data.dataset)
    return known.test_images if known else None


def _in_words(init: StartedFrom | None) -> str | None:
    """`best.pt (1f2e3d4c), with its momentum`."""
    if init is None:
        return None
    return f"{Path(init.path).name} ({init.sha256[:8]})" + (", with its momentum" if init.optimizer else "")


def _configuration(runs: Sequence[tuple[FoundRun, SeedResult]], reference: Config) -> ConfigurationResult:
    """The row of some seeds of one configuration, in their order; `reference` is what its name stands for."""
    first, seeds = runs[0][0], tuple(result for _, result in runs)
    config, complete = first.config, [result for result in seeds if result.status == "complete"]
    started_from = seeds[0].started_from
    percents = None if started_from else first.planned.published
    published = (round(min(percents) / 100, 6), round(max(percents) / 100, 6)) if percents else None
    best = statistic(seed.best_on_test for seed in complete)
    speeds = [seed.rows_per_second for seed in complete if seed.rows_per_second is not None]
    seconds = statistic(seed.device_seconds for seed in complete)
    full_epochs = first.planned.full_epochs
    is_whole = config.schedule.epochs == full_epochs
    changed = changes(reference, config, but=() if is_whole else ("schedule.",))
    if started_from:
        changed += (f"started from {started_from}",)
    return ConfigurationResult(
        name=first.planned.name,
        table=table_of(config),
        method=method_of(config),
        msda=augmentation_of(config),
        width=_compared_width(config.network),
        members=config.network.members,
        epochs=config.schedule.epochs,
        full_epochs=full_epochs,
        changed=changed,
        published=published,
        best_on_test=best,
        last=statistic(seed.last for seed in complete),
        nll=statistic(seed.nll for seed in complete),
        ece=statistic(seed.ece for seed in complete),
        diversity=statistic(seed.diversity for seed in complete),
        difference=None if best is None or published is None else difference(best.mean, published),
        rows_per_second=statistics.median(speeds) if speeds else None,
        device_hours=seconds.mean / 3600 if seconds else None,
        flop=known_work(first.planned),
        devices=tuple(dict.fromkeys(seed.device for seed in seeds if seed.device is not None)),
        seeds=seeds,
    )


def _compared_width(network: AnyNetwork) -> int | None:
    """The width, where a table has several."""
    if isinstance(network, NetworkConfig) and KINDS[network.kind].widths_share_a_table:
        return network.width
    return None


def statistic(values: Iterable[float | None]) -> Statistic | None:
    """Mean and sample standard deviation (n - 1) of the values that there are; None where there are none."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    return Statistic(
        mean=statistics.fmean(known), std=statistics.stdev(known) if len(known) > 1 else None, n=len(known)
    )


def difference(top1: float, published: tuple[float, float]) -> float:
    """How far a top-1 is from the published range: 0 within it, else to its nearest end, negative below it.

    It is rounded as published figures are, to a hundredth of a percent: 96.366 % is a published 96.37 %.
    """
    low, high = published
    return round(min(0.0, round(top1, 4) - low) + max(0.0, round(top1, 4) - high), 6)


def write_results(results: Results, out: Path, command: str) -> None:
    """Writes `results.json`, `results.md` and `report.html` into a folder; the same runs make the same bytes.

    Args:
        results: Of `collect`, beside this folder.
        out: The folder.
        command: What makes them anew.

    Raises:
        MixmoError: When one of them cannot be written.
    """
    from mixmo_fast.files import write_text
    from mixmo_fast.report.comparison import comparison_page  # matplotlib takes a second to import
    from mixmo_fast.report.comparison_text import as_markdown

    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MixmoError(f"--out: cannot make the folder {out}: {error.strerror}") from error
    write_text(out / "results.json", results.model_dump_json(indent=1) + "\n")
    write_text(out / "results.md", as_markdown(results, command))
    write_text(out / PAGE, comparison_page(results, out, command))
