"""Data sets: one module each, found by its name; and what all of them share.

A table of your own needs no module: it is the data set `table`. For another, add a file here with `CLASSES` (a tuple
of names, or `classes(root)`) and `examples(root, split, **options)` (a table with the columns id, group, image, text,
label, see `check`; `root=None` where it is built in). It may also define `files(root)`: paths of everything that the
examples depend on but their pictures, for `fingerprint`; `unlabelled(root, **options)`: the table that is pretrained
on, where that is not train; and, for the `check` command and model cards, `OFFICIAL`: published numbers of examples, in
all or of each class, by split, or by what the column `source` says; `WHERE`: where to ask for the data; `LICENCE`: a
sentence; `notes(root)`: lines on how the files were read. It imports no torch.
"""

import pandas as pd

from mmutils.data.contract import COLUMNS, SPLITS, check, require_labels
from mmutils.data.tools.audit import without_leaks
from mmutils.data.tools.loading import available, call, classes, dataset, fingerprint, option_names
from mmutils.data.tools.reading import check_choice, inside


def examples(name: str, root, split: str, **options) -> pd.DataFrame:
    """The table of examples of a split, which keeps the contract (see `check`).

    Args:
        root: the data set's folder or archive; None or "" where it is built in.
        options: what else its `examples` takes; converted to the types that it declares.

    Raises: ValueError for a wrong option or table; FileNotFoundError where there is no root, or files are missing.
    """
    return call(name, "examples", root, split, **options)


def unlabelled(name: str, root=None, leaks: str = "keep", **options) -> pd.DataFrame:
    """The examples to pretrain on, with all labels -1: those of the module's `unlabelled`, or else its train split.

    leaks: "drop" leaves out what is also in val or test (see `tools.audit`).
    """
    check_choice("leaks", leaks, ("keep", "drop"))
    own = hasattr(dataset(name), "unlabelled")
    table = call(name, "unlabelled", root, **options) if own else examples(name, root, "train", **options)
    if leaks == "drop":
        table = without_leaks(table, [examples(name, root, split, **options) for split in SPLITS[1:]])
    return table.assign(label=-1)


def tables(
    name: str, root=None, limit: int = 0, language: str = "", labelled: bool = False, leaks: str = "keep", **options
) -> dict[str, pd.DataFrame]:
    """The table of examples of each split (see `examples` for the arguments that are not listed).

    Args:
        limit: number of examples of a split (see `subset`), 0 for all.
        language: "" where the data has only one.
        labelled: whether every split needs labels (see `require_labels`).
        leaks: "drop" leaves out of train what is also in val or test (see `tools.audit`).
    """
    check_choice("leaks", leaks, ("keep", "drop"))
    options |= {"language": language} if language else {}
    splits = {split: examples(name, root, split, **options) for split in SPLITS}
    if leaks == "drop":
        splits["train"] = without_leaks(splits["train"], [splits[split] for split in SPLITS[1:]])
    splits = {split: subset(table, limit) for split, table in splits.items()}
    if labelled:
        require_labels(splits)
    return splits


def subset(examples: pd.DataFrame, limit: int) -> pd.DataFrame:
    """At most `limit` of the examples, taken from each class in turn, in their old order; all of them for 0."""
    if limit < 0:
        raise ValueError(f"limit={limit}: give a number of examples, or 0 for all")
    turn = examples.groupby("label").cumcount().sort_values(kind="stable")
    return examples.loc[sorted(turn.index[: limit or None])].reset_index(drop=True)


def describe(name: str, root, tables: dict[str, pd.DataFrame], language: str | None = None) -> dict:
    """What a record says about its data: name, language, fingerprint, examples by split, whether it is built in."""
    sizes = {split: len(table) for split, table in tables.items()}
    description = {"name": name, "language": language, "fingerprint": fingerprint(name, root or None)}
    return description | {"splits": sizes, "built_in": not root}
