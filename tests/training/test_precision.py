"""bfloat16 where it is computed, a warning where it is emulated, and exact gradients on maps of one pixel."""

import os
import subprocess
import sys

import pytest
import torch
from torch import nn

from mmutils.training import precision

CPU = torch.device("cpu")


@pytest.mark.parametrize("native, asked, used", [(True, "auto", "bf16"), (False, "auto", "no"), (True, "no", "no")])
def test_auto_is_bfloat16_only_where_it_is_computed(native, asked, used, monkeypatch, recwarn):
    monkeypatch.setattr(precision, "computes_bfloat16", lambda device: native)
    assert precision.resolved(asked, CPU) == used and not recwarn


def test_who_asks_for_emulation_is_told_what_it_costs(monkeypatch):
    monkeypatch.setattr(precision, "computes_bfloat16", lambda device: False)
    with pytest.warns(UserWarning, match="40 times slower"):
        assert precision.resolved("bf16", CPU) == "bf16"


def test_a_gpu_that_emulates_is_none_that_computes(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    assert not precision.computes_bfloat16(torch.device("cuda"))  # as Colab's T4
    assert not precision.computes_bfloat16(torch.device("mps"))


def test_a_processor_limited_to_avx2_computes_none():
    """oneDNN's own limit counts, whatever the processor has."""
    code = "import torch; from mmutils.training.precision import resolved; print(resolved('auto', torch.device('cpu')))"
    limits = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
    done = subprocess.run([sys.executable, "-c", code], env=os.environ | limits, capture_output=True, text=True)
    assert done.stdout.strip() == "no", done.stderr


def test_strided_convolutions_of_one_pixel_have_exact_gradients():
    """In bfloat16 oneDNN's are arbitrary; everywhere else nothing changes."""
    network = nn.Sequential(nn.Conv2d(64, 64, 3, padding=1, stride=2, bias=False))

    def gradient(image, enabled):
        network.zero_grad()
        with precision.exact_small_maps(network), torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            (network(image).float() ** 2).sum().backward()
        return network[0].weight.grad.clone()

    torch.manual_seed(0)
    small, large = torch.randn(14, 64, 1, 1), torch.randn(14, 64, 4, 4)
    torch.testing.assert_close(gradient(small, True), gradient(small, False))
    exact = gradient(large, False)
    assert 0 < (gradient(large, True) - exact).norm() < 0.02 * exact.norm()  # in bfloat16 as before
    assert "forward" not in vars(network[0])
