"""Pretraining without labels, its judgement by probes, and encoders on disk: on tiny networks and few emoji."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch import nn

from mmutils.batches import Batches
from mmutils.data import SPLITS, emoji_topics, subset
from mmutils.evaluation import probes
from mmutils.evaluation.predictions import predictions_table
from mmutils.evaluation.probes import knn
from mmutils.methods.cass import CASS
from mmutils.methods.supervised import Supervised
from mmutils.models import saving
from mmutils.models.classifier import Classifier
from mmutils.models.encoder import Encoded, Encoder
from mmutils.models.features import batch_inputs, embeddings, features, frozen_features, untrained
from mmutils.models.fusion import Compare, Concatenation, FusedEncoder, Gated, fused_encoder
from mmutils.models.image import ImageEncoder
from mmutils.models.text import TextEncoder
from mmutils.statistics.scores import scores
from mmutils.training import finetuning as finetune
from mmutils.training import pretraining as pretrain
from mmutils.training.loop import TrainConfig, fit
from mmutils.training.starts import Start, load_starts


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("MMUTILS_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture
def labelled() -> dict[str, Batches]:
    tables = {split: subset(emoji_topics.examples(None, split), 21) for split in SPLITS}
    return {split: Batches(table, 8, image_size=32) for split, table in tables.items()}


def image(size: int = 32) -> ImageEncoder:
    return ImageEncoder("test_resnet", size=size)


def study(seeds: list[int], epochs: int = 1, **options) -> pretrain.Pretraining:
    return pretrain.Pretraining("M", 7, TrainConfig(epochs), seeds, **options)


class Constant(Encoder):
    """Says the same about every picture, but for rounding: what a collapsed network does."""

    def __init__(self):
        super().__init__()
        self.dim, self.weight = 8, nn.Parameter(torch.ones(8))

    def encode(self, batch: dict) -> Encoded:
        noise = batch["image"].mean(dim=(1, 2, 3)).unsqueeze(1) * torch.linspace(0, 1e-4, 8)
        return Encoded(self.weight + noise)


def test_no_label_and_nothing_of_val_or_test_is_in_the_pretraining() -> None:
    table = pretrain.unlabelled("emoji_topics", languages=("en", "hi"))
    assert set(table["label"]) == {-1}
    assert table["id"].is_unique
    for split in ("val", "test"):
        held = emoji_topics.examples(None, split)
        assert not set(table["group"]) & set(held["group"])
        assert not set(table["image"]) & set(held["image"])
    train = emoji_topics.examples(None, "train")
    assert set(train["image"]) < set(table["image"])  # more than train: the pool
    assert (table["image"].value_counts() == 2).all()  # once per language
    assert len(pretrain.unlabelled("emoji_memes", limit=9)) == 9
    pairs, names = (pretrain.unlabelled(name).set_index("image")["text"] for name in ("emoji_memes", "emoji_topics"))
    assert (pairs == names.loc[pairs.index]).all()  # the names are the pictures' own


def test_untrained_has_the_weights_and_the_statistics_of_the_pictures(labelled) -> None:
    encoder = image()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    start = untrained(encoder, labelled["train"])
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items()), "the original changed"
    assert all(torch.equal(value, before[name]) for name, value in start.named_parameters())
    norm = next(module for module in start.modules() if isinstance(module, nn.BatchNorm2d))
    seen = []
    handle = norm.register_forward_pre_hook(lambda _, given: seen.append(given[0].mean(dim=(0, 2, 3))))
    features_of = [start(batch) for batch in labelled["train"].epoch()]
    handle.remove()
    assert not start.training and len(features_of) == len(seen)
    assert torch.allclose(norm.running_mean, torch.stack(seen).mean(0), atol=1e-5)  # the mean over the batches


def test_nearest_is_knn_on_val(labelled) -> None:
    encoder = image().eval()
    train, val = (features(encoder, labelled[split])["features"] for split in ("train", "val"))
    votes = knn(train, labelled["train"].labels, val, 7)
    expected = scores(predictions_table(labelled["val"].examples, votes))["auroc"]
    assert probes.knn_on_val({"a": encoder}, labelled) == {
        "knn_a": pytest.approx(expected),
        "knn": pytest.approx(expected),
    }


def test_repeat_judges_before_and_after_and_names_what_collapsed(labelled) -> None:
    pictures = Batches(pretrain.unlabelled("emoji_topics", limit=16), 8, image_size=32, shuffle=True)

    def build() -> CASS:
        return CASS(image(), Constant(), dim=8, cure="none")

    branches = {"net": "cnn", "constant": "vit"}
    found = study([3, 4])
    found.train("CASS", build, branches, pictures, labelled)
    assert list(found.encoders) == ["random, net", "random, constant", "CASS, net", "CASS, constant"]
    probes = ("neighbours", "linear probe")
    assert set(found.predictions["system"]) == {f"{name}: {probe}" for name in found.encoders for probe in probes}
    assert {(entry["system"], entry["seed"]) for entry in found.failed} == {
        (f"{kind}, constant: {probe}", seed) for kind in ("random", "CASS") for seed in (3, 4) for probe in probes
    }
    assert len(found.probes) == 4 * 2 * 2 * 2  # encoders, seeds, probes, splits
    assert len(found.predictions) == 4 * 2 * 2 * (21 + 21)
    assert [row["seed"] for row in found.history] == [3, 4]
    assert np.allclose(found.predictions.filter(like="p_").sum(axis=1), 1, atol=1e-5)
    found.train("CASS again", build, branches, pictures, labelled)  # the networks before training are probed once
    assert list(found.encoders)[4:] == ["CASS again, net", "CASS again, constant"]
    first, second = (found.predictions.query(f"system == '{name}, net: neighbours'") for name in ("CASS", "CASS again"))
    columns = ["id", "seed", "split", "p_0", "p_6"]
    assert first[columns].to_numpy().tolist() == second[columns].to_numpy().tolist()


def test_labels_choose_no_epoch_unless_asked_and_the_record_says_so(labelled, monkeypatch) -> None:
    """Scores that fall: the best epoch is the first, the last one is kept."""
    pictures, falling = Batches(pretrain.unlabelled("emoji_topics", limit=16), 8, image_size=32, shuffle=True), []

    def judge(encoders, batches):
        falling.append({name: value.clone() for name, value in encoders["net"].state_dict().items()})
        return {"knn": 1 / (1 + len(falling))}

    monkeypatch.setattr(pretrain, "knn_on_val", judge)
    build = lambda: CASS(image(), Constant(), dim=8, cure="none")  # noqa: E731
    for keep, epoch, said in (("last", 1, "last epoch"), ("knn", 0, "best epoch by kNN on val with all labels")):
        falling.clear()
        form = study([0], epochs=2, keep=keep)
        weights = form.train("CASS", build, {"net": "cnn"}, pictures, labelled).encoders()["cnn"].state_dict()
        assert all(torch.equal(weights[name], value) for name, value in falling[epoch].items())
        assert {row["kept"] for row in form.describe()} == {None, said}
    with pytest.raises(ValueError, match="keep='best': give one of last, knn"):
        study([0], keep="best")


def test_what_cannot_be_judged_is_refused_before_the_first_step(labelled) -> None:
    labelled["test"].examples = labelled["test"].examples.assign(label=-1)
    with pytest.raises(ValueError, match="21 of 21 examples of test have no label"):
        study([0]).train("CASS", pytest.fail, {}, labelled["train"], labelled)


def test_few_labels_mean_few_of_val_too() -> None:
    tables = {split: emoji_topics.examples(None, split) for split in SPLITS}
    extras = {split: {"x": torch.arange(len(table)).float()} for split, table in tables.items()}
    start = Start([], [], extras, {}, {})
    parts = finetune.finetuning_batches(tables, start, 0.1, 0, 32)
    assert len(parts["train"].ids) == pytest.approx(0.1 * len(tables["train"]), abs=4)
    assert len(parts["selection"].ids) == pytest.approx(0.1 * len(tables["val"]), abs=4)
    assert len(parts["val"].ids) == len(tables["val"])  # what the record holds is all of val
    rows = parts["selection"]
    assert [tables["val"]["id"][int(row)] for row in rows.extra["x"]] == rows.ids
    assert set(rows.labels.tolist()) == set(range(7))


@pytest.mark.parametrize(
    "starts, baselines, fusion, problem",
    [
        ({"a": "dino:x"}, {}, "gated", "'a' is 'dino:x'"),
        ({"a": ["x"]}, {"a": "b"}, "gated", "baselines: 'a': 'b'"),
        ({"a": ["x"]}, {}, "gatd", "no fusion 'gatd'"),
    ],
)
def test_wrong_starts_are_refused_at_once(starts, baselines, fusion, problem) -> None:
    with pytest.raises(ValueError, match=problem):
        load_starts(starts, baselines, {}, "", [0], fusion)


def test_batches_are_made_where_the_model_is() -> None:
    """The device "meta" stands for a GPU: it holds weights and batches, and computes nothing."""
    module, seen = nn.Linear(4, 2, device="meta"), []
    batches = Batches(pd.DataFrame({"id": list("abcd"), "label": 0}), 2, extra={"x": torch.zeros(4, 4)})
    handle = module.register_forward_pre_hook(lambda _, given: seen.append(given[0]["x"].device.type))
    module.forward = lambda batch: torch.ones(len(batch["id"]), 2)
    assert embeddings(module, batches).shape == (4, 2)
    handle.remove()
    assert seen == ["meta", "meta"] and batches.device.type == "cpu"


def test_the_described_system_that_is_chosen_is_the_best_on_val_of_those_trained() -> None:
    values = {"random, a": (0.9, 0.9), "M, a": (0.5, 0.1), "M, b": (0.6, 0.0)}  # val, test
    rows = [
        {"encoder": name, "probe": probe, "split": split, "auroc": value - 0.1 * (probe == "knn")}
        for name, pair in values.items()
        for probe in ("knn", "linear")
        for split, value in zip(("val", "test"), pair, strict=True)
    ]
    found = study([0])
    found.probes = rows
    found.encoders = {name: {"weights": "hub" if name == "M, b" else "random"} for name in [*values, "M, diverged"]}
    systems = found.describe(inputs="image")
    assert [s["system"] for s in systems if s["chosen"]] == ["M, b: linear probe"]
    assert len(systems) == 8 and {s["method"] for s in systems} == {"random", "M"}
    assert {s["weights"] for s in systems if s["encoder"] == "M, b"} == {"hub"}


def test_a_training_that_diverges_fails_alone(labelled) -> None:
    """A loss that is not finite costs the seed's own systems, not the run nor the network before training."""

    class Diverging(CASS):
        def loss(self, batch: dict, progress: float) -> torch.Tensor:
            return super().loss(batch, progress) * torch.nan

    pictures = Batches(pretrain.unlabelled("emoji_topics", limit=16), 8, image_size=32, shuffle=True)
    build = lambda: Diverging(image(), image(), dim=8)  # noqa: E731
    found = study([0])
    found.train("CASS", build, {"net": "cnn"}, pictures, labelled)
    assert {f["system"] for f in found.failed} == {"CASS, net: neighbours", "CASS, net: linear probe"}
    assert "nan" in found.failed[0]["reason"]
    assert set(found.predictions["system"]) == {"random, net: neighbours", "random, net: linear probe"}


@pytest.mark.parametrize("join", [Concatenation, Compare, Gated, None])
def test_an_encoder_comes_back_from_disk(join, tmp_path) -> None:
    table = subset(emoji_topics.examples(None, "val", language="hi"), 7)
    text = TextEncoder.small(table["text"], width=32, layers=1)
    options = {"hidden": (16,)} if join is Concatenation else {"dim": 16, "dropout": 0.1}
    encoder = FusedEncoder(image(), text, join(image().dim, text.dim, **options)) if join else text
    encoder.eval()
    saving.save_encoders({"cnn": encoder, "cnn.start": encoder}, tmp_path / "run")
    given = batch_inputs(encoder)
    back = saving.initial_encoder("run:cnn", tmp_path)
    expected = features(encoder, Batches(table, 7, **given))["features"]
    assert torch.equal(features(back, Batches(table, 7, **batch_inputs(back)))["features"], expected)
    start = saving.initial_encoder("start:run:cnn", tmp_path)
    assert torch.equal(features(start, Batches(table, 7, **given))["features"], expected)
    assert (back.source, start.source) == ("run/cnn", "random")
    names = saving.network_names(back)
    assert names == saving.network_names(start) and names[-1] == "run/cnn-text", "no path of this machine in records"
    if join:
        assert back.fusion.options == encoder.fusion.options, "a fusion is what it was, dropout too"
    with pytest.raises(FileNotFoundError, match="run the notebook that makes other first"):
        saving.initial_encoder("other:cnn", tmp_path)
    with pytest.raises(ValueError, match="run:name"):
        saving.initial_encoder("rndom:run:cnn", tmp_path)


def test_each_seed_starts_from_its_own_pretraining_or_from_what_that_began_with(labelled, tmp_path) -> None:
    pictures = Batches(pretrain.unlabelled("emoji_topics", limit=16), 8, image_size=32, shuffle=True)
    form = study([0, 1])
    before, build = {}, lambda: CASS(image(), image(), dim=8)
    for seed in (0, 1):
        torch.manual_seed(seed)
        before[seed] = build().encoders()["cnn"].state_dict()
    form.train("CASS", build, {"net": "cnn"}, pictures, labelled)
    names = [f"{name}-{seed}{end}" for name in ("cnn", "vit") for seed in (0, 1) for end in ("", ".start")]
    assert set(form.saved) == set(names)
    saving.save_encoders(form.saved, tmp_path / "cass")
    tables = {split: batches.examples for split, batches in labelled.items()}
    starts = {"pretrained": ["cass:cnn-{seed}"], "untrained": ["start:cass:cnn-{seed}"]}
    loaded = load_starts(starts, {"pretrained": "untrained"}, tables, tmp_path, [0, 1], "gated")
    for seed in (0, 1):
        trained, start = (loaded[name][seed] for name in starts)
        weights = start.encoders[0].state_dict()
        learned = [name for name, parameter in start.encoders[0].named_parameters()]
        assert all(torch.equal(weights[name], before[seed][name]) for name in learned)
        assert any(value.any() for name, value in weights.items() if name.endswith("running_mean"))
        now, then = trained.features["test"]["cass:cnn-{seed}"], start.features["test"]["start:cass:cnn-{seed}"]
        assert not torch.allclose(now, then)
    about = loaded["untrained"][0].description
    assert (about["model"], about["weights"], about["pretrainings"]) == ("start:cass:cnn", "random", 2)
    assert loaded["pretrained"][1].description["weights"] == "cass/cnn"


@pytest.mark.parametrize("kind", ["image", "text", "both"])
def test_only_the_last_layers_learn(kind) -> None:
    """Weights and batch norms below stay to the bit; features in training mode come from resting lower layers."""
    table = subset(emoji_topics.examples(None, "val"), 8)
    text = TextEncoder.small(table["text"], width=32, layers=3)
    encoder = {"image": image, "text": lambda: text, "both": lambda: fused_encoder([image(), text], "gated")}[kind]()
    encoder.train_last(1)
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    method = Supervised(Classifier(encoder, 7))
    fit(method, Batches(table, 8, **batch_inputs(encoder)), TrainConfig(2, learning_rate=0.1))
    changed = {name for name, value in encoder.state_dict().items() if not torch.equal(value, before[name])}
    below = encoder.below(1)
    assert below and not changed & set(below)
    learning = {name for name, _ in encoder.named_parameters()} - set(below)
    assert {name for name, parameter in encoder.named_parameters() if parameter.requires_grad} == learning
    assert len(changed & learning) > 3
    stats = {name for name in changed if "running" in name or "num_batches" in name}
    assert all(name.rpartition(".")[0] + ".weight" in learning for name in stats), "a batch norm below has moved"
    with pytest.raises(ValueError, match="layers: let its last 1 to"):
        encoder.train_last(99)


def test_class_weights_are_scikit_learns() -> None:
    labels = [0] * 6 + [1] * 3 + [3]
    table = pd.DataFrame({"id": map(str, range(10)), "label": labels})
    weights = finetune.class_weights(Batches(table, 4), 4)
    expected = compute_class_weight("balanced", classes=np.unique(labels), y=labels) * 3 / 4  # K is 4, one is empty
    assert weights[[0, 1, 3]].tolist() == pytest.approx(expected.tolist())
    logits = {"id": table["id"].tolist(), "label": torch.tensor(labels)}
    method = Supervised(lambda batch: torch.zeros(10, 4), weights)
    assert method.loss(logits, 0.0).item() == pytest.approx(np.log(4))


def test_frozen_features_are_those_of_every_row() -> None:
    table = subset(emoji_topics.examples(None, "val"), 6)
    table = pd.concat([table, table.iloc[::-1]], ignore_index=True)  # every picture and text twice, in another order
    text = TextEncoder.small(table["text"], width=32, layers=1)
    fused = FusedEncoder(image(), text, Compare(image().dim, text.dim))
    for encoder in (image(), text, fused):
        expected = features(encoder.eval(), Batches(table, 64, **batch_inputs(encoder)))["features"]
        assert torch.allclose(frozen_features(encoder, table), expected, atol=1e-5)


def test_whole_fuses_copies() -> None:
    encoder, text = image(), TextEncoder.small(["a b"], width=32, layers=1)
    fused = fused_encoder([encoder, text], "gated")
    assert isinstance(fused.fusion, Gated)
    assert next(fused.image.parameters()).data_ptr() != next(encoder.parameters()).data_ptr()
    with pytest.raises(ValueError, match="values to unpack"):
        fused_encoder([encoder] * 3, "gated")


def test_a_share_of_the_labels_keeps_the_classes_and_differs_by_seed() -> None:
    table = pd.DataFrame({"id": [str(i) for i in range(300)], "label": [0] * 200 + [1] * 99 + [2]})
    drawn = finetune.share_of_labels(table, 0.1, 0)
    assert drawn["label"].value_counts().to_dict() == {0: 20, 1: 10, 2: 1}
    assert drawn.index.is_monotonic_increasing and (table.loc[drawn.index, "id"] == drawn["id"]).all()
    assert drawn.equals(finetune.share_of_labels(table, 0.1, 0))
    assert not drawn.index.equals(finetune.share_of_labels(table, 0.1, 1).index)
    assert len(finetune.share_of_labels(table, 1.0, 5)) == 300
    with pytest.raises(ValueError, match="share=0"):
        finetune.share_of_labels(table, 0, 0)
    table = table.assign(group=table["id"])
    start = Start([], [], {split: {"part0": torch.arange(300)} for split in SPLITS}, {}, {})
    made = finetune.finetuning_batches(dict.fromkeys(SPLITS, table), start, 0.1, 3, 128)
    ids = [
        (int(id), int(part))
        for batch in made["train"].epoch()
        for id, part in zip(batch["id"], batch["part0"], strict=True)
    ]
    assert len(ids) == 31 and all(id == part for id, part in ids), "features of other rows"
    assert (made["train"].batch_size, len(made["val"].examples)) == (16, 300)


def test_the_submission_is_the_mean_over_seeds(tmp_path) -> None:
    rows = pd.DataFrame({"id": ["7", "8", "7", "8"], "seed": [0, 0, 1, 1], "p_1": [0.2, 0.9, 0.4, 0.3]})
    rows["p_0"] = 1 - rows["p_1"]
    finetune.submission(rows, tmp_path / "submission.csv")
    assert (tmp_path / "submission.csv").read_text().splitlines() == ["id,proba,label", "7,0.300000,0", "8,0.600000,1"]
    three = rows.assign(p_2=0.8 - rows["p_1"], p_0=0.2)[["id", "seed", "p_0", "p_1", "p_2"]]
    answers = finetune.submission(three, tmp_path / "submission.csv")
    assert set(answers) == {"id", "p_0", "p_1", "p_2", "label"}
    assert answers["label"].tolist() == [2, 1]
