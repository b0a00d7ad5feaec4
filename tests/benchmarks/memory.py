"""Memory against the work: python tests/benchmarks/memory.py

An epoch of augmented batches with more and more pictures, decoding included; and one step of CLIP (ResNet-18, 64 px)
with larger and larger batches, whole and in chunks of 128. Each has a process of its own, which reports the largest
private memory (RssAnon: what the process itself holds; pages of the cache file that the kernel keeps in memory and may
drop at any time are not counted). Asked for: flat, but for what is asked to be whole. Linux only.
"""

import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import compare  # noqa: F401, lets mmutils be found

SIZE = 128


def private_megabytes() -> float:
    return int(re.search(r"RssAnon:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1000


def epoch(folder: str, count: str) -> None:
    """One epoch of batches of `count` pictures in the folder."""
    import pandas as pd

    from mmutils.batches import Batches
    from mmutils.batches.augment import Augment

    paths = [f"{folder}/{number}.jpg" for number in range(int(count))]
    ids = [str(number) for number in range(len(paths))]
    examples = pd.DataFrame({"id": ids, "group": ids, "image": paths, "text": "", "label": 0})
    for _ in Batches(examples, 64, image_size=SIZE, augment=Augment(SIZE), shuffle=True).epoch():
        pass


def clip(batch: str, chunk: str) -> None:
    """Forward and backward pass of one batch."""
    import torch

    from mmutils.methods.clip import CLIP
    from mmutils.models.encoder import CachedEncoder
    from mmutils.models.image import ImageEncoder

    count = int(batch)
    method = CLIP(ImageEncoder("resnet18"), CachedEncoder("text", 384), chunk=int(chunk)).train()
    pairs = {"image": torch.rand(count, 3, 64, 64), "text": torch.randn(count, 384), "id": list(map(str, range(count)))}
    method.loss(pairs, 0).backward()


def peak(work: Callable, *arguments: str) -> float:
    """Peak of private memory while `work` runs, in megabytes above what the imports take."""
    import torch

    import mmutils.batches.augment
    import mmutils.methods.clip
    import mmutils.models.text  # noqa: F401

    torch.set_num_threads(2)
    start, most, done = private_megabytes(), [0.0], threading.Event()

    def watch() -> None:
        while not done.is_set():
            most[0] = max(most[0], private_megabytes())
            time.sleep(0.005)

    watcher = threading.Thread(target=watch)
    watcher.start()
    work(*arguments)
    done.set()
    watcher.join()
    return most[0] - start


def main() -> None:
    import numpy as np
    from PIL import Image

    counts = (1000, 4000, 16000)
    with tempfile.TemporaryDirectory() as name:
        folder, environment = Path(name), os.environ | {"MMUTILS_CACHE": f"{name}/cache"}

        def run(*arguments: str) -> float:
            command = [sys.executable, __file__, *arguments]
            return float(subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout)

        noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((320, 240)).save(folder / "0.jpg")
        for number in range(1, max(counts)):
            os.link(folder / "0.jpg", folder / f"{number}.jpg")
        for count in counts:
            whole = count * SIZE * SIZE * 3 / 1e6
            print(f"{count} pictures ({whole:.0f} MB as bytes): {run('epoch', name, str(count)):.0f} MB", flush=True)
        for batch in (256, 512, 1024):
            whole, parts = (run("clip", str(batch), str(chunk)) for chunk in (0, 128))
            print(f"CLIP, a batch of {batch}: whole {whole:.0f} MB, in chunks of 128 {parts:.0f} MB", flush=True)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(peak({"epoch": epoch, "clip": clip}[sys.argv[1]], *sys.argv[2:]))
    else:
        main()
