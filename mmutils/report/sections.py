"""What a study's chapter is made of: blocks of Markdown for the markers of report.md, and the page they belong to.

A further study is one module with WARNING and SECTIONS, named in `mmutils.report.rendering.STUDIES`.
"""

import io
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from matplotlib.figure import Figure

from mmutils.report import markdown
from mmutils.report.results import Study

LANGUAGES = {"en": "English", "hi": "Hindi"}
_NOTES = Path(__file__).with_name("notes.md").read_text(encoding="utf-8")
NOTES = {  # paragraphs, captions and heads of tables by name; a paragraph becomes one line
    name: re.sub(r"\n(?!\||\{head)", " ", text.strip())
    for name, text in re.findall(r"^## (\S+)\n(.*?)(?=^##|\Z)", _NOTES, re.MULTILINE | re.DOTALL)
}


@dataclass
class Page:
    """Where a section writes to: the study's results, and the figures made so far."""

    study: Study
    profile: str
    warning: str  # what stands above each table made from built-in data
    draw: bool = True  # False: only the text is wanted, no picture is written
    prefix: str = ""  # of the names of its pictures
    made: dict[str, bytes] = field(default_factory=dict)  # pictures by the name of their file
    problems: list[str] = field(default_factory=list)  # what could not be shown, and why

    @property
    def data(self) -> str:
        """What was tested on, for a sentence."""
        return f"the built-in data ({self.warning.rstrip('.').lower()})" if self.study.built_in else "the test split"

    def guarded(self, name: str, build: Callable[["Page"], str]) -> str:
        """What `build(page)` gives; where it fails, a line that says so: records may come from anywhere."""
        try:
            return build(self)
        except Exception as error:  # odd numbers and names in a record may lead to any
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        self.problems.append(f"{name}: {reason}")
        return f"*Cannot be shown, {markdown.escape(name)}: {markdown.escape(reason)}*"

    def table(self, name: str, rows: list[list[str]], **values) -> str:
        """Rows under their caption and head in NOTES, filled with `values`; a warning where the data are built-in."""
        caption, head = NOTES[name].format(**values).split("\n", 1)
        warning = f"**{self.warning}** " if self.study.built_in else ""
        return "\n".join([f"*{warning}{caption}*\n", head, *(f"| {' | '.join(row)} |" for row in rows)])

    def figure(self, name: str, figure: Figure, text: str) -> str:
        """A figure as figures/NAME.svg, in Markdown; `text` is for those who do not see it."""
        content = io.BytesIO()
        if self.draw:
            figure.savefig(content, format="svg", metadata={"Date": None})  # so the same figure has the same bytes
        return self.file(f"{name}.svg", content.getvalue, text)

    def file(self, name: str, make: Callable[[], bytes], text: str) -> str:
        """The same for any picture file, whose content `make` gives."""
        name = self.prefix + name
        self.made[name] = make() if self.draw else b""
        return f"![{markdown.escape(text)}](figures/{name})"

    def record(self, run: str, label: str) -> str:
        """A link from a row to the record of the run that it was made from."""
        return f"[{markdown.escape(label)}](runs/{run}/record.json)"


class Section(NamedTuple):
    """The block for the marker `name`, from runs whose names begin with `needs` (empty: any run of the study)."""

    name: str
    needs: tuple[str, ...]
    build: Callable[[Page], str]
    quiet: bool = False  # empty where runs are missing, else the command that makes them

    def markdown(self, page: Page) -> str:
        """The block's content for the runs there are."""
        missing = page.study.missing(*self.needs)
        if not missing and (self.needs or page.study.systems):
            return page.guarded(self.name, self.build)
        wanted = ", ".join(f"`{name}`" for name in missing) or "the study's runs"
        command = f"*Not run yet: {wanted}.* Command: `python -m mmutils.reproduce --profile {page.profile}`"
        return "" if self.quiet else command
