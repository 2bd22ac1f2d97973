"""Values that no list has: what a request says is copied, not known by heart."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from random import Random

from .corpus import made_up_word, read, shaped

PHRASES = {"search", "title", "todo", "note", "text", "message", "subject", "content", "line", "commit", "issue", "headline", "product", "article", "output"}
CODE = {"pattern", "old", "new", "word", "branch", "repo", "host", "container", "queue", "flag", "service", "package"}


def novel(name: str, language: str, random: Random) -> str | None:
    """A value such as the list `name` has, but put together at random; None: of this list there is no way to."""
    if name in PHRASES:
        return _phrase(language, random)
    if name == "command":
        return _command(random)
    if name in ("path", "file", "photo", "audio"):
        return _path(random)
    if name == "folder":
        return _path(random).rsplit(".", 1)[0]
    if name == "person":
        return _person(language, random)
    if name in CODE:
        return _code(random)
    return None


@lru_cache(maxsize=None)
def _vocabulary(language: str) -> list[str]:
    """The words of the phrases that are listed; of Chinese ones pieces of two to four signs."""
    lists = read("tools")["lists"]
    texts = [str(text) for name in sorted(PHRASES) if name in lists for text in lists[name][language]]
    if language == "en":
        return [word for text in texts for word in text.split(" ")]
    return [text[at : at + 2 + at % 3] for text in texts for at in range(0, len(text) - 1, 3)]


def _phrase(language: str, random: Random) -> str:
    """Words in no order, from one to nine."""
    count = min(9, 1 + int(random.expovariate(0.45)))
    words = [_word(language, random) for _ in range(count)]
    text = (" " if language == "en" else "").join(words).strip(" ,.?!;:，。？！；：")
    kind = random.random()
    return text.title() if language == "en" and kind < 0.12 else text[:1].upper() + text[1:] if kind < 0.3 else text


def _word(language: str, random: Random) -> str:
    kind = random.random()
    if kind < 0.08:
        return str(random.randint(1, 9999))
    if kind < 0.18:
        return made_up_word(random)
    if kind < 0.45:
        return read("words")["nouns"][random.randrange(len(read("words")["nouns"]))][language]
    return random.choice(_vocabulary(language))


@lru_cache(maxsize=None)
def _commands() -> list[list[str]]:
    return [str(one).split(" ") for one in read("tools")["lists"]["command"]["en"]]


def _command(random: Random) -> str:
    words = list(random.choice(_commands())) if random.random() < 0.6 else [random.choice(_commands())[0] if random.random() < 0.7 else made_up_word(random)]
    for _ in range(random.choice((0, 1, 1, 2, 3))):
        kind = random.random()
        if kind < 0.3:
            words.append(f"-{random.choice('abcdefghilnoprstuvx')}{random.choice(('', '', random.choice('adfhlrtux'), str(random.randint(1, 99))))}")
        elif kind < 0.5:
            words.append(f"--{random.choice((made_up_word(random), 'all', 'force', 'json', 'quiet', 'no-cache', 'oneline', 'watch'))}")
        elif kind < 0.65:
            words.append(_path(random))
        else:
            words.append(random.choice((made_up_word(random), random.choice(random.choice(_commands())), str(random.randint(1, 9999)))))
    return " ".join(words)


FOLDERS = ("src", "docs", "test", "lib", "app", "data", "config", "scripts", "notes", "photos", "logs", "packages")
ENDINGS = ("txt", "md", "ts", "js", "py", "json", "yaml", "csv", "log", "tsx", "rs", "go", "c", "toml", "html", "png", "sh", "xml", "ini", "lock")


def _path(random: Random) -> str:
    start = random.choice(("", "", "", "", "./", "../", "/tmp/", "~/", "/etc/", "/var/log/", f"/home/{made_up_word(random)}/", f"/Users/{made_up_word(random)}/", "/app/", "/srv/"))
    folders = [random.choice(FOLDERS) if random.random() < 0.6 else made_up_word(random) for _ in range(random.choice((0, 0, 1, 1, 2, 3)))]
    name = _plain_word(random)
    if random.random() < 0.3:
        name += random.choice("-_.") + random.choice((made_up_word(random), _plain_word(random), str(random.randint(1, 2030))))
    return start + "/".join([*folders, f"{name}.{random.choice(ENDINGS)}"])


def _plain_word(random: Random) -> str:
    kind = random.random()
    if kind < 0.35:
        return made_up_word(random)
    word = random.choice(read("words")["nouns"])["en"].replace(" ", random.choice("-_"))
    return word if kind < 0.85 else word.capitalize() if kind < 0.95 else word.upper()


def _code(random: Random) -> str:
    """An identifier: `createServer`, `max_count`, `left-pad`, `Foo`."""
    first, second = _plain_word(random).lower(), _plain_word(random).lower()
    kind = random.random()
    if kind < 0.35:
        return f"{first}{second.capitalize()}"
    if kind < 0.6:
        return f"{first}_{second}"
    if kind < 0.8:
        return f"{first}-{second}"
    return first.capitalize() if kind < 0.9 else f"{first.capitalize()}{second.capitalize()}"


SURNAMES = "王李张刘陈杨赵黄周吴徐孙胡朱高林何郭马罗"
GIVEN = "芳伟娜敏静丽强磊军洋勇艳杰娟涛明超兰霞平刚桂英华玉萍红建文宁雪晨宇浩然子涵思远"


def _person(language: str, random: Random) -> str:
    if language == "zh":
        return random.choice(SURNAMES) + "".join(random.choice(GIVEN) for _ in range(random.choice((1, 2))))
    return f"{_listed_person(random)} {made_up_word(random).capitalize()}"


def _listed_person(random: Random) -> str:
    return str(random.choice(read("tools")["lists"]["person"]["en"])) if random.random() < 0.6 else made_up_word(random).capitalize()


SHAPES = ("?#", "?##", "##", "###", "####", "?-##", "??-####", "?", "#", "**-#", "*#", "???####", "??-####-##", "#######")


def a_number(random: Random) -> str:
    """`B2`, `X-31`, `4471`."""
    return shaped(random.choice(SHAPES), random)


def a_name(language: str, random: Random) -> str:
    """What a thing may be called: `Coco`, `B2`, `reef`, `gh-humidity-2`."""
    kind = random.random()
    if kind < 0.25:
        return a_number(random)
    if kind < 0.35:
        return "-".join([_plain_word(random).lower() for _ in range(random.choice((1, 2)))] + [str(random.randint(1, 40))])
    if language == "zh" and kind < 0.8:
        lists = read("tools")["lists"]
        pick = random.random()
        return (
            _person("zh", random)
            if pick < 0.2
            else random.choice(SURNAMES + GIVEN) * 2
            if pick < 0.35
            else str(random.choice(lists[random.choice(("city", "room", "product", "food", "person"))]["zh"]))
            if pick < 0.7
            else random.choice(read("words")["nouns"])["zh"]
        )
    if kind < 0.6:
        return _listed_person(random)
    if kind < 0.7:
        return _person("en", random)
    return _plain_word(random).lower()


MARKS = {"en": ('"{}"', "'{}'", "`{}`"), "zh": ("“{}”", '"{}"', "「{}」", "《{}》", "`{}`")}


def marker(language: str, random: Random) -> Callable[[str], str]:
    """How one request sets its values off: most do not; in Chinese often with spaces, and some in quotes."""
    kind = random.random()
    if kind < 0.08:
        mark = random.choice(MARKS[language])
        return lambda said: said if any(sign in said for sign in "\"'`“”「」《》") else mark.format(said)
    if language == "zh" and kind < 0.35:
        return lambda said: f" {said} "
    return lambda said: said
