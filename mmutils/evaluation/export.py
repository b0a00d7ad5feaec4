"""A trained classifier as a folder that can be used and given away: weights, what to build, a model card.

Frozen encoders whose weights come from a package or the hub are named, with a digest by which other weights under that
name are noticed; everything else is stored. Probabilities are calibrated by a temperature fitted on val.
"""

import json
import shutil
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from mmutils import statistics
from mmutils.data import dataset
from mmutils.models import saving
from mmutils.models.classifier import Classifier
from mmutils.models.encoder import CachedEncoder, Encoder
from mmutils.models.fusion import fused_encoder
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
        join: fusion of two encoders; texts: those of the train split.
    """
    encoder = fused_encoder(encoders, join)
    system, seed = predictions["system"].iloc[0], int(predictions["seed"].iloc[0])
    factor = float(statistics.temperature(predictions[predictions["split"] == "val"])[seed])
    description = {"plain_head": encoder.frozen}  # trained on cached features, which do not show that they were fused
    description |= {"classes": list(record["classes"]), "temperature": factor, "scripts": sorted(scripts(texts))}
    description |= {"run": record["run"], "system": system, "seed": seed, "data": record["data"]}
    weights = {key.removeprefix("classifier."): value for key, value in weights.items()}
    classifier = _classifier(encoder, description, weights)
    by_name = tuple(start for start, part in _frozen(classifier).items() if saving.available_by_name(part))
    stored = {key: value for key, value in classifier.state_dict().items() if not key.startswith(by_name)}
    shutil.rmtree(folder, ignore_errors=True)  # of an earlier run
    with whole_folder(folder) as draft:
        description = {"encoder": saving.describe_encoder(encoder, draft, NAME, by_name=True)} | description
        (draft / f"{NAME}.json").write_text(json.dumps(description, indent=1) + "\n", encoding="utf-8")
        saving.save_weights(stored, draft, NAME)
        (draft / "README.md").write_text(_card(record, description, predictions), encoding="utf-8")
    return folder


def load_classifier(folder: str | Path) -> tuple[Classifier, dict]:
    """The classifier and its description; ValueError for a damaged file, or an encoder whose weights have changed."""
    folder = Path(folder)
    weights = saving.load_weights(folder / f"{NAME}.safetensors")
    description = json.loads((folder / f"{NAME}.json").read_text(encoding="utf-8"))
    encoder = saving.build_encoder(description["encoder"], folder)
    return _classifier(encoder, description, weights).eval(), description


def scripts(texts: Iterable[str], share: float = 0.01) -> set[str]:
    """Scripts, as "LATIN" or "DEVANAGARI", that make up at least that share of all letters."""
    letters = (character for text in texts for character in text if character.isalpha())
    counts = Counter(unicodedata.name(letter, "UNKNOWN").split()[0] for letter in letters)
    return {script for script, count in counts.items() if count >= share * counts.total()}


def _classifier(encoder: Encoder, description: dict, weights: dict) -> Classifier:
    """The classifier with these weights, in which those that do not learn may be missing."""
    trained_on = CachedEncoder("features", encoder.dim) if description["plain_head"] else encoder
    classifier = Classifier(trained_on, len(description["classes"]))
    classifier.encoder = encoder
    missing, unexpected = classifier.load_state_dict(weights, strict=False)
    resting = {name for name, parameter in classifier.named_parameters() if not parameter.requires_grad}
    missing = [key for key in missing if key not in resting and not key.startswith(tuple(_frozen(classifier)))]
    if missing or unexpected:
        raise ValueError(f"the weights are of another classifier: without {missing[:3]}, with {unexpected[:3]} besides")
    return classifier


def _frozen(classifier: Classifier) -> dict[str, Encoder]:
    """The frozen encoders inside, by the beginning of their weights' names."""
    modules = classifier.named_modules()
    return {f"{name}.": module for name, module in modules if isinstance(module, Encoder) and module.frozen}


def _card(record: dict, description: dict, predictions: pd.DataFrame) -> str:
    system = next(entry for entry in record["systems"] if entry["system"] == description["system"])
    data, factor, classes = record["data"], description["temperature"], description["classes"]
    val, test = (predictions[predictions["split"] == split] for split in ("val", "test"))
    before, after = map(statistics.calibration_error, (test, statistics.apply_temperature(test, factor)))
    alphabets = ", ".join(description["scripts"]).title() or "no"
    licence = getattr(dataset(data["name"]), "LICENCE", "the data's own licence holds; it is not known here")
    use = " ".join(f"--{kind} ..." for kind in system["inputs"].split("+"))
    return f"""# {system["model"]}: {" or ".join(classes)}

- **Task**: {system["inputs"].replace("+", " and ")} of a post -> one of {len(classes)} classes: {", ".join(classes)}.
- **Data**: `{data["name"]}`{" (built in, a stand-in for real posts)" if data["built_in"] else ""}, train split of
  {data["splits"]["train"]} examples; language: {system["language"] or "as in the data"}; {alphabets} letters.
- **Origin**: run `{description["run"]}`, system `{description["system"]}`, seed {description["seed"]}, its best on val.
  Trained: {system["trained"]}. Weights it started from: {system["weights"]}.

| split | {" | ".join(SCORES)} |
|---|{"---|" * len(SCORES)}
| val | {" | ".join(score_with_interval(val, name) for name in SCORES)} |
| test | {" | ".join(score_with_interval(test, name) for name in SCORES)} |

Of this one model, with 95 % bootstrap intervals over examples; val chose it, so trust test.

- **Calibration**: temperature {factor:.2f}, fitted on val; expected calibration error on test {before:.3f} before and
  {after:.3f} after it.
- **Limits**: it was trained on this data set only. Other topics, times, languages or scripts lower its scores in ways
  that these numbers do not show. Its answer is a probability, not a reason to act on a post that nobody has read.
- **Licences**: {licence}. It and that of the weights it started from hold for this model as well. Encoders that are
  named, not stored, keep their own.

From the root of the repository that wrote this, with this page's folder as FOLDER:

```
python -m mmutils.predict FOLDER {use}
```
"""


def score_with_interval(rows: pd.DataFrame, name: str) -> str:
    """A score of predictions of one system and seed with its 95 % interval, or that it is not defined."""
    try:
        return str(statistics.bootstrap_interval(rows, name, resamples=2000))
    except ValueError:  # on a few examples of one class it may not be defined
        return "not defined"
