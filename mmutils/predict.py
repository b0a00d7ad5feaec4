"""`python -m mmutils.predict RUN --image FILE --text "..."`: classify your own posts with a run's classifier."""

import argparse
import json
import sys
import warnings
from pathlib import Path

import pandas as pd

from mmutils import statistics
from mmutils.batches import Batches
from mmutils.batches.images import read_picture
from mmutils.data.tools import reading
from mmutils.evaluation import export
from mmutils.evaluation.predictions import predict, predictions_table
from mmutils.models.features import batch_inputs
from mmutils.models.text import TextEncoder
from mmutils.runs.files import write
from mmutils.runs.parameters import show

RUNS = Path("report", "runs")
UNKNOWN = 0.1  # share of a text's tokens that the tokenizer does not know, above which there is a warning


def classify(folder: str | Path, posts: pd.DataFrame, root: str | Path | None = None) -> pd.DataFrame:
    """Classify posts; warns of texts in a new script or unknown to the tokenizer, and of columns that are not read.

    Args:
        posts: columns id, image (path) and text (string), as far as the exported classifier needs them; maybe `label`,
            the name of a class, or "".
        root: the folder that pictures are named relative to and must lie in; None where their paths are used as given.

    Returns:
        One row per post: id, prediction, and one calibrated probability per class, under the class's name. Where some
        posts have no answer, these are empty for them, and a column `problem` says why; ValueError where none has.
    """

    def read(encoder: dict) -> set[str]:  # what an encoder reads: image, text, or both
        return {"image", "text"} & set(encoder) | set().union(*map(read, encoder.get("sides", ())))

    try:
        description = json.loads(reading.text(Path(folder, f"{export.NAME}.json")))
        inputs, name = read(description["encoder"]), f"{description['system']}, run {description['run']}"
        classes = description["classes"]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"the export in {folder} is damaged, copy it again ({error!r})") from error
    for column in ("image", "text"):  # before the weights are read
        if column not in inputs and column in posts:
            warnings.warn(f"this classifier does not look at the {column}", stacklevel=2)
        if column in inputs and column not in posts:
            languages = [key for key in posts if key.startswith("text_")]
            hint = f"; rename {' or '.join(languages)} to text" if languages else ""
            given = f"given are {', '.join(posts)}{hint}"
            raise ValueError(f"this classifier ({name}) needs the {column} of every post; {given}")
    labelled = [post for post in posts.itertuples() if isinstance(getattr(post, "label", None), str) and post.label]
    if wrong := [post for post in labelled if post.label not in classes]:
        problem = f"the label of {wrong[0].id!r} is {wrong[0].label!r} ({len(wrong):,} such posts)"
        raise ValueError(f"{problem}: this classifier ({name}) knows {', '.join(classes)}; leave others empty")
    classifier, description = export.load_classifier(folder)
    options = batch_inputs(classifier.encoder)
    posts = _checked(posts, inputs, options.get("image_size"), root)
    answered = posts[posts["problem"] == ""]
    if answered.empty:
        listed = "; ".join(f"{post.id!r}: {post.problem}" for post in posts.head(3).itertuples())
        raise ValueError(f"none of the {len(posts)} posts can be answered ({listed})")
    if "text" in inputs:
        tokenizer = next(module.tokenizer for module in classifier.modules() if isinstance(module, TextEncoder))
        for post in answered.itertuples():
            for script in export.scripts([post.text], share=0.5) - set(description["scripts"]):
                trained = ", ".join(description["scripts"]).title()
                warnings.warn(f"{post.id!r} is in {script.title()} script, training was in {trained}", stacklevel=2)
            ids = tokenizer(post.text, add_special_tokens=False, verbose=False)["input_ids"]
            share = ids.count(tokenizer.unk_token_id) / max(len(ids), 1)  # 0 where it has no such token
            if share > UNKNOWN:
                warnings.warn(f"{post.id!r}: the tokenizer does not know {share:.0%} of the text", stacklevel=2)
    batches = Batches(answered.assign(group=answered["id"], label=-1), 64, **options)
    predictions = statistics.apply_temperature(predict(classifier, batches), description["temperature"])
    probabilities = predictions.filter(regex=r"^p_\d+$").set_axis(description["classes"], axis=1)  # (N, K)
    probabilities.index = answered.index
    table = probabilities.reindex(posts.index)
    table.insert(0, "id", posts["id"])
    table.insert(1, "prediction", probabilities.idxmax(axis=1).reindex(posts.index, fill_value=""))
    return table if len(answered) == len(posts) else table.assign(problem=posts["problem"])


def _checked(posts: pd.DataFrame, inputs: set[str], size: int | None, root: str | Path | None) -> pd.DataFrame:
    """The posts with the path of their picture, which is read once, and a column `problem`, "" for none."""
    posts = posts.reset_index(drop=True).assign(problem="")
    for number, post in posts.iterrows():
        try:
            for column in sorted(inputs):
                needed = column == "image" or len(inputs) == 1  # a meme may have no words
                if not isinstance(post[column], str) or (needed and not post[column].strip()):
                    raise ValueError(f"its {column} is empty, and this classifier needs it")
                if not reading.storable(post[column]):
                    raise ValueError(f"its {column} is no text in UTF-8")
            if "image" in inputs:
                name = post["image"].strip()
                posts.loc[number, "image"] = name if root is None else reading.inside(root, name)
                read_picture(posts.loc[number, "image"], size)
        except (ValueError, OSError) as error:
            posts.loc[number, "problem"] = str(error)
    return posts


def scored(posts: pd.DataFrame, answers: pd.DataFrame) -> str:
    """How good the answers are for posts with a `label`, a class's name: scores with bootstrap intervals, as text."""
    classes = list(answers.drop(columns=["id", "prediction", "problem"], errors="ignore"))
    posts = posts.reset_index(drop=True)
    known = (posts["label"] != "") & (answers["prediction"] != "")
    numbers = pd.Series(posts.index.astype(str), posts.index)  # ids may be there twice
    groups = posts["group"].where(posts["group"] != "", numbers) if "group" in posts else numbers
    examples = posts[known].assign(id=numbers, group=groups, label=posts["label"][known].map(classes.index))
    predictions = predictions_table(examples, answers.loc[known, classes].to_numpy()).assign(seed=0)
    lines = [f"{name}: {export.score_with_interval(predictions, name)}" for name in export.SCORES]
    return "\n".join([f"{known.sum()} posts with a label and an answer, 95 % bootstrap intervals:", *lines])


def main(arguments: list[str] | None = None) -> int:
    """Reads the command line, prints the probabilities; 0, or 2 with the reason where there is no answer at all."""
    parser = argparse.ArgumentParser(prog="python -m mmutils.predict", description=__doc__.split("`: ")[1])
    parser.add_argument("run", help="name of a run in report/runs, or a folder that has `model`")
    parser.add_argument("--image", metavar="FILE", help="picture of one post")
    parser.add_argument("--text", help="text of one post")
    note = "posts as CSV, TSV, JSON lines or parquet: image (from its folder), text, maybe id, label"
    parser.add_argument("--table", metavar="FILE", help=note)
    parser.add_argument("--out", metavar="FILE", help="write the answers as CSV as well")
    options = parser.parse_args(arguments)
    run, post = options.run, {"id": "post", "image": options.image, "text": options.text}
    try:
        folders = [Path(run), Path(run, "model"), RUNS / run / "model"]
        folder = next((folder for folder in folders if (folder / f"{export.NAME}.json").is_file()), None)
        if folder is None:
            names = sorted(path.parent.parent.name for path in RUNS.glob(f"*/model/{export.NAME}.json"))
            listed = f"in {RUNS} there are: {', '.join(names) or 'none'}. Finetuning/Finetuning.ipynb exports one"
            raise FileNotFoundError(f"no exported classifier in {run!r}; {listed}; give its folder `out`")
        if bool(options.table) == bool(options.image or options.text):
            raise ValueError('give either --table FILE or one post: --image FILE --text "..."')
        if options.out and Path(options.out).is_dir():
            raise ValueError(f"--out {options.out} is a folder: give the name of a file")
        if options.out and options.table and Path(options.out).resolve() == Path(options.table).resolve():
            raise ValueError(f"--out {options.out} is the table itself: give another file")
        posts = reading.table(options.table) if options.table else pd.DataFrame([post]).dropna(axis=1)
        if "id" not in posts:
            posts["id"] = [str(number) for number in range(1, len(posts) + 1)]
        if "label" in posts:
            posts["label"] = reading.class_names(posts["label"])
        with warnings.catch_warnings(record=True, action="always", category=UserWarning) as caught:
            answers = classify(folder, posts, Path(options.table).parent if options.table else None)
        for warning in caught:
            if issubclass(warning.category, UserWarning):
                show(f"warning: {warning.message}", sys.stderr)
        show(answers.to_string(index=False, float_format="{:.3f}".format, na_rep=""))
        if "label" in posts:
            show(scored(posts, answers))
        if "problem" in answers:
            count = (answers["problem"] != "").sum()
            show(f"{count} of {len(answers)} posts have no answer: see the column problem", sys.stderr)
        if options.out:
            write(options.out, answers.to_csv(index=False, float_format="%.6f"))
    except (ValueError, OSError) as error:
        show(error, sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
