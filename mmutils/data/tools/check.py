"""The `check` command: the audit of a data set as text, and whether anything is wrong with it."""

import argparse
from pathlib import Path

import ftfy
import numpy as np
import pandas as pd

from mmutils.data import SPLITS, dataset, examples, option_names, require_root
from mmutils.data.tools.audit import audit_tables
from mmutils.runs.parameters import printable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `python -m mmutils.data check` takes."""
    parser.add_argument("data", help="data set: a module of mmutils/data")
    parser.add_argument("--root", help="its folder or archive; none for built-in data")
    parser.add_argument(
        "--option", action="append", default=[], metavar="NAME=VALUE", help="of the data set, as test=test_unseen"
    )


def main(options: argparse.Namespace) -> int:
    """Print the audit; 0 when nothing is wrong, 1 otherwise, 2 for a data set that is not there or cannot be read."""
    try:
        module, tables, problems = dataset(options.data), {}, []
        if options.root and not Path(options.root).exists():
            raise ValueError(f"there is no {options.root}: give the folder or archive of {options.data} as --root")
        require_root(options.data, options.root)
        chosen = dict(_option(entry) for entry in options.option)
        more = ({"missing": "none"} if "missing" in option_names(options.data) else {}) | chosen
        for split in SPLITS:
            try:
                tables[split] = examples(options.data, options.root, split, **more)
            except FileNotFoundError as error:
                problems.append(f"{split}: {error}")
    except (ValueError, OSError) as error:
        print(printable(error))
        return 2
    if tables:
        audited = audit_tables(tables, module.CLASSES)
        published = getattr(module, "official", lambda split, **_: None)
        official = {split: published(split, **chosen) for split in tables}
        print(_shown("examples", _beside_official(module.CLASSES, official, tables, audited["counts"])))
        print("\n" + _shown("lengths of texts", audited["text_lengths"].T))
        for kind in ("duplicates", "leaks"):
            rows = audited[kind][audited[kind]["values"] > 0]
            print(f"\n{_shown(kind, rows) if len(rows) else kind + ': none'}")
        broken = {split: sum(ftfy.fix_text(text) != text for text in table["text"]) for split, table in tables.items()}
        print("\ntexts with broken encodings or HTML entities, which ftfy would mend: " + _listed(broken))
        problems += _problems(module, official, tables, audited)
    print("\n" + ("\n".join(printable(f"WRONG: {problem}") for problem in problems) or "nothing is wrong"))
    return 1 if problems else 0


def _shown(title: str, table: pd.DataFrame) -> str:
    with pd.option_context("display.width", 160, "display.max_columns", None, "display.max_colwidth", 60):
        return printable(f"{title}\n{table}")


def _listed(numbers: dict[str, int]) -> str:
    return ", ".join(f"{number:,} in {name}" for name, number in numbers.items())


def _option(entry: str) -> tuple[str, str]:
    """Name and value of an option of the command line, NAME=VALUE; the data set converts it."""
    name, sign, value = entry.partition("=")
    if not (name and sign):
        raise ValueError(f"--option {entry}: give NAME=VALUE, as test=test_unseen")
    return name, value


def _beside_official(classes, official: dict, tables: dict[str, pd.DataFrame], counts: pd.DataFrame) -> pd.DataFrame:
    """The counts as text, with "(not N)" where the official number is another."""
    shown = counts.astype(str)
    for split, numbers in official.items():
        if _known(numbers, tables[split]):
            wrong = counts.loc[list(classes), split] != numbers
            for name, number in zip(classes, numbers, strict=True):
                shown.loc[name, split] += f" (not {number})" if wrong[name] else ""
    return shown


def _known(official, table: pd.DataFrame) -> bool:
    """Whether there are numbers of each class to compare: officially not just a sum, and here not without labels."""
    return np.ndim(official) > 0 and bool((table["label"] >= 0).any())


def _problems(module, official: dict, tables: dict[str, pd.DataFrame], audited: dict[str, pd.DataFrame]) -> list[str]:
    """What is missing, unreadable, in two splits, or not of the official number; with where to ask for it."""
    where = f"; ask for it at {module.WHERE}" if hasattr(module, "WHERE") else ""
    problems, counts = [], audited["counts"]
    for split, table in tables.items():
        numbers = official[split]
        if numbers is not None and len(table) != (total := np.sum(numbers)):
            problems.append(f"{split} has {len(table):,} examples, officially {total:,}{where}")
        elif _known(numbers, table) and (counts.loc[list(module.CLASSES), split] != numbers).any():
            problems.append(f"{split} has other numbers in its classes than officially, see above{where}")
        absent = int(table["image"].isna().sum())
        if absent:
            problems.append(f"{split}: {absent:,} of {len(table):,} pictures are not there{where}")
    for row in audited["unreadable"].itertuples():
        problems.append(f"{row.split}, {row.id}: {row.error}")
    leaks = audited["leaks"]
    for row in leaks[leaks["what"].isin(["id", "group"]) & (leaks["values"] > 0)].to_dict("records"):
        problems.append("{values:,} {what}s are in {first} and {second}, such as {example!r}".format(**row))
    return problems
