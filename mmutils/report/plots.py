"""Figures that the notebooks and the report share, in one style.

Colours are those of Okabe and Ito (https://jfly.uni-koeln.de/color/), which colour-blind readers tell apart. Text is at
least 8 pt at the printed size, and no figure is wider than 7 inches. Devanagari needs matplotlib 3.11 or newer: older
releases, as Colab's 3.10, put vowel signs in the wrong place, and a warning says so. Every function returns a Figure,
which a notebook shows at a cell's end.
"""

import io
import re
import textwrap
import warnings
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib import font_manager
from matplotlib.figure import Figure

from mmutils.data.tools import pictures

FONT = Path(__file__).parent / "fonts" / "NotoSansDevanagari.ttf"
INK, PAPER, GREY = "#1a1a1a", "#ffffff", "#8c8c8c"  # the HTML report turns ink and paper into the reader's own
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # Okabe-Ito without yellow and black
LANGUAGE_COLOURS = {"en": PALETTE[0], "hi": PALETTE[1], None: PALETTE[2]}
_SETTINGS = {
    "font.family": ["Noto Sans Devanagari", "DejaVu Sans"], "font.size": 8.5, "axes.titlesize": 9,
    "axes.labelsize": 8.5, "xtick.labelsize": 8, "ytick.labelsize": 8, "legend.fontsize": 8, "text.color": INK,
    "axes.labelcolor": INK, "axes.titlecolor": INK, "xtick.color": INK, "ytick.color": INK, "axes.edgecolor": GREY,
    "axes.linewidth": 0.6, "xtick.major.width": 0.6, "ytick.major.width": 0.6, "axes.spines.top": False,
    "axes.spines.right": False, "axes.titlelocation": "left", "axes.grid": False, "grid.color": GREY, "grid.alpha": 0.3,
    "grid.linewidth": 0.5, "lines.linewidth": 1.4, "legend.frameon": False, "figure.facecolor": PAPER,
    "axes.facecolor": "none", "figure.constrained_layout.use": True, "svg.hashsalt": "mmutils", "svg.fonttype": "path",
    "figure.dpi": 110, "axes.prop_cycle": mpl.cycler(color=PALETTE), "text.parse_math": False,  # "$" is a "$"
}  # fmt: skip


def style() -> dict:
    """Registers the Devanagari font, makes the project's style the current one and returns its settings."""
    if FONT.exists() and str(FONT) not in {entry.fname for entry in font_manager.fontManager.ttflist}:
        font_manager.fontManager.addfont(FONT)
    families = [f for f in _SETTINGS["font.family"] if f != "Noto Sans Devanagari" or FONT.exists()]
    mpl.rcParams.update(_SETTINGS | {"font.family": families})
    return dict(_SETTINGS)


def svg(figure: Figure) -> bytes:
    """An SVG that has the same bytes whenever the figure is the same."""
    content = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "mmutils"}):
        figure.savefig(content, format="svg", metadata={"Date": None})
    return content.getvalue()


def picture_grid(examples: pd.DataFrame, titles: list[str] | None = None, columns: int = 6) -> Figure:
    """The pictures of a table of examples in rows, each with its text (or its title) underneath, in any script.

    A damaged picture does not stop it: what stands in its place says so. So does an empty table, as of a perfect
    classifier's errors.
    """
    style()
    columns = min(columns, max(len(examples), 1))
    rows = max(-(-len(examples) // columns), 1)
    figure = Figure(figsize=(7, 1.45 * 7 / max(columns, 5) * rows))
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes:
        axis.axis("off")
    if examples.empty:
        axes[0].text(0.5, 0.5, "none", ha="center", va="center", color="grey")
    for axis, (position, example) in zip(axes, enumerate(examples.itertuples()), strict=False):
        if isinstance(example.image, str):  # pandas has nan for None
            try:
                axis.imshow(pictures.on_white(pictures.open_picture(example.image)))
            except (OSError, ValueError):
                axis.text(0.5, 0.5, "cannot\nbe read", ha="center", va="center", fontsize=8, color="grey")
        label = titles[position] if titles else example.text
        axis.set_title(_wrapped(label, 18), y=-0.1, va="top", loc="center", fontsize=8)
    return figure


def curves(
    history: list[dict] | pd.DataFrame, columns: tuple[str, ...] = ("loss",), title: str | None = None
) -> Figure:
    """One panel for each column over the epochs: thin lines are seeds, the thick one their mean, a colour a system."""
    style()
    table = pd.DataFrame(history)
    for name, default in (("system", ""), ("seed", 0)):
        if name not in table:
            table[name] = default
    systems = table["system"].unique()
    figure = Figure(figsize=(3.4 * min(len(columns), 2), 2.1 + 0.18 * len(systems)))
    for axis, column in zip(figure.subplots(1, len(columns), squeeze=False).ravel(), columns, strict=True):
        for colour, (system, rows) in zip(PALETTE * 9, table.groupby("system", sort=False), strict=False):
            for _, one in rows.groupby("seed"):
                axis.plot(one["epoch"], one[column], color=colour, alpha=0.25, linewidth=0.7)
            mean = rows.groupby("epoch")[column].mean()
            axis.plot(mean.index, mean, color=colour, label=_listed(system) if system else None)
        axis.set(xlabel="epoch", title=title if title and len(columns) == 1 else column.replace("_", " "))
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.grid(axis="y")
    if len(systems) > 1:
        figure.legend(*axis.get_legend_handles_labels(), loc="outside lower left", handlelength=1.2)
    return figure


def confusion(predictions: pd.DataFrame, classes: list[str], title: str | None = None) -> Figure:
    """Rows are true classes, columns predicted ones; a cell is its share of the row in percent, all seeds together."""
    style()
    counts = confusion_counts(predictions, len(classes))
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)  # (K, K)
    figure = Figure(figsize=(3.4, 3.2))
    axis = figure.subplots()
    colours = np.zeros((*shares.shape, 4))
    colours[..., :3] = mpl.colors.to_rgb(PALETTE[0])
    colours[..., 3] = shares**0.7  # opacity, so that paper of any colour shows through
    axis.pcolormesh(colours)
    for row, column in np.argwhere(shares >= 0.005):
        # not exactly PAPER: this white stays white where the page is dark
        ink = "#fefefe" if shares[row, column] > 0.55 else INK
        axis.text(column + 0.5, row + 0.5, f"{100 * shares[row, column]:.0f}", ha="center", va="center", color=ink)
    ticks = np.arange(len(classes)) + 0.5
    short = [_shortened(name) for name in classes]
    short = short if len(set(short)) == len(short) else classes
    axis.set_xticks(ticks, short, rotation=45, ha="right", rotation_mode="anchor")
    axis.set_yticks(ticks, short)
    axis.set(xlabel="predicted", ylabel="true", title=title, aspect="equal", ylim=(len(classes), 0))
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    return figure


def confusion_counts(predictions: pd.DataFrame, classes: int) -> np.ndarray:
    """Counts (K, K), rows true and columns predicted."""
    probabilities = predictions[[f"p_{k}" for k in range(classes)]].to_numpy()
    pairs = predictions["label"].to_numpy() * classes + probabilities.argmax(1)
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def reliability(bins: pd.DataFrame, title: str | None = None) -> Figure:
    """Accuracy against confidence, with intervals; below the diagonal is overconfidence. Grey bars: share of examples.

    bins: the table that `mmutils.statistics.reliability` makes; those with fewer than 3 examples get a bar but no dot.
    """
    style()
    figure = Figure(figsize=(3.4, 2.9))
    axis = figure.subplots()
    axis.bar(
        bins["left"], bins["share"], bins["right"] - bins["left"], align="edge", color=GREY, alpha=0.35, linewidth=0
    )
    axis.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle=(0, (4, 3)))
    bins = bins[bins["examples"] >= 3]
    axis.vlines(bins["confidence"], bins["low"], bins["high"], color=PALETTE[1], linewidth=1)
    axis.plot(bins["confidence"], bins["accuracy"], "o", color=PALETTE[1], markersize=3.5)
    axis.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="confidence", ylabel="accuracy", title=title)
    return figure


def paired_dots(rows: list[dict], names: dict[str, str], xlabel: str) -> Figure:
    """One line for each row, on it a dot with its interval for each key of `names`; the bar between them is the gap.

    rows: `label`, printed above the line, and for each key of `names` a triple (estimate, low, high).
    """
    style()
    figure = Figure(figsize=(4.6, 0.7 + 0.72 * len(rows)))
    axis = figure.subplots()
    colours = {key: LANGUAGE_COLOURS.get(key, colour) for key, colour in zip(names, PALETTE, strict=False)}
    for y, row in enumerate(rows):
        present = [key for key in names if row.get(key)]
        axis.plot([row[key][0] for key in present], [y] * len(present), color=GREY, linewidth=5, alpha=0.35,
                  solid_capstyle="butt", zorder=1)  # fmt: skip
        for key, shift in zip(present, np.linspace(-0.06, 0.06, len(present)), strict=True):
            estimate, low, high = row[key]
            axis.plot([low, high], [y + shift] * 2, color=colours[key], linewidth=1.3, zorder=2)
            label = _listed(names[key]) if y == 0 else None
            axis.plot(estimate, y + shift, "o", color=colours[key], markersize=6.5, zorder=3, label=label)
        axis.annotate(row["label"], (0, y - 0.34), (0, 0), xycoords=("axes fraction", "data"),
                      textcoords="offset points", va="center", fontsize=9)  # fmt: skip
    axis.legend(
        loc="lower left", bbox_to_anchor=(0, 1), ncols=len(names), borderpad=0, handletextpad=0.1, borderaxespad=0.2
    )
    axis.set(xlabel=xlabel, ylim=(len(rows) - 0.65, -0.6), yticks=[])
    axis.spines["left"].set_visible(False)
    axis.grid(axis="x")
    return figure


def forest(rows: list[dict], xlabel: str, chance: float | None = None) -> Figure:
    """All systems under each other.

    rows: `label`, `estimate`, `low`, `high`, and where wanted `group` (a heading), `colour`, `filled` (False: a ring).
    """
    style()
    figure = Figure()
    axis = figure.subplots()
    previous, y, places, labels = None, -1.0, [], []
    for row in rows:
        colour = row.get("colour", PALETTE[0])
        if row.get("group") != previous:
            previous = row["group"]
            y += 1.3 if places else 1
            places.append(y)
            labels.append((previous, colour))
        y += 1
        places.append(y)
        labels.append((row["label"], INK))
        axis.plot([row["low"], row["high"]], [y, y], color=colour, linewidth=1.4)
        fill = colour if row.get("filled", True) else PAPER
        axis.plot(row["estimate"], y, "o", markersize=5, markerfacecolor=fill, markeredgecolor=colour, zorder=3)
    if chance is not None:
        axis.axvline(chance, color=GREY, linewidth=0.8, linestyle=(0, (4, 3)))
        axis.annotate("chance", (chance, y + 0.6), (3, 0), textcoords="offset points", va="center")
    figure.set_size_inches(6.4, 0.6 + 0.22 * (y + 2))
    axis.set_yticks(places, [label for label, _ in labels])
    for tick, (_, colour) in zip(axis.yaxis.get_major_ticks(), labels, strict=True):
        tick.label1.set_color(colour)
    axis.set(xlabel=xlabel, ylim=(y + 1.1, -0.6))
    axis.tick_params(axis="y", length=0)
    axis.spines["left"].set_visible(False)
    axis.grid(axis="x")
    return figure


def step_curves(rows: list[dict], key: str, xlabel: str, ylabel: str, chance: float | None = None) -> Figure:
    """A score over some values of `key`, at equal distances, a line with intervals for each label.

    rows: `label`, key, `estimate`, `low`, `high`.
    """
    style()
    table = pd.DataFrame(rows)
    labels = table["label"].unique()
    figure = Figure(figsize=(4.6, 2.5 + 0.18 * len(labels)))
    axis = figure.subplots()
    steps = sorted(table[key].unique())
    for number, (label, part) in enumerate(table.groupby("label", sort=False)):
        part = part.sort_values(key)
        x = part[key].map(steps.index) + 0.03 * (number - (len(labels) - 1) / 2)  # so that no interval hides another
        colour, line = PALETTE[number % len(PALETTE)], ("-", "--", ":")[number // len(PALETTE) % 3]
        axis.vlines(x, part["low"], part["high"], color=colour, linewidth=1)
        axis.plot(x, part["estimate"], line, marker="o", markersize=3.5, color=colour, label=_listed(label))
    if chance is not None:
        axis.axhline(chance, color=GREY, linewidth=0.8, linestyle=(0, (4, 3)))
    axis.set(xlabel=xlabel, ylabel=ylabel)
    axis.set_xticks(range(len(steps)), [f"{step:.3g}" for step in steps])
    axis.grid(axis="y")
    figure.legend(loc="outside lower left", handlelength=3)
    return figure


def _wrapped(text: str, width: int, lines: int = 2) -> str:
    if re.search("[\u0900-\u097f]", text) and mpl.__version_info__ < (3, 11):
        warnings.warn(
            f"matplotlib {mpl.__version__} puts Hindi vowel signs in the wrong place, in pictures only: for right ones "
            "install matplotlib 3.11 or newer and restart the notebook",
            stacklevel=2,
        )
    return "\n".join(textwrap.wrap(text, width, max_lines=lines, placeholder=" …"))


def _listed(name: str) -> str:
    """A name for a legend, which leaves out what begins with an underscore."""
    return f" {name}" if name.startswith("_") else name


def _shortened(name: str) -> str:
    """The first word of a long class name: `rescue_volunteering_or_donation_effort` -> `rescue`."""
    return name.replace("_", " ").split(" ")[0] if len(name) > 14 else name
