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
    note = "of the data set, as test=test_unseen"
    parser.add_argument("--option", action="append", default=[], metavar="NAME=VALUE", help=note)


def main(options: argparse.Namespace) -> int:
    """Print the audit; 0 when nothing is wrong, 1 otherwise, 2 for a data set that is not there or cannot be read."""
    try:
        tables, chosen, problems = _read(options)
    except (ValueError, OSError) as error:
        print(printable(error))
        return 2
    if tables:
        problems += _audit(dataset(options.data), tables, chosen)
    print("\n" + ("\n".join(printable(f"WRONG: {problem}") for problem in problems) or "nothing is wrong"))
    return 1 if problems else 0


def _read(options: argparse.Namespace) -> tuple[dict[str, pd.DataFrame], dict[str, str], list[str]]:
    """The tables of the splits that are there, the chosen options of the data set, and what is missing."""
    names = option_names(options.data)
    if options.root and not Path(options.root).exists():
        raise ValueError(f"there is no {options.root}: give the folder or archive of {options.data} as --root")
    require_root(options.data, options.root)
    wrong = [entry for entry in options.option if entry.find("=") < 1]
    if wrong:
        raise ValueError(f"--option {wrong[0]}: give NAME=VALUE, as test=test_unseen")
    chosen, tables, problems = dict(entry.split("=", 1) for entry in options.option), {}, []
    for split in SPLITS:
        try:
            missing = {"missing": "none"} if "missing" in names else {}
            tables[split] = examples(options.data, options.root, split, **missing | chosen)
        except FileNotFoundError as error:
            problems.append(f"{split}: {error}")
    return tables, chosen, problems


def _audit(module, tables: dict[str, pd.DataFrame], chosen: dict[str, str]) -> list[str]:
    """Print the audit; what is wrong, and where to ask for what is missing."""
    audited, classes = audit_tables(tables, module.CLASSES), list(module.CLASSES)
    where = f"; ask for it at {module.WHERE}" if hasattr(module, "WHERE") else ""
    published = getattr(module, "official", lambda split, **_: None)
    counts, problems = audited["counts"].astype(str), []
    for split, table in tables.items():
        official = published(split, **chosen)  # of each class, or in all, or None
        by_class = np.ndim(official) > 0 and (table["label"] >= 0).any()
        wrong = audited["counts"].loc[classes, split] != official if by_class else np.zeros(len(classes), bool)
        for name, number in zip(classes, official, strict=True) if by_class else ():
            counts.loc[name, split] += f" (not {number})" if wrong[name] else ""
        if official is not None and len(table) != np.sum(official):
            problems.append(f"{split} has {len(table):,} examples, officially {np.sum(official):,}{where}")
        elif wrong.any():
            problems.append(f"{split} has other numbers in its classes than officially, see above{where}")
        if absent := table["image"].isna().sum():
            problems.append(f"{split}: {absent:,} of {len(table):,} pictures are not there{where}")
    problems += [f"{row.split}, {row.id}: {row.error}" for row in audited["unreadable"].itertuples()]
    leaks = audited["leaks"][audited["leaks"]["values"] > 0]
    for row in leaks[leaks["what"].isin(["id", "group"])].to_dict("records"):
        problems.append("{values:,} {what}s are in {first} and {second}, such as {example!r}".format(**row))
    duplicates = audited["duplicates"][audited["duplicates"]["values"] > 0]
    _show("examples", counts)
    _show("\nlengths of texts", audited["text_lengths"].T)
    _show("\nduplicates", duplicates)
    _show("\nleaks", leaks)
    broken = {split: sum(ftfy.fix_text(text) != text for text in table["text"]) for split, table in tables.items()}
    listed = ", ".join(f"{number:,} in {split}" for split, number in broken.items())
    print(f"\ntexts with broken encodings or HTML entities, which ftfy would mend: {listed}")
    return problems


def _show(title: str, table: pd.DataFrame) -> None:
    with pd.option_context("display.width", 160, "display.max_columns", None, "display.max_colwidth", 60):
        print(printable(f"{title}\n{table}" if len(table) else f"{title}: none"))
