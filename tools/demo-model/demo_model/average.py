"""The mean of the weights of checkpoints that went on from each other: better than each of them (Izmailov et al., 2018)."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from .checkpoint import save
from .model import Shape


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="average")
    parser.add_argument("checkpoints", nargs="+", help="their names, without `.pt`")
    parser.add_argument("--folder", default="build")
    parser.add_argument("--name", required=True, help="of the new checkpoint")
    options = parser.parse_args(arguments)
    folder = Path(options.folder)
    kept = [torch.load(folder / f"{name}.pt") for name in options.checkpoints]
    masters = {name: torch.stack([one["masters"][name] for one in kept]).mean(0) for name in kept[0]["masters"]}
    step = max(one["step"] for one in kept)
    # The optimizer's memory is that of none of them, and the clock begins anew.
    save(folder / f"{options.name}.pt", Shape(**kept[0]["shape"]), masters, step=step)
    print(f"{folder / options.name}.pt: the mean of {', '.join(options.checkpoints)}, step {step}")


if __name__ == "__main__":
    main()
