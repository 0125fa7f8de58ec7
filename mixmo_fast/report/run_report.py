"""`report.html`: a finished run on one page that can be sent to somebody, and opened without anything else."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from mixmo_fast.config.schema import Config
from mixmo_fast.errors import MixmoError
from mixmo_fast.files import write_text
from mixmo_fast.networks.kinds import KINDS
from mixmo_fast.report.compared import PAGE
from mixmo_fast.report.page import (
    Cell,
    Column,
    Html,
    KeyNumber,
    Section,
    cards,
    code,
    document,
    paragraph,
    prose,
    subheading,
    table,
)
from mixmo_fast.report.run_files import RunFiles, read_run
from mixmo_fast.report.run_sections import (
    calibration,
    confusion,
    corruptions,
    curves,
    first_batch,
    inside,
    members,
    out_of_distribution,
    selective,
)
from mixmo_fast.report.saved import RunSummary, SavedScores
from mixmo_fast.report.words import UNKNOWN, decimal, percent, ratio_of_errors, whole
from mixmo_fast.training.progress import duration


def write_report(folder: Path, recipe: Sequence[tuple[str, str]] = ()) -> Path:
    """Writes the page of a run into its folder; the same files make the same page, byte for byte.

    Args:
        folder: The run folder.
        recipe: Passages about the recipe in plain words, a heading and a text each; a line is a paragraph, and
            lines that begin with two spaces are a table that stays as it is.

    Returns:
        The page.

    Raises:
        MixmoError: When it is no run folder, a file in it is damaged, or the page cannot be written.
    """
    run = read_run(folder)
    if run.summary is None and not run.history:
        raise MixmoError(f"{folder}: not a run folder (it has neither metrics.jsonl nor summary.json)")
    path = folder / PAGE
    write_text(path, _page(run, recipe))
    return path


def _page(run: RunFiles, recipe: Sequence[tuple[str, str]]) -> str:
    sections = [
        Section("results", "Results", _results(run)),
        Section("training", "Training", curves(run)),
        Section("members", "Members", members(run)),
        Section("calibration", "Calibration", calibration(run)),
        Section("confusion", "Confusion", confusion(run)),
        Section("selective", "Selective prediction", selective(run)),
        Section("robustness", "Robustness", corruptions(run)),
        Section("out-of-distribution", "Out of distribution", out_of_distribution(run)),
        Section("inside", "Inside the network", inside(run)),
        Section("batch", "What the network was given", first_batch(run)),
        Section("recipe", "The recipe in plain words", _recipe(recipe)),
        Section("configuration", "Configuration", _configuration(run)),
        Section("reproduce", "How to repeat it", _commands(run)),
        Section("environment", "Environment", _environment(run)),
    ]
    return document(run.name, _lead(run), sections)


def _lead(run: RunFiles) -> list[str]:
    """What was trained, and on what: two lines."""
    summary, environment = run.summary, run.environment
    lines = []
    if run.config:
        lines.append(recipe_line(run.config))
    elif summary and summary.dataset:
        lines.append(f"On {summary.dataset}.")
    parts = []
    if summary:
        parts = [summary.device, summary.precision, summary.pipeline and f"{summary.pipeline} pipeline"]
        parts += [f"seed {summary.seed}" if summary.seed is not None else None]
    elif environment:
        parts = [environment.device]
    if environment and (environment.ranks or 1) > 1:
        parts.append(f"{environment.ranks} ranks")
    if run.history:
        planned = run.config.schedule.epochs if run.config else run.history[-1].epoch
        done = run.history[-1].epoch
        parts.append(f"{done} epochs" if done == planned else f"{done} of {planned} epochs so far")
    parts = [part for part in parts if part]
    return lines + ([f"Trained on {', '.join(parts)}."] if parts else [])


def recipe_line(config: Config) -> str:
    """The recipe in a sentence: `Cut-MixMo with CutMix on cifar100: WRN-28-10, 2 members, 300 epochs of ...`."""
    network, mixing, msda, batch = config.network, config.mixing, config.msda, config.batch
    if mixing is None:
        name = "A single network"
    elif mixing.replacement not in ("linear", mixing.method):
        name = f"MixMo with {mixing.method} and {mixing.replacement} masks"
    elif mixing.method == "linear":
        name = "MIMO" if mixing.alpha == 0 else "Linear-MixMo"
    else:
        name = "Cut-MixMo" if mixing.method == "patch" else f"MixMo with {mixing.method} masks"
    augmented = f" with {msda.method} augmentation" if msda else ""
    kind = KINDS[network.kind].prose.format(depth=network.depth, width=network.width)
    members = "" if network.members == 1 else f", {network.members} members"
    repeated = "" if batch.repetitions == 1 else f" ({batch.repetitions} repetitions)"
    return (
        f"{name}{augmented} on {config.data.dataset}: {kind}{members}, steps of {batch.rows} rows{repeated}, "
        f"learning rate {config.optimizer.lr:g}, {config.schedule.epochs} epochs."
    )


def _results(run: RunFiles) -> tuple[Html, ...]:
    """Key numbers, and all scores; of the last evaluated epoch where a run has not ended."""
    summary, evaluation = run.summary or RunSummary(), run.evaluation
    last = summary.last or (run.tested[-1] if run.tested else None)
    if last is None:
        return (paragraph("No epoch has been evaluated yet."),)
    best = summary.best_on_test or max(run.tested, key=lambda row: (row.top1, row.epoch), default=None)
    after = f"after epoch {run.tested[-1].epoch}" if run.tested else "after the last epoch"
    images = f"the {whole(evaluation.images)} test images" if evaluation and evaluation.images else "test images"
    numbers = [KeyNumber("Top-1, last epoch", percent(last.top1), f"Share of {images} right, {after}.")]
    if best:
        flatters = (
            f"After epoch {best.epoch or UNKNOWN}, chosen by its own test top-1, as the paper counts; it flatters."
        )
        numbers.append(KeyNumber("Top-1, best on test", percent(best.top1), flatters))
    if len(last.member_top1) > 1:
        alone = f"Mean of the {len(last.member_top1)} members, each alone, {after}."
        numbers.append(KeyNumber("Top-1 of a member", percent(last.member_top1_mean), alone))
    numbers += [
        KeyNumber("NLL", decimal(last.nll), f"Mean negative log-likelihood in nats, {after}."),
        KeyNumber("ECE", decimal(last.ece), f"Expected calibration error, 15 equal bins, a fraction, {after}."),
    ]
    if evaluation and (scaling := evaluation.temperature_scaling):
        scaled = f"With temperature scaling, of the checkpoint of epoch {evaluation.epoch or UNKNOWN}."
        numbers.append(KeyNumber("ECE, scaled", decimal(scaling.scores.ece), scaled))
    if summary.rows_per_second is not None:
        unit = "Network input rows a second of training, evaluation excluded; median over the epochs."
        numbers.append(KeyNumber("Rows a second", whole(summary.rows_per_second), unit))
    if summary.train_seconds is not None:
        numbers.append(KeyNumber("Training time", duration(summary.train_seconds), "Evaluation excluded."))
    note = () if run.summary else (paragraph("This run has not ended: its numbers are those so far."),)
    return (*note, cards(numbers), _score_table(last, best, run))


def _score_table(last: SavedScores, best: SavedScores | None, run: RunFiles) -> Html:
    """All scores of the last epoch, the best on test, and the checkpoint that was evaluated last."""
    heads = [Column("Score"), Column("Last epoch", True)]
    sources = [last]
    if best:
        heads.append(Column("Best on test", True))
        sources.append(best)
    again = run.evaluation
    if again and (again.top1, again.nll) not in [(one.top1, one.nll) for one in sources]:
        checkpoint = Path(again.checkpoint).stem if again.checkpoint else "checkpoint"
        how = ", probabilities averaged" if again.ensemble == "probabilities" else ""
        heads.append(Column(f"Evaluated: {checkpoint}{how}", True))
        sources.append(again)
    rows = [
        ("Top-1", [percent(one.top1) for one in sources]),
        ("Top-5", [percent(one.top5) for one in sources]),
        ("NLL, nats", [decimal(one.nll) for one in sources]),
        ("ECE, 15 equal bins", [decimal(one.ece) for one in sources]),
        ("TACE, 15 equal-mass bins a class", [decimal(one.tace) for one in sources]),
        ("Brier, sum over classes", [decimal(one.brier) for one in sources]),
        ("AUC of confidence against correctness", [decimal(one.auc) for one in sources]),
    ]
    for member in range(len(last.member_top1) if len(last.member_top1) > 1 else 0):
        own = [one.member_top1[member] if member < len(one.member_top1) else None for one in sources]
        rows.append((f"Top-1 of member {member} alone", [percent(value) for value in own]))
    if len(last.member_top1) > 1:
        ratios = [ratio_of_errors(one.diversity, one.disagreement is not None) for one in sources]
        rows.append(("Diversity: one of two wrong / both wrong", ratios))
        rows.append(("Disagreement of two members", [percent(one.disagreement) for one in sources]))
    known = [(name, values) for name, values in rows if set(values) != {UNKNOWN}]
    return table("Test scores", heads, [[Cell(name), *map(Cell, values)] for name, values in known])


def _recipe(passages: Sequence[tuple[str, str]]) -> tuple[Html, ...]:
    return tuple(part for heading, text in passages for part in (subheading(heading), prose(text)))


def _configuration(run: RunFiles) -> tuple[Html, ...]:
    if not run.config_text:
        return ()
    return (
        paragraph("As it was resolved: the file, its defaults and the overrides."),
        code(run.config_text.rstrip(), "config.yaml"),
    )


def _commands(run: RunFiles) -> tuple[Html, ...]:
    parts: list[Html] = []
    command = run.environment.command if run.environment else ()
    if command and (called := _program(command[0], run.environment.ranks or 1)):
        parts += [paragraph("The command of this run:"), code(f"{called} {shlex.join(command[1:])}", "command")]
    if run.config_text:
        file, name = shlex.quote(str(run.folder / "config.yaml")), shlex.quote(f"{run.name}.yaml")
        pipeline = f" --pipeline {run.summary.pipeline}" if run.summary and run.summary.pipeline else ""
        again = shlex.quote(f"again/{run.name}")
        lines = (
            f"cp {file} {name}",
            f"mixmo-fast train {name} --runs again{pipeline}",
            f"mixmo-fast evaluate {again} --checkpoint last",
        )
        parts += [
            paragraph("The same from what is in the run folder, overrides included:"),
            code("\n".join(lines), "commands"),
        ]
    return tuple(parts)


def _program(called: str, ranks: int) -> str | None:
    """How the command line was called; None where the run was started from other code."""
    name = Path(called).name
    if name == "mixmo-fast":
        return name
    if name == "__main__.py" and Path(called).parent.name == "mixmo_fast":
        return f"torchrun --nproc-per-node={ranks} -m mixmo_fast" if ranks > 1 else "python -m mixmo_fast"
    return None


def _environment(run: RunFiles) -> tuple[Html, ...]:
    found = run.environment
    versions = (found and found.versions) or (run.summary and run.summary.versions) or {}
    rows = (
        []
        if found is None
        else [
            ("Device", found.device),
            ("Platform", found.platform),
            ("CUDA", found.cuda),
            ("Processor's instructions", found.cpu_capability),
            ("Threads", found.threads and str(found.threads)),
            ("Ranks", found.ranks and str(found.ranks)),
            ("Weights to begin with", found.init and found.init.path),
        ]
    )
    if found:
        rows += [(f"Step: {name.replace('_', ' ')}", _setting(value)) for name, value in found.step.items()]
    rows += versions.items()
    kept = [[Cell(name), Cell(value)] for name, value in rows if value]
    return (table("Machine and versions", [Column("What"), Column("Found")], kept),) if kept else ()


def _setting(value: object) -> str:
    """A setting of the step in a word: precision is a mapping with a name."""
    if isinstance(value, dict):
        return str(value.get("name", value))
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
