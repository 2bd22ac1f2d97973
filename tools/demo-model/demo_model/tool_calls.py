"""Tools, requests that want one of them, the calls, the results and the answers that use them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from random import Random

from .conversation import Turn
from .corpus import is_held_out, made_up_word, read, shaped, vary
from .patterns import Pattern, choose, draw, parse
from .values import a_name, a_number, marker, novel

MAKING = 8
"""One verb and noun of so many names no tool in training: the tools `unseen` are made of these."""


@dataclass
class Wanted:
    """A tool and one request for it."""

    tool: dict
    request: str
    arguments: dict
    result: str
    answer: str
    again: Callable[[], str]
    """Another request for the same tool, with other values."""
    like: Callable[[], Wanted]
    """Another tool that shares a word with this one, and a request for it."""


def ask_tool(language: str, random: Random, unseen: bool = False) -> Wanted:
    """A realistic tool, or one made up of words; `unseen`: of words that training never has."""
    if unseen or random.random() < 0.55:
        return _made_up(language, random, unseen)
    return _realistic(_any_known(random), language, random)


def _any_known(random: Random) -> dict:
    """Those that people ask for every day come more often: the weather, a file, a command."""
    entries = _known()["tools"]
    return random.choices(entries, weights=[entry.get("weight", 1) for entry in entries])[0]


AGENT_TOOLS = {"read_file", "Read", "write_file", "append_file", "list_directory", "bash", "shell", "grep", "glob", "edit"}
"""The first names of those that coding agents have."""


def ask_agent_tool(language: str, random: Random) -> Wanted:
    """One of what coding agents have; reading a file comes first with them."""
    entries = [entry for entry in _known()["tools"] if entry["names"][0] in AGENT_TOOLS]
    weights = [3 if "read" in entry["names"][0].lower() else 1 for entry in entries]
    return _realistic(random.choices(entries, weights)[0], language, random)


LIKE_SHARE = 0.35
"""Of tools beside each other, those that share a word: `read_file` and `write_file`. What is asked for tells them apart by all its words only."""


def several_tools(language: str, random: Random, count: int, ask: Callable[[str, Random], Wanted] = ask_tool) -> list[Wanted]:
    """Tools that stand beside each other, with a request for each; `ask`: where one comes from."""
    chosen: list[Wanted] = []
    while len(chosen) < count:
        one = random.choice(chosen).like() if chosen and random.random() < LIKE_SHARE else ask(language, random)
        if not any(other.tool["name"] == one.tool["name"] or _confusable(one.tool, other.tool) for other in chosen):
            chosen.append(one)
    return chosen


def with_others(wanted: list[Wanted], language: str, random: Random, count: int, unseen: bool = False) -> list[dict]:
    """The tools among `count` others, some of which look like them."""
    own = [one.tool for one in wanted]
    tools = list(own)
    while len(tools) < len(own) + count:
        other = _distractor(_parts(random.choice(own)["name"]), language, random, unseen)
        if all(other["name"] != tool["name"] for tool in tools) and not any(_confusable(other, tool) for tool in own):
            tools.append(other)
    random.shuffle(tools)
    return tools


def some_tools(language: str, random: Random, count: int) -> list[dict]:
    """Tools for a conversation that needs none of them."""
    tools: dict[str, dict] = {}
    while len(tools) < count:
        tool = _made_up(language, random, False).tool if random.random() < 0.5 else _harmless(language, random)
        tools[tool["name"]] = tool
    return list(tools.values())


def _parts(name: str) -> list[str]:
    return [part for part in re.split(r"[_.\-/ ]|(?<=[a-z])(?=[A-Z])", name.lower()) if part]


def _confusable(one: dict, other: dict) -> bool:
    return set(_parts(one["name"])) == set(_parts(other["name"])) or one.get("kind") == other.get("kind") is not None


def _known() -> dict:
    return read("tools")


# Realistic tools ----------------------------------------------------------------------------------------------------------------


def _realistic(entry: dict, language: str, random: Random) -> Wanted:
    lists = _known()["lists"]
    parameters = entry.get("parameters") or {}
    values: dict[str, object] = {}
    said: dict[str, str] = {}

    def fill(slot: str) -> str:
        if slot not in said:
            if slot in parameters:
                values[slot], said[slot] = _value(parameters[slot], language, random, lists)
            else:
                said[slot] = _from_lists(slot, language, random, lists)
        return said[slot]

    mark = marker(language, random)

    def fill_request(slot: str) -> str:
        free = slot in parameters and parameters[slot]["type"] == "string" and not parameters[slot].get("enum")
        return mark(fill(slot)) if free else fill(slot)

    request = draw(entry["ask"][language], random, fill_request)
    names = {key: random.choice(given.get("names") or [key]) for key, given in parameters.items()}
    arguments = {names[key]: values[key] for key in parameters if key in values}
    result = random.choice(entry["results"])
    return Wanted(
        tool=_written(entry, names, random),
        request=request,
        arguments=arguments,
        result=_slots(result["result"], fill),
        answer=_slots(result[language], fill),
        again=lambda: _realistic(entry, language, random).request,
        like=lambda: _realistic(random.choice(_alike(entry["names"][0]) or [_any_known(random)]), language, random),
    )


@lru_cache(maxsize=None)
def _alike(name: str) -> list[dict]:
    """The realistic tools that share a word with this one: those that stand beside it in real life too."""
    entries = _known()["tools"]
    words = {entry["names"][0]: {part for one in entry["names"] for part in _parts(one)} - {"get", "mcp"} for entry in entries}
    return [entry for entry in entries if entry["names"][0] != name and words[entry["names"][0]] & words[name]]


def _slots(text: str, fill) -> str:
    """Results have braces of JSON beside the slots: only `{word}` is one."""
    return re.sub(r"\{([a-z_0-9]+)\}", lambda found: fill(found[1]), text)


def _written(entry: dict, names: dict[str, str], random: Random) -> dict:
    properties, required = {}, []
    for key, given in (entry.get("parameters") or {}).items():
        name = names[key]
        properties[name] = {"type": given["type"], **({"enum": given["enum"]} if given.get("enum") else {})}
        if not given.get("optional"):
            required.append(name)
    return {
        "name": random.choice(entry["names"]),
        "description": random.choice(entry["description"][random.choice(["en", "en", "en", "zh"])]),
        "parameters": {"type": "object", "properties": properties, "required": required},
        "kind": entry.get("kind", entry["names"][0]),
    }


def _value(given: dict, language: str, random: Random, lists: dict) -> tuple[object, str]:
    """A value, and how the request says it."""
    names = (given.get("said") or {}).get(language)
    kind = given["type"]
    if given.get("enum") or kind == "boolean":
        options = given.get("enum") or [True, False]
        index = random.randrange(len(options))
        said = names[index] if names else options[index]
        return options[index], str(said).lower() if kind == "boolean" else str(said)
    source = given["also"] if "also" in given and random.random() < 0.25 else given.get("values")
    if isinstance(given.get("range"), list):
        low, high = given["range"]
        decimals = given.get("decimals", 0)
        value = round(random.uniform(low, high), decimals) if decimals else random.randint(int(low), int(high))
    elif isinstance(source, list):
        value = random.choice(source)
    elif isinstance(source, str) and source in lists:
        value = _pick(source, language, random, lists)
    elif isinstance(source, str) and source != "number":
        raise ValueError(f"no list {source}")
    else:
        value = _a_number(random) if kind != "number" or random.random() < 0.6 else round(random.uniform(0, 200), 1)
    if kind in ("integer", "number"):
        number = float(value) if "." in str(value) else int(value)
        return number, str(value)
    return str(value), str(value)


def _a_number(random: Random) -> int:
    return random.randint(0, 9) if random.random() < 0.3 else random.randint(10, 99) if random.random() < 0.6 else random.randint(100, 9999)


def _pick(name: str, language: str, random: Random, lists: dict) -> object:
    listed = lists[name]
    values = listed.get(language) or listed["en"] if isinstance(listed, dict) else listed
    value = random.choice(values)
    # Beside the listed values things that nobody listed, so that copying is learned and not the list.
    if random.random() < 0.4 and (other := novel(name, language, random)):
        return other
    if isinstance(value, str) and value.isascii() and value.isalpha() and random.random() < 0.35:
        word = made_up_word(random)
        return word.capitalize() if value[:1].isupper() else word
    return value


def _from_lists(slot: str, language: str, random: Random, lists: dict) -> str:
    name = slot.rstrip("0123456789")
    if name == "number":
        return str(_a_number(random))
    if name not in lists:
        raise ValueError(f"no list {slot}")
    return str(_pick(name, language, random, lists))


# Made-up tools ------------------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=None)
def _words(kind: str, unseen: bool) -> list[dict]:
    return [word for word in read("words")[kind] if is_held_out(f"{kind} {word['en']}", MAKING) == unseen]


def _name(verb: str, noun: str, random: Random) -> str:
    verb, noun = verb.replace(" ", "_"), noun.replace(" ", "_")
    kind = random.random()
    if kind < 0.5:
        return f"{verb}_{noun}"
    if kind < 0.68:
        return f"{verb}{noun.capitalize()}"
    if kind < 0.78:
        return f"{noun}_{verb}"
    if kind < 0.85:
        return f"{noun}.{verb}"
    if kind < 0.92:
        return f"{verb}-{noun}"
    if kind < 0.96:
        return f"{verb.capitalize()}{noun.capitalize()}"
    if kind < 0.98:
        return f"mcp__{made_up_word(random)}__{verb}_{noun}"
    return f"{random.choice(['mcp', 'my', 'app', 'api', 'crm', 'shop', 'home'])}_{verb}_{noun}"


DIRECT = {
    "en": [
        "use {tool} with {attribute} {value}", "call {tool} with {value}", "(run|use|call|invoke) (the tool |){tool}(:| for| with|) {value}",
        "{tool} {value}", "please (use|call) {tool}, {attribute} is {value}", "(use|try) the {tool} tool on {value}",
        "{tool}: {attribute} {value}, {attribute2} {value2}", "call {tool} with {attribute} {value} and {attribute2} {value2}",
        "{tool}({attribute}={value})", "i want {tool} for {value}",
    ],
    "zh": [
        "(用|调用|使用|运行){tool}，{attribute}是{value}", "(请|)(用|调用){tool}(处理|查|)(：|){value}", "{tool} {value}",
        "调用工具{tool}，{attribute}为{value}，{attribute2}为{value2}", "(对|给){value}(用|使用){tool}", "使用{tool}工具：{value}",
    ],
}


def _made_up(language: str, random: Random, unseen: bool, like: tuple[dict, dict, str] | None = None) -> Wanted:
    """`like`: the verb, the noun and the name, where they are given."""
    words = read("words")
    verb, noun = random.choice(_words("verbs", unseen)), random.choice(_words("nouns", unseen))
    tool_language = language if random.random() < 0.85 else "en" if language == "zh" else "zh"
    strange = random.random()
    # Words that nobody knows: what is asked for can be found in the tool's line only.
    if strange < 0.2:
        word = made_up_word(random)
        noun = {"en": word, "zh": word}
        tool_language = "en"
    if strange < 0.12:
        word = made_up_word(random, 2)
        verb = {"en": word, "zh": word, "done": f"{word}ed"}
    name = noun["en"] if strange < 0.03 else _name(verb["en"], noun["en"], random)
    if like is not None:
        verb, noun, name = like
    attributes = random.sample(words["attributes"], random.choice([1, 1, 1, 2, 2, 3]))
    frames = DIRECT[language] if strange < 0.05 or random.random() < 0.08 else words["frames"][language]
    pattern = choose([one for one in frames if _fits(one, len(attributes))], random)
    if frames is not DIRECT[language] and _names_nothing(pattern):
        attributes[0] = _identity(noun, random)
    values = [_attribute_value(attribute, language, random) for attribute in attributes]
    mark = marker(language, random)
    used: list[int] = []

    def fill(slot: str) -> str:
        number = int(slot[-1]) - 1 if slot[-1].isdigit() else 0
        kind = slot.rstrip("0123456789")
        if kind == "tool":
            return name
        if kind == "verb":
            also = (verb.get("also") or {}).get(language) or []
            return random.choice(also) if also and random.random() < 0.3 else verb[language]
        if kind == "noun":
            return noun[language]
        if kind == "done":
            return verb["done"]
        if kind == "attribute":
            return attributes[number][language].replace("_", " ")
        used.append(number)
        free = attributes[number]["type"] == "string" and not attributes[number].get("enum")
        return mark(values[number][1]) if free else values[number][1]

    request = pattern.draw(random, fill)
    camel = random.random() < 0.2
    keys = [_camel(attribute["en"]) if camel else attribute["en"].replace(" ", "_") for attribute in attributes]
    needs_none = not used
    chosen = [] if needs_none else sorted(set(used))
    properties = {}
    for index in random.sample(range(len(keys)), len(keys)):
        if needs_none and random.random() < 0.7:
            continue
        attribute = attributes[index]
        enum = [str(value) for value in attribute["values"]] if attribute.get("enum") else None
        properties[keys[index]] = {"type": attribute["type"], **({"enum": enum} if enum else {})}
    required = [key for key in properties if keys.index(key) in chosen and (keys.index(key) == 0 or random.random() < 0.7)]
    arguments = {key: values[keys.index(key)][0] for key in properties if keys.index(key) in chosen}
    tool = {
        "name": name,
        "description": _description(verb, noun, attributes[0], tool_language, random),
        "parameters": {"type": "object", "properties": properties, "required": required},
    }
    result = random.choice(words["results"])
    drawn: dict[str, str] = {}

    def fill_result(slot: str) -> str:
        if slot in ("verb", "noun", "done"):
            return {"verb": verb.get(language) or verb["en"], "noun": noun.get(language) or noun["en"], "done": verb.get("done") or "done"}[slot]
        if slot.startswith("attribute"):
            return attributes[0]["en"]
        if slot.startswith("value"):
            return str(values[0][1])
        if slot not in drawn:
            drawn[slot] = _from_lists(slot, language, random, words["lists"])
        return drawn[slot]

    return Wanted(
        tool=tool,
        request=request,
        arguments=arguments,
        result=_slots(result["result"], fill_result),
        answer=_slots(result[language], fill_result),
        again=lambda: _made_up(language, random, unseen, (verb, noun, name)).request,
        like=lambda: _made_up(language, random, unseen, _sibling(verb, noun, unseen, random)),
    )


def _sibling(verb: dict, noun: dict, unseen: bool, random: Random) -> tuple[dict, dict, str]:
    """The same with another verb, or the same with another thing."""
    if random.random() < 0.5:
        verb = random.choice(_words("verbs", unseen))
    else:
        noun = random.choice(_words("nouns", unseen))
    return verb, noun, _name(verb["en"], noun["en"], random)


def _names_nothing(pattern: Pattern) -> bool:
    """Whether it gives a value without saying of what: then it is the thing's own name or number."""
    slots = set(pattern.slots())
    return "value" in slots and "attribute" not in slots


IDENTITY = (("", ""), ("", ""), (" id", "编号"), (" name", "名称"), (" number", "号"))
IDENTIFYING = {"id", "number", "code", "sku", "serial", "reference", "name", "title", "barcode", "batch", "owner", "person", "email", "path", "filename", "query"}


def _identity(noun: dict, random: Random) -> dict:
    """The parameter that says which of the things: `parrot`, `gate_id`, or one of `IDENTIFYING`."""
    if random.random() < 0.35:
        return random.choice([one for one in read("words")["attributes"] if one["en"] in IDENTIFYING])
    en, zh = random.choice(IDENTITY)
    if en in (" id", " number") and random.random() < 0.4:
        return {"en": noun["en"] + en, "zh": noun["zh"] + zh, "type": "integer", "range": [1, random.choice((9, 99, 999, 99999))]}
    return {"en": noun["en"] + en, "zh": noun["zh"] + zh, "type": "string", "named": "number" if en in (" id", " number") else "name"}


@lru_cache(maxsize=None)
def _fits(pattern: str, attributes: int) -> bool:
    numbers = [int(slot[-1]) for slot in parse(pattern).slots() if slot[-1].isdigit()]
    return max(numbers, default=1) <= attributes


def _camel(name: str) -> str:
    first, *rest = name.replace(" ", "_").split("_")
    return first + "".join(part.capitalize() for part in rest)


def _attribute_value(attribute: dict, language: str, random: Random) -> tuple[object, str]:
    kind = attribute["type"]
    if attribute.get("named"):
        value = a_number(random) if attribute["named"] == "number" else a_name(language, random)
        return value, value
    if kind == "boolean":
        value = random.choice([True, False])
        names = attribute.get("zh_values" if language == "zh" else "values") or [True, False]
        return value, str(names[0 if value else 1]).lower()
    if kind in ("integer", "number") and attribute.get("range"):
        low, high = attribute["range"]
        decimals = attribute.get("decimals", 2 if kind == "number" else 0)
        value = random.randint(int(low), int(high)) if kind == "integer" else round(random.uniform(low, high), decimals)
        return value, str(value)
    values = attribute.get("zh_values") if language == "zh" and attribute.get("zh_values") else attribute["values"]
    if attribute.get("enum"):
        index = random.randrange(len(attribute["values"]))
        return str(attribute["values"][index]), str(attribute["values"][index])
    if attribute.get("shapes") and random.random() < 0.7:
        value = shaped(random.choice(attribute["shapes"]), random)
    elif language == "en" and random.random() < 0.4 and all(str(one).isalpha() for one in values[:3]):
        value = made_up_word(random)
    else:
        value = str(random.choice(values))
    if kind in ("integer", "number"):
        number = float(value) if "." in value else int(value)
        return number, value
    return value, value


def _description(verb: dict, noun: dict, attribute: dict, language: str, random: Random) -> str:
    if random.random() < 0.08:
        return ""
    slots = {"verb": verb[language], "noun": noun[language], "attribute": attribute[language].replace("_", " ")}
    return draw(read("words")["descriptions"][language], random, lambda name: slots[name])


def _distractor(words: list[str], language: str, random: Random, unseen: bool) -> dict:
    """Often a tool that shares a word with the wanted one."""
    chance = random.random()
    if chance < 0.4:
        return _realistic(_any_known(random), language, random).tool
    other = _made_up(language, random, unseen and random.random() < 0.5)
    if chance < 0.7 and len(words) >= 2:
        shared = {"en": words[0], "zh": words[0]} if random.random() < 0.5 else None
        verb = shared or random.choice(_words("verbs", False))
        noun = {"en": words[-1], "zh": words[-1]} if shared is None else random.choice(_words("nouns", False))
        other.tool["name"] = _name(verb["en"], noun["en"], random)
        other.tool["description"] = _description(verb, noun, read("words")["attributes"][0], "en", random)
    return other.tool


HELPFUL = {"calculator", "web_search", "search", "ask", "translate", "get_joke", "spell"}


def is_helpful(tool: dict) -> bool:
    """Whether a realistic tool might answer what the model answers itself."""
    return tool.get("kind") in HELPFUL


def _harmless(language: str, random: Random) -> dict:
    """A realistic tool that answers nothing of what the model answers itself."""
    entries = [one for one in _known()["tools"] if not HELPFUL & set(one["names"])]
    return _realistic(random.choice(entries), language, random).tool


def turns_of(wanted: Wanted, language: str, random: Random, with_answer: bool) -> list[Turn]:
    turns = [Turn("user", _in_quotes(vary_request(wanted.request, language, random), random)), Turn("assistant", call=(wanted.tool["name"], wanted.arguments))]
    if with_answer:
        turns += [Turn("tool", wanted.result), Turn("assistant", wanted.answer)]
    return turns


def named_only(wanted: Wanted, language: str, random: Random) -> list[Turn]:
    """Another request for the tool; of the call only the name is learned."""
    request = _in_quotes(vary_request(wanted.again(), language, random), random)
    return [Turn("user", request), Turn("assistant", call=(wanted.tool["name"], {}), named=True)]


def _in_quotes(text: str, random: Random) -> str:
    return f'"{text}"' if '"' not in text and random.random() < 0.06 else text


def vary_request(text: str, language: str, random: Random) -> str:
    """Politeness and the first capital only: the values in it stay as they are."""
    if random.random() < 0.5:
        return text
    varied = vary(text, language, random)
    return varied if varied.lower().strip("?？.。!！ ").endswith(text.lower().strip("?？.。!！ ")) and _same_case(text, varied) else text


def _same_case(text: str, varied: str) -> bool:
    """Nothing but the first letter has another case: arguments are copied from here."""
    return text[1:].rstrip("?？.。!！ ") in varied


def plain(tool: dict) -> dict:
    return json.loads(json.dumps({key: value for key, value in tool.items() if key != "kind"}))
