import torch
from torch import Tensor, nn

from ssl_transfer.encoders.recorded import COUNT, HERE, chain, record


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(3, 3), nn.Linear(3, 3)
        self.around = nn.Sequential(nn.Linear(3, 3), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        x = self.one(x) + self.two(x)
        return self.around(x).reshape(x.shape[0], 1, 3).squeeze(dim=1)


def test_the_calls_of_a_run_and_the_chain_that_they_end_in() -> None:
    net = Net().eval()
    x = torch.rand(5, 3)
    outputs = []

    def run() -> Tensor:
        outputs.append(net(x))
        return outputs[0]

    calls = record(net, [[net.one], [net.two], [net.around[0]]], run, count=5)
    names = [call.target if isinstance(call.target, str) else call.target.__name__ for call in calls]
    assert names == ["one", "two", "add", "around.0", "around.1", "reshape", "squeeze"]
    assert [call.part for call in calls] == [0, 1, None, 2, None, None, None]
    assert (calls[5].args, calls[6].kwargs) == ((HERE, COUNT, 1, 3), {"dim": 1})
    numbers = chain(calls, outputs[0])
    assert numbers == [3, 4, 5, 6]  # a sum reads two tensors
    between = net.one(torch.ones(2, 3))
    again = between
    for number in numbers:
        again = calls[number](net, again)
    torch.testing.assert_close(again, net.around(between))
