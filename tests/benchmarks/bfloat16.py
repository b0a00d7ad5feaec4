"""What bfloat16 costs or gains on this machine: python tests/benchmarks/bfloat16.py

One forward and backward pass of a ResNet-18 over 64 pictures of 32 pixels under autocast, beside one in float32. A
processor without bfloat16 emulates it; `auto` does not ask it to.
"""

import timm
import torch
from compare import compare

from mmutils.training.precision import resolved


def main() -> None:
    network, pictures = timm.create_model("resnet18", num_classes=7), torch.rand(64, 3, 32, 32)

    def step(bfloat16: bool) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            loss = network(pictures).float().square().mean()
        loss.backward()

    print(f'precision="auto" is "{resolved("auto", torch.device("cpu"))}" here')
    compare("bfloat16 against float32", lambda: step(False), lambda: step(True), repeats=3)


if __name__ == "__main__":
    main()
