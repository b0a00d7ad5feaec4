"""Fusion: one interface, gradients, the gate's formula, masks in attention, the mean of probabilities."""

import numpy as np
import pytest
import torch

from mmutils.models import fusion
from mmutils.models.encoder import CachedEncoder, Encoded

NAMES = ["concatenation", "gated", "cross_attention", "compare", "late"]


def encoded(batch, length, dim, seed):
    generator = torch.Generator().manual_seed(seed)
    mask = torch.arange(length) < torch.randint(1, length + 1, (batch, 1), generator=generator)
    make = lambda *shape: torch.randn(shape, generator=generator)  # noqa: E731
    return Encoded(make(batch, dim), make(batch, length, dim), mask)


IMAGE, TEXT = encoded(6, 9, 12, seed=1), encoded(6, 7, 8, seed=2)


@pytest.mark.parametrize("name", NAMES)
def test_interface_and_gradient(name):
    torch.manual_seed(0)
    fuse = fusion.fusion_class(name)(12, 8)
    head = fuse.head(5)
    fused = fuse(IMAGE, TEXT)
    assert fused.shape == (6, fuse.dim) and head(fused).shape == (6, 5)
    torch.nn.functional.cross_entropy(head(fused), torch.arange(6) % 5).backward()
    unmoved = [key for key, p in [*fuse.named_parameters(), *head.named_parameters()] if p.grad is None]
    assert not unmoved


def test_unknown_name_lists_the_known():
    with pytest.raises(ValueError, match=", ".join(["concatenation", "gated", "cross_attention"])):
        fusion.fusion_class("sum")


def test_concatenation_has_its_widths():
    layers = [module for module in fusion.Concatenation(12, 8).layers if isinstance(module, torch.nn.Linear)]
    assert [(layer.in_features, layer.out_features) for layer in layers] == [(20, 512), (512, 128), (128, 32)]


def test_concatenation_hides_one_side_in_training_only():
    many = [Encoded(torch.ones(2000, dim) * torch.randn(2000, 1)) for dim in (12, 8)]
    fuse = fusion.Concatenation(12, 8, hide=0.5)
    seen = []
    fuse.layers.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    fuse.train()(*many)
    fuse.eval()(*many)
    hidden = torch.stack([(part == 0).all(dim=1) for part in seen[0].split([12, 8], dim=1)])  # (2, B)
    assert hidden.all(dim=0).sum() == 0, "an example without either side"
    assert torch.allclose(hidden.float().mean(dim=1), torch.full((2,), 0.25), atol=0.04)  # half of the time, half each
    assert not (seen[1] == 0).all(dim=1).any()


def test_gated_is_the_papers_formula():
    fuse = fusion.Gated(12, 8, dim=4).eval()
    v, t = IMAGE.features.numpy(), TEXT.features.numpy()  # standardisation has seen nothing yet
    image, text, gate = (m.weight.detach().numpy() for m in (fuse.image_value, fuse.text_value, fuse.gate))
    z = 1 / (1 + np.exp(-np.concatenate([v, t], axis=1) @ gate.T))
    expected = z * np.tanh(v @ image.T) + (1 - z) * np.tanh(t @ text.T)
    np.testing.assert_allclose(fuse(IMAGE, TEXT).detach().numpy(), expected, atol=1e-5)


def test_cross_attention_ignores_padding_and_sees_the_rest():
    fuse = fusion.CrossAttention(12, 8, dim=8, heads=2).eval()
    expected = fuse(IMAGE, TEXT)
    for which, side in enumerate((IMAGE, TEXT)):
        for real in (False, True):
            changed = torch.where(
                side.mask.unsqueeze(-1) == real, side.tokens + 100 * torch.randn(side.tokens.shape), side.tokens
            )
            sides = [IMAGE, TEXT]
            sides[which] = side._replace(tokens=changed)
            assert torch.allclose(fuse(*sides), expected, atol=1e-5) != real
    longer = Encoded(
        TEXT.features,
        torch.cat([TEXT.tokens, torch.ones(6, 3, 8)], 1),
        torch.cat([TEXT.mask, TEXT.mask[:, :3] & False], 1),
    )
    torch.testing.assert_close(fuse(IMAGE, longer), expected, atol=1e-5, rtol=1e-5)


def test_cross_attention_reads_the_other_side():
    fuse = fusion.CrossAttention(12, 8, dim=8, heads=2).eval()
    seen, read = fuse(IMAGE, TEXT).split(8, dim=-1)
    other = fuse(IMAGE, TEXT._replace(tokens=TEXT.tokens.flip(0), mask=TEXT.mask.flip(0))).split(8, dim=-1)
    assert not torch.allclose(seen, other[0], atol=1e-4) and not torch.allclose(read, other[1], atol=1e-4)
    alone = Encoded(IMAGE.features)  # no tokens: the features are the only one
    same = Encoded(IMAGE.features, IMAGE.features.unsqueeze(1), torch.ones(6, 1, dtype=torch.bool))
    assert torch.equal(fuse(alone, TEXT), fuse(same, TEXT))


def test_late_is_the_mean_of_probabilities():
    encoder = fusion.FusedEncoder(CachedEncoder("image", 12), CachedEncoder("text", 8), fusion.Late(12, 8))
    head, features = encoder.head(3), encoder({"image": IMAGE.features, "text": TEXT.features})

    def probabilities(layer, values):
        scores = np.exp(layer(values).detach().double().numpy())
        return scores / scores.sum(axis=1, keepdims=True)

    p, q = probabilities(head.image, features[:, :12]), probabilities(head.text, features[:, 12:])
    np.testing.assert_allclose(head(features).detach().numpy(), np.log((p + q) / 2), atol=1e-5)
