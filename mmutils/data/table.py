"""A table of your own: posts in one file, CSV, TSV, JSON lines or parquet; `root` is the file.

Columns: `label`, and `text` or `image` or both. Optional: `id`, `split` (train, val, test), `group` (rows that must not
be split apart), and `text_<language>` for texts in several languages. Labels are names or numbers; a row without one
is pretrained on, but in no split. Pictures are named relative to the file's folder.

A split that the table does not have is made: a seventh of the groups, or of those of train, stratified by label and
drawn with a fixed seed. Without a column `group`, rows with the same text (as the audit compares it) or the same
picture file are one.
"""

import os
import re
import warnings
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from sklearn.model_selection import StratifiedGroupKFold

from mmutils.data.contract import SPLITS, check
from mmutils.data.tools import reading
from mmutils.data.tools.audit import wording

PARTS = 7  # equal parts of the groups; a split that is made is one of them
SYNONYMS = {"training": "train", "dev": "val", "valid": "val", "validation": "val", "testing": "test"}


def classes(root) -> tuple[str, ...]:
    """The different labels: numbers in their order, names by the alphabet."""
    labels = set(_rows(root)["label"]) - {""}
    numbers = all(re.fullmatch(r"[+-]?\d+(\.\d+)?", label) for label in labels)
    return tuple(sorted(labels, key=float if numbers else str))


def examples(root, split: str, language: str = "", missing: str = "error") -> pd.DataFrame:
    """Table of examples in the order of the file.

    Args:
        root: the file.
        language: as "hi" for the column text_hi; by default `text`, or the first one. A sole `text` is also "en".
        missing: "error", "drop" or "none" for a row without its picture (see `settle_missing`).
    """
    reading.check_choice("split", split, SPLITS)
    return _examples(root, (split,), language, missing)


def unlabelled(root, language: str = "", missing: str = "error") -> pd.DataFrame:
    """The examples of train and the rows without a label; all labels are -1."""
    return _examples(root, ("train", ""), language, missing).assign(label=-1)


def notes(root) -> list[str]:
    """What was taken for what, for `check`."""
    rows, header = _rows(root), [*reading.table(root)]
    read = [name for name in header if name in ("id", "split", "group", "image", "label", *_texts(rows))]
    lines = [f"columns read: {', '.join(read)}; not read: {', '.join(set(header) - {*read}) or 'none'}"]
    if len(texts := _texts(rows)) and "text" not in texts:
        lines.append(f"texts where no language is given: {texts[0]}")
    if made := rows.attrs["made"]:
        source = "train" if "split" in header else "all rows"
        lines.append(f"made here: {' and '.join(made)}, each 1/{PARTS} of {source} by group and label, seeded")
    if "group" not in header:
        lines.append(f"made here: {rows['group'].nunique():,} groups, of rows with the same text or picture file")
    if unknown := (rows["label"] == "").sum():
        lines.append(f"{unknown:,} rows without a label, for pretraining alone")
    return lines


def files(root) -> list[Path]:
    """The file; the pictures are too many."""
    return [Path(root)]


def _examples(root, splits: tuple[str, ...], language: str, missing: str) -> pd.DataFrame:
    names, home = classes(root), Path(root).parent
    rows = _rows(root).loc[lambda rows: rows["split"].isin(splits)]
    column = _text_column(rows, root, language)
    table = rows[["id", "group"]].assign(image=None, text=rows[column] if column else "")
    table["label"] = rows["label"].map({name: number for number, name in enumerate(names)}).fillna(-1)
    if "image" in rows:
        named = rows["image"].str.strip().items()
        table["image"] = [name and reading.inside(home, name, f"{root}, line {line}") for line, name in named]
        table = reading.settle_missing(table, missing, root, f"Put them below {home}, as the column image names them")
    return check(table.reset_index(drop=True), names, str(root))


def _rows(root) -> pd.DataFrame:
    """All rows, each with id, group, split ("" without a label) and label; attrs["made"]: the splits made here."""
    path = Path(root)
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}: give the table itself as root, as posts.csv")
    return _prepared(path, path.stat().st_size, path.stat().st_mtime_ns)


@lru_cache(maxsize=4)
def _prepared(path: Path, *state: int) -> pd.DataFrame:
    rows = reading.table(path)
    if "label" not in rows or not ("image" in rows or _texts(rows)):
        raise ValueError(f"{path} has the columns {', '.join(rows)}: it needs label, and text or image or both")
    rows["label"] = reading.class_names(rows["label"])
    if len(labels := set(rows["label"]) - {""}) < 2:
        problem = f"only the label {labels.pop()!r}" if labels else "no row with a label"
        raise ValueError(f"{path} has {problem}: two different labels are needed")
    rows["id"] = rows.get("id", [str(number) for number in range(1, len(rows) + 1)])
    for column in ("id", "group"):
        if len(empty := rows.index[rows.get(column, rows["id"]) == ""]):
            raise ValueError(f"{path}, line {empty[0]}: no {column}: fill it in, or remove the column {column}")
    if len(twice := rows["id"][rows["id"].duplicated(keep=False)]):
        first, second, *_ = twice.index[twice == twice.iloc[0]]
        raise ValueError(f"{path}, lines {first} and {second}: both have the id {twice.iloc[0]!r}: give each its own")
    made = [*SPLITS[1:]]
    if "split" in rows:
        rows["split"] = rows["split"].str.strip().str.casefold().replace(SYNONYMS)
        if len(wrong := rows[~rows["split"].isin(SPLITS) & (rows["label"] != "")]):
            problem = f"{path}, line {wrong.index[0]}: the split is {wrong['split'].iloc[0]!r}"
            raise ValueError(f"{problem} ({len(wrong):,} such rows); give {', '.join(SPLITS)}, or no column split")
        made = [split for split in made if split not in set(rows["split"])]
    rows["split"] = pd.Series(rows.get("split", "train"), rows.index).where(rows["label"] != "", "")
    rows["group"] = rows["group"] if "group" in rows else _tied(rows)
    pool = rows[rows["split"] == "train"]
    if pool.empty:
        problem = f"no row of train with a label, only of {', '.join(sorted({*rows['split']} - {''}))}"
        raise ValueError(f"{path} has {problem}: write train for the rows to train on, or remove the column split")
    for what, count in (("groups", pool["group"].nunique()), ("rows of a label", pool["label"].value_counts().max())):
        if made and count < PARTS:
            problem = f"{count} {what} are too few to make {' and '.join(made)} of them"
            raise ValueError(f"{path}: {problem}: at least {PARTS} are needed, or these splits in a column split")
    with warnings.catch_warnings(action="ignore", category=UserWarning):  # a class of fewer rows than parts
        folds = StratifiedGroupKFold(PARTS, shuffle=True, random_state=0)
        for split, (_, part) in zip(made, folds.split(pool, pool["label"], pool["group"])):  # noqa: B905
            rows.loc[pool.index[part], "split"] = split
    rows.attrs["made"] = made
    return rows


def _tied(rows: pd.DataFrame) -> pd.Series:
    """For each row the id of the first one that it shares a text or a picture with, directly or through others."""
    ends, nodes = [], len(rows)  # of the edges between rows and what they contain
    for column in [name for name in ("image", *_texts(rows)) if name in rows]:
        values = rows[column].map(lambda text: wording(text) or text.strip())  # of emoji alone nothing is left
        if column == "image":
            values = rows[column].str.strip().map(lambda name: name and os.path.normpath(name.replace("\\", "/")))
        codes = pd.factorize(values.where(values != ""))[0]  # -1 for none
        ends.append(np.stack([np.flatnonzero(codes >= 0), nodes + codes[codes >= 0]]))  # (2, E)
        nodes += codes.max() + 1
    ends = np.concatenate(ends, axis=1)
    graph = coo_array((np.ones(ends.shape[1]), tuple(ends)), shape=(nodes, nodes))
    return rows["id"].groupby(connected_components(graph, directed=False)[1][: len(rows)]).transform("first")


def _texts(rows: pd.DataFrame) -> list[str]:
    return [name for name in rows if name == "text" or name.startswith("text_")]


def _text_column(rows: pd.DataFrame, root, language: str) -> str:
    """The column of the texts in a language; "" where the table has none."""
    texts = _texts(rows)
    column = f"text_{language}" if language else "text"
    if column in texts:
        return column
    if not texts or not language or (texts == ["text"] and language == "en"):
        return next(iter(texts), "")
    choices = " or ".join(f'language="{name.removeprefix("text").removeprefix("_")}"' for name in texts)
    raise ValueError(f"{root} has no column {column}: its texts are {', '.join(texts)}; take {choices}, or add it")
