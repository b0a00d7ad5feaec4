"""Diagrams of the methods of pretraining, as mmutils/methods computes them; what they show stands in diagrams.yaml."""

from pathlib import Path

import yaml
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from mmutils.report import plots

PLACES = {  # left and right ends in inches
    **{"left": (0.05, 1.5), "right": (1.9, 3.35), "whole": (0.05, 3.35), "inner": (0.95, 2.45)},
    **{"first": (0.05, 0.8), "second": (0.9, 1.6), "third": (1.8, 2.5), "fourth": (2.6, 3.35)},
}
COLOURS = dict(zip(("image", "text", "vit"), plots.PALETTE, strict=False))
TITLE, ROW, HEIGHT = 0.2, 0.62, 0.38  # inches: of the name, from row to row, of a box


def drawn() -> dict[str, bytes]:
    """SVG by the name of its file, as wide as a phone."""
    pictures = {}
    for name, rows in yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text("utf-8")).items():
        height = ROW * len(rows)
        figure, axis = plots.new_figure(3.4, height + TITLE)
        for number, row in enumerate(rows):
            _row(axis, number, row, rows[number - 1] if number else {})
        figure.set_layout_engine("none")
        axis.set_axis_off()
        axis.set(position=(0, 0, 1, 1), xlim=(0, 3.4), ylim=(height, -TITLE))
        axis.text(0.05, -TITLE / 2, name.upper(), va="center", fontsize=9)
        pictures[f"method-{name}.svg"] = plots.svg(figure)
    return pictures


def _row(axis: Axes, number: int, row: dict[str, str], above: dict[str, str]) -> None:
    top, look = ROW * number + (ROW - HEIGHT) / 2, {"arrowstyle": "->", "color": plots.GREY, "shrinkA": 0, "shrinkB": 1}
    for place, words in row.items():
        if place == "across":
            arrow = look | {"linestyle": "--"}
            ends = (PLACES["right"][0], top + HEIGHT / 2), (PLACES["left"][1], top + HEIGHT / 2)
            axis.annotate("", *ends, arrowprops=arrow)
            axis.text(1.7, top + HEIGHT / 2 - 0.03, words, ha="center", va="bottom", fontsize=6.5)
            continue
        (left, right), (kind, _, said) = PLACES[place], words.removeprefix("~").rpartition(": ")
        box = {"edgecolor": COLOURS.get(kind, plots.GREY), "linewidth": 1.2 if kind else 0.7, "facecolor": "none"}
        axis.add_patch(Rectangle((left, top), right - left, HEIGHT, **box))
        axis.text((left + right) / 2, top + HEIGHT / 2, said, ha="center", va="center", fontsize=8, linespacing=1.05)
        for other, source in above.items():
            others = PLACES.get(other, (9, 9))
            start, end = max(left, others[0]), min(right, others[1])
            if start < end:  # one stands above the other
                dashed = {"linestyle": "--"} if "~" in words[0] + source[0] else {}
                middle = (start + end) / 2
                axis.annotate("", (middle, top), (middle, top - ROW + HEIGHT), arrowprops=look | dashed)
