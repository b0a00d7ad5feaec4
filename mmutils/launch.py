"""Runs a notebook's code as a script, in each of several processes that train one model together.

    accelerate launch --num_processes 2 -m mmutils.launch CLIP/CLIP.ipynb -p epochs 3 -p out outputs/clip

Parameters are given as to papermill, and checked against the notebook's. Lines for the shell or IPython are left out.
The first process writes and shows (tables as text, no pictures); what the others write goes into folders beside `out`
that are deleted at the end, so that no notebook needs to know of all this. Checkpoints in `out` are read by all: over
several machines it must be a shared folder. `torchrun --nproc_per_node 2 -m mmutils.launch ...` does the same, and is
the only way on CPUs, for which accelerate starts one process, whatever it is asked for.
"""

import argparse
import ast
import contextlib
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import yaml

from mmutils import fingerprints
from mmutils.experiments import parameter_errors
from mmutils.fingerprints import ROOT


def main(arguments: list[str] | None = None) -> None:
    """Command line. SystemExit says what is wrong with it."""
    parser = argparse.ArgumentParser(prog="accelerate launch -m mmutils.launch", description=__doc__.splitlines()[0])
    parser.add_argument("notebook", help="path from the repository's root")
    parser.add_argument("-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), help="a parameter, YAML")
    options = parser.parse_args(arguments)
    values = {name: yaml.safe_load(value) for name, value in options.p}
    try:
        known = fingerprints.defaults(options.notebook)
    except (FileNotFoundError, ValueError) as error:
        parser.error(str(error))
    if errors := parameter_errors({name: value for name, value in values.items() if name != "out"}, known):
        parser.error("; ".join(errors))
    os.chdir(ROOT)
    os.environ.setdefault("MPLBACKEND", "Agg")
    rank = int(os.environ.get("RANK", 0))  # what accelerate and torchrun set; the processes have not met yet
    with _own_folder(Path(str(values.get("out", known["out"][0]))), rank) as out:
        if rank:
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115, until the process ends
        run(options.notebook, values | {"out": out.as_posix()})
    from mmutils import distributed  # torch takes seconds to import: not before the parameters are checked

    distributed.leave()


def run(notebook: str, values: dict) -> dict:
    """Run the notebook's cells with these parameters; returns its names. Tables that cells end with are printed."""
    namespace = {"__name__": "__main__", "display": _show}
    for number, (tagged, source) in enumerate(fingerprints.code_cells(notebook), 1):
        cell = ast.parse(source)
        last = cell.body.pop() if cell.body and isinstance(cell.body[-1], ast.Expr) else None
        where = f"{notebook}, code cell {number}"
        exec(compile(cell, where, "exec"), namespace)
        if last:
            _show(eval(compile(ast.Expression(last.value), where, "eval"), namespace))
        if tagged:
            namespace |= values
    return namespace


def _show(value) -> None:
    if isinstance(value, str | dict) or hasattr(value, "to_string"):
        print(value.to_string() if hasattr(value, "to_string") else value)


@contextlib.contextmanager
def _own_folder(out: Path, rank: int) -> Iterator[Path]:
    """`out` for the first process; for others one beside it with the same checkpoints, for as long as this lasts."""
    if not rank:
        yield out
        return
    own = out.parent / f".{out.name}-{rank}"
    shutil.rmtree(own, ignore_errors=True)
    own.mkdir(parents=True)
    (own / "checkpoints").symlink_to((out / "checkpoints").resolve())
    try:
        yield own
    finally:
        shutil.rmtree(own, ignore_errors=True)


if __name__ == "__main__":
    main()
