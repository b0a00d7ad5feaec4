"""Runs a notebook's code as a script, in each of several processes that train one model together.

    accelerate launch --num_processes 2 -m mmutils.reproduce.launch CLIP/CLIP.ipynb -p epochs 3 -p out outputs/clip

Parameters are given as to papermill, lists and dicts as YAML, and converted to the notebook's types. Lines for the
shell or IPython are left out. The first process writes and shows (tables as text, no pictures); what the others write
goes into folders beside `out` that are deleted at the end, so that no notebook needs to know of all this. Checkpoints
in `out` are read by all: over several machines it must be a shared folder.
`torchrun --nproc_per_node 2 -m mmutils.reproduce.launch ...` does the same, and is the only way on CPUs,
where accelerate starts one process, whatever is asked.
"""

import argparse
import ast
import contextlib
import os
import shutil
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import CodeType

from mmutils.reproduce.experiments import converted
from mmutils.runs import fingerprints
from mmutils.runs.fingerprints import ROOT
from mmutils.runs.parameters import printable


def main(arguments: list[str] | None = None) -> None:
    """Command line. SystemExit says what is wrong with it."""
    parser = argparse.ArgumentParser(
        prog="accelerate launch -m mmutils.reproduce.launch", description=__doc__.splitlines()[0]
    )
    parser.add_argument("notebook", help="path from the repository's root")
    parser.add_argument("-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), help="a parameter")
    options = parser.parse_args(arguments)
    try:
        declared = fingerprints.defaults(options.notebook)
        values = converted(dict(options.p), declared)
    except (FileNotFoundError, ValueError, SyntaxError) as error:
        parser.error(printable(error))
    os.chdir(ROOT)
    os.environ.setdefault("MPLBACKEND", "Agg")
    rank = int(os.environ.get("RANK", 0))  # what accelerate and torchrun set; the processes have not met yet
    with _own_folder(Path(values.get("out", declared["out"][0])), rank) as out:
        if rank:
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115, until the process ends
        print(f"{options.notebook} in {os.environ.get('WORLD_SIZE', 1)} process(es)")
        try:
            run(options.notebook, values | {"out": out.as_posix()})
        except (ValueError, FileNotFoundError) as error:  # what a user can cause; who ends first is not known
            sys.exit(printable(f"{_place(error, options.notebook)}: {error}"))
    from mmutils.training import distributed  # torch takes seconds to import: not before the parameters are checked

    distributed.leave()


def run(notebook: str, values: dict) -> dict:
    """Run the notebook's cells with these parameters; returns its names. Tables that cells end with are printed."""
    namespace = {"__name__": "__main__", "display": _show}
    cells = fingerprints.code_cells(notebook)
    compiled = [_compiled(source, f"{notebook}, code cell {number}") for number, (_, source) in enumerate(cells, 1)]
    for (tagged, _), (body, last) in zip(cells, compiled, strict=True):
        exec(body, namespace)
        if last:
            _show(eval(last, namespace))
        if tagged:
            namespace |= values
    return namespace


def _compiled(source: str, where: str) -> tuple[CodeType, CodeType | None]:
    """A cell's code, and by itself the expression that it ends with, if it does."""
    cell = ast.parse(source, where)
    last = cell.body.pop() if cell.body and isinstance(cell.body[-1], ast.Expr) else None
    body = compile(cell, where, "exec")
    return body, compile(ast.Expression(last.value), where, "eval") if last else None


def _place(error: Exception, notebook: str) -> str:
    """Cell of the notebook, and the file and line below it, that an error comes from."""
    frames = traceback.extract_tb(error.__traceback__)
    cells = [f"{frame.filename}, line {frame.lineno}" for frame in frames if frame.filename.startswith(notebook)]
    return " > ".join([*cells[-1:], f"{Path(frames[-1].filename).name}, line {frames[-1].lineno}"])


def _show(value) -> None:
    if isinstance(value, str | dict) or hasattr(value, "to_string"):
        print(printable(value.to_string() if hasattr(value, "to_string") else value))


@contextlib.contextmanager
def _own_folder(out: Path, rank: int) -> Iterator[Path]:
    """`out` for the first process; for others a folder of that name elsewhere, for as long as this lasts.

    It has the same checkpoints, and beside it the same other runs.
    """
    if not rank:
        for left in range(int(os.environ.get("WORLD_SIZE", 1)), 64):  # by more processes, which were killed
            shutil.rmtree(_hidden(out, left), ignore_errors=True)
        yield out
        return
    hidden = _hidden(out, rank)
    shutil.rmtree(hidden, ignore_errors=True)
    (hidden / out.name).mkdir(parents=True)
    for run in out.parent.glob("[!.]*"):
        if run.name != out.name:
            (hidden / run.name).symlink_to(run.resolve())
    (hidden / out.name / "checkpoints").symlink_to((out / "checkpoints").resolve())
    try:
        yield hidden / out.name
    finally:
        shutil.rmtree(hidden, ignore_errors=True)


def _hidden(out: Path, rank: int) -> Path:
    return out.parent / f".{out.name}-{rank}"


if __name__ == "__main__":
    main()
