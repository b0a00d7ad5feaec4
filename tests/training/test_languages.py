"""Two languages: the same drawn examples in each; what is trained in the first is asked in the second."""

import numpy as np
import pandas as pd
import pytest
import torch

from mmutils.data import SPLITS
from mmutils.models.encoder import CachedEncoder
from mmutils.statistics import language_gap
from mmutils.training.languages import BilingualTrainings, paired_tables
from mmutils.training.loop import TrainConfig


@pytest.fixture(scope="module")
def trained():
    """English texts say the class, Hindi ones half of it in another place, pictures some of it."""
    generator, tables, pictures, texts = np.random.default_rng(0), {"en": {}, "hi": {}}, {}, {"en": {}, "hi": {}}
    for split, count in zip(SPLITS, (160, 80, 80), strict=True):
        labels, ids = np.arange(count) % 2, [f"{split}{n}" for n in range(count)]
        table = pd.DataFrame({"id": ids, "group": ids, "image": None, "text": "", "label": labels})
        signal = np.eye(4)[labels] * 2
        for code, shown in (("en", signal), ("hi", 0.4 * signal + np.roll(signal, 2, axis=1))):
            tables[code][split] = table
            noisy = shown + generator.normal(size=(count, 4)) / 2
            texts[code][split] = {"text": torch.from_numpy(noisy).float()}
        pictures[split] = {"picture": torch.from_numpy(signal / 2 + generator.normal(size=(count, 4)) / 2).float()}
    trainings = BilingualTrainings([0, 1])
    sides = CachedEncoder("picture", 4), CachedEncoder("text", 4)
    config = TrainConfig(6, learning_rate=2e-2)
    trainings.train_all(tables, pictures, texts, sides, config, 2, fusion="gated", labels=64)
    return trainings


def test_systems_and_what_is_asked_in_the_other_language(trained):
    asked = [f"{reads}, English, asked in Hindi" for reads in ("Text", "Picture + text")]
    own = ["Picture", *(f"{reads}, {name}" for name in ("English", "Hindi") for reads in ("Text", "Picture + text"))]
    assert sorted(trained.descriptions) == sorted([*own, *asked])
    assert {trained.descriptions[system]["labels"] for system in own} == {64}
    for system in asked:
        english = trained.kept[system.removesuffix(", asked in Hindi")]
        for seed, rows in trained.on_test(system).groupby("seed"):
            assert np.array_equal(rows["p_1"], english[seed]["test"]["p_1"])
    chosen = {row["system"]: (row["chosen"], row["language"]) for row in trained.describe_all(weights="w")}
    assert (
        chosen["Text, Hindi"] == (True, "hi")
        and chosen[asked[0]] == (False, "hi")
        and chosen["Picture"] == (True, None)
    )


def test_the_gap_is_wider_where_labels_are_in_english_alone(trained):
    both, alone = language_gap(*trained.four()), language_gap(*trained.four(asked=True))
    assert alone.text.estimate > both.text.estimate + 0.1 and alone.fused.estimate < alone.text.estimate


def test_what_leaks_in_one_language_leaves_both(tmp_path):
    """Features are taken by row, so a row that one language lacks would give later texts another's picture."""
    count = 30
    posts = pd.DataFrame({"id": [f"p{n}" for n in range(count)], "group": [f"g{n}" for n in range(count)]})
    posts["label"], posts["split"] = ["a", "b"] * 15, ["train"] * 20 + ["val"] * 5 + ["test"] * 5
    posts["text_en"] = [f"word {n}" for n in range(count)]
    posts["text_hi"] = [f"शब्द {n}" for n in range(count)]
    posts.loc[3, "text_en"], posts.loc[7, "text_hi"] = posts.loc[22, "text_en"], posts.loc[27, "text_hi"]
    posts.to_csv(tmp_path / "posts.csv", index=False)
    for limit, rows in ((0, 18), (10, 10)):
        tables = paired_tables("table", str(tmp_path / "posts.csv"), limit, leaks="drop")
        assert len(tables["en"]["train"]) == rows and not {"p3", "p7"} & {*tables["hi"]["train"]["id"]}
        for split, english in tables["en"].items():
            assert english["id"].tolist() == tables["hi"][split]["id"].tolist()
            assert english.index.equals(pd.RangeIndex(len(english)))
