"""The contract of a table of examples, and its check, which every table passes."""

import numbers
from collections.abc import Sequence

import numpy as np
import pandas as pd

from mmutils.data.tools.reading import storable

COLUMNS = ("id", "group", "image", "text", "label")
SPLITS = ("train", "val", "test")
TAKEN = ("id", "prediction", "problem")  # columns of `mmutils.predict` beside those of the classes


def check(examples: pd.DataFrame, classes: Sequence[str], where: str = "") -> pd.DataFrame:
    """The table, its labels as int64, if it keeps the contract; else ValueError: what is wrong, in which rows.

    - id: string, unique. group: string, not empty; it ties rows that must not be split or resampled apart.
    - image: path of a picture, or None. Whether it can be read is not checked here (see `tools.audit`).
    - text: string. label: 0..K-1 as in `classes`, or -1 for unknown. Index: 0..N-1.

    Args:
        classes: at least two different names, none of them in TAKEN.
        where: data set and split, or the file, for the error.
    """
    try:
        _check_classes(classes)
        _check_columns(examples)
        _check_rows(examples, len(classes))
    except ValueError as error:
        raise ValueError(f"{where}: {error}" if where else str(error)) from None
    return examples if examples["label"].dtype == np.int64 else examples.astype({"label": np.int64})


def require_labels(tables: dict[str, pd.DataFrame]) -> None:
    """ValueError for a split with unknown labels or of a single class: it can neither be trained on nor scored."""
    for split, table in tables.items():
        unknown, classes = (table["label"] == -1).sum(), table["label"].nunique()
        if unknown:
            hint = "leave them out, or take a split that has labels"
            raise ValueError(f"{unknown:,} of {len(table):,} examples of {split} have no label (-1): {hint}")
        if classes < 2:
            hint = "at least two classes are needed, take more examples (limit=0 for all)"
            raise ValueError(f"{split} has {len(table):,} examples of {classes} class: {hint}")


def _check_classes(classes) -> None:
    if not isinstance(classes, tuple | list) or not all(isinstance(name, str) for name in classes):
        raise ValueError(f"CLASSES must be a tuple of names, not {classes!r}")
    if len(set(classes)) < max(len(classes), 2):
        raise ValueError(f"CLASSES must have two different names or more, each once, not {classes!r}")
    for name in classes:
        if name in TAKEN or not name.strip() or not storable(name):
            raise ValueError(f"a class cannot be called {name!r}: not empty, text in UTF-8, and not {', '.join(TAKEN)}")


def _check_columns(examples: pd.DataFrame) -> None:
    if not isinstance(examples, pd.DataFrame):
        raise ValueError(f"the examples are a {type(examples).__name__}, not a pandas DataFrame")
    missing = [column for column in COLUMNS if column not in examples]
    if missing:
        raise ValueError(f"the table of examples lacks {', '.join(missing)}; it has {', '.join(map(str, examples))}")
    repeated = examples.columns[examples.columns.duplicated()]
    if len(repeated):
        raise ValueError(f"the table of examples has more than one column {repeated[0]}")
    if not examples.index.equals(pd.RangeIndex(len(examples))):
        raise ValueError("the index of the examples is not 0..N-1: end with .reset_index(drop=True)")
    if not len(examples):
        raise ValueError("the table of examples is empty")


def _check_rows(examples: pd.DataFrame, classes: int) -> None:
    for column in ("id", "group", "text"):
        wrong = [not isinstance(value, str) for value in examples[column]]
        _refuse(examples, wrong, f"{column} is not a string")
    wrong = examples["image"].notna() & np.array([not isinstance(value, str) for value in examples["image"]])
    _refuse(examples, wrong, "image is neither a string nor None")
    for column in ("id", "group", "text", "image"):
        wrong = [isinstance(value, str) and not storable(value) for value in examples[column]]
        _refuse(examples, wrong, f"{column} holds half a surrogate pair, which cannot be written as UTF-8")
    _refuse(examples, (examples["id"] == "") | (examples["group"] == ""), "id or group is empty")
    _refuse(examples, examples["id"].duplicated(keep=False), "id occurs more than once")
    numeric = numbers.Real | np.bool_
    wrong = [not (isinstance(value, numeric) and value in range(-1, classes)) for value in examples["label"]]
    _refuse(examples, wrong, f"label is not in -1..{classes - 1}")


def _refuse(examples: pd.DataFrame, wrong: Sequence[bool], problem: str) -> None:
    """ValueError with the first three rows at fault, if there are any."""
    rows = examples[wrong]
    if len(rows):
        shown = "; ".join(f"row {row.Index}: id {row.id!r}, label {row.label!r}" for row in rows[:3].itertuples())
        raise ValueError(f"{len(rows)} of {len(examples)} examples: {problem} ({shown})")
