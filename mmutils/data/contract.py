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
    - classes: at least two different names, none of them in TAKEN. where: data set and split, or file, for the error.
    """
    if problem := _problem(examples, classes):
        raise ValueError(f"{where}: {problem}" if where else problem)
    return examples if examples["label"].dtype == np.int64 else examples.astype({"label": np.int64})


def require_labels(tables: dict[str, pd.DataFrame]) -> None:
    """ValueError for a split with unknown labels, of a single class, or with a class that train lacks."""
    for split, table in tables.items():
        unknown, classes = (table["label"] == -1).sum(), table["label"].nunique()
        if unknown:
            problem = f"{unknown:,} of {len(table):,} examples of {split} have no label (-1)"
            raise ValueError(f"{problem}: leave them out, or take a split that has labels")
        if classes < 2:
            problem = f"{split} has {len(table):,} examples of {classes} class"
            raise ValueError(f"{problem}: two are needed, take more examples (limit=0 for all)")
        if lacking := sorted({*table["label"]} - {*tables.get("train", table)["label"]}):
            problem = f"train has no example of the labels {', '.join(map(str, lacking))}, which {split} has"
            raise ValueError(f"{problem}: put some in train, remove these classes, or take all examples (limit=0)")


def _problem(examples: pd.DataFrame, classes: Sequence[str]) -> str:
    """The first rule that is broken, with the first three rows at fault; "" where all hold."""
    names = isinstance(classes, tuple | list) and all(isinstance(name, str) for name in classes)
    if not names or len(set(classes)) < max(len(classes), 2):
        return f"CLASSES must be a tuple of two or more different names, not {classes!r}"
    if wrong := [name for name in classes if name in TAKEN or not name.strip() or not storable(name)]:
        return f"classes cannot be called {wrong}: not empty, text in UTF-8, and not {', '.join(TAKEN)}"
    if not isinstance(examples, pd.DataFrame):
        return f"the examples are a {type(examples).__name__}, not a pandas DataFrame"
    if missing := [column for column in COLUMNS if column not in examples]:
        return f"the table of examples lacks {', '.join(missing)}; it has {', '.join(map(str, examples))}"
    if not examples.columns.is_unique:
        return f"the table of examples has a column more than once; it has {', '.join(map(str, examples))}"
    if not len(examples) or not examples.index.equals(pd.RangeIndex(len(examples))):
        return "the table of examples is empty, or its index is not 0..N-1: end with .reset_index(drop=True)"
    cells, numeric = examples[list(COLUMNS)].astype(object), numbers.Real | np.bool_
    strings = cells.map(lambda value: isinstance(value, str))
    unstorable = cells.map(lambda value: isinstance(value, str) and not storable(value))
    numbered = [isinstance(label, numeric) and label in range(-1, len(classes)) for label in cells["label"]]
    rules = {f"{column} is not a string": ~strings[column] for column in ("id", "group", "text")} | {
        "image is neither a string nor None": ~strings["image"] & cells["image"].notna(),
        **{f"{column} holds half a surrogate pair, which is no UTF-8": unstorable[column] for column in COLUMNS[:4]},
        "id or group is empty": (cells["id"] == "") | (cells["group"] == ""),
        "id occurs more than once": cells["id"].astype(str).duplicated(keep=False),
        f"label is not in -1..{len(classes) - 1}": ~np.array(numbered),
    }
    for rule, wrong in rules.items():
        if len(rows := examples[wrong]):
            shown = "; ".join(f"row {row.Index}: id {row.id!r}, label {row.label!r}" for row in rows[:3].itertuples())
            return f"{len(rows)} of {len(examples)} examples: {rule} ({shown})"
    return ""
