"""Reads report/experiments.yaml (the format stands in reproduce.py) and checks all of it before anything runs."""

import ast
import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from mmutils import fingerprints

TYPES = {"int": int, "float": int | float, "str": str, "bool": bool, "list": list, "tuple": list, "dict": dict}
RUN_KEYS = ("name", "notebook", "study", "parameters", "needs", "timeout")
PROFILE_KEYS = ("report", "jobs", "out", "roots", "defaults", "runs")


@dataclass(frozen=True)
class Run:
    """One notebook with its parameters; timeout in seconds of wall time."""

    name: str
    notebook: str
    parameters: dict[str, Any]
    needs: tuple[str, ...] = ()
    timeout: float = 3600.0
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


def read(path: Path, name: str, root: Path = fingerprints.ROOT) -> Profile:
    """The profile of that name. FileNotFoundError: no file. ValueError lists all that is wrong with it at once."""
    if not path.is_file():
        raise FileNotFoundError(f"no experiments file {path}")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not YAML: {error}") from None
    profiles = content.get("profiles") if isinstance(content, dict) else None
    if not isinstance(profiles, dict):
        raise ValueError(f"{path} needs `profiles:`, names with their runs; the format stands in mmutils/reproduce.py")
    if name not in profiles:
        raise ValueError(f"no profile {name!r} in {path}; there are {', '.join(profiles) or 'none'}")
    content = profiles[name]
    if not isinstance(content, dict) or not content.get("runs"):
        raise ValueError(f"{path}: profile {name} needs `runs:`, a list; the format stands in mmutils/reproduce.py")
    errors = _unknown(content, PROFILE_KEYS, f"profile {name}")
    if not isinstance(content.get("jobs", 1), int) or content.get("jobs", 1) < 1:
        errors.append(f"jobs: a number of runs, at least 1, given {content['jobs']!r}")
    found = [_run(entry, content.get("defaults") or {}, root, errors) for entry in content["runs"]]
    found = [run for run in found if run]
    errors += _unused_defaults(content.get("defaults") or {}, found, root)
    ordered = _ordered(found, errors)
    if errors:
        raise ValueError(f"{path}, profile {name}:\n" + "\n".join(f"- {error}" for error in errors))
    return Profile(
        ordered,
        bool(content.get("report", True)),
        content.get("out", "report"),
        tuple(content.get("roots") or ()),
        content.get("jobs", 1),
    )


def rooted(profile: Profile, folders: dict[str, str], root: Path = fingerprints.ROOT) -> list[Run]:
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
    data = [fingerprints.planned(run.notebook, run.parameters, root).get("data") for run in profile.runs]
    pairs = zip(profile.runs, data, strict=True)
    return [replace(run, parameters=run.parameters | places.get(name, {})) for run, name in pairs if name not in absent]


def _run(entry: dict, shared: dict, root: Path, errors: list[str]) -> Run | None:
    """A run with the profile's defaults put in; what is wrong with it is added to errors."""
    name = str(entry.get("name"))
    errors += _unknown({**shared, **entry}, RUN_KEYS, f"run {name}")
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]*", name):
        errors.append(f"run {name!r}: a name is a folder: small letters, digits, '-', '_', '.'")
    try:
        known = fingerprints.defaults(entry.get("notebook", "(none)"), root)
        fingerprints.notebook_code(entry["notebook"], root)
    except (ValueError, FileNotFoundError, SyntaxError) as error:
        errors.append(f"run {name}: {error}")
        return None
    if "out" not in known:
        errors.append(f"run {name}: {entry['notebook']} has no parameter `out: str`, the folder of its run")
    values = {k: v for k, v in (shared.get("parameters") or {}).items() if k in known} | (entry.get("parameters") or {})
    errors += [f"run {name}: {error}" for error in parameter_errors(values, known)]
    needs, timeout = tuple(entry.get("needs") or ()), float(entry.get("timeout", shared.get("timeout", 3600)))
    return Run(name, entry["notebook"], values, needs, timeout, entry.get("study", shared.get("study")))


def parameter_errors(values: dict[str, Any], known: dict[str, tuple[Any, str | None]]) -> list[str]:
    """What is wrong with values for a notebook with the parameters `known` (as `fingerprints.defaults` gives them)."""
    errors = _unknown(values, [name for name in known if name != "out"], "parameters")
    for name, value in values.items():
        if name in known:
            default, annotation = known[name]
            annotation = annotation or ("object" if default is None else type(default).__name__)
            if not fits(value, ast.parse(annotation, mode="eval").body):
                hint = " (YAML reads 1e-3 as text: write 1.0e-3)" if _is_number(value) else ""
                errors.append(f"parameter {name} is {annotation}, given {value!r}, a {type(value).__name__}{hint}")
    return errors


def fits(value: Any, annotation: ast.expr) -> bool:
    """Can a value from YAML stand for a parameter with this annotation? What is not known here fits."""
    if isinstance(annotation, ast.BinOp):  # int | None
        return fits(value, annotation.left) or fits(value, annotation.right)
    if isinstance(annotation, ast.Constant) and annotation.value is None:
        return value is None
    if isinstance(annotation, ast.Subscript):  # list[int], tuple[int, ...]
        inner = annotation.slice.elts[0] if isinstance(annotation.slice, ast.Tuple) else annotation.slice
        elements = value if isinstance(value, list) else ()
        return fits(value, annotation.value) and all(fits(element, inner) for element in elements)
    kind = TYPES.get(getattr(annotation, "id", None), object)
    return isinstance(value, kind) and (kind in (bool, object) or not isinstance(value, bool))


def _is_number(value: Any) -> bool:
    try:
        return isinstance(value, str) and float(value) is not None
    except ValueError:
        return False


def _unknown(given: Iterable[str], known: Iterable[str], where: str) -> list[str]:
    """An error for each name that is not known, with the closest that is."""
    errors, known = [], list(known)
    for name in given:
        if name not in known:
            close = difflib.get_close_matches(str(name), known, n=1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            errors.append(f"{where}: unknown {name!r}; {hint}there are {', '.join(known)}")
    return errors


def _unused_defaults(shared: dict, found: list[Run], root: Path) -> list[str]:
    used = {name for run in found for name in fingerprints.defaults(run.notebook, root)}
    return _unknown(shared.get("parameters") or {}, sorted(used), "defaults, parameters") if found else []


def _ordered(found: list[Run], errors: list[str]) -> list[Run]:
    """Each run after those it needs, else in the order of the file."""
    names = [run.name for run in found]
    if len(set(names)) < len(names):
        errors.append(f"names of runs must differ, given {', '.join(names)}")
    for run in found:
        errors += _unknown(run.needs, names, f"run {run.name}, needs")
    ordered, rest = [], list(found)
    while rest:
        done = {run.name for run in ordered}
        ready = next((run for run in rest if done >= set(run.needs) & set(names)), None)
        if ready is None:
            errors.append(f"these runs need each other in a circle: {', '.join(run.name for run in rest)}")
            return found
        ordered.append(ready)
        rest.remove(ready)
    return ordered
