"""How much of the gap between two languages does the picture close?

With scores E, H of text alone in English and Hindi, E', H' with the picture: text gap g = E - H, fused gap
g' = E' - H', reduction r = g - g', share r / g, all from the same resamples. Where the interval of g holds 0, the set
of shares is unbounded (Fieller, Some Problems in Interval Estimation, 1954:
https://doi.org/10.1111/j.2517-6161.1954.tb00159.x); elsewhere the ratio's percentile interval is Fieller's set.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from mmutils.statistics.bootstrap import Draws, Interval
from mmutils.statistics.panel import panels


@dataclass(frozen=True)
class LanguageGap:
    """The four quantities with intervals and two-sided p-values, and what they say in one sentence."""

    text: Interval  # score in English minus score in Hindi, text alone
    fused: Interval  # the same with text and picture
    reduction: Interval  # text gap minus fused gap
    share: Interval  # reduction as a part of the text gap; -inf to inf where the text gap may be 0
    verdict: str


def language_gap(*systems: pd.DataFrame, score: str = "f1_macro", resamples: int = 10_000) -> LanguageGap:
    """The gap without and with the picture. ValueError: as `paired_difference`, and for "brier".

    systems: predictions on the same examples: of text alone in English and Hindi, of text and picture in both.
    """
    if score == "brier":
        raise ValueError("a language gap needs a score of which more is better, not 'brier'")
    return gap_of(Draws(panels(systems), score, resamples))


def gap_of(draws: Draws, places: Sequence[int] = (0, 1, 2, 3)) -> LanguageGap:
    """The same from resamples of these and perhaps other systems; places: of the four among them."""

    def closed(means: np.ndarray) -> np.ndarray:  # (R, M) -> (R,): reduction over text gap; infinite where that is none
        english, hindi, *fused = (means[..., place] for place in places)
        gap = english - hindi
        less = gap - (fused[0] - fused[1])
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(gap > 0, less / gap, np.copysign(np.inf, less))

    text, fused, reduction = (
        draws.interval(lambda means, contrast=contrast: means[..., places] @ contrast, test=True)
        for contrast in np.array([[1, -1, 0, 0], [0, 0, 1, -1], [1, -1, -1, 1]])
    )
    share = replace(draws.interval(closed), p_value=reduction.p_value)  # share = 0 is the same as reduction = 0
    if 0 in text:
        share = replace(share, low=-np.inf, high=np.inf)
    return LanguageGap(text, fused, reduction, share, _verdict(text, fused, reduction, share))


def _verdict(text: Interval, fused: Interval, reduction: Interval, share: Interval) -> str:
    def p(interval: Interval) -> str:
        return "p < .001" if interval.p_value < 0.001 else f"p = {interval.p_value:.3f}".replace("0.", ".")

    text_span, span = (f"{100 * i.low:.1f} to {100 * i.high:.1f} points" for i in (text, reduction))
    change = f"from {100 * text.estimate:.1f} to {100 * fused.estimate:.1f} points"
    if 0 in text:
        return (
            f"Inconclusive: from text alone English is {100 * text.estimate:.1f} points ahead of Hindi, but the 95 % "
            f"interval, {text_span}, holds 0, so there may be no gap to close and a share of it is not defined."
        )
    if text.estimate < 0:
        tested = f"(English minus Hindi: 95 % interval {text_span}, {p(text)})"
        return f"No gap to close: from text alone Hindi is {-100 * text.estimate:.1f} points ahead of English {tested}."
    if 0 in reduction:
        return (
            f"Inconclusive: with the picture the gap between English and Hindi goes {change}, but the 95 % interval of "
            f"the reduction, {span}, holds 0, so the picture may change nothing ({p(reduction)})."
        )
    if reduction.estimate < 0:
        tested = f"(reduction: 95 % interval {span}, {p(reduction)})"
        return f"The picture widens the gap between English and Hindi {change} {tested}."
    return (
        f"The picture closes {100 * share.estimate:.0f} % of the gap between English and Hindi (95 % interval "
        f"{100 * share.low:.0f} to {100 * share.high:.0f} %): it falls {change} ({p(reduction)})."
    )
