"""Data set modules: found by name, called with options of the declared types, and their fingerprints."""

import hashlib
import importlib
import inspect
import os
import re
import traceback
import warnings
from pathlib import Path
from types import ModuleType

import pandas as pd

from mmutils.data.contract import COLUMNS, SPLITS, check
from mmutils.runs.parameters import NAMES, typed

FOLDER, FILES = Path(__file__).parents[1], "[!._]*.py"  # without hidden files of editors and file managers
_fingerprints: dict[tuple, str] = {}  # by name, root, and the state of the listed files


def available() -> list[str]:
    """The names of all data sets; a warning names files that are broken."""
    names = []
    for path in sorted(FOLDER.glob(FILES)):
        try:
            names += [path.stem] if _module(path) else []
        except ValueError as error:
            warnings.warn(f"{error}. The other data sets can be used", stacklevel=2)
    return names


def dataset(name: str) -> ModuleType:
    """The data set module of that name. ValueError that lists the names, or says where the module's file is broken."""
    path = FOLDER / f"{name}.py"
    there = path in FOLDER.glob(FILES)
    if module := there and _module(path):
        return module
    hint = f" ({path.name} defines no CLASSES, or classes(root), or no examples)" if there else ""
    raise ValueError(f"unknown data set {name!r}{hint}: there are {', '.join(available())}")


def classes(name: str, root=None) -> tuple[str, ...]:
    """The names of a data set's classes, in the order of the labels 0..K-1; of a table of one's own by its file."""
    module = dataset(name)
    if not hasattr(module, "CLASSES"):
        require_root(name, root)
    return module.CLASSES if hasattr(module, "CLASSES") else module.classes(root)


def option_names(name: str, function: str = "examples") -> list[str]:
    """Names of the options that a function of a data set takes besides root and split."""
    parameters = inspect.signature(getattr(dataset(name), function)).parameters.values()
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [each.name for each in parameters if each.kind not in variadic and each.name not in ("root", "split")]


def require_root(name: str, root) -> None:
    """FileNotFoundError where a data set is not built in and no root is given."""
    parameter = inspect.signature(dataset(name).examples).parameters.get("root")
    if not root and parameter is not None and parameter.default is inspect.Parameter.empty:
        raise FileNotFoundError(f"{name} is not built in: give its folder, archive or file as root")


def call(name: str, function: str, root, *split: str, **options) -> pd.DataFrame:
    """The checked table of a data set module's function: "examples", which also takes the split, or "unlabelled".

    ValueError for a wrong option or table, or an error inside the module, with its line.
    """
    module, where = dataset(name), f"{name}, {split[0] if split else function}"
    declared, parameters = option_names(name, function), inspect.signature(getattr(module, function)).parameters
    unknown = sorted(set(options) - set(declared))
    if unknown and not any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()):
        hint = "; notebooks also take leaks" + '; give language="" where there is only one' * ("language" in unknown)
        raise ValueError(f"{name} has no {', '.join(unknown)}: its options are {', '.join(declared) or 'none'}{hint}")
    for option, value in options.items():
        options[option] = os.fspath(value) if isinstance(value, Path) else value
        if option in declared:
            kind = parameters[option].annotation
            kind = type(parameters[option].default) if kind is inspect.Parameter.empty else kind
            kind = kind if isinstance(kind, str) else inspect.formatannotation(kind)
            if set(re.findall(r"\w+", kind)) <= {*NAMES, "None"}:  # other types are not converted
                options[option] = typed(option, options[option], kind)
    require_root(name, root)
    try:
        table = getattr(module, function)(root or None, *split, **options)
    except Exception as error:
        if isinstance(error, ValueError | OSError) and not isinstance(error, UnicodeError):  # these say what to do
            raise
        place = _place(error, Path(module.__file__))
        raise ValueError(f"{where}: {place}: {type(error).__name__}: {error}") from error
    return check(table, classes(name, root), where)


def fingerprint(name: str, root=None) -> str:
    """sha256 of what a data set's examples depend on: the files its module lists, or else the tables of its splits.

    Where files lie does not matter, their content does; of pictures in a root, names and sizes do.
    """
    module, digest = dataset(name), hashlib.sha256(name.encode())
    files = [Path(path) for path in module.files(root)] if hasattr(module, "files") else []
    state = (name, str(root), *((path, path.stat().st_size, path.stat().st_mtime_ns) for path in files))
    if files and state in _fingerprints:
        return _fingerprints[state]
    for path in files:
        digest.update(path.name.encode() + hashlib.sha256(path.read_bytes()).digest())
    options = {"missing": "none"} if "missing" in option_names(name) else {}
    for split in SPLITS if root or not files else ():
        try:
            table = call(name, "examples", root, split, **options)
        except (ValueError, FileNotFoundError):
            if files:  # a split that cannot be read is in no result
                continue
            raise
        paths = sorted(os.path.abspath(path) for path in table["image"].dropna().unique() if os.path.isfile(path))
        home = os.path.commonpath([os.path.dirname(path) for path in paths]) if paths else ""
        digest.update(repr([(os.path.relpath(path, home), os.path.getsize(path)) for path in paths]).encode())
        if not files:
            names = [Path(path).name if isinstance(path, str) else None for path in table["image"]]
            digest.update(table.assign(image=names)[list(COLUMNS)].to_json(orient="values").encode())
    _fingerprints[state] = digest.hexdigest()
    return _fingerprints[state]


def _module(path: Path) -> ModuleType | None:
    """The data set module in a file; None where it is none, ValueError where it is broken."""
    try:
        module = importlib.import_module(f"mmutils.data.{path.stem}")
    except (Exception, SystemExit) as error:
        raise ValueError(f"{_place(error, path)} cannot be loaded: {type(error).__name__}: {error}") from error
    named = hasattr(module, "CLASSES") or hasattr(module, "classes")
    return module if named and hasattr(module, "examples") else None


def _place(error: BaseException, path: Path) -> str:
    """The file of a module, and the line in it that an error comes from."""
    numbers = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename) == path]
    return f"{path}, line {numbers[-1] if numbers else getattr(error, 'lineno', None) or 1}"
