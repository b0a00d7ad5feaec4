"""The `check` command: the audit of a data set as text, and whether anything is wrong with it."""

import argparse
from pathlib import Path

import ftfy
import numpy as np
import pandas as pd

from mmutils.data import SPLITS, dataset, examples, option_names
from mmutils.data.tools.audit import audit_tables
from mmutils.data.tools.loading import require_root
from mmutils.runs.parameters import printable


def main(options: argparse.Namespace) -> int:
    """Print the audit; 0 when nothing is wrong, 1 otherwise, 2 for a data set that is not there or cannot be read."""
    tables, problems, chosen = {}, [], dict(entry.partition("=")[::2] for entry in options.option)
    try:
        missing = {"missing": "none"} if "missing" in option_names(options.data) else {}
        if options.root and not Path(options.root).exists():
            raise ValueError(f"there is no {options.root}: give the folder or archive of {options.data} as --root")
        require_root(options.data, options.root)
        if wrong := [entry for entry in options.option if entry.find("=") < 1]:
            raise ValueError(f"--option {wrong[0]}: give NAME=VALUE, as test=test_unseen")
        for split in SPLITS:
            try:
                tables[split] = examples(options.data, options.root, split, **missing | chosen)
            except FileNotFoundError as error:
                problems.append(f"{split}: {error}")
    except (ValueError, OSError) as error:
        print(printable(error))
        return 2
    if tables:
        problems += _audit(dataset(options.data), tables, chosen)
    print("\n" + ("\n".join(printable(f"WRONG: {problem}") for problem in problems) or "nothing is wrong"))
    return 1 if problems else 0


def _audit(module, tables: dict[str, pd.DataFrame], chosen: dict[str, str]) -> list[str]:
    """Print the audit; what is wrong, and where to ask for what is missing."""
    audited, classes, problems = audit_tables(tables, module.CLASSES), list(module.CLASSES), []
    where = f"; ask for it at {module.WHERE}" if hasattr(module, "WHERE") else ""
    counts = audited["counts"].astype(str)
    for split, table in tables.items():
        official = module.official(split, **chosen) if hasattr(module, "official") else None
        by_class = np.ndim(official) > 0 and (table["label"] >= 0).any()  # else in all, or None
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
    duplicates, leaks = (audited[name][audited[name]["values"] > 0] for name in ("duplicates", "leaks"))
    for row in leaks[leaks["what"].isin(["id", "group"])].to_dict("records"):
        problems.append("{values:,} {what}s are in {first} and {second}, such as {example!r}".format(**row))
    shown = {"examples": counts, "lengths of texts": audited["text_lengths"].T}
    shown |= {"duplicates": duplicates, "leaks": leaks}
    with pd.option_context("display.width", 160, "display.max_columns", None, "display.max_colwidth", 60):
        for title, table in shown.items():
            print(printable(f"{title}\n{table}\n" if len(table) else f"{title}: none\n"))
    broken = {split: sum(ftfy.fix_text(text) != text for text in table["text"]) for split, table in tables.items()}
    listed = ", ".join(f"{number:,} in {split}" for split, number in broken.items())
    print(f"texts with broken encodings or HTML entities, which ftfy would mend: {listed}")
    return problems
