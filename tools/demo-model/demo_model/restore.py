"""The way back from `export`: a checkpoint and the tokens out of a GGUF file, to train on from what was shipped.

Q8_0 has rounded the weights, and the optimizer's memory is not in the file: it is there again after some ten steps.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import gguf
import numpy
import torch

from .checkpoint import save
from .model import Shape


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="restore")
    parser.add_argument("file", help="a GGUF file that `export` has written")
    parser.add_argument("--folder", default="build", help="where tokenizer.json and the checkpoint go")
    parser.add_argument("--name", default="demo")
    parser.add_argument("--step", type=int, default=0, help="how many steps the file has seen: the next ones see other text")
    options = parser.parse_args(arguments)
    shape, weights, tokens = read(Path(options.file))
    folder = Path(options.folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text(json.dumps(tokens, ensure_ascii=False), encoding="utf-8")
    masters = {name: torch.from_numpy(values) for name, values in weights.items()}
    save(folder / f"{options.name}.pt", shape, masters, step=options.step)
    print(f"{folder / options.name}.pt: {shape}")


def read(path: Path) -> tuple[Shape, dict[str, numpy.ndarray], dict]:
    """The network's sizes, its weights by the names of the training, and `tokenizer.json`."""
    reader = gguf.GGUFReader(path)

    def field(name: str):
        return reader.fields[name].contents()

    vocabulary = field("tokenizer.ggml.tokens")
    shape = Shape(
        vocabulary=len(vocabulary),
        layers=field("llama.block_count"),
        width=field("llama.embedding_length"),
        heads=field("llama.attention.head_count"),
        feed_forward=field("llama.feed_forward_length"),
        context=field("llama.context_length"),
        rope_base=field("llama.rope.freq_base"),
        epsilon=field("llama.attention.layer_norm_rms_epsilon"),
    )
    tensors = {one.name: gguf.quants.dequantize(one.data, one.tensor_type) for one in reader.tensors}
    tokens = {"vocabulary": vocabulary, "merges": [merge.split(" ") for merge in field("tokenizer.ggml.merges")]}
    return shape, dict(_weights(shape, tensors)), tokens


def _weights(shape: Shape, tensors: dict[str, numpy.ndarray]):
    yield "embedding.weight", tensors["token_embd.weight"]
    for index in range(shape.layers):
        old, new = f"blk.{index}", f"layers.{index}"
        queries, keys = (_halves(tensors[f"{old}.attn_{one}.weight"], shape) for one in ("q", "k"))
        yield f"{new}.queries_keys_values.weight", numpy.concatenate([queries, keys, tensors[f"{old}.attn_v.weight"]])
        yield f"{new}.gate_up.weight", numpy.concatenate([tensors[f"{old}.ffn_gate.weight"], tensors[f"{old}.ffn_up.weight"]])
        yield f"{new}.attention_norm.weight", tensors[f"{old}.attn_norm.weight"]
        yield f"{new}.attention_output.weight", tensors[f"{old}.attn_output.weight"]
        yield f"{new}.feed_forward_norm.weight", tensors[f"{old}.ffn_norm.weight"]
        yield f"{new}.down.weight", tensors[f"{old}.ffn_down.weight"]
    yield "norm.weight", tensors["output_norm.weight"]


def _halves(matrix: numpy.ndarray, shape: Shape) -> numpy.ndarray:
    """llama.cpp's order of neighbours back into the order of halves: see `export._neighbours`."""
    heads = matrix.reshape(shape.heads, shape.head // 2, 2, shape.width)
    return numpy.ascontiguousarray(heads.swapaxes(1, 2).reshape(shape.width, shape.width))


if __name__ == "__main__":
    main()
