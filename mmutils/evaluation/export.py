"""A run's classifier as a folder that can be used and given away: weights, what to build, how sure it is, a model card.

Of the run's chosen system the seed that is best on val is exported, from its checkpoint. Frozen encoders whose weights
come from a package or the hub are not copied (multilingual-e5 alone is 470 MB) but named, with a digest by which other
weights under that name are noticed. Everything else, such as an encoder that a run pretrained, is stored whole.
Probabilities are divided by a temperature fitted on val (mmutils.statistics.calibration).
"""

import json
import shutil
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from mmutils import statistics
from mmutils.models import saving, starts, tensors
from mmutils.models.classifier import Classifier
from mmutils.models.encoder import CachedEncoder, Encoder
from mmutils.runs.files import whole_folder

NAME = "classifier"
SCORES = ("accuracy", "f1_macro", "auroc")


def export_classifier(
    folder: Path,
    record: dict,
    predictions: pd.DataFrame,
    weights: dict,
    encoders: Sequence[Encoder],
    join: str,
    texts: Iterable[str],
) -> Path:
    """Write a trained classifier to the folder, which is replaced, and return it.

    Args:
        predictions: of one system and seed, on val and test.
        weights: state dict of the `Supervised` method that was trained.
        encoders: one, or an image and a text encoder: the real ones, also where the training saw cached features.
        join: name of the fusion of two encoders.
        texts: those of the train split.

    Raises:
        ValueError: the weights are of another network.
    """
    encoder = starts.fused_encoder(encoders, join)
    classifier = _classifier(encoder, len(record["classes"]), plain=encoder.frozen)
    _fill(classifier, {key.removeprefix("classifier."): weights[key] for key in weights if key != "class_weights"})
    shutil.rmtree(folder, ignore_errors=True)  # of an earlier start
    with whole_folder(folder) as draft:
        _write(draft, record, predictions, classifier, encoder.frozen, texts)
    return folder


def _write(folder: Path, record: dict, rows: pd.DataFrame, classifier: Classifier, plain: bool, texts) -> None:
    """All files of the export. rows: predictions of its system and seed; plain: whether its head is a plain one."""
    system, seed = rows["system"].iloc[0], int(rows["seed"].iloc[0])
    described = {
        "encoder": saving.describe_encoder(classifier.encoder, folder, NAME, by_name=True),
        "plain_head": plain,
        "classes": list(record["classes"]),
        "temperature": float(statistics.temperature(rows[rows["split"] == "val"])[seed]),
        "scripts": sorted(scripts(texts)),
        **{"run": record["run"], "system": system, "seed": seed, "data": record["data"]},
    }
    (folder / f"{NAME}.json").write_text(json.dumps(described, indent=1) + "\n", encoding="utf-8")
    tensors.save_tensors(_stored(classifier), folder / f"{NAME}.safetensors", saving.companion_files(folder, NAME))
    (folder / "README.md").write_text(_card(record, described, rows), encoding="utf-8")


def load_classifier(folder: str | Path) -> tuple[Classifier, dict]:
    """The classifier, in evaluation mode, and what is known of it: classes, temperature, scripts, run, system, seed.

    FileNotFoundError for a folder without one, ValueError where an encoder's weights are no longer what they were.
    """
    folder = Path(folder)
    for file in (folder / f"{NAME}.json", folder / f"{NAME}.safetensors"):
        if not file.is_file():
            raise FileNotFoundError(f"no {file}: give the folder `model` that a run of Finetuning.ipynb has left")
    state = tensors.load_tensors(folder / f"{NAME}.safetensors")
    described = json.loads((folder / f"{NAME}.json").read_text(encoding="utf-8"))
    encoder = saving.build_encoder(described["encoder"], folder)
    classifier = _classifier(encoder, len(described["classes"]), described["plain_head"])
    _fill(classifier, state)
    return classifier.eval(), described


def scripts(texts: Iterable[str], share: float = 0.01) -> set[str]:
    """Scripts, as "LATIN" or "DEVANAGARI", that make up at least that share of all letters."""
    letters = Counter(character for text in texts for character in text if character.isalpha())
    counts = Counter()
    for letter, count in letters.items():
        counts[unicodedata.name(letter, "UNKNOWN").split()[0]] += count
    return {script for script, count in counts.items() if count >= share * counts.total()}


def _classifier(encoder: Encoder, classes: int, plain: bool) -> Classifier:
    """A classifier; plain: with the head that cached features get, which do not show that they were fused."""
    classifier = Classifier(CachedEncoder("features", encoder.dim) if plain else encoder, classes)
    classifier.encoder = encoder
    return classifier


def _fill(classifier: Classifier, state: dict) -> None:
    """load_state_dict, in which only what encoders brought with them may be missing."""
    missing, unexpected = classifier.load_state_dict(state, strict=False)
    own = [key for key in missing if not any(key.startswith(prefix) for prefix in _encoders(classifier))]
    if own or unexpected:
        raise ValueError(f"the weights are of another classifier: without {own[:3]}, with {unexpected[:3]} besides")


def _stored(classifier: Classifier) -> dict:
    """The weights that are written: all but those of encoders that can be had by their name."""
    named = [prefix for prefix, encoder in _encoders(classifier).items() if saving.available_by_name(encoder)]
    return {key: value for key, value in classifier.state_dict().items() if not key.startswith(tuple(named))}


def _encoders(classifier: Classifier) -> dict[str, Encoder]:
    """The frozen encoders inside, by the beginning of their weights' names."""
    inside = {f"{name}.": module for name, module in classifier.named_modules() if isinstance(module, Encoder)}
    return {name: module for name, module in inside.items() if module.frozen}


def _card(record: dict, described: dict, rows: pd.DataFrame) -> str:
    """The model card, in Markdown."""
    system = next(entry for entry in record["systems"] if entry["system"] == described["system"])
    data, factor = record["data"], described["temperature"]
    test, classes = rows[rows["split"] == "test"], described["classes"]
    errors = [statistics.calibration_error(part) for part in (test, statistics.apply_temperature(test, factor))]
    measured = {split: [_score(rows[rows["split"] == split], name) for name in SCORES] for split in ("val", "test")}
    table = [f"| {split} | {' | '.join(values)} |" for split, values in measured.items()]
    alphabets = ", ".join(described["scripts"]).title() or "no"
    use = " ".join(f"--{kind} ..." for kind in system["inputs"].split("+"))
    return f"""# {system["model"]}: {" or ".join(classes)}

- **Task**: {system["inputs"].replace("+", " and ")} of a post -> one of {len(classes)} classes: {", ".join(classes)}.
- **Data**: `{data["name"]}`{" (built in, a stand-in for real posts)" if data["built_in"] else ""}, train split of
  {data["splits"]["train"]} examples; language: {system["language"] or "as in the data"}; {alphabets} letters.
- **Origin**: run `{described["run"]}`, system `{described["system"]}`, seed {described["seed"]}, its best one on val.
  Trained: {system["trained"]}. Weights it started from: {system["weights"]}.

| split | {" | ".join(SCORES)} |
|---|{"---|" * len(SCORES)}
{chr(10).join(table)}

Of this one model, with 95 % bootstrap intervals over examples; val chose it, so trust test.

- **Calibration**: temperature {factor:.2f}, fitted on val; expected calibration error on test {errors[0]:.3f}
  before and {errors[1]:.3f} after it.
- **Limits**: it has seen nothing but this data set. Other topics, times, languages or scripts lower its scores in ways
  that these numbers do not show. Its answer is a guess with a probability, no ground for acting on a post unread.
- **Licences**: those of the data set (CrisisMMD: CC BY-NC-SA 4.0; Hateful Memes: research only) and of the weights it
  started from hold for this model as well. Encoders that are named, not stored, keep their own.

From the root of the repository that wrote this, with this page's folder as FOLDER:

```
python -m mmutils.predict FOLDER {use}
```
"""


def _score(rows: pd.DataFrame, name: str) -> str:
    try:
        return str(statistics.bootstrap_interval(rows, name, resamples=2000))
    except ValueError:  # on a few examples of one class it may not be defined
        return "not defined"
