"""A configuration's training in plain words: loss and weights, optimiser, learning rate, evaluation.

Part of `explain.py`, which says more about the text. Formulas are those of the paper (arXiv 2103.06132).

Symbols in the text: M members, m one of them, kappa a member's ratio, w_m the weight of its loss, s a step of the whole
run from 0, B rows a step.
"""

from collections.abc import Iterator

import numpy as np

from mixmo_fast.config.schema import Config
from mixmo_fast.mixing.ratios import member_weights
from mixmo_fast.training.schedule import base_rate, learning_rate, rate_rows


def describe_loss(config: Config) -> Iterator[str]:
    """The paragraphs on the loss, with an example of the weights worked out."""
    mixing, members = config.mixing, config.network.members
    target = "its target" if config.msda is None or config.msda.prob == 0 else "its shared label"
    if mixing is None:
        yield f"The mean over a step's rows of the cross entropy between the network's prediction and {target}."
        return
    yield (
        "The sum over the members of the mean over a step's rows of w_m * (cross entropy between the prediction of "
        f"member m's head and {target})."
    )
    if mixing.alpha == 0 and mixing.used == ("linear",):
        yield "Since every kappa_m is 1/M, every weight w_m is 1."
        return
    root = mixing.weight_root
    power = "" if root == 1 else f"^(1/{root:g})"
    yield (
        f"w_m = M * kappa_m{power} / (sum over j of kappa_j{power}), for each row: a member that owns more of a row "
        f"learns more from it. A row's weights sum to M = {members}. weight_root 1 makes them proportional to kappa; "
        "the larger it is, the more even they are."
    )
    others = 0.3 if members == 2 else 0.5 / (members - 1)
    first, second, *_ = member_weights(np.array([1 - others * (members - 1)] + [others] * (members - 1)), root)
    if members == 2:
        yield f"For kappas of 0.7 and 0.3 they are {first:.4g} and {second:.4g}."
    else:
        yield f"For one kappa of 0.5, and {others:.4g} for each of the others, they are {first:.4g} and {second:.4g}."


def describe_optimizer(config: Config) -> Iterator[str]:
    """The paragraphs on gradient descent and weight decay."""
    optimizer = config.optimizer
    how = "without momentum"
    if optimizer.momentum:
        form = "Nesterov's form" if optimizer.nesterov else "the classical form"
        how = f"with momentum {optimizer.momentum:g} in {form}"
    yield f"Stochastic gradient descent {how}."
    decay = optimizer.weight_decay
    if decay == 0:
        yield "There is no weight decay."
        return
    yield (
        f"Weight decay {decay:g} is coupled: {decay:g} * w is added to the gradient of every parameter w, biases and "
        f"batch-norm included, before the learning rate. This is exactly the gradient of {decay / 2:g} * (sum of all "
        f"w^2), so it is the same as a term of that kind in the loss (mixmo-pytorch's l2_reg {decay / 2:g})."
    )


def describe_learning_rate(config: Config, steps: int) -> Iterator[str]:
    """The paragraphs on the learning rate, and a table of the steps at which it changes its course.

    Args:
        config: Of the run.
        steps: Of an epoch.
    """
    optimizer, schedule = config.optimizer, config.schedule
    base, warmup, last = base_rate(config), schedule.warmup_steps, schedule.epochs * steps
    if optimizer.lr_scaling == "linear":
        yield (
            "The base rate is optimizer.lr in proportion to the rows of a step (optimizer.lr_scaling linear): "
            f"{optimizer.lr:g} * {config.batch.rows:,} / {rate_rows(config):,} = {base:g}."
        )
    else:
        yield f"The base rate is {base:g}."
    if warmup > 1:
        reached = f"the run has {last:,}" if warmup > last else f"an epoch has {steps:,}"
        yield (
            f"Warm-up: at step s of the whole run, from 0, the rate is scaled by min(1, (s + 1) / {warmup:,}), which "
            f"is 1 after {warmup:,} steps, {warmup / steps:.4g} times an epoch's ({reached})."
        )
    else:
        yield "There is no warm-up."
    coming = {epoch: factor for epoch, factor in schedule.milestones.items() if epoch <= schedule.epochs}
    if coming:
        yield "Milestones: from the start of such an epoch on, the rate is multiplied by its factor, for good."
    if len(coming) < len(schedule.milestones):
        never = ", ".join(f"{epoch:,}" for epoch in schedule.milestones if epoch > schedule.epochs)
        yield f"The run ends before the milestones in epoch {never}."
    moments = {(1, 0): ["first step"]}
    if 1 < warmup <= last:
        moments.setdefault((1 + (warmup - 1) // steps, (warmup - 1) % steps), []).append("warm-up complete")
    for epoch, factor in coming.items():
        moments.setdefault((epoch, 0), []).append(f"milestone, times {factor:g}")
    moments.setdefault((schedule.epochs, steps - 1), []).append("last step")
    yield f"  {'epoch':>9}  {'its step':>9}  rate"
    for (epoch, step), what in sorted(moments.items()):
        yield f"  {epoch:>9,}  {step + 1:>9,}  {learning_rate(config, steps, epoch, step):<12.6g}  {', '.join(what)}"


def describe_evaluation(config: Config, test_images: int) -> Iterator[str]:
    """The paragraphs on the ensemble, on `best` and `last`, and on checkpoints."""
    every, epochs, members = config.evaluation.every_epochs, config.schedule.epochs, config.network.members
    if members > 1:
        yield (
            f"All {members} members see the same image, and the ensemble's logits are the mean of the members' logits "
            "(of the logits, not of the probabilities). Each member is scored on its own, too."
        )
    if every >= epochs:
        yield (
            f"The {test_images:,} test images are evaluated once, after the last epoch, so `best` and `last` are the "
            "same."
        )
    else:
        when = "every epoch" if every == 1 else f"every {every:,} epochs and after the last one"
        yield (
            f"The {test_images:,} test images are evaluated after {when}. `best` is the evaluated epoch with the "
            "highest top-1 on them, the latest of equals. It is chosen on the images that it is scored on, so its "
            "score flatters; the published ones are of that kind. `last` is the last epoch, which nobody chose. Both "
            "are reported."
        )
    kept = config.checkpoint.every_epochs
    more = f", and one to keep every {kept:,} epochs" if kept else ""
    minutes = config.checkpoint.every_minutes
    within = f" and within one every {minutes:g} minutes" if minutes else ""
    yield f"Checkpoints: `last`, written after every epoch{within}, and `best`{more}."
