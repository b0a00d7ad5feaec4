"""The `check` command: the audit of a data set as text, and whether anything is wrong with it."""

import argparse
import inspect
from pathlib import Path

import ftfy
import numpy as np
import pandas as pd

from mmutils.data import SPLITS, load
from mmutils.data.audit import audit_tables


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `python -m mmutils.data check` takes."""
    parser.add_argument("data", help="data set: a module of mmutils/data")
    parser.add_argument("--root", help="its folder or archive; none for built-in data")


def main(options: argparse.Namespace) -> int:
    """Print the audit; 0 when nothing is wrong, 1 otherwise, 2 for a data set or a folder that is not there."""
    try:
        module, tables, problems = load(options.data), {}, []
        if options.root and not Path(options.root).exists():
            raise ValueError(f"there is no {options.root}: give the folder or archive of {options.data} as --root")
        more = {"missing": "none"} if "missing" in inspect.signature(module.examples).parameters else {}
        for split in SPLITS:
            try:
                tables[split] = module.examples(options.root, split, **more)
            except FileNotFoundError as error:
                problems.append(f"{split}: {error}")
    except (ValueError, OSError) as error:
        print(error)
        return 2
    if tables:
        found = audit_tables(tables, module.CLASSES)
        print(_shown("examples", _beside_official(module, tables, found["counts"])))
        print("\n" + _shown("lengths of texts", found["text_lengths"].T))
        for kind in ("duplicates", "leaks"):
            rows = found[kind][found[kind]["values"] > 0]
            print(f"\n{_shown(kind, rows) if len(rows) else kind + ': none'}")
        broken = {split: sum(ftfy.fix_text(text) != text for text in table["text"]) for split, table in tables.items()}
        print("\ntexts with broken encodings or HTML entities, which ftfy would mend: " + _listed(broken))
        problems += _problems(module, tables, found)
    print("\n" + ("\n".join(f"WRONG: {problem}" for problem in problems) or "nothing is wrong"))
    return 1 if problems else 0


def _shown(title: str, table: pd.DataFrame) -> str:
    with pd.option_context("display.width", 160, "display.max_columns", None, "display.max_colwidth", 60):
        return f"{title}\n{table}"


def _listed(numbers: dict[str, int]) -> str:
    return ", ".join(f"{number:,} in {name}" for name, number in numbers.items())


def _beside_official(module, tables: dict[str, pd.DataFrame], counts: pd.DataFrame) -> pd.DataFrame:
    """The counts as text, with "(not N)" where the official number is another."""
    shown = counts.astype(str)
    for split, official in getattr(module, "OFFICIAL", {}).items():
        if split in counts and _known(official, tables[split]):
            wrong = counts.loc[list(module.CLASSES), split] != official
            for name, number in zip(module.CLASSES, official, strict=True):
                shown.loc[name, split] += f" (not {number})" if wrong[name] else ""
    return shown


def _known(official, table: pd.DataFrame) -> bool:
    """Whether there are numbers of each class to compare: officially not just a sum, and here not without labels."""
    return np.ndim(official) > 0 and bool((table["label"] >= 0).any())


def _problems(module, tables: dict[str, pd.DataFrame], found: dict[str, pd.DataFrame]) -> list[str]:
    """What is missing, unreadable, in two splits, or not of the official number; with where to ask for it."""
    where = f"; ask for it at {module.WHERE}" if hasattr(module, "WHERE") else ""
    problems, counts = [], found["counts"]
    for split, table in tables.items():
        official = np.asarray(getattr(module, "OFFICIAL", {}).get(split, len(table)))
        if len(table) != official.sum():
            problems.append(f"{split} has {len(table):,} examples, officially {official.sum():,}{where}")
        elif _known(official, table) and (counts.loc[list(module.CLASSES), split] != official).any():
            problems.append(f"{split} has other numbers in its classes than officially, see above{where}")
        absent = int(table["image"].isna().sum())
        if absent:
            problems.append(f"{split}: {absent:,} of {len(table):,} pictures are not there{where}")
    for row in found["unreadable"].itertuples():
        problems.append(f"{row.split}: {row.image} cannot be read ({row.error})")
    leaks = found["leaks"]
    for row in leaks[leaks["what"].isin(["id", "group"]) & (leaks["values"] > 0)].to_dict("records"):
        problems.append("{values:,} {what}s are in {first} and {second}, such as {example!r}".format(**row))
    return problems
