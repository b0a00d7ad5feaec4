"""Pictures of the report as both renderers take them: from figures/ alone, and SVG taken apart and written anew.

A report can hold runs from elsewhere. A picture must not bring a file of the user into the page, and an SVG inside a
page could run a script, load from the net or lie over the text. So an SVG that holds anything but shapes is refused.
"""

import re
from pathlib import Path
from xml.etree import ElementTree

from PIL import Image

SPACE, LINKS = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
ELEMENTS = {"svg", "g", "defs", "use", "clipPath", "text", "tspan", "title", "desc"}
ELEMENTS |= {"path", "rect", "circle", "ellipse", "line", "polyline", "polygon"}
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


def svg(file: Path, root: dict[str, str], prefix: str = "") -> str | None:
    """The <svg> element of a file with shapes alone; None where it is no SVG or holds anything else.

    What stands before <svg, such as a DOCTYPE with its entities, is not read. `root`: attributes of the outermost
    element. `prefix` is put before every id.
    """
    try:
        source = re.sub(r">\s+<", "><", file.read_text(encoding="utf-8"))
        tree = ElementTree.fromstring(source[source.index("<svg") :])
        _clean(tree, set(re.findall(r"#([\w.-]+)", source)), prefix)
        tree.attrib |= root
        return ElementTree.tostring(tree, encoding="unicode")
    except (ValueError, ElementTree.ParseError, RecursionError):
        return None


def _clean(element: ElementTree.Element, used: set[str], prefix: str) -> None:
    """Drops the namespaces, ids that are not used, and what is not shown; anything but shapes is an error."""
    space, _, element.tag = element.tag.rpartition("}")
    if space != f"{{{SPACE}" or element.tag not in ELEMENTS:
        raise ValueError(f"an element {element.tag}")
    attributes, element.attrib = element.attrib, {}
    for key, value in attributes.items():
        if key in ("href", f"{{{LINKS}}}href") and re.fullmatch(r"#[\w.-]+", value):
            element.set("href", f"#{prefix}{value[1:]}")
        elif key == "id":
            element.attrib |= {"id": prefix + value} if value in used else {}
        elif ATTRIBUTE.fullmatch(key) and VALUE.fullmatch(value) and not UNFIT.search(value):
            element.set(key, value.replace("url(#", f"url(#{prefix}"))
        else:
            raise ValueError(f"an attribute {key}")
    for child in list(element):
        if child.tag.rpartition("}")[2] in DROPPED:
            element.remove(child)
        else:
            _clean(child, used, prefix)
