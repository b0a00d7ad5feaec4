"""Reads a profile of report/experiments.yaml, which describes its format, and checks all of it before anything runs."""

from __future__ import annotations  # types are texts, as in notebooks

import ast
import difflib
import graphlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import yaml

from mmutils.runs.fingerprints import DISK, Disk, defaults, notebook_code, planned
from mmutils.runs.parameters import all_typed


@dataclass(frozen=True)
class Run:
    """One notebook with its parameters."""

    name: str = ""
    notebook: str = ""
    study: str | None = None
    parameters: dict = field(default_factory=dict)
    needs: tuple[str, ...] = ()  # runs that go first
    timeout: float = 1800.0  # seconds without a sign of life after which it is ended
    root: str | dict[str, str] | None = None  # which --root gives its data, or by parameter; by default its data


@dataclass(frozen=True)
class Profile:
    """Runs, each after those it needs."""

    runs: list[Run]
    report: bool = True  # render it at the end
    out: str = ""  # folder, from the repository root; "": report, or outputs/<profile> of another experiments file
    roots: tuple[str, ...] = ()  # what --root can give; runs whose own is not given are left out
    jobs: int = 1  # how many run at the same time
    defaults: dict = field(default_factory=dict)  # entries of every run


def read(path: Path, name: str, files: Disk = DISK) -> Profile:
    """The profile of that name. FileNotFoundError: no file. ValueError says what is wrong with it and with each run."""
    if not path.is_file():
        raise FileNotFoundError(f"no experiments file {path}")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not YAML: {error}") from None
    profiles = content.get("profiles") if isinstance(content, dict) else None
    if not isinstance(profiles, dict):
        raise ValueError(f"{path} needs `profiles:`, names with their runs")
    if name not in profiles:
        raise ValueError(f"no profile {name!r} in {path}; there are {', '.join(map(str, profiles)) or 'none'}")
    if not isinstance(profiles[name], dict) or not profiles[name].get("runs"):
        raise ValueError(f"{path}: profile {name} needs `runs:`, a list")
    try:
        return _profile(profiles[name], files)
    except ValueError as error:
        raise ValueError(f"{path}, profile {name}:\n{error}") from None


def _profile(content: dict, files: Disk) -> Profile:
    profile, runs, errors = _made(Profile, content, "profile"), [], []
    if profile.jobs < 1:
        raise ValueError(f"jobs: a number of runs, at least 1, given {profile.jobs}")
    shared = _made(Run, profile.defaults, "defaults").parameters
    for entry in profile.runs:
        try:
            runs.append(_run(profile.defaults | {"parameters": {}} | entry, shared, files))
        except ValueError as error:
            errors.append(str(error))
    by_name = {run.name: run for run in runs}
    if not errors:  # else what is unknown may only follow from them
        used = {name for run in runs for name in defaults(run.notebook, files)}
        errors = _unknown(shared, sorted(used), "defaults, parameters")
        errors += [error for run in runs for error in _unknown(run.needs, by_name, f"run {run.name}, needs")]
        if len(by_name) < len(runs):
            errors.append(f"names of runs must differ, given {', '.join(run.name for run in runs)}")
    if errors:
        raise ValueError("\n".join(errors))
    try:
        graphlib.TopologicalSorter({run.name: run.needs for run in runs}).prepare()
    except graphlib.CycleError as error:
        raise ValueError(f"these runs need each other in a circle: {' -> '.join(error.args[1])}") from None
    order: dict[str, Run] = {}  # that of the file, but each after those it needs
    while rest := [run for run in runs if run.name not in order]:
        run = next(run for run in rest if order.keys() >= {*run.needs})
        order[run.name] = run
    return replace(profile, runs=[*order.values()])


def _run(entries: dict, shared: dict, files: Disk) -> Run:
    """A run, with those shared parameters that its notebook has."""
    where = f"run {entries.get('name')}"
    run = _made(Run, entries, where)
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]*", run.name):
        raise ValueError(f"run {run.name!r}: a name is a folder: small letters, digits, '-', '_', '.'")
    if run.timeout <= 0:
        raise ValueError(f"{where}: timeout: seconds, more than 0, given {run.timeout:g}")
    try:
        declared = defaults(run.notebook, files)
        planned(run.notebook, {}, files)
        compile(notebook_code(run.notebook, files), run.notebook, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    except (ValueError, FileNotFoundError, SyntaxError) as error:
        raise ValueError(f"{where}: {run.notebook}: {error}") from None
    if not declared.pop("out", None):
        raise ValueError(f"{where}: {run.notebook} has no parameter `out: str`, the folder of its run")
    values = {name: value for name, value in shared.items() if name in declared} | run.parameters
    return replace(run, parameters=checked(values, declared, f"{where}, parameters"))


def _made(kind: type, entries: dict, where: str) -> Any:
    """A Run or Profile; an entry without a value has its default."""
    declared = {entry.name: (None, entry.type.replace("[Run]", "[dict]")) for entry in fields(kind)}
    return kind(**checked({name: value for name, value in entries.items() if value is not None}, declared, where))


def checked(values: dict[str, Any], declared: dict, where: str) -> dict[str, Any]:
    """Values in their declared types. ValueError lists those of another type and those whose name is unknown."""
    errors = _unknown(values, declared, where)
    try:
        converted = all_typed({name: value for name, value in values.items() if name in declared}, declared)
    except ValueError as error:
        errors += [f"{where}: {line.removeprefix('parameter ')}" for line in str(error).splitlines()]
    if errors:
        raise ValueError("\n".join(errors))
    return converted


def _unknown(names: Iterable[str], allowed: Iterable[str], where: str) -> list[str]:
    """An error for each name that is not allowed, with the closest that is."""
    errors, allowed = [], list(allowed)
    for name in names:
        if name not in allowed:
            hint = "".join(f"did you mean {close!r}? " for close in difflib.get_close_matches(str(name), allowed, n=1))
            errors.append(f"{where}: unknown {name!r}; {hint}there are {', '.join(allowed)}")
    return errors


def rooted(profile: Profile, folders: dict[str, str], files: Disk = DISK) -> tuple[list[Run], dict[str, str]]:
    """The profile's runs, with the folder of their data set as the parameter `root`; and why others are left out.

    These have no folder, or need one of these. ValueError where a folder is not of profile.roots or not there, or no
    run is left.
    """
    errors = _unknown(folders, profile.roots, "--root")
    for run in (run for run in profile.runs if run.root):
        named = run.root.values() if isinstance(run.root, dict) else [run.root]
        errors += _unknown(named, profile.roots, f"run {run.name}, root")
    if not folders:
        errors += [f"no folder of {name}: give --root {name}=DIR" for name in profile.roots]
    places = {name: Path(folder).expanduser() for name, folder in folders.items()}
    errors += [f"--root {name}: '{place}' is not there" for name, place in places.items() if not place.exists()]
    runs, left_out = [], {}
    for run in profile.runs if not errors else ():
        name = run.root or planned(run.notebook, run.parameters, files).get("data")
        wanted = name if isinstance(name, dict) else {"root": name}  # parameter -> name of a root
        wanted = {parameter: root for parameter, root in wanted.items() if root in profile.roots}
        if lacking := [root for root in wanted.values() if root not in places]:
            left_out[run.name] = f"no --root {', '.join(lacking)}"
        elif lacking := [other for other in run.needs if other in left_out]:
            left_out[run.name] = f"needs {', '.join(lacking)}"
        else:
            own = {parameter: str(places[root].resolve()) for parameter, root in wanted.items()}
            runs.append(replace(run, parameters=run.parameters | own))
    errors += [f"{name}: {reason}" for name, reason in left_out.items() if not runs]
    if errors:
        raise ValueError("\n".join(errors))
    return runs, left_out
