"""Standardisation equals scikit-learn's, ignores padding, and is over all rows seen so far."""

import numpy as np
import torch
from sklearn.preprocessing import StandardScaler

from mmutils.models.encoder import Standardise


def test_one_batch_equals_scikit_learn():
    values, standardise = (
        torch.randn(50, 4) * torch.tensor([1, 9, 0.5, 3]) + torch.tensor([5, -20, 0, 1]),
        Standardise(4),
    )
    expected = StandardScaler().fit_transform(values.double().numpy())
    for mode in (True, False):  # evaluation computes what training computes
        np.testing.assert_allclose(standardise.train(mode)(values).numpy(), expected, atol=1e-3)


def test_is_over_all_rows_so_far():
    batches = [torch.randn(6 + i, 3) * (i + 1) + i for i in range(14)]
    standardise = Standardise(3)
    for i, batch in enumerate(batches):
        standardised = standardise(batch)
        rows = torch.cat(batches[: i + 1])
        expected = (batch - rows.mean(dim=0)) / rows.std(dim=0, correction=0)
        torch.testing.assert_close(standardised, expected, atol=1e-3, rtol=1e-3)
    before = standardise.mean.clone()
    standardise.eval()(batches[0])
    assert torch.equal(standardise.mean, before)


def test_padding_does_not_count():
    tokens, mask = torch.randn(3, 5, 2), torch.arange(5) < torch.tensor([[5], [2], [1]])
    padded, plain = Standardise(2), Standardise(2)
    standardised = padded(torch.where(mask.unsqueeze(-1), tokens, 1e4), mask)
    torch.testing.assert_close(standardised[mask], plain(tokens[mask]), atol=1e-4, rtol=1e-4)


def test_one_example_and_half_precision():
    standardise = Standardise(3)
    assert torch.isfinite(standardise(torch.randn(1, 3))).all()
    assert standardise(torch.randn(4, 3, dtype=torch.bfloat16)).dtype == torch.float32
