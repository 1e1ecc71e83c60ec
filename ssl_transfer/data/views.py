"""Random views of a batch of images, made on the device with randomness per image.

Crop, flip, shift and rotation are one affine grid per image and a single `grid_sample`; blur is a product with one
matrix an axis; brightness, contrast, saturation, hue and grey-scale are one 3×3 matrix and an offset per image.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_transfer.data.randomness import KeyedRandom

_GREY = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class Views:
    """What may happen to an image on its way to becoming a view; `None` means: chosen for the image size and channels.

    Args:
        crop_scale: range of the crop's area as a share of the image, e.g. (0.2, 1.0).
        crop_ratio: range of the crop's width over height.
        horizontal_flip, vertical_flip: probabilities.
        translate: largest shift beyond the crop, as a share of the side; the border is repeated outward.
        rotate: largest rotation in degrees.
        jitter: probability of a colour change.
        brightness, contrast, saturation, hue: its strengths, as in torchvision's ColorJitter (hue: share of a turn);
            saturation and hue are skipped unless the image has three channels.
        grey: probability of dropping the colour.
        blur: probability of a Gaussian blur; `blur_sigma`: range of its width, as a share of the side.
        erase: probability of erasing a rectangle; `erase_scale`: range of its area as a share of the image.
        recolour: probability that each channel's black and white become levels of its own, drawn from [0, 1] and at
            least `recolour_contrast` apart; white may become the darker one. For tasks in which shape counts and
            colour, brightness and polarity do not.
        clutter: how far the levels of a recoloured image may drift over the image, in a smooth random pattern, white
            against black or with it, so that backgrounds do not count either.

    The recipe is SimCLR's (Chen et al. 2020, https://arxiv.org/abs/2002.05709), milder on small images.

    >>> Views(horizontal_flip=0.0).resolve(size=28, channels=1).blur
    0.0
    """

    crop_scale: tuple[float, float] | None = None
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    horizontal_flip: float = 0.5
    vertical_flip: float = 0.0
    translate: float = 0.0
    rotate: float = 0.0
    jitter: float = 0.8
    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.1
    grey: float = 0.2
    blur: float | None = None
    blur_sigma: tuple[float, float] = (0.005, 0.02)
    erase: float = 0.0
    erase_scale: tuple[float, float] = (0.02, 0.2)
    recolour: float = 0.0
    recolour_contrast: float = 0.25
    clutter: float = 0.0

    def __post_init__(self) -> None:
        for name in ("horizontal_flip", "vertical_flip", "jitter", "grey", "blur", "erase", "recolour"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise ValueError(f"views.{name} must be a probability between 0 and 1, not {value}")
        for name in ("crop_scale", "crop_ratio", "blur_sigma", "erase_scale"):
            value = getattr(self, name)
            if value is not None and not 0 < value[0] <= value[1]:
                raise ValueError(f"views.{name} must be (low, high) with 0 < low <= high, not {value}")
        for name in ("translate", "rotate", "brightness", "contrast", "saturation", "hue", "clutter"):
            if getattr(self, name) < 0:
                raise ValueError(f"views.{name} must be 0 or more, not {getattr(self, name)}")
        if self.hue > 0.5:
            raise ValueError(f"views.hue is a share of a turn either way and must not exceed 0.5, not {self.hue}")
        if not 0 <= self.recolour_contrast <= 1:
            raise ValueError(f"views.recolour_contrast must lie between 0 and 1, not {self.recolour_contrast}")
        for name in ("crop_scale", "erase_scale"):
            value = getattr(self, name)
            if value is not None and value[1] > 1:
                raise ValueError(f"views.{name} is a share of the image's area and must not exceed 1, not {value}")

    def resolve(self, size: int, channels: int) -> Views:
        """The same views with every `None` filled in for `size` × `size` images of `channels` channels."""
        small = size <= 16
        scale = (0.5, 1.0) if small else (0.3, 1.0) if size <= 64 else (0.2, 1.0)
        coloured = channels == 3
        return replace(
            self,
            crop_scale=self.crop_scale or scale,
            blur=self.blur if self.blur is not None else (0.5 if size >= 64 else 0.0),
            saturation=self.saturation if coloured else 0.0,
            hue=self.hue if coloured else 0.0,
            grey=self.grey if coloured else 0.0,
        )

    def __call__(self, images: Tensor, rng: KeyedRandom) -> Tensor:
        """One view of each image: `(B, C, H, W)` uint8 (or float in [0, 1]) to float in [0, 1], same shape."""
        views = self.resolve(images.shape[-1], images.shape[1])
        with torch.autocast(images.device.type, enabled=False):  # bfloat16 grids would be off by whole pixels
            x = to_float(images).float()
            boxes = views._boxes(rng, height=x.shape[-2], width=x.shape[-1])
            x = views._geometry(x, boxes, rng)
            x = views._colour(x, rng)
            return views._recolour(views._erase(x.clamp_(0, 1), rng), rng)

    def _boxes(self, rng: KeyedRandom, height: int, width: int) -> Tensor:
        """Crop centre and signed extent in pixels, `(B, 4)`: y, x, height, width; a negative width is a flip."""
        assert self.crop_scale is not None
        area = rng.uniform(low=self.crop_scale[0], high=self.crop_scale[1])
        log_ratio = rng.uniform(low=math.log(self.crop_ratio[0]), high=math.log(self.crop_ratio[1]))
        h = ((area / log_ratio.exp()).sqrt()).clamp(max=1)
        w = ((area * log_ratio.exp()).sqrt()).clamp(max=1)
        shift = rng.uniform(2, low=-self.translate, high=self.translate)
        y = h / 2 + (1 - h) * rng.uniform() + shift[:, 0]
        x = w / 2 + (1 - w) * rng.uniform() + shift[:, 1]
        h = torch.where(rng.chance(self.vertical_flip), -h, h)
        w = torch.where(rng.chance(self.horizontal_flip), -w, w)
        return torch.stack([y * height, x * width, h * height, w * width], dim=1)

    def _geometry(self, x: Tensor, boxes: Tensor, rng: KeyedRandom) -> Tensor:
        assert self.blur is not None
        degrees = rng.uniform(low=-self.rotate, high=self.rotate)
        x = crop(x, boxes, torch.deg2rad(degrees))
        if not self.blur:
            return x
        sigma = rng.uniform(low=self.blur_sigma[0], high=self.blur_sigma[1]) * x.shape[-1]
        chosen = rng.chance(self.blur)
        if x.device.type != "cpu":  # where picking some would make the device wait
            return gaussian_blur(x, torch.where(chosen, sigma, torch.zeros_like(sigma)))
        rows = chosen.nonzero()[:, 0]
        return x.index_copy(0, rows, gaussian_blur(x[rows], sigma[rows]))

    def _colour(self, x: Tensor, rng: KeyedRandom) -> Tensor:
        channels = x.shape[1]
        jittered = rng.chance(self.jitter)

        def factor(strength: float) -> Tensor:
            drawn = rng.uniform(low=max(0.0, 1 - strength), high=1 + strength)
            return torch.where(jittered, drawn, torch.ones_like(drawn))

        brightness, contrast = factor(self.brightness), factor(self.contrast)
        grey_mean = (x if channels != 3 else grey_scale(x)).mean(dim=(1, 2, 3))  # (B,)
        scale, offset = brightness * contrast, brightness * (1 - contrast) * grey_mean
        if channels != 3:
            return x * scale[:, None, None, None] + offset[:, None, None, None]
        saturation = factor(self.saturation)
        saturation = torch.where(rng.chance(self.grey), torch.zeros_like(saturation), saturation)
        turn = rng.uniform(low=-self.hue, high=self.hue) * (2 * math.pi)
        matrix = colour_matrix(saturation, torch.where(jittered, turn, torch.zeros_like(turn)))  # (B, 3, 3)
        flat = torch.baddbmm(offset[:, None, None], matrix * scale[:, None, None], x.flatten(2))
        return flat.view_as(x)

    def _erase(self, x: Tensor, rng: KeyedRandom) -> Tensor:
        if not self.erase:
            return x
        height, width = x.shape[-2:]
        side = rng.uniform(low=self.erase_scale[0], high=self.erase_scale[1]).sqrt()
        side = torch.where(rng.chance(self.erase), side, torch.zeros_like(side))
        inside_rows = _interval(rng, side, height)[:, None, :, None]
        inside_columns = _interval(rng, side, width)[:, None, None, :]
        mean = x.mean(dim=(2, 3), keepdim=True)
        return torch.where(inside_rows & inside_columns, mean, x)

    def _recolour(self, x: Tensor, rng: KeyedRandom) -> Tensor:
        if not self.recolour:
            return x
        black, white = rng.uniform(x.shape[1], 2).unbind(-1)  # (B, C)
        chosen = rng.chance(self.recolour)
        half = (white - black).abs().clamp(min=self.recolour_contrast) / 2
        middle = torch.minimum(torch.maximum((white + black) / 2, half), 1 - half)
        up = torch.where(white > black, half, -half)
        black, white = middle - up, middle + up
        black, white = (torch.where(chosen[:, None], own, fixed) for own, fixed in ((black, 0.0), (white, 1.0)))
        black, white = black[..., None, None], white[..., None, None]
        if not self.clutter:
            return torch.addcmul(black, x, white - black)
        drift, along = self._drift(x, rng)
        drift = torch.where(chosen[:, None, None, None], drift, torch.zeros_like(drift))
        black, white = (black + drift).clamp(0, 1), (white + along * drift).clamp(0, 1)
        return torch.addcmul(black, x, white - black)

    def _drift(self, x: Tensor, rng: KeyedRandom) -> tuple[Tensor, Tensor]:
        """A smooth pattern of black's level `(B, C, H, W)`, and white's share in it, from -1 to 1, `(B, 1, 1, 1)`."""
        pattern = torch.zeros_like(x)
        for grid, strength in ((2, 1.0), (5, 0.7), (12, 0.5)):
            coarse = rng.uniform(1, grid, grid, low=-strength, high=strength)
            tint = rng.uniform(x.shape[1], low=0.5, high=1.0)[..., None, None]
            pattern += F.interpolate(coarse, x.shape[-2:], mode="bilinear", align_corners=True) * tint
        pattern *= rng.uniform(1, 1, 1, high=self.clutter)
        return pattern, rng.uniform(1, 1, 1, low=-1.0, high=1.0)


def to_float(images: Tensor) -> Tensor:
    """uint8 in 0…255 to float in [0, 1]; floats pass through unchanged."""
    return images.float().div_(255) if images.dtype == torch.uint8 else images


def grey_scale(x: Tensor) -> Tensor:
    """Luminance (ITU-R 601) of RGB images `(B, 3, H, W)`, as `(B, 1, H, W)`."""
    weights = torch.tensor(_GREY, device=x.device, dtype=x.dtype)
    return (x * weights[:, None, None]).sum(1, keepdim=True)


def separable(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """`rows @ x @ columnsᵀ` for every channel: x `(B, C, H, W)`, rows `(B, h, H)`, columns `(B, w, W)`."""
    across = (x.flatten(1, 2) @ columns.transpose(-1, -2)).unflatten(1, x.shape[1:3])  # (B, C, H, w)
    return rows[:, None] @ across  # (B, C, h, w)


def gaussian_blur(x: Tensor, sigma: Tensor) -> Tensor:
    """Images `(B, C, H, W)` blurred by `sigma` `(B,)` pixels each, 0 for none."""
    height, width = x.shape[-2:]
    columns = blurring_matrix(sigma, width)
    return separable(x, columns if height == width else blurring_matrix(sigma, height), columns)


def blurring_matrix(sigma: Tensor, size: int) -> Tensor:
    """Matrices `(B, size, size)` of a Gaussian blur along one axis; sigma in pixels, 0 for none; rows sum to one."""
    grid = torch.arange(size, device=sigma.device, dtype=sigma.dtype)
    distance = grid[:, None] - grid
    weights = torch.exp(-0.5 * (distance / sigma.clamp(min=1e-3)[:, None, None]) ** 2)
    return weights / weights.sum(-1, keepdim=True)


def crop(x: Tensor, boxes: Tensor, radians: Tensor) -> Tensor:
    """Cut `boxes` out of images `(B, C, H, W)`, turned about each box's centre by `radians` `(B,)`, resized to H × W.

    boxes: y, x, height, width in pixels, `(B, 4)`; a negative height or width is a flip. Sampling is bilinear; outside
    the image its border pixel repeats.
    """
    height, width = x.shape[-2:]
    y, cx, h, w = boxes.unbind(1)
    cos, sin = radians.cos(), radians.sin()
    theta = torch.stack(
        [
            torch.stack([w / width * cos, -h / width * sin, 2 * cx / width - 1], dim=1),
            torch.stack([w / height * sin, h / height * cos, 2 * y / height - 1], dim=1),
        ],
        dim=1,
    )  # (B, 2, 3)
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False)


def colour_matrix(saturation: Tensor, radians: Tensor) -> Tensor:
    """RGB matrices `(B, 3, 3)` that scale the colour by `saturation` and turn it by `radians` about the grey axis.

    The turn is made in YIQ space, which keeps the luminance and is linear, unlike HSV.
    """
    to_yiq = torch.tensor(
        [_GREY, (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112)], device=saturation.device, dtype=torch.float32
    )
    cos, sin, zero = saturation * radians.cos(), saturation * radians.sin(), torch.zeros_like(radians)
    turn = torch.stack([zero + 1, zero, zero, zero, cos, -sin, zero, sin, cos], dim=1).view(-1, 3, 3)
    return torch.linalg.inv(to_yiq) @ turn @ to_yiq


def _interval(rng: KeyedRandom, side: Tensor, size: int) -> Tensor:
    """Which of `size` positions lie in a random interval of length `side · size`, `(B, size)`."""
    start = rng.uniform() * (1 - side)
    position = (torch.arange(size, device=side.device) + 0.5) / size
    return (position >= start[:, None]) & (position < (start + side)[:, None])
