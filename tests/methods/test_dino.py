"""DINO against lightly, closed forms and the rules of the authors' code."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmutils.methods import dino
from mmutils.methods.dino import DINO, Head, dino_loss, encode_views


class Encoder(nn.Module):
    dim = 5

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, self.dim, 3), nn.BatchNorm2d(self.dim), nn.ReLU(), nn.Dropout(0.5))
        self.passes = []

    def forward(self, batch):
        self.passes.append(tuple(batch["image"].shape))
        return self.layers(batch["image"]).mean(dim=(2, 3))


def make_batch(size=8, views=(8, 8, 6, 6, 6), seed=0):
    generator = torch.Generator().manual_seed(seed)
    images = [torch.rand(size, 3, side, side, generator=generator) for side in views]
    return {"image": images, "id": [str(i) for i in range(size)], "label": torch.zeros(size, dtype=torch.long)}


def make_method(**options):
    torch.manual_seed(0)
    method = DINO(Encoder(), **{"prototypes": 16, "hidden": 12, "bottleneck": 8, "momentum": 0.9} | options)
    return method.train()


def step(method, batch, progress, rate=0.1):
    loss = method.loss(batch, progress)
    optimizer = torch.optim.SGD([p for g in method.parameter_groups() for p in g["params"]], lr=rate)
    loss.backward()
    method.before_step(progress)
    optimizer.step()
    method.after_step(progress)
    return loss


@pytest.mark.parametrize("views", [(2, 2), (2, 5), (1, 3), (3, 3)])
@pytest.mark.parametrize("shape", [(1, 4), (8, 16), (5, 300)])
@pytest.mark.parametrize("temperature", [0.04, 0.07])
def test_loss_gradient_and_center_equal_lightly(views, shape, temperature):
    reference = pytest.importorskip("lightly.loss").DINOLoss(output_dim=shape[1], teacher_temp=temperature)
    torch.manual_seed(0)
    center = torch.zeros(shape[1])
    for _ in range(3):  # three steps, so that the center is used and moved
        teacher, student = (torch.randn(count, *shape) * 0.3 for count in views)
        ours, theirs = student.clone().requires_grad_(), student.clone().requires_grad_()
        loss = dino_loss(ours, teacher, center, temperature)
        expected = reference(list(teacher), list(theirs))
        torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-5)
        gradients = torch.autograd.grad(loss, ours)[0], torch.autograd.grad(expected, theirs)[0]
        torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-5)
        center = 0.9 * center + 0.1 * teacher.mean(dim=(0, 1))
        torch.testing.assert_close(center, reference.center.view(-1), rtol=1e-5, atol=1e-5)


def test_loss_equals_a_naive_loop_and_leaves_out_the_same_view():
    torch.manual_seed(0)
    student, teacher, center = torch.randn(4, 3, 7), torch.randn(2, 3, 7), torch.randn(7)
    terms = []
    for g in range(2):
        for v in range(4):
            if g != v:
                target = F.softmax((teacher[g] - center) / 0.05, dim=-1)
                terms.append(-(target * F.log_softmax(student[v] / 0.1, dim=-1)).sum(-1).mean())
    torch.testing.assert_close(dino_loss(student, teacher, center, 0.05), torch.stack(terms).mean())


def test_loss_at_chance_is_log_of_the_prototypes():
    loss = dino_loss(torch.zeros(3, 4, 32), torch.randn(2, 4, 32), torch.zeros(32), 0.04)
    assert loss.item() == pytest.approx(math.log(32), rel=1e-5)


def test_loss_at_the_optimum_is_the_entropy_of_the_teacher():
    teacher = torch.randn(1, 4, 9).expand(2, 4, 9)
    entropy = torch.distributions.Categorical(logits=teacher[0] / 0.5).entropy().mean()
    loss = dino_loss(teacher * 0.2, teacher, torch.zeros(9), 0.5)  # both temperatures come out at 0.5
    torch.testing.assert_close(loss, entropy)


def test_no_gradient_reaches_the_teacher():
    teacher = torch.randn(2, 4, 9, requires_grad=True)
    student = torch.randn(3, 4, 9, requires_grad=True)
    dino_loss(student, teacher, torch.zeros(9), 0.04).backward()
    assert teacher.grad is None and student.grad.abs().sum() > 0


def test_the_teachers_temperature_has_its_closed_form(monkeypatch):
    used = []
    monkeypatch.setattr(dino, "dino_loss", lambda student, teacher, center, temperature: used.append(temperature))
    method = make_method(teacher_temperature=(0.04, 0.07))
    for progress in (0.0, 0.1, 0.3, 0.9):
        method.loss(make_batch(), progress)
    assert used == pytest.approx([0.04, 0.05, 0.07, 0.07])


def momentum(progress: float, start: float) -> float:
    """What is left of a teacher of ones beside a student of zeros, after a step."""
    method = make_method(momentum=start)
    for weights, value in ((method.teacher, 1.0), (method.student, 0.0)):
        for parameter in weights.parameters():
            nn.init.constant_(parameter, value)
    method.after_step(progress)
    return next(method.teacher.parameters()).flatten()[0].item()


def test_momentum_has_its_closed_form():
    assert [momentum(progress, 0.996) for progress in (0.0, 0.5, 1.0)] == pytest.approx([0.996, 0.998, 1])


def test_momentum_schedule_equals_lightly():
    reference = pytest.importorskip("lightly.utils.scheduler").cosine_schedule
    for i in range(11):
        assert momentum(i / 10, 0.9) == pytest.approx(reference(i, 11, 0.9, 1.0), abs=1e-6)


def test_head_equals_weight_norm_with_fixed_gain():
    torch.manual_seed(0)
    head = Head(5, 16, 12, 8)
    last = nn.utils.parametrizations.weight_norm(nn.Linear(8, 16, bias=False))
    last.parametrizations.weight.original0.data.fill_(1)
    last.parametrizations.weight.original1.data.copy_(head.prototypes.weight)
    features = torch.randn(2, 3, 5)
    logits = head(features)
    torch.testing.assert_close(logits, last(F.normalize(head.layers(features), dim=-1)))
    assert logits.abs().max() <= 1 + 1e-6  # cosines


def test_one_pass_per_view_size_and_order_is_kept():
    encoder = Encoder().eval()
    batch = make_batch(views=(6, 8, 6, 8, 4))
    features = encode_views(encoder, batch, batch["image"])
    assert sorted(encoder.passes) == [(8, 3, 4, 4), (16, 3, 6, 6), (16, 3, 8, 8)]
    expected = torch.stack([encoder({"image": view}) for view in batch["image"]])
    torch.testing.assert_close(features, expected)


def test_text_is_repeated_for_each_view():
    class Fused(nn.Module):
        def forward(self, batch):
            assert len(batch["id"]) == len(batch["image"])
            return batch["image"].mean(dim=(1, 2, 3)).unsqueeze(1) + 10 * batch["input_ids"]

    batch = make_batch(views=(8, 8, 6)) | {"input_ids": torch.arange(8).unsqueeze(1)}
    expected = torch.stack([view.mean(dim=(1, 2, 3)) + 10 * torch.arange(8) for view in batch["image"]]).unsqueeze(-1)
    torch.testing.assert_close(encode_views(Fused(), batch, batch["image"]), expected)


def test_teacher_is_a_true_copy():
    method = make_method()
    student, teacher = (list(part.parameters()) + list(part.buffers()) for part in (method.student, method.teacher))
    assert not {tensor.data_ptr() for tensor in student} & {tensor.data_ptr() for tensor in teacher}
    for a, b in zip(student, teacher, strict=True):
        assert torch.equal(a, b)


def test_loss_equals_its_parts_and_the_center_moves_after_it():
    method = make_method(teacher_temperature=(0.04, 0.08))
    for part in (method.student, method.teacher):
        part["encoder"].layers[3].p = 0.0
    batch = make_batch()
    for _ in range(2):
        center = method.center.clone()
        student = method.student["head"](encode_views(method.student["encoder"], batch, batch["image"]))
        teacher = method.teacher["head"](encode_views(method.teacher["encoder"], batch, batch["image"][:2]))
        torch.testing.assert_close(method.loss(batch, 0.15), dino_loss(student, teacher, center, 0.06))
        torch.testing.assert_close(method.center, 0.9 * center + 0.1 * teacher.mean(dim=(0, 1)))


def test_after_step_moves_the_teacher_by_its_closed_form():
    method = make_method(momentum=0.8)
    before = [p.clone() for p in method.teacher.parameters()]
    for p in method.student.parameters():
        nn.init.normal_(p)
    method.after_step(0.5)  # momentum 0.9
    for old, teacher, student in zip(before, method.teacher.parameters(), method.student.parameters(), strict=True):
        torch.testing.assert_close(teacher, 0.9 * old + 0.1 * student)


def test_teacher_gathers_its_own_batch_statistics():
    method = make_method()
    statistics = [part["encoder"].layers[1].running_mean for part in (method.student, method.teacher)]
    method.loss(make_batch(), 0.0)
    copies = [value.clone() for value in statistics]
    method.after_step(0.0)
    assert all(value.abs().sum() > 0 for value in statistics)
    assert torch.equal(statistics[1], copies[1]) and not torch.equal(*statistics)


def test_teacher_drops_nothing_out():
    method = make_method()
    assert method.student["encoder"].layers[3].training and not method.teacher["encoder"].layers[3].training
    assert method.teacher["encoder"].layers[1].training


def test_student_trains_and_teacher_only_follows():
    method = make_method()
    groups = method.parameter_groups()
    trained = {id(p) for g in groups for p in g["params"]}
    assert trained == {id(p) for p in method.student.parameters()}
    assert {id(p) for g in groups if g["encoder"] for p in g["params"]} == {
        id(p) for p in method.encoders()["student"].parameters()
    }
    before = {name: p.detach().clone() for name, p in method.named_parameters()}
    step(method, make_batch(), progress=0.5)
    assert not [name for name, p in method.named_parameters() if torch.equal(p, before[name])]
    assert all(p.grad is None for p in method.teacher.parameters())


def test_prototypes_stand_still_at_first():
    method = make_method(freeze=0.1)
    weight = method.student["head"].prototypes.weight
    before = weight.detach().clone()
    step(method, make_batch(), progress=0.05)
    assert weight.grad is None and torch.equal(weight, before)
    step(method, make_batch(), progress=0.1)
    assert not torch.equal(weight, before)


def test_gradients_are_clipped_per_parameter():
    method = make_method(clip=3.0)
    parameters = list(method.student.parameters())
    for i, p in enumerate(parameters):
        p.grad = torch.randn_like(p) * 10.0 ** (i % 3 - 1)
    before = [p.grad.clone() for p in parameters]
    method.before_step(0.5)
    norms = [g.norm() for g in before]
    assert min(norms) < 3 < max(norms)
    for p, old, norm in zip(parameters, before, norms, strict=True):
        torch.testing.assert_close(p.grad, old * min(1.0, 3.0 / norm), rtol=1e-5, atol=1e-6)


def test_steps_lower_the_loss_on_a_fixed_batch(monkeypatch):
    method = make_method(momentum=1.0)  # a teacher that stands still, so that the target does too
    method.student["encoder"].layers[3].p = 0.0
    monkeypatch.setattr(dino, "CENTER_MOMENTUM", 1.0)
    batch = make_batch()
    first = step(method, batch, 0.5, rate=1e-6)
    assert method.loss(batch, 0.5) < first


def test_monitor_names_entropy_and_its_chance():
    method = make_method()
    method.loss(make_batch(), 0.0)
    row = method.watch.read()
    assert row["loss_chance"] == pytest.approx(math.log(16))
    assert 0 < row["teacher_entropy"] <= math.log(row["prototypes_used"]) + 1e-5 <= math.log(16) + 1e-4
    assert {"spread_teacher", "effective_rank_teacher"} <= row.keys()
    assert method.watch.read() == {}


def test_input_that_does_not_fit_is_an_error_that_says_so():
    method = make_method()
    with pytest.raises(ValueError, match="DINO was given a batch of 7 examples"):
        method.loss(make_batch(7), 0.0)
    with pytest.raises(ValueError, match="at least 2 views of each example, not 1"):
        method.loss(make_batch(views=(8,)), 0.0)
    with pytest.raises(ValueError, match="at least 2 views of each example, not 1"):
        method.loss(make_batch() | {"image": torch.rand(8, 3, 8, 8)}, 0.0)
