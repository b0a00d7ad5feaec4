"""Hateful Memes: a picture with its text -> hateful or not.

Kiela et al. 2020, https://arxiv.org/abs/2005.04790. To be had under Facebook's research licence from the challenge's
page, https://www.drivendata.org/competitions/64/hateful-memes/, or from a mirror; it may not be passed on.

What one must know:
- "seen" is the first phase (the paper's first numbers), "unseen" the second; scores on them must not be mixed. The
  column `source` says which file a row is from. dev.jsonl and test.jsonl are the seen ones' old names.
- dev_seen and dev_unseen share 400 memes; neither is ever trained on or tested on here.
- test files may come without labels: -1. Mirrors have ids as zero-padded strings and lack many pictures.
- Memes with the same words or picture are made to confound each other, so `group` is the text, ignoring case and
  spaces: what has the same words is resampled together.
"""

import json
from pathlib import Path

import pandas as pd

from mmutils.data import SPLITS, check
from mmutils.data.archive import folder

CLASSES = ("not hateful", "hateful")
OFFICIAL = {  # examples of each class, by file
    "train": (5481, 3019),
    "dev_seen": (253, 247),
    "dev_unseen": (340, 200),
    "test_seen": (510, 490),
    "test_unseen": (1250, 750),
}
WHERE = "https://www.drivendata.org/competitions/64/hateful-memes/"
OLD = {"dev_seen": "dev", "test_seen": "test"}  # names in the first phase


def examples(
    root, split: str, val: str = "dev_unseen", test: str = "test_seen", missing: str = "error", language: str = "en"
) -> pd.DataFrame:
    """Table of examples in the order of the file; further column: source. root: the folder, or an archive of it.

    val: "dev_unseen" or "dev_seen"; test: "test_seen" or "test_unseen". missing: what becomes of a meme without its
    picture: "error", "drop", or "none", which keeps it with image None. language: "en", there is no other. ValueError,
    FileNotFoundError.
    """
    for name, given, known in (
        ("split", split, SPLITS),
        ("val", val, ("dev_unseen", "dev_seen")),
        ("test", test, ("test_seen", "test_unseen")),
        ("missing", missing, ("error", "drop", "none")),
        ("language", language, ("en",)),
    ):
        if given not in known:
            raise ValueError(f"unknown {name} {given!r}: choose one of {', '.join(known)}")
    root = folder(root)
    source = {"train": "train", "val": val, "test": test}[split]
    rows = _read(_file(root, source))
    table = pd.DataFrame(
        {
            "id": [str(row["id"]).zfill(5) for row in rows],
            "image": [str(Path(root, row["img"])) for row in rows],
            "text": [row["text"] for row in rows],
            "label": [-1 if row.get("label") is None else row["label"] for row in rows],
            "source": source,
        }
    )
    table.insert(1, "group", table["text"].map(lambda text: " ".join(text.casefold().split()) or "no text"))
    there = table["image"].map(lambda path: Path(path).is_file())
    if missing == "error" and not there.all():
        shown = ", ".join(table.loc[~there, "image"].head(3))
        raise FileNotFoundError(
            f"{(~there).sum()} of {len(table)} pictures of {source} are missing, such as {shown}. Put the folder img "
            f'into {root} (from {WHERE}), or pass missing="drop" to leave them out, "none" to read the texts alone'
        )
    kept = there if missing == "drop" else slice(None)
    table["image"] = table["image"].where(there, None)
    return check(table.loc[kept].reset_index(drop=True), CLASSES)


def files(root) -> list[Path]:
    """The files of memes that are there; the pictures are too many."""
    return sorted(Path(folder(root)).glob("*.jsonl"))


def _file(root, source: str) -> Path:
    names = [f"{name}.jsonl" for name in (source, OLD.get(source)) if name]
    for name in names:
        if root and Path(root, name).is_file():
            return Path(root, name)
    found = ", ".join(path.name for path in files(root)) if root else ""
    raise FileNotFoundError(
        f"no {' or '.join(names)} in {root!r}; found: {found or 'no .jsonl file'}. Give the folder with the .jsonl "
        f'files and img/ as root, or ask for others with val="dev_seen", test="test_unseen"; from {WHERE}'
    )


def _read(path: Path) -> list[dict]:
    """The rows of a file; ValueError for a line that is none."""
    rows = []
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not text in UTF-8: {error}") from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}, line {number} is not JSON: {error}") from None
        lacking = [key for key in ("id", "img", "text") if not isinstance(row, dict) or key not in row]
        if lacking:
            raise ValueError(f"{path}, line {number} lacks {', '.join(lacking)}; it has {line[:200]}")
        if not (isinstance(row["img"], str) and isinstance(row["text"], str)):
            raise ValueError(f"{path}, line {number}: img and text must be strings; given {line[:200]}")
        rows.append(row)
    if not rows:
        raise ValueError(f"{path} has no rows: fetch it again from {WHERE}")
    return rows
