"""The section on real tweets: a classifier trained in English reads the same tweets in English and in Hindi."""

from mmutils import statistics
from mmutils.report import markdown
from mmutils.report.cells import between, p_value, percent, points, spread
from mmutils.report.sections import NOTES, Page, Section

WARNING = "Emoji data, not crisis tweets."
SCORES = {"f1_macro": "Macro F1", "f1_weighted": "Weighted F1", "accuracy": "Accuracy"}


def results(page: Page) -> str:
    """Scores in English on the whole test split, beside published ones; then English against Hindi."""
    real, rows = "" if page.study.built_in else "**Real data.** ", []
    extras = {run: record["extra"] for run, record in page.study.records.items() if record["extra"]}
    for system in page.study.systems:
        label = page.record(system["run"], f"{system['system']}{', chosen on val' if system['chosen'] else ''}")
        cells = [spread(system["test"][score]) for score in ("accuracy", "f1_macro", "f1_weighted")]
        interval = page.study.interval(system)
        rows.append([label, *cells, between(interval.low, interval.high)])
    encoders = markdown.escape(", ".join(sorted({extra["encoder"].split("/")[-1] for extra in extras.values()})))
    parts = [page.table("transfer", rows, real=real, encoders=encoders)]
    if all(record["data"]["name"] == "crisismmd" for record in page.study.records.values()):
        parts.append(NOTES["transfer-published"])
    for run, extra in extras.items():
        parts.append(gap(page, run, extra, real))
        for kind, slices in extra.get("slices", {}).items():  # the ways in which the notebook has cut the test split
            rows = []
            for row in slices:
                numbers = [f"{row['examples']:,}", percent(row["score"]), between(row["low"], row["high"])]
                rows.append([markdown.escape(row["slice"].replace("_", " ")), *numbers])
            names = {"kind": markdown.escape(kind.capitalize()), "link": page.record(run, f"Accuracy by {kind}")}
            parts.append(page.table("transfer-slices", rows, real=real, **names))
    return "\n\n".join(parts)


def gap(page: Page, run: str, extra: dict, real: str) -> str:
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
    sentence = (
        f"**{verdict}** (macro F1, English minus Hindi, 95 % interval {points(first['low'])} to "
        f"{points(first['high'])}): the same classifier, trained in English only, reads {extra['paired']:d} test "
        "examples in English and in Hindi."
    )
    link = page.record(run, "English minus Hindi")
    return f"{sentence}\n\n{page.table('transfer-gap', rows, real=real, link=link)}"


SECTIONS = (Section("transfer", (), results, quiet=True),)
