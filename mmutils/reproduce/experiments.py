"""Reads report/experiments.yaml (the format stands in reproduce.py) and checks all of it before anything runs."""

import ast
import difflib
import graphlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from mmutils.runs import fingerprints
from mmutils.runs.fingerprints import DISK, Disk
from mmutils.runs.parameters import all_typed

RUN = {  # name of an entry -> its default and type
    "name": ("", "str"),
    "notebook": ("", "str"),
    "study": (None, "str | None"),
    "parameters": ({}, "dict"),
    "needs": ((), "tuple[str, ...]"),
    "timeout": (1800.0, "float"),
}
PROFILE = {
    "report": (True, "bool"),
    "jobs": (1, "int"),
    "out": ("report", "str"),
    "roots": ((), "tuple[str, ...]"),
    "defaults": ({}, "dict"),
    "runs": ([], "list[dict]"),
}


@dataclass(frozen=True)
class Run:
    """One notebook with its parameters; timeout: seconds without a sign of life after which it is ended."""

    name: str
    notebook: str
    parameters: dict[str, Any] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    timeout: float = RUN["timeout"][0]
    study: str | None = None


@dataclass(frozen=True)
class Profile:
    """Runs in an order in which each comes after those it needs; out: folder, from the repository root.

    roots: data sets whose folder must be given. jobs: how many run at the same time.
    """

    runs: list[Run]
    report: bool = True
    out: str = "report"
    roots: tuple[str, ...] = ()
    jobs: int = 1


def read(path: Path, name: str, files: Disk = DISK) -> Profile:
    """The profile of that name. FileNotFoundError: no file. ValueError lists all that is wrong with it at once."""
    if not path.is_file():
        raise FileNotFoundError(f"no experiments file {path}")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not YAML: {error}") from None
    profiles = content.get("profiles") if isinstance(content, dict) else None
    if not isinstance(profiles, dict):
        raise ValueError(f"{path} needs `profiles:`, names with their runs; the format stands in mmutils/reproduce.py")
    if name not in profiles:
        raise ValueError(f"no profile {name!r} in {path}; there are {', '.join(map(str, profiles)) or 'none'}")
    content = profiles[name]
    if not isinstance(content, dict) or not content.get("runs"):
        raise ValueError(f"{path}: profile {name} needs `runs:`, a list; the format stands in mmutils/reproduce.py")
    errors: list[str] = []
    profile = _profile(content, f"profile {name}", files, errors)
    if errors:
        raise ValueError(f"{path}, profile {name}:\n" + "\n".join(f"- {error}" for error in errors))
    return profile


def _profile(content: dict, where: str, files: Disk, errors: list[str]) -> Profile | None:
    """A profile; what is wrong with it is added to errors."""
    entries = _entries(content, PROFILE, where, errors)
    if not entries:
        return None
    if entries["jobs"] < 1:
        errors.append(f"jobs: a number of runs, at least 1, given {entries['jobs']}")
    shared = {name: value for name, value in entries["defaults"].items() if value is not None}
    listed = [_run(entry, shared, files, errors) for entry in entries["runs"]]
    runs = [run for run in listed if run]
    if not errors:  # else these may be no more than what follows from them
        errors += _unused_defaults(shared, runs, files)
    if len(runs) == len(listed):
        runs = _ordered(runs, errors)
    return Profile(runs, entries["report"], entries["out"], entries["roots"], entries["jobs"])


def _entries(content: dict, allowed: dict, where: str, errors: list[str]) -> dict[str, Any]:
    """All entries of a profile or a run in their types; empty, and the errors longer, where they have others."""
    unknown = _unknown(content, allowed, where)
    errors += unknown
    chosen = {name: value for name, value in content.items() if value is not None and name in allowed}
    try:
        return {name: default for name, (default, _) in allowed.items()} | all_typed(chosen, allowed)
    except ValueError as error:
        errors += [f"{where}: {line.removeprefix('parameter ')}" for line in str(error).splitlines()]
        return {}


def rooted(profile: Profile, folders: dict[str, str], files: Disk = DISK) -> list[Run]:
    """The profile's runs, with the folder of their data set as the parameter `root`; without those that have none.

    folders: data set -> folder, of profile.roots. ValueError for others, one that is not there, or none at all.
    """
    errors = _unknown(folders, profile.roots, "--root")
    absent = [name for name in profile.roots if name not in folders]
    if not folders:
        errors += [f"no folder of {name}: give --root {name}=DIR" for name in absent]
    errors += [f"--root {name}: {place!r} is not there" for name, place in folders.items() if not Path(place).exists()]
    if errors:
        raise ValueError("\n".join(errors))
    places = {name: {"root": str(Path(place).resolve())} for name, place in folders.items()}
    data = [fingerprints.planned(run.notebook, run.parameters, files).get("data") for run in profile.runs]
    pairs = zip(profile.runs, data, strict=True)
    return [replace(run, parameters=run.parameters | places.get(name, {})) for run, name in pairs if name not in absent]


def _run(entry: dict, shared: dict, files: Disk, errors: list[str]) -> Run | None:
    """A run with the profile's defaults put in; what is wrong with it is added to errors."""
    where = f"run {entry.get('name')}"
    own = {name: value for name, value in entry.items() if value is not None}
    entries = _entries({**shared, **own, "parameters": own.get("parameters", {})}, RUN, where, errors)
    if not entries:
        return None
    name, notebook, parameters = entries["name"], entries["notebook"], entries["parameters"]
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]*", name):
        errors.append(f"run {name!r}: a name is a folder: small letters, digits, '-', '_', '.'")
    if entries["timeout"] <= 0:
        errors.append(f"{where}: timeout: seconds, more than 0, given {entries['timeout']:g}")
    try:
        declared = fingerprints.defaults(notebook, files)
        fingerprints.planned(notebook, {}, files)
        compile(fingerprints.notebook_code(notebook, files), notebook, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    except (ValueError, FileNotFoundError, SyntaxError) as error:
        errors.append(f"{where}: {notebook}: {error}")
        return Run(name, notebook, parameters, entries["needs"])
    if "out" not in declared:
        errors.append(f"{where}: {notebook} has no parameter `out: str`, the folder of its run")
    fitting = shared.get("parameters") if isinstance(shared.get("parameters"), dict) else {}
    values = {name: value for name, value in fitting.items() if name in declared} | parameters
    try:
        values = converted(values, {name: entry for name, entry in declared.items() if name != "out"})
    except ValueError as error:
        errors += [f"{where}: {line}" for line in str(error).splitlines()]
    return Run(name, notebook, values, entries["needs"], entries["timeout"], entries["study"])


def converted(values: dict[str, Any], declared: dict[str, tuple[Any, str | None]]) -> dict[str, Any]:
    """Values for a notebook with these parameters (as `fingerprints.defaults` gives them), in their types.

    ValueError lists all that are unknown or wrong, one a line.
    """
    errors = _unknown(values, declared, "parameters")
    try:
        typed = all_typed({name: value for name, value in values.items() if name in declared}, declared)
    except ValueError as error:
        errors.append(str(error))
    if errors:
        raise ValueError("\n".join(errors))
    return typed


def _unknown(names: Iterable[str], allowed: Iterable[str], where: str) -> list[str]:
    """An error for each name that is not allowed, with the closest that is."""
    errors, allowed = [], list(allowed)
    for name in names:
        if name not in allowed:
            close = difflib.get_close_matches(str(name), allowed, n=1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            errors.append(f"{where}: unknown {name!r}; {hint}there are {', '.join(allowed)}")
    return errors


def _unused_defaults(shared: dict, runs: list[Run], files: Disk) -> list[str]:
    used = {name for run in runs for name in fingerprints.defaults(run.notebook, files)}
    parameters = shared.get("parameters", {})
    if not isinstance(parameters, dict):
        return [f"defaults: parameters is dict, given {parameters!r}"]
    return _unknown(parameters, sorted(used), "defaults, parameters") if runs else []


def _ordered(runs: list[Run], errors: list[str]) -> list[Run]:
    """Each run after those it needs; those that wait for nothing more go in the order of the file."""
    by_name = {run.name: run for run in runs}
    if len(by_name) < len(runs):
        errors.append(f"names of runs must differ, given {', '.join(run.name for run in runs)}")
    for run in runs:
        errors += _unknown(run.needs, by_name, f"run {run.name}, needs")
    try:
        order = graphlib.TopologicalSorter({run.name: run.needs for run in runs}).static_order()
        return [by_name[name] for name in order if name in by_name]
    except graphlib.CycleError as error:
        errors.append(f"these runs need each other in a circle: {' -> '.join(error.args[1])}")
        return runs
