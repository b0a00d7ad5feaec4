"""Emoji memes: a picture of one emoji with the name of another as its caption -> do the two belong together?

Stands in for memes whose meaning lies in picture and text *together* (Kiela et al., 2020,
https://arxiv.org/abs/2005.04790): label 1 when the two come from different groups of `emoji_topics`. Each picture, and
each caption, occurs equally often with both labels, so either alone has an AUROC of exactly 0.5. No pair occurs twice,
no emoji is in two splits. `group` is the picture's family: pairs that show nearly the same drawing are tied.
"""

import hashlib
from itertools import count, product

import pandas as pd

from mmutils.data import COLUMNS
from mmutils.data.emoji_topics import LICENCE, files, labelled, unlabelled  # each picture with its own name

__all__ = ["CLASSES", "LICENCE", "examples", "files", "unlabelled"]
CLASSES = ("match", "mismatch")
ROUNDS = {"train": 4, "val": 2, "test": 2}  # each picture occurs this often with each label


def examples(root=None, split: str = "train", language: str = "en") -> pd.DataFrame:
    """Table of examples in "en" or "hi", in a fixed mixed order: `ROUNDS` pairs of each label for every picture.

    id is "<picture's code points>+<caption's>". Further columns: image_emoji, text_emoji, image_class, text_class.
    """
    rows = labelled(root, split, language).set_index("codepoints", drop=False)
    pairs = sorted(_pairs(rows["category"], split), key=lambda pair: _digest(split, *pair))
    picture, caption = (rows.loc[list(side)].reset_index(drop=True) for side in zip(*pairs, strict=True))
    table = picture.rename(columns={"family": "group", "emoji": "image_emoji", "category": "image_class"})
    table["id"] = picture["codepoints"] + "+" + caption["codepoints"]
    table["text"], table["text_emoji"] = caption[f"name_{language}"], caption["emoji"]
    table["text_class"] = caption["category"]
    table["label"] = (picture["category"] != caption["category"]).astype(int)
    return table[[*COLUMNS, "image_emoji", "text_emoji", "image_class", "text_class"]]


def _pairs(categories: pd.Series, split: str) -> set[tuple[str, str]]:
    """Pairs (picture, caption) of code points: per round, one permutation within each category and one across them.

    A permutation is a circle in which each picture takes the name that lies `offset` further on. Across the categories,
    which lie side by side, an offset from the largest one's size to N minus it always ends in another category.
    A permutation that would repeat a pair is drawn again. categories: that of each emoji, by code points.
    """
    members, pairs = categories.groupby(categories).groups, set()  # members: category -> code points
    largest = max(map(len, members.values()))
    for number, category in product(range(ROUNDS[split]), [*members, None]):
        for attempt in count():
            if category is None:
                key = f"{split} {number} {attempt}"
                order = [emoji for name in _shuffled(members, key) for emoji in _shuffled(members[name], key)]
                offset = largest + _digest(key) % (len(order) - 2 * largest + 1)
            else:
                order, offset = _shuffled(members[category], f"{split} {number} {category} {attempt}"), 1
            drawn = set(zip(order, order[offset:] + order[:offset], strict=True))
            if not drawn & pairs:
                break
        pairs |= drawn
    return pairs


def _shuffled(items, key: str) -> list[str]:
    """Order by hash: random to the eye, and the same with every library version (unlike a random generator's)."""
    return sorted(items, key=lambda item: _digest(key, item))


def _digest(*parts: str) -> int:
    return int.from_bytes(hashlib.sha256(" ".join(parts).encode()).digest()[:8])
