"""What a GPU does with this code, in under four minutes: python tests/gpu/gpu.py --out DIR [--harmeme DIR]

Does it compute what a CPU computes, go on exactly where it was stopped, train in bfloat16, and keep busy? How many
pictures a second, in how much memory? It writes DIR/gpu.json, and DIR/gpu.md, the table for notebooks/README.md.
Pictures are made and weights random, so no network is needed. `--device cpu --tiny` runs all of it in seconds, to
prove the script where there is no GPU; its numbers mean nothing.
"""

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
sys.path.insert(0, str(REPOSITORY))  # mmutils, from wherever this is started

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
parser.add_argument("--tiny", action="store_true", help="tiny networks and two steps, to prove the script")
parser.add_argument("--out", default="outputs/gpu", metavar="DIR")
parser.add_argument("--harmeme", metavar="DIR", help="HarMeme's folder: pretrain CLIP on it with what time is left")
parser.add_argument("--budget", type=float, default=230, metavar="SECONDS", help="after which nothing new is begun")
parser.add_argument("--reference", metavar="FILE", help=argparse.SUPPRESS)  # write what the CPU computes, and end
options = parser.parse_args()
os.environ |= {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"}  # without it cuBLAS is not deterministic
if options.device == "cpu":
    os.environ["CUDA_VISIBLE_DEVICES"] = ""

import numpy as np  # noqa: E402, after the environment
import pandas as pd  # noqa: E402
import torch  # noqa: E402
from PIL import Image  # noqa: E402

from mmutils.batches import Batches  # noqa: E402
from mmutils.batches.augment import Augment, MultiCrop  # noqa: E402
from mmutils.methods import Method  # noqa: E402
from mmutils.methods.cass import CASS, cass_mm  # noqa: E402
from mmutils.methods.clip import CLIP  # noqa: E402
from mmutils.methods.dino import DINO  # noqa: E402
from mmutils.methods.supervised import Supervised  # noqa: E402
from mmutils.models import features  # noqa: E402
from mmutils.models.classifier import Classifier  # noqa: E402
from mmutils.models.image import ImageEncoder  # noqa: E402
from mmutils.models.text import TextEncoder  # noqa: E402
from mmutils.training.loop import TrainConfig, fit  # noqa: E402

BEGUN = time.perf_counter()
METHODS = ("supervised", "CLIP", "DINO", "CASS", "CASS-MM")
TINY = {"test_resnet": 32, "test_vit": 32}  # half a million weights each
SMALL = TINY if options.tiny else {"resnet10t": 32, "vit_tiny_patch16_224": 32}  # on which CPU and GPU are compared
LARGE = {"resnet50": 224, "vit_base_patch16_224": 224}
STEPS = 2 if options.tiny else 20
TOLERANCE = {"losses": 0.02, "features": 1e-3}  # largest relative difference between CPU and GPU
BUSY = 0.85  # share of the time


def examples(count: int) -> pd.DataFrame:
    """Noise with a word for each."""
    folder = Path(tempfile.gettempdir(), "mmutils-gpu")
    folder.mkdir(exist_ok=True)
    noise = np.random.default_rng(0)
    paths = [folder / f"{number}.png" for number in range(min(count, 64))]
    for path in paths:
        Image.fromarray(noise.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path)
    ids = [str(number) for number in range(count)]
    rows = {"id": ids, "group": ids, "image": [str(paths[number % len(paths)]) for number in range(count)]}
    words = [f"meme {number} about {'cats' if number % 2 else 'dogs'}" for number in range(count)]
    return pd.DataFrame(rows | {"text": words, "label": np.arange(count) % 2})


def prepared(kind: str, networks: dict[str, int], count: int, batch_size: int) -> tuple[Method, Batches]:
    """A method on the first of these networks, or on both, and its batches of made examples."""
    rows, texts = examples(count), None
    encoders = [ImageEncoder(name, size=size) for name, size in networks.items()]
    size = max(networks.values())
    views = Augment.text_safe(size)
    if kind == "supervised":
        method = Supervised(Classifier(encoders[0], 2))
    elif kind == "CLIP":
        texts = TextEncoder.small(rows["text"])
        method = CLIP(encoders[0], texts)
    elif kind == "DINO":
        method = DINO(encoders[0], 512 if options.tiny else 4096)
        views = MultiCrop.dino(size, max(16, round(0.43 * size / 16) * 16), 2, local_scale=(0.15, 0.4))
    elif kind == "CASS":
        method = CASS(*encoders)
    else:
        method = cass_mm(networks, rows["text"])
        texts = method.cnn.text
    inputs = {"tokenizer": texts.tokenizer} if texts else {}
    batches = Batches(rows, batch_size, image_size=size, augment=views, shuffle=True, drop_last=True, **inputs)
    return method, batches


def curve(kind: str, precision: str = "no") -> list[float]:
    """The loss of each step on small networks."""
    torch.manual_seed(0)
    method, batches = prepared(kind, SMALL, 32, 32)  # a step an epoch
    return [row["loss"] for row in fit(method, batches, TrainConfig(STEPS, 1e-4, precision=precision))]


def network_features(name: str, size: int) -> torch.Tensor:
    torch.manual_seed(0)
    return features.compute(ImageEncoder(name, size=size), Batches(examples(8), 8, image_size=size), False)["features"]


def reference() -> dict:
    """What this device computes in float32: losses by method, features by network."""
    torch.backends.cudnn.allow_tf32 = False
    networks = SMALL if options.tiny else LARGE
    outputs = {name: network_features(name, size).tolist() for name, size in networks.items()}
    return {"losses": {kind: curve(kind) for kind in METHODS}, "features": outputs}


def agreement() -> dict[str, float]:
    """The largest relative difference between this device and a CPU, of losses and of features."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "cpu.json")
        command = [sys.executable, __file__, "--device", "cpu", "--reference", str(file)]
        subprocess.run(command + ["--tiny"] * options.tiny, check=True)
        cpu, here = json.loads(file.read_text()), reference()
    torch.backends.cudnn.allow_tf32 = True
    largest = {}
    for what, by_name in cpu.items():
        pairs = [(np.array(values), np.array(here[what][name])) for name, values in by_name.items()]
        largest[what] = max(float(np.abs(a - b).max() / np.abs(a).max()) for a, b in pairs)
    return largest


def resumes() -> bool:
    """Whether a training that was stopped ends with the very bits of one that was not."""
    scores = [{}]

    def stop(method: Method) -> dict:
        if not scores:
            raise InterruptedError("in the second epoch, after the checkpoint of the first")
        return scores.pop()

    torch.use_deterministic_algorithms(True, warn_only=True)
    ends = []
    with tempfile.TemporaryDirectory() as folder:
        for checkpoint, evaluate in ((None, None), (folder, stop), (folder, None)):
            torch.manual_seed(0)
            method, batches = prepared("CASS", SMALL, 64, 16)
            try:
                fit(method, batches, TrainConfig(2, 1e-4), checkpoint=checkpoint, evaluate=evaluate)
                ends.append([tensor.cpu() for tensor in method.state_dict().values()])
            except InterruptedError:
                continue
    torch.use_deterministic_algorithms(False)
    return all(torch.equal(a, b) for a, b in zip(*ends, strict=True))


def trained(kind: str, networks: dict[str, int], batch_size: int) -> dict:
    """Pictures a second and memory of a training in bfloat16, in its second epoch."""
    torch.manual_seed(0)
    method, batches = prepared(kind, networks, batch_size * (2 if options.tiny else 12), batch_size)
    if options.device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    history = fit(method, batches, TrainConfig(2, 1e-4, precision="bf16"))
    memory = f"{torch.cuda.max_memory_allocated() / 1e9:.1f}" if options.device == "cuda" else "–"
    rate = len(batches) * batch_size / history[-1]["seconds"]
    row = {"method": kind, "networks": " and ".join(networks), "pixels": max(networks.values()), "batch": batch_size}
    return row | {"pictures a second": round(rate, 1), "GB": memory, "loss": history[-1]["loss"]}


def busy(networks: dict[str, int]) -> float:
    """Share of an epoch's time in which the device computes, supervised on the last of these networks."""
    name, size = list(networks.items())[-1]
    activity = torch.profiler.ProfilerActivity
    kinds = [activity.CPU] + [activity.CUDA] * (options.device == "cuda")
    method, batches = prepared("supervised", {name: size}, 32 if options.tiny else 64 * 12, 16 if options.tiny else 64)
    fit(method, batches, TrainConfig(1, 1e-4, precision="bf16"))  # the first steps choose algorithms
    with torch.profiler.profile(activities=kinds) as profile:
        [row] = fit(method, batches, TrainConfig(1, 1e-4, precision="bf16"))
    column = "self_device_time_total" if options.device == "cuda" else "self_cpu_time_total"
    return sum(getattr(event, column) for event in profile.key_averages()) / 1e6 / row["seconds"]


def notebooks(out: Path) -> str:
    """Two notebooks at once on one GPU; the seconds, or why not."""
    if not importlib.util.find_spec("papermill"):
        return "not run: papermill is not installed"
    command = [sys.executable, "-m", "mmutils.reproduce", "--profile", "smoke", "--only", "clip", "dino"]
    command += ["--jobs", "2", "--force", "--out", str(out / "notebooks")]
    started = time.perf_counter()
    code = subprocess.run(command, cwd=REPOSITORY).returncode
    return f"{'ok' if code == 0 else f'failed with {code}'} in {time.perf_counter() - started:.0f} s"


def on_harmeme(out: Path) -> str:
    """CLIP with a ResNet-50 of 224 px on real memes, from random weights: what its probes say."""
    if not options.harmeme or not importlib.util.find_spec("papermill"):
        return "not run: no --harmeme, or papermill is not installed"
    values = {"data": "harmeme", "root": Path(options.harmeme).absolute(), "languages": "[en]", "size": 224}
    values |= {"image_encoder": "resnet50", "text_encoder": '""', "text_safe": True, "epochs": 5, "seeds": "[0]"}
    values |= {"out": out / "clip"}
    pairs = [word for name, value in values.items() for word in ("-y", f"{name}: {value}")]
    command = [sys.executable, "-m", "papermill", "CLIP/CLIP.ipynb", str(out / "CLIP.ipynb"), *pairs]
    code = subprocess.run(command, cwd=REPOSITORY).returncode
    record = out / "clip" / "record.json"
    return str(json.loads(record.read_text())["extra"]["probes"]) if code == 0 else f"failed with {code}"


def main() -> int:
    """Run the parts in their order; 1 where one of them is not as it should be."""
    if options.reference:
        Path(options.reference).write_text(json.dumps(reference()))
        return 0
    if options.device == "cuda" and not torch.cuda.is_available():
        print("There is no GPU that torch can use: --device cpu --tiny proves the script alone.")
        return 2
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    name = torch.cuda.get_device_name() if options.device == "cuda" else "CPU"
    results = {"device": name, "torch": torch.__version__, "rows": []}

    def report() -> None:
        (out / "gpu.json").write_text(json.dumps(results, indent=1))
        (out / "gpu.md").write_text(table(results))

    for part, work in {
        "agreement": agreement,
        "exact resume": resumes,
        "bfloat16": lambda: {kind: curve(kind, "bf16") for kind in METHODS},  # a loss that is not finite is an error
        "busy": lambda: busy(SMALL if options.tiny else LARGE),
    }.items():
        results[part] = work()
        print(f"{time.perf_counter() - BEGUN:.0f} s, {part}: {results[part]}", flush=True)
        report()
    cells = [(224, 64), (384, 32)] if not options.tiny else [(32, 16)]
    for size, batch in cells:
        both = TINY if options.tiny else {"resnet50": size, f"vit_base_patch16_{size}": size}
        for kind in METHODS:
            alone = [{network: size} for network in both]
            for networks in [both] if kind.startswith("CASS") else alone:
                if time.perf_counter() - BEGUN < options.budget:
                    results["rows"].append(trained(kind, networks, batch))
                    print(f"{time.perf_counter() - BEGUN:.0f} s, {results['rows'][-1]}", flush=True)
                    report()
    for part, work in {"two notebooks": notebooks, "HarMeme": on_harmeme}.items():
        if not options.tiny and time.perf_counter() - BEGUN < options.budget:
            results[part] = work(out)
            report()
    results["seconds"] = round(time.perf_counter() - BEGUN)
    report()
    near = all(results["agreement"][what] <= most for what, most in TOLERANCE.items())
    fast = options.tiny or results["busy"] >= BUSY
    print(table(results))
    return 0 if near and fast and results["exact resume"] else 1


def table(results: dict) -> str:
    """The results as Markdown."""
    columns = ("method", "networks", "pixels", "batch", "pictures a second", "GB")
    rows = [[str(row[column]) for column in columns] for row in results["rows"]]
    lines = ["| " + " | ".join(cells) + " |" for cells in [columns, ["---"] * len(columns), *rows]]
    parts = [f"{name}: {value}" for name, value in results.items() if name not in ("rows", "bfloat16")]
    return "\n".join([*lines, "", "; ".join(parts), ""])


if __name__ == "__main__":
    sys.exit(main())
