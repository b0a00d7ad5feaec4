"""Operations on batches of pictures with separate parameters for each: crop and resize, colour, blur, solarise.

Brightness, contrast, saturation, hue and grey together are one affine map of (R, G, B) per picture, so a batch takes
one matrix product. So their order is fixed, values are cut to [0, 1] once at the end, and hue turns about the grey axis
in YIQ, not in HSV as in torchvision. Resizing and blur are a matrix for the rows and one for the columns.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

YIQ = (  # the matrix from (R, G, B)
    (0.2989, 0.587, 0.114),  # Y: ITU-R 601 luma, as in Pillow and torchvision
    (0.5959, -0.2746, -0.3213),  # chroma rows sum to 0: grey stays grey
    (0.2115, -0.5227, 0.3112),
)


def resized_crop(images: Tensor, boxes: Tensor, mirror: Tensor, size: int) -> Tensor:
    """Cut a box (top, left, height, width) out of each picture, resize it (bilinear, antialiased), mirror some.

    images uint8 (B, 3, H, W), boxes int (B, 4) and mirror bool (B,) on the CPU -> float32 (B, 3, size, size) in [0, 1].
    Results on CPU and GPU differ by less than 1/255.
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

    images float (B, 3, H, W) in [0, 1], not changed in place; the result is cut to [0, 1].
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

    def matrix(length: int) -> Tensor:
        place = torch.arange(length, device=images.device)
        weights = torch.exp(-0.5 * ((place[:, None] - place) / sigma[:, None, None]) ** 2)  # (B, length, length)
        weights = weights * (weights > 1e-6)  # denormal numbers are slow
        return weights / weights.sum(-1, keepdim=True)

    return _separable(images, matrix(images.shape[2]), matrix(images.shape[3])).clamp_(0, 1)  # rounding


def solarise(images: Tensor) -> Tensor:
    """Invert the values from 0.5 on; images in [0, 1]."""
    return torch.where(images >= 0.5, 1 - images, images)


def _separable(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """(B, 3, H, W), (B, h, H), (B, w, W) -> (B, 3, h, w)."""
    return rows[:, None] @ images @ columns[:, None].transpose(-1, -2)


def _resize_matrix(start: Tensor, length: Tensor, source: int, target: int) -> Tensor:
    """Weights (B, target, source) that resize [start, start + length) of a line of pixels.

    Each row is a triangle around the new pixel's center, as wide as the larger of an old and a new pixel.
    """
    start, length = start[:, None, None].float(), length[:, None, None].float()  # (B, 1, 1)
    step = length / target
    centers = start + (torch.arange(target, device=start.device)[:, None] + 0.5) * step  # (B, target, 1)
    places = torch.arange(source, device=start.device) + 0.5  # (source,)
    weights = (1 - (places - centers).abs() / step.clamp(min=1)).clamp(min=0)
    weights = weights * ((places > start) & (places < start + length))
    return weights / weights.sum(-1, keepdim=True)
