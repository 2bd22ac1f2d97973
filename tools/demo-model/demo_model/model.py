"""The network: a `llama` of llama.cpp, small enough to be shipped."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Shape:
    """Sizes of the network. Rows of Q8_0 are blocks of 32 weights: widths are multiples of that."""

    vocabulary: int
    layers: int = 8
    width: int = 256
    heads: int = 4
    feed_forward: int = 640
    context: int = 4096
    rope_base: float = 10000.0
    epsilon: float = 1e-6

    @property
    def head(self) -> int:
        return self.width // self.heads

    def to_json(self) -> dict:
        return asdict(self)


class Norm(nn.Module):
    """RMSNorm; computed in 32 bits, as llama.cpp does."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(shape.width))
        self.epsilon = shape.epsilon

    def forward(self, x: Tensor) -> Tensor:
        wide = x.float()
        scale = torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.epsilon)
        return (wide * scale * self.weight.float()).to(x.dtype)


def rotate(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """RoPE over halves (`NEOX` order); the export reorders the rows to llama's order of neighbours."""
    low, high = x.float().chunk(2, dim=-1)
    return torch.cat([low * cosine - high * sine, high * cosine + low * sine], dim=-1).to(x.dtype)


class Layer(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        width, wide = shape.width, shape.feed_forward
        self.heads, self.head = shape.heads, shape.head
        self.attention_norm = Norm(shape)
        self.queries_keys_values = nn.Linear(width, 3 * width, bias=False)
        self.attention_output = nn.Linear(width, width, bias=False)
        self.feed_forward_norm = Norm(shape)
        self.gate_up = nn.Linear(width, 2 * wide, bias=False)
        self.down = nn.Linear(wide, width, bias=False)

    def forward(self, x: Tensor, cosine: Tensor, sine: Tensor, bias: Tensor) -> Tensor:
        rows, length, width = x.shape
        joined = self.queries_keys_values(self.attention_norm(x))
        queries, keys, values = (
            part.view(rows, length, self.heads, self.head).transpose(1, 2) for part in joined.chunk(3, dim=-1)
        )
        # Written out: compiled, it is three times as fast here as the fused attention's way back.
        scores = rotate(queries, cosine, sine) @ (rotate(keys, cosine, sine) * self.head**-0.5).transpose(-1, -2)
        mixed = torch.softmax((scores + bias).float(), dim=-1).to(x.dtype) @ values
        x = x + self.attention_output(mixed.transpose(1, 2).reshape(rows, length, width))
        gate, up = self.gate_up(self.feed_forward_norm(x)).chunk(2, dim=-1)
        return x + self.down(F.silu(gate) * up)


class DemoModel(nn.Module):
    """Tokens and their positions in, the last layer's normalised output out; the embedding is the output matrix too."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.embedding = nn.Embedding(shape.vocabulary, shape.width)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.norm = Norm(shape)
        frequencies = shape.rope_base ** (-torch.arange(0, shape.head, 2).float() / shape.head)
        self.register_buffer("frequencies", frequencies, persistent=False)
        nn.init.normal_(self.embedding.weight, std=0.02)
        for layer in self.layers:
            for matrix in (layer.queries_keys_values, layer.gate_up):
                nn.init.normal_(matrix.weight, std=shape.width**-0.5 * 0.5)
            for matrix in (layer.attention_output, layer.down):
                nn.init.zeros_(matrix.weight)

    def forward(self, tokens: Tensor, positions: Tensor, documents: Tensor, branches: Tensor) -> Tensor:
        """All four: rows × length; the answer: rows × length × width. A token sees those before it of its document's trunk and of its own branch."""
        length = tokens.size(1)
        order = torch.arange(length)
        seen = (documents[:, :, None] == documents[:, None, :]) & (order[:, None] >= order[None, :])
        seen &= (branches[:, None, :] == 0) | (branches[:, :, None] == branches[:, None, :])
        bias = torch.where(seen, 0.0, -10000.0).to(self.embedding.weight.dtype)[:, None]
        angles = positions[:, None, :, None].float() * self.frequencies
        cosine, sine = angles.cos(), angles.sin()
        x = self.embedding(tokens)
        for layer in self.layers:
            x = layer(x, cosine, sine, bias)
        return self.norm(x)

    def logits(self, output: Tensor) -> Tensor:
        return F.linear(output, self.embedding.weight)
