"""Muon for the matrices of the layers (Jordan et al., 2024), AdamW for the embedding and the norms.

The network computes in bfloat16; here are the weights in 32 bits that it gets its rounded ones from.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor


def orthogonal(gradients: Tensor, steps: int = 5) -> Tensor:
    """Of each of `count × rows × columns` the nearest matrix with all singular values about 1, by the quintic Newton–Schulz iteration."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = gradients.bfloat16()
    turned = x.size(1) > x.size(2)
    if turned:
        x = x.mT
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(steps):
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    return (x.mT if turned else x).float()


class Optimizer:
    """`parts`: for a matrix that joins several (queries, keys and values; gate and up), how many: each is turned by itself."""

    def __init__(self, model: torch.nn.Module, parts: dict[str, int], *, matrix_rate: float, other_rate: float, decay: float) -> None:
        self.parameters = dict(model.named_parameters())
        self.masters = {name: one.detach().float().clone() for name, one in self.parameters.items()}
        self.parts, self.matrix_rate, self.other_rate, self.decay = parts, matrix_rate, other_rate, decay
        self.state: dict[str, dict[str, Tensor]] = {name: {} for name in self.masters}
        self.steps = 0

    @torch.no_grad()
    def step(self, rate: float, scale: float) -> None:
        """`rate`: share of the full rates; `scale`: the gradients are multiplied by it."""
        self.steps += 1
        turned: dict[torch.Size, list[tuple[Tensor, Tensor]]] = {}
        for name, parameter in self.parameters.items():
            if parameter.grad is None:
                continue
            master, gradient = self.masters[name], parameter.grad.float().mul_(scale)
            if name.startswith("layers.") and master.dim() == 2:
                for target, source in self._parts(name, master, gradient, rate):
                    turned.setdefault(source.shape, []).append((target, source))
            else:
                self._adapt(name, master, gradient, rate)
            parameter.grad = None
        for shape, pairs in turned.items():
            size = rate * self.matrix_rate * max(1.0, shape[0] / shape[1]) ** 0.5
            turns = orthogonal(torch.stack([source for _, source in pairs]))
            torch._foreach_add_([target for target, _ in pairs], list(turns), alpha=-size)
        for name, parameter in self.parameters.items():
            parameter.copy_(self.masters[name])

    def _parts(self, name: str, master: Tensor, gradient: Tensor, rate: float) -> Iterator[tuple[Tensor, Tensor]]:
        """The matrices that are turned each by itself: the weights, and where to (Nesterov's momentum)."""
        state = self.state[name]
        momentum = state.setdefault("momentum", torch.zeros_like(master))
        momentum.lerp_(gradient, 0.05)
        ahead = gradient.lerp_(momentum, 0.95)
        count = next((count for part, count in self.parts.items() if part in name), 1)
        master.mul_(1 - rate * self.matrix_rate * self.decay)
        yield from zip(master.chunk(count), ahead.chunk(count))

    def _adapt(self, name: str, master: Tensor, gradient: Tensor, rate: float) -> None:
        state = self.state[name]
        first = state.setdefault("first", torch.zeros_like(master))
        second = state.setdefault("second", torch.zeros_like(master))
        first.lerp_(gradient, 0.1)
        second.lerp_(gradient.square(), 0.05)
        size = (second / (1 - 0.95**self.steps)).sqrt_().add_(1e-10)
        master.addcdiv_(first / (1 - 0.9**self.steps), size, value=-rate * self.other_rate)
