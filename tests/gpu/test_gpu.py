"""The GPU script runs to its table on a CPU, where there is no GPU to run it on."""

import json
import os
import subprocess
import sys
from pathlib import Path


def test_gpu_script_runs_through_on_a_cpu(tmp_path):
    command = [sys.executable, str(Path(__file__).with_name("gpu.py")), "--device", "cpu", "--tiny", "--out", tmp_path]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    results = json.loads((tmp_path / "gpu.json").read_text(encoding="utf-8"))
    assert results["agreement"] == {"losses": 0.0, "features": 0.0}, "a CPU does not agree with itself"
    assert results["exact resume"] is True
    assert {row["method"] for row in results["rows"]} == {"supervised", "CLIP", "DINO", "CASS", "CASS-MM"}
    assert (tmp_path / "gpu.md").read_text(encoding="utf-8").count("\n|") == len(results["rows"]) + 1
