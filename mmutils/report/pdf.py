"""The report as a PDF: the Markdown's tokens become Typst markup, which the compiler in the `typst` wheel sets.

Everything that comes from the text is written as a Typst string, so no character of it is markup. Formulas are set by
ziamath as SVG, with their baseline on the line's. The PDF holds no date: the same text gives the same bytes.
"""

import json
import re
import tempfile
from itertools import count
from pathlib import Path

import typst
import ziamath
from markdown_it.token import Token

from mmutils.report import figures, markdown, plots

TEMPLATE = Path(__file__).parent / "page.typ"
_KINDS = {  # of tokens, by the markup that each is written as
    "#strong[": "strong_open",
    "#emph[": "em_open",
    "#list(": "bullet_list_open",
    "#enum(": "ordered_list_open",
    "#quote(block: true)[": "blockquote_open",
    "[": "list_item_open th_open td_open",
    "]": "strong_close em_close link_close",
    "],": "list_item_close th_close td_close",
    "]\n\n": "heading_close blockquote_close",
    ")\n\n": "bullet_list_close ordered_list_close",
    "))\n\n": "table_close",
    "": "thead_open thead_close tbody_open tbody_close tr_open",
    "\n": "tr_close",
    " ": "softbreak",
    "#linebreak()": "hardbreak",
    "#line(length: 100%)\n\n": "hr",
}
_MARKUP = {kind: markup for markup, kinds in _KINDS.items() for kind in kinds.split()}


def render(text: str, folder: Path) -> bytes:
    """The PDF of the report's filled Markdown, without the explorer; pictures are relative to `folder`."""
    tokens = markdown.parser().parse(markdown.without_comments(text))
    with tempfile.TemporaryDirectory() as build:
        body = _Writer(Path(build), folder).markup(tokens)
        body = body.replace("#heading(level: 2)", "#contents\n\n#heading(level: 2)", 1)
        head = f"#set document(title: {_literal(markdown.title(tokens))}, date: none)\n"
        source = head + TEMPLATE.read_text(encoding="utf-8") + body
        return typst.compile(source.encode(), root=build, font_paths=[plots.FONT.parent], ignore_system_fonts=True)


def _literal(text: str) -> str:
    """A string of Typst; without control characters, which it escapes in another way than JSON."""
    return json.dumps(markdown.visible(text), ensure_ascii=False)


class _Writer:
    """Writes tokens as Typst markup; pictures and formulas are stored under numbers in the folder where Typst runs."""

    def __init__(self, build: Path, folder: Path):
        self.build, self.folder, self.numbers = build, folder, count(1)

    def markup(self, tokens: list[Token]) -> str:
        return "".join(self.token(tokens, index) for index in range(len(tokens)))

    def token(self, tokens: list[Token], index: int) -> str:
        token = tokens[index]
        match token.type:
            case "inline" if len(images := markdown.images(token)) > 1:
                return f"#figures({', '.join(map(self.image, images))})"
            case "inline":
                return self.markup(token.children)
            case "text":
                return f"#{_literal(token.content)};" if token.content else ""
            case "image":
                return f"#picture({self.image(token)});"
            case "code_inline":
                return f"#raw({_literal(token.content)});"
            case "fence" | "code_block":
                return f"#raw(block: true, {_literal(token.content.rstrip())})\n\n"
            case "math_inline":
                return f"#{self.formula(token.content, inline=True)};"
            case "math_block":
                return f"#align(center, {self.formula(token.content, inline=False)})\n\n"
            case "link_open":  # a link to a file or a heading has no target on a printed page, only its text
                target = token.attrGet("href")
                return f"#link({_literal(target)})[" if target.startswith(("http://", "https://")) else "#text()["
            case "heading_open":
                return f"#heading(level: {token.tag[1]})["
            case "table_open":
                kinds = [token.type for token in tokens]
                table = tokens[index : kinds.index("table_close", index)]
                head = [token for token in table if token.type == "th_open"]
                aligned = ["right" if token.attrGet("style") == "text-align:right" else "left" for token in head]
                pictures = any(child.type == "image" for token in table for child in token.children or ())
                vertical = "horizon" if pictures else "top"
                return f"#report-table({len(aligned)}, ({', '.join(aligned)},), {vertical}, ("
            case "paragraph_open":
                return "#caption[" if markdown.is_caption(tokens[index + 1]) else ""
            case "paragraph_close":
                return "]\n\n" if markdown.is_caption(tokens[index - 1]) else "\n\n"
        return _MARKUP[token.type]

    def image(self, token: Token) -> str:
        """A call of Typst's image, with the Markdown's text for those who do not see it; else a box with that text."""
        text, file = _literal(markdown.words(token)), figures.path(self.folder, token.attrGet("src"))
        root = {"xmlns": figures.SPACE, "style": "stroke-linejoin:round;stroke-linecap:butt"}
        content = file and ((figures.svg(file, root) or "").encode() if file.suffix == ".svg" else figures.png(file))
        return f"image({self.store(content, file.suffix)}, alt: {text})" if content else f"box({text})"

    def formula(self, source: str, inline: bool) -> str:
        """A formula as a box that sits on the baseline of its line."""
        svg = re.sub(r"\s+", " ", ziamath.Latex(source.strip(), size=10.5, inline=inline).svg())
        _, top, width, height = map(float, re.search(r'viewBox="([^"]+)"', svg)[1].split())
        name = self.store(svg.encode(), ".svg")
        return f"formula({name}, {width}pt, {height}pt, {top + height}pt, {_literal(source.strip())})"

    def store(self, content: bytes, suffix: str) -> str:
        """Stores a file for Typst and returns its name as a string of Typst."""
        name = f"{next(self.numbers)}{suffix}"
        (self.build / name).write_bytes(content)
        return _literal(name)
