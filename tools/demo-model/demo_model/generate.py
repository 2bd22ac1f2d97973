"""The corpus: conversations drawn from a seed. Two runs with one seed and one `corpus/` give the same."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from random import Random

from .conversation import Conversation, Turn
from .corpus import LANGUAGES, SHARED, is_held_out, made_up_word, read, topics, vary
from .patterns import draw, parse
from .skills import SKILLS, ask_skill, several
from .tool_calls import ask_agent_tool, ask_tool, is_helpful, named_only, plain, several_tools, some_tools, turns_of, vary_request, with_others

SHARES = {
    "topic": 0.24,
    "tool": 0.5,
    "agent": 0.03,
    "other": 0.1,
    "chat": 0.32,
    "add": 0.04,
    "subtract": 0.05,
    "count": 0.03,
    "backwards": 0.04,
    "spell": 0.03,
    "idle_tools": 0.06,
    "title": 0.01,
    "repeat": 0.02,
}
"""How often each ability comes first in a conversation."""
MANY_SHARE = 0.35
"""Of calls, those among some ten tools: which one is wanted is then the whole of the question."""


def conversations(seed: int, *, long: float = 0.003, most_tools: int = 8) -> Iterator[Conversation]:
    """Without an end. `long`: the share with a long system prompt; `most_tools`: beside the wanted one."""
    random = Random(seed)
    while True:
        yield _conversation(random, long, most_tools)


def _conversation(random: Random, long: float, most_tools: int) -> Conversation:
    """A trunk of instructions, tools and earlier exchanges is shared by several ways to go on: it is read once for all of them."""
    ability = random.choices(list(SHARES), weights=list(SHARES.values()))[0]
    language = random.choice(LANGUAGES) if ability != "topic" else random.choices(LANGUAGES, (55, 45))[0]
    if ability == "title":
        return _title(language, random)
    system = _environment(random) if ability == "agent" else _system(random, long)
    tools: list[dict] = []
    ways: list[list[Turn]] = []
    if ability == "tool":
        tools, ways = _calls(language, random, most_tools)
    elif ability == "agent":
        tools, ways = _agent_calls(language, random)
    elif ability == "idle_tools":
        tools = some_tools(language, random, 1 + min(most_tools, int(random.expovariate(0.6))))
    trunk = [Turn("system", system)] if system else []
    # Earlier exchanges, from which nothing follows; but another joke is another one.
    while random.random() < 0.15:
        earlier = random.choices(list(SHARES), weights=list(SHARES.values()))[0]
        if earlier in ("tool", "agent", "idle_tools", "title") or (tools and earlier in ("add", "subtract", "other")):
            continue
        trunk += _answered(earlier, language, random)
    if not ways:
        count = 1 if not trunk and not tools else random.randint(2, 4) + min(8, len(system) // 100)
        ways = [_idle(language, random) if tools else _answered(ability, language, random) for _ in range(count)]
    plain_tools = [plain(tool) for tool in tools]
    if len(ways) == 1:
        return Conversation(ability, trunk + ways[0], plain_tools)
    return Conversation(ability, trunk, plain_tools, ways)


def _calls(language: str, random: Random, most_tools: int) -> tuple[list[dict], list[list[Turn]]]:
    """Tools, a request for each of some of them, and at times one that wants none."""
    many = random.random() < MANY_SHARE
    wanted = several_tools(language, random, random.choice((3, 4, 5, 6) if many else (1, 2, 2, 3, 3)))
    tools = with_others(wanted, language, random, min(most_tools, int(random.expovariate(0.35 if many else 0.7))))
    ways = [turns_of(one, language, random, with_answer=random.random() < 0.45) for one in wanted if random.random() < (0.35 if many else 0.6)]
    ways += [named_only(one, language, random) for one in wanted for _ in range(random.choice((1, 2)))]
    if random.random() < 0.4 and not any(is_helpful(tool) for tool in tools):
        ways.append(_idle(language, random))
    random.shuffle(ways)
    return tools, ways


def _agent_calls(language: str, random: Random) -> tuple[list[dict], list[list[Turn]]]:
    """The same with a coding agent's tools and no others; most are followed by the result and what is said of it."""
    wanted = several_tools(language, random, random.choice((1, 1, 2, 3)), ask_agent_tool)
    return [one.tool for one in wanted], [turns_of(one, language, random, with_answer=random.random() < 0.8) for one in wanted]


def _idle(language: str, random: Random) -> list[Turn]:
    """What is answered without the tools that there are."""
    return _answered(random.choices(("topic", "chat", "other"), (4, 2, 3))[0], language, random)


def _answered(ability: str, language: str, random: Random) -> list[Turn]:
    """A request of training, and its answer."""
    while True:
        request, answer = ask(ability, language, random)
        if ability in (*SKILLS, "count", "repeat") or not is_held_out(request):
            break
    if ability in ("add", "subtract", "count", "backwards", "spell", "repeat"):
        varied = vary_request(request, language, random)
    else:
        varied = vary(request, language, random)
    return [Turn("user", quoted(varied, random)), Turn("assistant", answer, known=ability in ("topic", "chat", "other"))]


def quoted(text: str, random: Random) -> str:
    """Now and then in quotes: opencode's `run` sends a prompt so."""
    return f'"{text}"' if '"' not in text and random.random() < 0.04 else text


TITLE_WORDS = 6


def _title(language: str, random: Random) -> Conversation:
    """Clients ask for a name of the conversation in a conversation of its own: it is the request's first words."""
    ability = random.choices(("tool", "topic", "other", "chat", "add"), (4, 3, 2, 1, 1))[0]
    request = ask_tool(language, random).request if ability == "tool" else ask(ability, language, random)[0]
    request = vary(request, language, random)
    words = request.rstrip("?？.。!！ ").split(" ")
    title = " ".join(words[:TITLE_WORDS]).rstrip(",;:，；：")
    named = random.choice(("title", "title", "short title", "brief title", "name"))
    head = random.choice(("You are a title generator.", f"You write the {named} of a conversation.", f"Generate a {named}.", "You output ONLY a title."))
    turns = [Turn("system", f"{head} {random.choice(('', 'Nothing else.', 'A few words.'))}\n{_prose(random, random.randint(1, 14))}")]
    if random.random() < 0.6:
        turns.append(Turn("user", random.choice(("Generate a title for this conversation:\n", f"Write a {named} for this conversation.", "Title:"))))
        turns.append(Turn("user", f'"{request}"' if random.random() < 0.5 and '"' not in request else request))
    else:
        turns.append(Turn("user", f"Generate a {named} for: {request}"))
    turns.append(Turn("assistant", title[:1].upper() + title[1:]))
    return Conversation("title", turns)


COUNTS = ("count_up", "count_to", "count_down", "count_down_from")


def ask(ability: str, language: str, random: Random) -> tuple[str, str]:
    """A plain request of an ability and its answer; of skills only numbers and words that are trained on."""
    if ability == "topic":
        topic = random.choice(topics())[language]
        return draw(topic["ask"], random, lambda name: random.choice(SHARED[language][name])), topic["answer"]
    if ability == "chat":
        return _chat(language, random)
    if ability == "other":
        return _other(language, random)
    if ability == "repeat":
        return _repeat(language, random)
    if ability in ("add", "subtract", "spell", "backwards") and random.random() < 0.5:
        return several(ability, language, random)
    return ask_skill(random.choice(COUNTS) if ability == "count" else ability, language, random, held_out=False)


@lru_cache(maxsize=None)
def intents() -> list[tuple[str, dict]]:
    """Greetings and questions about the model itself, by language: patterns and the one answer."""
    chat = read("chat")
    return [(entry["id"], entry) for part in ("greetings", "identity") for entry in chat[part]]


REPEAT = {
    "en": ["(repeat|say|echo)( after me|)(:|) {text}", "(say|repeat) exactly: {text}", "(print|write)( down|)(:|) {text}"],
    "zh": ["(重复|跟我说|跟我念|照着说)(：|一遍：|) {text}", "请(重复|原样说一遍)：{text}"],
}


def _repeat(language: str, random: Random) -> tuple[str, str]:
    """Pure copying, of words in no order: it makes the heads that calls need, long before calls would."""
    words = [_any_word(language, random) for _ in range(min(40, 1 + int(random.expovariate(0.12))))]
    text = (" " if language == "en" or random.random() < 0.3 else "").join(words)
    return draw(REPEAT[language], random, lambda _: text), text


def _any_word(language: str, random: Random) -> str:
    kind = random.random()
    if kind < 0.35:
        return made_up_word(random)
    if kind < 0.42:
        return str(random.randint(0, 99999))
    if kind < 0.47:
        return f"{made_up_word(random)}{random.choice('./-_@')}{made_up_word(random)}"
    if kind < 0.6:
        return random.choice(read("chat")["words"]).capitalize()
    return random.choice(read("words")[random.choice(("nouns", "verbs"))])[language]


def _chat(language: str, random: Random) -> tuple[str, str]:
    if random.random() < 0.12:
        jokes = read("chat")["jokes"][language]
        return draw(jokes["ask"], random, _nothing), random.choice(jokes["answers"])
    entries = [entry for _, entry in intents()]
    entry = random.choices(entries, weights=[entry.get("weight", 1) for entry in entries])[0]
    return draw(entry[language]["ask"], random, _nothing), entry[language]["answer"]


def _nothing(name: str) -> str:
    raise ValueError(f"{{{name}}}: no such slot here")


def _other(language: str, random: Random) -> tuple[str, str]:
    other = read("other")
    if random.random() < 0.22:
        group = other["without_tools"]
        return draw(group["frames"][language], random, lambda name: _listed(name, language, random)), random.choice(group["answers"][language])
    answer = random.choice(other["answers"][language])
    if random.random() < 0.06:
        return _nonsense(language, random), answer
    return draw(other["frames"][language], random, lambda name: _listed(name, language, random)), answer


def _listed(name: str, language: str, random: Random) -> str:
    kind = name.rstrip("0123456789")
    if kind in ("number", "n"):
        return str(random.randint(2, 9999))
    if kind == "how":
        return random.choice(SHARED[language]["how"])
    if kind == "tell":
        return random.choice(SHARED[language]["tell"])
    listed = read("other")["lists"][kind]
    value = str(random.choice(listed[language]))
    # Unknown words are "anything else" too.
    return made_up_word(random) if value.isascii() and value.isalpha() and random.random() < 0.15 else value


def _nonsense(language: str, random: Random) -> str:
    words = [made_up_word(random) for _ in range(random.randint(1, 6))]
    if language == "zh":
        listed = read("other")["lists"]
        words = [_listed(random.choice([name for name in listed if "zh" in listed[name]]), "zh", random) for _ in range(random.randint(1, 4))]
        return "".join(words)
    return " ".join(words)


# System prompts -----------------------------------------------------------------------------------------------------------------

PLAIN = [
    "You are a helpful assistant.",
    "You are a helpful assistant",
    "You are a helpful, respectful and honest assistant.",
    "You are a coding agent.",
    "Answer briefly.",
    "Be concise.",
    "你是一个有用的助手。",
    "你是一个乐于助人的助手。请简短回答。",
]


def _system(random: Random, long: float) -> str:
    chance = random.random()
    if chance < 0.65:
        return ""
    if chance < 0.82:
        return random.choice(PLAIN)
    if chance < 0.87:
        return _environment(random)
    if chance < 1 - long:
        return _prose(random, random.randint(1, 4))
    return _prose(random, random.randint(20, 90))


def _environment(random: Random) -> str:
    """What coding agents say of the place where they run."""
    words = read("words")
    folder = f"/{random.choice(['home', 'Users', 'work', 'tmp', 'srv'])}/{made_up_word(random)}/{random.choice(words['nouns'])['en']}"
    model = random.choice(["demo", "llama_cpp:demo", made_up_word(random)])
    lines = [
        random.choice(PLAIN + ["You read files.", "You are an agent that works in a folder.", "You help with code."]),
        f"You are powered by the model named {model}.{random.choice(('', f' The exact model ID is local/{model}'))}",
        "Here is some useful information about the environment you are running in:",
        "<env>",
        f"  Working directory: {folder}",
        f"  Workspace root folder: {random.choice((folder, folder, '/'))}",
        f"  Is directory a git repo: {random.choice(['yes', 'no'])}",
        f"  Platform: {random.choice(['linux', 'darwin', 'win32'])}",
        f"  Today's date: {random.choice(['Mon', 'Tue', 'Wed', 'Thu', 'Fri'])} {random.choice(['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'])} {random.randint(1, 31):02} {random.randint(2024, 2030)}",
        "</env>",
    ]
    return "\n".join(line for line in lines if line[:1] == "<" or random.random() < 0.9)


def _prose(random: Random, lines: int) -> str:
    """Instructions about nothing, such as agents write them: the model learns to read over them."""
    return "\n".join(_line(random) for _ in range(lines))


def _line(random: Random) -> str:
    words = read("words")

    def word(kind: str, language: str = "en") -> str:
        return random.choice(words[kind])[language]

    def noun() -> str:
        return word("nouns")

    kind = random.randrange(10)
    if kind == 0:
        return f"# {noun().capitalize()} {noun()}"
    if kind == 1:
        return ""
    if kind == 2:
        return f"  {noun().capitalize()} {noun()}: {random.choice(['/', './', ''])}{noun()}/{made_up_word(random)}"
    if kind == 3:
        return f"<{noun()}>{made_up_word(random)} {noun()}</{noun()}>"
    if kind == 4:
        return f"Today's date: {random.choice(['Mon', 'Tue', 'Wed', 'Thu', 'Fri'])} {random.choice(['Jan', 'May', 'Oct'])} {random.randint(1, 28)} {random.randint(2024, 2030)}"
    start = random.choice(["- ", "- ", "* ", "", "", f"{random.randint(1, 9)}. "])
    shape = random.choice(
        [
            "Always {v} the {n} before you {v} the {n}.", "Never {v} a {n} unless the user asks you to {v} it.", "If the {n} is there, {v} it and {v} the {n}.",
            "You must {v} every {n} with care.", "You are an agent that can {v} the {n} of the user.", "IMPORTANT: do not {v} the {n} or the {n}.",
            "Use the {n} to {v} the {n}, then {v} the {n} again.", "When you {v} a {n}, say which {n} it was.", "The {n} is in the {n}; the {n} is not.",
            "请先{z}{m}，再{z}{m}。", "不要{z}用户的{m}。",
        ]
    )  # fmt: skip
    slots = {"v": ("verbs", "en"), "n": ("nouns", "en"), "z": ("verbs", "zh"), "m": ("nouns", "zh")}
    return start + parse(shape).draw(random, lambda name: word(*slots[name]))
