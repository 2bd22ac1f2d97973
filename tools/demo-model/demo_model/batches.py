"""Rows of tokens for the training: conversations packed side by side, none of which sees another."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing import get_context
from random import Random

import numpy

from .conversation import Conversation, call_start, written
from .generate import conversations
from .tokenizer import Encoder

TOKENS = 8192
"""Of one batch, whatever the length of its rows."""
LENGTHS = (128, 256, 512, 2048)
"""Of rows; a conversation goes into the shortest that holds it."""
COMFORTABLE = 256
"""Tokens that a conversation with branches is brought down to, if it can be: attention in longer rows costs too much."""
CAPACITY = 3072
"""Places of a batch whose next token is learned: those that the model says, filled up with some of those that it reads."""
READ_WEIGHT = 0.03
CUT_SHARE, CUT = 0.5, (4, 14)
"""How many of the answers that are fixed texts are cut off, after how many tokens: what is left to learn is which text it is."""


@dataclass
class Batch:
    """`tokens`, `positions`, `documents`, `branches`: rows × length. `places` (into the flattened rows), `targets`, `weights`: `CAPACITY` long."""

    tokens: numpy.ndarray
    positions: numpy.ndarray
    documents: numpy.ndarray
    branches: numpy.ndarray
    places: numpy.ndarray
    targets: numpy.ndarray
    weights: numpy.ndarray


@dataclass
class Document:
    """A conversation in tokens: its trunk (branch 0), then the ways to go on (1, 2, …), each of which sees the trunk and itself."""

    tokens: list[int]
    said: list[bool]
    branches: list[int]

    def shorten(self, size: int) -> None:
        """Leaves branches out until it is `size` tokens long or has but one."""
        end = len(self.tokens)
        while end > size and self.branches[end - 1] > 1:
            end = self.branches.index(self.branches[end - 1])
        del self.tokens[end:], self.said[end:], self.branches[end:]


def to_document(conversation: Conversation, encoder: Encoder, random: Random | None = None) -> Document:
    """`random`: cuts off answers (see `CUT`)."""
    document = Document([], [], [])
    ways = [(conversation.turns, conversation.pieces()), *((turns, written(turns)) for turns in conversation.branches)]
    for number, (turns, pieces) in enumerate(ways):
        cut = None
        last = turns[-1] if turns else None
        if random is not None and last is not None:
            if last.known and random.random() < CUT_SHARE:
                cut, pieces = random.randint(*CUT), pieces[:-1]
            elif last.named:
                # And the sign behind it, so that it ends there.
                cut, pieces = len(encoder.encode(call_start(last.call[0]))) + 1, pieces[:-1]
        for index, (text, said) in enumerate(pieces):
            ids = encoder.encode(text)
            if cut is not None and index == len(pieces) - 1:
                ids = ids[:cut]
            document.tokens += ids
            document.said += [said] * len(ids)
            document.branches += [number] * len(ids)
    return document


def _size(row: list[Document]) -> int:
    return sum(len(one.tokens) for one in row)


class Packer:
    """Gathers documents into rows of one length, and rows into batches."""

    def __init__(self, length: int, context: int, random: Random) -> None:
        self.length, self.context, self.random = length, context, random
        self.open: list[list[Document]] = []
        self.done: list[list[Document]] = []

    def fill(self, document: Document, most_left: int) -> bool:
        """Puts a document into a row that it fills up but for `most_left` tokens; False: there is none."""
        for row in self.open:
            if 0 <= self.length - _size(row) - len(document.tokens) <= most_left:
                row.append(document)
                return True
        return False

    def add(self, document: Document) -> Batch | None:
        if not self.fill(document, self.length):
            self.open.append([document])
            if len(self.open) > 12:
                self.open.sort(key=_size)
                self.done.append(self.open.pop())
        if len(self.done) < TOKENS // self.length:
            return None
        rows, self.done = self.done, []
        return self._batch(rows)

    def _batch(self, rows: list[list[Document]]) -> Batch:
        shape = (len(rows), self.length)
        tokens, positions, documents, branches = (numpy.zeros(shape, dtype=numpy.int64) for _ in range(4))
        documents -= 1
        said: list[int] = []
        read: list[int] = []
        for index, row in enumerate(rows):
            at = 0
            for number, document in enumerate(row):
                size = len(document.tokens)
                tokens[index, at : at + size] = document.tokens
                positions[index, at : at + size] = self._positions(document.branches)
                documents[index, at : at + size] = number
                branches[index, at : at + size] = document.branches
                for place in range(size - 1):
                    if document.branches[place] == document.branches[place + 1]:
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
        return Batch(tokens, positions, documents, branches, places, tokens.reshape(-1)[numpy.minimum(places + 1, TOKENS - 1)], weights)

    def _positions(self, branches: list[int]) -> numpy.ndarray:
        """0, 1, 2, …, in every third document with a gap somewhere: so short rows teach long distances too (PoSE).

        Each branch goes on where the trunk ends.
        """
        size = len(branches)
        own = numpy.asarray(branches)
        positions = numpy.arange(size)
        trunk = int((own == 0).sum())
        for number in range(1, own[-1] + 1):
            place = own == number
            positions[place] += trunk - int(place.argmax())
        if size > 40 and self.random.random() < 0.3:
            gap = int((self.context - size) * self.random.random() ** 1.5)
            start = self.random.randrange(4, (trunk if own[-1] else size) - 8) if (trunk if own[-1] else size) > 13 else 0
            positions[positions >= start] += gap
        return positions


def batches(encoder: Encoder, seed: int, context: int, **options) -> Iterator[Batch]:
    """Without an end; the same for the same seed."""
    random = Random(seed ^ 0x5EED)
    packers = [Packer(length, context, random) for length in LENGTHS]
    for conversation in conversations(seed, **options):
        document = to_document(conversation, encoder, random)
        document.shorten(COMFORTABLE)
        fitting = [one for one in packers if len(document.tokens) <= one.length]
        # What is left over in long rows costs as much as what is learned there.
        if not fitting or any(one.fill(document, 24) for one in reversed(fitting[1:])):
            continue
        batch = fitting[0].add(document)
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
