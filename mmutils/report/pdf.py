"""The report as a PDF: the Markdown's tokens become Typst markup, which the compiler in the `typst` wheel sets.

Everything that comes from the text is written as a Typst string, so no character of it is markup. Formulas are set by
ziamath as SVG, with their baseline on the line's. The PDF holds no date: the same text gives the same bytes.
"""

import json
import os
import re
import tempfile
from pathlib import Path

import typst
import ziamath

from mmutils.report import figures, markdown, plots

TEMPLATE = Path(__file__).parent / "page.typ"
_PAIRS = {"strong_open": "#strong[", "em_open": "#emph[", "strong_close": "]", "em_close": "]", "link_close": "]",
          "bullet_list_open": "#list(", "ordered_list_open": "#enum(", "bullet_list_close": ")\n\n",
          "ordered_list_close": ")\n\n", "list_item_open": "[", "list_item_close": "],",
          "blockquote_open": "#quote(block: true)[", "blockquote_close": "]\n\n", "heading_close": "]\n\n",
          "softbreak": " ", "hardbreak": "#linebreak()", "hr": "#line(length: 100%)\n\n", "thead_open": "",
          "thead_close": "", "tbody_open": "", "tbody_close": "", "tr_open": "", "tr_close": "\n", "th_close": "],",
          "td_close": "],"}  # fmt: skip


def render(text: str, folder: Path) -> bytes:
    """The PDF of the report's filled Markdown, without the explorer; pictures are relative to `folder`."""
    tokens = markdown.parser().parse(markdown.without_comments(markdown.without(text, "explorer")))
    with tempfile.TemporaryDirectory() as build:
        writer = _Writer(Path(build), folder)
        body = writer.blocks(tokens).replace("#heading(level: 2)", "#contents\n\n#heading(level: 2)", 1)
        title = next((token.content for token in tokens if token.type == "inline"), "Report")
        source = Path(build) / "report.typ"
        head = f"#set document(title: {literal(title)}, date: none)\n"
        source.write_text(head + TEMPLATE.read_text(encoding="utf-8") + body, encoding="utf-8")
        fonts = [str(plots.FONT.parent)] if plots.FONT.exists() else []
        epoch, os.environ["SOURCE_DATE_EPOCH"] = os.environ.get("SOURCE_DATE_EPOCH"), "0"
        try:
            return typst.compile(str(source), root=build, font_paths=fonts, ignore_system_fonts=True)
        finally:
            os.environ.pop("SOURCE_DATE_EPOCH")
            if epoch is not None:
                os.environ["SOURCE_DATE_EPOCH"] = epoch


def literal(text: str) -> str:
    """A string of Typst; without control characters, which it escapes in another way than JSON."""
    return json.dumps(markdown.visible(text), ensure_ascii=False)


def string(text: str) -> str:
    """Text as Typst code that shows exactly this text."""
    return f"#{literal(text)};" if text else ""


class _Writer:
    """Walks the tokens; pictures and formulas are copied under numbers into the folder where Typst runs."""

    def __init__(self, build: Path, folder: Path):
        self.build, self.folder, self.files = build, folder, 0
        self.anchors: set[str] = set()

    def blocks(self, tokens: list) -> str:
        """Typst markup of block tokens."""
        parts = []
        for index, token in enumerate(tokens):
            if token.type == "inline":
                parts.append(self.inline(token.children or []))
            elif token.type in ("fence", "code_block"):
                parts.append(f"#raw(block: true, {literal(token.content.rstrip())})\n\n")
            elif token.type == "math_block":
                parts.append(f"#align(center, {self.formula(token.content, block=True)})\n\n")
            elif token.type == "heading_open":
                parts.append(f"#heading(level: {token.tag[1]})[")
            elif token.type == "table_open":
                parts.append(self.table_open(tokens[index:]))
            elif token.type == "table_close":
                parts.append("))\n\n")
            elif token.type in ("th_open", "td_open"):
                parts.append("[")
            elif token.type == "paragraph_open":
                parts.append("#caption[" if markdown.is_caption(tokens[index + 1]) else "")
            elif token.type == "paragraph_close":
                parts.append("]\n\n" if markdown.is_caption(tokens[index - 1]) else "\n\n")
            else:
                parts.append(_PAIRS[token.type])
        return "".join(parts)

    def table_open(self, tokens: list) -> str:
        """Begins a table: as many columns as its head has, numbers on the right, smaller type where it is wide."""
        head = [t for t in tokens[: next(i for i, t in enumerate(tokens) if t.type == "thead_close")] if t.tag == "th"]
        aligned = ["right" if "right" in (t.attrGet("style") or "") else "left" for t in head if t.nesting == 1]
        end = next(i for i, t in enumerate(tokens) if t.type == "table_close")
        pictures = any(child.type == "image" for t in tokens[:end] for child in t.children or [])
        return f"#report-table({len(aligned)}, ({', '.join(aligned)},), {'horizon' if pictures else 'top'}, ("

    def inline(self, tokens: list) -> str:
        """Typst markup of what stands in one paragraph, heading or cell."""
        images = [t for t in tokens if t.type == "image"]
        if len(images) > 1 and all(t.type in ("image", "softbreak") for t in tokens):
            return f"#figures({', '.join(self.image(t) for t in images)})"
        parts = []
        for token in tokens:
            if token.type == "text":
                parts.append(string(token.content))
            elif token.type == "code_inline":
                parts.append(f"#raw({literal(token.content)});")
            elif token.type == "math_inline":
                parts.append(f"#{self.formula(token.content)};")
            elif token.type == "link_open":
                parts.append(_link(token.attrGet("href")))
            elif token.type == "image":
                parts.append(f"#picture({self.image(token)});")
            else:
                parts.append(_PAIRS[token.type])
        return "".join(parts)

    def image(self, token) -> str:
        """A call of Typst's image, with the Markdown's text for those who do not see it; else a box with that text."""
        text, file = markdown.words(token), figures.path(self.folder, token.attrGet("src"))
        content = self.content(file) if file else None
        if not content:
            return f"box({literal(text)})"
        return f"image({literal(self.write(content, file.suffix))}, alt: {literal(text)})"

    def content(self, file: Path) -> bytes | None:
        """The picture that Typst may read."""
        if file.suffix != ".svg":
            return figures.png(file)
        root = {"xmlns": figures.SPACE, "style": "stroke-linejoin:round;stroke-linecap:butt"}
        source = figures.svg(file, root)
        return source.encode() if source else None

    def formula(self, source: str, block: bool = False) -> str:
        """A formula as a box that sits on the baseline of its line."""
        formula = ziamath.Latex(source.strip(), size=10.5, inline=not block)
        svg = re.sub(r"\s+", " ", formula.svg())
        _, top, width, height = (float(v) for v in re.search(r'viewBox="([^"]+)"', svg)[1].split())
        name = self.write(svg.encode(), ".svg")
        return f"formula({json.dumps(name)}, {width}pt, {height}pt, {top + height}pt, {literal(source.strip())})"

    def write(self, content: bytes, suffix: str) -> str:
        """Stores a file for Typst and returns its name."""
        self.files += 1
        name = f"{self.files}{suffix}"
        (self.build / name).write_bytes(content)
        return name


def _link(target: str) -> str:
    """Begins a link; one to a file or a heading has no target in a printed page, only its text."""
    return f"#link({literal(target)})[" if target.startswith(("http://", "https://")) else "#text()["
