"""Data sets: one module each, found by its name; and what all of them share.

A *dataset module* is a file in this folder that defines `CLASSES` (a tuple of names) and
`examples(root, split, **options) -> DataFrame` at its top level; the other files here are helpers and are not listed.
The table has the columns id, group, image, text, label (see `check`) and whatever else the module adds. A
root is `root=None` where the data is built in. An option has a type or a default, by which its value is converted.
Optional functions of a module:

- `files(root) -> list of paths`, everything that the examples depend on but their pictures, for `fingerprint`;
- `unlabelled(root, **options) -> DataFrame`, what is pretrained on where that is not simply train;
- `official(split, **options)`, the published numbers of examples, in all or of each class, for the `check` command.

To add a data set, add a file. Nothing here imports torch.
"""

import ast
import functools
import hashlib
import importlib
import importlib.util
import inspect
import os
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pandas as pd

from mmutils.data.contract import COLUMNS, check, require_labels
from mmutils.data.tools.reading import inside
from mmutils.runs.parameters import NAMES, typed

__all__ = [
    "COLUMNS",
    "SPLITS",
    "check",
    "describe",
    "examples",
    "few",
    "fingerprint",
    "inside",
    "load",
    "names",
    "require_labels",
    "require_root",
    "tables",
    "takes",
    "unlabelled",
]
SPLITS = ("train", "val", "test")
FOLDER = Path(__file__).parent
_fingerprints: dict[tuple, str] = {}  # by name, root, and the state of the listed files


def available() -> list[str]:
    """The names of all data sets, read from the files without importing them; a warning names files that are broken."""
    there = []
    for path in sorted(FOLDER.glob("[!.]*.py")):  # without what editors and file managers leave there
        try:
            there += [path.stem] if _is_dataset(path) else []
        except ValueError as error:
            warnings.warn(f"{error}. The other data sets can be used", stacklevel=2)
    return there


def dataset(name: str) -> ModuleType:
    """The dataset module of that name. ValueError that lists the names, or says where the module's file is broken."""
    there, path = available(), FOLDER / f"{name}.py"
    if name not in there:
        own = path.parent == FOLDER and path.is_file() and not _is_dataset(path)  # ValueError where it is broken
        hint = f" ({path.name} defines no CLASSES or no examples)" if own else ""
        raise ValueError(f"unknown data set {name!r}{hint}: there are {', '.join(there)}")
    try:
        return importlib.import_module(f"{__name__}.{name}")
    except (Exception, SystemExit) as error:
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename) == path]
        line = frames[-1].lineno if frames else getattr(error, "lineno", None) or 1
        raise ValueError(f"{path}, line {line} cannot be loaded: {type(error).__name__}: {error}") from error


def option_names(name: str) -> list[str]:
    """Names of the options that a data set's `examples` takes besides root and split."""
    return [option for option in _options(dataset(name).examples) if option not in ("root", "split")]


def examples(name: str, root, split: str, **options) -> pd.DataFrame:
    """The table of examples of a split, which keeps the contract (see `check`).

    Args:
        name: the data set.
        root: its folder or archive; None or "" where it is built in.
        split: "train", "val" or "test".
        options: what else its `examples` takes; converted to the types that it declares.

    Raises:
        ValueError: an option that it does not take, or of another type; a table that breaks the contract.
        FileNotFoundError: it needs a root and has none, or files are missing.
    """
    module = dataset(name)
    options = _converted(name, module.examples, options)
    require_root(name, root)
    return _checked_call(f"{name}, {split}", module, "examples", root or None, split, **options)


def unlabelled(name: str, root=None, **options) -> pd.DataFrame:
    """The examples to pretrain on, with all labels -1: what the module says, or else its train split."""
    module = dataset(name)
    if not hasattr(module, "unlabelled"):
        return examples(name, root, "train", **options).assign(label=-1)
    options = _converted(name, module.unlabelled, options)
    return _checked_call(f"{name}, unlabelled", module, "unlabelled", root or None, **options)


def tables(
    name: str, root=None, limit: int = 0, language: str = "", labelled: bool = False, **options
) -> dict[str, pd.DataFrame]:
    """The table of examples of each split, of at most `limit` examples each (see `few`).

    Args:
        name: the data set.
        root: its folder or archive; None or "" where it is built in.
        limit: number of examples of a split, 0 for all.
        language: "" where the data has only one.
        labelled: whether labels are needed: then they are required, see `require_labels`.
        options: what else its `examples` takes.

    Raises:
        ValueError, FileNotFoundError: as of `examples`.
    """
    options |= {"language": language} if language else {}
    made = {split: subset(examples(name, root, split, **options), limit) for split in SPLITS}
    if labelled:
        require_labels(made)
    return made


def require_root(name: str, root) -> None:
    """FileNotFoundError where a data set is not built in and no root is given."""
    parameter = inspect.signature(dataset(name).examples).parameters.get("root")
    if not root and parameter is not None and parameter.default is inspect.Parameter.empty:
        raise FileNotFoundError(f"{name} is not built in: give its folder or archive as root")


def subset(examples: pd.DataFrame, limit: int) -> pd.DataFrame:
    """At most `limit` of the examples, the classes taken in turn, in their old order; all of them for 0."""
    if limit < 0:
        raise ValueError(f"limit={limit}: give a number of examples, or 0 for all")
    turn = examples.groupby("label").cumcount().sort_values(kind="stable")
    return examples.loc[sorted(turn.index[: limit or None])].reset_index(drop=True)


def fingerprint(name: str, root=None) -> str:
    """sha256 of what a data set's examples depend on: the files its module lists, or else the tables of its splits.

    Where the files lie does not matter, what is in them does; of pictures in a root, names and sizes do.
    FileNotFoundError for a listed file that is not there.
    """
    module, digest = dataset(name), hashlib.sha256(name.encode())
    listed = [Path(path) for path in module.files(root)] if hasattr(module, "files") else []
    state = (name, str(root), *((path, path.stat().st_size, path.stat().st_mtime_ns) for path in listed))
    if listed and state in _fingerprints:
        return _fingerprints[state]
    for path in listed:
        digest.update(path.name.encode() + hashlib.sha256(path.read_bytes()).digest())
    if root or not listed:
        for rows in _readable_tables(name, root, strict=not listed):
            digest.update(_sizes(rows["image"]).encode())
            if not listed:
                rows = rows.assign(image=rows["image"].map(_file_name))
                digest.update(rows.loc[:, list(COLUMNS)].to_json(orient="values").encode())
    _fingerprints[state] = digest.hexdigest()
    return digest.hexdigest()


def describe(name: str, root, tables: dict[str, pd.DataFrame], language: str | None = None) -> dict:
    """What a record says of a run's data: name, language, fingerprint, examples by split, whether it is built in."""
    return {
        "name": name,
        "language": language,
        "fingerprint": fingerprint(name, root or None),
        "splits": {split: len(table) for split, table in tables.items()},
        "built_in": not root,
    }


def _checked_call(where: str, module: ModuleType, function: str, *values, **options) -> pd.DataFrame:
    try:
        table = getattr(module, function)(*values, **options)
    except UnicodeEncodeError as error:  # pandas, of a text that is none; it says neither where nor why
        raise ValueError(f"{where}: half a surrogate pair, which cannot be written as UTF-8: {error}") from error
    return check(table, module.CLASSES, where)


def _options(function: Callable) -> dict[str, inspect.Parameter]:
    """The parameters of a function that have names of their own."""
    some = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    parameters = inspect.signature(function).parameters
    return {name: parameter for name, parameter in parameters.items() if parameter.kind not in some}


def _converted(name: str, function: Callable, options: dict) -> dict:
    """The options, converted to the types that a function declares; ValueError for one that it does not take."""
    parameters = _options(function)
    any_taken = len(parameters) < len(inspect.signature(function).parameters)
    offered = [option for option in parameters if option not in ("root", "split")]
    unknown = sorted(set(options) - set(offered))
    if unknown and not any_taken:
        hint = '; give language="" where a data set has only one' if "language" in unknown else ""
        raise ValueError(f"{name} has no {', '.join(unknown)}: its options are {', '.join(offered) or 'none'}{hint}")
    kinds = {option: _kind(parameters[option]) for option in options if option in parameters}
    options = {option: os.fspath(value) if isinstance(value, Path) else value for option, value in options.items()}
    return options | {option: typed(option, options[option], kind) for option, kind in kinds.items() if kind}


def _kind(parameter: inspect.Parameter) -> str:
    """The type of an option as `typed` takes it: as declared, or else of the default; "" where neither says one."""
    kind = parameter.annotation
    if kind is inspect.Parameter.empty:
        kind = type(parameter.default)
    text = kind if isinstance(kind, str) else inspect.formatannotation(kind)
    words = "".join(letter if letter.isalnum() else " " for letter in text).split()
    return text if all(word in NAMES or word == "None" for word in words) else ""


def _readable_tables(name: str, root, strict: bool) -> list[pd.DataFrame]:
    """The tables of the splits that are there, without their missing pictures where the data set takes that."""
    options, parts = ({"missing": "none"} if "missing" in option_names(name) else {}), []
    for split in SPLITS:
        try:
            parts.append(examples(name, root, split, **options))
        except (ValueError, FileNotFoundError):  # a split that is not there, or of no use, is in no result
            if strict:
                raise
    return parts


def _sizes(pictures: pd.Series) -> str:
    """Path, relative to the folder that holds them all, and bytes of each picture that is there."""
    there = sorted(os.path.abspath(path) for path in pictures.dropna().unique() if os.path.isfile(path))
    home = os.path.commonpath([os.path.dirname(path) for path in there]) if there else ""
    return repr([(os.path.relpath(path, home), os.path.getsize(path)) for path in there])


def _file_name(path) -> str | None:
    return Path(path).name if isinstance(path, str) else None


def _is_dataset(path: Path) -> bool:
    """Whether a file defines CLASSES and examples at its top level; ValueError with the line where it is no Python."""
    try:
        status = path.stat()
        return {"CLASSES", "examples"} <= _defined(path, status.st_mtime_ns, status.st_size)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error}") from None


@functools.cache
def _defined(path: Path, *state: int) -> frozenset[str]:
    """The names of functions and variables that a file defines at its top level."""
    content = path.read_bytes()
    try:
        body = ast.parse(importlib.util.decode_source(content)).body
    except UnicodeDecodeError as error:
        number = content.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{path}, line {number} is not text in UTF-8: save the file as UTF-8") from None
    except Exception as error:  # a parser gives up in many ways
        raise ValueError(f"{path}, line {getattr(error, 'lineno', None) or 1} is no Python: {error}") from None
    names = {node.name for node in body if isinstance(node, ast.FunctionDef)}
    for node in body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        names.update(target.id for target in targets if isinstance(target, ast.Name))
    return frozenset(names)
