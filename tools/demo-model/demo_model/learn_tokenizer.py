"""Learns the tokenizer from the first conversations of the corpus."""

from __future__ import annotations

import argparse
import json
from itertools import islice
from pathlib import Path

from .conversation import Conversation, written
from .generate import conversations
from .tokenizer import train


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="tokenizer")
    parser.add_argument("--folder", default="build")
    parser.add_argument("--size", type=int, default=4096)
    parser.add_argument("--conversations", type=int, default=60_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    texts = (_text(one) for one in islice(conversations(options.seed), options.conversations))
    vocabulary, merges = train(texts, options.size)
    folder = Path(options.folder)
    folder.mkdir(parents=True, exist_ok=True)
    learned = json.dumps({"vocabulary": vocabulary, "merges": merges}, ensure_ascii=False)
    (folder / "tokenizer.json").write_text(learned, encoding="utf-8")
    print(f"{len(vocabulary)} tokens, {len(merges)} merges")


def _text(conversation: Conversation) -> str:
    ways = [piece for turns in conversation.branches for piece in written(turns)]
    return "".join(text for text, _ in conversation.pieces() + ways)


if __name__ == "__main__":
    main()
