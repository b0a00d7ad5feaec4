"""Emoji topics: a picture and its name, in English or Hindi -> which of Unicode's 7 groups the emoji belongs to.

Stands in for crisis tweets (picture + text in two languages -> topic): small, real, open, built in. The texts are names
of two or three words, so it does not show how well a model reads a tweet. Pictures, names and split: `builtin.emoji`.
"""

import pandas as pd

from mmutils.data import COLUMNS
from mmutils.data.builtin.emoji import GROUPS, LICENCE, files, labelled, pool

__all__ = ["CLASSES", "LICENCE", "examples", "files", "unlabelled"]
CLASSES = GROUPS


def examples(root=None, split: str = "train", language: str = "en") -> pd.DataFrame:
    """Table of examples in "en" or "hi"; id is the emoji's code points, group its family; also emoji and subgroup."""
    rows = labelled(root, split, language).assign(label=lambda rows: rows["category"].map(CLASSES.index))
    rows = rows.rename(columns={"codepoints": "id", "family": "group", f"name_{language}": "text"})
    return rows[[*COLUMNS, "emoji", "subgroup"]]


def unlabelled(root=None, language: str = "en") -> pd.DataFrame:
    """The pictures of train with their own names, then the pool; all labels are -1."""
    train = examples(root, "train", language).assign(label=-1)
    return pd.concat([train, pool(language)], ignore_index=True)[list(COLUMNS)]
