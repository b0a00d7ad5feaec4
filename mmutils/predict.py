"""`python -m mmutils.predict RUN --image FILE --text "..."`: a run's exported classifier on posts of one's own."""

import argparse
import csv
import json
import sys
import warnings
from pathlib import Path

import pandas as pd
from safetensors import SafetensorError

from mmutils import export, finetune, statistics
from mmutils.batches import Batches
from mmutils.encoders import TextEncoder
from mmutils.images import read_picture
from mmutils.metrics import predict

RUNS = Path("report", "runs")
UNKNOWN = 0.1  # share of a text's tokens that the tokenizer does not know, above which there is a warning


def classify(folder: str | Path, posts: pd.DataFrame) -> pd.DataFrame:
    """One row per post: id, prediction, and one calibrated probability per class, under the class's name.

    posts: columns id, image (path) and text (string), as far as the classifier needs them. ValueError lists posts
    without the picture or text that it needs, and pictures that cannot be read; UserWarning for texts in a script that
    was not trained on, or that its tokenizer does not know, and for what it does not look at.
    """
    try:
        classifier, known = export.load(folder)
    except (KeyError, json.JSONDecodeError, SafetensorError) as error:
        raise ValueError(f"the export in {folder} is damaged, copy it again ({error!r})") from error
    given = finetune.inputs(classifier.encoder)
    for column, key in (("image", "image_size"), ("text", "tokenizer")):
        if key in given:
            _require(posts, column, known)
        elif column in posts:
            warnings.warn(f"this classifier does not look at the {column}", stacklevel=2)
    if "image_size" in given:
        for path in posts["image"]:
            read_picture(path, given["image_size"])
    if "tokenizer" in given:
        _warn(posts, known, next(part for part in classifier.modules() if isinstance(part, TextEncoder)))
    batches = Batches(posts.assign(group=posts["id"], label=-1), 64, **given)
    found = statistics.apply_temperature(predict(classifier, batches), known["temperature"])
    columns = {f"p_{k}": name for k, name in enumerate(known["classes"])}
    found = found[["id", *columns]].rename(columns=columns)
    found.insert(1, "prediction", found[known["classes"]].idxmax(axis=1))
    return found


def _require(posts: pd.DataFrame, column: str, known: dict) -> None:
    values = posts[column] if column in posts else pd.Series("", posts.index)
    lacking = posts[~values.map(lambda value: isinstance(value, str) and bool(value.strip())).astype(bool)]
    if len(lacking):
        raise ValueError(
            f"this classifier ({known['system']}, run {known['run']}) needs the {column} of every post; "
            f"{len(lacking)} of {len(posts)} have none, the first of them {lacking['id'].iloc[0]!r}"
        )
    if column == "image" and (missing := [path for path in posts[column] if not Path(path).is_file()]):
        raise ValueError(f"{len(missing)} of {len(posts)} pictures are missing, the first of them {missing[0]}")


def _warn(posts: pd.DataFrame, known: dict, encoder: TextEncoder) -> None:
    unknown, trained = encoder.tokenizer.unk_token_id, ", ".join(known["scripts"]).title()
    for row in posts.itertuples():
        for other in export.scripts([row.text], share=0.5) - set(known["scripts"]):
            warnings.warn(f"{row.id!r} is in {other.title()} script, training was in {trained}", stacklevel=3)
        ids = encoder.tokenizer(row.text, add_special_tokens=False, verbose=False)["input_ids"]
        if unknown is not None and (share := ids.count(unknown) / max(len(ids), 1)) > UNKNOWN:
            warnings.warn(f"{row.id!r}: the tokenizer does not know {share:.0%} of the text", stacklevel=3)


def find(run: str) -> Path:
    """The folder of a run's exported classifier, by path or by the run's name; FileNotFoundError lists them."""
    for folder in (Path(run), Path(run, "model"), RUNS / run / "model"):
        if (folder / f"{export.NAME}.json").is_file():
            return folder
    there = sorted(path.parent.parent.name for path in RUNS.glob(f"*/model/{export.NAME}.json"))
    raise FileNotFoundError(
        f"no exported classifier in {run!r}; in {RUNS} there are: {', '.join(there) or 'none'}. "
        "Finetuning/Finetuning.ipynb exports one; give its folder `out`."
    )


def _posts(options: argparse.Namespace) -> pd.DataFrame:
    """The posts of the command line; pictures in a table are relative to it."""
    if bool(options.csv) == bool(options.image or options.text):
        raise ValueError('give either --csv FILE or one post: --image FILE --text "..."')
    if not options.csv:
        given = {"image": options.image, "text": options.text}
        return pd.DataFrame([{"id": "post", **{key: value for key, value in given.items() if value is not None}}])
    posts = _table(options.csv)
    if "image" in posts:
        posts["image"] = [str(Path(options.csv).parent / path) if path else "" for path in posts["image"]]
    if "id" not in posts:
        posts["id"] = [str(number) for number in range(1, len(posts) + 1)]
    return posts


def _table(path: str) -> pd.DataFrame:
    """The posts in a CSV file, all as text; ValueError that names the file and the line."""
    needed = "it needs a header such as id,image,text and one row per post"
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            header, rows = next(reader, []), []
            for row in filter(None, reader):
                if len(row) != len(header):
                    counts = f"line {reader.line_num} has {len(row)} fields, the header {len(header)}"
                    raise ValueError(f"{counts}; a text with commas stands in double quotes")
                rows.append(row)
    except (ValueError, csv.Error) as error:
        raise ValueError(f"{path} cannot be read as a CSV file in UTF-8: {error}") from error
    if not rows or not {"image", "text"} & set(header):
        raise ValueError(f"{path} has {len(rows)} rows with the columns {', '.join(header) or '(none)'}: {needed}")
    return pd.DataFrame(rows, columns=header)


def main(arguments: list[str] | None = None) -> int:
    """Reads the command line, prints the probabilities; 0, or 2 with the reason where there is no answer."""
    parser = argparse.ArgumentParser(prog="python -m mmutils.predict", description=__doc__.split("`: ")[1])
    parser.add_argument("run", help="name of a run in report/runs, or a folder that has `model`")
    parser.add_argument("--image", metavar="FILE", help="picture of one post")
    parser.add_argument("--text", help="text of one post")
    parser.add_argument("--csv", metavar="FILE", help="posts: columns image, text and, if there is one, id")
    parser.add_argument("--out", metavar="FILE", help="write the answers as CSV as well")
    options = parser.parse_args(arguments)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            found = classify(find(options.run), _posts(options))
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    for warning in caught:
        if issubclass(warning.category, UserWarning):
            print(f"warning: {warning.message}", file=sys.stderr)
    print(found.to_string(index=False, float_format="{:.3f}".format))
    try:
        if options.out:
            Path(options.out).parent.mkdir(parents=True, exist_ok=True)
            found.to_csv(options.out, index=False, float_format="%.6f")
    except OSError as error:
        print(f"the answers above could not be written to {options.out}: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
