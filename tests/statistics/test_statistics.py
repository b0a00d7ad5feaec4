"""Statistics against closed forms, scikit-learn, scipy, torchmetrics, and simulations whose truth is known."""

import time
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import reference
from scipy import stats
from scipy.special import softmax
from sklearn.metrics import accuracy_score, brier_score_loss, f1_score, precision_score, recall_score, roc_auc_score
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from mmutils import statistics as st
from mmutils.statistics import calibration, classical
from mmutils.statistics.bootstrap import Draws
from mmutils.statistics.panel import panel, panels
from mmutils.statistics.scores import scores, weighted_score


def table(labels, probabilities, groups=None, seed=None) -> pd.DataFrame:
    """Predictions from labels (N,) and probabilities (N, K), or (N,) for p_1."""
    probabilities = np.asarray(probabilities, np.float64)
    if probabilities.ndim == 1:
        probabilities = np.stack([1 - probabilities, probabilities], axis=1)
    ids = np.arange(len(labels)).astype(str)
    columns = {f"p_{number}": column for number, column in enumerate(probabilities.T)}
    groups = ids if groups is None else np.asarray(groups).astype(str)
    start = {} if seed is None else {"seed": seed}
    return pd.DataFrame({**start, "id": ids, "group": groups, "label": labels, **columns})


def by_correct(correct, groups=None, seed=None) -> pd.DataFrame:
    """Predictions for which the label is 1 and accuracy is the mean of correct (N,)."""
    return table(np.ones(len(correct), int), np.where(correct, 0.9, 0.1), groups, seed)


def example(count=200, classes=3, seeds=(0, 1), skill=1.0, random=0) -> pd.DataFrame:
    generator = np.random.default_rng(random)
    labels = generator.integers(0, classes, count)
    parts = []
    for seed in seeds:
        logits = generator.normal(size=(count, classes)) + skill * np.eye(classes)[labels]
        parts.append(table(labels, np.round(softmax(logits, axis=1), 2), seed=seed))  # rounded: many ties
        names = [f"p_{number}" for number in range(classes)]
        parts[-1][names] = parts[-1][names].div(parts[-1][names].sum(axis=1), axis=0)
    return pd.concat(parts, ignore_index=True)


@pytest.mark.parametrize(("seeds", "decimals"), [((0,), 1), ((0,), 2), ((0, 1, 2), 9), ((3, 5), 9)])
def test_best_threshold_equals_a_search_over_all(seeds, decimals):
    generator, labels = np.random.default_rng(len(seeds)), np.arange(40) % 2
    rows = [table(labels, generator.beta(2 + labels, 3).round(decimals), seed=seed) for seed in seeds]
    predictions = pd.concat(rows).drop(columns="group")
    means = predictions.groupby("id")[["label", "p_1"]].mean()
    candidates = [0.5, *(sum(pair) / 2 for pair in pairwise(sorted(set(means["p_1"]))))]
    accuracies = [((means["p_1"] > candidate) == (means["label"] == 1)).mean() for candidate in candidates]
    highest = max(accuracies)
    best = st.best_threshold(predictions.sample(frac=1, random_state=0))
    assert ((means["p_1"] > best) == (means["label"] == 1)).mean() == highest
    distances = [abs(t - 0.5) for t, accuracy in zip(candidates, accuracies, strict=True) if accuracy == highest]
    assert abs(best - 0.5) == pytest.approx(min(distances), abs=1e-12)


def test_best_threshold_is_one_half_where_none_is_better_and_is_for_two_classes():
    assert st.best_threshold(table([0, 0, 1, 1], [0.1, 0.4, 0.6, 0.9])) == 0.5
    assert st.best_threshold(table([0, 0, 1, 1], [0.1, 0.2, 0.3, 0.9])) == pytest.approx(0.25)
    assert st.best_threshold(table([1, 1], [0.9, 0.9])) == 0.5
    with pytest.raises(ValueError, match="two classes"):
        st.best_threshold(example(classes=3))


# ---- scores under weights ----


@pytest.mark.parametrize("classes", [2, 4])
def test_weighted_scores_equal_those_of_scikit_learn(classes):
    system = panel(example(150, classes))
    weights = np.random.default_rng(1).integers(0, 4, (5, 150)).astype(np.float32)
    labels, one_hot = system.labels, np.eye(classes)[system.labels]
    for row, weight in enumerate(weights):
        for seed, probabilities in enumerate(system.probabilities):
            chosen = probabilities.argmax(axis=1)
            columns = [1] if classes == 2 else range(classes)
            areas = [roc_auc_score(one_hot[:, k], probabilities[:, k], sample_weight=weight) for k in columns]
            expected = {
                "accuracy": accuracy_score(labels, chosen, sample_weight=weight),
                "f1_macro": f1_score(labels, chosen, average="macro", sample_weight=weight),
                "f1_weighted": f1_score(labels, chosen, average="weighted", sample_weight=weight),
                "auroc": np.mean(areas),
                "brier": np.average(((probabilities - one_hot) ** 2).sum(axis=1), weights=weight),
            }
            for name, value in expected.items():
                assert weighted_score(system, name)(weights)[row, seed] == pytest.approx(value, abs=1e-5), name


@pytest.mark.parametrize("classes", [2, 4])
def test_scores_equal_those_of_scikit_learn_where_probabilities_tie(classes):
    rows = example(150, classes, seeds=(0,))
    names = [f"p_{k}" for k in range(classes)]
    rows[names] = rows[names].round(1).clip(lower=0.1)
    rows[names] = rows[names].div(rows[names].sum(axis=1), axis=0)  # few different values
    labels, probabilities = rows["label"].to_numpy(), rows[names].to_numpy()
    columns = [1] if classes == 2 else range(classes)
    found, chosen = scores(rows.drop(columns="seed")), probabilities.argmax(axis=1)
    areas = [roc_auc_score(labels == k, probabilities[:, k]) for k in columns]
    assert found["auroc"] == pytest.approx(np.mean(areas), abs=1e-12)
    assert st.estimate(rows, "auroc") == pytest.approx(np.mean(areas), abs=1e-6)
    for average in ("macro", "weighted"):
        for name, score in (("precision", precision_score), ("recall", recall_score), ("f1", f1_score)):
            expected = score(labels, chosen, average=average, zero_division=0)
            assert found[f"{name}_{average}"] == pytest.approx(expected, abs=1e-12)


def test_estimate_equals_scores_also_with_absent_classes():
    predictions = example(60, 4, seeds=(0,)).query("label != 2").reset_index(drop=True)
    rare = table([0, 0, 1], [[0.8, 0.1, 0.1], [0.4, 0.5, 0.1], [0.7, 0.2, 0.1]])
    for rows in (predictions, rare):
        expected = scores(rows.drop(columns="seed", errors="ignore"))
        for name in ("accuracy", "f1_macro", "f1_weighted", "auroc"):
            assert st.estimate(rows, name) == pytest.approx(expected[name], abs=1e-12), name


# ---- bootstrap ----


def single(predictions, score, resamples=10_000, **options):
    """The reference's interval of one system's score, with its standard error."""
    draws = Draws([panel(predictions)], score, resamples)
    return reference.interval(draws, lambda means: means[..., 0], **options)


def paired(a, b, score, resamples=10_000, **options):
    draws = Draws(panels([a, b]), score, resamples)
    return reference.interval(draws, lambda means: means[..., 0] - means[..., 1], **options)


def test_standard_error_of_accuracy_is_the_binomial_one_and_that_of_groups_the_cluster_one():
    correct = np.arange(400) < 320
    interval = st.bootstrap_interval(by_correct(correct), "accuracy")
    assert interval.estimate == 0.8
    assert single(by_correct(correct), "accuracy").standard_error == pytest.approx(0.02, rel=0.03)
    assert interval.low == pytest.approx(0.8 - 1.96 * 0.02, abs=0.003)
    assert interval.high == pytest.approx(0.8 + 1.96 * 0.02, abs=0.003)
    grouped = single(by_correct(correct, groups=np.arange(400) // 4), "accuracy")
    assert grouped.standard_error == pytest.approx(np.sqrt(0.8 * 0.2 / 100), rel=0.03)
    assert (grouped.groups, interval.groups) == (100, 400)


def test_variance_between_seeds_is_counted_and_unbiased():
    values = np.array([0.55, 0.7, 0.8, 0.95])  # each seed says the same to every example: no variance between examples
    parts = [table(np.ones(50, int), np.full(50, value), seed=seed) for seed, value in enumerate(values)]
    errors = 2 * (1 - values) ** 2
    interval = single(pd.concat(parts), "brier")
    assert interval.estimate == pytest.approx(errors.mean())
    assert interval.standard_error == pytest.approx(errors.std(ddof=1) / 2, rel=0.03)
    assert single(parts[0], "brier").standard_error == pytest.approx(0, abs=1e-6)


def test_bca_equals_scipy():
    generator = np.random.default_rng(3)
    labels = np.zeros(60, int)
    probabilities = generator.beta(1, 8, 60)
    losses = 2 * probabilities**2  # very skewed
    ours = single(table(labels, probabilities), "brier", 50_000, method="bca")
    theirs = stats.bootstrap((losses,), np.mean, n_resamples=50_000, method="BCa", rng=generator).confidence_interval
    percentile = st.bootstrap_interval(table(labels, probabilities), "brier", resamples=50_000)
    assert (ours.low, ours.high) == pytest.approx(tuple(theirs), abs=0.0005)
    assert ours.high - percentile.high > 0.0015  # the correction is not nothing here


def test_a_second_call_gives_the_same_bits_and_the_percentile_interval_is_the_reference_s():
    predictions = example(80, 2, seeds=(0,))
    first = st.bootstrap_interval(predictions, "auroc", resamples=200)
    again = single(predictions, "auroc", 200)
    assert (first.estimate, first.low, first.high) == (again.estimate, again.low, again.high)
    assert st.bootstrap_interval(predictions, "auroc", resamples=200) == first
    shuffled = predictions.sample(frac=1, random_state=0)
    assert st.estimate(shuffled, "auroc") == pytest.approx(first.estimate)
    assert first.estimate in first and first.high + 0.01 not in first and str(first).count(".") == 3


@pytest.mark.parametrize(("seeds", "spread"), [(3, 0.0), (5, 0.0), (5, 0.5), (10, 1.0)])
def test_intervals_of_few_seeds_are_those_of_student_s_distribution(seeds, spread):
    generator, labels = np.random.default_rng(seeds), np.arange(400) % 2
    a, b = (
        pd.concat(
            [
                table(labels, 1 / (1 + np.exp(-generator.normal(skill * (labels - 0.5), 1))), seed=seed)
                for seed, skill in enumerate(generator.normal(1.5, spread, seeds))
            ]
        )
        for _ in range(2)
    )
    draws = Draws(panels([a, b]), "auroc", 4000)
    interval = draws.interval(lambda means: means[..., 0] - means[..., 1], test=True)
    first, second = (function(np.ones((1, 400)))[0] for function in draws.functions)
    expected = reference.few_seeds_interval(draws, first - second)
    assert [interval.low, interval.high] == pytest.approx(
        [expected.low, expected.high], abs=0.1 * (expected.high - expected.low)
    )
    assert interval.p_value == pytest.approx(expected.p_value, abs=0.03)


def test_bootstrap_of_auroc_is_fast():
    predictions = example(2000, 2, seeds=(0,))
    start = time.perf_counter()
    interval = st.bootstrap_interval(predictions, "auroc", resamples=10_000)
    assert time.perf_counter() - start < 5
    by_formula = reference.delong(predictions["label"], predictions["p_1"])
    assert (interval.low, interval.high) == pytest.approx((by_formula.low, by_formula.high), abs=0.002)
    assert single(predictions, "auroc").standard_error == pytest.approx(by_formula.standard_error, rel=0.05)


def coverage(simulate, truth, count=600, **options):
    hits = [truth in simulate(np.random.default_rng(number), **options) for number in range(count)]
    return np.mean(hits)  # Monte-Carlo standard error .009


def test_interval_of_f1_covers_the_truth():
    confusion = np.array([[0.4, 0.05, 0.05], [0.05, 0.2, 0.05], [0.05, 0.05, 0.1]])  # joint law of label and prediction
    truth = np.mean(2 * np.diag(confusion) / (confusion.sum(axis=0) + confusion.sum(axis=1)))

    def simulate(generator):
        cells = generator.choice(9, 300, p=confusion.ravel())
        predictions = table(cells // 3, np.eye(3)[cells % 3])
        return st.bootstrap_interval(predictions, "f1_macro", resamples=500)

    assert 0.93 <= coverage(simulate, truth) <= 0.97


@pytest.mark.parametrize("method", ["percentile", "bca"])
def test_interval_of_auroc_covers_the_truth(method):
    def simulate(generator):
        labels = np.arange(160) % 2
        scores = stats.norm.cdf(generator.normal(labels, 1))
        return single(table(labels, scores), "auroc", 500, method=method)

    assert 0.93 <= coverage(simulate, stats.norm.cdf(1 / np.sqrt(2))) <= 0.97


def test_grouped_examples_need_the_bootstrap_over_groups():
    def simulate(generator, by_group):
        hard = np.repeat(generator.random(100) < 0.5, 4)  # four pictures of one tweet are hard or easy together
        correct = generator.random(400) < np.where(hard, 0.4, 0.9)
        groups = np.arange(400) // 4 if by_group else None
        return st.bootstrap_interval(by_correct(correct, groups), "accuracy", resamples=500)

    assert 0.93 <= coverage(simulate, 0.65, by_group=True) <= 0.97
    assert coverage(simulate, 0.65, by_group=False, count=300) < 0.9


def test_interval_covers_when_seeds_and_examples_vary():
    def simulate(generator):
        ease, skill = generator.normal(0, 1, 150), generator.normal(0, 0.15, 5)
        parts = [  # marginally normal with variance 1 + .15^2 + 1 around 1
            by_correct(1 + ease + skill[seed] + generator.normal(size=150) > 0, seed=seed) for seed in range(5)
        ]
        return st.bootstrap_interval(pd.concat(parts, ignore_index=True), "accuracy", resamples=400)

    assert 0.93 <= coverage(simulate, stats.norm.cdf(1 / np.sqrt(2 + 0.15**2)), count=400) <= 0.98


# ---- comparisons ----


def correlated_scores(generator, count=160, shift=(1.0, 1.0), rho=0.5):
    labels = np.arange(count) % 2
    noise = generator.multivariate_normal([0, 0], [[1, rho], [rho, 1]], count, method="cholesky")
    return labels, stats.norm.cdf(noise + labels[:, None] * np.array(shift)).T


def test_paired_difference_covers_and_its_p_value_is_uniform_under_the_null():
    def simulate(generator, shift):
        labels, (a, b) = correlated_scores(generator, shift=shift)
        return st.paired_difference(table(labels, a), table(labels, b), "auroc", resamples=500)

    null = [simulate(np.random.default_rng(number), (1.0, 1.0)) for number in range(600)]
    assert stats.kstest([result.p_value for result in null], "uniform").pvalue > 0.02
    assert 0.93 <= np.mean([0 in result for result in null]) <= 0.97
    truth = stats.norm.cdf(1.5 / np.sqrt(2)) - stats.norm.cdf(1 / np.sqrt(2))
    assert 0.93 <= coverage(simulate, truth, count=600, shift=(1.5, 1.0)) <= 0.97


def test_p_value_agrees_with_the_interval_for_both_methods():
    for random in range(12):
        a, b = example(60, 2, (0,), random=random), example(60, 2, (0,), random=random)
        b[["p_0", "p_1"]] = 0.7 * b[["p_0", "p_1"]] + 0.3 * np.random.default_rng(random).dirichlet([1, 1], len(b))
        for method in ("percentile", "bca"):
            first = paired(a, b, "auroc", 2000, method=method)
            level = 1 - first.p_value  # at this level the interval ends at 0
            wider = paired(a, b, "auroc", 2000, method=method, level=min(0.9999, level + 0.003))
            shorter = paired(a, b, "auroc", 2000, method=method, level=max(1e-4, level - 0.003))
            assert 0 in wider or first.p_value < 0.002
            assert 0 not in shorter or first.p_value > 0.99
        ours, theirs = st.paired_difference(a, b, "auroc", resamples=2000), paired(a, b, "auroc", 2000)
        assert (ours.low, ours.high) == (theirs.low, theirs.high)
        assert ours.p_value == pytest.approx(theirs.p_value)


def test_paired_difference_pairs_examples_and_seeds():
    a = example(150, 3, seeds=(0, 1, 2), random=5)
    same = st.paired_difference(a, a.sample(frac=1, random_state=0))
    assert (same.estimate, same.low, same.high, same.p_value) == (0, 0, 0, 1)
    other = a.assign(seed=a["seed"] + 10)  # the same models under other names: seeds are no longer drawn together
    assert st.paired_difference(a, other).high > 0
    few = a[a["seed"] == 0]
    expected = st.estimate(a) - st.estimate(few)
    assert st.paired_difference(a, few, resamples=200).estimate == pytest.approx(expected)
    better = st.paired_difference(*(example(150, 3, (0,), skill, random=5) for skill in (3, 1)))
    assert better.low > 0 and better.p_value == pytest.approx(2 / 10_001)


def test_delong_equals_its_definition_and_scipy():
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 2, 90)
    scores = np.round(generator.normal(size=(2, 90)) + labels, 1)  # rounded: ties
    wins = [np.sign(s[labels == 1][:, None] - s[labels == 0][None]) / 2 + 0.5 for s in scores]  # (P, Q)
    by_positive, by_negative = (np.cov([win.mean(axis=axis) for win in wins]) for axis in (1, 0))
    covariance = by_positive / (labels == 1).sum() + by_negative / (labels == 0).sum()
    areas = [roc_auc_score(labels, s) for s in scores]
    difference = reference.delong(labels, *scores)
    variance = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    assert difference.estimate == pytest.approx(areas[0] - areas[1])
    assert difference.standard_error**2 == pytest.approx(variance)
    assert difference.p_value == pytest.approx(2 * stats.norm.sf(abs(areas[0] - areas[1]) / np.sqrt(variance)))
    alone = reference.delong(labels, scores[0])
    assert (alone.estimate, alone.standard_error**2) == pytest.approx((areas[0], covariance[0, 0]))
    assert alone.estimate == pytest.approx(
        stats.mannwhitneyu(scores[0][labels == 1], scores[0][labels == 0]).statistic
        / ((labels == 1).sum() * (labels == 0).sum())
    )
    assert reference.delong(labels, scores[0], 7 * scores[0]).p_value == 1


def test_delong_covers_and_is_uniform_under_the_null():
    null = []
    for number in range(1000):
        labels, (a, b) = correlated_scores(np.random.default_rng(number), 200)
        null.append(reference.delong(labels, a, b))
    assert 0.93 <= np.mean([0 in result for result in null]) <= 0.97
    assert stats.kstest([result.p_value for result in null], "uniform").pvalue > 0.02


def test_mcnemar_is_the_exact_binomial_test():
    labels = np.zeros(50, int)
    a, b = (np.arange(50) < 12).astype(int), (np.arange(50) >= 47).astype(int)  # a wrong in 12, b in 3 others
    result = reference.mcnemar(labels, a, b)
    assert (result.only_a, result.only_b) == (3, 12)
    assert result.p_value == pytest.approx(stats.binomtest(3, 15).pvalue)
    assert result.difference == pytest.approx(-9 / 50)
    assert reference.mcnemar(labels, a, a).p_value == 1


def test_p_values_of_single_models_agree_with_delong_s_and_mcnemar_s():
    """Of independent examples; McNemar's exact test is the more careful one."""
    for number in range(15):
        labels, scores = correlated_scores(np.random.default_rng(number), 300, shift=(1.2, 1.0))
        pair, guesses = [table(labels, column) for column in scores], (scores > 0.5).astype(int)
        area, accuracy = (st.paired_difference(*pair, name, resamples=2000).p_value for name in ("auroc", "accuracy"))
        assert reference.delong(labels, *scores).p_value == pytest.approx(area, abs=0.05)
        assert -0.02 < reference.mcnemar(labels, *guesses).p_value - accuracy < 0.1


def test_p_values_beside_the_bootstrap_equal_other_ways_to_compute_them():
    for number in range(10):
        labels, scores = correlated_scores(np.random.default_rng(number), 60, shift=(0.8, 0.5))
        scores = np.round(scores, 1)  # ties
        right = (scores > 0.5) == labels
        assert classical.delong(labels, *scores) == pytest.approx(reference.delong(labels, *scores).p_value)
        assert classical.mcnemar(*right) == pytest.approx(reference.mcnemar(labels, *(scores > 0.5)).p_value)
    assert (classical.delong(labels, scores[0], scores[0]), classical.mcnemar(right[0], right[0])) == (1, 1)
    assert np.isnan(classical.delong(np.eye(1, 9)[0], *scores[:, :9]))


def test_holm_and_wilson_are_those_of_statsmodels():
    values = np.random.default_rng(0).uniform(0, 0.2, 30).round(2)  # with ties
    assert st.holm(values) == pytest.approx(multipletests(values, method="holm")[1])
    hits, count = np.array([0, 3, 7.5, 20, 1]), np.array([20, 20, 20, 20, 1])
    expected = proportion_confint(hits, count, method="wilson")
    np.testing.assert_allclose(st.wilson(hits / count, count), expected, atol=1e-12)
    assert st.wilson(1.0, 20) == pytest.approx(proportion_confint(20, 20, method="wilson"))


def test_holm_by_hand():
    assert st.holm([0.04, 0.01, 0.03, 0.005]).tolist() == pytest.approx([0.06, 0.03, 0.06, 0.02])
    assert st.holm([0.5, 0.9]).tolist() == [1, 1]
    assert len(st.holm([])) == 0


def test_a_family_of_comparisons_is_corrected_together():
    base = example(150, 2, skill=1, random=5)
    others = {"same": base, "better": example(150, 2, skill=3, random=5), "worse": example(150, 2, skill=0, random=5)}
    table = st.compare_pairs({name: (other, base) for name, other in others.items()}, resamples=500)
    assert [(name, row.verdict) for name, row in table.items()] == [
        ("same", "inconclusive"), ("better", "better"), ("worse", "worse")
    ]  # fmt: skip
    for name, row in table.items():
        assert row.difference == st.paired_difference(others[name], base, resamples=500)
    assert [row.p_holm for row in table.values()] == list(st.holm([row.difference.p_value for row in table.values()]))
    assert st.compare_pairs({}) == {}


# ---- language gap ----


def four_correct(generator, rates, count):
    ease = generator.random(count)  # the same examples are easy in all systems
    return [ease + 0.3 * generator.normal(size=count) < rate for rate in rates]


def four_systems(random, rates, count):
    return [by_correct(correct) for correct in four_correct(np.random.default_rng(random), rates, count)]


def test_gap_is_made_of_the_four_scores_and_covers():
    truth = {name: [] for name in ("text", "fused", "reduction", "share")}
    rates = (0.9, 0.5, 0.95, 0.8)
    large = [correct.mean() for correct in four_correct(np.random.default_rng(9), rates, 1_000_000)]
    text, fused = large[0] - large[1], large[2] - large[3]
    expected = {"text": text, "fused": fused, "reduction": text - fused, "share": 1 - fused / text}
    for number in range(300):
        systems = four_systems(number, rates, 250)
        gap = st.language_gap(*systems, score="accuracy", resamples=400)
        scores = [st.estimate(s, "accuracy") for s in systems] if number < 3 else None
        if scores:
            assert gap.share.estimate == pytest.approx(1 - (scores[2] - scores[3]) / (scores[0] - scores[1]))
            assert gap.reduction.estimate == pytest.approx(gap.text.estimate - gap.fused.estimate)
            assert gap.verdict.startswith("The picture closes")
            assert gap.share.p_value == gap.reduction.p_value < 0.05
        for name, value in expected.items():
            truth[name].append(value in getattr(gap, name))
    assert all(0.92 <= np.mean(hits) <= 0.98 for hits in truth.values()), {k: np.mean(v) for k, v in truth.items()}


def test_verdicts():
    def verdict(rates, count=2000):
        return st.language_gap(*four_systems(0, rates, count), score="accuracy", resamples=1000)

    no_gap = verdict((0.7, 0.7, 0.9, 0.9))
    assert no_gap.verdict.startswith("Inconclusive: from text alone")
    assert (no_gap.share.low, no_gap.share.high) == (-np.inf, np.inf)
    unchanged = verdict((0.8, 0.6, 0.8, 0.6))
    assert unchanged.verdict.startswith("Inconclusive: with the picture")
    assert 0 in unchanged.share
    assert verdict((0.8, 0.7, 0.9, 0.4)).verdict.startswith("The picture widens")
    assert verdict((0.6, 0.8, 0.8, 0.8)).verdict.startswith("No gap to close: from text alone Hindi is")
    closed = verdict((0.9, 0.5, 0.9, 0.7))
    assert f"{100 * closed.share.estimate:.0f} %" in closed.verdict and "(p = .002)" in closed.verdict


# ---- calibration ----


def brier(predictions):
    return st.estimate(predictions, "brier")


def test_calibration_error_and_brier_equal_the_libraries():
    generator = np.random.default_rng(0)
    probabilities, labels = generator.dirichlet(np.ones(4), 500), generator.integers(0, 4, 500)
    torch = pytest.importorskip("torch")
    library = pytest.importorskip("torchmetrics.functional.classification")
    expected = library.multiclass_calibration_error(
        torch.tensor(probabilities), torch.tensor(labels), num_classes=4, n_bins=15, norm="l1"
    )
    assert st.calibration_error(table(labels, probabilities)) == pytest.approx(float(expected), abs=1e-6)
    binary = example(300, 2, seeds=(0,))
    assert brier(binary) == pytest.approx(2 * brier_score_loss(binary["label"], binary["p_1"]))


def test_calibration_error_by_hand_and_over_seeds(monkeypatch):
    sure = by_correct(np.arange(10) < 6, seed=0)  # right in 6 of 10, confidence .9
    true = by_correct(np.arange(10) < 9, seed=1)
    assert st.calibration_error(sure) == pytest.approx(0.3)
    assert st.calibration_error(pd.concat([sure, true])) == pytest.approx(0.15)
    edge = table([1, 1], [0.5, 0.9])  # .5 belongs to the lower of two bins: errors of .5 and -.1 do not cancel
    monkeypatch.setattr(calibration, "BINS", 2)
    assert st.calibration_error(edge) == pytest.approx(0.3)
    exact = table([1, 0], [1.0, 0.0])
    monkeypatch.setattr(calibration, "BINS", 1)
    assert st.calibration_error(exact) == 0


def test_a_calibrated_simulation_has_no_calibration_error_and_temperature_finds_the_true_one():
    generator = np.random.default_rng(0)
    logits = generator.normal(0, 1.5, (40_000, 3))
    probabilities = softmax(logits, axis=1)
    labels = (generator.random((40_000, 1)) > probabilities.cumsum(axis=1)).sum(axis=1)
    true = table(labels, probabilities, seed=0)
    sure = table(labels, softmax(2.5 * logits, axis=1), seed=1)
    assert st.calibration_error(true) < 0.01
    assert st.calibration_error(sure) > 0.1
    found = st.temperature(pd.concat([true, sure], ignore_index=True))
    assert found.to_dict() == pytest.approx({0: 1, 1: 2.5}, rel=0.03)
    cooled = st.apply_temperature(sure, 2.5)
    assert np.allclose(cooled[["p_0", "p_1", "p_2"]], probabilities, atol=1e-6)
    assert st.calibration_error(st.apply_temperature(sure, found)) < 0.01
    assert brier(cooled) < brier(sure)


def test_reliability_table_sums_to_the_calibration_error():
    predictions = example(400, 3, seeds=(0,))
    bins = st.reliability(predictions)
    error = (bins["share"] * (bins["accuracy"] - bins["confidence"]).abs()).sum()
    assert error == pytest.approx(st.calibration_error(predictions))
    assert bins["examples"].sum() == pytest.approx(400)
    assert ((bins["left"] < bins["confidence"]) & (bins["confidence"] <= bins["right"] + 1e-12)).all()
    assert ((bins["low"] <= bins["accuracy"] + 1e-12) & (bins["accuracy"] <= bins["high"] + 1e-12)).all()
    twice = pd.concat([predictions, predictions.assign(seed=1)])
    pd.testing.assert_frame_equal(st.reliability(twice), bins)  # a second seed is no second set of examples


# ---- modalities ----


def examples_of(labels) -> pd.DataFrame:
    ids = np.arange(len(labels)).astype(str)
    return pd.DataFrame({"id": ids, "group": ids, "label": labels})


def diagonal(joint):
    return joint[np.arange(len(joint)), np.arange(len(joint))]


def test_emap_of_an_additive_model_is_the_model():
    generator = np.random.default_rng(0)
    text, picture = generator.normal(size=(2, 30, 4))
    joint = text[:, None] + picture[None]
    assert np.allclose(st.emap(joint), diagonal(joint))
    joint = generator.normal(size=(30, 30, 4))
    naive = [joint[i].mean(axis=0) + joint[:, i].mean(axis=0) - joint.mean(axis=(0, 1)) for i in range(30)]
    assert np.allclose(st.emap(joint), naive)


def xor_model(count=400, noise=0.2):
    """Joint logits of a model that compares a bit of the text with a bit of the picture, and the right labels."""
    text, picture = np.arange(count) % 2, np.arange(count) // 2 % 2
    strength = 2.0 * (text[:, None] ^ picture[None]) - 1 + np.random.default_rng(0).normal(0, noise, (count, count))
    return np.stack([-strength, strength], axis=2), text ^ picture


def test_without_interaction_xor_falls_to_chance_while_the_model_does_not():
    joint, labels = xor_model()
    table = st.modality_use(joint[None], examples_of(labels), "auroc", resamples=1000).set_index("model")
    assert table.loc["full", "score"] > 0.99
    for name in table.index[1:]:
        assert table.loc[name, "score"] == pytest.approx(0.5, abs=0.06), name
        assert table.loc[name, "change_high"] < 0 and table.loc[name, "p_value"] < 0.01, name
    assert table.loc["additive", "low"] < 0.5 < table.loc["additive", "high"]


def test_perceptual_score_is_zero_for_an_ignored_modality_and_its_mean_known_for_accuracy():
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 3, 120)
    text = generator.normal(size=(120, 3)) + 2 * np.eye(3)[labels]
    joint = np.repeat(text[:, None], 120, axis=1)  # looks at the text alone
    ignored = reference.perceptual_score(joint, labels, "image")
    assert (ignored.drop, ignored.relative, ignored.standard_deviation, ignored.p_value) == (0, 0, 0, 1)
    used = reference.perceptual_score(joint, labels, "text", permutations=200)
    expected = (joint.argmax(axis=2) == labels[None]).mean()  # over all texts for each example
    assert used.permuted == pytest.approx(expected, abs=4 * used.standard_deviation / np.sqrt(200))
    assert used.full == pytest.approx((text.argmax(axis=1) == labels).mean())
    assert used.relative == pytest.approx(1 - used.permuted / used.full)
    assert used.p_value == pytest.approx(1 / 201)
    swapped = reference.perceptual_score(joint.transpose(1, 0, 2), labels, "image", permutations=200)
    assert swapped == used


# ---- slices and chance ----


def test_slices_have_recall_by_class_and_say_when_they_are_small():
    labels = np.repeat([0, 1, 2], [50, 30, 4])
    chosen = np.concatenate([np.repeat([0, 1], [40, 10]), np.repeat([1, 2], [15, 15]), [2, 2, 2, 0]])
    predictions = table(labels, np.eye(3)[chosen], groups=np.where(labels == 2, "same", np.arange(84).astype(str)))
    recall = st.score_by_slice(predictions, predictions.set_index("id")["label"], resamples=500)
    assert recall[["slice", "examples", "groups"]].to_numpy().tolist() == [[0, 50, 50], [1, 30, 30], [2, 4, 1]]
    assert recall["score"].tolist() == pytest.approx([0.8, 0.5, 0.75])
    assert recall["small"].tolist() == [False, False, True]
    assert recall["low"].isna().tolist() == [False, False, True]
    events = pd.Series(np.where(np.arange(84) % 2, "flood", "fire"), index=predictions["id"])
    assert st.score_by_slice(predictions, events, resamples=100)["slice"].tolist() == ["fire", "flood"]


def test_chance_is_that_of_the_majority_and_an_interval_knows_it():
    labels = np.repeat([0, 1, 2], [60, 30, 10])
    constant = table(labels, np.tile([0.6, 0.3, 0.1], (100, 1)))
    chance = st.chance(constant)
    for name in ("accuracy", "f1_macro", "auroc"):
        assert chance[name] == pytest.approx(st.estimate(constant, name)), name
    assert chance["f1_macro"] == pytest.approx(0.25)
    assert chance["accuracy"] in st.bootstrap_interval(constant, "accuracy")
    assert 0.5 in reference.delong([0, 1] * 50, np.arange(100) % 7)
    assert 0.5 not in st.bootstrap_interval(example(200, 2, skill=2), "auroc")


# ---- bad input ----


def broken(change):
    predictions = example(20, 2)
    change(predictions)
    return predictions


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p.drop(columns="label", inplace=True), "lack the columns"),  # noqa: PD002
        (lambda p: p.drop(columns="p_0", inplace=True), "p_0"),  # noqa: PD002
        (lambda p: p.__setitem__("p_1", np.nan), "NaN"),
        (lambda p: p.__setitem__("p_1", 3.0), "softmax"),
        (lambda p: p.__setitem__("label", -1), "unknown"),
        (lambda p: p.__setitem__("label", 1), "not defined"),
        (lambda p: p.__setitem__("seed", 0), "more than once"),
        (lambda p: p.__setitem__("id", np.arange(40).astype(str)), "other ids"),
        (lambda p: p.__setitem__("group", "one"), "one group"),
        (lambda p: p.__setitem__("group", np.arange(40).astype(str)), "seed 1, has another group"),
        (lambda p: p.__setitem__("split", ["val", "test"] * 20), "one split at a time"),
    ],
)
def test_bad_predictions_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        st.bootstrap_interval(broken(change), "auroc", resamples=10)


def test_other_bad_input_is_refused():
    good = example(20, 2)
    calls = [
        (lambda: st.bootstrap_interval(good, "f1"), "unknown score"),
        (lambda: st.bootstrap_interval(good, resamples=0), "resamples"),
        (lambda: st.bootstrap_interval(good[:0]), "empty"),
        (lambda: st.paired_difference(good, example(21, 2)), "other ids"),
        (lambda: st.paired_difference(good, good.assign(label=1 - good["label"])), "another label"),
        (lambda: st.paired_difference(good, good.assign(group="a" + good["group"])), "another group"),
        (lambda: st.paired_difference(good, good.assign(p_2=0.0)), "different numbers of classes"),
        (lambda: reference.delong([0, 1, 1], [1, 2, 3]), "at least two"),
        (lambda: reference.delong([0, 1, 1, 0], [1, 2, 3]), "one length"),
        (lambda: reference.delong([0, 1, 1, 0], [1, 2, 3, np.nan]), "NaN"),
        (lambda: st.holm([0.1, np.nan]), r"\[0, 1\]"),
        (lambda: st.language_gap(good, good, good, good, score="brier"), "brier"),
        (lambda: st.apply_temperature(good, 0.0), "above 0"),
        (lambda: st.apply_temperature(good, {0: 1.0}), "above 0"),
        (lambda: st.modality_use(np.zeros((1, 3, 4, 2)), examples_of([0, 1, 0])), r"\(S, N, N, K\)"),
        (lambda: st.modality_use(np.full((1, 2, 2, 2), np.nan), examples_of([0, 1])), "NaN"),
        (lambda: reference.perceptual_score(np.zeros((3, 3, 2)), [0, 1, 0], "picture"), "'text' or 'image'"),
        (lambda: st.to_predictions(examples_of([0, 1]), np.zeros((1, 3, 2))), "length"),
        (lambda: st.score_by_slice(good, pd.Series({"0": "fire"})), "no slice"),
    ]
    for call, message in calls:
        with pytest.raises(ValueError, match=message):
            call()
