"""How robust is the part of a gap that the picture closes? Asked in other ways; and the plainest fusion, an average."""

from collections.abc import Iterator
from functools import partial
from itertools import product

from mmutils import statistics
from mmutils.report import questions
from mmutils.report.page import LANGUAGES, NOTES, Page, percent, points, readable, span
from mmutils.report.results import Study, on_val
from mmutils.statistics.panel import probability_columns


def add_averages(study: Study) -> None:
    """Add to the systems the average, seed by seed, of text alone and picture alone that val picked."""
    chosen = sorted((s for s in study.systems if s["chosen"]), key=lambda s: on_val(s, study.score))
    for both in [system for system in chosen if system["inputs"] == "image+text"]:
        alike = [s for s in chosen if s.get("labels") == both.get("labels")]
        alike.sort(key=lambda s: s["run"] == both["run"])  # the last of each input stays
        alone = {s["inputs"]: s for s in alike if s["inputs"] == "image" or s["language"] == both["language"]}
        if {"text", "image"} <= alone.keys():
            _add_average(study, both, alone["text"], alone["image"])


def _add_average(study: Study, both: dict, text: dict, picture: dict) -> None:
    name, tables = f"average of text and picture, {LANGUAGES.get(both['language'], both['language'])}", {}
    for split in ("val", "test"):
        first, second = (study.predictions(system, split) for system in (text, picture))
        keys = ["seed", "id", "group", "label"]
        if not first[keys].equals(second[keys]):  # other examples or other seeds
            return
        mean = {column: (first[column] + second[column]) / 2 for column in probability_columns(first)}
        tables[split] = first.assign(system=name, **mean)
    about = {"system": name, "model": f"{text['system']} and {picture['system']}", "trained": "nothing more"}
    about |= {"weights": f"{text['weights']}; {picture['weights']}", "chosen": False}
    study.add(both | about, tables)


def robust(page: Page) -> str:
    """The gap and what each language gains from the picture, a row for each way to ask; their range in a sentence."""
    rows, said, whole, resamples = [], [], partial(percent, form="z.0f"), page.study.resamples
    settings = questions.fours(page)[: len(questions.PLACES)]  # with most labels
    for name, four in settings:
        shares, gains = [], []
        for way, systems, split, score in _ways(page, four):
            gap, gained = questions.gap_of(page, systems, split, score, way == "as above"), []
            for pair in zip(systems[2:], systems[:2], strict=True):
                if split == "test":  # whose resamples other tables share
                    gained.append(page.study.difference(*pair, score, resamples))
                else:
                    tables = (page.study.predictions(system, split) for system in pair)
                    gained.append(statistics.paired_difference(*tables, score, resamples=resamples))
            shares += [gap.share.estimate] if gap.text.low > 0 else []
            gains = gains or [span(gain, points) for gain in gained]  # as asked first
            cells = [span(value, points) for value in (gap.text, gap.fused, *gained)]
            share = span(gap.share, whole) if gap.text.low > 0 else "–"
            label = f"{name}: {way}" if len(settings) > 1 else way
            rows.append([page.record(four[2]["run"], label), *cells, share])
        values = {"name": name, "gains": gains, "clear": len(shares)}
        if shares:
            values |= {"least": whole(min(shares)), "most": whole(max(shares))}
            page.ranges[name] = f"{values['least']} to {values['most']}"
        said.append(NOTES["robust-range" if shares else "robust-none"].format(**values))
    return "\n\n".join(filter(None, [*said, page.table("robust", rows)]))


def _ways(page: Page, four: list[dict]) -> Iterator[tuple]:
    """What is asked in other ways, the four systems, the split, and the score; each fusion that both languages have."""
    yield "as above", four, "test", "f1_macro"
    yield "accuracy", four, "test", "accuracy"
    yield "on val", four, "val", "f1_macro"
    alike = [s for s in page.study.systems if all(s.get(key) == four[2].get(key) for key in ("inputs", "labels"))]
    for pair in product(alike, alike) if four[3]["chosen"] else ():
        names = {s["system"].removesuffix(f", {LANGUAGES.get(s['language'])}") for s in pair}
        if [s["language"] for s in pair] == [*LANGUAGES] and len(names) == 1 and not all(s["chosen"] for s in pair):
            frozen = ", encoders frozen" if pair[0]["trained"] == "fusion" else ""
            texts = [_text(page, *sides) for sides in zip(pair, four[:2], strict=True)]
            yield f"{readable(names.pop())} in both languages{frozen}", [*texts, *pair], "test", "f1_macro"


def _text(page: Page, fusion: dict, chosen: dict) -> dict:
    """Text alone beside a fusion: the best on val whose encoder was trained as the fusion's, else the chosen one."""
    trained = fusion["trained"].replace("fusion", "head").replace(" text layers", " layers")
    about = {"inputs": "text", "language": fusion["language"], "labels": fusion.get("labels"), "trained": trained}
    alike = [s for s in page.study.systems if all(s.get(key) == value for key, value in about.items())]
    return max(
        (s for s in alike if s["weights"] in fusion["weights"]),
        key=lambda s: on_val(s, page.study.score),
        default=chosen,
    )
