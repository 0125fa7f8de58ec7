"""A network's bytes in the formats of others: ONNX, torch.export and safetensors; and reading the last one back.

Shapes: N rows, C image channels, H W pixels.
"""

import io
import json
import logging
import shutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mixmo_fast.config.load import parse_config
from mixmo_fast.errors import CheckpointError, ConfigError, MixmoError
from mixmo_fast.files import abandoned, cannot_write, flush_folder, swap, temporary_name, write_bytes, write_text
from mixmo_fast.networks.multi import MixMo
from mixmo_fast.run import build
from mixmo_fast.runfolder.exported import ExportedNetwork
from mixmo_fast.runfolder.record import read_record
from mixmo_fast.training.checkpoint import load_network

WEIGHTS, FACTS = "model.safetensors", "config.json"  # as model hubs name them
METADATA = "metadata.json"  # in a torch.export file
_PACKAGES = {"onnx": ("onnx", "onnxscript", "onnxruntime"), "torch-export": (), "safetensors": ("safetensors",)}

Run = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Calls an exported network: images to logits and probabilities."""


def require(format: str) -> None:
    """Refuses a format whose packages are not installed.

    Raises:
        ConfigError: With the command that installs them.
    """
    missing = [name for name in _PACKAGES[format] if find_spec(name) is None]
    if missing:
        raise ConfigError(f"{format}: needs {' and '.join(missing)}: pip install 'mixmo-fast[export]'")


def check_free(out: Path, format: str, force: bool) -> None:
    """Refuses to write where something is, unless it may be replaced and is an earlier export.

    Raises:
        ConfigError: With what is allowed.
    """
    if not out.exists():
        return
    if not force:
        raise ConfigError(f"{out}: exists already; allowed: another name, or --force")
    others = [path.name for path in out.iterdir() if path.name not in (WEIGHTS, FACTS)] if out.is_dir() else []
    if (format == "safetensors") != out.is_dir() or others:
        kind = f"a folder of {WEIGHTS} and {FACTS} alone" if format == "safetensors" else "a file"
        raise ConfigError(f"{out}: cannot be replaced; allowed: another name, or {kind}")


def onnx_bytes(network: nn.Module, images: Tensor, facts: ExportedNetwork) -> tuple[bytes, Run]:
    """A module as an ONNX file, the facts as its metadata, and onnxruntime's call of it.

    Args:
        network: Images to logits and probabilities, in evaluation mode.
        images: What it is traced with, N x C x H x W; N is left open, so it must be at least 2.
        facts: What the file says of itself.
    """
    program = onnx_program(network, images, ("logits", "probabilities"))
    program.model.metadata_props.update(facts.as_words())
    content = program.model_proto.SerializeToString()
    session = onnx_session(content)

    def run(images: Tensor) -> tuple[Tensor, Tensor]:
        logits, probabilities = session.run(None, {"images": images.numpy()})
        return torch.from_numpy(logits), torch.from_numpy(probabilities)

    return content, run


def onnx_program(network: nn.Module, images: Tensor, outputs: Sequence[str]) -> Any:
    """A module traced for ONNX, its input called `images`; as `onnx_bytes`, without facts."""
    names: dict[str, Any] = {"input_names": ["images"], "output_names": list(outputs)}
    with _silence():
        return torch.onnx.export(
            network, (images,), dynamo=True, dynamic_shapes={"images": {0: _rows()}}, verbose=False, **names
        )


def onnx_session(content: bytes, threads: int | None = None) -> Any:
    """Onnxruntime's session of a file's content on the CPU.

    Args:
        content: Of the file.
        threads: Which then wait asleep, since several sessions that take turns would disturb each other; None: as many
            as it likes.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    if threads is not None:
        options.intra_op_num_threads = threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def torch_export_bytes(network: nn.Module, images: Tensor, facts: ExportedNetwork) -> tuple[bytes, Run]:
    """A module as a file of torch.export, the facts as `metadata.json` in it, and the call of what was read back.

    Args:
        network: As for `onnx_bytes`.
        images: As for `onnx_bytes`.
        facts: As for `onnx_bytes`.
    """
    file = io.BytesIO()
    with _silence():
        # Strictly, which torch 2.7 would be by itself, a trunk that is handed its map (`SlottedTrunk`) is refused.
        program = torch.export.export(network, (images,), dynamic_shapes={"images": {0: _rows()}}, strict=False)
        torch.export.save(program, file, extra_files={METADATA: json.dumps(facts.as_dict())})
        content = file.getvalue()
        again = torch.export.load(io.BytesIO(content)).module()
    return content, again


def write_safetensors(network: MixMo, facts: ExportedNetwork, out: Path) -> None:
    """Writes a folder of weights and facts, whole or not at all; what is there is replaced.

    Raises:
        MixmoError: When it cannot be written.
    """
    from safetensors.torch import save

    new, old = temporary_name(out), temporary_name(out, "old")
    state = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    weights = save(state, metadata={"format": "pt"} | facts.as_words())
    _clean_up_after_the_dead(out)
    try:
        write_bytes(new / WEIGHTS, weights)
        write_text(new / FACTS, json.dumps(facts.as_dict(), indent=1) + "\n")
        if not (out.exists() and swap(new, out)):
            if out.exists():
                out.rename(old)
            new.rename(out)
        flush_folder(out.parent)
    except (OSError, MixmoError) as error:
        cause = error if isinstance(error, OSError) else error.__cause__
        raise (cannot_write(out, cause) if isinstance(cause, OSError) else error) from error
    finally:
        if old.exists() and not out.exists():
            old.rename(out)
        for left in (new, old):
            _remove_folder(left)


def _clean_up_after_the_dead(out: Path) -> None:
    """Removes what killed exports left, and puts back a folder that was moved away and never replaced."""
    for left in abandoned(out, "old"):
        if not out.exists():
            left.rename(out)
    for left in (*abandoned(out, "old"), *abandoned(out)):
        _remove_folder(left)


def _remove_folder(folder: Path) -> None:
    """Removes a folder of an export, or the link to one."""
    with suppress(OSError):
        if folder.is_symlink():
            folder.unlink()
        else:
            shutil.rmtree(folder)


def load_exported(folder: str | Path) -> MixMo:
    """The network of a folder that `mixmo-fast export --format safetensors` wrote, bit for bit, in evaluation mode.

    ```python
    network = mf.load_exported("quickstart")
    ```

    Args:
        folder: With `model.safetensors` and `config.json`.

    Raises:
        CheckpointError: The folder or its weights are missing, damaged, or of another network.
        ConfigError: The safetensors package is not installed, or the configuration is none.
        DataError: `config.json` is damaged.
    """
    folder = Path(folder)
    require("safetensors")
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    facts = read_record(folder / FACTS, ExportedNetwork)
    if facts is None or not (folder / WEIGHTS).is_file():
        raise CheckpointError(f"{folder}: not an exported network (it needs {WEIGHTS} and {FACTS})")
    try:
        state = load_file(folder / WEIGHTS)
    except (SafetensorError, OSError) as error:
        reason = " ".join(str(error).split())[:150]
        raise CheckpointError(f"{folder / WEIGHTS}: not readable safetensors ({reason})") from error
    config = parse_config(facts.configuration, str(folder / FACTS))
    network = build.make_network(config, facts.classes, (facts.height, facts.width), filled_later=True)
    load_network(network, state, folder / WEIGHTS)
    return network.eval()


def _rows() -> Any:
    return torch.export.Dim("rows", min=1)


@contextmanager
def _silence() -> Iterator[None]:
    """Keeps to itself what exporters print and log of their progress; their errors are exceptions."""
    disabled = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
