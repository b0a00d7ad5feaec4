"""CrisisMMD v2.0, informative task: does a tweet with its picture help in a disaster, or not?

Its splits are not those of the humanitarian task: tweets of one's test are in the other's train, so a model of one task
must not be tested on the other.
"""

from pathlib import Path

import pandas as pd

from mmutils.data import crisismmd
from mmutils.data.crisismmd import WHERE  # noqa: F401, for the `check` command

CLASSES = ("informative", "not_informative")
OFFICIAL = {"train": 9601, "val": 1573, "test": 1534}  # rows of "agreed"


def examples(
    root,
    split: str,
    language: str = "en",
    which: str = "agreed",
    target: str = "text",
    missing: str = "error",
    repair: bool = False,
    translations: str | None = None,
) -> pd.DataFrame:
    """Table of examples: arguments, columns and errors as in `crisismmd.examples`."""
    options = (language, which, target, missing, repair, translations)
    return crisismmd.read_task("informative", CLASSES, root, split, *options)


def official(split: str, which: str = "agreed", **_) -> int | None:
    """Published number of examples; there is none of "all"."""
    return OFFICIAL[split] if which == "agreed" else None


def files(root) -> list[Path]:
    """The split files and translations that are there."""
    return crisismmd.files(root, "informative")
