"""Which precision encoders run in: bfloat16 where the machine computes it, else float32.

bfloat16 that is only emulated (CPUs without its instructions, Colab's T4) is much slower than float32. float16 is not
offered, since it overflows in contrastive losses.
"""

import warnings
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from functools import partial

import torch
from torch import Tensor, nn

PRECISIONS = ("auto", "bf16", "no")


def computes_bfloat16(device: torch.device) -> bool:
    """Whether the device has instructions for bfloat16, and torch and oneDNN are allowed to use them."""
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()  # what the processor has
    return native and torch.ops.mkldnn._is_mkldnn_bf16_supported()  # minds ONEDNN_MAX_CPU_ISA


def resolved(precision: str, device: torch.device) -> str:
    """ "bf16" or "no": what `precision` means on this device; UserWarning for emulation."""
    native = computes_bfloat16(device)
    if precision == "bf16" and not native:
        problem = f'precision="bf16" is emulated on this {device.type.upper()}, up to 40 times slower than float32'
        warnings.warn(f'{problem}: precision="auto" takes bfloat16 only where it is computed', stacklevel=3)
    return precision if precision != "auto" else "bf16" if native else "no"


def exact_small_maps(module: nn.Module) -> ExitStack:
    """A context in which convolutions with a stride compute maps of one pixel in float32.

    On a CPU, oneDNN gives arbitrary gradients for a bfloat16 convolution of 3x3 and stride 2 on a 1x1 map (torch 2.14).
    """

    def exact(forward: Callable[[Tensor], Tensor], image: Tensor) -> Tensor:
        small = image.device.type == "cpu" and min(image.shape[-2:]) == 1
        with torch.autocast("cpu", enabled=False) if small else nullcontext():
            return forward(image.float() if small else image)

    stack = ExitStack()
    for part in module.modules():
        if isinstance(part, nn.Conv2d) and max(part.stride) > 1:
            part.forward = partial(exact, part.forward)
            stack.callback(delattr, part, "forward")  # the method of its class shows again
    return stack
