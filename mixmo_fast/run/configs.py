"""`mixmo-fast config`: write the configuration of a name, import one of mixmo-pytorch, explain one in plain words.

Values and text only; there are no arrays here.
"""

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from mixmo_fast.config.load import check_config, is_upstream, load_config, read_tree, yaml_line
from mixmo_fast.config.paper import render_paper_yaml
from mixmo_fast.config.schema import Config
from mixmo_fast.config.upstream import from_upstream
from mixmo_fast.errors import ConfigError, shorten
from mixmo_fast.files import write_text
from mixmo_fast.run.explain import DataFacts, Passage, explain
from mixmo_fast.runfolder.names import config_meant
from mixmo_fast.runfolder.trained_on import TrainedOn

if TYPE_CHECKING:  # it reads arrays, which an explanation has no use for
    from pipelines.datasets.catalog import DatasetInfo
    from pipelines.datasets.store import Dataset


@dataclass(frozen=True)
class ImportedConfig:
    """What `import_config` wrote.

    Attributes:
        config: The configuration in the new file.
        notes: What has another name or unit there, and what was left out, a line each.
    """

    config: Config
    notes: tuple[str, ...]


def import_config(old: Path, new: Path, force: bool = False) -> ImportedConfig:
    """Writes a mixmo-pytorch configuration in this program's form, whole or not at all.

    Args:
        old: The authors' YAML file.
        new: The file to write; its name will name the run.
        force: Whether `new` may be overwritten.

    Raises:
        ConfigError: One line: `old` cannot be translated or is in this program's form already, or `new` exists.
        MixmoError: `new` cannot be written.
    """
    tree = read_tree(old)
    if not is_upstream(tree):
        check_config(tree, str(old))
        raise ConfigError(
            f"{old}: found this program's own form already, allowed: a mixmo-pytorch configuration; "
            f"`mixmo-fast train {shlex.quote(str(old))}` takes it as it is"
        )
    translation = from_upstream(tree, str(old))
    config = check_config(translation.tree, str(old))
    if new.exists() and not force:
        raise ConfigError(f"{new}: exists already; allowed: another name, or --force to overwrite it")
    header = (
        f"# Imported from {shorten(old.name, 200)}, a mixmo-pytorch configuration.\n"
        f"# mixmo-fast train {shorten(shlex.quote(str(new)), 1000)}\n"
    )
    sections = config.model_dump(exclude_unset=True)  # what the old file decided; the rest keeps its defaults
    write_text(new, header + "".join(yaml_line(section, values) for section, values in sections.items()))
    return ImportedConfig(config, translation.notes)


def new_config(name: str, folder: Path, force: bool = False) -> Path:
    """Writes the configuration that a run's name stands for; nothing else in the folder is touched.

    Args:
        name: Of the grammar of `mixmo_fast.config.paper`, published or not.
        folder: Where `NAME.yaml` goes; made if it is missing.
        force: Whether that file may be overwritten.

    Raises:
        ConfigError: The name is outside the grammar, or the file exists.
        MixmoError: It cannot be written.
    """
    text = render_paper_yaml(name, str(folder))
    path = folder / f"{name}.yaml"
    if path.exists() and not force:
        raise ConfigError(f"{path}: exists already; allowed: another folder, or --force to overwrite it")
    write_text(path, text)
    return path


def data_facts(data: "DatasetInfo | Dataset | TrainedOn") -> DataFacts:
    """What an explanation has to know of a data set, converted or not, or of what a run keeps of it."""
    return DataFacts(**{field.name: getattr(data, field.name) for field in fields(DataFacts)})


def explain_config(
    path: Path,
    overrides: Sequence[str] = (),
    notify: Callable[[str], None] | None = None,
    data: Path = Path("data"),
) -> tuple[Passage, ...]:
    """What a run of a configuration computes, in plain words with its own numbers.

    Args:
        path: The configuration file, of either form, or a run folder.
        overrides: `key=value` each.
        notify: Told of a translation, in one line.
        data: Folder of data sets, for one that is not in the catalogue.

    Raises:
        ConfigError: The configuration cannot be used, or its data set does not fill one step.
        DataError: The data set is unknown.
    """
    from pipelines.datasets.store import describe_dataset  # it reads arrays, which an explanation has no use for

    config = load_config(config_meant(path), overrides, notify)
    info = describe_dataset(data, config.data.dataset)
    facts = data_facts(info)
    images = facts.train_images - config.held_out(facts.train_images)
    if config.steps_per_epoch(facts.train_images) < 1:
        raise ConfigError(
            f"{path}: batch.rows: {config.batch.rows} rows are more than {images} training "
            f"images of {info.name} x {config.batch.repetitions} repetitions; lower batch.rows"
        )
    return explain(config, facts)
