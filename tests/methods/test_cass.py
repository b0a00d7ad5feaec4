"""CASS against its formula, its cures against naive forms, and the collapse that they are for."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmutils.methods.cass import CASS, CURES, agreement_loss, variance_loss
from mmutils.methods.clip import contrastive_loss


class Convolution(nn.Module):
    dim = 6

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, self.dim, 3, bias=False), nn.BatchNorm2d(self.dim), nn.ReLU())

    def forward(self, batch):
        return self.layers(batch["image"]).mean(dim=(2, 3))


class Patches(nn.Module):
    dim = 7

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 4, self.dim), nn.LayerNorm(self.dim))

    def forward(self, batch):
        return self.layers(batch["image"])


class Fused(nn.Module):
    """Stands for picture + text: every layer must train, the last one too."""

    def __init__(self, image):
        super().__init__()
        self.image, self.text, self.fusion = image, nn.EmbeddingBag(50, 4), nn.Linear(image.dim + 4, 9, bias=False)
        self.dim = 9

    def forward(self, batch):
        return self.fusion(torch.cat([self.image(batch), self.text(batch["input_ids"])], dim=1))


def make_batch(size=16):
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, 50, (size, 3), generator=generator)
    image = torch.rand(size, 3, 4, 4, generator=generator)
    ids = [str(i) for i in range(size)]
    return {"image": image, "input_ids": tokens, "attention_mask": torch.ones_like(tokens), "id": ids}


def make_method(cure, fused=False, **options):
    torch.manual_seed(0)
    branches = [Fused(Convolution()), Fused(Patches())] if fused else [Convolution(), Patches()]
    return CASS(*branches, dim=12, cure=cure, **options).train()


@pytest.mark.parametrize("size", [1, 8, 50])
@pytest.mark.parametrize("dim", [2, 300])
def test_agreement_and_gradient_equal_the_formula(size, dim):
    torch.manual_seed(0)
    values = torch.randn(2, size, dim, dtype=torch.double)

    def formula(a, b):
        terms = []
        for x, y in zip(a, b, strict=True):
            x, y = x / x.square().sum().sqrt(), y / y.square().sum().sqrt()
            terms.append(2 - 2 * (x * y).sum())
        return sum(terms) / len(terms)

    results = []
    for function in (agreement_loss, formula):
        a, b = (value.clone().requires_grad_() for value in values)
        loss = function(a, b)
        results.append((loss, *torch.autograd.grad(loss, (a, b))))
    for ours, naive in zip(*results, strict=True):
        torch.testing.assert_close(ours, naive, rtol=1e-5, atol=1e-5)


def test_agreement_has_its_known_values():
    torch.manual_seed(0)
    a, b = torch.randn(2, 2000, 512)
    assert agreement_loss(a, 3 * a).item() == pytest.approx(0, abs=1e-5)
    assert agreement_loss(a, -a).item() == pytest.approx(4, abs=1e-5)
    assert agreement_loss(a, b).item() == pytest.approx(2, abs=0.01)


def test_variance_loss_has_its_known_values():
    torch.manual_seed(0)
    assert variance_loss(torch.ones(9, 5)).item() == pytest.approx(0.99)
    assert variance_loss(torch.randn(9, 5) * 100).item() == 0


@pytest.mark.parametrize("shape", [(8, 4), (20, 12), (9, 100)])
def test_variance_cure_and_gradient_equal_lightly_on_normalised_embeddings(shape):
    reference = pytest.importorskip("lightly.loss").VICRegLoss(lambda_param=1.0, mu_param=1.0, nu_param=0.04)
    method = make_method("variance")
    torch.manual_seed(0)
    values = torch.randn(2, *shape) + 0.5

    def theirs(a, b):
        return reference(F.normalize(a, dim=-1) * shape[1] ** 0.5, F.normalize(b, dim=-1) * shape[1] ** 0.5)

    results = []
    for function in (lambda a, b: method.objective(a, b, {})[0], theirs):
        a, b = (value.clone().requires_grad_() for value in values)
        loss = function(a, b)
        results.append((loss, *torch.autograd.grad(loss, (a, b))))
    for ours, expected in zip(*results, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)


def test_published_form_is_the_agreement_of_two_linear_heads():
    method = make_method("none")
    batch = make_batch()
    expected = agreement_loss(method.cnn_head(method.cnn(batch)), method.vit_head(method.vit(batch)))
    torch.testing.assert_close(method.loss(batch, 0.0), expected)
    assert isinstance(method.cnn_head, nn.Linear) and isinstance(method.vit_head, nn.Linear)


def test_contrastive_cure_is_the_contrastive_loss_of_the_branches():
    method = make_method("contrastive")
    batch = make_batch()
    a, b = (F.normalize(x, dim=-1) for x in method.embed(batch))
    torch.testing.assert_close(method.loss(batch, 0.0), contrastive_loss(a, b, 10.0))
    assert method.watch.read()["loss_chance"] == pytest.approx(math.log(16))


@pytest.mark.parametrize(("silent", "heard"), [("cnn", "vit"), ("vit", "cnn")])
def test_stop_gradient_lets_only_the_predicting_side_learn(silent, heard):
    method = make_method("stop_gradient")
    for parameter in getattr(method, f"{silent}_predictor").parameters():
        nn.init.zeros_(parameter)  # a constant prediction carries no gradient back to its branch
    method.loss(make_batch(), 0.0).backward()
    assert all(p.grad is None or p.grad.abs().sum() == 0 for p in getattr(method, silent).parameters())
    assert all(p.grad.abs().sum() > 0 for p in getattr(method, heard).parameters())


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("cure", CURES)
def test_one_step_changes_every_parameter_and_lowers_the_loss(cure, fused):
    method = make_method(cure, fused, hidden=None if cure == "none" else 10)
    batch = make_batch()
    before = {name: p.detach().clone() for name, p in method.named_parameters()}
    parameters = [p for group in method.parameter_groups() for p in group["params"]]
    assert sorted(id(p) for p in parameters) == sorted(id(p) for p in method.parameters())
    first = method.loss(batch, 0.0)
    first.backward()
    method.before_step(0.0)
    torch.optim.SGD(parameters, lr=0.01).step()
    method.after_step(0.0)
    assert method.loss(batch, 0.0) < first
    assert not [name for name, p in method.named_parameters() if torch.equal(p, before[name])]


@pytest.mark.parametrize("cure", ["none", "variance"])
def test_chance_is_the_loss_of_independent_even_directions(cure):
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 2000, 64, generator=generator)
    loss, at_chance = make_method(cure).objective(a, b, {})
    assert loss.item() == pytest.approx(at_chance, abs=0.03)


def test_batch_without_pictures_reaches_the_encoders_as_it_is():
    class Cached(nn.Module):
        dim = 5

        def forward(self, batch):
            assert "image" not in batch
            return batch["features"]

    a, b = CASS(Cached(), Cached(), dim=3).embed({"features": torch.rand(8, 5), "id": list("abcdefgh")})
    assert a.shape == b.shape == (8, 3)


def test_two_views_go_one_to_each_branch():
    method, batch = make_method("none").eval(), make_batch()
    views = [batch["image"], batch["image"].flip(3)]
    a, b = method.embed(batch | {"image": views})
    torch.testing.assert_close(a, method.embed(batch)[0])
    torch.testing.assert_close(b, method.embed(batch | {"image": views[1]})[1])
    assert not torch.allclose(b, method.embed(batch)[1])


def train(cure):
    method, batch = make_method(cure), make_batch(32)
    optimizer = torch.optim.Adam(method.parameters(), lr=0.01)
    for _ in range(150):
        optimizer.zero_grad()
        method.loss(batch, 0.0).backward()
        optimizer.step()
    method.watch.read()
    method.loss(batch, 0.0)
    return method.watch.read()


def test_published_form_collapses_and_the_default_does_not():
    published, cured = train("none"), train(CASS.__init__.__defaults__[2])
    assert published["agreement"] < 0.01 and published["spread_cnn"] < 0.2 and published["spread_vit"] < 0.2
    assert cured["agreement"] < 0.6 and cured["spread_cnn"] > 0.6 and cured["spread_vit"] > 0.6
    assert cured["effective_rank_vit"] > published["effective_rank_vit"] + 2


def test_what_does_not_fit_is_an_error_that_says_so():
    with pytest.raises(ValueError, match="CASS was given a batch of 7 examples"):
        make_method("none").loss(make_batch(7), 0.0)
    with pytest.raises(ValueError, match="cure='magic' is unknown; there are none, stop_gradient"):
        make_method("magic")
