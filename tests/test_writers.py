"""Nothing in the program opens a file to write but `mixmo_fast/files.py`, and a few places that have a reason to."""

import ast
from collections import Counter

from places import REPOSITORY

# A file, and what it calls there: how often, and why that is no file to be replaced.
ALLOWED = {
    # The floor that everything else stands on.
    ("mixmo_fast/files.py", "os.open"): "the same; with O_NOFOLLOW",
    ("mixmo_fast/files.py", "os.fdopen"): "a log that is appended to, of `open_own`",
    ("mixmo_fast/files.py", "open"): "a pipe or a device, which cannot be replaced",
    ("mixmo_fast/files.py", "replace"): "the replacing itself",
    ("mixmo_fast/runfolder/lock.py", "os.fdopen"): "a lock, of `open_own`, must stay the same file",
    # Folders that get their name all at once.
    ("mixmo_fast/run/network_formats.py", "rename"): "a folder that is whole takes another's place",
    ("pipelines/datasets/whole_folder.py", "rename"): "likewise",
    ("pipelines/datasets/sources_files.py", "replace"): "torchvision writes what it downloads by name alone",
    ("pipelines/datasets/writing.py", "open"): "new files within such a folder, of whole data sets",
    # Nobody's older file.
    ("mixmo_fast/training/compile_cache.py", "TemporaryFile"): "nameless, to see whether a folder can be written to",
    ("mixmo_fast/cli/app.py", "open"): "/dev/null",
    ("mixmo_fast/cli/app.py", "os.open"): "/dev/null",
    ("mixmo_fast/reproduce/mps.py", "open"): "in a temporary folder of its own",
    ("mixmo_fast/reproduce/mps.py", "mkdtemp"): "sockets, whose folder a guard removes",
    ("mixmo_fast/training/profile.py", "TemporaryDirectory"): "the profiler writes by name alone",
    ("mixmo_fast/training/profile.py", "export_chrome_trace"): "into that folder",
    ("mixmo_fast/training/profile.py", "GzipFile"): "into a file of `replacing`",
    # Into memory, into a file of `replacing`, or to a process.
    ("mixmo_fast/evaluation/plots.py", "savefig"): "into a file of `replacing`",
    ("mixmo_fast/report/drawing.py", "savefig"): "into a file of `replacing`, or into memory",
    ("mixmo_fast/run/evaluate.py", "savez_compressed"): "into memory",
    ("mixmo_fast/run/network_formats.py", "save"): "into memory",
    ("mixmo_fast/training/checkpoint.py", "save"): "into a file of `replacing`",
    ("mixmo_fast/training/loop.py", "save"): "by the writer of checkpoints",
    ("mixmo_fast/cli/help_text.py", "write_text"): "into the parser's page, in memory",
    ("mixmo_fast/cli/evaluate.py", "save"): "`save_predictions`, by another name",
    ("pipelines/datasets/own/decoder.py", "os.fdopen"): "the pipe that answers go through",
    ("pipelines/datasets/own/decoder.py", "pickle.dump"): "likewise",
    ("pipelines/datasets/own/decoders.py", "pickle.dump"): "the pipe that requests go through",
    # Of benchmarks: what is measured, in a temporary folder, and what processes say.
    ("benchmarks/chart.py", "savefig"): "into a file of `replacing`",
    ("benchmarks/inference_chart.py", "savefig"): "into a file of `replacing`",
    ("benchmarks/training_chart.py", "savefig"): "into a file of `replacing`",
    ("benchmarks/command.py", "TemporaryDirectory"): "data sets of made-up images",
    ("benchmarks/conversion.py", "TemporaryDirectory"): "the plain loop's, which is measured",
    ("benchmarks/conversion.py", "save"): "into that folder",
    ("benchmarks/parity.py", "TemporaryDirectory"): "originals and settings of the authors' program",
    ("benchmarks/parity.py", "write_bytes"): "into that folder",
    ("benchmarks/parity.py", "write_text"): "into that folder",
    ("benchmarks/plans.py", "TemporaryDirectory"): "a compile cache of its own",
    ("benchmarks/quickstart.py", "TemporaryDirectory"): "data and runs of a first start",
    ("benchmarks/training.py", "TemporaryDirectory"): "a compile cache of its own",
    ("benchmarks/training.py", "save"): "a function of the caller's, which goes through the writer",
    ("benchmarks/training_parts.py", "TemporaryDirectory"): "the profiler writes by name alone",
    ("benchmarks/training_parts.py", "export_chrome_trace"): "into that folder",
    ("benchmarks/contestant.py", "os.fdopen"): "the pipe that answers go through",
    ("benchmarks/pipelines.py", "TemporaryFile"): "nameless, for a process's complaints",
    ("benchmarks/gpu_suite.py", "open"): "a log that commands write while they run",
}
# Files that may write as they like, in folders which a campaign makes and removes, and why they do.
FREE = {
    **dict.fromkeys(("archives", "originals", "own_originals"), "hostile originals"),
    **dict.fromkeys(("checkpoints", "configurations", "data_sets"), "damaged files of a folder that was whole"),
    "damage": "links in a file's place",
    "disks": "an older file, which a full disk must leave whole",
    "killed": "copies of a run, whose processes are killed",
    "runner": "the small run's configuration, and the log of what a campaign's process says",
    "__main__": "the folder that all of them are in",
}
WRITERS = {
    *("savefig", "save", "savez", "savez_compressed", "savetxt", "tofile", "save_file", "to_parquet", "to_csv"),
    *("export_chrome_trace", "export_stacks", "mkdtemp", "mkstemp", "NamedTemporaryFile", "TemporaryFile"),
    *("TemporaryDirectory", "SummaryWriter", "add_scalar", "FileHandler", "FileIO", "GzipFile", "ZipFile", "touch"),
    *("copy", "copy2", "copyfile", "copytree", "move", "rename", "renames", "symlink_to", "hardlink_to"),
}


def test_only_the_writer_opens_files_to_write():
    found, free = Counter(), set()
    for top in ("mixmo_fast", "pipelines", "benchmarks"):
        for path in sorted((REPOSITORY / top).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and (name := writes(node)):
                    if path.parent == REPOSITORY / "benchmarks" / "faults" and path.stem in FREE:
                        free.add(path.stem)
                    else:
                        found[str(path.relative_to(REPOSITORY)), name] += 1
    unknown = sorted(found.keys() - ALLOWED.keys())
    assert not unknown, f"write through mixmo_fast.files, or say here why not: {unknown}"
    gone = sorted(ALLOWED.keys() - found.keys()) + sorted(FREE.keys() - free)
    assert not gone, f"nothing of that kind is left, so these need no reason: {gone}"


def writes(call: ast.Call) -> str | None:
    """What a call that may write a file is named; None for any other."""
    function = call.func
    if isinstance(function, ast.Name):
        name, owner = function.id, ""
    elif isinstance(function, ast.Attribute):
        name, owner = function.attr, ast.unparse(function.value)
    else:
        return None
    if name in ("write_text", "write_bytes"):  # `Path`'s own; the writer's are called by their names alone
        return name if owner else None
    if (owner, name) == ("os", "open"):
        flags = ast.unparse(call)
        return "os.open" if any(flag in flags for flag in ("O_WRONLY", "O_RDWR", "O_CREAT", "flags")) else None
    if name == "open":  # of files, of `Path`, of gzip and so on
        return "open" if may_write(call, 0 if owner and not owner.islower() else 1) or may_write(call, 0) else None
    if (owner, name) == ("os", "fdopen"):
        return "os.fdopen" if may_write(call, 1, unknown=True) else None
    if name == "ZipFile":
        return name if may_write(call, 1) else None
    if (owner, name) in (("os", "replace"), ("pickle", "dump"), ("json", "dump")):
        return f"{owner}.{name}"
    if name == "replace":  # a text's has two arguments, a path's has one
        return name if len(call.args) == 1 and not call.keywords else None
    if name == "copy" and owner not in ("shutil",):
        return None
    return name if name in WRITERS else None


def may_write(call: ast.Call, place: int, unknown: bool = False) -> bool:
    """Whether a call's mode, at a place among its arguments, is one that writes."""
    modes = [keyword.value for keyword in call.keywords if keyword.arg == "mode"] + call.args[place : place + 1]
    for mode in modes[:1]:
        if not isinstance(mode, ast.Constant):
            return unknown
        return isinstance(mode.value, str) and len(mode.value) <= 3 and bool(set("wax+") & set(mode.value))
    return False


def test_the_test_sees_what_it_is_about():
    for text in (
        *("path.open('w')", "open(path, 'ab')", "open(path, mode='x')", "gzip.open(path, 'wb')", "path.write_text('')"),
        *("os.open(path, os.O_CREAT)", "os.replace(a, b)", "a.replace(b)", "torch.save(a, b)", "shutil.copy(a, b)"),
    ):
        assert writes(ast.parse(text, mode="eval").body), text
    for text in ("path.open()", "path.open('rb')", "text.replace('a', 'b')", "write_text(path, '')", "array.copy()"):
        assert not writes(ast.parse(text, mode="eval").body), text
