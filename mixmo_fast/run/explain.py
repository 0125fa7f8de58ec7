"""A configuration in plain words: what a run computes, with its own numbers put into the formulas.

It is written for a person who has a file and wonders what an epoch is, what a member sees, or why the weight decay is
what it is. Only what is configured is told, and its numbers come from the functions and tables that training uses.
AugMix is in `explain_augmix.py`, resized crops in `explain_resized_crop.py`, mixing in `explain_mixing.py`, loss to
evaluation in `explain_training.py`.

Symbols in the text: N images, B rows a step, b repetitions, M members, E epochs, e the epoch from 1, K classes.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from mixmo_fast.config.schema import Config, LibraryNetworkConfig
from mixmo_fast.config.titles import network_in_prose
from mixmo_fast.networks.kinds import KINDS
from mixmo_fast.run.explain_augmix import describe_augmix
from mixmo_fast.run.explain_mixing import describe_feature_mixing, describe_input_mixing
from mixmo_fast.run.explain_resized_crop import describe_resized_crop
from mixmo_fast.run.explain_training import (
    describe_evaluation,
    describe_learning_rate,
    describe_loss,
    describe_optimizer,
)
from mixmo_fast.run.stem import StemForm, stem_of


@dataclass(frozen=True)
class DataFacts:
    """What an explanation has to know of a data set.

    Attributes:
        title: Its name for people.
        train_images: Of the training split, held-out ones included.
        test_images: Of the test split.
        classes: K.
        height: Of an image, pixels.
        width: Of an image, pixels.
        mean: Of each channel, of pixels scaled to 0..1.
        std: Of each channel, of pixels scaled to 0..1.
        crop_padding: Zeros on each side before the random crop where the configuration leaves it open, pixels.
        flip: Whether images are mirrored where the configuration leaves it open.
    """

    title: str
    train_images: int
    test_images: int
    classes: int
    height: int
    width: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop_padding: int
    flip: bool


@dataclass(frozen=True)
class Passage:
    """A piece of an explanation.

    Attributes:
        heading: What it is about.
        text: Paragraphs of any length, one a line; the lines of a table start with two spaces.
    """

    heading: str
    text: str


def explain(config: Config, facts: DataFacts) -> tuple[Passage, ...]:
    """What a run of this configuration computes, in the order in which an image meets it.

    Args:
        config: Of the run.
        facts: Of its data set.

    Raises:
        ValueError: The training images do not fill one step.
    """
    steps = config.steps_per_epoch(facts.train_images)
    images = facts.train_images - config.held_out(facts.train_images)
    if steps < 1:
        raise ValueError(f"{images} images do not fill one step of {config.batch.rows} rows")
    stem = stem_of(config.network, facts.height, facts.width)
    image_size, map_size, channels = (facts.height, facts.width), stem.map_size, stem.channels
    found = [("The run", _run(config, facts, stem)), ("An epoch and a step", _epoch_and_step(config, facts))]
    if config.network.members > 1:
        found.append(("What each member sees", _companions(config)))
    if config.data.augmentation == "augmix":
        found.append(("AugMix", describe_augmix(config, (facts.height, facts.width))))
    resized = config.data.augmentation == "resized_crop"
    found.append(("Resized crops and flips" if resized else "Standard augmentation", _augmentation(config, facts)))
    if config.msda is not None:
        found.append(("Mixing of the input images", describe_input_mixing(config, images, image_size, map_size)))
    if config.mixing is not None:
        found.append(("Mixing of the members' features", describe_feature_mixing(config, map_size, channels)))
    found += [
        ("Loss", describe_loss(config)),
        ("Optimiser and weight decay", describe_optimizer(config)),
        ("Learning rate", describe_learning_rate(config, steps)),
        ("Evaluation", describe_evaluation(config, facts.test_images)),
    ]
    return tuple(Passage(heading, "\n".join(lines)) for heading, lines in found)


def _run(config: Config, facts: DataFacts, stem: StemForm) -> Iterator[str]:
    network, members = config.network, config.network.members
    yield f"{facts.title}: images of {facts.height}x{facts.width} pixels in {facts.classes} classes."
    held_out = config.held_out(facts.train_images)
    images = facts.train_images - held_out
    if held_out:
        yield (
            f"{held_out:,} of its {facts.train_images:,} training images are held out (data.holdout "
            f"{config.data.holdout:g}), chosen once by the seed; N = {images:,} are trained on."
        )
    else:
        yield f"N = {images:,} images are trained on."
    if isinstance(network, LibraryNetworkConfig):
        start = "starts from the weights that it is offered with" if network.pretrained else "starts from fresh weights"
        yield f"The network is {network_in_prose(network)}, and {start}."
    else:
        family = KINDS[network.kind].family
        yield f"The network is a {family} of depth {network.depth} and width {network.width}."
    if members > 1:
        yield (
            f"M = {members} members live in it. Each has an encoder of its own (a {stem.kernel[0]}x{stem.kernel[1]} "
            f"convolution from 3 to {stem.channels} channels) and a head of its own (a linear classifier); the trunk "
            "between them is shared."
        )
    yield (
        f"Everything random (weights, order, crops, mixing) follows from seed {config.seed}: the same seed gives the "
        "same batches, whatever the pipeline."
    )


def _epoch_and_step(config: Config, facts: DataFacts) -> Iterator[str]:
    rows, b, members = config.batch.rows, config.batch.repetitions, config.network.members
    images = facts.train_images - config.held_out(facts.train_images)
    steps, epochs = config.steps_per_epoch(facts.train_images), config.schedule.epochs
    if b == 1:
        yield (
            f"An epoch is a new random order of the N = {images:,} images, cut into steps of B = {rows:,} rows, an "
            f"image a row: floor(N / B) = {steps:,} steps."
        )
    else:
        yield (
            f"An epoch is a new random order of the N = {images:,} images, in which each stands b = {b:,} times in a "
            f"row. These N * b = {images * b:,} rows are cut into steps of B = {rows:,}."
        )
        yield (
            f"So B counts the repeats: a step has B / b = {rows // b:,} distinct images, {b:,} times each, and an "
            f"epoch floor(N * b / B) = {steps:,} steps, b times as many (up to rounding) as without repetition."
        )
    left = images - steps * rows // b
    if left:
        yield f"The last {left:,} of that order fill no step and are left out; which ones, each epoch draws anew."
    total = epochs * steps * rows
    shown = f" A row shows {members} images, so the members are shown {total * members:,}." if members > 1 else ""
    yield f"The run has E = {epochs:,} epochs: {epochs * steps:,} steps, and {total:,} rows in all.{shown}"


def _companions(config: Config) -> Iterator[str]:
    rows, rho, members = config.batch.rows, config.batch.input_repetition, config.network.members
    common = int(rows * rho)
    if rows - common <= 1:  # one row has but one order
        yield f"All members see the same image in each of the {rows:,} rows of a step (input_repetition {rho:g})."
        return
    if common:
        yield (
            f"The first int(B * input_repetition) = int({rows:,} * {rho:g}) = {common:,} rows of a step show all "
            f"members the same image. For the other {rows - common:,} each member has a random order of its own."
        )
    else:
        yield f"Within a step, each member goes through the same {rows:,} rows in a random order of its own."
    which = "one of the others" if common else "a row"
    yield (
        f"So each member sees every row exactly once a step, and {which} puts {members} images together that have "
        "nothing to do with each other (chance may put an image beside itself)."
    )


def _augmentation(config: Config, facts: DataFacts) -> Iterator[str]:
    resized = config.data.augmentation == "resized_crop"
    pad = facts.crop_padding if config.data.crop_padding is None else config.data.crop_padding
    pad = 0 if resized else pad
    flip = facts.flip if config.data.flip is None else config.data.flip
    if pad:
        yield (
            f"Crop: {pad} pixels of zeros are added on each side, and {facts.height}x{facts.width} pixels are cut out "
            f"at offsets uniform on 0..{2 * pad} in each axis: (2 * {pad} + 1)^2 = {(2 * pad + 1) ** 2:,} places."
        )
    if resized:
        yield from describe_resized_crop(config, (facts.height, facts.width))
    if flip:
        yield "Flip: left to right, with probability 1/2."
    if pad or resized or flip:
        occasions = ["row"] if config.network.members == 1 else ["row and member"]
        occasions += ["partner"] if config.msda is not None and config.msda.prob else []
        repeats = ", repeats of an image included" if config.batch.repetitions > 1 else ""
        yield f"This is drawn anew for every {' and for every '.join(occasions)}{repeats}."
    else:
        yield "There is none: images are neither cropped nor flipped."
    mean, std = (", ".join(f"{value:.4g}" for value in values) for values in (facts.mean, facts.std))
    padded = "; the padding is zero before that, so it becomes -mean / std" if pad else ""
    yield f"Pixels become (pixel / 255 - mean) / std, with mean ({mean}) and std ({std}){padded}."
    yield "Test images are only normalised."
