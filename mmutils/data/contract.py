"""The contract of a table of examples, and the check of it. Every table goes through it, whoever made it."""

import numbers
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from mmutils.data.tools.reading import storable

COLUMNS = ("id", "group", "image", "text", "label")
TAKEN = ("id", "prediction", "problem")  # columns of `mmutils.predict` beside those of the classes


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
