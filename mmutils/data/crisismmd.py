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

import csv
from functools import partial
from pathlib import Path

import pandas as pd

from mmutils.data import SPLITS, check
from mmutils.data.archive import beside, folder

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
TSV = {"sep": "\t", "quoting": csv.QUOTE_NONE, "dtype": str, "keep_default_na": False, "encoding": "utf-8-sig"}
COLUMNS = ("event_name", "tweet_id", "image_id", "tweet_text", "image", "label_text", "label_image")


def table(
    task: str,
    classes: tuple[str, ...],
    root,
    split: str,
    language: str = "en",
    which: str = "agreed",
    target: str = "text",
    missing: str = "error",
    repair: bool = False,
    translations=None,
) -> pd.DataFrame:
    """Table of examples in the order of the file; further columns: event, and with `repair` repaired (bool).

    root: the folder of the data set, an archive of it (see `archive`), or the folder of the TSV files alone. which:
    "agreed" or "all". target: whose label, "text" or "image"; they differ in "all" only. missing: what becomes of a row
    without its picture: "error", "drop", or "none", which keeps it with image None, for models of text. language: other
    than "en" takes `translations`, a TSV file with the columns id (tweet) and text, by default
    translations/<language>.tsv in the folder, or beside the archive. ValueError, FileNotFoundError.
    """
    for name, given, known in (
        ("split", split, SPLITS),
        ("which", which, tuple(FILES)),
        ("target", target, ("text", "image")),
        ("missing", missing, ("error", "drop", "none")),
    ):
        if given not in known:
            raise ValueError(f"unknown {name} {given!r}: choose one of {', '.join(known)}")
    home = folder(root)
    path = _find(home, FILES[which].format(task, "dev" if split == "val" else split))
    rows = _read(path)
    lacking = [column for column in COLUMNS if column not in rows]
    if lacking:
        raise ValueError(f"{path} lacks the columns {', '.join(lacking)}; it has {', '.join(rows)}")
    if rows.empty:
        raise ValueError(f"{path} has no rows: fetch it again from {WHERE}")
    labels = rows[f"label_{target}"].replace(MERGED)
    unknown = sorted(set(labels) - set(classes))
    if unknown:
        raise ValueError(f"{path}: unknown labels {', '.join(map(repr, unknown))}; there are {', '.join(classes)}")
    found = pd.DataFrame(
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

        mended = found["text"].map(ftfy.fix_text)
        found = found.assign(text=mended, repaired=mended != found["text"])
    if language != "en":
        file = translations or beside(root) / "translations" / f"{language}.tsv"
        found["text"] = _translated(found["group"], file, root)
    return check(_with_pictures(found, Path(home), missing), classes)


# Table of examples of the humanitarian task, from (root, split, language="en", ...): `table` says what else.
examples = partial(table, "humanitarian", CLASSES)


def files(root, task: str = "humanitarian") -> list[Path]:
    """The split files and translations that are there; the pictures are too many."""
    home, splits = folder(root), ("train", "dev", "test")
    found = [_find(home, name.format(task, split), False) for name in FILES.values() for split in splits]
    translated = sorted((beside(root) / "translations").glob("*.tsv")) if root else []
    return [path for path in found if path] + translated


def human_translations(folder) -> dict[str, str]:
    """Tweet id -> Hindi from hindi_translation.txt and tweet_ids.txt of Verma et al. 2022: the first 98 of 202 ids.

    ValueError where there are more lines than ids, or an empty one.
    """
    ids = Path(folder, "tweet_ids.txt").read_text(encoding="utf-8").split()
    texts = Path(folder, "hindi_translation.txt").read_text(encoding="utf-8").strip("\n").split("\n")
    if len(texts) > len(ids) or not all(text.strip() for text in texts):
        raise ValueError(f"{folder}: {len(texts)} translations, empty ones among them or more than the {len(ids)} ids")
    return dict(zip(ids, (text.strip() for text in texts), strict=False))


def _find(root, name: str, needed: bool = True) -> Path | None:
    """The file of that name in the folder or below it, the shallowest; FileNotFoundError that says where to get it."""
    found = sorted(Path(root or ".").rglob(name), key=lambda path: (len(path.parts), path)) if root else []
    if found or not needed:
        return next(iter(found), None)
    raise FileNotFoundError(
        f"no {name} in {root!r} or below it. Give the folder of CrisisMMD v2.0 as root, with its split folders "
        f"(crisismmd_datasplit_agreed_label, crisismmd_datasplit_all: downloads of their own) inside; from {WHERE}"
    )


def _read(path) -> pd.DataFrame:
    """A table of text; ValueError that names the file where it is none."""
    try:
        return pd.read_csv(path, **TSV)
    except ValueError as error:  # empty, not UTF-8, or lines of more columns than the first
        raise ValueError(f"{path} cannot be read as a table, columns parted by tabs, in UTF-8: {error}") from error


def _translated(ids: pd.Series, path, root) -> pd.Series:
    if not Path(path).is_file():
        command = f"python -m mmutils.data translate crisismmd --root {root} --to {Path(path).stem}"
        raise FileNotFoundError(f"no translations {path}: `{command}` makes them from the English texts")
    known = _read(path)
    if not {"id", "text"} <= set(known) or known["id"].duplicated().any() or not known["text"].str.strip().all():
        raise ValueError(f"{path}: needs the columns id and text, each id once and no text empty; it has {list(known)}")
    texts = ids.map(dict(zip(known["id"], known["text"], strict=True)))
    if texts.isna().any():
        lacking = ids[texts.isna()]
        raise ValueError(f"{path} has no translation of {len(lacking)} rows, such as tweet {lacking.iloc[0]}")
    return texts


def _with_pictures(table: pd.DataFrame, root: Path, missing: str) -> pd.DataFrame:
    """`image` as the path of the file: in the folder, or in the one that the archive unpacks to."""
    homes = [home for home in (root, root / "CrisisMMD_v2.0", root.parent) if (home / "data_image").is_dir()] or [root]
    paths = table["image"].map(lambda name: str(homes[0] / name))
    there = paths.map(lambda path: Path(path).is_file())
    if missing == "error" and not there.all():
        shown = ", ".join(paths[~there].head(3))
        raise FileNotFoundError(
            f"{(~there).sum()} of {len(table)} pictures are missing, such as {shown}. Unpack CrisisMMD_v2.0.tar.gz "
            f'into {root} (from {WHERE}), or pass missing="drop" to leave such rows out, "none" to read the texts alone'
        )
    kept = there if missing == "drop" else slice(None)
    return table.assign(image=paths.where(there, None)).loc[kept].reset_index(drop=True)
