"""Rows of tokens for the training: conversations packed side by side, none of which sees another."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing import get_context
from random import Random

import numpy

from .conversation import Conversation
from .generate import conversations
from .tokenizer import Encoder

TOKENS = 8192
"""Of one batch, whatever the length of its rows."""
LENGTHS = (256, 512, 2048)
"""Of rows; a conversation goes into the shortest that holds it."""
CAPACITY = TOKENS // 2
"""Places of a batch whose next token is learned: those that the model says, filled up with some of those that it reads."""
READ_WEIGHT = 0.1


@dataclass
class Batch:
    """`tokens`, `positions`, `documents`: rows × length. `places` (into the flattened rows), `targets`, `weights`: `CAPACITY` long."""

    tokens: numpy.ndarray
    positions: numpy.ndarray
    documents: numpy.ndarray
    places: numpy.ndarray
    targets: numpy.ndarray
    weights: numpy.ndarray


@dataclass
class Document:
    tokens: list[int]
    said: list[bool]


def to_document(conversation: Conversation, encoder: Encoder) -> Document:
    tokens: list[int] = []
    said: list[bool] = []
    for text, learned in conversation.pieces():
        ids = encoder.encode(text)
        tokens += ids
        said += [learned] * len(ids)
    return Document(tokens, said)


class Packer:
    """Gathers documents into rows of one length, and rows into batches."""

    def __init__(self, length: int, context: int, random: Random) -> None:
        self.length, self.context, self.random = length, context, random
        self.open: list[list[Document]] = []
        self.done: list[list[Document]] = []

    def add(self, document: Document) -> Batch | None:
        size = len(document.tokens)
        for row in self.open:
            if sum(len(one.tokens) for one in row) + size <= self.length:
                row.append(document)
                break
        else:
            self.open.append([document])
            if len(self.open) > 12:
                self.open.sort(key=lambda row: sum(len(one.tokens) for one in row))
                self.done.append(self.open.pop())
        if len(self.done) < TOKENS // self.length:
            return None
        rows, self.done = self.done, []
        return self._batch(rows)

    def _batch(self, rows: list[list[Document]]) -> Batch:
        shape = (len(rows), self.length)
        tokens, positions, documents = (numpy.zeros(shape, dtype=numpy.int64) for _ in range(3))
        documents -= 1
        said: list[int] = []
        read: list[int] = []
        for index, row in enumerate(rows):
            at = 0
            for number, document in enumerate(row):
                size = len(document.tokens)
                tokens[index, at : at + size] = document.tokens
                positions[index, at : at + size] = self._positions(size)
                documents[index, at : at + size] = number
                for place in range(size - 1):
                    (said if document.said[place + 1] else read).append(index * self.length + at + place)
                at += size
        self.random.shuffle(said)
        self.random.shuffle(read)
        said = said[:CAPACITY]
        read = read[: CAPACITY - len(said)]
        places = numpy.zeros(CAPACITY, dtype=numpy.int64)
        weights = numpy.zeros(CAPACITY, dtype=numpy.float32)
        places[: len(said) + len(read)] = said + read
        weights[: len(said)] = 1
        weights[len(said) : len(said) + len(read)] = READ_WEIGHT
        return Batch(tokens, positions, documents, places, tokens.reshape(-1)[numpy.minimum(places + 1, TOKENS - 1)], weights)

    def _positions(self, size: int) -> numpy.ndarray:
        """0, 1, 2, …, in every third document with a gap somewhere: so short rows teach long distances too (PoSE)."""
        positions = numpy.arange(size)
        if size > 40 and self.random.random() < 0.3:
            gap = int((self.context - size) * self.random.random() ** 1.5)
            positions[self.random.randrange(4, size - 8) :] += gap
        return positions


def batches(encoder: Encoder, seed: int, context: int, **options) -> Iterator[Batch]:
    """Without an end; the same for the same seed."""
    random = Random(seed ^ 0x5EED)
    packers = [Packer(length, context, random) for length in LENGTHS]
    for conversation in conversations(seed, **options):
        document = to_document(conversation, encoder)
        packer = next((one for one in packers if len(document.tokens) <= one.length), None)
        batch = packer.add(document) if packer else None
        if batch is not None:
            yield batch


def batches_beside(vocabulary, merges, seed: int, context: int, **options) -> Iterator[Batch]:
    """The same, made by a process of its own while the training computes."""
    spawning = get_context("spawn")
    queue = spawning.Queue(maxsize=64)
    maker = spawning.Process(target=_make, args=(queue, vocabulary, merges, seed, context, options), daemon=True)
    maker.start()
    try:
        while True:
            yield queue.get()
    finally:
        maker.terminate()


def _make(queue, vocabulary, merges, seed: int, context: int, options: dict) -> None:
    for batch in batches(Encoder(vocabulary, [tuple(pair) for pair in merges]), seed, context, **options):
        queue.put(batch)
