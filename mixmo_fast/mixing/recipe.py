"""What the plan has to know of a run: plain numbers, checked once.

`mixmo_fast.run.build` makes a `Recipe` from a configuration and a data set; nothing in this folder knows either.
"""

from dataclasses import dataclass
from math import inf

from mixmo_fast.mixing.methods import MASKS, MixingMethod, MsdaMethod, is_concentration


@dataclass(frozen=True)
class ManifoldMixing:
    """How the members' features are mixed (the mixing block of the paper, arXiv 2103.06132).

    Attributes:
        method: `patch` (binary, a CutMix box), `linear`, or another mask.
        prob: Probability that a step uses `method`; the others use `replacement`.
        alpha: Concentration of the Dirichlet the ratios kappa are drawn from; 0 means exactly 1/M each (MIMO).
        weight_root: r; a member's loss weight is proportional to kappa ** (1/r).
        decay_from: Share of the run's epochs after which `prob` falls linearly, to 0 in the last epoch.
        replacement: Linear in the paper, or any other method.

    Raises:
        ValueError: On a number that nothing can be drawn with.
    """

    method: MixingMethod
    prob: float
    alpha: float
    weight_root: float
    decay_from: float
    replacement: MixingMethod = "linear"

    def __post_init__(self):
        if not is_concentration(self.alpha):
            raise ValueError(f"alpha is {self.alpha}: ratios are drawn with 0, or 0.001 to 1000")
        if not (0 <= self.prob <= 1 and 0 < self.decay_from <= 1 and 0.001 <= self.weight_root <= 1000):
            raise ValueError(
                f"prob is {self.prob}, decay_from {self.decay_from}, weight_root {self.weight_root}: they lie in "
                "0..1, above 0 and up to 1, and in 0.001..1000"
            )


@dataclass(frozen=True)
class InputMixing:
    """Mixed sample data augmentation of each member's own image (mixup or CutMix on pixels).

    Attributes:
        method: `mixup`, `cutmix`, or another mask.
        prob: Probability that an image is mixed at all.
        beta: The ratio lam is drawn from Beta(beta, beta); 0 means exactly 1/2.

    Raises:
        ValueError: On a number that nothing can be drawn with.
    """

    method: MsdaMethod
    prob: float
    beta: float

    def __post_init__(self):
        if not is_concentration(self.beta):
            raise ValueError(f"beta is {self.beta}: ratios are drawn with 0, or 0.001 to 1000")
        if not 0 <= self.prob <= 1:
            raise ValueError(f"prob is {self.prob}: it lies in 0..1")


@dataclass(frozen=True)
class ResizedCrop:
    """Boxes of an image that are stretched to its size (`mixmo_fast.mixing.resized_crop`).

    Attributes:
        scale: Smallest and largest share of the image's area.
        ratio: Smallest and largest width / height.

    Raises:
        ValueError: On shares or ratios that mean nothing.
    """

    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)

    def __post_init__(self):
        if not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise ValueError(f"scale {self.scale}: not two shares of an area in ascending order")
        if not 0 < self.ratio[0] <= self.ratio[1] < inf:
            raise ValueError(f"ratio {self.ratio}: not two ratios above 0 in ascending order")


@dataclass(frozen=True)
class Recipe:
    """Everything a plan depends on besides seed, epoch and step.

    Attributes:
        images: N, images in the training set.
        rows: B, rows of a step, repeats included.
        repetitions: b, how often each image stands in a step.
        members: M.
        image_size: (H, W) of an image, pixels.
        map_size: (h, w) of the features behind the encoders; divides `image_size`.
        crop_padding: Zero pixels added on each side before the random crop; 0 with resized crops.
        flip: Whether images are flipped left-right with probability 1/2.
        epochs: E, for the decay of `mixing.prob`.
        map_channels: C of the features behind the encoders, for masks that differ between channels.
        mixing: None exactly when `members` is 1.
        msda: None for no input mixing.
        input_repetition: rho, share of a step's rows in which all members see the same image.
        held_out: H, images kept out of training (`mixmo_fast.mixing.holdout`).
        augmix: Whether AugMix follows crop and flip (`mixmo_fast.mixing.augmix`); no `StepPlan` depends on it.
        resized_crop: None for crops of the image's own size.
        parts: Into how many equal parts each step's rows are cut, one for each process that trains.
        part: Which of them the plans hold, from 0; they are drawn all the same as a whole.

    Raises:
        ValueError: On numbers that contradict each other.
    """

    images: int
    rows: int
    repetitions: int
    members: int
    image_size: tuple[int, int]
    map_size: tuple[int, int]
    crop_padding: int
    flip: bool
    epochs: int
    map_channels: int = 1
    mixing: ManifoldMixing | None = None
    msda: InputMixing | None = None
    input_repetition: float = 0.0
    held_out: int = 0
    augmix: bool = False
    resized_crop: ResizedCrop | None = None
    parts: int = 1
    part: int = 0

    def __post_init__(self):
        if self.rows % self.repetitions:
            raise ValueError(f"rows ({self.rows}) is not a multiple of repetitions ({self.repetitions})")
        if self.rows % self.parts or not 0 <= self.part < self.parts:
            raise ValueError(f"rows ({self.rows}) cannot be cut into {self.parts} parts, of which {self.part} is one")
        if (self.members == 1) != (self.mixing is None):
            raise ValueError("a network of one member has no manifold mixing, any other needs it")
        if self.resized_crop and (self.crop_padding or self.augmix):
            raise ValueError("resized crops go with neither padding nor AugMix")
        if any(size % small for size, small in zip(self.image_size, self.map_size, strict=True)):
            raise ValueError(f"the map {self.map_size} does not divide the image {self.image_size}")
        places: list[tuple[MixingMethod | MsdaMethod, tuple[int, int]]] = []
        if self.mixing:
            places += [(self.mixing.method, self.map_size), (self.mixing.replacement, self.map_size)]
        if self.msda:
            places.append((self.msda.method, self.image_size))
        for method, size in places:
            if min(size) < MASKS[method].block:
                raise ValueError(f"{method} places blocks of {MASKS[method].block} pixels, the map is {size}")
        if self.steps_per_epoch < 1:
            raise ValueError(f"{self.trained_images} images x {self.repetitions} do not fill one step of {self.rows}")

    @property
    def steps_per_epoch(self) -> int:
        """floor((N - H) * b / B): the last, incomplete step is dropped."""
        return self.trained_images * self.repetitions // self.rows

    @property
    def trained_images(self) -> int:
        """N - H, images that are trained on."""
        return self.images - self.held_out

    @property
    def most_images_a_step(self) -> int:
        """How many distinct images the plan of a step may name, partners included."""
        partners = self.own_rows * self.members if self.msda else 0
        return min(self.rows // self.repetitions + partners, self.images)

    @property
    def own_rows(self) -> int:
        """Rows of a step that a plan holds: all of them, or this part's."""
        return self.rows // self.parts
