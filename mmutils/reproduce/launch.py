"""Runs a notebook's code as a script, in each of several processes that train one model together.

    accelerate launch --num_processes 2 -m mmutils.reproduce.launch CLIP/CLIP.ipynb -p epochs 3 -p out outputs/clip

On CPUs use `torchrun --nproc_per_node 2 -m mmutils.reproduce.launch ...`: accelerate starts one process there. The
first process writes and shows (tables as text, no pictures); the others write into temporary folders beside `out`. All
read the checkpoints in `out`; over several machines it must be a shared folder.
"""

import argparse
import ast
import contextlib
import os
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

from mmutils.reproduce.experiments import converted
from mmutils.runs.files import draft_of, sweep
from mmutils.runs.fingerprints import ROOT, code_cells, defaults, notebook_code
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
        declared = defaults(options.notebook)
        values = converted(dict(options.p), declared)
        notebook_code(options.notebook)  # a SyntaxError in a later cell
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
        except (ValueError, FileNotFoundError) as error:  # what a user can cause; any process may be the first to end
            sys.exit(printable(f"{_place(error, options.notebook)}: {error}"))
    from mmutils.training import distributed  # torch takes seconds to import: not before the parameters are checked

    distributed.leave()


def run(notebook: str, values: dict) -> dict:
    """Run the notebook's cells with these parameters; returns its names. Tables that cells end with are printed."""
    namespace = {"__name__": "__main__", "display": _show}
    for number, (is_parameters, source) in enumerate(code_cells(notebook), 1):
        where = f"{notebook}, code cell {number}"
        cell = ast.parse(source, where)
        last = cell.body.pop() if cell.body and isinstance(cell.body[-1], ast.Expr) else None
        exec(compile(cell, where, "exec"), namespace)
        if last:
            _show(eval(compile(ast.Expression(last.value), where, "eval"), namespace))
        if is_parameters:
            namespace |= values
    return namespace


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
    """`out` for the first process; for others a temporary folder with the same checkpoints and the same other runs."""
    if not rank:
        sweep(out.parent)  # of earlier processes that were killed
        yield out
        return
    with draft_of(out) as temporary:
        (temporary / out.name).mkdir(parents=True)
        for run in out.parent.glob("[!.]*"):
            if run.name != out.name:
                (temporary / run.name).symlink_to(run.resolve())
        (temporary / out.name / "checkpoints").symlink_to((out / "checkpoints").resolve())
        yield temporary / out.name


if __name__ == "__main__":
    main()
