"""What a notebook ends with: each function prints a sentence that is made from the numbers, and returns a figure.

Scores are those of test, with 95 % intervals over groups of examples and seeds.
"""

from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.figure import Figure

from mmutils import statistics
from mmutils.report import plots
from mmutils.report.page import SCORES, dot
from mmutils.report.results import RESAMPLES


def compare_systems(predictions: pd.DataFrame, chosen: str, score: str = "f1_macro") -> Figure:
    """The score of every system in `Trainings.predictions`; the sentence is about the one chosen on val, and chance."""
    test = dict(iter(predictions.query("split == 'test'").groupby("system", sort=False)))
    rows = [{"label": system, "filled": system == chosen, **_dot(table, score)} for system, table in test.items()]
    [best] = [row for row in rows if row["filled"]]
    chance = 100 * statistics.chance(test[chosen])[score]
    blind = "guessing" if score == "auroc" else "naming always the largest class"
    print(
        f"{chosen}, chosen on val: {SCORES[score]} {best['estimate']:.1f} % on test (95 % interval "
        f"{best['low']:.1f} to {best['high']:.1f} %); {blind}: {chance:.1f} %."
    )
    return plots.forest(rows, f"{SCORES[score]} on test, % (95 % interval; filled: chosen on val)", chance)


def compare_pairs(pairs: Sequence[tuple[str, Mapping[str, pd.DataFrame]]], score: str = "f1_macro") -> Figure:
    """Two sides on the same examples: a name, and predictions by side's name; the sentence is about the first pair."""
    name, sides = pairs[0]
    difference = statistics.paired_difference(*sides.values(), score, resamples=RESAMPLES)
    low, high = 100 * difference.low, 100 * difference.high
    print(
        f"{name}, {' minus '.join(sides)}: {100 * difference.estimate:+.1f} points of {SCORES[score]} on test "
        f"(95 % interval {low:+.1f} to {high:+.1f}, which {'holds' if 0 in difference else 'leaves out'} 0, before any "
        "correction for other comparisons)."
    )
    rows = []
    for group, sides in pairs:
        rows += [{"group": group, "label": s, "filled": not n, **_dot(sides[s], score)} for n, s in enumerate(sides)]
    return plots.forest(rows, f"{SCORES[score]} on test, % (95 % interval)")


def before_and_after(predictions: pd.DataFrame, chosen: str | None) -> Figure | None:
    """AUROC of each network before and after pretraining, by the chosen system's probe; None where there is no pair."""
    by_system = predictions.query("split == 'test'").groupby("system", sort=False) if chosen else ()
    test, pairs = dict(iter(by_system)), []
    for system in sorted(test, key=lambda system: system != chosen):  # the chosen one first
        network = system.rpartition(", ")[2]  # with its probe
        starts = [start for start in (f"random, {network}", f"before, {network}") if start in test]
        if starts and system not in starts and system.rpartition(": ")[2] == chosen.rpartition(": ")[2]:
            pairs.append((system, {"pretrained": test[system], "before": test[starts[0]]}))
    if not pairs:
        print("There is nothing to compare: all trainings have failed, or none has an untrained counterpart.")
        return None
    return compare_pairs(pairs, "auroc")


def mistakes(predictions: pd.DataFrame, examples: pd.DataFrame, classes: Sequence[str], most: int = 12) -> Figure:
    """The examples of test that the mean of one system's seeds gets wrong, surest first, with the class it names."""
    columns = [f"p_{k}" for k in range(len(classes))]
    mean = predictions.groupby("id")[columns].mean().loc[examples["id"]].to_numpy()  # (N, K)
    named = examples.assign(named=mean.argmax(axis=1), sure=mean.max(axis=1))
    wrong = named[named["named"] != named["label"]].sort_values("sure", ascending=False, kind="stable")
    print(f"The mean of the seeds gets {len(wrong)} of {len(examples)} examples of test wrong; the surest {most}:")
    titles = [f"{classes[row.named]} {100 * row.sure:.0f} %: {row.text}" for row in wrong.itertuples()]
    return plots.picture_grid(wrong.head(most), titles[:most])


def bars(systems: Mapping[str, pd.DataFrame], score: str = "f1_macro") -> Figure:
    """A bar with its interval for each system; systems: predictions on test by name."""
    figure, axis = plots.new_figure(6.4, 0.5 + 0.4 * len(systems))
    for name, predictions in systems.items():
        dot = _dot(predictions, score)
        axis.barh(name, dot["estimate"], 0.6, color=plots.PALETTE[0], alpha=0.6)
        axis.hlines(name, dot["low"], dot["high"], color=plots.INK)
    axis.invert_yaxis()
    axis.set(xlabel=f"{SCORES[score]} on test, % (95 % interval)")
    return figure


def class_counts(counts: pd.DataFrame, leaks: pd.DataFrame) -> Figure:
    """Examples of each class and split, as `audit_tables` counts them; the sentence names the largest and leaks."""
    sizes = counts.sum(axis=1)
    rows = leaks[leaks["values"] > 0].to_dict("records")
    shared = ["{values} ({what}, {first} and {second})".format(**row) for row in rows]
    print(
        f"{sizes.sum():,} examples; the largest of {len(sizes)} classes, {sizes.idxmax()}, has "
        f"{100 * sizes.max() / sizes.sum():.0f} % of them. In two splits: {', '.join(shared) or 'nothing'}."
    )
    figure, axis = plots.new_figure(6.4, 0.9 + 0.3 * len(counts))
    counts.plot.barh(stacked=True, ax=axis, color=plots.PALETTE, width=0.7, xlabel="examples", ylabel="")
    axis.invert_yaxis()
    return figure


def _dot(predictions: pd.DataFrame, score: str) -> dict[str, float]:
    return dot(statistics.bootstrap_interval(predictions, score, resamples=RESAMPLES))
