"""Audit of a data set: counts, text lengths, duplicates in a split, leaks between splits, pictures that cannot be read.

A leak is an id, a group, a text (ignoring case, spacing and links) or a picture that occurs in two splits. Pictures are
compared by a 256-bit difference hash: in 17x16 grey pixels, is each one darker than its right neighbour? Resized or
recompressed copies differ in a few bits (N. Krawetz, "Kind of Like That", 2013, https://www.hackerfactor.com/blog/).
"""

import re
import unicodedata
import warnings
from collections.abc import Iterable
from itertools import chain, combinations
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from tqdm.auto import tqdm

from mmutils.data.tools import pictures

NEAR = 8  # bits of 256 in which two pictures may differ and still count as one


def audit_tables(tables: dict[str, pd.DataFrame], classes) -> dict[str, pd.DataFrame]:
    """Audit the tables of examples of all splits.

    For pictures, values are pairs of nearly identical files, rows the files in them; a file that several rows show
    counts once.

    Returns:
        counts: class x split, with a row "unknown" if there are labels of -1.
        text_lengths: split x words_median, words_longest, characters_median, characters_longest, empty (texts).
        duplicates: what ("id", "text", "picture"), split, values that occur more than once, their rows, example.
        leaks: what (also "group"), first and second split, values in both, example.
        unreadable: split, id, image, error.
    """
    counts = pd.DataFrame({split: table["label"].value_counts() for split, table in tables.items()})
    labels = [*range(len(classes)), *([-1] if -1 in counts.index else [])]
    counts = counts.reindex(labels).fillna(0).astype(int).set_axis([*classes, "unknown"][: len(labels)])
    texts = pd.concat({split: table["text"] for split, table in tables.items()})
    sizes = pd.DataFrame({"words": texts.str.split().str.len(), "characters": texts.str.len()})
    sizes = sizes.assign(empty=sizes["words"] == 0).groupby(level=0, sort=False)
    lengths = sizes.agg({"words": ["median", "max"], "characters": ["median", "max"], "empty": ["sum"]})
    lengths.columns = ["words_median", "words_longest", "characters_median", "characters_longest", "empty"]
    hashes, unreadable = _hashes(tables)
    values = {split: table.assign(text=table["text"].map(wording)) for split, table in tables.items()}
    duplicates, leaks = [], []
    for split, (files, codes) in hashes.items():
        for what in ("id", "text"):  # groups recur by design
            repeated = values[split][what][values[split][what].duplicated(keep=False) & (values[split][what] != "")]
            duplicates.append((what, split, repeated.nunique(), len(repeated), next(iter(repeated), None)))
        pairs = [(files[i], files[j]) for i, j in near_pairs(codes, codes) if i < j]
        example = tuple(Path(path).name for path in pairs[0]) if pairs else None
        duplicates.append(("picture", split, len(pairs), len({*chain(*pairs)}), example))
    for first, second in combinations(tables, 2):
        for what in ("id", "group", "text"):
            common = sorted((set(values[first][what]) & set(values[second][what])) - {""})
            leaks.append((what, first, second, len(common), next(iter(common), None)))
        (files, codes), (other_files, other_codes) = hashes[first], hashes[second]
        pairs = [(files[i], other_files[j]) for i, j in near_pairs(codes, other_codes)]
        example = tuple(Path(path).name for path in pairs[0]) if pairs else None
        leaks.append(("picture", first, second, len(pairs), example))
    return {
        "counts": counts,
        "text_lengths": lengths,
        "duplicates": pd.DataFrame(duplicates, columns=["what", "split", "values", "rows", "example"]),
        "leaks": pd.DataFrame(leaks, columns=["what", "first", "second", "values", "example"]),
        "unreadable": pd.DataFrame(unreadable, columns=["split", "id", "image", "error"]),
    }


def without_leaks(train: pd.DataFrame, others: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """The rows of train whose id, group, text and picture, as compared above, are in none of the others."""
    table = pd.concat(others)
    words, held = train["text"].map(wording), set(table["text"].map(wording)) - {""}
    hashes, _ = _hashes({"train": train, "others": table})
    (files, codes), (_, other) = hashes["train"], hashes["others"]
    pictures = {files[i] for i, _ in near_pairs(codes, other)}
    same = train["id"].isin(table["id"]) | train["group"].isin(table["group"])
    return train[~(same | words.isin(held) | train["image"].isin(pictures))].reset_index(drop=True)


def picture_hash(picture: Image.Image) -> np.ndarray:
    """Difference hash (256,) bool; transparent pixels count as white."""
    grey = pictures.on_white(picture).convert("L").resize((17, 16), Image.Resampling.LANCZOS)
    pixels = np.asarray(grey)  # (16, 17)
    return (pixels[:, 1:] > pixels[:, :-1]).ravel()


def near_pairs(first: np.ndarray, second: np.ndarray, distance: int = NEAR) -> list[tuple[int, int]]:
    """Rows i of first (N, bits) and j of second (M, bits), both bool, that differ in at most `distance` bits."""
    pairs, other = [], second.astype(np.float32)
    for start in range(0, len(first), 1024):  # a block at a time: memory stays flat
        block = first[start : start + 1024].astype(np.float32)
        differing = block.sum(1)[:, None] + other.sum(1) - 2 * block @ other.T  # (block, M)
        pairs += [(int(i) + start, int(j)) for i, j in np.argwhere(differing <= distance)]
    return pairs


def wording(text: str) -> str:
    """A text without links, mentions, punctuation and case; texts that share it count as the same."""
    text = unicodedata.normalize("NFKC", re.sub(r"https?://\S+|(\bRT )?@\w+", " ", text)).casefold()
    return " ".join("".join(" " if unicodedata.category(c)[0] in "PS" else c for c in text).split())


def _hashes(tables) -> tuple[dict, list[tuple]]:
    """Per split: paths and hashes (N, 256) of its distinct readable pictures; and the rows that cannot be read."""
    hashes, unreadable = {}, []
    for split, table in tables.items():
        rows, codes = table[table["image"].notna()].drop_duplicates("image"), {}  # codes: path -> hash
        with warnings.catch_warnings(action="ignore"):  # a picture that is only odd can be read
            for row in tqdm(rows.itertuples(), f"{split}: pictures", len(rows), delay=2, leave=False):
                try:
                    codes[row.image] = picture_hash(pictures.open_picture(row.image, (256, 256)))
                except (OSError, ValueError) as error:
                    unreadable.append((split, row.id, row.image, str(error)))
        hashes[split] = list(codes), np.array(list(codes.values()), dtype=bool).reshape(len(codes), 256)
    return hashes, unreadable
