"""What a training keeps, and what `restore` and `average` make for it to go on from."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from .model import Shape


def save(path: Path, shape: Shape, masters: dict[str, Tensor], *, step: int, seconds: float = 0.0, state: dict[str, dict] | None = None) -> None:
    """`state`: the optimizer's memory; without it the next training begins with none. An older file stays until this one is whole."""
    memory = {name: {} for name in masters} if state is None else state
    kept = {"step": step, "seconds": seconds, "masters": masters, "state": memory, "shape": shape.to_json()}
    torch.save(kept, path.with_suffix(".tmp"))
    path.with_suffix(".tmp").replace(path)
