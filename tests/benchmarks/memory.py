"""Memory against the number of pictures: decoding and an epoch of augmented batches. python tests/benchmarks/memory.py

Each number of pictures gets a process of its own, which reports the largest private memory (RssAnon: what the process
itself holds; pages of the cache file that the kernel keeps in memory and may drop at any time are not counted). Asked
for: flat. Linux only.
"""

import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

SIZE = 128


def private_megabytes() -> float:
    return int(re.search(r"RssAnon:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1000


def measure(folder: Path, count: int) -> float:
    """Peak of private memory over decoding `count` pictures and one epoch, in megabytes above the imports."""
    import pandas as pd
    import torch

    from mmutils.batches import Batches
    from mmutils.batches.augment import Augment

    torch.set_num_threads(2)
    paths = [str(folder / f"{number}.jpg") for number in range(count)]
    ids = [str(number) for number in range(count)]
    examples = pd.DataFrame({"id": ids, "group": ids, "image": paths, "text": "", "label": 0})
    start, peak, done = private_megabytes(), [0.0], threading.Event()

    def watch() -> None:
        while not done.is_set():
            peak[0] = max(peak[0], private_megabytes())
            time.sleep(0.005)

    watcher = threading.Thread(target=watch)
    watcher.start()
    for _ in Batches(examples, 64, image_size=SIZE, augment=Augment(SIZE), shuffle=True).epoch():
        pass
    done.set()
    watcher.join()
    return peak[0] - start


def main() -> None:
    import numpy as np
    from PIL import Image

    counts = (1000, 4000, 16000)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((320, 240)).save(folder / "0.jpg")
        for number in range(1, max(counts)):
            os.link(folder / "0.jpg", folder / f"{number}.jpg")
        for count in counts:
            environment = os.environ | {"MMUTILS_CACHE": str(folder / "cache")}
            command = [sys.executable, __file__, str(folder), str(count)]
            peak = float(subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout)
            whole = count * SIZE * SIZE * 3 / 1e6
            print(
                f"{count} pictures: peak {peak:.0f} MB above the imports (all pictures as bytes: {whole:.0f} MB)",
                flush=True,
            )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(measure(Path(sys.argv[1]), int(sys.argv[2])))
    else:
        main()
