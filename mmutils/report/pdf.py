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
from markdown_it.tree import SyntaxTreeNode

from mmutils.report import markdown, plots

_MARKUP = {  # of nodes that others stand in, or that have no text
    **dict.fromkeys(("root", "inline", "thead", "tbody"), "{}"),
    **dict.fromkeys(("list_item", "th", "td"), "[{}],"),
    "tr": "{}\n",
    "heading": "#heading(level: {node.tag[1]})[{}]\n\n",
    "strong": "#strong[{}]",
    "link": "#text()[{}]",  # to a file or a heading: it has no target on a printed page, only its text
    "em": "#emph[{}]",
    "bullet_list": "#list({})\n\n",
    "ordered_list": "#enum({})\n\n",
    "blockquote": "#quote(block: true)[{}]\n\n",
    "softbreak": " ",
    "hardbreak": "#linebreak()",
    "hr": "#line(length: 100%)\n\n",
}


def render(text: str, pictures: dict[str, bytes]) -> bytes:
    """The PDF of the report's filled Markdown, without the explorer, and its pictures by the name of their file."""
    tokens = markdown.parser().parse(markdown.without_comments(text))
    with tempfile.TemporaryDirectory() as build:
        body = _Writer(Path(build), pictures).markup(SyntaxTreeNode(tokens))
        body = body.replace("#heading(level: 2)", "#contents\n\n#heading(level: 2)", 1)
        head = f"#set document(title: {_literal(markdown.words(tokens[1]))}, date: none)\n"
        source = head + Path(__file__).with_name("page.typ").read_text("utf-8") + body
        return typst.compile(source.encode(), root=build, font_paths=[plots.FONT.parent], ignore_system_fonts=True)


def _literal(text: str) -> str:
    return json.dumps(markdown.visible(text), ensure_ascii=False)  # Typst escapes control characters in another way


def _figures(node: SyntaxTreeNode) -> list[Token]:
    """The pictures of a node that holds nothing else."""
    alone = node.type == "inline" and all(child.type in ("image", "softbreak") for child in node.children)
    return [child.token for child in node.children if child.type == "image"] if alone else []


def _shows(node: SyntaxTreeNode | None) -> bool:
    """Whether a paragraph holds pictures alone."""
    return bool(node and node.children and _figures(node.children[0]))


def _widths(table: SyntaxTreeNode) -> list[int]:
    """About how many letters wide each column is: as its longest cell or word of its bold head, at most 26, and 2."""
    head, *rows = [[markdown.words(c.children[0].token) for c in r.children] for r in table.walk() if r.type == "tr"]
    heads = [1.3 * max(map(len, [*name.split(), "-" * 4])) for name in head]
    return [2 + round(min(max(column), 26)) for column in zip(heads, *(map(len, row) for row in rows), strict=True)]


class _Writer:
    """Writes tokens as Typst markup; pictures and formulas are stored under numbers in the folder where Typst runs."""

    def __init__(self, build: Path, pictures: dict[str, bytes]):
        self.build, self.pictures, self.numbers = build, pictures, count(1)

    def markup(self, node: SyntaxTreeNode) -> str:
        if len(figures := _figures(node)) > 1:
            return f"#figures({', '.join(map(self.image, figures))})"
        inside = "".join(map(self.markup, node.children))
        match node.type:
            case "text":
                return f"#{_literal(node.content)};" if node.content else ""
            case "image":
                return f"#picture({self.image(node.token)});"
            case "code_inline":
                return f"#raw({_literal(node.content)});"
            case "fence" | "code_block":
                return f"#raw(block: true, {_literal(node.content.rstrip())})\n\n"
            case "math_inline" | "math_block" as kind:
                formula = self.formula(node.content, inline=kind == "math_inline")
                return f"#{formula};" if kind == "math_inline" else f"#align(center, {formula})\n\n"
            case "link" if node.attrGet("href").startswith(("http://", "https://")):
                return f"#link({_literal(node.attrGet('href'))})[{inside}]"
            case "paragraph" if _shows(node.next_sibling) and not _shows(node):
                return f"#block(sticky: true)[{inside}]\n\n"
            case "paragraph":
                return f"#caption[{inside}]\n\n" if markdown.is_caption(node) else f"{inside}\n\n"
            case "table":
                styles = [cell.attrGet("style") for cell in node.walk() if cell.type == "th"]
                aligned = ", ".join("right" if style == "text-align:right" else "left" for style in styles)
                vertical = "horizon" if any(child.type == "image" for child in node.walk()) else "top"
                widths = ", ".join(map(str, _widths(node)))
                return f"#report-table({len(styles)}, ({widths},), ({aligned},), {vertical}, ({inside}))\n\n"
        return _MARKUP[node.type].format(inside, node=node)

    def image(self, token: Token) -> str:
        """A call of Typst's image with the Markdown's text for those who do not see it; else a box with that text."""
        text, name = _literal(markdown.words(token)), token.attrGet("src").removeprefix("figures/")
        content = self.pictures.get(name)
        return f"image({self.store(content, Path(name).suffix)}, alt: {text})" if content else f"box({text})"

    def formula(self, source: str, inline: bool) -> str:
        svg = re.sub(r"\s+", " ", ziamath.Latex(source.strip(), size=10.5, inline=inline).svg())
        _, top, width, height = map(float, re.search(r'viewBox="([^"]+)"', svg)[1].split())
        name = self.store(svg.encode(), ".svg")
        return f"formula({name}, {width}pt, {height}pt, {top + height}pt, {_literal(source.strip())})"

    def store(self, content: bytes, suffix: str) -> str:
        name = f"{next(self.numbers)}{suffix}"
        (self.build / name).write_bytes(content)
        return _literal(name)
