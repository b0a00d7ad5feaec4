"""CrisisMMD v2.0: tweets with pictures from seven disasters of 2017, humanitarian task, five classes.

Alam, Ofli, Imran 2018, https://arxiv.org/abs/1805.00713; splits and classes: Ofli, Alam, Imran 2020,
https://arxiv.org/abs/2004.11838. Licence CC BY-NC-SA 4.0; to be had from https://crisisnlp.qcri.org/crisismmd.

What one must know:
- "agreed": picture and text were given the same label (6,126 / 998 / 955 rows). There the column `label` still has
  eight classes and `label_text`, `label_image` five; here always the latter, merged where they are not (in "all").
- A tweet has up to four pictures, a row each: id is that of the picture, group that of the tweet.
- Files are read without quoting: 39 texts of train begin with a quotation mark that pandas would take away.
- 251 texts of train are damaged ("Californiaâ€™s"); `repair` mends what can be mended with ftfy.
- The informative task is `crisismmd_informative`; rows are in the order of the file, label ids that of CLASSES.
"""

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pandas as pd

from mmutils.data import SPLITS, check, inside
from mmutils.data.tools import reading
from mmutils.data.tools.archive import beside, folder

CLASSES = (
    "affected_individuals",
    "infrastructure_and_utility_damage",
    "not_humanitarian",
    "other_relevant_information",
    "rescue_volunteering_or_donation_effort",
)
MERGED = {
    "vehicle_damage": "infrastructure_and_utility_damage",
    "injured_or_dead_people": "affected_individuals",
    "missing_or_found_people": "affected_individuals",
}
OFFICIAL = {  # examples of each class in "agreed"
    "train": (71, 612, 3252, 1279, 912),
    "val": (9, 80, 521, 239, 149),
    "test": (9, 81, 504, 235, 126),
}
WHERE = "https://crisisnlp.qcri.org/crisismmd"
FILES = {"agreed": "task_{}_text_img_agreed_lab_{}.tsv", "all": "task_{}_text_img_{}.tsv"}  # of a task and a split
COLUMNS = ("event_name", "tweet_id", "image_id", "tweet_text", "image", "label_text", "label_image")


def task_examples(
    task: str,
    classes: tuple[str, ...],
    root,
    split: str,
    language: str = "en",
    which: str = "agreed",
    target: str = "text",
    missing: str = "error",
    repair: bool = False,
    translations: str | None = None,
) -> pd.DataFrame:
    """Table of examples in the order of the file; further columns: event, and with `repair` repaired (bool).

    root: the folder of the data set, an archive of it (see `archive`), or the folder of the TSV files alone. which:
    "agreed" or "all". target: whose label, "text" or "image"; they differ in "all" only. missing: what becomes of a row
    without its picture: "error", "drop", or "none", which keeps it with image None, for models of text. language: other
    than "en" takes `translations`, a TSV file with the columns id (tweet) and text, by default
    translations/<language>.tsv in the folder, or beside the archive. ValueError, FileNotFoundError.
    """
    for name, value, choices in (
        ("split", split, SPLITS),
        ("which", which, tuple(FILES)),
        ("target", target, ("text", "image")),
        ("missing", missing, ("error", "drop", "none")),
    ):
        if value not in choices:
            raise ValueError(f"unknown {name} {value!r}: choose one of {', '.join(choices)}")
    home = folder(root)
    path = _find(home, FILES[which].format(task, "dev" if split == "val" else split))
    rows = _read(path, COLUMNS)  # the index is the number of the line
    labels = rows[f"label_{target}"].replace(MERGED)
    _refuse_labels(labels, classes, path)
    table = pd.DataFrame(
        {
            "id": rows["image_id"],
            "group": rows["tweet_id"],
            "image": rows["image"],
            "text": rows["tweet_text"],
            "label": labels.map(classes.index),
            "event": rows["event_name"],
        }
    )
    if repair:
        import ftfy

        mended = table["text"].map(ftfy.fix_text)
        table = table.assign(text=mended, repaired=mended != table["text"])
    if language != "en":
        file = translations or beside(root) / "translations" / f"{language}.tsv"
        table["text"] = _translated(table["group"], file, root)
    return check(_with_pictures(table, Path(home), missing, path), classes, str(path))


# Table of examples of the humanitarian task, from (root, split, language="en", ...): `table` says what else.
examples = partial(task_examples, "humanitarian", CLASSES)


def official(split: str, which: str = "agreed", **_) -> tuple[int, ...] | None:
    """Published numbers of examples of each class; there are none of "all"."""
    return OFFICIAL[split] if which == "agreed" else None


def files(root, task: str = "humanitarian") -> list[Path]:
    """The split files and translations that are there; the pictures are too many."""
    home, splits = folder(root), ("train", "dev", "test")
    paths = [_find(home, name.format(task, split), False) for name in FILES.values() for split in splits]
    translated = sorted((beside(root) / "translations").glob("*.tsv")) if root else []
    return [path for path in paths if path] + translated


def human_translations(folder) -> dict[str, str]:
    """Tweet id -> Hindi from hindi_translation.txt and tweet_ids.txt of Verma et al. 2022: the first 98 of 202 ids.

    ValueError where there are more lines than ids, or an empty one.
    """
    ids = reading.text(Path(folder, "tweet_ids.txt")).split()
    texts = reading.text(Path(folder, "hindi_translation.txt")).strip("\n").split("\n")
    if len(texts) > len(ids) or not all(text.strip() for text in texts):
        raise ValueError(f"{folder}: {len(texts)} translations, empty ones among them or more than the {len(ids)} ids")
    return dict(zip(ids, (text.strip() for text in texts), strict=False))


def _find(root, name: str, needed: bool = True) -> Path | None:
    """The file of that name in the folder or below it, the shallowest; FileNotFoundError that says where to get it."""
    paths = sorted(Path(root or ".").rglob(name), key=lambda path: (len(path.parts), path)) if root else []
    if paths or not needed:
        return next(iter(paths), None)
    raise FileNotFoundError(
        f"no {name} in {root!r} or below it. Give the folder of CrisisMMD v2.0 as root, with its split folders "
        f"(crisismmd_datasplit_agreed_label, crisismmd_datasplit_all: downloads of their own) inside; from {WHERE}"
    )


def _read(path, columns: Sequence[str]) -> pd.DataFrame:
    """A table of text, fields parted by tabs, without quoting; its index is the number of the line.

    ValueError names the file, and the line where one has not as many fields as the first.
    """
    (_, first), *rest = reading.lines(path) or [(0, "")]
    header = first.split("\t")
    lacking = [column for column in columns if column not in header]
    if not first or lacking or len(set(header)) < len(header):
        raise ValueError(
            f"{path} cannot be read as a table, columns parted by tabs: it needs each of {', '.join(columns)} once in "
            f"its first line; it has {', '.join(header) if first else 'no line'}"
        )
    if not rest:
        raise ValueError(f"{path} has no rows: fetch it again")
    rows = {number: line.split("\t") for number, line in rest}
    for number, fields in rows.items():
        if len(fields) != len(header):
            raise ValueError(
                f"{path}, line {number} has {len(fields)} fields, the first line {len(header)}: a text must not hold "
                f"a tab or a newline; given {fields[:3]}"
            )
    return pd.DataFrame.from_dict(rows, orient="index", columns=header)


def _refuse_labels(labels: pd.Series, classes: tuple[str, ...], path: Path) -> None:
    unknown = labels[~labels.isin(classes)]
    if len(unknown):
        shown = ", ".join(f"{label!r} in line {number}" for number, label in unknown.head(3).items())
        raise ValueError(
            f"{path}: unknown labels in {len(unknown)} of {len(labels)} rows ({shown}); there are {', '.join(classes)}"
        )


def _translated(ids: pd.Series, path, root) -> pd.Series:
    if not Path(path).is_file():
        command = f"python -m mmutils.translate crisismmd --root {root} --to {Path(path).stem}"
        raise FileNotFoundError(f"no translations {path}: `{command}` makes them from the English texts")
    rows = _read(path, ("id", "text"))
    wrong = rows["id"].duplicated() | (rows["text"].str.strip() == "")
    if wrong.any():
        raise ValueError(f"{path}, line {rows.index[wrong][0]}: needs each id once and no text empty")
    texts = ids.map(dict(zip(rows["id"], rows["text"], strict=True)))
    if texts.isna().any():
        lacking = ids[texts.isna()]
        raise ValueError(f"{path} has no translation of {len(lacking)} rows, such as tweet {lacking.iloc[0]}")
    return texts


def _with_pictures(table: pd.DataFrame, root: Path, missing: str, source: Path) -> pd.DataFrame:
    """`image` as the path of the file: in the folder, or in the one that the archive unpacks to."""
    homes = [home for home in (root, root / "CrisisMMD_v2.0", root.parent) if (home / "data_image").is_dir()] or [root]
    names = table["image"].items()
    paths = pd.Series([inside(homes[0], name, f"{source}, line {line}") for line, name in names], table.index)
    there = paths.map(os.path.isfile)
    if missing == "error" and not there.all():
        shown = ", ".join(paths[~there].head(3))
        raise FileNotFoundError(
            f"{(~there).sum()} of {len(table)} pictures are missing, such as {shown}. Unpack CrisisMMD_v2.0.tar.gz "
            f'into {root} (from {WHERE}), or pass missing="drop" to leave such rows out, "none" to read the texts alone'
        )
    if missing == "drop" and not there.any():
        raise ValueError(f'none of the {len(table)} pictures of {source} are there: missing="drop" would leave nothing')
    kept = there if missing == "drop" else slice(None)
    return table.assign(image=paths.where(there, None)).loc[kept].reset_index(drop=True)
