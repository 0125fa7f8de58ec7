"""The networks that a configuration can name: one row each, with all that is known of it outside of its own file.

A new network is a name and a row here, a file beside this one that builds it, and a test. Titles, messages, the
authors' names, the size by formula, the rate that is scaled and the stem that plans draw masks for are read from the
row. Nothing here imports torch, so that a configuration can be checked and a reproduction planned without it.

Shapes: M members, K classes, H W pixels of an image; d the depth, w the width of a network.
"""

import re
from dataclasses import dataclass
from pkgutil import resolve_name
from typing import Any, Literal

KindName = Literal["wide_resnet", "preact_resnet"]
"""What `network.kind` may be, for the paper's networks."""

LibraryName = Literal["timm", "torchvision"]
"""What else it may be: a library, any of whose networks may be named."""


@dataclass(frozen=True)
class NetworkKind:
    """One kind of network: a stem, groups of residual blocks of two 3x3 convolutions, and a linear head.

    Attributes:
        builder: Module and function that build one, imported where one is built, because torch takes a second.
        family: Its name in the literature.
        title: One of them as in the paper's tables; this and the next two are filled with `depth` and `width`.
        prose: The same in a sentence.
        table_title: The table of the paper that it belongs to; without `width` where the table has several.
        run_name: Pattern of the part of a run's name that means one, with the groups `width` and, if it may vary,
            `depth`.
        run_names: Those of the published runs.
        short_name: Pattern of what benchmarks call one, with the same groups.
        short_form: That in words, with an example.
        depths: The d that there are.
        stem_width: Channels behind each encoder.
        stem_stride: Of each encoder; the map behind it has H / stem_stride rows.
        groups: Channels of each group for w = 1; each group but the first halves the map.
        other_layers: Layers that d counts besides those of blocks.
        last_norm: Whether a batch-norm follows the last block.
        stride_first: Whether a block's first convolution has the stride, instead of the second.
        state_mark: What names of entries begin with that only this kind's state dicts have.
        published_rows: Rows a step in the paper's runs, for which their learning rates are meant.
        published_dataset: The data set, or one of them, that the paper trains it on.
        authors_name: In mixmo-pytorch's configurations for one member; for several, `mixmo` follows.
        authors_need_width: Whether those have to say the width.
        authors_decay_in_loss: Whether weight decay is a term of their loss instead of their optimiser's.
    """

    builder: str
    family: str
    title: str
    prose: str
    table_title: str
    run_name: str
    run_names: tuple[str, ...]
    short_name: str
    short_form: str
    depths: range
    stem_width: int
    stem_stride: int
    groups: tuple[int, ...]
    other_layers: int
    last_norm: bool
    stride_first: bool
    state_mark: str
    published_rows: int
    published_dataset: str
    authors_name: str
    authors_need_width: bool
    authors_decay_in_loss: bool

    @property
    def depth_rule(self) -> str:
        """The depths in a word: `6n+4`, or `18`."""
        if len(self.depths) == 1:
            return str(self.depths[0])
        return f"{self.depths.step}n+{self.depths.start % self.depths.step}"

    @property
    def allowed_depths(self) -> str:
        """The depths as messages name them: `6n+4 (10, 16, 22, 28, ...)`, or `only 18`."""
        if len(self.depths) == 1:
            return f"only {self.depth_rule}"
        return f"{self.depth_rule} ({', '.join(map(str, self.depths[:4]))}, ...)"

    @property
    def authors_names(self) -> tuple[str, str]:
        """In mixmo-pytorch's configurations: for one member, and for several."""
        return self.authors_name, f"{self.authors_name}mixmo"

    @property
    def widths_share_a_table(self) -> bool:
        """Whether the paper compares several widths in one table."""
        return "{width}" not in self.table_title

    def build(self, depth: int, width: int, members: int, classes: int) -> Any:
        """A `MixMo` with fresh weights, drawn from the global generator of the device it is built on.

        Raises:
            ValueError: For a depth that there is not, or another number below 1.
        """
        return resolve_name(self.builder)(depth, width, members, classes)

    def blocks(self, depth: int) -> int:
        """Blocks in each group of a network of a depth."""
        return (depth - self.other_layers) // (2 * len(self.groups))


def network_of_run_name(name: str) -> dict[str, Any] | None:
    """`kind`, `depth` and `width` of what a run's name calls a network, such as `wrn2810`; None for other words."""
    return _read({kind: row.run_name for kind, row in KINDS.items()}, name)


def network_of_short_name(name: str) -> dict[str, Any] | None:
    """`kind`, `depth` and `width` of what benchmarks call a network, such as `wrn-28-10`; None for other words."""
    return _read({kind: row.short_name for kind, row in KINDS.items()}, name)


def _read(patterns: dict[KindName, str], name: str) -> dict[str, Any] | None:
    for kind, pattern in patterns.items():
        if match := re.fullmatch(pattern, name):
            parts = match.groupdict()
            depth = int(parts.get("depth", KINDS[kind].depths[0]))
            return {"kind": kind, "depth": depth, "width": int(parts["width"] or 1)}
    return None


KINDS: dict[KindName, NetworkKind] = {
    "wide_resnet": NetworkKind(
        builder="mixmo_fast.networks.wide_resnet:wide_resnet",
        family="WideResNet",
        title="WRN-{depth}-{width}",
        prose="wide ResNet {depth}-{width}",
        table_title="WideResNet-{depth}-{width}",
        run_name=r"wrn(?P<depth>\d\d)(?P<width>\d{1,2})",
        run_names=("wrn2810",),
        short_name=r"wrn-(?P<depth>\d{1,4})-(?P<width>\d{1,4})",
        short_form="wrn-D-K (wrn-28-10)",
        depths=range(10, 1001, 6),
        stem_width=16,
        stem_stride=1,
        groups=(16, 32, 64),
        other_layers=4,
        last_norm=True,
        stride_first=False,
        state_mark="trunk.bn1.",
        published_rows=64,
        published_dataset="cifar100",
        authors_name="wideresnet",
        authors_need_width=True,
        authors_decay_in_loss=True,
    ),
    "preact_resnet": NetworkKind(
        builder="mixmo_fast.networks.preact_resnet:preact_resnet",
        family="PreActResNet",
        title="PreActResNet-{depth} of width {width}",
        prose="pre-activation ResNet-{depth}, width {width}",
        table_title="PreActResNet-{depth}-width",
        run_name=r"res18(?P<width>\d?)",
        run_names=("res18", "res182", "res183"),
        short_name=r"res18-(?P<width>\d{1,4})",
        short_form="res18-W (res18-2)",
        depths=range(18, 19),
        stem_width=64,
        stem_stride=2,
        groups=(64, 128, 256, 512),
        other_layers=2,
        last_norm=False,
        stride_first=True,
        state_mark="trunk.layer4.",
        published_rows=100,
        published_dataset="tinyimagenet",
        authors_name="resnet",
        authors_need_width=False,
        authors_decay_in_loss=False,
    ),
}
"""Name -> what is known of it; the only list of networks."""


@dataclass(frozen=True)
class Library:
    """Where networks come from that are not the paper's.

    Attributes:
        package: The package to import.
        builder: Module and function that build one of its models, imported where one is built.
        title: One of its networks as in a table.
        prose: The same in a sentence.
        install: The command that installs it.
    """

    package: str
    builder: str
    title: str
    prose: str
    install: str


LIBRARIES: dict[LibraryName, Library] = {
    "timm": Library(
        package="timm",
        builder="mixmo_fast.networks.libraries:timm_model",
        title="{name} (timm)",
        prose="timm's {name}",
        install="pip install 'mixmo-fast[timm]'",
    ),
    "torchvision": Library(
        package="torchvision",
        builder="mixmo_fast.networks.libraries:torchvision_model",
        title="{name} (torchvision)",
        prose="torchvision's {name}",
        install="pip install torchvision",
    ),
}
"""Name -> what is known of it; the only list of libraries."""
