import pytest
import torch

from ssl_transfer.encoders import Decoder, EncoderSpec, build_encoder


@pytest.mark.parametrize("side", [8, 25, 28, 32, 96])
@pytest.mark.parametrize("bottleneck", [None, 10])
def test_shapes(side: int, bottleneck: int | None) -> None:
    encoder = build_encoder(EncoderSpec(bottleneck=bottleneck), (3, side, side), [0.5] * 3, [0.5] * 3)
    assert encoder.map_dim is not None and encoder.map_size is not None
    decoder = Decoder(encoder.map_dim, encoder.map_size, encoder.shape, from_features=bottleneck)
    images = torch.rand(2, 3, side, side)
    code = encoder.maps(images) if bottleneck is None else encoder(images)
    assert decoder(code).shape == images.shape


def test_learns_to_copy_an_image() -> None:
    torch.manual_seed(0)
    ramp = torch.linspace(-1, 1, 16)
    target = torch.stack([ramp.expand(16, 16), ramp.expand(16, 16).T])[:, None]
    code = torch.eye(2)
    decoder = Decoder(32, (4, 4), (1, 16, 16), from_features=2)
    optimiser = torch.optim.Adam(decoder.parameters(), lr=0.01)
    for _ in range(60):
        optimiser.zero_grad()
        loss = (decoder(code) - target).square().mean()
        loss.backward()
        optimiser.step()
    assert float(loss.detach()) < 0.05
