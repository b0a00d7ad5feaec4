"""Every text with every picture: the diagonal is the model itself, the rest what it says of the other pairs."""

import numpy as np
import pandas as pd
import pytest
import torch

from mmutils.batches import Batches
from mmutils.evaluation.modalities import evenly_spaced, joint_logits, modality_use, noise_scores, noisy_logits
from mmutils.evaluation.predictions import predict
from mmutils.models import fusion
from mmutils.models.classifier import Classifier
from mmutils.models.encoder import CachedEncoder


def made(name: str, count: int = 30) -> tuple[Classifier, Batches]:
    torch.manual_seed(0)
    rows = {"id": [str(i) for i in range(count)], "group": [str(i) for i in range(count)], "text": "", "image": None}
    table = pd.DataFrame(rows | {"label": np.arange(count) % 2})
    extra = {"picture": torch.randn(count, 12), "words": torch.randn(count, 8)}
    lengths = torch.randint(1, 6, (count, 1))
    extra |= {"words_tokens": torch.randn(count, 5, 8), "words_mask": torch.arange(5) < lengths}
    sides = CachedEncoder("picture", 12), CachedEncoder("words", 8)
    encoder = fusion.FusedEncoder(*sides, fusion.fusion_class(name)(12, 8))
    return Classifier(encoder, 2).eval(), Batches(table, 7, extra=extra)


@pytest.mark.parametrize("name", ["concatenation", "gated", "cross_attention", "compare", "late"])
def test_entry_i_j_is_text_i_with_picture_j(name):
    classifier, batches = made(name)
    found = joint_logits(classifier, batches, most=11)
    rows = evenly_spaced(30, 11)
    assert found.shape == (11, 11, 2) and rows[0] == 0 and rows[-1] == 29
    for i in range(11):  # texts of all lengths
        given = {name: values[rows[4 if name == "picture" else i]][None] for name, values in batches.extra.items()}
        with torch.inference_mode():
            np.testing.assert_allclose(found[i, 4], classifier(given)[0].numpy(), atol=1e-5)


def test_pairs_that_only_go_together_leave_nothing_to_add_up():
    """Label 1 where picture and text have the same sign: the additive part is at chance, and whole for a sum."""
    _, batches = made("compare", 80)
    text = np.where(np.arange(80) // 2 % 2, 1, -1)
    picture = np.where(np.arange(80) % 2, text, -text)
    joint = np.stack([np.zeros((80, 80)), np.multiply.outer(text, picture)], axis=-1)
    rows = pd.DataFrame(modality_use([joint, joint], batches.examples, "auroc")).set_index("model")
    assert rows.loc["full", "score"] == 1
    assert rows.loc["additive", "low"] <= 0.5 <= rows.loc["additive", "high"]
    added = np.stack([np.zeros((80, 80)), np.add.outer(text, picture)], axis=-1)
    rows = pd.DataFrame(modality_use([added], batches.examples, "auroc")).set_index("model")
    assert rows.loc["additive", "change"] == pytest.approx(0)


def test_one_encoder_has_no_sides():
    _, batches = made("late")
    with pytest.raises(ValueError, match="CachedEncoder"):
        joint_logits(Classifier(CachedEncoder("words", 8), 2), batches)


@pytest.mark.parametrize("name", ["concatenation", "cross_attention"])
def test_without_noise_it_is_the_model(name):
    classifier, batches = made(name, 80)
    found = noisy_logits(classifier, batches)
    known = predict(classifier, batches)[["p_0", "p_1"]].to_numpy()
    for side in ("picture", "text"):
        np.testing.assert_allclose(torch.tensor(found[side, 0.0]).softmax(1), known, atol=1e-5)
        assert np.abs(found[side, 2.0] - found[side, 0.0]).max() > 0.01


class Added(torch.nn.Module):
    def forward(self, image, text):
        return (image.features[:, :1] + text.features[:, :1]) * torch.tensor([-1.0, 1.0])


def test_noise_takes_away_what_the_noisy_side_tells():
    """A classifier that adds up the first feature of both sides, of which only the text's tells the label."""
    classifier, batches = made("concatenation", 200)
    batches.extra["words"][:, 0] = torch.tensor(batches.examples["label"].to_numpy()) * 2.0 - 1
    batches.extra["picture"][:, 0] = 0
    classifier.encoder.fusion, classifier.head = Added(), torch.nn.Identity()
    rows = pd.DataFrame(noise_scores([classifier] * 3, batches, batches.examples, "accuracy"))
    score, normal = rows.set_index(["side", "level"])["score"], torch.distributions.Normal(0, 1)
    assert (score["picture"] == 1).all() and score["text", 0.0] == 1
    for level in (2.0, 16.0):  # a label of 1 or -1 under noise of so many deviations
        assert score["text", level] == pytest.approx(normal.cdf(torch.tensor(1 / level)).item(), abs=0.06)
