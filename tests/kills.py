"""Kill what writes to disk at random moments: afterwards the results are the same, and nothing is left behind.

    python tests/kills.py [KILLS]      # of each activity, 7 if not given; about 3 minutes

Each activity first runs undisturbed. Then it is killed (SIGKILL) at random moments of its duration, each time in the
same folder, and at last runs to its end and once more. Its result must be that of the undisturbed run, and the folder
must hold as many files. Processes are forked, which saves their imports.
"""

import hashlib
import http.server
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
import zipfile
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))  # mmutils, from wherever this is started

import killed_run

from mmutils import translate
from mmutils.batches import Batches
from mmutils.models import weights
from mmutils.models.features import features
from mmutils.models.image import ImageEncoder
from mmutils.report import rendering as report
from mmutils.runs.fingerprints import ROOT


def training(folder: Path) -> list:
    killed_run.train(folder)
    final = torch.load(folder / "final.pt", weights_only=True)
    return [final["losses"], {name: value.tolist() for name, value in final["method"].items()}]


def caching(folder: Path) -> list:
    """Pictures decoded, and features of them."""
    os.environ["MMUTILS_CACHE"] = str(folder / "cache")
    torch.manual_seed(0)
    rows = pd.DataFrame({"id": [str(n) for n in range(240)], "image": pictures(folder), "label": 0})
    batches = Batches(rows, 16, image_size=64)
    return [
        batches.pictures.sum().item(),
        features(ImageEncoder("resnet10t", frozen=True), batches)["features"].tolist(),
    ]


def pictures(folder: Path) -> list[str]:
    paths = [folder.parent / "pictures" / f"{number}.png" for number in range(240)]
    if not paths[-1].exists():
        paths[0].parent.mkdir(parents=True)
        for number, path in enumerate(paths):
            noise = np.random.default_rng(number).integers(0, 255, (96, 96, 3), dtype=np.uint8)
            Image.fromarray(noise).save(path)
    return [str(path) for path in paths]


def converting(folder: Path) -> list:
    """Weights of a package."""
    os.environ["MMUTILS_CACHE"] = str(folder / "cache")
    place, source = weights.packaged("tf_efficientnet_lite0")
    return [source, hashlib.sha256((place / "model.safetensors").read_bytes()).hexdigest()]


class Slow:
    """A translator that writes texts backwards."""

    options = {"model": "backwards"}

    def __call__(self, texts: list[str]) -> list[str]:
        time.sleep(0.01)
        return [text[::-1] for text in texts]


def translating(folder: Path) -> list:
    texts = [f"text number {number} of many" for number in range(400)]
    translate.translate(texts, texts, Slow(), "hi", folder / "hi.tsv", batch_size=4)
    return [(folder / "hi.tsv").read_text(), (folder / "hi.tsv.json").read_text()]


def getting(folder: Path, address: str) -> list:
    options = ["crisismmd", "--root", str(folder / "data"), "--url", address]
    with open(os.devnull, "w") as sys.stdout:
        from mmutils.data.__main__ import main

        assert main(["get", *options]) == 0
    files = sorted(path for path in (folder / "data" / "set").rglob("*") if path.is_file())
    return [(path.name, hashlib.sha256(path.read_bytes()).hexdigest()) for path in files if path.suffix == ".bin"]


def rendering(folder: Path) -> list:
    if not (folder / "runs").exists():
        shutil.copytree(ROOT / "report" / "runs" / "image-resnet18", folder / "runs" / "image-resnet18")
        shutil.copytree(ROOT / "report" / "runs" / "data", folder / "runs" / "data")
    report.render(folder)
    return [(folder / name).read_bytes() for name in ("report.md", "report.html", "report.pdf")]


def attempt(activity, folder: Path, seconds: float | None = None) -> bytes | None:
    """Digest of the activity's result, from a process of its own; None where that was killed."""
    folder.mkdir(parents=True, exist_ok=True)
    out, into = os.pipe()
    if not (child := os.fork()):
        os.close(out)
        with open(os.devnull, "w") as sys.stderr:
            os.write(into, hashlib.sha256(repr(activity(folder)).encode()).digest())
        os._exit(0)
    os.close(into)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with os.fdopen(out, "rb") as stream:
        return stream.read() or None


def size(folder: Path) -> int:
    return sum(path.is_file() for path in folder.rglob("*"))


def disturb(name: str, activity, work: Path, kills: int, draw: random.Random) -> str:
    """Kill the activity `kills` times; what came of it in one line, AssertionError where anything differs."""
    begun = time.perf_counter()
    expected = attempt(activity, work / name / "whole")
    duration = time.perf_counter() - begun
    assert expected, f"{name} fails undisturbed"
    folder, killed, most = work / name / "killed", 0, 0
    while killed < kills:
        if attempt(activity, folder, draw.uniform(0, duration)):  # it was done before it could be killed
            shutil.rmtree(folder)
            continue
        killed += 1
        most = max(most, len(list(folder.rglob(".draft-*"))))
    assert attempt(activity, folder) == expected, f"{name}: another result after {kills} kills"
    assert attempt(activity, folder) == expected, f"{name}: another result when started once more"
    left = size(folder) - size(work / name / "whole")
    assert not left and not list(folder.rglob(".draft-*")), f"{name}: {left} files left behind"
    return f"{name}: {duration:.1f} s, {killed} kills, at most {most} drafts between; result equal, nothing left"


def main(kills: int) -> None:
    torch.set_num_threads(1)
    draw = random.Random(0)
    with tempfile.TemporaryDirectory() as work:
        work = Path(work)
        (work / "served").mkdir()
        with zipfile.ZipFile(work / "served" / "set.zip", "w") as archive:
            for number in range(300):
                archive.writestr(f"set/{number}.bin", random.Random(number).randbytes(100_000))
        handler = partial(http.server.SimpleHTTPRequestHandler, directory=work / "served")
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        http.server.SimpleHTTPRequestHandler.log_message = lambda *_: None
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/set.zip"
        pictures(work / "caching" / "whole")
        activities = {"training": training, "caching": caching, "converting weights": converting}
        activities |= {"translating": translating, "getting": partial(getting, address=address), "rendering": rendering}
        for name, activity in activities.items():
            print(disturb(name, activity, work, kills, draw), flush=True)
        server.shutdown()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 7)
