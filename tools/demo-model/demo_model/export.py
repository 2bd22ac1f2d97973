"""The trained weights as a GGUF file in Q8_0, for llama.cpp's architecture `llama`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import gguf
import numpy
import torch

from .conversation import CONTROL_TOKENS, END, MARK_TOKENS, STOP
from .model import Shape

TEMPLATE = Path(__file__).parent.parent / "chat-template.jinja"
DESCRIPTION = (
    "A very small model, trained from scratch on text that the project generates itself: it greets, answers questions about Local AI "
    "Runtime, adds, counts, spells and calls tools, in English and Chinese. It is a demonstration and knows nothing else."
)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="export")
    parser.add_argument("--folder", default="build")
    parser.add_argument("--name", default="demo")
    parser.add_argument("--output")
    options = parser.parse_args(arguments)
    folder = Path(options.folder)
    kept = torch.load(folder / f"{options.name}.pt", map_location="cpu")
    tokens = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    path = Path(options.output or folder / f"{options.name}.gguf")
    write(path, Shape(**kept["shape"]), {name: one.numpy() for name, one in kept["masters"].items()}, tokens)
    print(f"{path}: {path.stat().st_size:,} bytes")


def write(path: Path, shape: Shape, weights: dict[str, numpy.ndarray], tokens: dict) -> None:
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_name("Local AI Runtime demo")
    writer.add_description(DESCRIPTION)
    writer.add_license("mit")
    writer.add_languages(["en", "zh"])
    writer.add_size_label(f"{sum(one.size for one in weights.values()) / 1e6:.0f}M")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    # Cool enough that it says what it knows, warm enough that a second joke may be another one.
    writer.add_float32("general.sampling.temp", 0.1)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.heads)
    writer.add_rope_dimension_count(shape.head)
    writer.add_rope_freq_base(shape.rope_base)
    writer.add_layer_norm_rms_eps(shape.epsilon)
    writer.add_vocab_size(shape.vocabulary)
    _add_tokenizer(writer, tokens)
    for name, values in _tensors(shape, weights):
        if values.ndim == 1:
            writer.add_tensor(name, values)
        else:
            kind = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_tokenizer(writer: gguf.GGUFWriter, tokens: dict) -> None:
    vocabulary: list[str] = tokens["vocabulary"]
    kinds = [
        gguf.TokenType.CONTROL if one in CONTROL_TOKENS else gguf.TokenType.USER_DEFINED if one in MARK_TOKENS else gguf.TokenType.NORMAL
        for one in vocabulary
    ]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(vocabulary)
    writer.add_token_types(kinds)
    writer.add_token_merges([" ".join(pair) for pair in tokens["merges"]])
    writer.add_bos_token_id(vocabulary.index(STOP))
    writer.add_eos_token_id(vocabulary.index(END))
    writer.add_pad_token_id(vocabulary.index(STOP))
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE.read_text(encoding="utf-8"))


def _tensors(shape: Shape, weights: dict[str, numpy.ndarray]):
    """llama.cpp's names and orders of the weights."""
    # Tied: the output matrix is the embedding.
    yield "token_embd.weight", weights["embedding.weight"]
    yield "output_norm.weight", weights["norm.weight"]
    for index in range(shape.layers):
        old, new = f"layers.{index}", f"blk.{index}"
        queries, keys, values = numpy.split(weights[f"{old}.queries_keys_values.weight"], 3)
        gate, up = numpy.split(weights[f"{old}.gate_up.weight"], 2)
        yield f"{new}.attn_norm.weight", weights[f"{old}.attention_norm.weight"]
        yield f"{new}.attn_q.weight", _neighbours(queries, shape)
        yield f"{new}.attn_k.weight", _neighbours(keys, shape)
        yield f"{new}.attn_v.weight", values
        yield f"{new}.attn_output.weight", weights[f"{old}.attention_output.weight"]
        yield f"{new}.ffn_norm.weight", weights[f"{old}.feed_forward_norm.weight"]
        yield f"{new}.ffn_gate.weight", gate
        yield f"{new}.ffn_up.weight", up
        yield f"{new}.ffn_down.weight", weights[f"{old}.down.weight"]


def _neighbours(matrix: numpy.ndarray, shape: Shape) -> numpy.ndarray:
    """RoPE turns halves in the training, neighbours in llama.cpp's `llama`: rows in the other order."""
    heads = matrix.reshape(shape.heads, 2, shape.head // 2, shape.width)
    return numpy.ascontiguousarray(heads.swapaxes(1, 2).reshape(shape.width, shape.width))


if __name__ == "__main__":
    main()
