"""A picture of what a network will be given, before anything is trained."""

from collections.abc import Callable, Mapping
from pathlib import Path

from mixmo_fast.api.parts import load_config
from mixmo_fast.config.schema import Config
from mixmo_fast.run.preview import preview_run


def preview(
    config: str | Path | Mapping[str, object] | Config,
    out: str | Path = "preview.png",
    name: str | None = None,
    *,
    data: str | Path = "data",
    epoch: int = 1,
    step: int | None = None,
    rows_shown: int = 6,
    notify: Callable[[str], None] = print,
) -> Path:
    """Draws some rows of a training step, mixed as the network will see them, and returns the picture's place.

    ```python
    mf.preview("configs/quickstart.yaml", "preview.png", rows_shown=4)
    ```

    Args:
        config: As for `load_config`.
        out: The picture to write; its suffix names the format.
        name: Of the run; None: as for `train`, and none for a configuration's values.
        data: The folder of data sets.
        epoch: Counted from 1.
        step: Counted from 0 within the epoch; None: the first one that mixes patches.
        rows_shown: At most so many rows.
        notify: Told of a conversion, in one line.

    Raises:
        MixmoError: On anything you can mend.
    """
    name = name or (Path(config).stem if isinstance(config, str | Path) else "")
    path = Path(out)
    preview_run(
        load_config(config), path, notify, name=name, data=Path(data), epoch=epoch, step=step, rows_shown=rows_shown
    )
    return path
