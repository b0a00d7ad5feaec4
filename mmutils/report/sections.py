"""What a study's chapter is made of: blocks of Markdown that fill the markers of report.md, and how numbers look there.

A further study is one module with WARNING, SECTIONS and `explorer`, named in `mmutils.report.rendering.STUDIES`.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from matplotlib.figure import Figure

from mmutils import statistics
from mmutils.report import markdown, plots
from mmutils.report.results import Study

LANGUAGES = {"en": "English", "hi": "Hindi"}


@dataclass
class Page:
    """Where a section writes to: the study's results, the report's folder, and the figures made so far."""

    study: Study
    folder: Path
    profile: str
    warning: str  # what stands above each table made from built-in data
    draw: bool = True  # False: only the text is wanted, no picture is written
    made: dict[str, bytes] = field(default_factory=dict)  # pictures by the name of their file
    problems: list[str] = field(default_factory=list)  # what could not be shown, and why

    def guarded(self, name: str, build: Callable[["Page"], str]) -> str:
        """What `build(page)` gives; where it fails, what it gives without the run it fails on, and a line that says so.

        Records may come from anywhere, and the insides of one must not take the report of the others away.
        """
        before = dict(self.made)
        try:
            return build(self)
        except Exception as error:  # odd numbers and names in a record may lead to any
            self.made = before
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        for run in self.study.records:
            try:
                page = replace(self, study=self.study.without(run), made=dict(before))
                text = build(page)
            except Exception:  # it fails on another run, or on more than one
                continue
            self.made = page.made
            return f"{self._problem(name, f'run {run}: {reason}')}\n\n{text}"
        return self._problem(name, reason)

    def _problem(self, name: str, reason: str) -> str:
        self.problems.append(f"{name}: {reason}")
        warnings.warn(f"report, {name}, cannot be shown: {reason}", stacklevel=3)
        return f"*Cannot be shown, {markdown.escape(name)}: {markdown.escape(reason)}*"

    def table(self, caption: str, header: list[str], rows: list[list[str]], numbers: slice = slice(1, None)) -> str:
        """A table under its caption, which begins with a warning where the data are the built-in ones."""
        first = f"**{self.warning}** {caption}" if self.study.built_in else caption
        return f"*{first}*\n\n{markdown.table(header, rows, numbers)}"

    def figure(self, name: str, figure: Figure, text: str) -> str:
        """A figure as figures/NAME.svg, in Markdown; `text` is for those who do not see it."""
        return self.file(f"{name}.svg", lambda: plots.svg(figure), text)

    def file(self, name: str, make: Callable[[], bytes], text: str) -> str:
        """The same for any picture file, whose content `make` gives. It is written when the whole text is made."""
        self.made[name] = make() if self.draw else b""
        return f"![{markdown.escape(text)}](figures/{name})"

    def record(self, run: str, label: str) -> str:
        """A link from a row to the record of the run that it was made from."""
        return f"[{markdown.escape(label)}](runs/{run}/record.json)"


@dataclass(frozen=True)
class Section:
    """One block of the report.

    Args:
        name: of its marker.
        needs: prefixes of the names of the runs that it is made from; empty: any run of the study.
        build: makes the block.
        quiet: where runs are missing the block is empty, instead of the command that makes them.
    """

    name: str
    needs: tuple[str, ...]
    build: Callable[[Page], str]
    quiet: bool = False

    def markdown(self, page: Page) -> str:
        """The block's content for the runs there are."""
        missing = page.study.missing(*self.needs)
        if not missing and (self.needs or page.study.systems):
            return page.guarded(self.name, self.build)
        if self.quiet:
            return ""
        wanted = ", ".join(f"`{name}`" for name in missing) or "the study's runs"
        return f"*Not run yet: {wanted}.* Command: `python -m mmutils.reproduce --profile {page.profile}`"


def percent(value: float | None, digits: int = 1) -> str:
    """0.8263 -> '82.6', with a real minus sign; a dash for what could not be computed, which a record holds as None."""
    return "–" if value is None else f"{100 * value:.{digits}f}".replace("-", "−")


def points(value: float) -> str:
    """A difference in percentage points, with its sign: 0.047 -> '+4.7'."""
    return f"{100 * value:+.1f}".replace("-", "−")


def between(low: float, high: float, show: Callable[[float], str] = percent) -> str:
    """An interval for a cell."""
    return f"[{show(low)}, {show(high)}]"


def spread(values) -> str:
    """Mean ± standard deviation over seeds, in percent; of one seed the value alone."""
    return percent(values.mean()) + (f" ± {percent(values.std(ddof=1))}" if len(values) > 1 else "")


def p_value(p: float | None) -> str:
    """A p-value for a cell, never as 0."""
    if p is None:
        return "–"
    return "< .001" if p < 0.001 else f"{p:.3f}".replace("0.", ".")


def tested(value: statistics.Interval, show: Callable[[float], str] = points) -> str:
    """Interval and p-value of a difference, for a sentence."""
    p = p_value(value.p_value)
    return f"95 % interval {show(value.low)} to {show(value.high)}, p {p if p.startswith('<') else f'= {p}'}"


COMPARED = ["Difference", "95 % interval", "p", "p, Holm", "Verdict"]


def compared(comparison: statistics.Comparison) -> list[str]:
    """A paired comparison as cells under COMPARED."""
    difference, p_holm = comparison
    interval = between(difference.low, difference.high, points)
    p_values = p_value(difference.p_value), p_value(p_holm)
    return [points(difference.estimate), interval, *p_values, comparison.verdict]


def dot(interval: statistics.Interval) -> dict[str, float]:
    """Estimate and interval in percent, as figures take them."""
    return {key: 100 * getattr(interval, key) for key in ("estimate", "low", "high")}
