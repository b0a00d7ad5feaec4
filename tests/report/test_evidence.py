"""What the report compares: methods, fusions and the plain average, ways to ask for the gap, resamples of families."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from mmutils import runs, statistics
from mmutils.report import diagnostics, rendering, results, systems, tables
from mmutils.report.results import Study
from mmutils.report.robustness import robust

SHARED = {"inputs": "image+text", "language": "en", "share": 1.0, "trained": "head", "labels": 9, "val_labels": 3}


@pytest.fixture(scope="module")
def pages(made):
    """The pages of the smoke profile's runs, from made records, by study."""
    folder, _ = made("smoke")
    made = rendering.pages_of(folder, runs.load_records(folder / "runs"), draw=False)
    return {page.study.name: page for page in made}


def started(start: str, model: str, networks: list[str], val: float, weights: str = "random", **more) -> dict:
    about = {"system": f"{start}, 100 %", "start": start, "model": model, "networks": networks, "weights": weights}
    about |= {"run": "tuned", "data": {"name": "d"}, "val": pd.DataFrame({"auroc": [val]}), "baseline": None}
    return SHARED | about | more


def study(*rows: dict):
    records = {
        name: {"systems": [{"method": "random"}, {"method": name.upper()}], "parameters": {"text_encoder": "words"}}
        for name in ("clip", "cass", "dino", "cass-mm")
    }
    return SimpleNamespace(study=SimpleNamespace(systems=list(rows), records=records, score="auroc", name="memes"))


def test_methods_are_compared_on_equal_networks_and_networks_by_one_method():
    package = {"weights": "package a; package b"}
    page = study(
        started("CNN by CLIP", "clip:image and e5", ["cnn, 48 px", "e5"], 0.6, "clip/image; package b"),
        started("CNN by DINO", "dino:cnn and e5", ["cnn, 48 px", "e5"], 0.7, "dino/cnn; package b"),
        started("ViT by DINO", "dino:vit and e5", ["vit, 64 px", "e5"], 0.5, "dino/vit; package b"),
        started("CNN untrained", "start:dino:cnn and e5", ["cnn, 48 px", "e5"], 0.5),
        started("CNN, few labels", "cass:cnn and e5", ["cnn, 48 px", "e5"], 0.5, "cass/cnn; package b", share=0.1),
        started(
            "both by CLIP", "clip:image and clip:text", ["cnn, 32 px", "clip/text-0"], 0.5, "clip/image; clip/text"
        ),
        started("both by CASS-MM", "cass-mm:cnn", ["cnn, 32 px", "cass-mm/cnn-0-text"], 0.5, "cass-mm/cnn"),
        started("package", "b0 and e5", ["b0, 112 px", "e5"], 0.9, **package),
        started("its mean", "b0 and e5", ["b0, 112 px", "e5"], 0.9, reference=True, **package),
    )
    assert [name for name, _ in systems.methods(page)] == [
        "CNN by CLIP – CNN by DINO",
        "CNN by DINO – ViT by DINO",
        "both by CASS-MM – both by CLIP",  # text encoders that began alike
        "package – CNN by DINO",  # the best on val of those pretrained here
    ]


def test_methods_at_two_sizes_are_compared_at_each_and_never_across():
    rows = [
        started(f"{network} by {method}", f"{method.lower()}:{network}", [f"{network}, {size} px"], 0.5) | {"run": run}
        for run, size in (("small", 224), ("large", 384))
        for network in ("cnn", "vit")
        for method in ("DINO", "CASS")
    ]
    pairs = systems.methods(study(*rows))
    assert len(pairs) == 8  # in each run two methods for either network, and two networks by either method
    assert all(first["run"] == second["run"] for first, second in pairs.values())
    assert "cnn by CASS (small) – cnn by DINO (small)" in [name for name, _ in pairs]


def test_picture_networks_are_compared_beside_the_same_text_network():
    cnn, vit = (started(f"{n} by CLIP", f"clip:{n}", [f"{n}, 64 px", "e5"], 0.5) | {"run": "r"} for n in ("cnn", "vit"))
    assert [*systems.methods(study(cnn, vit))] == [("cnn by CLIP – vit by CLIP", systems.labels(cnn))]
    assert not systems.methods(study(cnn, vit | {"networks": ["vit, 64 px", "words"]}))


def test_means_and_stacks_do_not_compete_for_the_best_of_an_input():
    alone = {"inputs": "text", "chosen": False}
    page = study(
        started("text", "e5", ["e5"], 0.6, **alone),
        started("stack", "e5", ["e5"], 0.9, reference=True, **alone),
        started("both", "b0 and e5", ["b0", "e5"], 0.7, chosen=True),
    )
    assert [system["start"] for system in systems.kinds(page).values()] == ["text", "both"]


def test_no_pair_of_forms_is_dropped_where_the_same_change_is_made_twice():
    rows = [
        {"run": "r", "probe": "knn", "encoder": f"{cure} {views}, cnn", "variant": {"cure": cure, "views": views}}
        for cure in ("none", "contrastive")
        for views in ("plain", "two")
    ]
    pairs = systems.forms(study(*rows))
    assert [change.split(":")[0] for change, _ in pairs] == ["cure", "cure", "views", "views"]
    assert {(new["encoder"], old["encoder"]) for new, old in pairs.values()} == {
        ("contrastive plain, cnn", "none plain, cnn"),
        ("contrastive two, cnn", "none two, cnn"),
        ("none two, cnn", "none plain, cnn"),
        ("contrastive two, cnn", "contrastive plain, cnn"),
    }


def test_a_text_encoder_without_a_name_is_the_small_transformer():
    page = study(started("both by CASS-MM", "cass-mm:cnn", ["cnn, 32 px", "cass-mm/cnn-0-text"], 0.5))
    assert systems.networks(page, page.study.systems[0]) == ["cnn, 32 px", "words"]
    page.study.records["cass-mm"]["parameters"]["text_encoder"] = ""
    assert systems.networks(page, page.study.systems[0]) == ["cnn, 32 px", "small transformer"]


def test_the_best_on_val_meets_the_best_of_each_way_to_train_which_meets_the_others_of_its_way(pages):
    page = pages["crisis"]
    pairs = systems.choices(page)
    kinds = {systems.title(system): system for system in systems.kinds(page).values()}
    assert {where.partition(";")[0] for _, where in pairs} == kinds.keys() - {"Picture"}  # only one reads it alone
    for (_, where), (first, other) in pairs.items():
        best = kinds[where.partition(";")[0]]
        assert first is best if ";" not in where else first is not best and first["trained"] == other["trained"]
        assert best["inputs"] == other["inputs"] and best["language"] == other["language"]
        if first["trained"] == other["trained"] and first["weights"] == other["weights"] and first is not best:
            assert results.on_val(first, "f1_macro") >= results.on_val(other, "f1_macro")
    for title, best in kinds.items():  # each of those that read the same is the second of one pair
        alike = [s for s in page.study.systems if systems.title(s) == title and s is not best]
        assert len(alike) == sum(where.partition(";")[0] == title for _, where in pairs)
    assert sum("average of text and picture" in name for name, _ in pairs) == 2
    assert "– average of text and picture, Hindi | Picture + text, Hindi |" in tables.comparisons(page, systems.choices)


def test_systems_of_one_name_in_two_runs_are_both_compared_with_the_best(monkeypatch):
    rows = [{"run": run, "system": "linear", "weights": "package", **SHARED} for run in ("first", "second", "third")]
    rows[2]["weights"] = "random"
    for row, score in zip(rows, (0.9, 0.8, 0.7), strict=True):
        row |= {"model": "net", "val": pd.DataFrame({"f1_macro": [score]})}
    page = SimpleNamespace(study=SimpleNamespace(systems=rows, name="crisis", score="f1_macro", records={}))
    monkeypatch.setattr(systems, "kinds", lambda page: {("image+text", "en"): rows[0]})
    pairs = systems.choices(page)
    assert [name for name, _ in pairs] == ["linear – linear (second)", "linear – linear, from scratch (third)"]


def test_the_average_is_that_of_the_best_classifiers_of_each_input_seed_by_seed(pages):
    page = pages["crisis"]
    kinds = systems.kinds(page)
    [average] = [s for s in page.study.systems if s["system"] == "average of text and picture, Hindi"]
    parts = [page.study.predictions(kinds[key]) for key in (("text", "hi"), ("image", None))]
    keys = ["seed", "id"]
    expected = sum(part.set_index(keys).filter(regex=r"^p_\d") for part in parts) / 2
    found = page.study.predictions(average).set_index(keys)
    pd.testing.assert_frame_equal(found[expected.columns], expected)
    right = expected.to_numpy().argmax(axis=1) == found["label"]
    assert average["test"]["accuracy"].tolist() == pytest.approx(right.groupby("seed").mean().tolist())
    assert not average["chosen"] and "average of text and picture, Hindi" in tables.every(page)


def test_the_gap_is_asked_for_in_other_ways(pages):
    page = pages["crisis"]
    text = robust(page)
    names = [f"average of text and picture, {language}" for language in ("English", "Hindi")]
    averages = [next(s for s in page.study.systems if s["system"] == name) for name in names]
    four = [systems.kinds(page)["text", code] for code in ("en", "hi")] + averages
    gap = statistics.language_gap(*map(page.study.predictions, four), resamples=2000)
    row = next(line for line in text.splitlines() if "average of text and picture in both languages" in line)
    assert f"| {100 * gap.text.estimate:+.1f} [".replace("-", "−") in row
    assert f"| {100 * gap.fused.estimate:+.1f} [".replace("-", "−") in row
    ways = [line for line in text.splitlines() if line.startswith("| [")]
    assert text.startswith("**With ") and "**, the picture adds " in text
    assert sum("gated in both languages" in line for line in ways) == 1
    assert "accuracy](" in text and "on val](" in text
    assert robust(pages["memes"]) == ""


def test_more_resamples_are_drawn_where_the_first_do_not_decide(tmp_path):
    labels, ids = np.arange(200) % 2, np.arange(200).astype(str)
    rows = pd.DataFrame({"seed": 0, "id": ids, "group": ids, "label": labels})
    second = {"good": 0.1 + 0.8 * labels, "bad": np.random.default_rng(0).random(200)}
    tables = {name: rows.assign(p_0=1 - values, p_1=values) for name, values in second.items()}
    made = Study(tmp_path, "crisis", [])
    made.score, made.resamples, made.systems = "accuracy", 999, [{"run": "r", "system": name} for name in tables]
    made.predictions = lambda system, split="test": tables[system["system"]]
    good, bad = made.systems
    pairs = {(str(number), ""): (good, bad if number < 2 else good) for number in range(60)}
    coarse = statistics.compare_pairs(
        {key: [*map(made.predictions, pair)] for key, pair in pairs.items()}, "accuracy", resamples=999
    )
    found = made.compare(pairs)
    assert [result.verdict for result in coarse.values()] == ["inconclusive"] * 60  # 60 times 2/1000
    assert [result.verdict for result in found.values()] == ["better"] * 2 + ["inconclusive"] * 58
    assert found["0", ""].p_holm == pytest.approx(60 * 2 / 9_991)


@pytest.mark.parametrize(("coarse", "fine", "shown"), [(0.06, 0.04, 0.04), (0.3, 0.04, 0.3), (0.008, 0.04, 0.008)])
def test_a_verdict_near_the_limit_is_drawn_anew(tmp_path, coarse, fine, shown):
    made = Study(tmp_path, "crisis", [])
    p = {results.RESAMPLES: coarse, results.FINER * results.RESAMPLES: fine}
    made.difference = lambda a, b, score, resamples, among=None: statistics.Interval(0.1, 0, 0.2, 9, 1, p[resamples])
    pair = {"run": "r", "system": "a"}, {"run": "r", "system": "b"}
    assert made.compare({"key": pair})["key"].p_holm == shown


def test_a_part_of_test_that_is_all_right_has_wilson_s_interval():
    cuts = {"class": [{"slice": "a", "examples": 80, "score": 1.0, "low": 1.0, "high": 1.0},
                      {"slice": "b", "examples": 40, "score": 0.5, "low": 0.4, "high": 0.6}]}  # fmt: skip
    page = SimpleNamespace(
        study=SimpleNamespace(records={"r": {"extra": {"slices": cuts}}}),
        record=lambda run, label: label,
        table=lambda name, rows, **_: str(rows),
    )
    assert "'100.0 [95.4, 100.0]'" in diagnostics.slices(page) and "'50.0 [40.0, 60.0]'" in diagnostics.slices(page)
