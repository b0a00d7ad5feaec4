"""What data set modules share: text, lines and tables read, choices from a list, and pictures in their folder."""

import csv
import io
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd


class UnsafeError(ValueError):
    """A name or an archive that is not to be trusted."""


def text(path: str | Path) -> str:
    """The content of a text file in UTF-8, with or without a byte order mark; ValueError names the line at fault."""
    content = Path(path).read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        number = content.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{path}, line {number} is not text in UTF-8 ({error.reason}): save it as UTF-8") from None


def lines(path: str | Path) -> list[tuple[int, str]]:
    """Number and content of each line that is not empty. Lines end with LF or CR LF; a CR inside one is a character."""
    numbered = enumerate(text(path).split("\n"), 1)
    return [(number, line.removesuffix("\r")) for number, line in numbered if line.strip()]


def tsv(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """A table of text, columns separated by tabs, without quoting; its index is the number of the line.

    ValueError, with the line: one of `columns` is missing or there twice, no rows, a row with more or fewer fields.
    """
    numbered = [(number, line.split("\t")) for number, line in lines(path)]
    rows = _frame(path, numbered, "no text may hold a tab or a newline")
    if not set(columns) <= set(rows) or not rows.columns.is_unique:
        problem = f"cannot be read as a table with tabs: its first line needs each of {', '.join(columns)} once"
        raise ValueError(f"{path} {problem}; it has {', '.join(rows) or 'no line'}")
    if rows.empty:
        raise ValueError(f"{path} has no rows: fetch it again")
    return rows


def _frame(path: str | Path, numbered: list[tuple[int, list[str]]], advice: str) -> pd.DataFrame:
    """A table from the numbers and fields of its lines, the first of which names the columns."""
    header = numbered[0][1] if numbered else []
    for number, fields in numbered:
        if len(fields) != len(header):
            problem = f"{len(fields)} fields, the header has {len(header)}; {advice}"
            raise ValueError(f"{path}, line {number} is no row of the table: {problem}; given {fields[:3]}")
    numbers, rows = [number for number, _ in numbered[1:]], [fields for _, fields in numbered[1:]]
    return pd.DataFrame(rows, numbers, header)


def json_object(line: str, where: str) -> dict:
    """The JSON object in a line; ValueError, with `where` (file and line), for a line that is none."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where} is not JSON: {error}") from None
    if not isinstance(row, dict):
        raise ValueError(f"{where} is no JSON object: {line[:200]}")
    return row


def table(path: str | Path) -> pd.DataFrame:
    """All cells of a CSV, TSV, JSON lines or parquet file as text, "" for none; its header in lower case.

    The index is the number of the line that a row begins in, in parquet that of the row. ValueError names the line.
    """
    kind = Path(path).suffix.casefold()
    if kind == ".parquet":
        rows = pd.read_parquet(path).reset_index(drop=True).rename(index=lambda number: number + 1)
    elif kind == ".jsonl":
        objects = {number: json_object(line, f"{path}, line {number}") for number, line in lines(path)}
        rows = pd.DataFrame(list(objects.values()), index=list(objects), dtype=object)
    elif kind in (".csv", ".tsv"):
        rows = _separated(path, kind)
    else:
        raise ValueError(f"{path} is no table by its name: give .csv, .tsv, .jsonl or .parquet")
    rows = rows.set_axis([str(name).strip().casefold() for name in rows], axis=1).astype(object)
    if rows.empty or not rows.columns.is_unique:
        problem = "has no rows" if rows.empty else "names a column twice"
        raise ValueError(f"{path} {problem}; its header is {', '.join(rows) or 'empty'}")
    read = rows.filter(regex="^(id|split|group|image|label|text|text_.*)$")
    for line, name, value in read.melt(ignore_index=False).itertuples():
        if not pd.api.types.is_scalar(value) or isinstance(value, bytes):
            raise ValueError(f"{path}, line {line}: {name} is a {type(value).__name__}: give a text or a number")
    return rows.where(rows.notna(), "").map(_cell)


def _separated(path: str | Path, kind: str) -> pd.DataFrame:
    """The rows of a CSV file, separated by what its first line has most of (, ; tab), or of a TSV file; with quotes."""
    content, rows, line = text(path), [], 1  # line: where the row that is read next begins
    mark = "\t" if kind == ".tsv" else max(",;\t", key=content.split("\n")[0].count)
    csv.field_size_limit(max(csv.field_size_limit(), len(content)))  # by default a cell has at most 131,072 characters
    reader = csv.reader(io.StringIO(content, newline=""), delimiter=mark, strict=True)
    try:
        for row in reader:
            rows += [(line, row)] if row else []
            line = reader.line_num + 1
    except csv.Error as error:
        raise ValueError(f"{path}, line {line} is no row of the table: {error}") from error
    return _frame(path, rows, f"put a text with {mark!r} in double quotes")


def _cell(value) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def class_names(labels: pd.Series) -> pd.Series:
    """Labels of a table as names of classes: without spaces around them, "nan" is none, and 1.0 is 1."""
    return labels.str.strip().replace(["(?i)^nan$", r"^([+-]?\d+)\.0+$"], ["", r"\1"], regex=True)


def storable(value: str) -> bool:
    """Whether a text can be written as UTF-8: half a surrogate pair, as JSON and file names can hold, cannot."""
    return not re.search("[\ud800-\udfff]", value)


def check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    """ValueError that lists the choices where an argument is none of them."""
    if value not in choices:
        raise ValueError(f"unknown {name} {value!r}: choose one of {', '.join(choices)}")


def inside(root: str | Path, name: str, where: str = "") -> str:
    """Path of a file under the folder `root`, from the name, relative to it, that a data set's file or archive gives.

    UnsafeError, with `where` (file and line of the name), if it is absolute, or leaves the folder by ".." or a link.
    """
    plain, problem = os.path.normpath(name.replace("\\", "/")), ""
    if plain.startswith("/") or re.match("[A-Za-z]:", plain):
        problem = "is absolute"
    elif plain.split("/")[0] == "..":
        problem = "leads out"
    elif not storable(plain) or "\0" in plain:
        problem = "is no name of a file"
    elif not Path(os.path.realpath(Path(root, plain))).is_relative_to(os.path.realpath(root)):
        problem = "leads out by a link"
    if problem:
        problem = f"{where}{': ' * bool(where)}the path {name!r} {problem}"
        raise UnsafeError(f"{problem}: files must lie in {root} and be named relative to it, as img/1.png")
    return str(Path(root, plain))


def settle_missing(table: pd.DataFrame, missing: str, file: Path, remedy: str) -> pd.DataFrame:
    """The table, where rows without their picture are refused ("error"), left out ("drop") or kept with image None.

    The index becomes 0..N-1. file, remedy: where the rows are from, and what puts the pictures there, for the error.
    """
    check_choice("missing", missing, ("error", "drop", "none"))
    there = table["image"].map(os.path.isfile)
    lacking = table.loc[~there, "image"]
    if missing == "error" and len(lacking):
        example = max(lacking) or "in a row that names none"
        problem = f"{len(lacking)} of {len(table)} pictures of {file} are missing, such as {example}. {remedy}"
        advice = 'or give missing="drop" to drop these, missing="none" for texts alone'
        raise FileNotFoundError(f"{problem}, {advice} (in a notebook as its parameter options: {{missing: drop}})")
    if missing == "drop" and not there.any():
        raise ValueError(f'none of the {len(table)} pictures of {file} are there: missing="drop" would leave nothing')
    table = table.assign(image=table["image"].where(there, None))
    return table[there | (missing != "drop")].reset_index(drop=True)
