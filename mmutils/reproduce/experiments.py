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

FORMAT = "report/experiments.yaml describes the format"


@dataclass(frozen=True)
class Run:
    """One notebook with its parameters."""

    name: str = ""
    notebook: str = ""
    study: str | None = None
    parameters: dict = field(default_factory=dict)
    needs: tuple[str, ...] = ()  # runs that go first
    timeout: float = 1800.0  # seconds without a sign of life after which it is ended


@dataclass(frozen=True)
class Profile:
    """Runs, each after those it needs."""

    runs: list[Run]
    report: bool = True  # render it at the end
    out: str = "report"  # folder, from the repository root
    roots: tuple[str, ...] = ()  # data sets whose folder must be given
    jobs: int = 1  # how many run at the same time
    defaults: dict = field(default_factory=dict)  # entries of every run


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
        raise ValueError(f"{path} needs `profiles:`, names with their runs; {FORMAT}")
    if name not in profiles:
        raise ValueError(f"no profile {name!r} in {path}; there are {', '.join(map(str, profiles)) or 'none'}")
    if not isinstance(profiles[name], dict) or not profiles[name].get("runs"):
        raise ValueError(f"{path}: profile {name} needs `runs:`, a list; {FORMAT}")
    errors: list[str] = []
    profile = _profile(profiles[name], f"profile {name}", files, errors)
    if errors:
        raise ValueError(f"{path}, profile {name}:\n" + "\n".join(f"- {error}" for error in errors))
    return profile


def _profile(content: dict, where: str, files: Disk, errors: list[str]) -> Profile | None:
    """A profile; what is wrong with it is added to errors."""
    declared = _declared(Profile) | {"runs": (None, "list[dict]")}
    entries = _typed(_without_none(content), declared, where, errors)
    if entries is None:
        return None
    profile = Profile(**entries)
    if profile.jobs < 1:
        errors.append(f"jobs: a number of runs, at least 1, given {profile.jobs}")
    shared = _without_none(profile.defaults)
    if not isinstance(shared.setdefault("parameters", {}), dict):
        errors.append(f"defaults: parameters is dict, given {shared.pop('parameters')!r}")
    runs = [_run(entry, shared, files, errors) for entry in profile.runs]
    if not errors:  # else unused defaults may only follow from them
        used = {name for run in runs for name in defaults(run.notebook, files)}
        errors += _unknown(shared["parameters"], sorted(used), "defaults, parameters")
    return replace(profile, runs=_ordered(runs, errors)) if all(runs) else None


def _without_none(entries: dict) -> dict:
    return {name: value for name, value in entries.items() if value is not None}


def _declared(kind: type) -> dict[str, tuple[None, str]]:
    return {entry.name: (None, entry.type) for entry in fields(kind)}


def _run(entry: dict, shared: dict, files: Disk, errors: list[str]) -> Run | None:
    """A run with the profile's defaults put in; what is wrong with it is added to errors."""
    where = f"run {entry.get('name')}"
    entries = _typed({**shared, "parameters": {}, **_without_none(entry)}, _declared(Run), where, errors)
    if entries is None:
        return None
    run = Run(**entries)
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]*", run.name):
        errors.append(f"run {run.name!r}: a name is a folder: small letters, digits, '-', '_', '.'")
    if run.timeout <= 0:
        errors.append(f"{where}: timeout: seconds, more than 0, given {run.timeout:g}")
    try:
        declared = defaults(run.notebook, files)
        planned(run.notebook, {}, files)
        compile(notebook_code(run.notebook, files), run.notebook, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    except (ValueError, FileNotFoundError, SyntaxError) as error:
        errors.append(f"{where}: {run.notebook}: {error}")
        return run
    if "out" not in declared:
        errors.append(f"{where}: {run.notebook} has no parameter `out: str`, the folder of its run")
    values = {name: value for name, value in shared.get("parameters", {}).items() if name in declared} | run.parameters
    settable = {name: entry for name, entry in declared.items() if name != "out"}
    return replace(run, parameters=_typed(values, settable, f"{where}, parameters", errors))


def converted(values: dict[str, Any], declared: dict[str, tuple[Any, str | None]]) -> dict[str, Any]:
    """Values for a notebook with these parameters (as `fingerprints.defaults` gives them), in their types.

    ValueError lists all that are unknown or wrong, one a line.
    """
    errors: list[str] = []
    typed = _typed(values, declared, "parameters", errors)
    if errors:
        raise ValueError("\n".join(errors))
    return typed


def _typed(values: dict[str, Any], declared: dict, where: str, errors: list[str]) -> dict[str, Any] | None:
    """Values in their declared types; None where one is of another type. What is wrong is added to errors."""
    errors += _unknown(values, declared, where)
    try:
        return all_typed({name: value for name, value in values.items() if name in declared}, declared)
    except ValueError as error:
        errors += [f"{where}: {line.removeprefix('parameter ')}" for line in str(error).splitlines()]
        return None


def _unknown(names: Iterable[str], allowed: Iterable[str], where: str) -> list[str]:
    """An error for each name that is not allowed, with the closest that is."""
    errors, allowed = [], list(allowed)
    for name in names:
        if name not in allowed:
            close = difflib.get_close_matches(str(name), allowed, n=1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            errors.append(f"{where}: unknown {name!r}; {hint}there are {', '.join(allowed)}")
    return errors


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


def rooted(profile: Profile, folders: dict[str, str], files: Disk = DISK) -> list[Run]:
    """The profile's runs, with the folder of their data set as the parameter `root`; without those that have none.

    folders: data set -> folder, of profile.roots. ValueError for others, one that is not there, or none at all.
    """
    errors = _unknown(folders, profile.roots, "--root")
    if not folders:
        errors += [f"no folder of {name}: give --root {name}=DIR" for name in profile.roots]
    folders = {name: Path(place).expanduser() for name, place in folders.items()}
    errors += [f"--root {name}: '{place}' is not there" for name, place in folders.items() if not place.exists()]
    if errors:
        raise ValueError("\n".join(errors))
    runs = []
    for run in profile.runs:
        name = planned(run.notebook, run.parameters, files).get("data")
        if name in folders:
            runs.append(replace(run, parameters=run.parameters | {"root": str(folders[name].resolve())}))
        elif name not in profile.roots:
            runs.append(run)
    return runs
