"""Collapse monitor against known values."""

import math

import pytest
import torch

from mmutils.evaluation import collapse
from mmutils.evaluation.collapse import Watch, effective_rank, spread


def test_even_directions_have_spread_one_and_full_rank():
    features = torch.randn(20_000, 16, generator=torch.Generator().manual_seed(0))
    assert spread(features) == pytest.approx(1, abs=0.01)
    assert effective_rank(features) == pytest.approx(16, rel=0.01)


def test_collapsed_features_have_spread_zero_and_rank_one():
    features = torch.rand(1, 16).expand(100, 16)
    assert spread(features) == pytest.approx(0, abs=1e-6)
    assert effective_rank(features) == pytest.approx(1, abs=1e-5)


def test_rank_counts_directions_not_lengths():
    assert effective_rank(torch.diag(torch.tensor([1.0, 5.0, 9.0, 0.0, 0.0]))) == pytest.approx(3)


def test_features_that_are_not_finite_have_no_rank():
    assert math.isnan(effective_rank(torch.tensor([[1.0, math.nan]])))


def test_watch_averages_an_epoch_and_starts_afresh(monkeypatch):
    monkeypatch.setattr(collapse, "ROWS", 4)
    watch = Watch()
    for step in range(3):
        watch.add(loss_chance=step, entropy=torch.tensor(2.0, requires_grad=True) * step)
        watch.keep(image=torch.eye(3) + step)
    row = watch.read()
    assert row["loss_chance"] == 1 and row["entropy"] == 2
    last = torch.cat([torch.eye(3)[2:] + 1, torch.eye(3) + 2])  # the last four rows
    assert row["spread_image"] == pytest.approx(spread(last))
    assert watch.read() == {}
