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
import numbers
import os
import traceback
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd

from mmutils.data.reading import inside, storable
from mmutils.parameters import NAMES, typed

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
COLUMNS = ("id", "group", "image", "text", "label")
TAKEN = ("id", "prediction", "problem")  # columns of `mmutils.predict` beside those of the classes
FOLDER = Path(__file__).parent
_fingerprints: dict[tuple, str] = {}  # by name, root, and the state of the listed files


def names() -> list[str]:
    """The names of all data sets, read from the files without importing them; a warning names files that are broken."""
    there = []
    for path in sorted(FOLDER.glob("[!.]*.py")):  # without what editors and file managers leave there
        try:
            there += [path.stem] if _is_dataset(path) else []
        except ValueError as error:
            warnings.warn(f"{error}. The other data sets can be used", stacklevel=2)
    return there


def load(name: str) -> ModuleType:
    """The dataset module of that name. ValueError that lists the names, or says where the module's file is broken."""
    there, path = names(), FOLDER / f"{name}.py"
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


def takes(name: str) -> list[str]:
    """Names of the options that a data set's `examples` takes besides root and split."""
    return [option for option in _options(load(name).examples) if option not in ("root", "split")]


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
    module = load(name)
    options = _converted(name, module.examples, options)
    require_root(name, root)
    return _checked_call(f"{name}, {split}", module, "examples", root or None, split, **options)


def unlabelled(name: str, root=None, **options) -> pd.DataFrame:
    """The examples to pretrain on, with all labels -1: what the module says, or else its train split."""
    module = load(name)
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
    made = {split: few(examples(name, root, split, **options), limit) for split in SPLITS}
    if labelled:
        require_labels(made)
    return made


def require_labels(tables: dict[str, pd.DataFrame]) -> None:
    """ValueError for a split with unknown labels or of a single class: it cannot be trained on, nor be scored."""
    for split, table in tables.items():
        unknown, classes = int((table["label"] == -1).sum()), table["label"].nunique()
        if unknown:
            raise ValueError(
                f"{unknown:,} of {len(table):,} examples of {split} have no label (-1): "
                "leave them out, or take a split that has labels"
            )
        if classes < 2:
            raise ValueError(
                f"{split} has {len(table):,} examples of {classes} class: at least two classes are needed, "
                "take more examples (limit=0 for all)"
            )


def require_root(name: str, root) -> None:
    """FileNotFoundError where a data set is not built in and no root is given."""
    parameter = inspect.signature(load(name).examples).parameters.get("root")
    if not root and parameter is not None and parameter.default is inspect.Parameter.empty:
        raise FileNotFoundError(f"{name} is not built in: give its folder or archive as root")


def check(examples: pd.DataFrame, classes: Sequence[str], where: str = "") -> pd.DataFrame:
    """Compare a table of examples with the contract.

    id: string, unique. group: string, not empty; it ties rows that must not be split or resampled apart. image: path of
    a picture, or None. text: string. label: 0..K-1 as in `classes`, or -1 for unknown. Index: 0..N-1. Whether the
    pictures can be read is not looked at (see `mmutils.data.audit`).

    Args:
        examples: the table.
        classes: at least two different names, none of them in TAKEN.
        where: data set and split, or the file, for the error.

    Returns:
        The table, its labels as int64.

    Raises:
        ValueError: what is wrong, in which rows.
    """
    try:
        _check_classes(classes)
        return _checked(examples, len(classes))
    except ValueError as error:
        raise ValueError(f"{where}: {error}" if where else str(error)) from None


def few(examples: pd.DataFrame, limit: int) -> pd.DataFrame:
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
    module, digest = load(name), hashlib.sha256(name.encode())
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


def _check_classes(classes) -> None:
    if not isinstance(classes, tuple | list) or not all(isinstance(name, str) for name in classes):
        raise ValueError(f"CLASSES must be a tuple of names, not {classes!r}")
    if len(set(classes)) < max(len(classes), 2):
        raise ValueError(f"CLASSES must have two different names or more, each once, not {classes!r}")
    wrong = [name for name in classes if name in TAKEN or not name.strip() or not storable(name)]
    if wrong:
        raise ValueError(f"a class cannot be called {wrong[0]!r}: not empty, text in UTF-8, and not {', '.join(TAKEN)}")


def _checked(examples: pd.DataFrame, classes: int) -> pd.DataFrame:
    if not isinstance(examples, pd.DataFrame):
        raise ValueError(f"the examples are a {type(examples).__name__}, not a pandas DataFrame")
    missing = [column for column in COLUMNS if column not in examples]
    if missing:
        raise ValueError(f"the table of examples lacks {', '.join(missing)}; it has {', '.join(map(str, examples))}")
    twice = examples.columns[examples.columns.duplicated()]
    if len(twice):
        raise ValueError(f"the table of examples has more than one column {twice[0]}")
    if not examples.index.equals(pd.RangeIndex(len(examples))):
        raise ValueError("the index of the examples is not 0..N-1: end with .reset_index(drop=True)")
    if not len(examples):
        raise ValueError("the table of examples is empty")
    strings = {column: _where(examples[column], lambda value: isinstance(value, str)) for column in COLUMNS}
    for column in ("id", "group", "text"):
        _refuse(examples, ~strings[column], f"{column} is not a string")
    _refuse(examples, ~strings["image"] & ~_where(examples["image"], _absent), "image is neither a string nor None")
    for column in ("id", "group", "text", "image"):
        wrong = _where(examples[column], lambda value: isinstance(value, str) and not storable(value))
        _refuse(examples, wrong, f"{column} holds half a surrogate pair, which cannot be written as UTF-8")
    _refuse(examples, (examples["id"] == "") | (examples["group"] == ""), "id or group is empty")
    _refuse(examples, examples["id"].duplicated(keep=False), "id occurs more than once")
    known = _where(examples["label"], lambda value: _is_whole(value) and -1 <= value < classes)
    _refuse(examples, ~known, f"label is not in -1..{classes - 1}")
    if examples["label"].dtype == np.int64:
        return examples
    return examples.assign(label=np.array([int(label) for label in examples["label"]], dtype=np.int64))


def _where(values: pd.Series, test: Callable[[object], bool]) -> pd.Series:
    return pd.Series([test(value) for value in values], values.index, dtype=bool)


def _is_whole(value: object) -> bool:
    """Whether it is a whole number, be it an integer, 1.0 or True."""
    return isinstance(value, numbers.Real | np.bool_) and bool(np.isfinite(value)) and value == int(value)


def _absent(value: object) -> bool:
    return value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value))


def _refuse(examples: pd.DataFrame, wrong: pd.Series, problem: str) -> None:
    """ValueError with the first three rows at fault, if there are any."""
    rows = examples[wrong]
    if len(rows):
        shown = "; ".join(f"row {row.Index}: id {row.id!r}, label {row.label!r}" for row in rows[:3].itertuples())
        raise ValueError(f"{len(rows)} of {len(examples)} examples: {problem} ({shown})")


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
    options, parts = ({"missing": "none"} if "missing" in takes(name) else {}), []
    for split in SPLITS:
        try:
            parts.append(examples(name, root, split, **options))
        except (ValueError, FileNotFoundError):  # a split that is not there, or of no use, is in no result
            if strict:
                raise
    return parts


def _sizes(pictures: pd.Series) -> str:
    """Path, relative to the folder that holds them all, and bytes of each picture that is there."""
    there = sorted(path for path in pictures.dropna().unique() if os.path.isfile(path))
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
