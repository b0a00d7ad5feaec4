"""Pictures of the report as both renderers take them: from figures/ alone, and SVG taken apart and written anew.

A report can hold runs from elsewhere. A picture must not bring a file of the user into the page, and an SVG inside a
page could run a script, load from the net or lie over the text. So an SVG that holds anything but shapes is refused.
"""

import html
import re
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
    """The file of a picture's address, where that is a file right in `folder`/figures and no link; a .png is a PNG."""
    file = folder / address
    fit = re.fullmatch(r"figures/[A-Za-z0-9][\w.-]*\.(svg|png)", address, re.ASCII)
    if not (fit and file.is_file() and file.resolve() == folder.resolve() / address):
        return None
    try:
        if file.suffix == ".png":
            with Image.open(file, formats=["PNG"]) as picture:
                picture.verify()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None
    return file


def svg(file: Path, root: dict[str, str], prefix: str = "", change: dict[str, str] | None = None) -> str | None:
    """The <svg> element of a file with shapes alone; None where it is no SVG or holds anything else.

    What stands before <svg, such as a DOCTYPE with its entities, is not read. `root`: attributes of the outermost
    element, "" removes one. `prefix` is put before every id. `change`: replacements in the values of attributes.
    """
    try:
        source = file.read_text(encoding="utf-8")
        tree = ElementTree.fromstring(source[source.index("<svg") :])
        tree.attrib |= root
        used = set(re.findall(r"#([\w.-]+)", source))
        return _element(tree, used, prefix, {"url(#": f"url(#{prefix}"} | (change or {}))
    except (ValueError, ElementTree.ParseError, RecursionError):
        return None


def _element(element: ElementTree.Element, used: set[str], prefix: str, change: dict[str, str]) -> str:
    space, _, name = element.tag.rpartition("}")
    if name in DROPPED:
        return ""
    if space != f"{{{SPACE}" or name not in ELEMENTS:
        raise ValueError(f"an element {element.tag}")
    head = name
    for key, value in element.attrib.items():
        if key in ("href", f"{{{LINKS}}}href") and re.fullmatch(r"#[\w.-]+", value):
            key, value = "href", f"#{prefix}{value[1:]}"
        elif key == "id":
            value = prefix + value if value in used else ""
        elif value and key not in ("role", "aria-label", "xmlns"):  # which are ours
            if not ATTRIBUTE.fullmatch(key) or not VALUE.fullmatch(value) or UNFIT.search(value):
                raise ValueError(f"an attribute {key}")
            for old, new in change.items():
                value = value.replace(old, new)
        head += f' {key}="{html.escape(value)}"' if value else ""
    inside = html.escape(element.text or "", quote=False) if name in WORDS else ""
    for child in element:
        inside += _element(child, used, prefix, change)
        inside += html.escape(child.tail or "", quote=False) if name in WORDS else ""
    return f"<{head}>{inside}</{name}>" if inside else f"<{head}/>"
