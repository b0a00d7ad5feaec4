"""The `check` command: the audit of a data set as text, and whether anything is wrong with it."""

import argparse
import inspect

import pandas as pd

from mmutils.data import SPLITS, load
from mmutils.data.audit import audit_tables


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `python -m mmutils.data check` takes."""
    parser.add_argument("data", help="data set: a module of mmutils/data")
    parser.add_argument("--root", help="its folder; none for built-in data")


def main(options: argparse.Namespace) -> int:
    """Print the audit; 0 when nothing is wrong, 1 otherwise, 2 for a data set that is unknown or not there."""
    try:
        module = load(options.data)
        more = {"missing": "none"} if "missing" in inspect.signature(module.examples).parameters else {}
        tables = {split: module.examples(options.root, split, **more) for split in SPLITS}
    except (ValueError, FileNotFoundError) as error:
        print(error)
        return 2
    found = audit_tables(tables, module.CLASSES)
    print(_shown("examples", found["counts"]), _shown("lengths of texts", found["text_lengths"].T), sep="\n\n")
    problems = _problems(module, tables, found)
    for kind in ("duplicates", "leaks"):
        rows = found[kind][found[kind]["values"] > 0]
        print(f"\n{_shown(kind, rows) if len(rows) else kind + ': none'}")
    print("\n" + ("\n".join(f"WRONG: {problem}" for problem in problems) or "nothing is wrong"))
    return 1 if problems else 0


def _shown(title: str, table: pd.DataFrame) -> str:
    with pd.option_context("display.width", 160, "display.max_columns", None, "display.max_colwidth", 60):
        return f"{title}\n{table}"


def _problems(module, tables: dict[str, pd.DataFrame], found: dict[str, pd.DataFrame]) -> list[str]:
    """What is missing, unreadable, in two splits, or not of the official number; with where to ask for it."""
    where = f"; ask for it at {module.WHERE}" if hasattr(module, "WHERE") else ""
    problems = []
    for split, table in tables.items():
        official = getattr(module, "OFFICIAL", {}).get(split, len(table))
        if len(table) != official:
            problems.append(f"{split} has {len(table):,} examples, officially {official:,}{where}")
        absent = int(table["image"].isna().sum())
        if absent:
            problems.append(f"{split}: {absent:,} of {len(table):,} pictures are not there{where}")
    for row in found["unreadable"].itertuples():
        problems.append(f"{row.split}: {row.image} cannot be read ({row.error})")
    leaks = found["leaks"]
    for row in leaks[leaks["what"].isin(["id", "group"]) & (leaks["values"] > 0)].to_dict("records"):
        problems.append("{values:,} {what}s are in {first} and {second}, such as {example!r}".format(**row))
    return problems
