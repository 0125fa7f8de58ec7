"""Figures of training: loss, accuracy of ensemble and members, learning rate, and how members differ.

Each function takes what was saved and gives a `Plot`, or None where the numbers for it are missing.

Shapes: E epochs, M members.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from mixmo_fast.config.schema import Config
from mixmo_fast.report.accuracy import accuracy_axis, interval_label, interval_note, wilson
from mixmo_fast.report.colours import Theme
from mixmo_fast.report.drawing import HEIGHT_IN, Plot, format_axis, percent_axis, write_png
from mixmo_fast.report.run_files import Planned
from mixmo_fast.report.words import counted, decimal, listing, percent
from mixmo_fast.runfolder.history import best_epoch, tested
from mixmo_fast.runfolder.records import Epoch
from mixmo_fast.runfolder.trained_on import TrainedOn
from mixmo_fast.training.schedule import learning_rate

_MARKED_EPOCHS = 60  # more of them are a line without dots
_BESIDE = 0.08  # epochs
_WARMUP_POINTS = 100  # of a curve
_NAMED_MEMBERS = 6  # more of them share one line of the legend
_LINE_STYLES = ("-", "--", ":")  # tell members apart whose colours come again
_LINE_WIDTHS = (2.6, 1.9, 1.2)  # likewise where one runs upon another


def training_loss(history: Sequence[Epoch]) -> Plot | None:
    """The training loss, summed over members, in nats, by epoch."""
    rows = [row for row in history if row.train_loss is not None]
    if not rows:
        return None

    def draw(axes: Axes, theme: Theme) -> None:
        axes.plot(
            [row.epoch for row in rows], [row.train_loss for row in rows], marker=_marker(rows), color=theme.second
        )
        axes.set(xlabel="epoch", ylabel="nats")
        _whole_epochs(axes)

    first, last = rows[0], rows[-1]
    finding = f"Training loss: {decimal(first.train_loss, 3)} nats in epoch {first.epoch}"
    if first is not last:
        finding += f", {decimal(last.train_loss, 3)} in epoch {last.epoch}"
    return Plot("Training loss", f"{finding}.", "Mean over the epoch's rows of the members' losses, summed.", draw)


def test_top1(history: Sequence[Epoch], images: int | None = None) -> Plot | None:
    """Test top-1 of ensemble and members, by epoch, with the best epoch ringed.

    Args:
        history: The epochs (E).
        images: Of the test set; None leaves out its confidence interval.
    """
    rows = tested(history)
    if not rows:
        return None
    epochs = [row.epoch for row in rows]
    last, best = rows[-1], best_epoch(rows)
    members = len(last.member_top1)
    name = "ensemble" if members > 1 else "network"

    def draw(axes: Axes, theme: Theme) -> None:
        if members > 1:
            for member in range(members):
                values = [row.member_top1[member] if len(row.member_top1) == members else None for row in rows]
                label = member_label(member, members)
                places = aside(epochs, member + 1)
                axes.plot(places, _gaps(values), marker=_marker(rows), label=label, **member_line(theme, member))
        if images:
            draw_interval(axes, theme, epochs, [row.top1 for row in rows], images)
        axes.plot(epochs, [row.top1 for row in rows], marker=_marker(rows), color=theme.text, label=name)
        axes.plot(
            [best.epoch],
            [best.top1],
            "o",
            markersize=9,
            color="none",
            markeredgecolor=theme.text,
            label="best on test",
        )
        axes.set(xlabel="epoch")
        accuracy_axis(axes, axes.yaxis)
        _whole_epochs(axes)
        axes.figure.legend(loc="outside lower center", ncols=2)

    own = [f"member {member} {percent(top1)}" for member, top1 in enumerate(last.member_top1)] if members > 1 else []
    finding = (
        f"Test top-1 after epoch {last.epoch}: {listing([f'{name} {percent(last.top1)}', *own])}. "
        f"Best on test: {percent(best.top1)} after epoch {best.epoch}."
    )
    note = "Share of the test images that are classified right; the ring marks the epoch that is best on test."
    if images:
        low, high = wilson(last.top1, images)
        finding += f" 95 % interval after the last epoch: {percent(low)} to {percent(high)}."
    return Plot("Test top-1", finding, note + interval_note(images), draw, height_in=HEIGHT_IN + 0.4)


def draw_interval(axes: Axes, theme: Theme, epochs: Sequence[int], top1: Sequence[float], images: int) -> None:
    """Shades what the size of the test set leaves open around a curve; bars where there is no curve yet."""
    lows, highs = zip(*(wilson(one, images) for one in top1), strict=True)
    if len(epochs) == 1:
        axes.vlines(epochs, lows, highs, color=theme.text, alpha=0.2, linewidth=9, label=interval_label(images))
    else:
        axes.fill_between(epochs, lows, highs, color=theme.text, alpha=0.15, linewidth=0, label=interval_label(images))


def aside(epochs: Sequence[int], places: int) -> list[float]:
    """Where to draw one of several curves: at its epochs, but beside them where it is a dot that would hide another."""
    return [epochs[0] + _BESIDE * places] if len(epochs) == 1 else list(epochs)


def learning_rates(history: Sequence[Epoch], planned: Planned | None = None) -> Plot | None:
    """The learning rate of each epoch's last step, on a logarithmic scale, and of all steps where they are known."""
    rows = [row for row in history if row.learning_rate]
    if not rows:
        return None
    rates = [row.learning_rate for row in rows]
    config, data = (planned.config, planned.data) if planned else (None, None)
    steps = config.steps_per_epoch(data.train_images) if config and data else None
    warmup = config.schedule.warmup_steps if config and steps else 0

    def draw(axes: Axes, theme: Theme) -> None:
        epochs = [row.epoch for row in rows]
        if config and steps:
            places = _steps_drawn(epochs[-1], steps, warmup)
            of_steps = [learning_rate(config, steps, epoch, step) for epoch, step in places]
            axes.plot([epoch - 1 + (step + 1) / steps for epoch, step in places], of_steps, color=theme.member(2))
        if warmup and steps:
            shown = min(warmup / steps, epochs[-1])
            axes.axvspan(0, shown, color=theme.second, alpha=0.35, label=f"warm-up: {counted(warmup, 'step')}")
            axes.figure.legend(loc="outside lower center")
        axes.plot(epochs, rates, marker=_marker(rows), linestyle="" if steps else "-", color=theme.member(2))
        axes.set(xlabel="epoch", yscale="log")
        if max(rates) == min(rates) and not warmup:
            axes.set_ylim(rates[0] / 10, rates[0] * 10)
        format_axis(axes.yaxis, lambda value: f"{value:g}")
        _whole_epochs(axes)

    finding = f"Learning rate: at most {max(rates):g}, {rates[-1]:g} at the end of epoch {rows[-1].epoch}."
    note = "Logarithmic; dots at the last step of each epoch."
    if warmup and steps:
        finding += f" It warms up over {counted(warmup, 'step')} of {steps:,} an epoch."
        note += f" Shaded: the warm-up, {counted(warmup, 'step')} of {steps:,} an epoch."
    return Plot("Learning rate", finding, note, draw, height_in=HEIGHT_IN + 0.4)


def _steps_drawn(epochs: int, steps: int, warmup: int) -> list[tuple[int, int]]:
    """Epoch and step of what a curve of the schedule needs: the warm-up's, at most some hundred, and epochs' ends."""
    early = range(0, min(warmup, epochs * steps), max(1, warmup // _WARMUP_POINTS))
    ends = [taken for epoch in range(epochs) for taken in (epoch * steps, (epoch + 1) * steps - 1)]
    return [(taken // steps + 1, taken % steps) for taken in sorted({*early, *ends})]


def diversity(history: Sequence[Epoch]) -> Plot | None:
    """The members' ratio of errors by epoch."""
    note = (
        "Ratio of errors, the mean over pairs of members: images that only one of the two gets wrong, over images that "
        "both get wrong. More is more diverse."
    )
    pairs = [(row.epoch, row.diversity) for row in history if row.diversity is not None]
    if any(row.diversity is None and row.disagreement is not None for row in history):
        note += " Epochs without a shared error have none."
    return _over_epochs("Diversity of the members", pairs, "ratio of errors", note, lambda value: f"{value:.2f}")


def disagreement(history: Sequence[Epoch]) -> Plot | None:
    """The share of test images on which two members predict different classes, by epoch."""
    note = "Share of the test images on which two members predict different classes, the mean over pairs."
    pairs = [(row.epoch, row.disagreement) for row in history if row.disagreement is not None]
    return _over_epochs("Disagreement of the members", pairs, "", note, percent)


def plot_learning_curves(
    history: Sequence[Epoch], title: str, path: Path, config: Config | None = None, data: TrainedOn | None = None
) -> None:
    """Loss, test accuracy of ensemble and members, and learning rate side by side, into a PNG.

    Args:
        history: The epochs, of which at least one has a loss.
        title: Above them.
        path: Of the picture.
        config: Of the run.
        data: What it was trained on.

    Raises:
        MixmoError: When it cannot be written.
    """
    write_png(learning_curves(history, Planned(config, data)), path, title)


def learning_curves(history: Sequence[Epoch], planned: Planned | None = None) -> list[Plot]:
    """The figures of training that there are numbers for."""
    images = planned.images if planned else None
    found = (training_loss(history), test_top1(history, images), learning_rates(history, planned))
    return [plot for plot in found if plot is not None]


def member_label(member: int, members: int) -> str | None:
    """A member's name in a legend; None where its line is one of many that share one."""
    if members > _NAMED_MEMBERS:
        return f"each of {members} members" if member == 0 else None
    return f"member {member}"


def member_line(theme: Theme, member: int) -> dict[str, Any]:
    """How a member's line looks: its colour, and a style that tells it from those with the same one."""
    style = _LINE_STYLES[member // len(theme.members) % len(_LINE_STYLES)]
    return {"color": theme.member(member), "linestyle": style, "linewidth": _LINE_WIDTHS[member % len(_LINE_WIDTHS)]}


def _over_epochs(
    title: str, pairs: Sequence[tuple[int, float]], unit: str, note: str, words: Callable[[float], str]
) -> Plot | None:
    """A figure of one number an epoch."""
    if not pairs:
        return None
    epochs, values = zip(*pairs, strict=True)

    def draw(axes: Axes, theme: Theme) -> None:
        axes.plot(epochs, values, marker=_marker(epochs), color=theme.accent)
        axes.set(xlabel="epoch", ylabel=unit)
        axes.set_ylim(bottom=0)
        if words is percent:
            percent_axis(axes.yaxis)
        _whole_epochs(axes)

    finding = f"{title}: {words(values[-1])} after epoch {epochs[-1]}"
    if len(epochs) > 1:
        finding += f"; {words(min(values))} to {words(max(values))} over {len(epochs)} evaluated epochs"
    return Plot(title, f"{finding}.", note, draw)


def _marker(rows: Sequence[object]) -> str | None:
    """Dots while there are few, and a large one where no line is drawn at all."""
    return "o" if len(rows) == 1 else "." if len(rows) < _MARKED_EPOCHS else None


def _gaps(values: Sequence[float | None]) -> list[float]:
    """What is missing as NaN, where a line breaks."""
    return [float("nan") if value is None else value for value in values]


def _whole_epochs(axes: Axes) -> None:
    """Ticks at whole epochs, and room for one where there is a single one."""
    low, high = axes.get_xlim()
    if high - low < 1:
        epoch = round((low + high) / 2)
        axes.set_xlim(epoch - 1, epoch + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=7, integer=True))
