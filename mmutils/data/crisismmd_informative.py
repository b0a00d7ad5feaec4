"""CrisisMMD v2.0, informative task: does a tweet with its picture help in a disaster, or not?

Files, options and further columns are those of `crisismmd`. Its splits are not those of the humanitarian task: tweets
of one's test are in the other's train, so a model of one task must not be tested on the other.
"""

from pathlib import Path

import pandas as pd

from mmutils.data import crisismmd

CLASSES = ("informative", "not_informative")
OFFICIAL = {"train": 9601, "val": 1573, "test": 1534}  # rows of "agreed"
WHERE = crisismmd.WHERE


def examples(root, split: str, language: str = "en", **options) -> pd.DataFrame:
    """Table of examples, as `crisismmd.examples`; label ids are those of CLASSES."""
    return crisismmd.table("informative", CLASSES, root, split, language, **options)


def files(root) -> list[Path]:
    """The split files and translations that are there."""
    return crisismmd.files(root, "informative")
