"""CLIP against open_clip, closed forms and a naive loop."""

import math

import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmutils.methods.clip import CLIP, contrastive_loss, duplicate_keys, duplicates


class Image(nn.Module):
    dim = 6

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(12, self.dim)

    def forward(self, batch):
        return self.layer(batch["image"].flatten(1))


class Text(nn.Module):
    dim = 5

    def __init__(self):
        super().__init__()
        self.layer = nn.EmbeddingBag(50, self.dim)

    def forward(self, batch):
        return self.layer(batch["input_ids"])


def make_batch(size=8):
    tokens = torch.arange(size * 3).view(size, 3)
    ids = [str(i) for i in range(size)]
    return {
        "image": torch.rand(size, 3, 2, 2),
        "input_ids": tokens,
        "attention_mask": torch.ones_like(tokens),
        "id": ids,
    }


@pytest.fixture
def method():
    torch.manual_seed(0)
    return CLIP(Image(), Text(), dim=4)


@pytest.mark.parametrize("size", [1, 2, 9, 64])
@pytest.mark.parametrize("dim", [2, 33])
@pytest.mark.parametrize("scale", [1.0, 14.2857, 100.0])
def test_loss_and_gradient_equal_open_clip(size, dim, scale):
    reference = pytest.importorskip("open_clip.loss").ClipLoss()
    torch.manual_seed(size)
    values = [torch.randn(size, dim, dtype=torch.double), torch.randn(size, dim, dtype=torch.double)]
    results = []
    for function in (contrastive_loss, reference):
        image, text = (value.clone().requires_grad_() for value in values)
        factor = torch.tensor(scale, dtype=torch.double, requires_grad=True)
        loss = function(F.normalize(image, dim=-1), F.normalize(text, dim=-1), factor)
        results.append((loss, *torch.autograd.grad(loss, (image, text, factor))))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", [2, 8, 100])
def test_loss_at_chance_is_log_of_the_batch(size):
    equal = F.normalize(torch.ones(size, 3), dim=-1)
    assert contrastive_loss(equal, equal, 14.0).item() == pytest.approx(math.log(size), rel=1e-5)


def test_loss_at_the_optimum_is_zero():
    assert contrastive_loss(torch.eye(8), torch.eye(8), 100.0).item() == pytest.approx(0, abs=1e-6)


def test_duplicates_are_left_out_as_in_a_naive_loop():
    torch.manual_seed(0)
    image, text = (F.normalize(torch.randn(9, 5), dim=-1) for _ in range(2))
    keys = torch.tensor([0, 1, 2, 0, 3, 0, 4, 5, 5])
    same = keys[:, None] == keys[None]
    losses = []
    for a, b in ((image, text), (text, image)):
        for i in range(9):
            kept = [j for j in range(9) if j == i or keys[j] != keys[i]]
            logits = torch.stack([10 * (a[i] * b[j]).sum() for j in kept])
            losses.append(logits.logsumexp(0) - logits[kept.index(i)])
    expected = torch.stack(losses).mean()
    assert expected != contrastive_loss(image, text, 10.0)
    torch.testing.assert_close(contrastive_loss(image, text, 10.0, same), expected)


def test_duplicates_are_found_by_tokens_whatever_the_padding():
    tokens = torch.tensor([[1, 2, 0], [1, 2, 9], [1, 2, 3], [1, 2, 0]])
    mask = torch.tensor([[1, 1, 0], [1, 1, 0], [1, 1, 1], [1, 1, 1]])
    same = duplicates({"input_ids": tokens, "attention_mask": mask, "id": list("abcd")})
    assert same.tolist() == torch.tensor([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]).bool().tolist()


def test_duplicates_are_found_by_keys():
    examples = pd.DataFrame({"text": ["A cat", "a cat ", "dog", "bird"], "image": ["1.png", "2.png", "2.png", "3.png"]})
    same = duplicates({"id": list("abcd"), **duplicate_keys(examples)})
    assert same.tolist() == torch.tensor([[1, 1, 0, 0], [1, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 1]]).bool().tolist()


def test_method_leaves_out_duplicates_and_reports_chance(method):
    batch = make_batch()
    method.loss(batch, 0.0)
    assert method.watch.read()["loss_chance"] == pytest.approx(math.log(8))
    batch["text_key"] = torch.tensor([0, 0, 1, 2, 3, 4, 5, 6])
    same = batch["text_key"][:, None] == batch["text_key"][None]
    image, text = method.embed_image(batch), method.embed_text(batch)
    expected = contrastive_loss(image, text, 1 / 0.07, same)
    torch.testing.assert_close(method.loss(batch, 0.0), expected)
    row = method.watch.read()
    assert row["loss_chance"] == pytest.approx((6 * math.log(8) + 2 * math.log(7)) / 8)
    assert row["scale"] == pytest.approx(14.2857, rel=1e-4)
    assert {"spread_image", "spread_text", "effective_rank_image", "effective_rank_text"} <= row.keys()


def test_embeddings_have_length_one(method):
    for embedding in (method.embed_image(make_batch()), method.embed_text(make_batch())):
        assert embedding.shape == (8, 4)
        torch.testing.assert_close(embedding.norm(dim=-1), torch.ones(8))


@pytest.mark.parametrize(("before", "after"), [(9.0, math.log(100)), (-3.0, 0.0), (2.0, 2.0)])
def test_scale_is_clamped_after_the_step(method, before, after):
    nn.init.constant_(method.log_scale, before)
    method.after_step(0.0)
    assert method.log_scale.item() == pytest.approx(after)


def test_scale_has_no_weight_decay_and_all_parameters_are_in_one_group(method):
    groups = method.parameter_groups()
    assert not [g for g in groups if g["decay"] and any(p is method.log_scale for p in g["params"])]
    assert sorted(id(p) for g in groups for p in g["params"]) == sorted(id(p) for p in method.parameters())
    encoder = {id(p) for g in groups if g["encoder"] for p in g["params"]}
    assert encoder == {id(p) for module in method.encoders().values() for p in module.parameters()}


def test_one_step_changes_every_parameter_and_lowers_the_loss(method):
    batch = make_batch()
    before = {name: p.detach().clone() for name, p in method.named_parameters()}
    optimizer = torch.optim.SGD([p for g in method.parameter_groups() for p in g["params"]], lr=0.01)
    loss = method.loss(batch, 0.0)
    loss.backward()
    method.before_step(0.0)
    optimizer.step()
    method.after_step(0.0)
    assert method.loss(batch, 0.0) < loss
    assert not [name for name, p in method.named_parameters() if torch.equal(p, before[name])]


def test_small_batch_is_an_error_that_says_so(method):
    with pytest.raises(ValueError, match="CLIP was given a batch of 7 examples"):
        method.loss(make_batch(7), 0.0)


@pytest.mark.parametrize("chunk", [1, 4, 9])
def test_chunks_give_the_loss_and_the_gradient_of_the_whole_batch(method, chunk):
    method.image.layer = nn.Sequential(nn.Linear(12, 500), nn.ReLU(), nn.Linear(500, 6))
    batch, results = make_batch(9), []
    for method.chunk in (0, chunk):
        method.zero_grad()
        loss = method.loss(batch, 0.0)
        loss.backward()
        results.append([loss.detach(), *(p.grad.clone() for p in method.parameters())])
    for whole, parts in zip(*results, strict=True):
        torch.testing.assert_close(parts, whole, rtol=1e-5, atol=1e-5)
