"""The section on real tweets: a classifier trained in English reads the same tweets in English and in Hindi."""

from mmutils import statistics
from mmutils.report import markdown
from mmutils.report.sections import Page, Section, between, p_value, percent, points, spread

WARNING = "Emoji data, not crisis tweets."
SCORES = {"f1_macro": "Macro F1", "f1_weighted": "Weighted F1", "accuracy": "Accuracy"}
PUBLISHED = """\
| Published on this test split | Accuracy | F1 macro | F1 weighted | Source | Status |
| --- | --: | --: | --: | --- | --- |
| Majority class | 52.8 | 13.8 | 36.5 | counted from the split | verified |
| DistilBERT, English text, 2 epochs | 71 | 48 | 70 | \
[its notebook](https://github.com/claws-lab/multimodal-crisis) | verified |
| CLIP ViT-B/32, picture and text, 16 examples a class | 79.6 | 68.7 | – | \
[MTEB, pull request 5340](https://github.com/embeddings-benchmark/mteb/pull/5340) | verified |
| CNN, text | – | – | – | [Ofli et al. 2020](https://arxiv.org/abs/2004.11838) | not read |
| VGG-16, picture | 76.8 | – | – | the same | secondary |
| CNN and VGG-16, picture and text | 78.4 | – | – | the same | secondary |"""


def results(page: Page) -> str:
    """Scores in English on the whole test split, beside published ones; then English against Hindi."""
    real = "" if page.study.built_in else "**Real data.** "
    records = {run: record for run, record in page.study.records.items() if record["extra"]}
    rows = []
    for system in page.study.systems:
        label = page.record(system["run"], f"{system['system']}{', chosen on val' if system['chosen'] else ''}")
        cells = [spread(system["test"][score]) for score in ("accuracy", "f1_macro", "f1_weighted")]
        interval = page.study.interval(system, "f1_macro", 2_000)
        rows.append([label, *cells, between(interval.low, interval.high)])
    encoders = sorted({record["extra"]["encoder"].split("/")[-1] for record in records.values()})
    caption = (
        f"{real}English text alone, {markdown.escape(', '.join(encoders))}, test split, percent, mean ± "
        "standard deviation over seeds; 95 % interval of macro F1 over examples and seeds."
    )
    parts = [page.table(caption, ["Classifier", "Accuracy", "F1 macro", "F1 weighted", "95 % interval"], rows)]
    if all(record["data"]["name"] == "crisismmd" for record in page.study.records.values()):
        parts.append(PUBLISHED)
    for run, record in records.items():
        parts += [_gap(page, run, record["extra"], real), *_slices(page, run, record["extra"], real)]
    return "\n\n".join(parts)


def _slices(page: Page, run: str, extra: dict, real: str) -> list[str]:
    """A table for each way in which the notebook has cut the test split."""
    tables = []
    for kind, slices in extra.get("slices", {}).items():
        rows = []
        for row in slices:
            name, interval = markdown.escape(row["slice"].replace("_", " ")), between(row["low"], row["high"])
            rows.append([name, f"{row['examples']:,}", percent(row["score"]), interval])
        link = page.record(run, f"Accuracy by {kind}")
        header = [markdown.escape(kind.capitalize()), "Examples", "Accuracy", "95 % interval"]
        tables.append(page.table(f"{real}{link}, English, the system chosen on val, percent.", header, rows))
    return tables


def _gap(page: Page, run: str, extra: dict, real: str) -> str:
    """The sentence and the table of English against Hindi."""
    rows, first = [], extra["gap"][0]
    corrected = statistics.holm([row["p_value"] for row in extra["gap"]])
    for row, p_holm in zip(extra["gap"], corrected, strict=True):
        scores = [percent(row[f"{language}_estimate"]) for language in ("en", "hi")]
        interval = between(row["low"], row["high"], points)
        rows.append([SCORES[row["score"]], *scores, points(row["estimate"]), interval, p_value(p_holm)])
    verdict = "Inconclusive"
    if not first["low"] <= 0 <= first["high"]:
        ahead = "English" if first["estimate"] > 0 else "Hindi"
        verdict = f"{ahead} is ahead by {percent(abs(first['estimate']))} points"
    interval = f"95 % interval {points(first['low'])} to {points(first['high'])}"
    sentence = (
        f"**{verdict}** (macro F1, English minus Hindi, {interval}): the same classifier, trained in English only, "
        f"reads {extra['paired']} test examples in English and in Hindi."
    )
    caption = f"{real}{page.record(run, 'English minus Hindi')}, paired, points; p with Holm's correction."
    header = ["Score", "English", "Hindi", "Difference", "95 % interval", "p, Holm"]
    return f"{sentence}\n\n{page.table(caption, header, rows)}"


def explorer(page: Page) -> None:
    """Nothing: texts of tweets may not be shown."""


SECTIONS = (Section("transfer", (), results, quiet=True),)
