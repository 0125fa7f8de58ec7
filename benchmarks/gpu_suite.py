"""Everything that only a GPU can show, in one command for a fresh machine, which can be given again until all is done.

    python -m benchmarks.gpu_suite --out results_of_this_gpu --fashion-mnist FOLDER

Each part is a command of its own, has its share of the time, and leaves its files in `--out` when it is finished, so
that an interrupted suite leaves what was measured. All of it takes about two calls of nine minutes: a second one skips
what the first has finished with the same commands, code and kind of device. `--resume` keeps what other code has
finished, too; `--only` runs the parts that it names in any case.

Parts share one folder of compiled kernels. Needs torch and the project's own dependencies, pytest included; DALI and
FFCV take part where they are installed.
"""

import argparse
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from benchmarks.gpu_suite_parts import Part, parts
from benchmarks.gpu_suite_summary import summary
from benchmarks.training import compile_caches
from mixmo_fast.errors import MixmoError
from mixmo_fast.files import write_text
from mixmo_fast.run.build import choose_device
from mixmo_fast.training.runlog import environment

_LEAST_SECONDS = 1.0
_SECONDS_TO_END = 20
_STATES = "suite.json"
_CODE = ("benchmarks", "configs", "mixmo_fast", "pipelines", "tests")

States = dict[str, Any]
"""Name of a part -> `state`, `seconds`, `commands`, `code` and `device`, and `result` where it left one."""


def run_suite(
    suite: Sequence[Part],
    out: Path,
    seconds: float,
    say: Callable[[str], None],
    *,
    cache: Path,
    stamp: Mapping[str, str],
    done: Collection[str] = (),
) -> States:
    """Runs parts until the time is over, and returns what became of each, those of earlier calls included.

    Each one's output is in `NAME.log`; `suite.json` in the same folder is written after each. A part that would have
    less than half of its time is not begun, unless it is the first.

    Args:
        suite: The parts, what matters most first.
        out: Folder of results.
        seconds: For all of them.
        say: Is told what begins.
        cache: Folder of what was compiled, for all parts.
        stamp: `code` and `device` of this call.
        done: Names of parts that need not run.

    Raises:
        MixmoError: When the results cannot be read or written.
    """
    states, began = read_states(out), False
    variables = os.environ | compile_caches(cache)
    deadline = time.monotonic() + seconds
    for part in suite:
        if part.name in done:
            say(f"{part.name}: finished before")
            continue
        left = deadline - time.monotonic()
        if left < max(_LEAST_SECONDS, part.seconds / 2 if began else 0):
            states.setdefault(part.name, {"state": "no time left"})
        else:
            began = True
            say(f"{part.name}: at most {min(part.seconds, left):.0f} s")
            out.mkdir(parents=True, exist_ok=True)
            states[part.name] = _state(part, out, min(part.seconds, left), variables) | stamp
        write_text(out / _STATES, json.dumps(states, indent=1) + "\n")
    return states


def _state(part: Part, out: Path, seconds: float, variables: Mapping[str, str]) -> dict[str, Any]:
    """Runs a part. Its result of an earlier call is removed."""
    started = time.monotonic()
    if part.result is not None:
        part.result.unlink(missing_ok=True)
    word = _run(part, out / f"{part.name}.log", seconds, variables)
    state = {"state": word, "seconds": time.monotonic() - started, "commands": _lines(part)}
    if part.result is not None and part.result.is_file():
        state["result"] = json.loads(part.result.read_text())
    return state


def _run(part: Part, log: Path, seconds: float, variables: Mapping[str, str]) -> str:
    deadline = time.monotonic() + seconds
    with log.open("w", encoding="utf-8") as output:
        for command in part.commands:
            output.write(f"$ {shlex.join(command)}\n")
            output.flush()
            with subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=variables) as process:
                try:
                    failure = process.wait(max(0.1, deadline - time.monotonic()))
                except subprocess.TimeoutExpired:
                    _interrupt(process)
                    return "out of time"
            if failure:
                return f"failed (exit code {failure})"
    return "finished"


def _interrupt(process: subprocess.Popen) -> None:
    """Ends a command as Ctrl-C would, so that it removes what it made for the time being."""
    process.send_signal(signal.SIGINT)
    try:
        process.wait(_SECONDS_TO_END)
    except subprocess.TimeoutExpired:
        process.kill()


def read_states(out: Path) -> States:
    """What earlier calls have left in that folder.

    Raises:
        MixmoError: When it cannot be read.
    """
    path = out / _STATES
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise MixmoError(f"{path}: cannot be read: {error}; remove it to begin anew") from error


def finished(suite: Sequence[Part], states: States, stamp: Mapping[str, str]) -> set[str]:
    """Names of the parts that earlier calls have finished: the same commands, and all that `stamp` holds."""
    return {
        part.name
        for part in suite
        for state in [states.get(part.name, {})]
        if state.get("state") == "finished" and state.get("commands") == _lines(part) and stamp.items() <= state.items()
    }


def _lines(part: Part) -> list[str]:
    return [shlex.join(command) for command in part.commands]


def code() -> str:
    """A digest of all programs and configurations of this checkout: a commit does not know what was changed since."""
    root, digest = Path(__file__).resolve().parents[1], sha256()
    for path in sorted(path for folder in _CODE for path in (root / folder).rglob("*")):
        if path.suffix in (".py", ".yaml"):
            digest.update(f"{path.relative_to(root)}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the suite and prints its summary; exit code 1 when a part did not finish."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu_suite", description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for results and logs")
    parser.add_argument(
        "--fashion-mnist", type=Path, help="folder of its four idx files; without it no training to an accuracy"
    )
    parser.add_argument("--device", default="cuda", help="cuda; cpu to try the suite out")
    parser.add_argument("--minutes", type=float, default=9, help="for all parts of this call together")
    parser.add_argument("--cache", type=Path, help="folder of compiled kernels, for all parts; default: cache in --out")
    parser.add_argument("--only", help="names of parts, separated by commas, which run even if they have finished")
    parser.add_argument("--resume", action="store_true", help="keep what has finished with other code, too")
    parser.add_argument("--dry-run", action="store_true", help="print the commands and end")
    options = parser.parse_args(arguments)
    cache = (options.cache or options.out / "cache").absolute()
    try:
        every = parts(options.out, cache, options.device, options.fashion_mnist)
        suite = _choose(every, options.only)
        if options.dry_run:
            for part in suite:
                print(f"# {part.name}: at most {part.seconds:.0f} s", *_lines(part), sep="\n")
            return
        device = choose_device(options.device)
        stamp = {"code": code(), "device": environment(device)["device"]}
        counts = {"device": stamp["device"]} if options.resume else stamp
        done = set() if options.only else finished(suite, read_states(options.out), counts)
        states = run_suite(
            *(suite, options.out, 60 * options.minutes, lambda line: print(line, flush=True)),
            cache=cache,
            stamp=stamp,
            done=done,
        )
    except MixmoError as error:
        print(f"benchmarks.gpu_suite: {error}", file=sys.stderr)
        sys.exit(2)
    print()
    print(*summary(states, options.out, stamp), sep="\n")
    if len(finished(suite, states, counts)) < len(suite):
        sys.exit(1)


def _choose(suite: Sequence[Part], names: str | None) -> Sequence[Part]:
    """The parts with these names.

    Raises:
        MixmoError: When one is unknown.
    """
    if names is None:
        return suite
    wanted = [name.strip() for name in names.split(",")]
    for name in wanted:
        if name not in [part.name for part in suite]:
            raise MixmoError(f"--only: found {name!r}, allowed: {', '.join(part.name for part in suite)}")
    return [part for part in suite if part.name in wanted]


if __name__ == "__main__":
    main()
