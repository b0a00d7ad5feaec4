"""How numbers, intervals and tests look in the cells of tables and in sentences."""

from collections.abc import Callable
from functools import partial

from mmutils import statistics


def percent(value: float | None, form: str = ".1f") -> str:
    """0.8263 -> '82.6', with a real minus sign; a dash for what could not be computed, which a record holds as None."""
    return "–" if value is None else f"{100 * value:{form}}".replace("-", "−")


points = partial(percent, form="+.1f")  # a difference with its sign: 0.047 -> '+4.7'


def between(low: float, high: float, show: Callable[[float], str] = percent) -> str:
    """An interval for a cell."""
    return f"[{show(low)}, {show(high)}]"


def spread(values) -> str:
    """Mean ± standard deviation over seeds, in percent; of one seed the value alone."""
    return percent(values.mean()) + (f" ± {percent(values.std(ddof=1))}" if len(values) > 1 else "")


def p_value(p: float | None) -> str:
    """A p-value for a cell, never as 0."""
    return "–" if p is None else "< .001" if p < 0.001 else f"{p:.3f}".replace("0.", ".")


def tested(value: statistics.Interval, show: Callable[[float], str] = points) -> str:
    """Interval and p-value of a difference, for a sentence."""
    p = p_value(value.p_value)
    return f"95 % interval {show(value.low)} to {show(value.high)}, p {p if p.startswith('<') else f'= {p}'}"


def compared(comparison: statistics.Comparison) -> list[str]:
    """A paired comparison as cells: difference, interval, p, p by Holm, verdict."""
    difference, p_holm = comparison
    interval = between(difference.low, difference.high, points)
    return [points(difference.estimate), interval, p_value(difference.p_value), p_value(p_holm), comparison.verdict]


def dot(interval: statistics.Interval) -> dict[str, float]:
    """Estimate and interval in percent, as figures take them."""
    return {key: 100 * getattr(interval, key) for key in ("estimate", "low", "high")}
