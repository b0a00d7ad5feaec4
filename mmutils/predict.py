"""`python -m mmutils.predict RUN --image FILE --text "..."`: a run's exported classifier on posts of one's own."""

import argparse
import csv
import io
import json
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd

from mmutils import statistics
from mmutils.batches import Batches
from mmutils.batches.images import read_picture
from mmutils.data import inside
from mmutils.data.tools import reading
from mmutils.evaluation import export
from mmutils.evaluation.predictions import predict
from mmutils.models import starts
from mmutils.models.text import TextEncoder
from mmutils.runs.files import write
from mmutils.runs.parameters import printable

RUNS = Path("report", "runs")
UNKNOWN = 0.1  # share of a text's tokens that the tokenizer does not know, above which there is a warning


def classify(folder: str | Path, posts: pd.DataFrame, root: str | Path | None = None) -> pd.DataFrame:
    """Classify posts.

    Args:
        folder: an exported classifier.
        posts: columns id, image (path) and text (string), as far as the classifier needs them.
        root: the folder that pictures are named relative to and must lie in; None where their paths are used as given.

    Returns:
        One row per post: id, prediction, and one calibrated probability per class, under the class's name. Where there
        are posts that cannot be answered, these are empty for them, and a column `problem` says why.

    Raises:
        ValueError: a column that the classifier needs is not there, no post can be answered, or the export is damaged.
        UserWarning: texts in a script that was not trained on, or that its tokenizer does not know, and what the
            classifier does not look at.
    """
    described = _described(folder)
    inputs = _inputs(described["encoder"])
    for column in ("image", "text"):
        if column not in inputs and column in posts:
            warnings.warn(f"this classifier does not look at the {column}", stacklevel=2)
        if column in inputs and column not in posts:
            raise ValueError(
                f"this classifier ({described['system']}, run {described['run']}) needs the {column} of every post; "
                f"given are {', '.join(posts)}"
            )
    classifier, described = _load(folder)
    options = starts.batch_inputs(classifier.encoder)
    fine, problems = _sorted(posts, inputs, options.get("image_size"), root)
    if not fine:
        listed = "; ".join(f"{key!r}: {problem}" for key, problem in list(zip(posts["id"], problems, strict=True))[:3])
        raise ValueError(f"none of the {len(posts)} posts can be answered ({listed})")
    rows = pd.DataFrame(fine)
    if "text" in inputs:
        _warn(rows, described, next(part for part in classifier.modules() if isinstance(part, TextEncoder)))
    batches = Batches(rows.assign(group=rows["id"], label=-1), 64, **options)
    answers = statistics.apply_temperature(predict(classifier, batches), described["temperature"])
    probabilities = answers[[f"p_{k}" for k in range(len(described["classes"]))]].to_numpy()
    return _answers(posts["id"], problems, probabilities, described["classes"])


def _described(folder: str | Path) -> dict:
    """What is known of a classifier, read before its weights."""
    file = Path(folder, f"{export.NAME}.json")
    try:
        described = json.loads(reading.text(file))
        _inputs(described["encoder"])
        return {key: described[key] for key in ("encoder", "classes", "temperature", "scripts", "run", "system")}
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(folder, error) from error


def _load(folder: str | Path):
    try:
        return export.load_classifier(folder)
    except (OSError, ValueError):  # says by itself what is wrong
        raise
    except Exception as error:  # of whatever a damaged file leads to
        raise _damaged(folder, error) from error


def _damaged(folder: str | Path, error: Exception) -> ValueError:
    return ValueError(f"the export in {folder} is damaged, copy it again ({error!r})")


def _inputs(encoder: dict) -> set[str]:
    """What an encoder looks at, from its description: image, text, or both."""
    sides = [_inputs(side) for side in encoder.get("sides", ())]
    return {"image", "text"} & set(encoder) | set().union(*sides)


def _sorted(
    posts: pd.DataFrame, inputs: set[str], size: int | None, root: str | Path | None
) -> tuple[list[dict], list[str]]:
    """The posts that can be answered; and for each post what is wrong with it, "" for nothing."""
    fine, problems = [], []
    for post in posts.to_dict("records"):
        try:
            fine.append(_checked(post, inputs, size, root))
            problems.append("")
        except (ValueError, OSError) as error:
            problems.append(str(error))
    return fine, problems


def _checked(post: dict, inputs: set[str], size: int | None, root: str | Path | None) -> dict:
    """The post with the path of its picture, which is read once; ValueError or OSError where it cannot be answered."""
    for column in sorted(inputs):
        if not isinstance(post[column], str) or not post[column].strip():
            raise ValueError(f"it has no {column}, which this classifier needs")
        if not reading.storable(post[column]):
            raise ValueError(f"its {column} is no text in UTF-8")
    if "image" not in inputs:
        return post
    path = post["image"] if root is None else inside(root, post["image"])
    read_picture(path, size)
    return post | {"image": path}


def _answers(ids: pd.Series, problems: list[str], probabilities: np.ndarray, classes: list[str]) -> pd.DataFrame:
    """The answers (N, K) of the posts that have no problem, in a table of all posts."""
    answered = np.array([not problem for problem in problems])
    columns = np.full((len(ids), len(classes)), np.nan)
    columns[answered] = probabilities
    predictions = np.full(len(ids), "", dtype=object)
    predictions[answered] = [classes[k] for k in probabilities.argmax(axis=1)]
    table = pd.DataFrame(columns, columns=classes)
    table.insert(0, "id", ids.to_numpy())
    table.insert(1, "prediction", predictions)
    return table if answered.all() else table.assign(problem=problems)


def _warn(posts: pd.DataFrame, described: dict, encoder: TextEncoder) -> None:
    unknown, trained = encoder.tokenizer.unk_token_id, ", ".join(described["scripts"]).title()
    for row in posts.itertuples():
        for other in export.scripts([row.text], share=0.5) - set(described["scripts"]):
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
    """The posts of the command line."""
    if bool(options.csv) == bool(options.image or options.text):
        raise ValueError('give either --csv FILE or one post: --image FILE --text "..."')
    if not options.csv:
        values = {"id": "post", "image": options.image, "text": options.text}
        return pd.DataFrame([{key: value for key, value in values.items() if value is not None}])
    posts = _read(options.csv)
    if "id" not in posts:
        posts["id"] = [str(number) for number in range(1, len(posts) + 1)]
    return posts


def _read(path: str) -> pd.DataFrame:
    """The posts in a CSV file, all as text; ValueError that names the file and the line."""
    needed = "it needs a header such as id,image,text and one row per post"
    reader, rows = csv.reader(io.StringIO(reading.text(path), newline=""), strict=True), []
    start = 1  # of the row that is read next
    try:
        for row in reader:
            if row and rows and len(row) != len(rows[0]):
                problem = (
                    f"has {len(row)} fields, the header {len(rows[0])}; a text with commas stands in double quotes"
                )
                raise ValueError(f"{path}, line {start} {problem}")
            rows += [row] if row else []
            start = reader.line_num + 1
    except csv.Error as error:
        raise ValueError(f"{path}, line {start} is no row of a CSV file: {error}") from error
    header = rows[0] if rows else []
    if len(rows) < 2 or not {"image", "text"} & set(header):
        count = max(len(rows) - 1, 0)
        raise ValueError(f"{path} has {count} rows with the columns {', '.join(header) or '(none)'}: {needed}")
    if len(set(header)) < len(header):
        raise ValueError(f"{path}, line 1 names a column twice: {', '.join(header)}")
    return pd.DataFrame(rows[1:], columns=header)


def main(arguments: list[str] | None = None) -> int:
    """Reads the command line, prints the probabilities; 0, or 2 with the reason where there is no answer at all."""
    parser = argparse.ArgumentParser(prog="python -m mmutils.predict", description=__doc__.split("`: ")[1])
    parser.add_argument("run", help="name of a run in report/runs, or a folder that has `model`")
    parser.add_argument("--image", metavar="FILE", help="picture of one post")
    parser.add_argument("--text", help="text of one post")
    parser.add_argument(
        "--csv", metavar="FILE", help="posts: columns image (in the file's folder), text and, if there is one, id"
    )
    parser.add_argument("--out", metavar="FILE", help="write the answers as CSV as well")
    options = parser.parse_args(arguments)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            root = Path(options.csv).parent if options.csv else None
            answers = classify(find(options.run), _posts(options), root)
    except (ValueError, OSError) as error:
        return _refuse(str(error))
    for warning in caught:
        if issubclass(warning.category, UserWarning):
            print(printable(f"warning: {warning.message}"), file=sys.stderr)
    print(printable(answers.to_string(index=False, float_format="{:.3f}".format, na_rep="")))
    if "problem" in answers:
        count = (answers["problem"] != "").sum()
        print(f"{count} of {len(answers)} posts have no answer: see the column problem", file=sys.stderr)
    try:
        if options.out:
            write(options.out, answers.to_csv(index=False, float_format="%.6f"))
    except OSError as error:
        return _refuse(f"the answers above could not be written to {options.out}: {error}")
    return 0


def _refuse(reason: str) -> int:
    print(printable(reason), file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
