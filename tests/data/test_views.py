"""The views against torchvision's one-image transforms and closed forms."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
import torchvision.transforms.v2.functional as tv
from torch import Tensor

from ssl_transfer.data.randomness import KeyedRandom
from ssl_transfer.data.views import Views, blurring_matrix, colour_matrix, crop, grey_scale, separable, to_float

IDENTITY = Views(crop_scale=(1, 1), crop_ratio=(1, 1), horizontal_flip=0, jitter=0, grey=0, blur=0)
STRONG = Views(
    crop_scale=(0.2, 0.8), vertical_flip=0.5, translate=0.1, rotate=30, jitter=1, blur=0.5, erase=0.5, grey=0.5
)


def _images(count: int = 12, channels: int = 3, size: int = 24) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, channels, size, size), dtype=torch.uint8, generator=generator)


def _smooth(size: int = 32, channels: int = 3) -> Tensor:
    """A picture without fine detail, so that ways of interpolating agree, `(1, C, size, size)` in [0, 1]."""
    y, x = torch.meshgrid(torch.linspace(0, 3, size), torch.linspace(0, 3, size), indexing="ij")
    planes = [0.5 + 0.4 * torch.sin((k + 1) * x / 2 + y * (k - 1)) for k in range(channels)]
    return torch.stack(planes)[None]


def _rng(count: int, epoch: int = 0, stream: int = 0) -> KeyedRandom:
    return KeyedRandom(torch.arange(count), seed=0, epoch=epoch, stream=stream)


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_a_view_belongs_to_its_image_and_not_to_the_batch(channels: int) -> None:
    images = _images(channels=channels)
    whole = STRONG(images, _rng(12))
    order = torch.tensor([7, 3, 10])
    part = STRONG(images[order], KeyedRandom(order, seed=0))
    torch.testing.assert_close(part, whole[order], rtol=0, atol=1e-6)
    assert torch.equal(whole, STRONG(images, _rng(12)))
    assert not torch.allclose(whole, STRONG(images, _rng(12, epoch=1)))
    assert not torch.allclose(whole, STRONG(images, _rng(12, stream=1)))


@pytest.mark.parametrize("views", [Views(), STRONG, IDENTITY])
@pytest.mark.parametrize("channels", [1, 3])
def test_uint8_in_floats_between_0_and_1_out(views: Views, channels: int) -> None:
    images = _images(channels=channels)
    before = images.clone()
    view = views(images, _rng(12))
    assert view.dtype == torch.float32 and view.shape == images.shape
    assert float(view.min()) >= 0 and float(view.max()) <= 1
    assert torch.equal(images, before)
    torch.testing.assert_close(view, views(to_float(images), _rng(12)))


def test_nothing_asked_gives_the_image() -> None:
    images = _images()
    torch.testing.assert_close(IDENTITY(images, _rng(12)), images.float() / 255, rtol=0, atol=1e-5)


def test_flips_are_torch_s() -> None:
    images = _images()
    sideways = Views(**{**vars(IDENTITY), "horizontal_flip": 1.0})(images, _rng(12))
    torch.testing.assert_close(sideways, images.flip(3).float() / 255, rtol=0, atol=1e-5)
    upside_down = Views(**{**vars(IDENTITY), "vertical_flip": 1.0})(images, _rng(12))
    torch.testing.assert_close(upside_down, images.flip(2).float() / 255, rtol=0, atol=1e-5)
    many = torch.arange(4.0).view(1, 1, 2, 2).repeat(2000, 1, 1, 1) / 4
    flipped = Views(**{**vars(IDENTITY), "horizontal_flip": 0.3})(many, _rng(2000))
    assert float((flipped[:, 0, 0, 0] > 0.1).float().mean()) == pytest.approx(0.3, abs=0.04)


def test_a_crop_is_torchvision_s_resized_crop() -> None:
    image = _smooth()
    boxes = torch.tensor([[16.0, 12.0, 16.0, 16.0]])  # rows 8 to 24, columns 4 to 20
    ours = crop(image, boxes, torch.zeros(1))
    reference = tv.resized_crop(image, 8, 4, 16, 16, [32, 32], antialias=False)
    # at its border torchvision repeats the crop's edge, we the image beyond it
    torch.testing.assert_close(ours[..., 2:-2, 2:-2], reference[..., 2:-2, 2:-2], rtol=0, atol=1e-4)


def test_a_crop_samples_the_points_it_should() -> None:
    """Against a slow bilinear reading, pixel by pixel, of a turned rectangular box."""
    image = _images(1, 1, 12).float() / 255
    y, x, height, width, angle = 5.0, 7.0, 6.0, 8.0, 0.4
    ours = crop(image, torch.tensor([[y, x, height, width]]), torch.tensor([angle]))[0, 0]

    def read(row: float, column: float) -> float:
        row, column = min(max(row, 0.0), 11.0), min(max(column, 0.0), 11.0)
        top, left = min(int(row), 10), min(int(column), 10)
        a, b = row - top, column - left
        square = image[0, 0, top : top + 2, left : left + 2]
        return float(
            (1 - a) * ((1 - b) * square[0, 0] + b * square[0, 1]) + a * ((1 - b) * square[1, 0] + b * square[1, 1])
        )

    for i in range(12):
        for j in range(12):
            down, right = ((i + 0.5) / 12 - 0.5) * height, ((j + 0.5) / 12 - 0.5) * width
            row = y + right * math.sin(angle) + down * math.cos(angle) - 0.5
            column = x + right * math.cos(angle) - down * math.sin(angle) - 0.5
            assert float(ours[i, j]) == pytest.approx(read(row, column), abs=1e-4)


def test_a_quarter_turn_is_rot90() -> None:
    images = _images(3).float() / 255
    boxes = torch.tensor([[12.0, 12.0, 24.0, 24.0]]).repeat(3, 1)
    turned = crop(images, boxes, torch.full((3,), math.pi / 2))
    torch.testing.assert_close(turned, images.rot90(1, (2, 3)), rtol=0, atol=1e-4)
    torch.testing.assert_close(
        crop(images, boxes, torch.full((3,), math.pi)), images.rot90(2, (2, 3)), rtol=0, atol=1e-4
    )


def test_crops_keep_their_area_their_ratio_and_within_the_image() -> None:
    views = Views(crop_scale=(0.3, 0.6), crop_ratio=(0.75, 4 / 3), horizontal_flip=0.5)
    boxes = views._boxes(_rng(4000), height=20, width=40)
    y, x, height, width = boxes.unbind(1)
    share = height.abs() * width.abs() / 800
    assert float(share.min()) + 1e-4 >= 0.3 and float(share.max()) <= 0.6 + 1e-4
    assert float(share.mean()) == pytest.approx(0.45, abs=0.01)
    ratio = (width.abs() / 40) / (height.abs() / 20)
    assert float(ratio.min()) > 0.75 - 1e-3 and float(ratio.max()) < 4 / 3 + 1e-3
    assert float((y - height.abs() / 2).min()) > -1e-3 and float((y + height.abs() / 2).max()) < 20 + 1e-3
    assert float((x - width.abs() / 2).min()) > -1e-3 and float((x + width.abs() / 2).max()) < 40 + 1e-3
    assert float((width < 0).float().mean()) == pytest.approx(0.5, abs=0.03) and (height > 0).all()


def test_a_shift_moves_the_picture() -> None:
    image = _smooth(16, 1)
    boxes = torch.tensor([[8.0 + 3, 8.0 - 2, 16.0, 16.0]])
    moved = crop(image, boxes, torch.zeros(1))
    torch.testing.assert_close(moved[..., :13, 2:], image[..., 3:, :14], rtol=0, atol=1e-5)
    assert torch.allclose(
        moved[..., 13:, 2:], image[..., 15:, :14].expand(1, 1, 3, 14), atol=1e-5
    )  # the border repeats


def test_blur_is_torchvision_s_within_the_image() -> None:
    images = _images(4).float() / 255
    sigma = torch.tensor([0.7, 1.0, 1.5, 0.0])
    matrix = blurring_matrix(sigma, 24)
    torch.testing.assert_close(matrix.sum(-1), torch.ones(4, 24))
    blurred = separable(images, matrix, matrix)
    for number in range(3):
        reference = tv.gaussian_blur(images[number], [15, 15], [float(sigma[number])])
        torch.testing.assert_close(blurred[number, :, 8:-8, 8:-8], reference[:, 8:-8, 8:-8], rtol=0, atol=1e-4)
    torch.testing.assert_close(blurred[3], images[3])


def test_separable_is_two_products_a_channel() -> None:
    images, rows, columns = torch.rand(2, 3, 5, 7), torch.rand(2, 4, 5), torch.rand(2, 6, 7)
    ours = separable(images, rows, columns)
    for b in range(2):
        for c in range(3):
            torch.testing.assert_close(ours[b, c], rows[b] @ images[b, c] @ columns[b].T)


def test_the_colour_matrix_keeps_greys_and_luminance() -> None:
    saturation, turn = torch.tensor([1.0, 0.0, 1.7, 0.4]), torch.tensor([0.0, 0.3, 1.0, -2.0])
    matrix = colour_matrix(saturation, turn)
    torch.testing.assert_close(matrix[0], torch.eye(3), rtol=0, atol=1e-6)
    grey = torch.full((3,), 0.6)
    torch.testing.assert_close(matrix @ grey, grey.expand(4, 3), rtol=0, atol=1e-3)
    luminance = torch.tensor([0.299, 0.587, 0.114])
    torch.testing.assert_close(luminance @ matrix, luminance.expand(4, 3), rtol=0, atol=1e-5)
    image = _images(1).float() / 255
    without = torch.einsum("ij,bjhw->bihw", matrix[1], image)
    torch.testing.assert_close(without, tv.rgb_to_grayscale(image, 3), rtol=0, atol=1e-3)
    torch.testing.assert_close(grey_scale(image), tv.rgb_to_grayscale(image), rtol=0, atol=1e-3)


def test_saturation_without_a_turn_is_torchvision_s() -> None:
    image = 0.25 + _images(1).float() / 510  # far from the clamp
    matrix = colour_matrix(torch.tensor([1.4]), torch.tensor([0.0]))
    ours = torch.einsum("bij,bjhw->bihw", matrix, image)
    torch.testing.assert_close(ours.clamp(0, 1), tv.adjust_saturation(image, 1.4), rtol=0, atol=2e-3)


def test_brightness_and_contrast_are_torchvision_s() -> None:
    image = (0.3 + 0.3 * _images(1).float() / 255).expand(8, -1, -1, -1).contiguous()
    views = Views(**{**vars(IDENTITY), "jitter": 1.0, "saturation": 0.0, "hue": 0.0})
    resolved = views.resolve(24, 3)
    rng = _rng(8)
    ours = resolved._colour(image, rng)
    again = _rng(8)
    again.chance(1.0)  # the jitter
    brightness, contrast = again.uniform(low=0.6, high=1.4), again.uniform(low=0.6, high=1.4)
    for number in range(8):
        contrasted = tv.adjust_contrast(image[number], float(contrast[number]))
        reference = tv.adjust_brightness(contrasted, float(brightness[number]))
        torch.testing.assert_close(ours[number], reference, rtol=0, atol=1e-3)


def test_colour_is_left_alone_where_there_is_none() -> None:
    resolved = Views(saturation=0.9, hue=0.5, grey=1.0).resolve(28, 1)
    assert (resolved.saturation, resolved.hue, resolved.grey) == (0.0, 0.0, 0.0)
    views = Views(**{**vars(IDENTITY), "jitter": 1.0, "brightness": 0.0, "contrast": 0.0, "grey": 1.0, "hue": 0.5})
    for channels in (1, 4):
        images = _images(channels=channels)
        torch.testing.assert_close(views(images, _rng(12)), images.float() / 255, rtol=0, atol=1e-5)
    coloured = views(_images(), _rng(12))
    torch.testing.assert_close(coloured, grey_scale(_images().float() / 255).expand(-1, 3, -1, -1), rtol=0, atol=2e-3)


def test_defaults_suit_the_size() -> None:
    tiny, small, large = (Views().resolve(size, 3) for size in (8, 32, 224))
    assert tiny.crop_scale == (0.5, 1.0) and small.crop_scale == (0.3, 1.0) and large.crop_scale == (0.2, 1.0)
    assert tiny.blur == small.blur == 0.0 and large.blur == 0.5
    assert Views(crop_scale=(0.9, 1.0), blur=0.1).resolve(8, 3) == Views(crop_scale=(0.9, 1.0), blur=0.1)


def test_recolouring_maps_each_channel_s_black_and_white_to_levels_apart() -> None:
    images = torch.zeros(500, 3, 2, 2)
    images[..., 0] = 1.0
    view = replace(IDENTITY, recolour=0.8, recolour_contrast=0.3)(images, _rng(500))
    white, black = view[:, :, 0, 0], view[:, :, 0, 1]  # (500, 3)
    apart = white - black
    assert float(view.min()) >= 0 and float(view.max()) <= 1
    assert float(apart.abs().min()) >= 0.3 - 1e-5
    same = (white == 1).all(1)
    assert 0.1 < float(same.float().mean()) < 0.3  # a fifth is left alone
    assert 0.4 < float((apart[~same] < 0).float().mean()) < 0.6  # of half the channels white is the darker one


def test_clutter_lets_the_levels_of_recoloured_images_drift() -> None:
    images = torch.zeros(300, 3, 20, 20)
    images[:, :, 8:12, 8:12] = 1.0
    flat = replace(IDENTITY, recolour=0.7)(images, _rng(300))
    view = replace(IDENTITY, recolour=0.7, clutter=0.4)(images, _rng(300))
    assert float(view.min()) >= 0 and float(view.max()) <= 1
    left_alone = (flat == images).flatten(1).all(1)
    assert torch.equal(view[left_alone], images[left_alone])
    drift = (view - flat)[~left_alone]
    assert float(drift.abs().amax()) <= 0.4 * (1.0 + 0.7 + 0.5)
    assert float(drift[:, :, 0].std(-1).median()) > 0.01  # black's level is no level any more
    step = (drift[:, :, 0, 1:] - drift[:, :, 0, :-1]).abs()
    assert float(step.mean()) < 0.5 * float(drift[:, :, 0].abs().mean())  # and smooth
    follows = (drift[:, 0, 9, 9] * drift[:, 0, 7, 7]) > 0  # white goes with its neighbour black, or against it
    assert 0.3 < float(follows.float().mean()) < 0.7
    alone = replace(IDENTITY, recolour=0.7, clutter=0.4)(images[5:6], KeyedRandom(torch.tensor([5]), 0))
    torch.testing.assert_close(alone[0], view[5])


def test_erasing_takes_its_area() -> None:
    images = torch.full((500, 1, 40, 40), 255, dtype=torch.uint8)
    images[:, :, ::2] = 0
    views = Views(**{**vars(IDENTITY), "erase": 1.0, "erase_scale": (0.25, 0.25)})
    erased = views(images, _rng(500))
    hole = (erased - 0.5).abs() < 1e-3  # filled with the mean
    areas = hole.float().mean((1, 2, 3))
    assert float(areas.min()) > 0.21 and float(areas.max()) < 0.29
    first = hole[0, 0]
    rows, columns = first.any(1), first.any(0)
    assert torch.equal(first, rows[:, None] & columns)  # one rectangle
    assert len({(int(h.any(1).float().argmax()), int(h.any(0).float().argmax())) for h in hole[:, 0]}) > 100
    rare = Views(**{**vars(IDENTITY), "erase": 0.2, "erase_scale": (0.25, 0.25)})(images, _rng(500))
    hit = ((rare - 0.5).abs() < 1e-3).flatten(1).any(1)
    assert float(hit.float().mean()) == pytest.approx(0.2, abs=0.06)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"horizontal_flip": 1.2}, "horizontal_flip"),
        ({"jitter": -0.1}, "jitter"),
        ({"crop_scale": (0.0, 1.0)}, "crop_scale"),
        ({"crop_scale": (0.5, 1.5)}, "crop_scale"),
        ({"crop_ratio": (2.0, 1.0)}, "crop_ratio"),
        ({"blur_sigma": (-1.0, 1.0)}, "blur_sigma"),
        ({"erase_scale": (0.1, 2.0)}, "erase_scale"),
        ({"hue": 0.7}, "hue"),
        ({"contrast": -0.5}, "contrast"),
        ({"translate": -0.1}, "translate"),
        ({"rotate": -5.0}, "rotate"),
    ],
)
def test_bad_arguments(arguments: dict[str, float], words: str) -> None:
    with pytest.raises(ValueError, match=f"views.{words}"):
        Views(**arguments)  # type: ignore[arg-type]
