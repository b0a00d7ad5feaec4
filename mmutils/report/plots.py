"""Figures that the notebooks and the report share, in the style of `plots.mplstyle`, at most 7 inches wide.

Devanagari needs matplotlib 3.11 or newer: older releases, such as Colab's 3.10, put vowel signs in the wrong place.
"""

import io
import re
import textwrap
import warnings
from collections.abc import Mapping
from itertools import cycle, zip_longest
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.colors import LinearSegmentedColormap, PowerNorm, to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mmutils.data.tools import pictures
from mmutils.report.results import confusion_counts

FONT = Path(__file__).parent / "fonts" / "NotoSansDevanagari.ttf"
font_manager.fontManager.addfont(FONT)
_STYLE = mpl.rc_params_from_file(Path(__file__).with_suffix(".mplstyle"), use_default_template=False)
WIDTH = 6.8  # inches of several panels
INK, PAPER, GREY = _STYLE["text.color"], _STYLE["figure.facecolor"], _STYLE["axes.edgecolor"]
PALETTE = _STYLE["axes.prop_cycle"].by_key()["color"]
LANGUAGE_COLOURS = {"en": PALETTE[0], "hi": PALETTE[1], None: PALETTE[2]}
DASHES = ("", (4, 1.5), (1, 1))
LINES = [{"color": colour, "dashes": dashes} for dashes in DASHES for colour in PALETTE]
AXES = {  # of what is watched while training; the rest is named by its column
    "loss": "loss, train",
    "f1_macro": "macro F1, val",
    "auroc": "AUROC, val",
    "accuracy": "accuracy, val",
    "teacher_entropy": "entropy of the teacher, nats",
}
_OPACITY = LinearSegmentedColormap.from_list("opacity", [to_rgba(PALETTE[0], alpha) for alpha in (0, 1)])
_BARE = {"squeeze": False, "subplot_kw": {"frame_on": False, "xticks": [], "yticks": []}}
_DASHED = {"color": GREY, "linewidth": 0.8, "linestyle": (0, (4, 3))}


def new_figure(width: float, height: float, **grid) -> tuple[Figure, Axes | np.ndarray]:
    """A figure and its axes, as `plt.subplots` gives them, in the project's style, which stays set; sizes in inches."""
    mpl.rcParams.update(_STYLE)
    figure = Figure(figsize=(width, height))
    return figure, figure.subplots(**grid)


def svg(figure: Figure) -> bytes:
    """As savefig does, but drawn once, not twice; without a date, so that the same figure has the same bytes."""
    content = io.BytesIO()
    FigureCanvasSVG(figure).print_svg(content, metadata={"Date": None})
    return content.getvalue()


def picture_grid(examples: pd.DataFrame, titles: list[str] | None = None, columns: int = 6) -> Figure:
    """Pictures of examples in rows, each over its text or title; a note stands for a damaged picture and for none."""
    titles = list(examples["text"]) if titles is None else titles
    columns = min(columns, max(len(examples), 1))
    rows, across = max(-(-len(examples) // columns), 1), max(columns, 5)
    figure, axes = new_figure(7, 1.45 * 7 / across * rows, nrows=rows, ncols=columns, **_BARE)
    if examples.empty:
        axes[0, 0].text(0.5, 0.5, "none", ha="center", va="center", color="grey")
    for axis, path, title in zip(axes.flat, examples["image"], titles, strict=False):
        if isinstance(path, str):  # pandas has nan for None
            try:
                axis.imshow(pictures.on_white(pictures.open_picture(path)))
            except (OSError, ValueError):
                axis.text(0.5, 0.5, "cannot\nbe read", ha="center", va="center", fontsize=8, color="grey")
        width = 100 // across
        title = title if len(title) <= 3 * width else f"{title[: 2 * width - 4]} … {title[4 - width :]}"  # keep its end
        lines = textwrap.fill(title, width, max_lines=3, placeholder=" …")
        axis.set_title(lines, y=-0.1, va="top", loc="center", fontsize=8)
    if mpl.__version_info__ < (3, 11) and re.search("[\u0900-\u097f]", "".join(titles)):
        advice = "install matplotlib 3.11 or newer and restart the notebook"
        warnings.warn(f"this matplotlib puts Hindi vowel signs in the wrong place in pictures: {advice}", stacklevel=2)
    return figure


def views(views: list, count: int = 4) -> Figure:
    """The first pictures of a batch, a row each; views: arrays or CPU tensors (B, 3, H, W) in [0, 1] of any sizes."""
    rows, side = min(count, len(views[0])), min(7 / len(views), 1.2)
    figure, axes = new_figure(side * len(views), side * rows, nrows=rows, ncols=len(views), **_BARE)
    for (row, column), axis in np.ndenumerate(axes):
        axis.imshow(np.asarray(views[column][row]).transpose(1, 2, 0).clip(0, 1))
    return figure


def curves(
    history: list[dict] | pd.DataFrame,
    columns: tuple[str | None, ...] = ("loss",),
    across: int = 2,
    limits: dict[str, tuple[float, float]] | None = None,
    looks: dict[str, dict] | None = None,
) -> Figure:
    """One panel for each column over the epochs: a line is a system's mean over seeds, its band their range.

    columns: with None for a place that stays empty; across: panels side by side; limits: ends of a column's axis;
    looks: `color` and `dashes` by system.
    """
    table, across, drawn = pd.DataFrame(history), min(len(columns), across), list(filter(None, columns))
    table = table if "system" in table else table.assign(system="")
    table = table.reindex(columns=["system", "epoch", *drawn]).dropna(subset=drawn, how="all")
    names = table["system"].unique()
    looks = dict(zip(names, cycle(LINES), strict=False)) | (looks or {})
    rows, legend = -(-len(columns) // across), (0.1 + 0.2 * len(names)) * (len(names) > 1)
    size = min(3.4 * across, WIDTH), 0.4 + 1.8 * rows + legend
    left, below, rest = 0.64, 0.46, 0.1  # inches; to find them, constrained layout takes half of a figure's time
    panel = (size[0] - rest) / across - left, (size[1] - rest - legend) / rows - below
    distances = {"left": left / size[0], "right": 1 - rest / size[0], "bottom": (below + legend) / size[1]}
    distances |= {"top": 1 - rest / size[1], "wspace": left / panel[0], "hspace": below / panel[1]}
    figure, axes = new_figure(*size, nrows=rows, ncols=across, squeeze=False, gridspec_kw=distances)
    figure.set_layout_engine("none")
    for axis, column in zip_longest(axes.flat, columns):
        axis.set_visible(column is not None)
        if column is None:
            continue
        for name, part in table.dropna(subset=[column]).groupby("system", sort=False):
            seeds = part.groupby("epoch")[column].agg(["mean", "min", "max"])
            axis.fill_between(seeds.index, seeds["min"], seeds["max"], color=looks[name]["color"], alpha=0.2, lw=0)
            axis.plot(seeds["mean"], **looks[name], marker="o" if len(seeds) == 1 else "", markersize=3.5)
        axis.set(xlabel="epoch", ylabel=AXES.get(column, column.replace("_", " ")), ylim=(limits or {}).get(column))
        axis.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        axis.grid(axis="y")
    if len(names) > 1:
        lines = [Line2D([], [], **looks[name]) for name in names]
        figure.legend(lines, map(_listed, names), loc="lower left", handlelength=3)
    return figure


def confusion(predictions: pd.DataFrame, classes: list[str], title: str = "") -> Figure:
    """The confusion matrix of one system, as `confusions` draws it."""
    return confusions({title: predictions}, classes)


def confusions(systems: Mapping[str, pd.DataFrame], classes: list[str]) -> Figure:
    """A panel for each title: rows are true classes, columns predicted ones, cells percent of the row, all seeds."""
    names = [name.replace("_", " ") for name in classes]
    short = [name if len(name) <= 14 else f"{name[:13]}…" for name in names]  # below, where two lines would overlap
    names = [textwrap.fill(name, 14, max_lines=2, placeholder=" …") for name in names]
    figure, panels = _panels(list(systems), 2.6 if len(systems) > 1 else 3.2, "predicted", "true")
    look = {"cmap": _OPACITY, "norm": PowerNorm(0.7, vmin=0, vmax=1), "cbar": False, "square": True}
    for axis, predictions in zip(panels, systems.values(), strict=True):
        counts = confusion_counts(predictions, len(classes))  # (K, K)
        shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
        seen = shares >= 0.005
        look |= {"xticklabels": short, "yticklabels": names, "annot": 100 * shares, "mask": ~seen}
        sns.heatmap(shares, fmt=".0f", **look, ax=axis)
        for number, share in zip(axis.texts, shares[seen], strict=True):
            number.set_color("#fefefe" if share > 0.55 else INK)  # white, not PAPER: it stays so on a dark page
            number.set_in_layout(False)  # it is inside its cell
        axis.set_xticks(axis.get_xticks(), short, rotation=45, ha="right", rotation_mode="anchor")
        axis.tick_params(axis="y", rotation=0)
        axis.tick_params(length=0)
    return figure


def reliability(systems: Mapping[str, tuple[pd.DataFrame, str]]) -> Figure:
    """A panel for each title, of bins by `statistics.reliability` and a colour; no dot for fewer than 3 examples."""
    figure, panels = _panels(list(systems), 2.3 if len(systems) > 1 else 2.9, "confidence", "accuracy")
    for axis, (bins, colour) in zip(panels, systems.values(), strict=True):
        axis.bar(bins["left"], bins["share"], bins["right"] - bins["left"], align="edge", color=GREY, alpha=0.35)
        axis.plot([0, 1], [0, 1], **_DASHED)
        bins = bins[bins["examples"] >= 3]
        axis.vlines(bins["confidence"], bins["low"], bins["high"], color=colour, linewidth=1)
        axis.plot(bins["confidence"], bins["accuracy"], "o", color=colour, markersize=3.5)
        axis.set(xlim=(0, 1), ylim=(0, 1.02), xticks=(0.2, 0.4, 0.6, 0.8))
    return figure


def forest(rows: list[dict], xlabel: str, chance: float | None = None) -> Figure:
    """Dots with intervals under each other, groups under headings.

    rows: `label`, `estimate`, `low`, `high`, `filled` (False: a ring); all may have `group` and `colour`.
    """
    table = pd.DataFrame(rows)
    table["colour"] = table.get("colour", PALETTE[0])
    if "group" in table:  # a heading has the index of its first row, and no estimate
        headings = table.loc[table["group"] != table["group"].shift(), ["group", "colour"]]
        headings = headings.rename(columns={"group": "label"})
        table = pd.concat([headings, table]).sort_index(kind="stable", ignore_index=True)
    y = np.arange(len(table)) + 0.3 * table["estimate"].isna().cumsum()
    bottom = y.max() + 1
    figure, axis = new_figure(6.4, 0.8 + 0.19 * bottom)
    axis.hlines(y, table["low"], table["high"], color=table["colour"])
    inside = table["colour"].where(table["filled"].eq(True), PAPER)
    axis.scatter(table["estimate"], y, 25, inside, edgecolors=table["colour"], linewidths=1, zorder=3)
    axis.set_yticks(y, table["label"])
    for label, row in zip(axis.get_yticklabels(), table.itertuples(), strict=True):
        label.set_color(row.colour if np.isnan(row.estimate) else INK)
    if chance is not None:
        axis.axvline(chance, **_DASHED)
        axis.annotate("chance", (chance, bottom - 0.4), (3, 0), textcoords="offset points", va="center")
    figure.supxlabel(xlabel, fontsize=8.5)  # below the labels too, which can leave the axis little room
    axis.set(ylim=(bottom + 0.1, y[0] - 0.6))
    axis.tick_params(axis="y", length=0)
    axis.spines["left"].set_visible(False)
    axis.grid(axis="x")
    return figure


def step_curves(rows: list[dict], key: str, xlabel: str, ylabel: str, chance: float | None = None) -> Figure:
    """A score over some values of `key`, at equal distances, a line for each label.

    rows: `label`, key, `estimate`, `low`, `high`; all may have `look`, the line's `color` and `dashes`.
    """
    table = pd.DataFrame(rows).sort_values(key, kind="stable")
    count, steps = table["label"].nunique(), list(table[key].unique())
    figure, axis = new_figure(4.6, 2.5 + 0.18 * count)
    for number, (label, part) in enumerate(table.groupby("label", sort=False)):
        x = part[key].map(steps.index) + 0.03 * (number - (count - 1) / 2)  # so that no interval hides another
        line = part["look"].iloc[0] if "look" in part else LINES[number % len(LINES)]
        axis.vlines(x, part["low"], part["high"], color=line["color"], linewidth=1)
        axis.plot(x, part["estimate"], **line, marker="o", markersize=3.5, label=_listed(label))
    if chance is not None:
        axis.axhline(chance, **_DASHED)
    axis.set(xlabel=xlabel, ylabel=ylabel)
    axis.set_xticks(range(len(steps)), [f"{step:.3g}" for step in steps])
    axis.grid(axis="y")
    figure.legend(loc="outside lower left", handlelength=3)
    return figure


def _panels(titles: list[str], height: float, xlabel: str, ylabel: str) -> tuple[Figure, list[Axes]]:
    """Axes with one scale, at most three side by side, numbers only where no panel stands left or below."""
    across = 2 if len(titles) == 4 else min(len(titles), 3)
    rows = -(-len(titles) // across)
    grid = {"nrows": rows, "ncols": across, "squeeze": False, "sharex": True, "sharey": True}
    figure, axes = new_figure(min(3.4 * across, WIDTH), height * rows, **grid)
    for axis, title in zip_longest(axes.flat, titles):
        axis.set_visible(title is not None)
        axis.set_title(textwrap.fill(title or "", (46, 34, 26)[across - 1], max_lines=3, placeholder=" …"))
    for axis in axes.flat[len(titles) - across : len(titles)]:
        axis.tick_params(labelbottom=True)
    figure.supxlabel(xlabel, fontsize=8.5)
    figure.supylabel(ylabel, fontsize=8.5)
    return figure, list(axes.flat[: len(titles)])


def _listed(name: str) -> str:
    return f" {name}" if name.startswith("_") else name  # a legend leaves out what begins with an underscore
