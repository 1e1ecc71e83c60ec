import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_transfer.encoders import Encoder, EncoderSpec, build_encoder
from ssl_transfer.encoders.split import back, cut_points, front

LITE = EncoderSpec("efficientnet_lite_pytorch.EfficientNet.from_name", {"model_name": "efficientnet-lite0"})


def build(spec: EncoderSpec | str | nn.Module = "small_resnet", side: int = 32) -> Encoder:
    return build_encoder(spec, (3, side, side), [0.4] * 3, [0.2] * 3).eval()


def timm(name: str, **arguments: Any) -> EncoderSpec:
    return EncoderSpec("timm.create_model", {"model_name": name, **arguments})


def check_cuts(encoder: Encoder) -> None:
    """Front and back give the encoder's features to the bit, and gradients reach the back alone, all of it."""
    images = torch.randint(0, 256, (4, *encoder.shape), dtype=torch.uint8)
    stages = encoder.stages()
    cuts = cut_points(encoder)
    for stage in dict.fromkeys([*cuts[:1], cuts[len(cuts) // 2], *cuts[-1:]]):
        x = front(encoder, images, stage)
        assert not x.requires_grad
        with torch.no_grad():
            kept = x.clone(memory_format=torch.preserve_format)
            assert torch.equal(back(encoder, x, stage), encoder(images))
            assert torch.equal(x, kept)
            assert torch.equal(back(encoder, torch.stack(list(x)), stage), encoder(images))
        encoder.zero_grad()
        back(encoder, x, stage).square().sum().backward()
        reached = {name for name, part in stages for parameter in part.parameters() if parameter.grad is not None}
        names = [name for name, _ in stages]
        assert reached == set(names[names.index(stage) :])


@pytest.mark.parametrize(
    "spec",
    [
        *(EncoderSpec(), EncoderSpec(pool=2), EncoderSpec(bottleneck=5)),
        *(EncoderSpec("resnet18", pool=2), EncoderSpec("vgg11", bottleneck=5)),
        *("densenet121", "shufflenet_v2_x0_5", "mobilenet_v3_small", "efficientnet_b0", "mnasnet0_5"),
        *("regnet_y_400mf", "convnext_tiny", "swin_t", "squeezenet1_1", "googlenet"),
        EncoderSpec("vit_b_32"),
    ],
    ids=str,
)
def test_every_stage_but_the_first(spec: EncoderSpec | str) -> None:
    encoder = build(spec)
    assert cut_points(encoder) == [name for name, _ in encoder.stages()][1:]
    check_cuts(encoder)


@pytest.mark.parametrize(
    ("spec", "side"),
    [
        (timm("resnet10t", channels=[8, 16, 32, 64]), 32),
        (timm("vit_tiny_patch16_224", img_size=32, depth=3), 32),
        (timm("swin_tiny_patch4_window7_224", img_size=64, embed_dim=24, depths=[1, 1, 1, 1]), 64),
        (timm("efficientnet_lite0"), 32),
        (timm("convnext_atto"), 32),
    ],
)
def test_timm(spec: EncoderSpec, side: int) -> None:
    pytest.importorskip("timm")
    encoder = build(spec, side)
    assert cut_points(encoder) == [name for name, _ in encoder.stages()][1:]
    check_cuts(encoder)


def test_efficientnet_lite_whose_activation_serves_twice() -> None:
    pytest.importorskip("efficientnet_lite_pytorch")
    encoder = build(LITE, 64)
    assert cut_points(encoder) == [name for name, _ in encoder.stages()][1:]
    check_cuts(encoder)


def test_autocast() -> None:
    encoder = build("resnet18")
    images = torch.rand(3, 3, 32, 32)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        for stage in cut_points(encoder):
            x = front(encoder, images, stage)
            assert x.dtype == torch.bfloat16
            assert torch.equal(back(encoder, x, stage), encoder(images))


class Net(nn.Module):
    """A network as users write them, whose middle is given."""

    def __init__(self, middle: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.one = nn.Conv2d(3, 4, 3, padding=1)
        self.two = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1))
        self.three = nn.Sequential(nn.Linear(4 * 16 * 16, 6))
        self.middle = middle

    def forward(self, x: Tensor) -> Tensor:
        return self.three(self.middle(self, F.max_pool2d(F.relu(self.one(x)), 2)))


def plain(net: Any, x: Tensor) -> Tensor:
    return torch.flatten(F.relu(net.two(x), inplace=True), 1)


def skipping(net: Any, x: Tensor) -> Tensor:
    return (x + net.two(x)).flatten(1)


def drawing(net: Any, x: Tensor) -> Tensor:
    return F.dropout(net.two(x), 0.5, net.training).flatten(1)


def counting(net: Any, x: Tensor) -> Tensor:
    return net.two(x).view(x.size(0), -1)


def sizing(net: Any, x: Tensor) -> Tensor:
    return net.two(x).reshape(-1, 2 * x.size(0)).reshape(x.size(0), -1)


def returning(net: Any, x: Tensor) -> Tensor:
    return net.two(F.max_pool2d(F.relu(net.one(F.pad(net.two(x)[:, :3], (16, 0, 16, 0)))), 2)).flatten(1)


@pytest.mark.parametrize(
    ("middle", "expected"),
    [
        (plain, ["two", "three"]),
        (skipping, ["three"]),  # what "two" receives is needed again behind it
        (drawing, ["three"]),  # dropout between modules is not seen in evaluation mode
        (counting, ["two", "three"]),
        (sizing, ["three"]),  # what was read of the number of images is not known
        (returning, ["three"]),  # the first stage runs again behind the second
    ],
)
def test_own_networks_are_cut_where_it_can_be_proved(
    middle: Callable[[Any, Tensor], Tensor], expected: list[str]
) -> None:
    encoder = build(Net(middle))
    assert cut_points(encoder) == expected
    check_cuts(encoder)


def test_a_stage_that_changes_what_it_receives_is_no_cut() -> None:
    layers = [nn.Sequential(nn.Conv2d(3, 4, 3)), nn.Sequential(nn.ReLU(inplace=True), nn.Conv2d(4, 4, 3))]
    assert cut_points(build(nn.Sequential(*layers))) == []


def test_a_back_follows_its_modules() -> None:
    encoder = build()
    images = torch.rand(2, 3, 32, 32)
    x = front(encoder, images, "stage2")
    encoder.network.body.stage2[0].conv2 = nn.Identity()  # type: ignore[union-attr, operator, index]
    with torch.no_grad():
        assert torch.equal(back(encoder, x, "stage2"), encoder(images))
        assert torch.equal(back(copy.deepcopy(encoder), x, "stage2"), encoder(images))
    assert front(encoder.resize((3, 48, 48)), torch.rand(2, 3, 48, 48), "stage2").shape[2:] == (24, 24)


def test_what_cannot_be_cut_says_so() -> None:
    with pytest.raises(ValueError, match="cannot be cut before 'stem': stages that it can are stage1, stage2"):
        front(build(), torch.rand(2, 3, 32, 32), "stem")
    with pytest.raises(ValueError, match="that it can are none"):
        back(build("oriented_gradients"), torch.rand(2, 3), "stage1")


def test_planning_leaves_no_trace() -> None:
    encoder = build().train()
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    state = torch.get_rng_state()
    cut_points(encoder)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(before[key], value) for key, value in encoder.state_dict().items())
    assert all(part.training and not part._forward_hooks for part in encoder.modules())
