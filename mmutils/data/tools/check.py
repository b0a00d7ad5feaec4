"""The `check` command: the audit of a data set as text, and whether anything is wrong with it."""

import argparse
import re
import textwrap
from contextlib import suppress
from pathlib import Path

import ftfy
import numpy as np
import pandas as pd

from mmutils.data import SPLITS, classes, dataset, examples, option_names
from mmutils.data.tools.audit import audit_tables
from mmutils.data.tools.loading import require_root
from mmutils.runs.parameters import show

DOUBT = "LOOK AT: "  # how a line begins that may be as it should be


def main(options: argparse.Namespace) -> int:
    """Print the audit; 0 when nothing is wrong, 1 otherwise, 2 for a data set that is not there or cannot be read."""
    tables, problems, chosen = {}, [], dict(entry.partition("=")[::2] for entry in options.option)
    try:
        if options.root and not Path(options.root).exists():
            raise ValueError(f"there is no {options.root}: give what {options.data} is read from as --root")
        require_root(options.data, options.root)
        if wrong := [entry for entry in options.option if entry.find("=") < 1]:
            raise ValueError(f"--option {wrong[0]}: give NAME=VALUE, as test=test_unseen")
        tolerant = {"missing": "none"} if "missing" in option_names(options.data) else {}
        for split in SPLITS:
            try:
                tables[split] = examples(options.data, options.root, split, **chosen)
            except FileNotFoundError as error:
                problems.append(f"{split}: {error}")
                with suppress(FileNotFoundError):
                    tables[split] = examples(options.data, options.root, split, **tolerant | chosen)
    except (ValueError, OSError) as error:
        show(_as_options(error))
        return 2
    problems += _audit(options, tables) if tables else []
    problems += _unlearnable(options, tables) if tables else []
    lines = [_as_options(problem if problem.startswith(DOUBT) else f"WRONG: {problem}") for problem in problems]
    show("\n" + ("\n".join(lines) or "nothing is wrong"))
    return 0 if all(line.startswith(DOUBT) for line in lines) else 1


def _as_options(message: object) -> str:
    """A message whose hints are options of this command."""
    return re.sub(r'\b(\w+)="(\w*)"', r"--option \1=\2", str(message))


def _unlearnable(options: argparse.Namespace, tables: dict[str, pd.DataFrame]) -> list[str]:
    """Classes that a labelled train split lacks, and labelled splits of one class, which cannot be scored."""
    names, problems = classes(options.data, options.root), []
    for split, table in tables.items():
        there = set(table["label"]) - {-1}
        lacking = ", ".join(name for number, name in enumerate(names) if number not in there)
        if there and (len(there) == 1 or (split == "train" and lacking)):
            problems.append(f"{split} has no example of {lacking}: add some, or give these rows to another class")
        elif there and lacking:
            problems.append(f"{DOUBT}{split} has no example of {lacking}, and says nothing about it")
    return problems


def _audit(options: argparse.Namespace, tables: dict[str, pd.DataFrame]) -> list[str]:
    """Print the audit; what is wrong, and where to ask for what is missing."""
    module, names = dataset(options.data), list(classes(options.data, options.root))
    audited, problems, other = audit_tables(tables, names), [], []
    where = f"; ask for it at {module.WHERE}" if hasattr(module, "WHERE") else ""
    counts = audited["counts"].astype(str)
    for split, table in tables.items():
        official = getattr(module, "OFFICIAL", {}).get(table["source"].iloc[0] if "source" in table else split)
        by_class = np.ndim(official) > 0 and (table["label"] >= 0).any()  # else in all, or None
        wrong = audited["counts"].loc[names, split] != official if by_class else np.zeros(len(names), bool)
        for name, number in zip(names, official, strict=True) if by_class else ():
            counts.loc[name, split] += f" (not {number})" if wrong[name] else ""
        if official is not None and len(table) != np.sum(official):
            other.append(f"{split} has {len(table):,} examples, officially {np.sum(official):,}")
        elif wrong.any():
            other.append(f"{split} has other numbers in its classes than officially, see above")
    if other:
        problems.append(f"not the official {options.data}, but another set or a part: {'; '.join(other)}{where}")
    problems += [f"{row.split}, {row.id}: {row.error}" for row in audited["unreadable"].itertuples()]
    duplicates, leaks = (audited[name][audited[name]["values"] > 0] for name in ("duplicates", "leaks"))
    advice = '; in a notebook -y "{options: {leaks: drop}}" leaves all such rows out of train'
    for row in leaks.to_dict("records"):
        noun = {"picture": "pair{} of nearly identical pictures"}.get(row["what"], row["what"] + "{}")
        noun = noun.format("s" * (row["values"] > 1)) + (" are" if row["values"] > 1 else " is")
        example = row["example"] if isinstance(row["example"], str) else " and ".join(row["example"])  # two pictures
        example = textwrap.shorten(example, 70, placeholder=" …")
        problem = f"{row['values']:,} {noun} in {row['first']} and {row['second']}, such as {example!r}"
        if row["first"] == "train":
            problem, advice = problem + advice, ""
        problems.append(problem if row["what"] == "id" else DOUBT + problem)  # official splits have such groups
    for note in module.notes(options.root) if hasattr(module, "notes") else ():
        show(note)
    shown = {"examples": counts, "lengths of texts": audited["text_lengths"].T}
    shown |= {"duplicates": duplicates, "leaks": leaks}
    with pd.option_context("display.width", 160, "display.max_columns", None, "display.max_colwidth", 60):
        for title, table in shown.items():
            show(f"{title}\n{table}\n" if len(table) else f"{title}: none\n")
    broken = {split: sum(ftfy.fix_text(text) != text for text in table["text"]) for split, table in tables.items()}
    listed = ", ".join(f"{number:,} in {split}" for split, number in broken.items())
    show(f"texts with broken encodings or HTML entities, which ftfy would mend: {listed}")
    return problems
