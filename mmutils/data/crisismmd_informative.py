"""CrisisMMD v2.0, informative task: does a tweet with its picture help in a disaster, or not?

Files, options and further columns are those of `crisismmd`. Its splits are not those of the humanitarian task: tweets
of one's test are in the other's train, so a model of one task must not be tested on the other.
"""

from functools import partial
from pathlib import Path

from mmutils.data import crisismmd

CLASSES = ("informative", "not_informative")
OFFICIAL = {"train": 9601, "val": 1573, "test": 1534}  # rows of "agreed"
WHERE = crisismmd.WHERE


# Table of examples, from (root, split, language="en", ...): `crisismmd.table` says what else.
examples = partial(crisismmd.task_examples, "informative", CLASSES)


def official(split: str, which: str = "agreed", **_) -> int | None:
    """Published number of examples; there is none of "all"."""
    return OFFICIAL[split] if which == "agreed" else None


def files(root) -> list[Path]:
    """The split files and translations that are there."""
    return crisismmd.files(root, "informative")
