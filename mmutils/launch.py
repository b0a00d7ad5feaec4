"""Runs a notebook's code as a script, in each of several processes that train one model together.

    accelerate launch --num_processes 2 -m mmutils.launch CLIP/CLIP.ipynb -p epochs 3 -p out outputs/clip

Parameters are given as to papermill, lists and dicts as YAML, and checked against the notebook's. Lines for the shell
or IPython are left out. The first process writes and shows (tables as text, no pictures); what the others write goes
into folders beside `out` that are deleted at the end, so that no notebook needs to know of all this. Checkpoints in
`out` are read by all: over several machines it must be a shared folder. `torchrun --nproc_per_node 2 -m
mmutils.launch ...` does the same, and is the only way on CPUs, where accelerate starts one process, whatever is asked.
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

import yaml

from mmutils import fingerprints
from mmutils.experiments import parameter_errors
from mmutils.fingerprints import ROOT


def main(arguments: list[str] | None = None) -> None:
    """Command line. SystemExit says what is wrong with it."""
    parser = argparse.ArgumentParser(prog="accelerate launch -m mmutils.launch", description=__doc__.splitlines()[0])
    parser.add_argument("notebook", help="path from the repository's root")
    parser.add_argument("-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), help="a parameter")
    options = parser.parse_args(arguments)
    try:
        known = fingerprints.defaults(options.notebook)
        values = {name: _value(name, text, known) for name, text in options.p}
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
        print(f"{options.notebook} in {os.environ.get('WORLD_SIZE', 1)} process(es)")
        try:
            run(options.notebook, values | {"out": out.as_posix()})
        except (ValueError, FileNotFoundError) as error:  # what a user can cause; who ends first is not known
            sys.exit(f"{_place(error, options.notebook)}: {error}")
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


def _value(name: str, text: str, known: dict):
    """What a parameter's text says: itself where a text is wanted (YAML would read `no` as False), else YAML."""
    annotation = known.get(name, (None, None))[1]
    if annotation == "str":
        return text
    try:
        return float(text) if annotation == "float" else yaml.safe_load(text)  # YAML would read 1e-3 as a text
    except ValueError:
        return text  # the check of types says what is wrong
    except yaml.YAMLError:
        raise ValueError(f"parameter {name}: {text!r} is no YAML, as 3, en, [en, hi] or {{a: 1}}") from None


def _place(error: Exception, notebook: str) -> str:
    """Cell of the notebook, and the file and line below it, that an error comes from."""
    frames = traceback.extract_tb(error.__traceback__)
    cells = [f"{frame.filename}, line {frame.lineno}" for frame in frames if frame.filename.startswith(notebook)]
    return " > ".join([*cells[-1:], f"{Path(frames[-1].filename).name}, line {frames[-1].lineno}"])


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
