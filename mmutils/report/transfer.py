"""The section on real tweets: a classifier trained in English reads the same tweets in English and in Hindi."""

from mmutils import statistics
from mmutils.report import markdown
from mmutils.report.sections import Page, Section, between, p_value, percent, points, spread

WARNING = "Emoji data, not crisis tweets."
SCORES = {"f1_macro": "Macro F1", "f1_weighted": "Weighted F1", "accuracy": "Accuracy"}
PUBLISHED = (
    ("Majority class", "52.8", "13.8", "36.5", "counted from the split", "verified"),
    ("DistilBERT, English text, 2 epochs", "71", "48", "70",
     "[its notebook](https://github.com/claws-lab/multimodal-crisis)", "verified"),
    ("CLIP ViT-B/32, picture and text, 16 examples a class", "79.6", "68.7", "–",
     "[MTEB, pull request 5340](https://github.com/embeddings-benchmark/mteb/pull/5340)", "verified"),
    ("CNN, text", "–", "–", "–", "[Ofli et al. 2020](https://arxiv.org/abs/2004.11838)", "not read"),
    ("VGG-16, picture", "76.8", "–", "–", "the same", "secondary"),
    ("CNN and VGG-16, picture and text", "78.4", "–", "–", "the same", "secondary"),
)  # fmt: skip


def results(page: Page) -> str:
    """Scores in English on the whole test split, beside published ones; then English against Hindi."""
    real = "" if page.study.built_in else "**Real data.** "
    rows = []
    for system in page.study.systems:
        cells = [spread(system["test"][score]) for score in ("accuracy", "f1_macro", "f1_weighted")]
        found = page.study.interval(system, "f1_macro", 2_000)
        label = page.record(system, f"{system['system']}{', chosen on val' if system['chosen'] else ''}")
        rows.append([label, *cells, between(found.low, found.high)])
    encoders = {record["extra"]["encoder"].split("/")[-1] for record in page.study.records.values() if record["extra"]}
    caption = (
        f"{real}English text alone, {markdown.escape(', '.join(sorted(encoders)))}, test split, percent, mean ± "
        "standard deviation over seeds; 95 % interval of macro F1 over examples and seeds."
    )
    header = ["Classifier", "Accuracy", "F1 macro", "F1 weighted", "95 % interval"]
    parts = [page.table(caption, header, rows)]
    if all(record["data"]["name"] == "crisismmd" for record in page.study.records.values()):
        header = ["Published on this test split", "Accuracy", "F1 macro", "F1 weighted", "Source", "Status"]
        parts.append(markdown.table(header, [list(row) for row in PUBLISHED], slice(1, 4)))
    for name, record in page.study.records.items():
        if record["extra"]:
            parts += [_gap(page, name, record["extra"], real), *_slices(page, name, record["extra"], real)]
    return "\n\n".join(parts)


def _slices(page: Page, run: str, extra: dict, real: str) -> list[str]:
    """A table for each way in which the notebook has cut the test split."""
    tables = []
    for kind, slices in extra.get("slices", {}).items():
        rows = [
            [markdown.escape(row["slice"].replace("_", " ")), f"{row['examples']:,}", percent(row["score"]),
             between(row["low"], row["high"])]
            for row in slices
        ]  # fmt: skip
        caption = (
            f"{real}{page.record({'run': run}, f'Accuracy by {kind}')}, English, the system chosen on val, percent."
        )
        tables.append(
            page.table(caption, [markdown.escape(kind.capitalize()), "Examples", "Accuracy", "95 % interval"], rows)
        )
    return tables


def _gap(page: Page, run: str, extra: dict, real: str) -> str:
    """The sentence and the table of English against Hindi."""
    rows, first = [], extra["gap"][0]
    corrected = statistics.holm([row["p_value"] for row in extra["gap"]])
    for row, holm in zip(extra["gap"], corrected, strict=True):
        cells = [percent(row[f"{language}_estimate"]) for language in ("en", "hi")]
        interval = between(row["low"], row["high"], points)
        rows.append([SCORES[row["score"]], *cells, points(row["estimate"]), interval, p_value(float(holm))])
    ahead = "English" if first["estimate"] > 0 else "Hindi"
    clear = not first["low"] <= 0 <= first["high"]
    verdict = f"{ahead} is ahead by {percent(abs(first['estimate']))} points" if clear else "Inconclusive"
    interval = f"95 % interval {points(first['low'])} to {points(first['high'])}"
    sentence = (
        f"**{verdict}** (macro F1, English minus Hindi, {interval}): the same classifier, trained in English only, "
        f"reads {extra['paired']} test examples in English and in Hindi."
    )
    caption = f"{real}{page.record({'run': run}, 'English minus Hindi')}, paired, points; p with Holm's correction."
    header = ["Score", "English", "Hindi", "Difference", "95 % interval", "p, Holm"]
    return f"{sentence}\n\n{page.table(caption, header, rows)}"


def explorer(page: Page) -> None:
    """Nothing: texts of tweets may not be shown."""


SECTIONS = (Section("transfer", (), results, quiet=True),)
