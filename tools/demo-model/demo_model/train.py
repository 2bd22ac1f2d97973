"""Training on the CPU: two cores with AMX need less than two hours."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch
import torch.nn.functional as F

from .average import Mean
from .batches import TOKENS, batches_beside
from .checkpoint import save
from .model import DemoModel, Shape
from .optimizer import Optimizer

PARTS = {"queries_keys_values": 3, "gate_up": 2}


def main(arguments: list[str] | None = None) -> None:
    options = _options().parse_args(arguments)
    torch.manual_seed(options.seed)
    torch.set_num_threads(options.threads)
    folder = Path(options.folder)
    tokens = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    shape = Shape(vocabulary=len(tokens["vocabulary"]), layers=options.layers)
    model = DemoModel(shape).to(torch.bfloat16)
    model.frequencies = model.frequencies.float()
    optimizer = Optimizer(model, PARTS, matrix_rate=options.rate, other_rate=options.other_rate, decay=options.decay)
    start, spent = 0, 0.0
    checkpoint = folder / f"{options.name}.pt"
    if options.resume and checkpoint.exists():
        kept = torch.load(checkpoint)
        start, spent, optimizer.steps = kept["step"], kept["seconds"], kept["step"]
        optimizer.masters, optimizer.state = kept["masters"], kept["state"]
        for name, parameter in optimizer.parameters.items():
            parameter.data.copy_(optimizer.masters[name])
    print(f"{sum(one.numel() for one in model.parameters()):,} parameters, {shape}", flush=True)

    def loss_of(batch_tokens, positions, documents, branches, places, targets, weights):
        output = model(batch_tokens, positions, documents, branches).reshape(-1, shape.width)[places]
        losses = F.cross_entropy(model.logits(output).float(), targets, reduction="none")
        said = (weights == 1).float()
        return (losses * weights).sum(), (losses * said).sum().detach(), said.sum()

    def keep() -> None:
        save(checkpoint, shape, optimizer.masters, step=step, seconds=spent + time.time() - begun, state=optimizer.state)

    compiled = torch.compile(loss_of, dynamic=False)
    made = batches_beside(tokens["vocabulary"], tokens["merges"], options.seed + start, shape.context, long=options.long)
    begun = time.time()
    shown, weight_sum = 0.0, 0.0
    step = start
    mean = Mean()
    while True:
        elapsed = spent + time.time() - begun
        # By the clock a machine that is slowed down ends in time all the same; by steps two runs are alike.
        progress = step / options.steps if options.steps else elapsed / (60 * options.minutes)
        if progress >= 1:
            break
        warm = min(1.0, (step - start + 1) / 20)
        rate = warm * (min(1.0, (1 - progress) / options.cooling) if options.cooling else 1.0)
        total = 0.0
        for _ in range(options.batches):
            batch = next(made)
            inputs = [torch.from_numpy(one) for one in vars(batch).values()]
            loss, said, learned = compiled(*inputs)
            loss.backward()
            total += float(batch.weights.sum())
            shown, weight_sum = shown + said.item(), weight_sum + learned.item()
        optimizer.step(rate, 1 / total)
        step += 1
        if step % 25 == 0:
            print(f"step {step} {elapsed / 60:.1f} min loss {shown / weight_sum:.4f} rate {rate:.3f} {((step - start) * options.batches * TOKENS) / 1e6:.1f}M tokens", flush=True)
            shown, weight_sum = 0.0, 0.0
        if step % 200 == 0:
            keep()
        if options.means:
            mean.add(optimizer.masters)
            if step % options.means == 0:
                save(folder / f"{options.name}.{step // options.means}.pt", shape, mean.masters, step=step)
                mean = Mean()
    keep()
    made.close()


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="train")
    parser.add_argument("--folder", default="build", help="where tokenizer.json is, and the checkpoint goes")
    parser.add_argument("--name", default="demo")
    parser.add_argument("--minutes", type=float, default=110, help="how long, by the clock")
    parser.add_argument("--steps", type=int, help="how long, by steps: instead of --minutes")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--batches", type=int, default=1, help=f"of {TOKENS:,} tokens, for each step")
    parser.add_argument("--rate", type=float, default=0.004, help="of the matrices (Muon)")
    parser.add_argument("--other-rate", type=float, default=0.002, help="of the embedding and norms (AdamW)")
    parser.add_argument("--decay", type=float, default=0.05)
    parser.add_argument("--cooling", type=float, default=0.5, help="the last share of the time, in which the rates fall to zero; 0: they stay")
    parser.add_argument("--means", type=int, help="after so many steps each, the mean of the weights in them is kept as NAME.1, NAME.2, … for `average`")
    parser.add_argument("--long", type=float, default=0.003, help="share of conversations with a long system prompt")
    parser.add_argument("--resume", action="store_true")
    return parser


if __name__ == "__main__":
    main()
