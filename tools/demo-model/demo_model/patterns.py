"""The pattern language of the corpus: `(a|b|)` alternatives, `{name}` slots."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from random import Random

Fill = Callable[[str], str]
"""Slot's name to its text."""


@dataclass(frozen=True)
class Pattern:
    """Parts in a row: a text, a slot (its name in a tuple of one), or alternatives (a list of patterns)."""

    parts: tuple
    count: int
    """How many texts it stands for, each slot counted as one."""

    def draw(self, random: Random, fill: Fill) -> str:
        """One of its texts, a choice with more texts in it being more likely."""
        said: list[str] = []
        self._draw(random, fill, said)
        return re.sub(r"  +", " ", "".join(said)).strip()

    def _draw(self, random: Random, fill: Fill, said: list[str]) -> None:
        for part in self.parts:
            if isinstance(part, str):
                said.append(part)
            elif isinstance(part, tuple):
                said.append(fill(part[0]))
            else:
                random.choices(part, weights=[option.weight for option in part])[0]._draw(random, fill, said)

    @property
    def weight(self) -> float:
        return self.count**0.5

    def slots(self) -> Iterator[str]:
        for part in self.parts:
            if isinstance(part, tuple):
                yield part[0]
            elif isinstance(part, list):
                for option in part:
                    yield from option.slots()


@lru_cache(maxsize=None)
def parse(source: str) -> Pattern:
    """Throws ValueError for a bracket that is not closed or was never opened."""
    pattern, end = _parse(source, 0)
    if end != len(source):
        raise ValueError(f"{source!r}: a `{source[end]}` at {end} that nothing opened")
    return pattern


def _parse(source: str, at: int) -> tuple[Pattern, int]:
    parts: list = []
    count, text = 1, ""
    while at < len(source) and source[at] not in "|)":
        sign = source[at]
        if sign == "(":
            options: list[Pattern] = []
            while True:
                option, at = _parse(source, at + 1)
                options.append(option)
                if at >= len(source):
                    raise ValueError(f"{source!r}: a bracket is not closed")
                if source[at] == ")":
                    break
            parts += [text, options]
            text, at = "", at + 1
            count *= sum(option.count for option in options)
        elif sign == "{":
            end = source.find("}", at)
            if end < 0:
                raise ValueError(f"{source!r}: a slot is not closed")
            parts += [text, (source[at + 1 : end],)]
            text, at = "", end + 1
        else:
            text, at = text + sign, at + 1
    return Pattern(tuple(part for part in [*parts, text] if part != ""), count), at


def draw(patterns: list[str], random: Random, fill: Fill) -> str:
    """A text of one of the patterns; those that stand for more texts are taken more often."""
    return choose(patterns, random).draw(random, fill)


def choose(patterns: list[str], random: Random) -> Pattern:
    return parse(random.choices(patterns, weights=_weights(tuple(patterns)))[0])


@lru_cache(maxsize=None)
def _weights(patterns: tuple[str, ...]) -> list[float]:
    return [parse(one).count**0.5 for one in patterns]
