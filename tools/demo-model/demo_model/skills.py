"""Counting, adding and spelling: requests with drawn numbers and words, answers computed."""

from __future__ import annotations

from random import Random

from .conversation import LETTERS, LETTERS_END
from .corpus import is_held_out, made_up_word, read
from .patterns import draw

SKILLS = ("add", "subtract", "count_up", "count_to", "count_down", "count_down_from", "backwards", "spell")
LARGEST = 100


def ask_skill(skill: str, language: str, random: Random, held_out: bool) -> tuple[str, str]:
    """A request and its answer."""
    slots, answer = draw_slots(skill, language, random, held_out)
    return draw(read("chat")["skills"][skill][language], random, lambda name: slots[name]), answer


def draw_slots(skill: str, language: str, random: Random, held_out: bool) -> tuple[dict[str, str], str]:
    """What stands in a request, and the answer. Held out: numbers and words (not the wording) that training never has."""
    while True:
        slots, answer = DRAWN[skill](language, random)
        if is_held_out(f"{skill} {' '.join(slots.values())}", 10) == held_out:
            return slots, answer


def _number(random: Random) -> int:
    return random.randint(0, LARGEST) if random.random() < 0.8 else random.randint(0, 20)


def _add(language: str, random: Random) -> tuple[dict[str, str], str]:
    a, b = _number(random), _number(random)
    return {"a": str(a), "b": str(b)}, _equation(a, "+", b, a + b, language)


def _subtract(language: str, random: Random) -> tuple[dict[str, str], str]:
    a, b = _number(random), _number(random)
    if a < b and random.random() < 0.7:
        a, b = b, a
    return {"a": str(a), "b": str(b)}, _equation(a, "-", b, a - b, language)


def _equation(a: int, sign: str, b: int, result: int, language: str) -> str:
    return f"{a} {sign} {b} = {result}{'.' if language == 'en' else '。'}"


def _counted(first: int, last: int) -> str:
    step = 1 if first <= last else -1
    return ", ".join(str(number) for number in range(first, last + step, step))


def _length(random: Random) -> int:
    chance = random.random()
    return random.randint(2, 12) if chance < 0.75 else random.randint(13, 30) if chance < 0.97 else random.randint(31, 99)


def _count_up(language: str, random: Random) -> tuple[dict[str, str], str]:
    first = random.randint(0, LARGEST - 2)
    last = min(first + _length(random), LARGEST)
    return {"a": str(first), "b": str(last)}, _counted(first, last)


def _count_down(language: str, random: Random) -> tuple[dict[str, str], str]:
    slots, _ = _count_up(language, random)
    return slots, _counted(int(slots["b"]), int(slots["a"]))


def _count_to(language: str, random: Random) -> tuple[dict[str, str], str]:
    last = 1 + _length(random)
    return {"b": str(last)}, _counted(1, last)


def _count_down_from(language: str, random: Random) -> tuple[dict[str, str], str]:
    first = 1 + _length(random)
    return {"b": str(first)}, _counted(first, 1)


def _word(random: Random) -> str:
    return random.choice(read("chat")["words"]) if random.random() < 0.55 else made_up_word(random)


def _spelled(word: str) -> str:
    return f"{LETTERS}{'-'.join(word)}{LETTERS_END}"


def _spell(language: str, random: Random) -> tuple[dict[str, str], str]:
    word = _word(random)
    return {"word": word}, _spelled(word)


def several(skill: str, language: str, random: Random) -> tuple[str, str]:
    """Some sums, or some words to spell, at once: a row of practice instead of one line."""
    if skill in ("add", "subtract"):
        return _sums(language, random)
    words: list[str] = []
    while len(words) < random.randint(2, 6):
        word = _word(random)
        if not is_held_out(f"spell {word}", 10) and not is_held_out(f"backwards {word}", 10):
            words.append(word)
    asked, answer = PRACTICE[skill][language], _spelled if skill == "spell" else lambda word: _turned(word, language)
    return asked + ", ".join(words), ("\n" if skill == "backwards" else ", ").join(answer(word) for word in words)


PRACTICE = {
    "spell": {"en": "spell these words: ", "zh": "拼写这些单词："},
    "backwards": {"en": "spell these words backwards: ", "zh": "把这些单词倒过来："},
}


def _sums(language: str, random: Random) -> tuple[str, str]:
    asked, answered = [], []
    while len(asked) < random.randint(3, 12):
        skill = random.choice(("add", "subtract"))
        slots, answer = DRAWN[skill](language, random)
        if not is_held_out(f"{skill} {' '.join(slots.values())}", 10):
            sign = "+" if skill == "add" else "-"
            asked.append(random.choice(("{a}{s}{b}", "{a} {s} {b}")).format(s=sign, **slots))
            answered.append(answer[:-1])
    return random.choice(("", "", "calculate ", "计算 ")) + ", ".join(asked), "\n".join(answered)


def _backwards(language: str, random: Random) -> tuple[dict[str, str], str]:
    word = _word(random)
    return {"word": word}, _turned(word, language)


def _turned(word: str, language: str) -> str:
    turned = f"{LETTERS}{word[::-1]}{LETTERS_END}"
    return f"{_spelled(word)}{', backwards: ' if language == 'en' else '，倒过来：'}{turned}"


DRAWN = {
    "add": _add,
    "subtract": _subtract,
    "count_up": _count_up,
    "count_to": _count_to,
    "count_down": _count_down,
    "count_down_from": _count_down_from,
    "backwards": _backwards,
    "spell": _spell,
}
