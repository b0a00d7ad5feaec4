"""Data set modules: found by name, called with options of the declared types; their errors get file and line."""

import importlib
import inspect
import os
import re
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pandas as pd

from mmutils.data.contract import check
from mmutils.runs.parameters import NAMES, typed

FOLDER = Path(__file__).parents[1]


def available() -> list[str]:
    """The names of all data sets; a warning names files that are broken."""
    names = []
    for path in _files():
        try:
            names += [path.stem] if _is_dataset(_imported(path)) else []
        except ValueError as error:
            warnings.warn(f"{error}. The other data sets can be used", stacklevel=2)
    return names


def dataset(name: str) -> ModuleType:
    """The data set module of that name. ValueError that lists the names, or says where the module's file is broken."""
    path = FOLDER / f"{name}.py"
    module = _imported(path) if path in _files() else None
    if not _is_dataset(module):
        hint = f" ({path.name} defines no CLASSES or no examples)" if module else ""
        raise ValueError(f"unknown data set {name!r}{hint}: there are {', '.join(available())}")
    return module


def option_names(name: str) -> list[str]:
    """Names of the options that a data set's `examples` takes besides root and split."""
    return list(_options(dataset(name).examples))


def require_root(name: str, root) -> None:
    """FileNotFoundError where a data set is not built in and no root is given."""
    parameter = inspect.signature(dataset(name).examples).parameters.get("root")
    if not root and parameter is not None and parameter.default is inspect.Parameter.empty:
        raise FileNotFoundError(f"{name} is not built in: give its folder or archive as root")


def call(name: str, function: str, root, *split: str, **options) -> pd.DataFrame:
    """The checked table of a data set module's function: "examples", which also takes the split, or "unlabelled".

    ValueError for a wrong option or table, or an error inside the module, with its line; FileNotFoundError where files
    are missing.
    """
    module, where = dataset(name), f"{name}, {split[0] if split else function}"
    options = _converted(name, getattr(module, function), options)
    require_root(name, root)
    try:
        table = getattr(module, function)(root or None, *split, **options)
    except UnicodeEncodeError as error:  # from pandas, which says neither where nor why
        raise ValueError(f"{where}: half a surrogate pair, which cannot be written as UTF-8: {error}") from error
    except (ValueError, OSError):  # these say what to do
        raise
    except Exception as error:
        place = _place(error, Path(module.__file__))
        raise ValueError(f"{where}: {place}: {type(error).__name__}: {error}") from error
    return check(table, module.CLASSES, where)


def _files() -> list[Path]:
    return sorted(FOLDER.glob("[!._]*.py"))  # without hidden files of editors and file managers


def _imported(path: Path) -> ModuleType:
    try:
        return importlib.import_module(f"mmutils.data.{path.stem}")
    except (Exception, SystemExit) as error:
        raise ValueError(f"{_place(error, path)} cannot be loaded: {type(error).__name__}: {error}") from error


def _is_dataset(module: ModuleType | None) -> bool:
    return hasattr(module, "CLASSES") and hasattr(module, "examples")


def _place(error: BaseException, path: Path) -> str:
    """The file of a module, and the line in it that an error comes from."""
    numbers = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename) == path]
    return f"{path}, line {numbers[-1] if numbers else getattr(error, 'lineno', None) or 1}"


def _options(function: Callable) -> dict[str, inspect.Parameter]:
    """The named parameters of a function besides root and split."""
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    parameters = inspect.signature(function).parameters.items()
    return {name: each for name, each in parameters if each.kind not in variadic and name not in ("root", "split")}


def _converted(name: str, function: Callable, options: dict) -> dict:
    """The options, converted to the types that a function declares; ValueError for one that it does not take."""
    declared, parameters = _options(function), inspect.signature(function).parameters.values()
    unknown = sorted(set(options) - set(declared))
    if unknown and not any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters):
        hint = '; give language="" where a data set has only one' if "language" in unknown else ""
        raise ValueError(f"{name} has no {', '.join(unknown)}: its options are {', '.join(declared) or 'none'}{hint}")
    options = {option: os.fspath(value) if isinstance(value, Path) else value for option, value in options.items()}
    for option in options.keys() & declared.keys():
        default, kind = declared[option].default, declared[option].annotation
        kind = type(default) if kind is inspect.Parameter.empty else kind
        kind = kind if isinstance(kind, str) else inspect.formatannotation(kind)
        if set(re.findall(r"\w+", kind)) <= {*NAMES, "None"}:  # other types are not converted
            options[option] = typed(option, options[option], kind)
    return options
