"""The loop: schedules against closed forms, what a step does, which epoch is kept, and an exact resumption."""

import copy
import math
import os

import forks
import killed_run
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

from mmutils.batches import Batches
from mmutils.batches.augment import Augment, MultiCrop
from mmutils.data import emoji_topics, subset
from mmutils.methods import Method
from mmutils.methods.dino import DINO
from mmutils.methods.supervised import Supervised
from mmutils.models.classifier import Classifier
from mmutils.models.features import batch_inputs
from mmutils.models.fusion import fused_encoder
from mmutils.models.image import ImageEncoder
from mmutils.models.text import TextEncoder
from mmutils.training import checkpoint
from mmutils.training.checkpoint import place
from mmutils.training.loop import TrainConfig, fit, warmup_cosine


class Toy(Method):
    """Two classes told apart by the sign of the first feature; notes what the loop does."""

    def __init__(self, features=4):
        super().__init__()
        torch.manual_seed(0)
        self.encoder = nn.Sequential(nn.Linear(features, 16), nn.ReLU(), nn.Linear(16, 8))
        self.head = nn.Linear(8, 2)
        self.calls, self.types, self.scale = [], set(), 1.0

    def loss(self, batch, progress):
        features = self.encoder(batch["features"])
        self.calls.append(("loss", progress))
        self.types.add((self.encoder[0](batch["features"]).dtype, features.dtype))
        return self.scale * nn.functional.cross_entropy(self.head(features), batch["label"])

    def before_step(self, progress):
        assert all(parameter.grad is not None for parameter in self.parameters() if parameter.requires_grad)
        self.calls.append(("before", self.head.weight.detach().clone()))

    def after_step(self, progress):
        self.calls.append(("after", self.head.weight.detach().clone()))
        self.watch.add(calls=len(self.calls))

    def encoders(self):
        return {"encoder": self.encoder}

    def freeze(self):
        self.encoder[0].requires_grad_(False)
        return self


def batches(count=24, batch_size=10, **options):
    features = torch.randn(count, 4, generator=torch.Generator().manual_seed(0))
    examples = pd.DataFrame({"id": [str(row) for row in range(count)], "label": (features[:, 0] > 0).long().numpy()})
    return Batches(examples, batch_size, extra={"features": features}, shuffle=True, **options)


def test_learning_rate_equals_its_closed_form():
    assert warmup_cosine(0.0, 2.0, warmup=0.1) == 0
    assert warmup_cosine(0.05, 2.0, warmup=0.1) == pytest.approx(1)
    assert warmup_cosine(0.1, 2.0, warmup=0.1) == pytest.approx(2)
    assert warmup_cosine(0.55, 2.0, warmup=0.1) == pytest.approx(1)
    assert warmup_cosine(1.0, 2.0, warmup=0.1) == pytest.approx(0)
    scheduler_steps = [2 * (1 + math.cos(math.pi * step / 20)) / 2 for step in range(20)]  # CosineAnnealingLR's formula
    assert [warmup_cosine(step / 20, 2.0, 0.0) for step in range(20)] == pytest.approx(scheduler_steps)


def test_fit_equals_a_loop_written_out():
    """Same weights as AdamW with the schedules, groups and clipping done by hand, on unequal batches."""
    rates = {"learning_rate": 0.01, "encoder_learning_rate": 0.002, "weight_decay": 0.1, "warmup": 0.2}
    config = TrainConfig(3, **rates, clip=0.1, precision="no")
    method, data = Toy(), batches()
    history = fit(method, data, config)
    other = Toy()
    weights, biases = ([p for p in other.parameters() if (p.ndim > 1) == matrix] for matrix in (True, False))
    optimizer = torch.optim.AdamW([{"params": [parameter]} for parameter in weights + biases])
    for epoch in range(3):
        total = 0
        for step, batch in enumerate(data.epoch(epoch)):
            progress = (3 * epoch + step) / 9
            for group in optimizer.param_groups:
                inside = any(group["params"][0] is parameter for parameter in other.encoder.parameters())
                group["lr"] = warmup_cosine(progress, 0.002 if inside else 0.01, 0.2)
                group["weight_decay"] = 0.1 if group["params"][0].ndim > 1 else 0
            optimizer.zero_grad()
            loss = other.loss(batch, progress)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(other.parameters(), 0.1)
            optimizer.step()
            total += loss.item() * len(batch["id"])
        assert history[epoch]["loss"] == pytest.approx(total / 24, abs=1e-6)  # over examples, not over batches
    for ours, expected in zip(method.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(ours, expected)
    assert [row["epoch"] for row in history] == [1, 2, 3] and history[-1]["progress"] == 1
    assert history[-1]["learning_rate"] == warmup_cosine(8 / 9, 0.01, 0.2)
    assert all(row["seconds"] > 0 for row in history)


def test_order_of_a_step_and_what_is_watched():
    method = Toy()
    history = fit(method, batches(), TrainConfig(2, warmup=0.0))
    assert [name for name, _ in method.calls] == ["loss", "before", "after"] * 6
    assert [value for name, value in method.calls if name == "loss"] == pytest.approx([step / 6 for step in range(6)])
    (_, before), (_, after) = method.calls[1:3]
    assert not torch.equal(before, after)
    assert [row["calls"] for row in history] == [6, 15]  # means over the three steps


def test_training_learns():
    history = fit(Toy(), batches(), TrainConfig(40, 0.02))
    assert history[0]["loss"] > 0.6 and history[-1]["loss"] < 0.1


def test_best_epoch_is_restored_first_of_ties():
    scores, kept, modes = [0.1, 0.7, float("nan"), 0.7, 0.2], [], []

    def evaluate(method):
        kept.append({name: value.clone() for name, value in method.state_dict().items()})
        modes.append(method.training)
        return {"f1": scores[len(kept) - 1]}

    method = Toy()
    history = fit(method, batches(), TrainConfig(5), evaluate=evaluate, select="f1")
    assert [row["f1"] for row in history] == pytest.approx(scores, nan_ok=True)
    assert all(torch.equal(value, kept[1][name]) for name, value in method.state_dict().items())
    assert not torch.equal(kept[1]["head.weight"], kept[3]["head.weight"])
    assert modes == [False] * 5 and not method.training
    with pytest.raises(ValueError, match=r"f1 is not defined in epoch 1"):
        fit(Toy(), batches(), TrainConfig(1), evaluate=lambda method: {"f1": float("nan")}, select="f1")
    with pytest.raises(ValueError, match=r"select='auroc' is no score of an epoch.*'f1'"):
        kept.clear()
        fit(Toy(), batches(), TrainConfig(1), evaluate=evaluate, select="auroc")


def test_bfloat16_in_encoders_only():
    method = Toy()
    history = fit(method, batches(), TrainConfig(40, 0.02, precision="bf16"))
    assert method.types == {(torch.float32, torch.float32)}  # a call beside the encoder is not touched, nor are results
    assert history[-1]["loss"] < 0.1 and all(math.isfinite(row["loss"]) for row in history)
    exact = fit(Toy(), batches(), TrainConfig(40, 0.02, precision="no"))
    assert {row["precision"] for row in history} == {"bf16"} and {row["precision"] for row in exact} == {"no"}
    assert history[0]["loss"] != exact[0]["loss"] and history[0]["loss"] == pytest.approx(exact[0]["loss"], rel=0.02)
    assert "forward" not in vars(method.encoder)


def test_a_loss_that_is_not_finite_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "INTERVAL", 0)

    class Breaks(Toy):
        def loss(self, batch, progress):
            self.scale = float("inf") if progress >= 0.5 and len(self.calls) % 9 == 3 else 1.0  # epoch 2, step 2
            return super().loss(batch, progress)

    with pytest.raises(FloatingPointError, match="inf in epoch 2, step 2"):
        fit(Breaks(), batches(), TrainConfig(2), checkpoint=tmp_path)
    assert len(torch.load(tmp_path / "checkpoint.pt", weights_only=True)["history"]) == 1  # the last good epoch


def test_a_weight_that_the_last_step_breaks_is_named():
    """The loss was finite, so only the weights tell."""

    class Breaks(Toy):
        def after_step(self, progress):
            super().after_step(progress)
            self.head.weight.data.fill_(float("nan"))

    with pytest.raises(FloatingPointError, match="weights are not finite after epoch 1"):
        fit(Breaks(), batches(batch_size=24), TrainConfig(1))


@pytest.mark.parametrize(("interval", "epochs"), [(0, [1, 2, 3]), (3600, [])])
def test_a_checkpoint_is_written_once_in_an_interval_and_at_the_end(interval, epochs, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "INTERVAL", interval)
    written = []

    def after_epoch(_):
        file = tmp_path / checkpoint.NAME
        written.extend([len(checkpoint.read(file)["history"])] if file.exists() else [])
        return {}

    fit(Toy(), batches(), TrainConfig(4), evaluate=after_epoch, checkpoint=tmp_path)
    assert written == epochs and len(checkpoint.read(tmp_path / checkpoint.NAME)["history"]) == 4


def test_checkpoint_of_a_finished_run_returns_at_once(tmp_path):
    method = Toy()
    history = fit(method, batches(), TrainConfig(2), checkpoint=tmp_path)
    again = Toy()
    assert fit(again, batches(), TrainConfig(2), checkpoint=tmp_path) == history
    assert not again.calls and torch.equal(again.head.weight, method.head.weight)


def pictures(tmp_path, colour="red", size=8, augment=None) -> Batches:
    Image.new("RGB", (9, 9), colour).save(tmp_path / "a.png")
    rows = pd.DataFrame({"id": list("abcd"), "image": str(tmp_path / "a.png"), "label": [0, 1, 0, 1]})
    return Batches(rows, 2, image_size=size, augment=augment, extra={"features": torch.eye(4)})


def changed(method, name, value):
    setattr(method, name, value)
    return method


OTHERS = {  # what differs -> (its name in the message, what fit is called with, from the folder of the test)
    "learning rate": ("learning_rate", lambda _: {"config": TrainConfig(1, 0.1)}),
    "seed of the batches": ("batches", lambda f: {"batches": changed(pictures(f), "seed", 1)}),
    "a feature": ("features", lambda f: {"batches": changed(pictures(f), "extra", {"features": 2 * torch.eye(4)})}),
    "pixels": ("pictures", lambda f: {"batches": pictures(f, "blue")}),
    "size": ("pictures", lambda f: {"batches": pictures(f, size=16)}),
    "views": ("views", lambda f: {"batches": pictures(f, augment=Augment(8, flip=False))}),
    "a label": ("examples", lambda f: {"batches": relabelled(pictures(f))}),
    "initial weights": ("initial weights", lambda _: {"method": changed(Toy(), "head", nn.Linear(8, 2))}),
    "a frozen part": ("trainable weights", lambda _: {"method": changed(Toy(), "scale", 1.0).freeze()}),
    "a setting of the network": ("network", lambda _: {"method": changed(Toy(), "scale", 0.5)}),
    "what chooses the epoch": ("val split", lambda f: {"evaluated_on": {"val": relabelled(pictures(f))}}),
}


def relabelled(rows: Batches) -> Batches:
    rows.examples.loc[0, "label"] = 1
    return rows


@pytest.mark.parametrize("name, call", OTHERS.values(), ids=OTHERS)
def test_checkpoint_of_anything_else_is_refused(name, call, tmp_path):
    """Whatever the result depends on: else old weights would be recorded under new settings."""

    def call_fit(**changes):
        usual = {"method": Toy(), "batches": pictures(tmp_path), "config": TrainConfig(1)}
        usual |= {"evaluated_on": {"val": pictures(tmp_path)}, **changes}
        return fit(**usual, checkpoint=tmp_path / "c")

    call_fit()
    with pytest.raises(ValueError, match=rf"another run, which differs in [^(]*{name}.*delete this folder"):
        call_fit(**call(tmp_path))
    call_fit()  # the same again is not refused


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_a_killed_run_ends_with_the_same_bits(tmp_path):
    assert forks.ended(forks.started(killed_run.main, tmp_path)) == [0], "python tests/killed_run.py FOLDER says why"


@pytest.mark.parametrize("wrong", [{"epochs": 0}, {"warmup": 1.0}, {"precision": "fp16"}, {"clip": 0.0}, {"seed": -1}])
def test_wrong_config_is_refused(wrong):
    with pytest.raises(ValueError, match=r"given|precision"):
        TrainConfig(**{"epochs": 1, **wrong})


def test_nothing_to_train_is_refused():
    with pytest.raises(ValueError, match="nothing to train"):
        fit(Toy().requires_grad_(False), batches(), TrainConfig(1))


@pytest.mark.parametrize("kind", ["teacher", "last layers", "frozen side"])
def test_what_changes_without_a_gradient_is_in_the_checkpoint_and_what_rests_is_not(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "INTERVAL", 0)
    rows = subset(emoji_topics.examples(None, "val"), 16)
    encoder = {"image": ImageEncoder("resnet10t", size=32), "text": TextEncoder.small(rows["text"], width=32, layers=2)}

    def build():
        torch.manual_seed(0)
        image, text = (copy.deepcopy(part) for part in encoder.values())
        if kind == "teacher":
            return DINO(image, 16, hidden=8)
        sides = [image.freeze(), text] if kind == "frozen side" else [image.train_last(1), text.train_last(1)]
        return Supervised(Classifier(fused_encoder(sides, "gated"), 7))

    def train(folder, stop=False):
        method, inputs = build(), batch_inputs(*encoder.values())
        views = {"augment": MultiCrop.dino(32, 32, 0)} if kind == "teacher" else {}
        inputs = {"image_size": 32} if kind == "teacher" else inputs

        def after_epoch(_):
            if stop and (folder / "checkpoint.pt").exists():
                raise KeyboardInterrupt
            return {}

        batches = Batches(rows, 8, shuffle=True, **inputs, **views)
        fit(method, batches, TrainConfig(3, learning_rate=1e-2), evaluate=after_epoch, checkpoint=folder)
        return method.state_dict()

    whole = train(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "part", stop=True)
    resumed = train(tmp_path / "part")
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())
    saved = torch.load(tmp_path / "whole" / "checkpoint.pt", weights_only=True)["method"]
    start = build().state_dict()
    assert all(torch.equal(whole[name], start[name]) for name in whole.keys() - saved.keys())
    assert (saved.keys() == whole.keys()) == (kind == "teacher")


def test_a_damaged_checkpoint_is_named_with_what_to_do(tmp_path):
    method = Toy()
    fit(method, batches(), TrainConfig(1), checkpoint=tmp_path)
    file = tmp_path / "checkpoint.pt"
    content = bytearray(file.read_bytes())
    content[content.index(method.head.weight.detach().numpy().tobytes())] ^= 1
    for damaged in (content, content[:-300], b""):
        file.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"checkpoint\.pt is damaged .* delete the folder .* begins anew"):
            fit(Toy(), batches(), TrainConfig(1), checkpoint=tmp_path)


def test_settings_of_accelerate_change_nothing(monkeypatch):
    """Gradient accumulation would divide gradients, fp16 would scale a loss that nothing unscales."""
    usual, other = Toy(), Toy()
    fit(usual, batches(), TrainConfig(2, precision="no"))
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp16")
    fit(other, batches(), TrainConfig(2, precision="no"))
    assert all(map(torch.equal, usual.parameters(), other.parameters()))


def test_each_system_and_seed_has_a_checkpoint_of_its_own(tmp_path):
    names = ("a b", "a-b", "a/b", "../a", "a" * 300, "ä", "…")
    places = {place(tmp_path, name, seed) for name in names for seed in (0, 1)}
    assert len(places) == 2 * len(names) and all(path.parent == tmp_path and len(path.name) < 100 for path in places)
    assert place(None, "a", 0) is None


def test_a_batch_norm_that_would_see_one_example_is_refused_before_the_first_step():
    class Normed(Toy):
        def __init__(self):
            super().__init__()
            self.encoder.append(nn.BatchNorm1d(8))

    with pytest.raises(ValueError, match=r"24 examples in batches of 1: a batch norm needs at least 2"):
        fit(Normed(), batches(batch_size=1), TrainConfig(1))
    fit(Normed(), batches(count=25, batch_size=8), TrainConfig(1))  # a rest of one joins the batch before it
