"""Audit of a data set: what a data notebook shows before anything is trained.

Counts, text lengths, duplicates within a split, leaks between splits, pictures that cannot be read. A leak is an id, a
group, a text (ignoring case, spacing and links) or a picture that occurs in two splits. Pictures are compared by a
256-bit difference hash: in 17x16 grey pixels, is each one darker than its right neighbour? Resized or recompressed
copies differ in a few bits (N. Krawetz, "Kind of Like That", 2013,
https://www.hackerfactor.com/blog/index.php?/archives/529-Kind-of-Like-That.html).
"""

import re
import unicodedata
import warnings
from itertools import combinations
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
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a picture that is only odd can be read
        hashes, unreadable = _hashes(tables)
    return {
        "counts": _counts(tables, classes),
        "text_lengths": pd.DataFrame([_lengths(table["text"]) for table in tables.values()], index=list(tables)),
        "duplicates": pd.DataFrame(_duplicates(tables, hashes), columns=["what", "split", "values", "rows", "example"]),
        "leaks": pd.DataFrame(_leaks(tables, hashes), columns=["what", "first", "second", "values", "example"]),
        "unreadable": pd.DataFrame(unreadable, columns=["split", "id", "image", "error"]),
    }


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


def _counts(tables, classes) -> pd.DataFrame:
    counts = pd.DataFrame({split: table["label"].value_counts() for split, table in tables.items()})
    labels = [*range(len(classes)), *([-1] if -1 in counts.index else [])]
    return counts.reindex(labels).fillna(0).astype(int).set_axis([*classes, "unknown"][: len(labels)])


def _lengths(texts: pd.Series) -> dict:
    words, characters = texts.str.split().str.len(), texts.str.len()
    return {
        "words_median": words.median(),
        "words_longest": words.max(),
        "characters_median": characters.median(),
        "characters_longest": characters.max(),
        "empty": int((words == 0).sum()),
    }


def _normalised(text: str) -> str:
    text = unicodedata.normalize("NFKC", re.sub(r"https?://\S+|(\bRT )?@\w+", " ", text)).casefold()
    return " ".join("".join(" " if unicodedata.category(c)[0] in "PS" else c for c in text).split())


def _keys(table: pd.DataFrame) -> dict[str, pd.Series]:
    """What is compared for equality: texts without links, mentions, punctuation and case, if they are not empty."""
    texts = table["text"].map(_normalised)
    return {"id": table["id"], "group": table["group"], "text": texts[texts != ""]}


def _duplicates(tables, hashes) -> list[tuple]:
    rows = []
    for split, table in tables.items():
        for what, values in _keys(table).items():
            repeated = values[values.duplicated(keep=False)]
            if what != "group":  # groups recur by design
                rows.append((what, split, repeated.nunique(), len(repeated), next(iter(repeated), None)))
        paths, codes = hashes[split]
        pairs = [(i, j) for i, j in near_pairs(codes, codes) if i < j]
        example = tuple(Path(paths[k]).name for k in pairs[0]) if pairs else None
        rows.append(("picture", split, len(pairs), len({k for pair in pairs for k in pair}), example))
    return rows


def _leaks(tables, hashes) -> list[tuple]:
    rows, keys = [], {split: _keys(table) for split, table in tables.items()}
    for first, second in combinations(tables, 2):
        for what in ("id", "group", "text"):
            common = sorted(set(keys[first][what]) & set(keys[second][what]))
            rows.append((what, first, second, len(common), next(iter(common), None)))
        (paths, codes), (other_paths, other_codes) = hashes[first], hashes[second]
        pairs = near_pairs(codes, other_codes)
        example = (Path(paths[pairs[0][0]]).name, Path(other_paths[pairs[0][1]]).name) if pairs else None
        rows.append(("picture", first, second, len(pairs), example))
    return rows


def _hashes(tables) -> tuple[dict, list[tuple]]:
    """Per split: paths and hashes (N, 256) of its distinct readable pictures; and the rows that cannot be read."""
    hashes, unreadable = {}, []
    for split, table in tables.items():
        rows = table[table["image"].notna()].drop_duplicates("image")
        codes = {}  # by path
        for row in tqdm(rows.itertuples(), f"{split}: pictures", len(rows), delay=2, leave=False):
            try:
                codes[row.image] = picture_hash(pictures.open_picture(row.image, (256, 256)))
            except (OSError, ValueError) as error:
                unreadable.append((split, row.id, row.image, str(error)))
        hashes[split] = list(codes), np.array(list(codes.values()), dtype=bool).reshape(len(codes), 256)
    return hashes, unreadable
