"""The mean of the weights of checkpoints that went on from each other: better than each of them (Izmailov et al., 2018)."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor

from .checkpoint import save
from .model import Shape


class Mean:
    """Of weights that are added one after the other."""

    def __init__(self) -> None:
        self.count = 0
        self.masters: dict[str, Tensor] = {}

    def add(self, masters: dict[str, Tensor]) -> None:
        self.count += 1
        for name, weights in masters.items():
            if name in self.masters:
                self.masters[name].lerp_(weights, 1 / self.count)
            else:
                self.masters[name] = weights.clone()


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="average")
    parser.add_argument("checkpoints", nargs="+", help="their names, without `.pt`")
    parser.add_argument("--folder", default="build")
    parser.add_argument("--name", required=True, help="of the new checkpoint")
    options = parser.parse_args(arguments)
    folder = Path(options.folder)
    mean, step = Mean(), 0
    for name in options.checkpoints:
        kept = torch.load(folder / f"{name}.pt")
        mean.add(kept["masters"])
        step = max(step, kept["step"])
    # The optimizer's memory is that of none of them, and the clock begins anew.
    checkpoint = folder / f"{options.name}.pt"
    save(checkpoint, Shape(**kept["shape"]), mean.masters, step=step)
    print(f"{checkpoint}: the mean of {', '.join(options.checkpoints)}, step {step}")


if __name__ == "__main__":
    main()
