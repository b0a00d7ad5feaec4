"""Hateful Memes (Kiela et al. 2020, https://arxiv.org/abs/2005.04790): a picture with its text -> hateful or not.

- "seen" is the first phase (the paper's first numbers), "unseen" the second: never mix scores on them. The column
  `source` names the file of a row. dev_seen and dev_unseen share 400 memes; neither is trained on or tested on.
- test files may come without labels: -1. Mirrors have ids as zero-padded strings and lack many pictures.
- Memes with the same words are made to confound each other: `group` is a digest of the text, ignoring case and spaces,
  so that predictions, which hold the group, hold no text.
"""

import hashlib
from pathlib import Path

import pandas as pd

from mmutils.data import SPLITS, check, inside
from mmutils.data.tools import reading
from mmutils.data.tools.archive import folder
from mmutils.data.tools.reading import check_choice, storable

CLASSES = ("not hateful", "hateful")
OFFICIAL = {"train": (5481, 3019), "dev_seen": (253, 247), "dev_unseen": (340, 200)}  # by file: examples of each class
OFFICIAL |= {"test_seen": (510, 490), "test_unseen": (1250, 750)}
LICENCE = "Hateful Memes is under Facebook's research licence: no other use, no passing on"
WHERE = "https://www.drivendata.org/competitions/64/hateful-memes/"


def examples(
    root, split: str, val: str = "dev_unseen", test: str = "test_seen", missing: str = "error", language: str = "en"
) -> pd.DataFrame:
    """Table of examples in the order of the file; further column: source.

    Args:
        root: the folder, or an archive of it; language: "en" only.
        val, test: the files that these splits are read from, as "dev_seen" and "test_unseen".
        missing: "error", "drop" or "none" for a meme without its picture (see `settle_missing`).
    """
    check_choice("split", split, SPLITS)
    check_choice("val", val, ("dev_unseen", "dev_seen"))
    check_choice("test", test, ("test_seen", "test_unseen"))
    check_choice("language", language, ("en",))
    home, source = folder(root), {"train": "train", "val": val, "test": test}[split]
    names = list(dict.fromkeys(f"{name}.jsonl" for name in (source, source.removesuffix("_seen"))))  # in both phases
    path = next((Path(home, name) for name in names if home and Path(home, name).is_file()), None)
    if path is None:
        others = ", ".join(file.name for file in files(home)) if home else ""
        hint = 'Give the folder with the .jsonl files and img/ as root, or take val="dev_seen", test="test_unseen"'
        raise FileNotFoundError(f"no {' or '.join(names)} in {home!r}; found: {others or 'none'}. {hint}; from {WHERE}")
    rows = [_row(line, home, f"{path}, line {number}") for number, line in reading.lines(path)]
    if not rows:
        raise ValueError(f"{path} has no rows: fetch it again from {WHERE}")
    table = pd.DataFrame(rows).assign(source=source)
    plain = table["text"].str.casefold().str.split().str.join(" ")
    table.insert(1, "group", [hashlib.sha256(text.encode()).hexdigest()[:16] for text in plain])
    table = reading.settle_missing(table, missing, path, f"Put the folder img into {home} (from {WHERE})")
    return check(table, CLASSES, str(path))


def files(root) -> list[Path]:
    """The files of memes that are there; the pictures are too many."""
    return sorted(Path(folder(root)).glob("*.jsonl"))


def _row(line: str, home, where: str) -> dict:
    """id, image, text and label of a line; ValueError, with `where`, for a line that is none."""
    row = reading.json_object(line, where)
    if lacking := [key for key in ("id", "img", "text") if key not in row]:
        raise ValueError(f"{where} lacks {', '.join(lacking)}; it has {line[:200]}")
    label = row.get("label")
    rules = {
        "id must be a whole number or a string": type(row["id"]) in (int, str) and row["id"] != "",
        "img and text must be strings": isinstance(row["img"], str) and isinstance(row["text"], str),
        "half a surrogate pair, which is no UTF-8": storable(f"{row['id']}{row['text']}"),
        f"label must be 0 or 1, or missing where it is unknown, not {label!r}": label in (None, 0, 1),
    }
    if broken := [rule for rule, holds in rules.items() if not holds]:
        raise ValueError(f"{where}: {broken[0]}; given {line[:200]}")
    label, image = -1 if label is None else int(label), inside(home, row["img"], where)
    return {"id": str(row["id"]).zfill(5), "image": image, "text": row["text"], "label": label}
