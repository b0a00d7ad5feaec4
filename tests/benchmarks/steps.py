"""Training steps of DINO and CLIP and the fine-tuning of a text model, against the libraries that people use.

    pip install lightly open_clip_torch
    python tests/benchmarks/steps.py

Both sides have the same networks, the same initial weights, the same batches and the same optimizer, and are timed in
alternation, in float32 and, where the machine computes bfloat16, ours also in that, its default; the curves of their
losses are compared too. lightly's DINO is its documented example, which
encodes each view by itself, so curves are the same only for a network without batch norms. open_clip's loss stands in
a plain loop, and the Trainer of transformers has its defaults. Asked for: DINO 1.4, CLIP 1.3, heads 5 times as fast.
"""

import math
import os
import tempfile
from collections.abc import Callable
from functools import partial

import numpy as np
import timm
import torch
import torch.nn.functional as F
from compare import compare
from lightly.loss import DINOLoss
from lightly.models.modules import DINOProjectionHead
from lightly.models.utils import deactivate_requires_grad, update_momentum
from open_clip.loss import ClipLoss
from torch import Tensor, nn

from mmutils.data import tables
from mmutils.methods import Method
from mmutils.methods.clip import CLIP
from mmutils.methods.dino import DINO
from mmutils.models.encoder import CachedEncoder
from mmutils.models.features import batch_inputs, with_last_layers
from mmutils.models.image import ImageEncoder
from mmutils.models.text import TextEncoder
from mmutils.training.loop import TrainConfig, _prepared_encoders
from mmutils.training.precision import resolved
from mmutils.training.supervised import Trainings, fused_classifier, split_batches

STEPS = 6
PROTOTYPES, MOMENTUM, RATE = 2048, 0.996, 1e-3
EMBEDDING = 256


def ours(method: Method, batches: list[dict], precision: str) -> Callable[[], list[float]]:
    """A step on each batch, as `fit` takes them."""
    optimizer = torch.optim.AdamW(method.parameters(), RATE, fused=True)

    def work() -> list[float]:
        with _prepared_encoders(method, precision, torch.device("cpu")):
            return steps()

    def steps() -> list[float]:
        losses = []
        for step, batch in enumerate(batches):
            optimizer.zero_grad(set_to_none=True)
            loss = method.loss(batch, step / len(batches))
            loss.backward()
            method.before_step(step / len(batches))
            optimizer.step()
            method.after_step(step / len(batches))
            losses.append(loss.detach())
        return torch.stack(losses).tolist()

    return work


def lightly_dino(name: str, head_weights: list[Tensor], batches: list[dict]) -> Callable[[], list[float]]:
    """lightly's example: a student and a teacher, each view by itself."""
    networks = []
    for _ in range(2):
        torch.manual_seed(0)
        encoder = ImageEncoder(name)  # with the same weights as ours
        head = DINOProjectionHead(encoder.dim, 1024, 256, PROTOTYPES)
        for parameter, weight in zip(_trained(head), head_weights, strict=True):
            parameter.data.copy_(weight)
        networks.append((encoder, head))
    (student, student_head), (teacher, teacher_head) = networks
    for part in (teacher, teacher_head):
        deactivate_requires_grad(part)
    criterion = DINOLoss(PROTOTYPES, warmup_teacher_temp=0.04, teacher_temp=0.04)
    parameters = [*student.parameters(), *(p for p in student_head.parameters() if p.requires_grad)]
    optimizer = torch.optim.AdamW(parameters, RATE)

    def work() -> list[float]:
        losses, momentum = [], 1.0
        for step, batch in enumerate(batches):
            update_momentum(student, teacher, m=momentum)
            update_momentum(student_head, teacher_head, m=momentum)
            momentum = 1 - (1 - MOMENTUM) * (1 + math.cos(math.pi * step / len(batches))) / 2
            views = batch["image"]
            with torch.no_grad():
                answers = [teacher_head(teacher({"image": view})) for view in views[:2]]
            guesses = [student_head(student({"image": view})) for view in views]
            loss = criterion(answers, guesses, epoch=0)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
        return losses

    return work


def _trained(head: nn.Module) -> list[nn.Parameter]:
    """Weights and biases of the hidden layers, and the prototypes."""
    *hidden, last = [parameter for parameter in head.parameters() if parameter.shape != (PROTOTYPES, 1)]
    return [*hidden, last]


def plain_clip(images: nn.Module, projections: list[Tensor], batches: list[dict]) -> Callable[[], list[float]]:
    """open_clip's loss in a plain loop, with cached features of the texts."""
    image, text = (nn.Linear(weight.shape[1], EMBEDDING, bias=False) for weight in projections)
    for layer, weight in zip((image, text), projections, strict=True):
        layer.weight.data.copy_(weight)
    scale, criterion = nn.Parameter(torch.tensor(math.log(1 / 0.07))), ClipLoss()
    parameters = [*images.parameters(), *image.parameters(), *text.parameters(), scale]
    optimizer = torch.optim.AdamW(parameters, RATE)

    def work() -> list[float]:
        losses = []
        for batch in batches:
            optimizer.zero_grad()
            seen = F.normalize(image(images(batch["image"].contiguous())), dim=-1)
            read = F.normalize(text(batch["text"]), dim=-1)
            loss = criterion(seen, read, scale.exp())
            loss.backward()
            optimizer.step()
            with torch.no_grad():
                scale.clamp_(0, math.log(100))
            losses.append(loss.item())
        return losses

    return work


def dino(name: str) -> None:
    """2 views of 64 pixels and 6 of 32, a batch of 64."""
    generator = torch.Generator().manual_seed(0)
    batches = []
    for _ in range(STEPS):
        views = [torch.rand(64, 3, size, size, generator=generator) for size in (64, 64, *[32] * 6)]
        views = [view.contiguous(memory_format=torch.channels_last) for view in views]  # as Augment gives them
        batches.append({"image": views, "id": ["0"] * 64})
    method = dino_method(name)
    head = [parameter.detach().clone() for parameter in method.student["head"].parameters()]
    head[-1] = F.normalize(head[-1], dim=-1)  # lightly keeps the prototypes at length 1
    show_curves(f"DINO, {name}", lambda: lightly_dino(name, head, batches), lambda: dino_method(name), batches)


def dino_method(name: str) -> DINO:
    torch.manual_seed(0)
    method = DINO(ImageEncoder(name), PROTOTYPES, momentum=MOMENTUM, teacher_temperature=(0.04, 0.04), freeze=0.0)
    return method.train()


def clip() -> None:
    """ResNet-18 at 64 pixels, a batch of 128, cached texts."""
    generator = torch.Generator().manual_seed(0)
    batches = []
    for step in range(STEPS):
        picture = torch.rand(128, 3, 64, 64, generator=generator).contiguous(memory_format=torch.channels_last)
        text = torch.randn(128, 384, generator=generator)
        key = torch.arange(128) + 128 * step
        batches.append({"image": picture, "text": text, "image_key": key, "text_key": key, "id": ["0"] * 128})
    weights = [layer.weight.detach() for layer in (clip_method().image_projection, clip_method().text_projection)]
    show_curves("CLIP, resnet18", lambda: plain_clip(normalised_resnet(), weights, batches), clip_method, batches)


def clip_method() -> CLIP:
    torch.manual_seed(0)
    return CLIP(ImageEncoder("resnet18"), CachedEncoder("text", 384), EMBEDDING).train()


def normalised_resnet() -> nn.Module:
    """timm's ResNet-18 with the weights of `clip_method`."""
    torch.manual_seed(0)
    encoder = ImageEncoder("resnet18")
    network = timm.create_model("resnet18", num_classes=0)
    network.load_state_dict(encoder.network.state_dict())

    class Normalised(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = network

        def forward(self, image: Tensor) -> Tensor:
            return network((image - encoder.mean) / encoder.std)

    return Normalised().train()


def show_curves(name: str, theirs: Callable, method: Callable[[], Method], batches: list[dict]) -> None:
    """For each precision the largest difference between the losses of the first steps, and the times."""
    for precision in dict.fromkeys(("no", resolved("auto", torch.device("cpu")))):
        baseline, own = theirs(), ours(method(), batches, precision)
        curves = np.array([baseline(), own()])
        label = f"{name}, {'float32' if precision == 'no' else 'ours in bfloat16'}, {STEPS} steps"
        print(f"{label}: losses between {curves.min():.2f} and {curves.max():.2f} differ by at most ", end="")
        print(f"{np.abs(np.diff(curves, axis=0)).max():.1e}")
        compare(label, baseline, own, 3)


def text(count: int = 512) -> None:
    """multilingual-e5-small: 10 epochs of a head on cached features, 3 of the last 4 layers, one of all layers."""
    from transformers import DataCollatorWithPadding, Trainer, TrainingArguments

    rows = tables("emoji_topics", None, count, "en")
    encoder = TextEncoder("intfloat/multilingual-e5-small")
    classes = int(max(rows["train"]["label"])) + 1
    tokens = encoder.tokenizer(rows["train"]["text"].tolist(), truncation=True, max_length=encoder.max_length)
    dataset = [
        {"input_ids": ids, "attention_mask": mask, "labels": label}
        for ids, mask, label in zip(tokens["input_ids"], tokens["attention_mask"], rows["train"]["label"], strict=True)
    ]
    total = sum(map(len, tokens["input_ids"]))

    class WithHead(nn.Module):
        def __init__(self, layers: int):
            super().__init__()
            self.encoder, self.head = TextEncoder(encoder.name, frozen=not layers), nn.Linear(encoder.dim, classes)
            for name in self.encoder.below(layers) if layers > 0 else ():
                self.encoder.get_parameter(name).requires_grad_(False)

        def forward(self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor) -> dict:
            logits = self.head(self.encoder({"input_ids": input_ids, "attention_mask": attention_mask}))
            return {"loss": F.cross_entropy(logits, labels), "logits": logits}

    def trainer(layers: int, epochs: int) -> None:
        with tempfile.TemporaryDirectory() as folder:
            arguments = TrainingArguments(
                folder,
                num_train_epochs=epochs,
                per_device_train_batch_size=32,
                save_strategy="no",
                report_to=[],
                disable_tqdm=True,
                use_cpu=True,
            )
            collator = DataCollatorWithPadding(encoder.tokenizer)
            Trainer(WithHead(layers), arguments, train_dataset=dataset, data_collator=collator).train()

    def own(layers: int, epochs: int) -> None:
        config = TrainConfig(epochs, RATE, encoder_learning_rate=2e-5, precision="no")
        part = {"train": rows["train"], "val": rows["val"].head(32), "test": rows["test"].head(32)}
        with tempfile.TemporaryDirectory() as cache:  # what is computed once is computed each time
            os.environ["MMUTILS_CACHE"] = cache
            start, features = with_last_layers(encoder, part, layers)
        batches = split_batches(part, 32, features, by_length=True, **batch_inputs(start))
        Trainings([0]).train("own", partial(fused_classifier, [start], "gated", classes), batches, config)

    for name, layers, epochs in (("head on features", 0, 10), ("last 4 layers", 4, 3), ("whole network", -1, 1)):
        print(f"{name}: {total:,} tokens an epoch, {epochs} epochs")
        theirs, mine = (partial(work, layers, epochs) for work in (trainer, own))
        compare(f"multilingual-e5-small, {name}", theirs, mine, 3)


if __name__ == "__main__":
    torch.set_num_threads(2)
    for network in ("resnet18", "convnext_atto"):
        dino(network)
    clip()
    text()
