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
        rows, first = [], extra["gap"][0]
        corrected = statistics.holm([row["p_value"] for row in extra["gap"]])
        for row, p_holm in zip(extra["gap"], corrected, strict=True):
            numbers = [percent(row["en_estimate"]), percent(row["hi_estimate"]), points(row["estimate"])]
            rows.append([SCORES[row["score"]], *numbers, between(row["low"], row["high"], points), p_value(p_holm)])
        ahead = "English" if first["estimate"] > 0 else "Hindi"
        clear = f"{ahead} is ahead by {percent(abs(first['estimate']))} points"
        verdict = "Inconclusive" if first["low"] <= 0 <= first["high"] else clear
        interval = f"{points(first['low'])} to {points(first['high'])}"
        parts.append(NOTES["transfer-answer"].format(verdict=verdict, interval=interval, paired=extra["paired"]))
        parts.append(page.table("transfer-gap", rows, real=real, link=page.record(run, "English minus Hindi")))
        for kind, slices in extra.get("slices", {}).items():  # the ways in which the notebook has cut the test split
            rows = []
            for row in slices:
                numbers = [f"{row['examples']:,}", percent(row["score"]), between(row["low"], row["high"])]
                rows.append([markdown.escape(row["slice"].replace("_", " ")), *numbers])
            kind, link = markdown.escape(kind.capitalize()), page.record(run, f"Accuracy by {kind}")
            parts.append(page.table("transfer-slices", rows, real=real, kind=kind, link=link))
    return "\n\n".join(parts)


SECTIONS = (Section("transfer", (), results, quiet=True),)
