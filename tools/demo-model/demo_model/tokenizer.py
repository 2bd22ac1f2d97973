"""Byte-level BPE that llama.cpp reads as `gpt2` with the splitting of `qwen2`: numbers come digit by digit.

Unlike usual merges, none joins a space, a quote or any other sign with the letters behind it, but for the most frequent words of
the corpus (`SPACED`). So a word has the same tokens after a space, in quotes and behind an underscore, and copying it into a
call's arguments is copying of tokens, which a small model learns soon.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

from .conversation import CONTROL_TOKENS, LETTERS, LETTERS_END, MARK_TOKENS

QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SPACE = "Ġ"
SPACED = 450
"""Words that have a token with the space before them too."""


LONGEST = 12
"""Bytes of a token: four Chinese characters."""


def byte_characters() -> list[str]:
    """GPT-2's map of bytes to printable characters, in which byte-level vocabularies are written."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    shifted = iter(range(256, 512))
    return [chr(byte) if byte in printable else chr(next(shifted)) for byte in range(256)]


def split() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN2), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def train(texts: Iterable[str], size: int) -> tuple[list[str], list[tuple[str, str]]]:
    """Vocabulary (in the order of ids) and merges of `size` tokens, learned from `texts`."""
    splitter = pre_tokenizers.Split(Regex(QWEN2), behavior="isolated")
    marks = re.compile("|".join(re.escape(mark) for mark in CONTROL_TOKENS + MARK_TOKENS) + f"|{LETTERS}.*?{LETTERS_END}")
    counts: Counter[str] = Counter()
    for text in texts:
        for part in marks.split(text):
            counts.update(piece for piece, _ in splitter.pre_tokenize_str(part))
    characters = byte_characters()
    raw: Counter[tuple[str, ...]] = Counter()
    spaced: Counter[str] = Counter()

    def add(piece: str, count: int) -> None:
        encoded = tuple(characters[byte] for byte in piece.encode())
        if len(encoded) > 1:
            raw[encoded] += count

    for piece, count in counts.items():
        if len(piece) > 1 and not piece[0].isalpha() and piece[1].isalpha():
            add(piece[0], count)
            if piece[0] == " ":
                spaced["".join(characters[byte] for byte in piece[1:].encode())] += count
            piece = piece[1:]
        add(piece, count)
    # The root: a sentence that the corpus says ten thousand times needs no token of its own.
    words = Counter({word: round(10 * count**0.5) for word, count in raw.items()})
    special = len(CONTROL_TOKENS) + len(MARK_TOKENS)
    vocabulary = byte_characters()
    merges = merge(words, size - special - len(vocabulary) - SPACED)
    vocabulary += ["".join(pair) for pair in merges]
    known = set(vocabulary)
    for word, _ in spaced.most_common():
        if len(vocabulary) + special == size:
            break
        if len(word) > 1 and word.isascii() and word in known and SPACE + word not in known:
            merges.append((SPACE, word))
            vocabulary.append(SPACE + word)
    return [*vocabulary, *CONTROL_TOKENS, *MARK_TOKENS], merges


def merge(words: Counter[tuple[str, ...]], wanted: int) -> list[tuple[str, str]]:
    """The `wanted` most frequent pairs, each joined before the next is looked for; ties go by the alphabet."""
    pieces = [list(word) for word in words]
    counts = list(words.values())
    pairs: Counter[tuple[str, str]] = Counter()
    places: dict[tuple[str, str], set[int]] = {}
    for index, word in enumerate(pieces):
        for pair in zip(word, word[1:]):
            pairs[pair] += counts[index]
            places.setdefault(pair, set()).add(index)
    merges: list[tuple[str, str]] = []
    known = set()
    while len(merges) < wanted and pairs:
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        if pairs[best] < 2:
            break
        joined = "".join(best)
        if len(joined) > LONGEST:
            del pairs[best]
            places.pop(best, None)
            continue
        if joined not in known:
            known.add(joined)
            merges.append(best)
        for index in places.pop(best, set()):
            word, count = pieces[index], counts[index]
            for pair in zip(word, word[1:]):
                pairs[pair] -= count
                if pair in places:
                    places[pair].discard(index)
            at = 0
            while at < len(word) - 1:
                if (word[at], word[at + 1]) == best:
                    word[at : at + 2] = [joined]
                at += 1
            for pair in zip(word, word[1:]):
                pairs[pair] += count
                places.setdefault(pair, set()).add(index)
        del pairs[best]
    return merges


class Encoder:
    """Text to ids, as llama.cpp does it."""

    def __init__(self, vocabulary: list[str], merges: list[tuple[str, str]]) -> None:
        ids = {token: index for index, token in enumerate(vocabulary)}
        self.vocabulary, self.merges = vocabulary, merges
        self.tokenizer = Tokenizer(models.BPE(vocab=ids, merges=[tuple(pair) for pair in merges]))
        self.tokenizer.pre_tokenizer = split()
        self.tokenizer.decoder = decoders.ByteLevel()
        self.tokenizer.add_special_tokens([AddedToken(one, normalized=False) for one in CONTROL_TOKENS + MARK_TOKENS])
        self.bytes = [ids[one] for one in byte_characters()]

    def encode(self, text: str) -> list[int]:
        """What stands between `LETTERS` and `LETTERS_END` becomes a token a byte."""
        if LETTERS not in text:
            return self.tokenizer.encode(text, add_special_tokens=False).ids
        ids: list[int] = []
        for part in re.split(f"({LETTERS}.*?{LETTERS_END})", text):
            if part.startswith(LETTERS):
                ids += [self.bytes[byte] for byte in part[1:-1].encode()]
            elif part:
                ids += self.tokenizer.encode(part, add_special_tokens=False).ids
        return ids

    def decode(self, ids: list[int]) -> str:
        return self.tokenizer.decode(ids, skip_special_tokens=False)
