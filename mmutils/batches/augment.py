"""Random views of whole batches of pictures, drawn for each picture separately; DINO's multi-crop.

The recipe is that of SimCLR (2020, https://arxiv.org/abs/2002.05709) and DINO (2021, https://arxiv.org/abs/2104.14294).
All random numbers come from the CPU generator that is passed in, so views are the same on every device. Mirroring makes
printed text unreadable and small crops cut it off: `text_safe` avoids both.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

# from (R, G, B): ITU-R 601 luma, as in Pillow and torchvision; two rows of chroma that sum to 0, so grey stays grey
YIQ = ((0.2989, 0.587, 0.114), (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112))


@dataclass(frozen=True)
class Augment:
    """One random view of each picture: uint8 (B, 3, H, W), CPU generator -> float32 (B, 3, size, size) in [0, 1].

    `jitter`, `grey`, `blur` and `solarise` are shares of pictures. ValueError for values out of range.
    """

    size: int  # pixels
    scale: tuple[float, float] = (0.35, 1.0)  # share of the area that is cut out
    ratio: tuple[float, float] = (3 / 4, 4 / 3)  # width / height of what is cut out
    flip: bool = True  # mirror half of the pictures
    jitter: float = 0.8  # share whose colours change:
    brightness: float = 0.4  # by a factor within 1 +- this
    contrast: float = 0.4
    saturation: float = 0.2
    hue: float = 0.1  # by at most this share of a full turn
    grey: float = 0.2
    blur: float = 0.0
    blur_sigma: tuple[float, float] = (0.1, 2.0)  # pixels of the view
    solarise: float = 0.0

    @classmethod
    def text_safe(cls, size: int, **changes) -> "Augment":
        """For printed text: never mirrored, at least 0.8 of the area, hardly stretched; or as `changes` say."""
        return cls(size, **{"scale": (0.8, 1.0), "ratio": (0.9, 1.1), "flip": False, **changes})

    def __post_init__(self):
        shares = [self.jitter, self.grey, self.blur, self.solarise, self.contrast, self.saturation, self.brightness]
        ordered = all(0 < low <= high for low, high in (self.scale, self.ratio, self.blur_sigma))
        if self.size < 1 or not ordered or not all(0 <= share <= 1 for share in (*shares, 2 * self.hue, self.scale[1])):
            need = "size >= 1, ranges above 0 with the smaller value first, shares within 0..1, hue within 0..0.5"
            raise ValueError(f"need {need}; given {self}")

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        draws = torch.rand(14, len(images), generator=generator)  # uniform in [0, 1)
        area, aspect, top, left, mirror, jittered, *changes, grey, blurred, sigma, solarised = draws
        boxes = self._boxes(area, aspect, top, left, *images.shape[-2:])
        views = resized_crop(images, boxes, (mirror < 0.5) & self.flip, self.size)
        strengths = torch.tensor([self.brightness, self.contrast, self.saturation, self.hue])[:, None]
        brightness, contrast, saturation, hue = (2 * torch.stack(changes) - 1) * strengths * (jittered < self.jitter)
        views = apply_colour(views, 1 + brightness, 1 + contrast, 1 + saturation, hue, grey < self.grey)
        if len(rows := (blurred < self.blur).nonzero()[:, 0].to(views.device)):
            low, high = self.blur_sigma
            views[rows] = gaussian_blur(views[rows], (low + sigma * (high - low)).to(views.device)[rows])
        if len(rows := (solarised < self.solarise).nonzero()[:, 0].to(views.device)):
            views[rows] = torch.where(views[rows] >= 0.5, 1 - views[rows], views[rows])
        return views

    def _boxes(self, area: Tensor, aspect: Tensor, top: Tensor, left: Tensor, height: int, width: int) -> Tensor:
        """Uniform numbers (B,) each -> int (B, 4): top, left, height, width in pixels; too long a side is cut."""
        low, high = math.log(self.ratio[0]), math.log(self.ratio[1])
        area = (self.scale[0] + area * (self.scale[1] - self.scale[0])) * height * width  # pixels
        aspect = torch.exp(low + aspect * (high - low))
        box_height = (area / aspect).sqrt().round().clamp(1, height)
        box_width = (area * aspect).sqrt().round().clamp(1, width)
        top, left = (top * (height - box_height + 1)).floor(), (left * (width - box_width + 1)).floor()
        return torch.stack([top, left, box_height, box_width], dim=1).long()


@dataclass(frozen=True)
class MultiCrop:
    """A list of V views of each picture, by Augment. Views of equal size are neighbours, so methods can batch them."""

    views: tuple[Augment, ...]

    @classmethod
    def dino(
        cls,
        global_size: int = 224,
        local_size: int = 96,
        local_views: int = 8,
        global_scale: tuple[float, float] = (0.4, 1.0),
        local_scale: tuple[float, float] = (0.05, 0.4),
        text_safe: bool = False,
        **changes,
    ) -> "MultiCrop":
        """DINO's two global views and several local ones, with the authors' shares of blur and solarisation.

        Args:
            global_size, local_size: side in pixels.
            global_scale, local_scale: smallest and largest share of the area that a view shows, in (0, 1].
            text_safe: never mirror, hardly stretch, local views of 0.3 to 0.7 of the area or more.
            changes: fields of Augment, in all views.
        """
        if text_safe:
            local_scale = max(local_scale[0], 0.3), max(local_scale[1], 0.7)
            changes = {"flip": False, "ratio": (0.9, 1.1), **changes}
        first = Augment(global_size, **{"scale": global_scale, "blur": 1.0, **changes})
        second = Augment(global_size, **{"scale": global_scale, "blur": 0.1, "solarise": 0.2, **changes})
        local = Augment(local_size, **{"scale": local_scale, "blur": 0.5, **changes})
        return cls((first, second, *[local] * local_views))

    def __call__(self, images: Tensor, generator: torch.Generator) -> list[Tensor]:
        return [view(images, generator) for view in self.views]


def derived_seed(*numbers: int) -> int:
    """One seed from several numbers, such as (seed, epoch): different for (0, 1) and (1, 0), unlike their sum."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0]) >> 1


def resized_crop(images: Tensor, boxes: Tensor, mirror: Tensor, size: int) -> Tensor:
    """Cut a box (top, left, height, width) out of each picture, resize it (bilinear, antialiased), mirror some.

    images uint8 (B, 3, H, W), boxes int (B, 4) and mirror bool (B,) on the CPU -> float32 (B, 3, size, size) in [0, 1],
    channels last. Results on CPU and GPU differ by less than 1/255.
    """
    if images.device.type == "cpu":  # torch's kernel for bytes is faster than products; on a GPU it is the other way
        views = torch.empty(len(images), 3, size, size, dtype=torch.uint8, memory_format=torch.channels_last)
        for image, view, (top, left, height, width) in zip(images, views, boxes.tolist(), strict=True):
            box = image[None, :, top : top + height, left : left + width]
            view.copy_(F.interpolate(box, (size, size), mode="bilinear", antialias=True)[0])
        views[mirror] = views[mirror].flip(-1)
        return views.float().div_(255)
    boxes, mirror = boxes.to(images.device), mirror.to(images.device)
    rows = _resize_matrix(boxes[:, 0], boxes[:, 2], images.shape[2], size)
    columns = _resize_matrix(boxes[:, 1], boxes[:, 3], images.shape[3], size)
    columns = torch.where(mirror[:, None, None], columns.flip(1), columns)
    return _separable(images.float().div_(255), rows, columns).contiguous(memory_format=torch.channels_last)


def apply_colour(
    images: Tensor, brightness: Tensor, contrast: Tensor, saturation: Tensor, hue: Tensor, grey: Tensor
) -> Tensor:
    """Change colours: factors of brightness, contrast, saturation, turns of hue, and grey where marked, (B,) each.

    images float (B, 3, H, W) in [0, 1], not changed in place. All changes are one affine map of (R, G, B) per picture,
    so a batch takes one matrix product. So their order is fixed, values are cut to [0, 1] once at the end, and hue
    turns about the grey axis in YIQ, not in HSV as in torchvision.
    """
    device, yiq = images.device, torch.tensor(YIQ, dtype=torch.float64)
    luma, identity = yiq[0], torch.eye(3, dtype=torch.float64)
    cosine, sine = torch.cos(2 * math.pi * hue.double()), torch.sin(2 * math.pi * hue.double())
    turn = identity.repeat(len(images), 1, 1)
    turn[:, 1, 1], turn[:, 1, 2], turn[:, 2, 1], turn[:, 2, 2] = cosine, sine, -sine, cosine
    turn = torch.linalg.inv(yiq) @ turn @ yiq  # (B, 3, 3)
    colourful = torch.where(grey.bool(), 0, saturation)[:, None, None]  # saturation 0 is grey, whatever the hue
    matrix = turn @ (colourful * identity + (1 - colourful) * luma)  # luma in every row: grey
    gain, lift = (brightness * contrast).to(device), (brightness * (1 - contrast)).to(device)  # (B,)
    matrix = matrix.float().to(device) * gain[:, None, None]
    pixels = images.permute(0, 2, 3, 1).flatten(1, 2)  # (B, H * W, 3)
    mean = pixels.mean(1) @ luma.float().to(device)  # (B,) of the grey picture: what contrast is about
    changed = torch.bmm(pixels, matrix.transpose(1, 2))
    changed.add_((lift * mean)[:, None, None]).clamp_(0, 1)
    return changed.view(len(images), *images.shape[2:], 3).permute(0, 3, 1, 2)


def gaussian_blur(images: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian blur: (B, 3, H, W) in [0, 1], standard deviations (B,) in pixels -> (B, 3, H, W).

    At the border the kernel's part inside the picture is scaled up to a sum of 1.
    """
    matrices = []
    for length in images.shape[2:]:
        place = torch.arange(length, device=images.device)
        weights = torch.exp(-0.5 * ((place[:, None] - place) / sigma[:, None, None]) ** 2)  # (B, length, length)
        weights = weights * (weights > 1e-6)  # denormal numbers are slow
        matrices.append(weights / weights.sum(-1, keepdim=True))
    return _separable(images, *matrices).clamp_(0, 1)  # rounding


def _separable(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """(B, 3, H, W), (B, h, H), (B, w, W) -> (B, 3, h, w)."""
    return rows[:, None] @ images @ columns[:, None].transpose(-1, -2)


def _resize_matrix(start: Tensor, length: Tensor, source: int, target: int) -> Tensor:
    """Weights (B, target, source) that resize [start, start + length) of a line: triangles about the new centers."""
    start, length = start[:, None, None].float(), length[:, None, None].float()  # (B, 1, 1)
    step = length / target
    centers = start + (torch.arange(target, device=start.device)[:, None] + 0.5) * step  # (B, target, 1)
    places = torch.arange(source, device=start.device) + 0.5  # (source,)
    weights = (1 - (places - centers).abs() / step.clamp(min=1)).clamp(min=0)
    weights = weights * ((places > start) & (places < start + length))
    return weights / weights.sum(-1, keepdim=True)
