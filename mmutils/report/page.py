"""A page: what the runs of one study on one data set say, set as Markdown; and how numbers look in its cells."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from matplotlib.figure import Figure

from mmutils.report import markdown, plots
from mmutils.report.results import Study
from mmutils.statistics import Interval

LANGUAGES = {"en": "English", "hi": "Hindi"}
SCORES = {"f1_macro": "macro F1", "f1_weighted": "weighted F1", "accuracy": "accuracy", "auroc": "AUROC"}
DATA = {"photos": "photographs", "harmeme": "memes about COVID-19", "crisismmd": "crisis tweets"}  # in a sentence
_NOTES = Path(__file__).with_name("notes.md").read_text(encoding="utf-8")
NOTES = {  # paragraphs, captions and heads of tables by name; a paragraph becomes one line
    name: re.sub(r"(?<!\n)\n(?![|\n]|\{head)", " ", text.strip())
    for name, text in re.findall(r"^## (\S+)\n(.*?)(?=^##|\Z)", _NOTES, re.MULTILINE | re.DOTALL)
}
NAMES = dict(re.findall(r"^\| (.+) \| (.+) \|$", NOTES["names"], re.MULTILINE))  # of networks, starts and settings
_CODE = re.compile(rf"(?<![\w/.-])({'|'.join(map(re.escape, NAMES))})(?![\w/-]|\.\w)")


@dataclass
class Page:
    """Where blocks write to: the study's results, and the figures made so far."""

    study: Study
    draw: bool = True  # False: only the text is wanted, no picture is written
    prefix: str = ""  # of the names of its pictures
    made: dict[str, bytes] = field(default_factory=dict)  # pictures by the name of their file
    problems: list[str] = field(default_factory=list)  # what could not be shown, and why
    coloured: dict[str, int] = field(default_factory=dict)  # starts by the number of their line
    ranges: dict[str, str] = field(default_factory=dict)  # by setting, of the part of its gap, as asked in several ways
    chapter: str = ""  # what is written of it, by `rendering.written`
    answer: tuple[str, str, str] = ("", "", "")  # its question, what it says to it, and a figure
    explorer: tuple | None = None  # as `explorer_html` takes it

    @property
    def name(self) -> str:
        """The data set's name; a table has the name of its first run."""
        runs = [*self.study.records.items()]
        run, record = next(((run, record) for run, record in runs if record["data"]), runs[0])  # one that got so far
        name = "emoji" if self.study.built_in else record["data"].get("name", run)
        return name if name != "table" else run if run in DATA else f"your own table ({run})"

    @property
    def warning(self) -> str:
        """What stands above each table made from built-in data."""
        return f"Emoji data, not {'memes' if self.study.name == 'memes' else 'crisis tweets'}."

    def guarded(self, name: str, build: Callable[["Page"], str]) -> str:
        """What `build(page)` gives; where it fails, a line that says so: records may come from anywhere."""
        try:
            return build(self)
        except Exception as error:  # odd numbers and names in a record may lead to any
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        self.problems.append(f"{self.name}, {name}: {reason}")
        return f"*Cannot be shown, {markdown.escape(name)}: {markdown.escape(reason)}*"

    def table(self, name: str, rows: list[list[str]], **values) -> str:
        """Rows under their caption and head in NOTES, filled with `values`; "" without rows."""
        kind = "gap" if self.study.name == "gap" else "val"  # of the_gap.ipynb
        values |= {"score": SCORES[self.study.score], "chosen": NOTES[f"chosen-{kind}"]}
        caption, head = NOTES[name].format(**values).split("\n", 1)
        warning = f"**{self.warning}** " if self.study.built_in else ""
        lines = [f"*{warning}{caption}*\n", head, *(f"| {' | '.join(row)} |" for row in rows)]
        return "\n".join(lines) if rows else ""

    def figure(self, name: str, figure: Figure, text: str) -> str:
        """A figure as figures/NAME.svg, in Markdown; `text` is for those who do not see it."""
        return self.file(f"{name}.svg", partial(plots.svg, figure), text)

    def file(self, name: str, make: Callable[[], bytes], text: str) -> str:
        """The same for any picture file, whose content `make` gives."""
        name = self.prefix + re.sub(r"[^A-Za-z0-9._-]", "-", name)
        self.made[name] = make() if self.draw else b""
        return f"![{markdown.escape(text)}](figures/{name})"

    def look(self, system: dict) -> dict:
        """Colour and dashes of a system's lines, the same in all figures: those of its start, else of its language."""
        if start := system.get("start"):
            return plots.LINES[self.coloured.setdefault(start, len(self.coloured)) % len(plots.LINES)]
        return {"color": plots.LANGUAGE_COLOURS.get(system["language"], plots.PALETTE[2]), "dashes": ""}

    def record(self, run: str, label: str) -> str:
        """A link from a row to the record of the run that it was made from."""
        return f"[{markdown.escape(label)}](runs/{run}/record.json)"


def readable(text: str) -> str:
    """The text with the names that readers know in place of those of code."""
    return _CODE.sub(lambda match: NAMES[match[0]], text)


def percent(value: float | None, form: str = "z.1f") -> str:
    """0.8263 -> '82.6', with a real minus sign, none for 0; a dash for what could not be computed."""
    return "–" if value is None or value != value else f"{100 * value:{form}}".replace("-", "−")


points = partial(percent, form="+z.1f")  # a difference with its sign: 0.047 -> '+4.7'


def span(value: Interval | None, show: Callable[[float], str] = percent) -> str:
    """An estimate with its interval; a dash for None."""
    return f"{show(value.estimate)} [{show(value.low)}, {show(value.high)}]" if value else "–"


def tested(value: Interval | None) -> str:
    """A difference with its interval and p-value."""
    return span(value, points) + (f", p {p_value(value.p_value)}" if value else "")


def recorded(row: dict, key: str, ends: str = "", p: float | None = None) -> Interval:
    """An interval that a record holds: its estimate under `key`, its ends under low and high with `ends` before."""
    return Interval(row[key], row[f"{ends}low"], row[f"{ends}high"], groups=0, seeds=0, p_value=p)


def spread(values) -> str:
    """Mean ± standard deviation over seeds, in percent; of one seed the value alone."""
    return percent(values.mean()) + (f" ± {percent(values.std(ddof=1))}" if len(values) > 1 else "")


def p_value(p: float | None) -> str:
    """A p-value for a cell, never as 0."""
    return "–" if p is None else "< .001" if p < 0.001 else f"{p:.3f}".replace("0.", ".")


def dot(interval: Interval) -> dict[str, float]:
    """Estimate and interval in percent, as figures take them."""
    return {key: 100 * getattr(interval, key) for key in ("estimate", "low", "high")}
