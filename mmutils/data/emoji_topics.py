"""Emoji topics: a picture and its name, in English or Hindi -> which of Unicode's 7 groups the emoji belongs to.

Stands in for crisis tweets (picture + text in two languages -> topic): small, real, open, built in. The texts are names
of two or three words, so it does not show how well a model reads a tweet.

1,351 emoji; the split is by emoji, fixed in the table: train 55 %, val 15 %, test 30 % of each group. Emoji that differ
only in gender, age, colour, hour or direction, or whose drawings are nearly the same, form a *family*, which lies in
one split. The pool, for pretraining without labels, has 2,893 pictures: skin tones, flags, symbols, other styles. It
holds nothing that depicts an emoji of val or test or a relative of one. `python tests/data/build_emoji.py` makes both
tables again.
"""

import hashlib
import io
from pathlib import Path

import pandas as pd
import PIL
from PIL import Image

from mmutils.data import COLUMNS, SPLITS
from mmutils.data.tools.reading import check_choice
from mmutils.runs.files import cache_dir, cached_folder

CLASSES = ("Smileys & Emotion", "People & Body", "Animals & Nature", "Food & Drink")
CLASSES += ("Travel & Places", "Activities", "Objects")
LANGUAGES = ("en", "hi")
LICENCE = "pictures of Noto Emoji and Fluent Emoji and names of Unicode are open, see data/builtin/LICENSES.md"
FOLDER = Path(__file__).parent / "builtin"
LABELLED, POOL = FOLDER / "emoji.parquet", FOLDER / "emoji_pool.parquet"


def examples(root=None, split: str = "train", language: str = "en") -> pd.DataFrame:
    """Table of examples in "en" or "hi"; id is the emoji's code points, group its family; also emoji and subgroup."""
    rows = labelled(root, split, language).assign(label=lambda rows: rows["category"].map(CLASSES.index))
    rows = rows.rename(columns={"codepoints": "id", "family": "group", f"name_{language}": "text"})
    return rows[[*COLUMNS, "emoji", "subgroup"]]


def unlabelled(root=None, language: str = "en") -> pd.DataFrame:
    """The pictures of train with their own names, then the pool; all labels are -1."""
    train, rows = examples(root, "train", language), pd.read_parquet(POOL)
    ids = rows["codepoints"] + "." + rows["style"]
    pool = rows.assign(id=ids, image=_pictures(POOL, ids, rows["picture"]))
    pool = pool.rename(columns={"family": "group", f"name_{language}": "text"})
    return pd.concat([train, pool], ignore_index=True).assign(label=-1)[list(COLUMNS)]


def files(root=None) -> list[Path]:
    """The files that the built-in data depends on."""
    return [LABELLED, POOL]


def labelled(root, split: str, language: str) -> pd.DataFrame:
    """The labelled emoji of a split: emoji, codepoints, split, category (one of CLASSES), subgroup, family, name_en,
    name_hi, keywords_en, keywords_hi (lists), image (path of a PNG of 64x64 pixels with transparency)."""
    if root is not None:
        raise ValueError(f"the emoji data is built in, there is no folder to read: pass root=None, not {str(root)!r}")
    check_choice("split", split, SPLITS)
    check_choice("language", language, LANGUAGES)
    rows = pd.read_parquet(LABELLED)
    rows["image"] = _pictures(LABELLED, rows["codepoints"], rows["picture"])
    return rows[rows["split"] == split].drop(columns="picture").reset_index(drop=True)


def _pictures(source: Path, names: pd.Series, contents: pd.Series) -> list[str]:
    """Paths of the pictures of a table, in the order of `names`; unpacked once, as PNG files in the cache."""

    def unpack(folder: Path) -> None:
        for name, content in zip(names, contents, strict=True):
            Image.open(io.BytesIO(content)).save(folder / f"{name}.png", compress_level=1)

    key = hashlib.sha256(source.read_bytes() + PIL.__version__.encode()).hexdigest()[:16]
    folder = cached_folder(cache_dir() / "emoji" / key, unpack)
    return [str(folder / f"{name}.png") for name in names]
