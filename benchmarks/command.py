"""`mixmo-fast benchmark`: how fast each pipeline delivers a configuration's batches; a table, JSON, a bar chart."""

import json
import math
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.pipelines import REFERENCE, Plan, benchmark
from mixmo_fast.config.load import load_config
from mixmo_fast.config.schema import Config
from mixmo_fast.errors import ConfigError
from mixmo_fast.files import write_text
from mixmo_fast.run import build
from mixmo_fast.tables import Cell, Column, Sheet, print_table


def run_benchmark(
    config_file: Path,
    data: Path,
    console: Console,
    *,
    synthetic: str | None = None,
    pipelines: str = ",".join(build.PIPELINES),
    rows: str | None = None,
    workers: int | None = None,
    cache: str = "os",
    device: str = "auto",
    repetitions: int = 7,
    seconds: float = 2.0,
    steps: int = 0,
    json_file: Path | None = None,
    plot: Path | None = None,
    overrides: Sequence[str] = (),
    wide: bool = False,
) -> dict[str, Any]:
    """Measures, prints a table, and writes what was asked for.

    Args:
        config_file: The configuration.
        data: Folder of data sets.
        console: Where the table goes.
        synthetic: Name of a data set whose shape random images take instead; None uses the converted data set.
        pipelines: Names, separated by commas.
        rows: Numbers of rows of a step, separated by commas; None takes the configuration's.
        workers: Of the pipelines that have some; None means as many as there are cores.
        cache: `os` or `process`.
        device: `auto`, `cuda` or `cpu`.
        repetitions: Turns of each contestant.
        seconds: Of each turn, at least.
        steps: Training steps a turn; 0 measures no training.
        json_file: File to write, or None.
        plot: Picture to draw, or None.
        overrides: `key=value` each.
        wide: Whether the table has all columns, however narrow the terminal is.

    Raises:
        MixmoError: On anything a user can mend.
    """
    dataset = [] if synthetic is None else [f"data.dataset={synthetic}"]
    config = load_config(config_file, [*overrides, *dataset], console.print)
    names = _names(pipelines)
    build.PipelineOptions(workers=workers, cache=cache)
    row_counts = [config.batch.rows] if rows is None else _row_counts(rows, config)
    if plot is not None:
        from mixmo_fast.report.drawing import check_picture  # matplotlib takes a second to import

        check_picture(plot)
    for name, value, least in (("--repetitions", repetitions, 1), ("--steps", steps, 0)):
        if value < least:
            raise ConfigError(f"{name}: found {value}, allowed: a whole number at least {least}")
    if not 0 < seconds < math.inf:
        raise ConfigError(f"--seconds: found {seconds:g}, allowed: a number above 0")
    with ExitStack() as cleanup:
        if synthetic is not None:
            from pipelines.datasets.synthetic import write_synthetic

            data = Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="mixmo-fast-")))
            console.print(f"random images in the shape of {synthetic}, in {data}")
            made = write_synthetic(synthetic, data)
        else:
            made = build.ensure_dataset(config.data.dataset, data, console.print)
        for count in row_counts:
            build.make_recipe(_with_rows(config, count), made)
        plan = Plan(
            config=config,
            data=data,
            pipelines=names,
            rows=row_counts,
            device=device,
            workers=workers,
            cache=cache,
            repetitions=repetitions,
            seconds=seconds,
            steps=steps,
        )
        result = {
            "name": config_file.stem,
            "data": f"random images in the shape of {synthetic}" if synthetic else made.title,
            **benchmark(plan, console.print),
        }
    print_table(console, _table(result), wide)
    if json_file is not None:
        write_text(json_file, json.dumps(result, indent=1) + "\n")
    if plot is not None:
        from benchmarks.chart import plot_benchmark  # matplotlib takes a second to import

        plot.parent.mkdir(parents=True, exist_ok=True)
        plot_benchmark(result, _title(result), plot)
    return result


def _title(result: dict[str, Any]) -> str:
    cores = "" if result["cuda"] else f", {result['cores']} cores"
    return f"{result['name']}\n{result['data']}, {result['device']}{cores}"


def _names(text: str) -> list[str]:
    names = list(dict.fromkeys(name.strip() for name in text.split(",")))
    for name in names:
        build.check_pipeline(name, "--pipelines")
    return names


def _row_counts(text: str, config: Config) -> list[int]:
    repetitions = config.batch.repetitions
    try:
        rows = list(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError:
        rows = []
    if not rows or any(count < 1 or count % repetitions for count in rows):
        allowed = f"whole numbers separated by commas, multiples of batch.repetitions ({repetitions})"
        raise ConfigError(f"--rows: found {text!r}, allowed: {allowed}")
    return rows


def _with_rows(config: Config, rows: int) -> Config:
    return config.model_copy(update={"batch": config.batch.model_copy(update={"rows": rows})})


def _table(result: dict[str, Any]) -> Sheet:
    steps = any("step_ratio" in one for panel in result["row_counts"].values() for one in panel["contestants"].values())
    rows: list[tuple[Cell, ...]] = []
    ends = set()
    for count, panel in result["row_counts"].items():
        for name, one in panel["contestants"].items():
            ratio = panel["ratios"].get(f"{name}/{REFERENCE}")
            rows.append(
                (
                    count,
                    name,
                    f"{one['rows_per_second']:,.0f}",
                    f"{one['rows_per_second_min']:,.0f}",
                    f"{one['rows_per_second_max']:,.0f}",
                    "" if ratio is None else f"{ratio:,.1f} x",
                    f"{one['images_per_second']:,.0f}",
                    f"{one['megabytes_per_second']:,.0f}",
                    f"{100 * one['share_of_copy_bandwidth']:.1f} %",
                    f"{one['first_batch_seconds']:.2f} s",
                    "" if one["memory_bytes"] is None else f"{one['memory_bytes'] / 1e6:,.0f} MB",
                    *([f"{one['step_ratio']:.3f}"] if steps else []),
                )
            )
        ends.add(len(rows) - 1)
    return Sheet(
        columns=(
            *(Column("rows"), Column("pipeline", "word"), Column("rows/s")),
            *(Column("smallest", rank=2), Column("largest", rank=3), Column(f"/ {REFERENCE}")),
            *(Column("images/s", rank=4), Column("MB/s", rank=6), Column("of copy", rank=7)),
            *(Column("first batch", rank=5), Column("memory", rank=1), *[Column("step/frozen")] * steps),
        ),
        rows=tuple(rows),
        title=_title(result).replace("\n", ", "),
        rules=frozenset(ends),
    )
