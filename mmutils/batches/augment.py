"""Random views of whole batches of pictures, drawn for each picture separately; DINO's multi-crop.

The recipe is that of SimCLR (2020, https://arxiv.org/abs/2002.05709) and DINO (2021, https://arxiv.org/abs/2104.14294).
All random numbers come from the CPU generator that is passed in, so views are the same on every device. Mirroring makes
printed text unreadable and small crops cut it off: `text_safe` avoids both.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from mmutils.batches.pixels import apply_colour, gaussian_blur, resized_crop, solarise


@dataclass(frozen=True)
class Augment:
    """One random view of each picture: uint8 (B, 3, H, W), CPU generator -> float32 (B, 3, size, size) in [0, 1].

    `jitter`, `grey`, `blur` and `solarise` are shares of pictures. Memory is channels last. ValueError for values out
    of range.
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
        low, high = self.scale
        if self.size < 1 or not 0 < low <= high <= 1 or not 0 < self.ratio[0] <= self.ratio[1]:
            raise ValueError(f"need size >= 1, 0 < scale <= 1, ratio > 0, smaller one first; given {self}")
        shares = (self.jitter, self.grey, self.blur, self.solarise, self.contrast, self.saturation, self.brightness)
        in_range = all(0 <= share <= 1 for share in shares) and 0 <= self.hue <= 0.5
        if not in_range or not 0 < self.blur_sigma[0] <= self.blur_sigma[1]:
            raise ValueError(f"shares and factors are within 0..1, hue within 0..0.5, blur_sigma above 0; given {self}")

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        draws = torch.rand(14, len(images), generator=generator)  # uniform in [0, 1)
        area, aspect, top, left, mirror, *colour, blurred, sigma, solarised = draws
        boxes = self._boxes(area, aspect, top, left, *images.shape[-2:])
        views = resized_crop(images, boxes, (mirror < 0.5) & self.flip, self.size)
        views = apply_colour(views, *self._colour(*colour))
        if len(rows := (blurred < self.blur).nonzero()[:, 0].to(views.device)):
            low, high = self.blur_sigma
            views[rows] = gaussian_blur(views[rows], (low + sigma * (high - low)).to(views.device)[rows])
        if len(rows := (solarised < self.solarise).nonzero()[:, 0].to(views.device)):
            views[rows] = solarise(views[rows])
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

    def _colour(self, jittered: Tensor, *draws: Tensor) -> tuple[Tensor, ...]:
        """Uniform numbers (B,) each -> apply_colour's arguments (B,) each."""
        *draws, grey = draws
        strengths = (self.brightness, self.contrast, self.saturation, self.hue)
        brightness, contrast, saturation, hue = (
            (2 * draw - 1) * strength * (jittered < self.jitter)
            for draw, strength in zip(draws, strengths, strict=True)
        )
        return 1 + brightness, 1 + contrast, 1 + saturation, hue, grey < self.grey


@dataclass(frozen=True)
class MultiCrop:
    """Several views of each picture: uint8 (B, 3, H, W), CPU generator -> a list of V results of Augment.

    `MultiCrop((augment, augment))` gives two views of one kind. Views of equal size are neighbours in the list, so that
    a method can batch them.
    """

    views: tuple[Augment, ...]

    @classmethod
    def dino(
        cls,
        global_size: int = 224,
        local_size: int = 96,
        local_views: int = 8,
        global_scale: tuple[float, float] | None = None,
        local_scale: tuple[float, float] = (0.05, 0.4),
        text_safe: bool = False,
        **changes,
    ) -> "MultiCrop":
        """DINO's two global views and several local ones, with the authors' shares of blur and solarisation.

        Args:
            global_scale: by default (0.4, 1), or (0.14, 1) without local views, as the authors advise.
            text_safe: never mirror, and cut mildly: global views of at least 0.7, local ones of 0.3 to 0.7 of the area.
            changes: fields of Augment, for all views.
        """
        if text_safe:
            global_scale, local_scale = global_scale or (0.7, 1.0), (max(local_scale[0], 0.3), max(local_scale[1], 0.7))
        global_scale = global_scale or ((0.4, 1.0) if local_views else (0.14, 1.0))
        common = {"flip": not text_safe, **({"ratio": (0.9, 1.1)} if text_safe else {}), **changes}
        first = Augment(global_size, **{"scale": global_scale, "blur": 1.0, **common})
        second = Augment(global_size, **{"scale": global_scale, "blur": 0.1, "solarise": 0.2, **common})
        local = Augment(local_size, **{"scale": local_scale, "blur": 0.5, **common})
        return cls((first, second, *[local] * local_views))

    def __call__(self, images: Tensor, generator: torch.Generator) -> list[Tensor]:
        return [view(images, generator) for view in self.views]
