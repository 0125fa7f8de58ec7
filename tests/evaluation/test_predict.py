"""A network's predictions, where its call is compiled for batches of one shape."""

from contextlib import nullcontext

import pytest
import torch
from torch import nn

from mixmo_fast.errors import DivergedError
from mixmo_fast.evaluation.evaluate import predict


class Members(nn.Module):
    """Logits of two members."""

    def __init__(self):
        super().__init__()
        self.heads = nn.Linear(12, 6)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.heads(images.flatten(1)).unflatten(1, (2, 3))


@pytest.mark.filterwarnings("ignore")
def test_full_batches_go_through_the_compiled_call_and_the_rest_through_the_network():
    network = Members()
    images, labels = torch.randn(7, 3, 2, 2), torch.arange(7)
    batches = list(zip(images.split(3), labels.split(3), strict=True))
    compiled = torch.compile(network, backend="eager")  # a module, as in training: one that has no truth value
    logits, found = predict(network, batches, nullcontext, compiled)
    assert torch.equal(found, labels)
    torch.testing.assert_close(logits, predict(network, batches, nullcontext)[0])
    calls = []
    predict(network, batches, nullcontext, lambda part: calls.append(len(part)) or network(part))
    assert calls == [3, 3]


def test_outputs_that_are_not_finite_are_an_error():
    network = nn.Unflatten(1, (2, 3))
    batches = [(torch.tensor([[0.0, 1.0, 2.0, torch.nan, 4.0, 5.0]]), torch.tensor([0]))]
    with pytest.raises(DivergedError, match="not finite"):
        predict(network, batches, nullcontext)
