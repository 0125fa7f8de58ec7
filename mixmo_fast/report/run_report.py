"""`report.html`: a finished run on one page that can be sent to somebody, and opened without anything else."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from mixmo_fast.config.schema import Config
from mixmo_fast.config.titles import network_in_prose
from mixmo_fast.errors import MixmoError
from mixmo_fast.files import write_text
from mixmo_fast.mixing.methods import MASKS
from mixmo_fast.mixing.ratios import patch_probability
from mixmo_fast.report.class_errors import frequent_confusions, scores_of_classes
from mixmo_fast.report.other_checkpoints import other_checkpoints, side_by_side
from mixmo_fast.report.page import render
from mixmo_fast.report.run_files import RunFiles, read_run, size_of_png
from mixmo_fast.report.run_plots import pictures_of
from mixmo_fast.report.words import UNKNOWN, counted, ratio_of_errors
from mixmo_fast.runfolder.evaluated import DETECTOR_SCORES, SavedEvaluation
from mixmo_fast.runfolder.history import best_epoch
from mixmo_fast.runfolder.names import CONFIG, METRICS, PAGE, SUMMARY
from mixmo_fast.runfolder.records import Environment, RunSummary
from mixmo_fast.runfolder.scores import SCORES, Scores, ensemble_scores


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
        raise MixmoError(f"{folder}: not a run folder (it has neither {METRICS} nor {SUMMARY})")
    summary, environment = run.summary or RunSummary(), run.environment or Environment()
    last = summary.last or (run.tested[-1] if run.tested else None)
    best = summary.best_on_test or best_epoch(run.history)
    sources = _sources(run, last, best) if last else {}
    evaluation = run.evaluation or SavedEvaluation()
    page = render(
        "run.html",
        title=run.name,
        lead=_lead(run),
        run=run,
        summary=summary,
        last=last,
        best=best,
        sources=sources,
        scores=_score_rows(list(sources.values())),
        pictures=pictures_of(run),
        compared=side_by_side(run),
        others=other_checkpoints(run),
        confusions=frequent_confusions(evaluation.confusion, evaluation.classes),
        classes=scores_of_classes(evaluation.confusion, evaluation.classes),
        batch_size=run.first_batch and size_of_png(run.first_batch),
        detector_scores=DETECTOR_SCORES,
        marks=_marks(run),
        unmixed=_unmixed(run.config) if run.config else "",
        recipe=recipe,
        command=_command(environment),
        again=_commands_again(run),
        machine=_machine(environment, environment.versions or summary.versions),
    )
    write_text(folder / PAGE, page)
    return folder / PAGE


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
        parts.append(counted(done, "epoch") if done == planned else f"{done} of {planned} epochs so far")
    told = [part for part in parts if part]
    return lines + ([f"Trained on {', '.join(told)}."] if told else [])


def _marks(run: RunFiles) -> list[str]:
    """What keeps the run's numbers from being those of its whole schedule; nothing where nothing does."""
    if run.full_epochs is None or run.config is None:
        return []
    return [f"shortened schedule: {run.config.schedule.epochs} of {run.full_epochs} epochs"]


def _unmixed(config: Config) -> str:
    """Why the first epoch mixes without the masks that the recipe is named for; empty where it does not."""
    mixing, epochs = config.mixing, config.schedule.epochs
    if mixing is None or mixing.method == mixing.replacement or not mixing.prob:
        return ""
    if patch_probability(mixing.prob, mixing.decay_from, 1, epochs) > 0:
        return ""
    return (
        f"Its first epoch is its last, by which the probability of {mixing.method} masks, {mixing.prob:g}, has decayed "
        f"to 0: all rows are mixed with {mixing.replacement} masks."
    )


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
    augmented = f" with {MASKS[msda.method].image_title or msda.method} augmentation" if msda else ""
    kind = network_in_prose(network)
    members = "" if network.members == 1 else f", {network.members} members"
    repeated = "" if batch.repetitions == 1 else f" ({batch.repetitions} repetitions)"
    return (
        f"{name}{augmented} on {config.data.dataset}: {kind}{members}, steps of {batch.rows} rows{repeated}, "
        f"learning rate {config.optimizer.lr:g}, {counted(config.schedule.epochs, 'epoch')}."
    )


def _sources(run: RunFiles, last: Scores, best: Scores | None) -> dict[str, Scores]:
    """Whose scores stand beside each other: a heading each."""
    sources = {"Last epoch": last} | ({"Best on test": best} if best else {})
    for one in run.evaluations:
        again = one.record
        if (again.top1, again.nll) not in [(other.top1, other.nll) for other in sources.values()]:
            how = ", probabilities averaged" if again.ensemble == "probabilities" else ""
            sources[f"Evaluated: {one.checkpoint}{how}"] = again
    return sources


def _score_rows(sources: Sequence[Scores]) -> list[tuple[str, list[str]]]:
    """What each score is called, and its values in the sources, the last epoch first; rows without any are left out."""
    rows = [_score_row(name, sources) for name in ensemble_scores(("top1", "top5", "nll", "ece", "tace"))]
    members = len(sources[0].member_top1) if sources else 0
    if members > 1:
        alone = SCORES["member_top1"]
        for member in range(members):
            own = [one.member_top1[member] if member < len(one.member_top1) else None for one in sources]
            rows.append((alone.title.format(member), [alone.written(value, UNKNOWN) for value in own]))
        ratios = [ratio_of_errors(one.diversity, one.disagreement is not None) for one in sources]
        rows += [(SCORES["diversity"].title, ratios), _score_row("disagreement", sources)]
    return [(name, values) for name, values in rows if set(values) != {UNKNOWN}]


def _score_row(name: str, sources: Sequence[Scores]) -> tuple[str, list[str]]:
    return SCORES[name].title, [SCORES[name].written(getattr(one, name), UNKNOWN) for one in sources]


def _command(environment: Environment) -> str | None:
    """The command of the run, to be pasted into a shell; None where it was started from other code."""
    called = _program(environment.command[0], environment.ranks or 1) if environment.command else None
    return called and f"{called} {shlex.join(environment.command[1:])}"


def _commands_again(run: RunFiles) -> str:
    """Commands that repeat the run from what is in its folder."""
    file, name = shlex.quote(str(run.folder / CONFIG)), shlex.quote(f"{run.name}.yaml")
    pipeline = f" --pipeline {run.summary.pipeline}" if run.summary and run.summary.pipeline else ""
    return (
        f"cp {file} {name}\n"
        f"mixmo-fast train {name} --runs again{pipeline}\n"
        f"mixmo-fast evaluate {shlex.quote(f'again/{run.name}')} --checkpoint last"
    )


def _program(called: str, ranks: int) -> str | None:
    """How the command line was called; None where the run was started from other code."""
    name = Path(called).name
    if name == "mixmo-fast":
        return name
    if name == "__main__.py" and Path(called).parent.name == "mixmo_fast":
        return f"torchrun --nproc-per-node={ranks} -m mixmo_fast" if ranks > 1 else "python -m mixmo_fast"
    return None


def _machine(found: Environment, versions: Mapping[str, str]) -> list[tuple[str, str]]:
    """What the run was on, and the versions of packages: what is known of it."""
    rows = [
        ("Device", found.device),
        ("Platform", found.platform),
        ("CUDA", found.cuda),
        ("Processor's instructions", found.cpu_capability),
        ("Threads", found.threads and str(found.threads)),
        ("Ranks", found.ranks and str(found.ranks)),
        ("Weights to begin with", found.init and found.init.path),
        *((f"Step: {name.replace('_', ' ')}", _setting(value)) for name, value in found.step.items()),
        *versions.items(),
    ]
    return [(name, value) for name, value in rows if value]


def _setting(value: object) -> str:
    """A setting of the step in a word: precision is a mapping with a name."""
    if isinstance(value, dict):
        return str(value.get("name", value))
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
