"""What the paper profile costs: memory and time on one 16 GB GPU, estimated without one.

    python tests/benchmarks/paper_costs.py

The encoders are built at full size, and a step with them in bfloat16 is traced without being computed (torch's
FakeTensorMode). Memory: 16 bytes a trained parameter (weight, gradient, two moments), 4 for one of DINO's teacher, and
every tensor that is kept for the backward pass; heads, the allocator's slack and workspaces come on top: 1 to 2 GB.
Time: its floating point operations at 12 TFLOP/s, a guess at what a GPU of that size (RTX A4000, 4060 Ti) gets through:
more in a transformer, less in a convolutional network. Evaluation after each epoch adds about a tenth.
"""

import compare  # noqa: F401, lets mmutils be found
import torch
import transformers
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from mmutils.models.encoder import Encoded, Encoder
from mmutils.models.image import ImageEncoder

RATE = 12e12  # floating point operations a second
CRISIS, MEMES = 6126, 8500  # examples of train
RESNET, VIT = "resnet50", "vit_base_patch16_{}"


class Text(Encoder):
    """DistilBERT."""

    def __init__(self):
        super().__init__()
        self.model = transformers.AutoModel.from_config(transformers.DistilBertConfig())

    def encode(self, batch: dict) -> Encoded:
        return Encoded(self.model(input_ids=batch["input_ids"]).last_hidden_state.mean(dim=1))


def step(encoders: list[Encoder], batch: int, views: int = 1) -> tuple[float, float]:
    """Bytes that are kept, parameters included, and operations an example; all encoders learn, from `views` views."""
    kept: dict[int, int] = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        kept[storage._cdata] = storage.nbytes() if storage._cdata not in own else 0
        return tensor

    own = {p.untyped_storage()._cdata for encoder in encoders for p in encoder.parameters()}
    counter = FlopCounterMode(display=False)
    hooks = torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)
    with FakeTensorMode(allow_non_fake_inputs=True), counter, hooks, torch.autocast("cpu", torch.bfloat16):
        ids = torch.zeros(batch, 64, dtype=torch.long)
        sizes = [getattr(encoder, "size", 1) for encoder in encoders]
        inputs = [{"image": torch.rand(batch * views, 3, size, size), "input_ids": ids} for size in sizes]
        sum(e.train()(given).float().sum() for e, given in zip(encoders, inputs, strict=True)).backward()
    parameters = sum(p.numel() for encoder in encoders for p in encoder.parameters())
    return 16 * parameters + sum(kept.values()), counter.get_total_flops() / batch


def show(name: str, examples: int, epochs: int, encoders: list[Encoder], batch: int, views: int = 1, teacher: int = 0):
    """Print a line; teacher: views that a copy of the encoders sees too, without learning."""
    memory, operations = step(encoders, batch, views)
    if teacher:
        memory += 4 * sum(p.numel() for encoder in encoders for p in encoder.parameters())
        operations *= 1 + teacher / views / 3
    hours = operations * examples * epochs / RATE / 3600
    print(f"{name:<46} batch {batch:>2}: {memory / 1e9:5.1f} GB, {hours:5.1f} hours a seed", flush=True)


if __name__ == "__main__":
    for name in ("resnet18", "vgg16", "inception_v3"):
        show(f"image, {name}", CRISIS, 10, [ImageEncoder(name)], 64)
    for size in (224, 384):
        networks = [ImageEncoder(RESNET, size=size), ImageEncoder(VIT.format(size), size=size)]
        large, small = (64, 32) if size == 224 else (32, 16)
        for network in networks:
            show(f"clip, {network.name}, {size} px", MEMES, 50, [network], large)
            show(f"dino, {network.name}, {size} px", MEMES, 50, [network], 32 if size == 224 else 12, 4, teacher=2)
            for words in ([], [Text()]):
                kind = "text too" if words else "alone"
                show(f"fine-tuning, {network.name}, {size} px, {kind}", MEMES, 7, [network, *words], small)
        show(f"cass, {size} px, each of two losses", MEMES, 50, networks, small)
        show(f"cass-mm, {size} px, each of two losses", MEMES, 50, [*networks, Text(), Text()], small)
