"""The written part of the corpus, `corpus/**.yaml`, and what is drawn from it at random."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path
from random import Random

import yaml

FOLDER = Path(__file__).parent.parent / "corpus"
LANGUAGES = ("en", "zh")

SHARED = {
    "en": {
        "how": [
            "how do i", "how can i", "how to", "how do you", "how would i", "how should i", "what is the way to", "what's the way to",
            "what do i do to", "what must i do to", "what do i need to do to", "is there a way to", "tell me how to", "show me how to",
            "explain how to", "can you tell me how to", "i want to", "i'd like to", "i need to", "how does one", "what is the best way to",
            "can i", "could i", "help me", "i don't know how to", "steps to", "where do i",
        ],
        "lair": ["lair", "this", "this program", "this software", "local ai runtime", "the runtime", "lair", "it", "this thing", "this tool"],
        "tell": ["tell me", "explain", "can you tell me", "please tell me", "do you know", "i'd like to know", "i want to know", "could you explain"],
    },
    "zh": {
        "how": ["怎么", "如何", "怎样", "我该怎么", "我怎么", "应该怎么", "请问怎么", "要怎么", "我想", "怎么才能", "怎样才能", "有没有办法", "能不能", "可以", "教我怎么", "告诉我怎么"],
        "lair": ["lair", "这个软件", "本软件", "这个程序", "本程序", "local ai runtime", "它", "这个工具", "这个运行时", "lair"],
        "tell": ["请告诉我", "告诉我", "请问", "能告诉我", "我想知道", "解释一下", "说说", "介绍一下"],
    },
}


def is_held_out(text: str, parts: int = 33) -> bool:
    """One text of `parts` is never trained on, in whatever capitals and with whatever sign at its end."""
    plain = text.lower().strip(" ?？!！.。").encode()
    return int.from_bytes(hashlib.sha256(plain).digest()[:4], "big") % parts == 0


@lru_cache(maxsize=None)
def read(name: str) -> dict | list:
    return yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))


@lru_cache(maxsize=None)
def topics() -> list[dict]:
    """The questions about the software, of all areas."""
    return [topic for file in sorted((FOLDER / "topics").glob("*.yaml")) for topic in read(f"topics/{file.stem}")]


# Prefixes and suffixes that change nothing of what is asked.
POLITE = {
    "en": (
        ["hi, ", "hello, ", "hey, ", "please ", "ok, ", "so ", "um, ", "quick question: ", "question: ", "sorry, ", "hi! ", "well, ", "hey lair, "],
        [" please", ", please", " thanks", ", thanks", " thank you", "?", "??", " ?", "!", "."],
    ),
    "zh": (
        ["你好，", "请问", "请问一下，", "您好，", "那个，", "嗨，", "问一下，", "麻烦问下，", "请", "hi，"],
        ["谢谢", "，谢谢", "？", "?", "。", "呢？", "啊", "～", "！"],
    ),
}
DROPPED = {"the", "a", "an", "do", "does", "is", "to", "i", "of", "for", "my", "with", "it", "this", "are", "me"}
KEYS = "abcdefghijklmnopqrstuvwxyz"


def vary(text: str, language: str, random: Random) -> str:
    """The same request in other capitals, with or without its last sign, with a polite word, or a small slip of the pen."""
    end = "?？.。!！"
    if random.random() < 0.35:
        text = text.rstrip(end).rstrip()
    before, after = POLITE[language]
    if language == "en":
        if random.random() < 0.06:
            words = text.split(" ")
            kept = [word for word in words if word not in DROPPED or random.random() < 0.6]
            text = " ".join(kept) if len(kept) > 1 else text
        if random.random() < 0.06:
            text = slip(text, random)
    if random.random() < 0.12:
        text = random.choice(before) + text
    if random.random() < 0.1:
        text = text.rstrip(end) + random.choice(after)
    chance = random.random()
    if chance < 0.35:
        text = text[:1].upper() + text[1:]
    elif chance < 0.37:
        text = text.upper()
    elif chance < 0.40:
        text = text.lower()
    return text


def slip(text: str, random: Random) -> str:
    """One word of at least four letters with two letters swapped, one doubled, left out or wrong."""
    words = text.split(" ")
    places = [index for index, word in enumerate(words) if len(word) > 3 and word.isascii() and word.isalpha()]
    if not places:
        return text
    at = random.choice(places)
    word = words[at]
    place = random.randrange(1, len(word) - 1)
    kind = random.randrange(4)
    if kind == 0:
        word = word[:place] + word[place + 1] + word[place] + word[place + 2 :]
    elif kind == 1:
        word = word[:place] + word[place] + word[place:]
    elif kind == 2:
        word = word[:place] + word[place + 1 :]
    else:
        word = word[:place] + random.choice(KEYS) + word[place + 1 :]
    words[at] = word
    return " ".join(words)


SIGNS = {"#": "0123456789", "?": "ABCDEFGHJKLMNPRSTUVWXYZ", "*": KEYS}


def shaped(shape: str, random: Random) -> str:
    """`#` becomes a digit, `?` a capital letter, `*` a small one."""
    return "".join(random.choice(SIGNS[sign]) if sign in SIGNS else sign for sign in shape)


CONSONANTS, VOWELS = "bcdfghjklmnprstvwz", "aeiou"


def made_up_word(random: Random, syllables: int | None = None) -> str:
    """A word that nobody knows, such as `tavoli`."""
    count = syllables or random.randint(2, 3)
    word = "".join(random.choice(CONSONANTS) + random.choice(VOWELS) for _ in range(count))
    return word + (random.choice("nrstlmk") if random.random() < 0.5 else "")
