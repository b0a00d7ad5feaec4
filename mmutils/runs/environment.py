"""The environment of a run, as its record lists it: versions of libraries, device, cores."""

import os
import platform
import sys
from importlib import metadata

NETWORKS = ("torch", "torchvision", "timm", "transformers", "tokenizers", "sentencepiece", "safetensors", "accelerate")
NUMBERS = ("scikit-learn", "scipy", "statsmodels", "numpy", "pandas", "pyarrow", "pillow", "ftfy")


def environment() -> dict:
    """Versions, device and number of cores of this process."""
    versions = {name: _version(name) for name in (*NETWORKS, *NUMBERS)}
    torch = sys.modules.get("torch")  # not imported here: a process that has not used it ran on the CPU
    device = torch.cuda.get_device_name() if torch is not None and torch.cuda.is_available() else "cpu"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"python": platform.python_version(), **versions, "device": device, "cores": cores}


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
