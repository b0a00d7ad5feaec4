"""Pictures of the report as both renderers take them: from figures/ alone, and SVG taken apart and written anew.

A report can hold runs from elsewhere. A picture must not bring a file of the user into the page, and an SVG inside a
page could run a script, load from the net or lie over the text. So an SVG that holds anything but shapes is refused.
"""

import html
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

from PIL import Image

SPACE, LINKS = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
WORDS = {"text", "tspan", "title", "desc"}
SHAPES = {"path", "rect", "circle", "ellipse", "line", "polyline", "polygon"}
ELEMENTS = {"svg", "g", "defs", "use", "clipPath"} | WORDS | SHAPES
DROPPED = {"metadata", "style"}  # matplotlib's date and its rule for the joins of lines
ATTRIBUTE = re.compile(
    r"[xydr]|[xy][12]|[cdr][xy]|width|height|points|style|transform|viewBox|version|opacity|text-anchor|clip-(path|rule)"
    r"|fill(-opacity|-rule)?|stroke(-width|-opacity|-linejoin|-linecap|-dasharray|-dashoffset|-miterlimit)?"
    r"|font(-family|-size|-style|-weight)?"
)
VALUE = re.compile(r"[\w\s:;,.%#()+'\"-]*")  # no address, no escape, no comment, no rule
UNFIT = re.compile(r"(?i)url\s*\((?!#[\w.-]+\))|expression|image|src\s*\(|position")


def path(folder: Path, address: str) -> Path | None:
    """The file of a picture's address, where that is a file right in `folder`/figures and no link."""
    file = folder / address
    fit = re.fullmatch(r"figures/[A-Za-z0-9][\w.-]*\.(svg|png)", address, re.ASCII)
    return file if fit and file.is_file() and file.resolve() == folder.resolve() / address else None


def png(file: Path) -> bytes | None:
    """The content of a PNG file, None where it is something else."""
    try:
        with Image.open(file, formats=["PNG"]) as picture:
            picture.verify()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None
    return file.read_bytes()


def svg(file: Path, root: dict[str, str], prefix: str = "", change: Callable[[str], str] = str) -> str | None:
    """The <svg> element of a file with shapes alone; None where it is no SVG or holds anything else.

    Args:
        file: what stands before <svg, such as a DOCTYPE with its entities, is not read.
        root: attributes of the outermost element in place of its own; "" removes one.
        prefix: put before every id, so that several can stand in one page.
        change: applied to the value of every attribute.
    """
    try:
        source = file.read_text(encoding="utf-8")
        tree = ElementTree.fromstring(source[source.index("<svg") :])
        tree.attrib |= root
        used = set(re.findall(r"#([\w.-]+)", source))
        return _element(tree, partial(_attribute, prefix=prefix, change=change, used=used))
    except (ValueError, ElementTree.ParseError, RecursionError):
        return None


def _element(element: ElementTree.Element, attribute: Callable[[str, str], str]) -> str:
    """The element written anew; ValueError at the first that is not on the lists."""
    space, _, name = element.tag.rpartition("}")
    if name in DROPPED:
        return ""
    if space != f"{{{SPACE}" or name not in ELEMENTS:
        raise ValueError(f"an element {element.tag}")
    inside = html.escape(element.text or "", quote=False) if name in WORDS else ""
    for child in element:
        inside += _element(child, attribute) + (html.escape(child.tail or "", quote=False) if name in WORDS else "")
    head = name + "".join(attribute(key, value) for key, value in element.attrib.items() if value)
    return f"<{head}>{inside}</{name}>" if inside else f"<{head}/>"


def _attribute(key: str, value: str, prefix: str, change: Callable[[str], str], used: set[str]) -> str:
    if key in ("role", "aria-label", "xmlns"):  # ours
        return f' {key}="{html.escape(value)}"'
    if key in ("href", f"{{{LINKS}}}href"):
        if not re.fullmatch(r"#[\w.-]+", value):
            raise ValueError(f"a link to {value}")
        return f' href="#{prefix}{value[1:]}"'
    if key == "id":  # kept where something refers to it
        return f' id="{prefix}{html.escape(value)}"' if value in used else ""
    if not ATTRIBUTE.fullmatch(key) or not VALUE.fullmatch(value) or UNFIT.search(value):
        raise ValueError(f"an attribute {key}")
    value = change(value.replace("url(#", f"url(#{prefix}"))
    return f' {key}="{html.escape(value)}"'
