"""Runs a notebook's code as a script, in each of several processes that train one model together.

    accelerate launch --num_processes 2 -m mmutils.reproduce.launch CLIP/CLIP.ipynb -p epochs 3 -p out outputs/clip

On CPUs use `torchrun --nproc_per_node 2 -m mmutils.reproduce.launch ...`. The first process writes and shows (tables as
text); the others write into temporary folders beside `out`, which several machines must share for its checkpoints.
"""

import argparse
import ast
import contextlib
import os
import sys
import traceback
from pathlib import Path

from mmutils.reproduce.experiments import checked
from mmutils.runs.files import draft_of, sweep
from mmutils.runs.fingerprints import ROOT, code_cells, defaults, notebook_code
from mmutils.runs.parameters import printable


def main(arguments: list[str] | None = None) -> None:
    """Command line. SystemExit says what is wrong with it."""
    prog = "accelerate launch -m mmutils.reproduce.launch"
    parser = argparse.ArgumentParser(prog, description=__doc__.splitlines()[0])
    parser.add_argument("notebook", help="path from the repository's root")
    parser.add_argument("-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), help="a parameter")
    options = parser.parse_args(arguments)
    try:
        declared = defaults(options.notebook)
        values = checked(dict(options.p), declared, "parameters")
        notebook_code(options.notebook)  # a SyntaxError in a later cell
    except (FileNotFoundError, ValueError, SyntaxError) as error:
        parser.error(printable(error))
    os.chdir(ROOT)
    os.environ.setdefault("MPLBACKEND", "Agg")
    rank = int(os.environ.get("RANK", 0))  # what accelerate and torchrun set; the processes have not met yet
    out = Path(values.get("out", declared["out"][0]))
    with draft_of(out) if rank else contextlib.nullcontext() as draft:
        if rank:  # a folder like `out`, with the same checkpoints, beside the same other runs
            (draft / out.name).mkdir(parents=True)
            (draft / out.name / "checkpoints").symlink_to((out / "checkpoints").resolve())
            for other in set(out.parent.glob("[!.]*")) - {out}:
                (draft / other.name).symlink_to(other.resolve())
            out = draft / out.name
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115, until the process ends
        else:
            sweep(out.parent)  # of earlier processes that were killed
        print(f"{options.notebook} in {os.environ.get('WORLD_SIZE', 1)} process(es)")
        try:
            run(options.notebook, values | {"out": out.as_posix()})
        except (ValueError, FileNotFoundError) as error:  # what a user can cause; any process may be the first to end
            frames = [f"{frame.filename}, line {frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)]
            cells = [frame for frame in frames if frame.startswith(options.notebook)]
            sys.exit(printable(f"{' > '.join([*cells[-1:], Path(frames[-1]).name])}: {error}"))
    from mmutils.training import distributed  # torch takes seconds to import: not before the parameters are checked

    distributed.leave()


def run(notebook: str, values: dict) -> None:
    """Run the notebook's cells with these parameters. Tables that cells end with are printed."""
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


def _show(value) -> None:
    if isinstance(value, str | dict) or hasattr(value, "to_string"):
        print(printable(value.to_string() if hasattr(value, "to_string") else value))


if __name__ == "__main__":
    main()
