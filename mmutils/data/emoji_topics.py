"""Emoji topics: a picture and its name, in English or Hindi -> which of Unicode's 7 groups the emoji belongs to.

Stands in for crisis tweets (picture + text in two languages -> topic): small, real, open, built in. The texts are names
of two or three words, so it does not show how well a model reads a tweet. Pictures, names and split: `builtin.emoji`.
"""

import pandas as pd

from mmutils.data import COLUMNS
from mmutils.data.builtin.emoji import GROUPS, files, labelled, pool
from mmutils.data.tools.reading import check_choice

__all__ = ["CLASSES", "examples", "files", "unlabelled"]
CLASSES = GROUPS


def examples(root=None, split: str = "train", language: str = "en", text: str = "name") -> pd.DataFrame:
    """Table of examples; id is the emoji's code points, group its family, the same in both languages.

    language: "en" or "hi". text: "name", or "keywords" (CLDR's, which contain the name's words, joined by commas).
    Further columns: emoji, subgroup.
    """
    check_choice("text", text, ("name", "keywords"))
    rows = labelled(root, split, language)
    texts = rows[f"{text}_{language}"]
    return pd.DataFrame(
        {
            "id": rows["codepoints"],
            "group": rows["family"],
            "image": rows["image"],
            "text": texts if text == "name" else texts.map(", ".join),
            "label": rows["category"].map(CLASSES.index),
            "emoji": rows["emoji"],
            "subgroup": rows["subgroup"],
        }
    )


def unlabelled(root=None, language: str = "en", text: str = "name") -> pd.DataFrame:
    """The pictures of train with their own names or keywords, then the pool; all labels are -1."""
    train = examples(root, "train", language, text).assign(label=-1)
    return pd.concat([train, pool(language)], ignore_index=True)[list(COLUMNS)]
