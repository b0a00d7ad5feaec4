"""Scores against scikit-learn and closed forms, kNN against a naive loop, retrieval against counting by hand."""

import math
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import classification_report, roc_auc_score
from torch import nn

from mmutils.evaluation import probes
from mmutils.evaluation.predictions import predict, predictions_table
from mmutils.evaluation.probes import knn, linear_probe
from mmutils.evaluation.retrieval import retrieval
from mmutils.statistics.scores import scores


def examples(labels):
    ids = [f"e{i}" for i in range(len(labels))]
    return pd.DataFrame({"id": ids, "group": ids, "image": None, "text": "", "label": labels})


class Rows:
    """The least that `predict` asks of batches."""

    def __init__(self, inputs, labels, size=4, order=None, **options):
        self.examples, self.inputs, self.size = examples(labels), inputs, size
        self.order = list(range(len(labels))) if order is None else order
        self.shuffle = self.augment = self.drop_last = None
        self.__dict__.update(options)

    def on(self, module):
        return nullcontext()

    def __len__(self):
        return math.ceil(len(self.order) / self.size)

    def longest_first(self):
        for rows in torch.arange(len(self.order)).flip(0).split(self.size):
            real = torch.tensor(self.order)[rows]
            yield rows, {"x": self.inputs[real], "id": self.examples["id"].iloc[real].tolist()}


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3))

    def forward(self, batch):
        return self.layers(batch["x"])


def test_predict_twice_is_bit_equal_and_leaves_the_classifier_as_it_was():
    torch.manual_seed(0)
    network, rows = Network(), Rows(torch.randn(10, 5), [0, 1, 2, 0, 1, 2, 0, 1, 2, 0])
    network.layers[1].eval()  # a frozen part inside a module in training mode must stay frozen
    state = {name: value.clone() for name, value in network.state_dict().items()}
    first, second = predict(network, rows), predict(network, rows)
    pd.testing.assert_frame_equal(first, second, check_exact=True)
    assert [network.training, network.layers[1].training, network.layers[2].training] == [True, False, True]
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    expected = network.eval()({"x": rows.inputs}).softmax(dim=1).detach().numpy()
    np.testing.assert_allclose(first[["p_0", "p_1", "p_2"]], expected, atol=1e-6)
    assert (first.dtypes[["p_0", "p_1", "p_2"]] == np.float32).all()
    assert first["id"].tolist() == rows.examples["id"].tolist()


@pytest.mark.parametrize("options", [{"shuffle": True}, {"drop_last": True}, {"augment": SimpleNamespace()}])
def test_predict_refuses_batches_that_change_the_examples(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        predict(Network(), Rows(torch.randn(4, 5), [0, 1, 2, 0], **options))


@pytest.mark.parametrize("order", [[0, 1, 2], [1, 0, 2, 3]])
def test_predict_refuses_rows_that_are_missing_or_out_of_order(order):
    with pytest.raises(ValueError, match="in order"):
        predict(Network(), Rows(torch.randn(4, 5), [0, 1, 2, 0], order=order))


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_scores_equal_scikit_learn(classes):
    rng = np.random.default_rng(classes)
    probabilities = rng.dirichlet(np.ones(classes), 200)
    labels = rng.integers(0, classes, 200)
    found = scores(predictions_table(examples(labels), probabilities))
    report = classification_report(labels, probabilities.argmax(axis=1), output_dict=True, zero_division=0)
    for average in ("macro", "weighted"):
        for name, key in (("precision", "precision"), ("recall", "recall"), ("f1", "f1-score")):
            assert found[f"{name}_{average}"] == pytest.approx(report[f"{average} avg"][key])
    assert found["accuracy"] == pytest.approx(report["accuracy"])
    one_score = probabilities[:, 1] if classes == 2 else probabilities
    assert found["auroc"] == pytest.approx(roc_auc_score(labels, one_score, multi_class="ovr"), abs=1e-6)


def test_scores_of_a_single_class_have_no_auroc():
    found = scores(predictions_table(examples([1, 1]), np.array([[0.4, 0.6], [0.7, 0.3]])))
    assert math.isnan(found["auroc"])
    assert found["accuracy"] == 0.5


@pytest.mark.parametrize(
    ("labels", "probabilities", "message"),
    [
        ([0, -1], [[0.4, 0.6], [0.7, 0.3]], "unknown"),
        ([0, 2], [[0.4, 0.6], [0.7, 0.3]], "0..1"),
        ([0, 1], [[1, 0], [0, 1]], "decisions"),
        ([0, 1], [[0.4, math.nan], [0.7, 0.3]], "diverged"),
        ([0, 1], [[2.0, 1.5], [0.7, 0.3]], "softmax"),
        ([], np.zeros((0, 2)), "empty"),
        ([0, 1], [[0.4], [0.3]], "p_0"),
    ],
)
def test_scores_refuse_what_is_no_probability(labels, probabilities, message):
    with pytest.raises(ValueError, match=message):
        scores(predictions_table(examples(labels), np.asarray(probabilities)))


def naive_knn(train, train_labels, queries, classes, k, temperature):
    found = np.zeros((len(queries), classes))
    for i, query in enumerate(queries):
        cosines = [query @ row / np.linalg.norm(query) / np.linalg.norm(row) for row in train]
        for j in sorted(range(len(train)), key=lambda j: -cosines[j])[:k]:
            found[i, train_labels[j]] += math.exp(cosines[j] / temperature)
    return found / found.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("k", [1, 5, 20, 1000])
def test_knn_equals_the_naive_loop(k):
    rng = np.random.default_rng(k)
    train, queries, train_labels = rng.normal(size=(30, 6)), rng.normal(size=(600, 6)), rng.integers(0, 4, 30)
    found = knn(train, train_labels, torch.from_numpy(queries), 4, k=k)
    np.testing.assert_allclose(found, naive_knn(train, train_labels, queries, 4, k, 0.07), atol=1e-6)


def test_knn_has_a_column_for_every_class_and_refuses_nan():
    assert knn(np.eye(2), [0, 1], np.eye(2), classes=3).shape == (2, 3)
    with pytest.raises(ValueError, match="nan"):
        knn(np.full((2, 2), np.nan), [0, 1], np.eye(2), 2)


def test_linear_probe_separates_what_is_linear_and_chooses_on_val(monkeypatch):
    rng = np.random.default_rng(0)
    features, labels = rng.normal(size=(300, 10)) * 100 + 7, rng.integers(0, 3, 300)
    features[np.arange(300), labels] += 500
    parts = [slice(0, 100), slice(100, 200), slice(200, 300)]
    train, val = ((features[part], labels[part]) for part in parts[:2])
    found = linear_probe(*train, *val, features[parts[2]], 3)
    assert (found.argmax(axis=1) == labels[parts[2]]).mean() > 0.95
    rescaled = [features[part] * np.logspace(-2, 2, 10) + 3 for part in parts]  # the unit of a feature does not matter
    again = linear_probe(rescaled[0], train[1], rescaled[1], val[1], rescaled[2], 3)
    np.testing.assert_allclose(again, found, atol=1e-3)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-6)
    assert linear_probe(*train, *val, features[parts[2]], 5).shape == (100, 5)
    on_val, strengths = {}, (1e-4, 1e-2, 1.0)
    for strength in strengths:
        monkeypatch.setattr(probes, "STRENGTHS", (strength,))
        on_val[strength] = linear_probe(*train, *val, val[0], 3)
    monkeypatch.setattr(probes, "STRENGTHS", strengths)
    best = max(on_val, key=lambda c: scores(predictions_table(examples(val[1]), on_val[c]))["f1_macro"])
    np.testing.assert_array_equal(linear_probe(*train, *val, val[0], 3), on_val[best])


def test_retrieval_closed_forms():
    eye = np.eye(20)
    perfect = retrieval(eye, eye)
    assert perfect["image_to_text_r1"] == perfect["text_to_image_r1"] == perfect["image_to_text_median_rank"] == 1
    shifted = retrieval(eye, eye + 2 * np.roll(eye, 1, axis=0))  # one wrong answer is nearer than the right one
    assert shifted["image_to_text_r1"] == 0
    assert shifted["image_to_text_r5"] == 1
    assert shifted["text_to_image_median_rank"] == 2
    collapsed = retrieval(np.ones((20, 4)), np.ones((20, 4)))  # ties are lost
    assert collapsed["image_to_text_r10"] == 0
    assert collapsed["image_to_text_median_rank"] == 20


def test_retrieval_counts_any_of_several_equal_texts():
    images = np.eye(4)
    texts = images[[1, 0, 2, 3]]  # 0 and 1 exchanged, but they are the same text
    assert retrieval(images, texts)["image_to_text_r1"] == 0.5
    assert retrieval(images, texts, groups=["a", "a", "b", "c"])["image_to_text_r1"] == 1


def test_retrieval_refuses_rows_that_are_no_pairs():
    with pytest.raises(ValueError, match=r"images \(4, 4\), of texts \(4, 4\) and of the 3 groups"):
        retrieval(np.eye(4), np.eye(4), groups=["a", "a", "b"])
