"""Logistic regression, stacks and means of seeds beside trainings; sizes that are taken from the data."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

from mmutils.data import SPLITS
from mmutils.models.text import TextEncoder
from mmutils.training import references
from mmutils.training.references import STRENGTHS, Finetunings
from mmutils.training.starts import Start, load_starts, picture_size, text_length

WORDS = ("flood", "fire", "party")


@pytest.fixture
def posts():
    """Tables of three classes whose feature says a little and whose word says nearly all, and a start of them."""
    generator, tables, features = np.random.default_rng(0), {}, {}
    for split, count in zip(SPLITS, (240, 60, 90), strict=True):
        labels = np.arange(count) % 3
        words = [WORDS[label if generator.random() < 0.9 else generator.integers(3)] for label in labels]
        ids = [f"{split}{number}" for number in range(count)]
        texts = [f"a {word} today {number % 7}" for number, word in enumerate(words)]
        tables[split] = pd.DataFrame({"id": ids, "group": ids, "image": None, "text": texts, "label": labels})
        noisy = np.eye(3)[labels] + generator.normal(size=(count, 3))
        features[split] = {"run:encoder": torch.from_numpy(noisy).float()}
    about = {"inputs": "text", "model": "an encoder", "start": "words", "baseline": "none", "trained": "head"}
    encoders = [SimpleNamespace(features=features)]
    return tables, {"words": {0: Start(encoders, [], {}, {}, about | {"pretrainings": 1})}}


@pytest.fixture(autouse=True)
def made_features(monkeypatch):
    """`frozen_features` of the made encoder: those of the split whose ids the table has."""
    monkeypatch.setattr(
        references,
        "frozen_features",
        lambda encoder, table: encoder.features[table["id"].iloc[0].rstrip("0123456789")]["run:encoder"],
    )


def auroc(rows: pd.DataFrame) -> float:
    return roc_auc_score(rows["label"], rows[["p_0", "p_1", "p_2"]], multi_class="ovr")


def test_logistic_regression_is_scikit_learns_and_a_stack_knows_the_words(posts):
    tables, starts = posts
    trainings = Finetunings([0], select="auroc")
    trainings.add_logistic(starts, tables, 3)
    assert list(trainings.descriptions) == ["words, logistic regression", "words, stack with words"]
    assert all(about["baseline"] is None and about["reference"] for about in trainings.descriptions.values())
    features = {split: starts["words"][0].encoders[0].features[split]["run:encoder"].numpy() for split in SPLITS}
    scaler = StandardScaler().fit(features["train"])
    rows = {split: scaler.transform(features[split]) for split in SPLITS}
    models = [LogisticRegression(C=c, max_iter=500).fit(rows["train"], tables["train"]["label"]) for c in STRENGTHS]
    best = max(
        models, key=lambda m: roc_auc_score(tables["val"]["label"], m.predict_proba(rows["val"]), multi_class="ovr")
    )
    logistic, stack = (trainings.on_test(system) for system in trainings.descriptions)
    np.testing.assert_allclose(logistic[["p_0", "p_1", "p_2"]], best.predict_proba(rows["test"]), atol=1e-5)
    assert auroc(stack) > 0.9 > auroc(logistic) and stack["id"].tolist() == tables["test"]["id"].tolist()


def test_a_mean_of_seeds_is_added_for_all_labels_only():
    trainings, generator = Finetunings([0, 1]), np.random.default_rng(0)
    for system, share in (("a, 100 %", 1.0), ("a, 10 %", 0.1)):
        trainings.descriptions[system] = {"share": share, "trained": "head", "baseline": "b"}
        for seed in (0, 1):
            p = generator.dirichlet([1, 1], 20)
            rows = pd.DataFrame({"id": map(str, range(20)), "group": "g", "label": 0, "p_0": p[:, 0], "p_1": p[:, 1]})
            trainings._predictions.append(rows.assign(system=system, seed=seed, split=["val", "test"] * 10))
    trainings.add_means()
    assert list(trainings.descriptions) == ["a, 100 %", "a, 10 %", "a, 100 %, mean of 2 seeds"]
    mean, seeds = trainings.on_test("a, 100 %, mean of 2 seeds"), trainings.on_test("a, 100 %")
    assert mean["p_1"].tolist() == pytest.approx(seeds.groupby("id", sort=False)["p_1"].mean().tolist())
    assert trainings.descriptions["a, 100 %, mean of 2 seeds"]["trained"] == "head, mean of 2 seeds"


def test_a_stack_that_cannot_be_fitted_is_left_out_and_all_else_stays(posts):
    tables, starts = posts
    tables["train"]["text"] = [f"{number}x" for number in range(240)]  # no word in two texts
    trainings = Finetunings([0], select="auroc")
    with pytest.warns(UserWarning, match="no stack with words of 'words': too few texts or labels .*no terms remain"):
        trainings.add_logistic(starts, tables, 3)
    assert list(trainings.descriptions) == ["words, logistic regression"]
    assert list(trainings.predictions["system"].unique()) == ["words, logistic regression"]
    tables["train"] = posts[0]["train"].assign(text="flood party", label=[0, 1, 2] + [0, 1] * 118 + [0])  # 2: once
    with pytest.warns(UserWarning, match="no stack with words"):
        Finetunings([0], select="auroc").add_logistic(starts, tables, 3)


def test_sizes_come_from_the_data(tmp_path):
    paths = []
    for number, side in enumerate((40, 150, 160, 170, 900)):
        paths.append(str(tmp_path / f"{number}.png"))
        Image.new("L", (side, side // 2)).save(paths[-1])
    assert picture_size(pd.DataFrame({"image": paths})) == 160
    assert picture_size(pd.DataFrame({"image": paths[:1]})) == 112
    assert picture_size(pd.DataFrame({"image": paths[4:]})) == 224
    (tmp_path / "0.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"0\.png cannot be read as a picture"):
        picture_size(pd.DataFrame({"image": paths}))
    encoder = TextEncoder.small(["one two three four five"], width=32, layers=1, max_length=8)
    assert text_length(encoder, pd.Series(["one"])) == 8  # its own
    encoder.tokenizer.model_max_length = encoder.model.config.max_position_embeddings = 512
    counts = [len(encoder.tokenizer("two " * n)["input_ids"]) for n in range(1, 101)]
    assert text_length(encoder, pd.Series(["two " * n for n in range(1, 101)])) == int(np.percentile(counts, 98))


def test_examples_without_pictures_are_refused_before_the_work(posts):
    with pytest.raises(ValueError, match="reads pictures, which 240 of train, 60 of val, 90 of test do not have"):
        load_starts({"a": ["tf_efficientnet_lite0"]}, {}, posts[0], "", [0], "gated", size=32)
