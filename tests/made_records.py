"""Records of all runs of a profile with made predictions: what each notebook would record, without any training."""

from functools import cache
from itertools import product
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd

from mmutils import data, runs
from mmutils.evaluation.probes import PROBES
from mmutils.reproduce import experiments
from mmutils.reproduce.experiments import Run
from mmutils.runs import fingerprints
from mmutils.training.pretraining import Pretraining
from mmutils.training.supervised import Trainings

SCORES = [f"{score}_{mean}" for score in ("precision", "recall", "f1") for mean in ("macro", "weighted")]
EXPERIMENTS = fingerprints.ROOT / "report" / "experiments.yaml"
SEEDS, EXAMPLES = 2, 30


def make(folder: Path, profile: str) -> dict[str, dict]:
    """Write the records of a profile into `folder`/runs; return the parameters of each run, defaults too."""
    planned = {}
    for run in experiments.read(EXPERIMENTS, profile).runs:
        planned[run.name] = fingerprints.planned(run.notebook, run.parameters)
        entries = RECORDED[Path(run.notebook).stem](run, planned)
        history = entries.pop("history", [])
        given = {name: value for name, value in planned[run.name].items() if name not in fingerprints.LOCATIONS}
        with mock.patch("mmutils.statistics.scores.scores", _scores):
            runs.save_record(
                folder / "runs" / run.name, notebook=run.notebook, parameters=given, history=history, **entries
            )
    return planned


def _scores(rows: pd.DataFrame) -> dict[str, float]:
    """Accuracy for every score: scikit-learn's would take longer than all that a report does with them."""
    right = rows.filter(regex=r"^p_\d").to_numpy().argmax(axis=1) == rows["label"]
    return dict.fromkeys(("accuracy", *SCORES, "auroc"), float(right.mean()))


def _about(parameters: dict) -> dict:
    """The entries `data` and `classes`; the language is that of the texts."""
    name = parameters["data"]
    built_in, language = name.startswith("emoji"), parameters.get("language") or None
    sizes = {"train": 900, "val": EXAMPLES, "test": EXAMPLES}
    about = {"name": name, "language": language, "fingerprint": "made", "splits": sizes, "built_in": built_in}
    return {"data": about, "classes": list(data.dataset(name).CLASSES)}


@cache
def _examples(name: str, split: str) -> pd.DataFrame:
    if name.startswith("emoji"):  # the report shows some of them: they must be there
        return data.tables(name, None, limit=EXAMPLES)[split][["id", "group", "label"]]
    ids = [f"{split}-{number}" for number in range(EXAMPLES)]
    labels = np.arange(EXAMPLES) % len(data.dataset(name).CLASSES)
    return pd.DataFrame({"id": ids, "group": ids, "label": labels})


def _predictions(parameters: dict, names: list[str]) -> pd.DataFrame:
    """Random probabilities, better than chance, the same in every process."""
    generator, parts = np.random.default_rng(len(names)), []
    classes = len(data.dataset(parameters["data"]).CLASSES)
    for name in names:
        for seed in range(SEEDS):
            for split in ("val", "test"):
                table = _examples(parameters["data"], split)
                logits = np.eye(classes)[table["label"]] + generator.normal(size=(len(table), classes))
                shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
                columns = {f"p_{k}": shares[:, k].astype(np.float32) for k in range(classes)}
                parts.append(table.assign(system=name, seed=seed, split=split, **columns))
    return pd.concat(parts, ignore_index=True)


def _rows(names: list[str], **columns: float) -> list[dict]:
    """A history of three epochs."""
    return [{"system": name, "seed": seed, "epoch": epoch, "loss": 1 / epoch, **columns}
            for name in names for seed in range(SEEDS) for epoch in (1, 2, 3)]  # fmt: skip


def _audit(run: Run, planned: dict) -> dict:
    about = _about(planned[run.name])
    counts = [{"index": name, "train": 90, "val": 9, "test": 9} for name in about["classes"]]
    audit = {"counts": counts, "leaks": [{"what": "text", "values": 2}], "duplicates": []}
    audits = dict.fromkeys(planned[run.name]["languages"], audit)
    return {"study": "crisis", "systems": [], "predictions": None, "extra": {"audit": audits}, **about}


def _supervised(run: Run, planned: dict, systems: dict[str, dict], study: str = "crisis", **entries) -> dict:
    """What is recorded of systems that learned from labels, by name with their descriptions; the last one is chosen."""
    parameters = planned[run.name]
    predictions, extra = _predictions(parameters, list(systems)), entries.pop("extra", {})
    shared = {"language": parameters.get("language") or None, "weights": "random", "trained": "head"}
    trainings = Trainings(range(SEEDS), descriptions=systems)
    rows = trainings.describe(list(systems)[-1], **shared | entries)
    more = {"study": study, "systems": rows, "predictions": predictions, "extra": extra}
    return more | {"history": _rows(list(systems), f1_macro=0.5)} | _about(parameters)


def _undescribed(names: list[str]) -> dict[str, dict]:
    return {name: {} for name in names}


def _gap(run: Run, planned: dict) -> dict:
    systems = {"Picture": {"inputs": "image", "language": None}}
    for code, language in (("en", "English"), ("hi", "Hindi")):
        systems[f"Text, {language}"] = {"inputs": "text", "language": code, "labels": 900}
        systems[f"Picture + text, {language}"] = {"inputs": "image+text", "language": code, "labels": 900}
    return _supervised(run, planned, systems, "gap")


def _image(run: Run, planned: dict) -> dict:
    heads, encoder = planned[run.name]["heads"], planned[run.name]["encoder"]
    names = [f"{encoder}, {f'{hidden} hidden units' if hidden else 'linear head'}" for hidden in heads]
    return _supervised(run, planned, _undescribed(names), inputs="image", language=None)


def _text(run: Run, planned: dict) -> dict:
    encoder = planned[run.name]["encoder"].split("/")[-1]
    layers = planned[run.name]["train_layers"]
    names = [f"{encoder}, {f'last {count} layers trained' if count else 'frozen'}" for count in layers]
    names += ["small transformer, from scratch"] if planned[run.name]["scratch"] else []
    return _supervised(run, planned, _undescribed(names), inputs="text")


def _use(system: str) -> dict:
    row = {"score": 0.6, "low": 0.5, "high": 0.7, "change": -0.1, "change_low": -0.2, "change_high": 0.1}
    return {system: [row | {"model": model, "p_value": 0.5} for model in ("full", "additive", "text shuffled")]}


def _fusion(run: Run, planned: dict) -> dict:
    names = list(planned[run.name]["fusions"])
    layers = planned[run.name]["train_layers"]
    names += [f"{names[0]}, last {layers} text layers trained"] if layers else []
    noise = [{"side": side, "level": level, "score": 0.6, "low": 0.5, "high": 0.7}
             for side in ("picture", "text") for level in (0.0, 2.0)]  # fmt: skip
    extra = {"modality_use": _use(names[-1]), "noise": {names[-1]: noise}}
    return _supervised(run, planned, _undescribed(names), inputs="image+text", extra=extra)


def _transfer(run: Run, planned: dict) -> dict:
    systems = {"frozen, linear": {}, "last 4 layers trained": {}}
    numbers = {"estimate": 0.1, "low": -0.1, "high": 0.3, "p_value": 0.3, "en_estimate": 0.7, "hi_estimate": 0.6}
    gap = [{"score": score, **numbers} for score in ("f1_macro", "f1_weighted", "accuracy")]
    slices = {"class": [{"slice": "a", "examples": 9, "score": 0.5, "low": 0.4, "high": 0.6}]}
    extra = {"gap": gap, "paired": 9, "encoder": planned[run.name]["encoder"], "slices": slices}
    return _supervised(run, planned, systems, "transfer", inputs="text", language="en", extra=extra)


def _pretraining(run: Run, planned: dict, forms: dict[str, dict], branches: list[str], method: str, **columns) -> dict:
    """What CLIP, DINO, CASS and CASS-MM record of their probes; forms: descriptions by name."""
    parameters = planned[run.name]
    untrained = "before" if parameters.get("pretrained") else "random"
    encoders = {
        f"{form}, {branch}": {"weights": untrained, **description}
        for form, description in ({untrained: {}} | forms).items()
        for branch in branches
    }
    numbers = {"accuracy": 0.5, "f1_macro": 0.5, "auroc": 0.6, "spread": 1.0, "effective_rank": 9.0}
    places = product(encoders, range(SEEDS), PROBES, ("val", "test"))
    probes = [dict(zip(("encoder", "seed", "probe", "split"), place, strict=True)) | numbers for place in places]
    predictions = _predictions(parameters, [f"{name}: {probe}" for name in encoders for probe in PROBES.values()])
    history = _rows(list(forms), **columns)
    study = Pretraining(method, 2, None, range(SEEDS), probes=probes, encoders=encoders)
    rows = study.describe(inputs="image+text" if method == "CASS-MM" else "image", language=None)
    more = {"study": "memes", "systems": rows, "predictions": predictions, "history": history}
    return more | {"extra": {"pretraining": 900, "probes": probes}} | _about(parameters)


def _clip(run: Run, planned: dict) -> dict:
    parameters = planned[run.name]
    watched = {"loss_chance": 2.0, "effective_rank_image": 9.0}
    entries = _pretraining(run, planned, {"CLIP": {}}, [parameters["image_encoder"]], "CLIP", **watched)
    recalls = {f"{way}_r{k}": k / 20 for way in ("text_to_image", "image_to_text") for k in (1, 5, 10)}
    languages = parameters["languages"] or [""]
    shown = _examples(parameters["data"], "test")["id"].tolist()[:3]
    entries["extra"]["retrieval"] = dict.fromkeys(languages, recalls | {"candidates": EXAMPLES})
    entries["extra"]["queries"] = dict.fromkeys(parameters["queries"], shown)
    return entries


def _dino(run: Run, planned: dict) -> dict:
    watched = {"loss_chance": 2.0, "teacher_entropy": 1.0, "effective_rank_teacher": 9.0}
    return _pretraining(run, planned, {"DINO": {}}, list(planned[run.name]["encoders"]), "DINO", **watched)


def _cass(run: Run, planned: dict) -> dict:
    parameters, method = planned[run.name], "CASS-MM" if "variants" in planned[run.name] else "CASS"
    forms = {f"CASS, {cure}": {} for cure in parameters.get("cures", ())}
    for number, variant in enumerate(parameters.get("variants", ())):
        settings = dict(zip(("cure", "text_encoders", "views", "hidden_sides"), variant, strict=True))
        forms[f"CASS-MM, form {number}"] = {"variant": settings}
    branches = [parameters["cnn"], parameters["vit"]]
    watched = {"agreement": 0.1, "effective_rank_cnn": 9.0, "effective_rank_vit": 9.0}
    watched |= {f"knn_{branch}": 0.6 for branch in branches}
    return _pretraining(run, planned, forms, branches, method, **watched)


def _finetuning(run: Run, planned: dict) -> dict:
    parameters, systems = planned[run.name], {}
    for start, encoders in parameters["starts"].items():
        inside = [_inside(encoder, planned, parameters["size"]) for encoder in encoders]
        networks = [network for kind in ("image", "text") for part in inside for network in part.get(kind, ())]
        inputs = "+".join(kind for kind in ("image", "text") if any(kind in part for part in inside))
        model = " and ".join(encoders)
        entry = {"inputs": inputs, "networks": networks, "model": model.replace("-{seed}", ""), "start": start}
        entry |= {"weights": "; ".join(["random"] * len(encoders)), "pretrainings": SEEDS if "{seed}" in model else 1}
        for share in parameters["shares"]:
            counts = {"labels": round(900 * share), "val_labels": EXAMPLES}
            more = {"share": share, "baseline": parameters["baselines"].get(start), **counts}
            systems[f"{start}, {100 * share:.3g} % of labels"] = entry | more
    use = next((_use(name) for name, entry in systems.items() if " and " in entry["model"]), {})
    trained = "everything" if parameters["image_layers"] == -1 else "head"
    return _supervised(run, planned, systems, "memes", trained=trained, extra={"modality_use": use})


def _inside(encoder: str, planned: dict, size: int) -> dict[str, list[str]]:
    """The networks inside an encoder of a start, by what they read."""
    if ":" not in encoder:
        return {"text": [encoder]} if "/" in encoder else {"image": [f"{encoder}, {size} px"]}
    run, name = encoder.removeprefix("start:").rpartition("-")[0].split(":")  # without its seed
    by = planned[run]
    words = by.get("text_encoder") or "small transformer"
    if name == "text":
        return {"text": [words]}
    network = by.get(name) or by.get(f"{name}_encoder") or name
    pixels = by.get(f"{name}_size") or by.get("encoders", {}).get(name) or by["size"]
    return {"image": [f"{network}, {pixels} px"]} | ({"text": [words]} if "variants" in by else {})


RECORDED = {
    "data_audit": _audit,
    "image_models": _image,
    "text_models": _text,
    "fusion": _fusion,
    "language_transfer": _transfer,
    "the_gap": _gap,
    "CLIP": _clip,
    "DINO": _dino,
    "CASS": _cass,
    "CASS_MM": _cass,
    "Finetuning": _finetuning,
}
