"""What the model is asked in its evaluation: `evaluation/held-out.jsonl`, drawn with a seed of its own, and what belongs to it.

What is held out differs by ability, and `source` of a case tells which it is:

- `drawn`: made by the generator, but never in training. Of topics, chat and refusals the wording (one of 33 is left out, see
  `is_held_out`); of adding, counting and spelling the numbers and words (one of 10), the wordings are trained on; of calls with
  `call_unseen` every word that tools and requests are made of. Other calls are drawn as in training, where nothing of them is
  left out: their wordings are known, and only their values (names, numbers, made-up words) make a repetition unlikely. Of 280
  such requests 19 came again in another 120,000: `git status` has no values.
- `paraphrase`: from the lists `unseen` of the corpus, written by hand as wordings that no pattern produces; a sentence that one
  produces all the same is left out here.

Small talk that several answers are right for has them all (`also_right` in chat.yaml).

`known-wordings.json` has the questions of `hand-written.jsonl` that a pattern can say too: whoever wrote them did not see the
patterns, but people ask alike. `rendered.jsonl` has conversations as the training writes them.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from random import Random

from .conversation import LETTERS, LETTERS_END, START, Conversation, Turn
from .corpus import LANGUAGES, SHARED, is_held_out, read, topics, vary
from .generate import COUNTS, PLAIN, _listed, _nothing, ask, intents
from .patterns import Pattern, draw, parse
from .skills import ask_skill, draw_slots
from .tool_calls import Wanted, ask_tool, plain, some_tools, turns_of, vary_request, with_others

FOLDER = Path(__file__).parent.parent / "evaluation"
SEED = 2026
TRIES = 400
"""Draws until a wording that is held out; a topic with few wordings may have none."""

Case = dict
Exchange = tuple[str, str]
"""A request and its answer."""


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="hold_out")
    parser.add_argument("--folder", default="build", help="where tokenizer.json is, for rendered.jsonl; without it only held-out.jsonl is written")
    parser.add_argument("--seed", type=int, default=SEED)
    options = parser.parse_args(arguments)
    FOLDER.mkdir(exist_ok=True)
    _write(FOLDER / "held-out.jsonl", cases(options.seed))
    known = json.dumps(list(known_wordings()), ensure_ascii=False, indent=0)
    (FOLDER / "known-wordings.json").write_text(f"{known}\n", encoding="utf-8", newline="\n")
    tokens = Path(options.folder) / "tokenizer.json"
    if tokens.exists():
        _write(FOLDER / "rendered.jsonl", rendered(options.seed, json.loads(tokens.read_text(encoding="utf-8"))))


def _write(path: Path, lines: Iterator[dict]) -> None:
    text = "".join(json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n" for line in lines)
    path.write_text(text, encoding="utf-8", newline="\n")
    print(f"{path.name}: {text.count(chr(10))} lines, {len(text.encode()):,} bytes")


def cases(seed: int) -> Iterator[Case]:
    """Each ability has a generator of numbers of its own: more cases of one change none of another."""
    for make in (_topics, _chat, _jokes, _sums, _counts, _letters, _refusals, _calls, _results, _idle_tools, _turns):
        for language in LANGUAGES:
            yield from make(language, Random(f"{seed} {make.__name__} {language}"))


# Questions ----------------------------------------------------------------------------------------------------------------------


def _topics(language: str, random: Random) -> Iterator[Case]:
    for index, topic in enumerate(topics()):
        entry = topic[language]
        expect = {"text": [entry["answer"]]}
        request = _held_out_request(entry["ask"], random, lambda name: random.choice(SHARED[language][name]))
        # Of every second topic in each language: the paraphrases say more.
        mine = index % 2 == LANGUAGES.index(language)
        if request and mine:
            yield _case("topic", language, "drawn", vary(request, language, random), expect)
        for text in _paraphrases(entry, language, random, 2 if mine else 1):
            yield _case("topic", language, "paraphrase", text, expect)


def _chat(language: str, random: Random) -> Iterator[Case]:
    for part, ability in (("greetings", "greeting"), ("identity", "identity")):
        for intent in read("chat")[part]:
            entry = intent[language]
            expect = {"text": _answers(entry["answer"], language)}
            request = _held_out_request(entry["ask"], random, _nothing)
            if request:
                yield _case(ability, language, "drawn", vary(request, language, random), expect)
            for text in _paraphrases(entry, language, random, 2):
                yield _case(ability, language, "paraphrase", text, expect)


def _jokes(language: str, random: Random) -> Iterator[Case]:
    jokes = read("chat")["jokes"][language]
    expect = {"text": jokes["answers"]}
    asked = {_held_out_request(jokes["ask"], random, _nothing) for _ in range(20)}
    for request in sorted(asked - {None}):
        yield _case("joke", language, "drawn", vary(request, language, random), expect)
    for text in _paraphrases(jokes, language, random, 20):
        yield _case("joke", language, "paraphrase", text, expect)


def _refusals(language: str, random: Random) -> Iterator[Case]:
    other = read("other")
    idle = other["without_tools"]
    honest = other["answers"][language]
    # Who asks for the weather may be told either: that a tool is missing, or that this is only a demo.
    groups = ((other, honest, 45, other["unseen"][language]), (idle, [*idle["answers"][language], *honest], 15, idle["unseen"][language]))
    for group, answers, count, unseen in groups:
        expect = {"text": answers}
        for _ in range(count):
            request = _held_out_request(group["frames"][language], random, lambda name: _listed(name, language, random))
            if request:
                yield _case("refusal", language, "drawn", vary(request, language, random), expect)
        for text in unseen:
            yield _case("refusal", language, "paraphrase", text, expect)


def _held_out_request(patterns: list[str], random: Random, fill) -> str | None:
    drawn = (draw(patterns, random, fill) for _ in range(TRIES))
    return next((text for text in drawn if is_held_out(text)), None)


def _paraphrases(entry: dict, language: str, random: Random, count: int) -> list[str]:
    written = [text for text in entry.get("unseen", []) if is_held_out(text) or not _is_drawn(text, tuple(entry["ask"]), language)]
    return random.sample(written, min(count, len(written)))


def _is_drawn(text: str, patterns: tuple[str, ...], language: str) -> bool:
    """Whether one of the patterns can say it."""
    return _expression(patterns, language).fullmatch(_bare(text)) is not None


def _bare(text: str) -> str:
    return re.sub(r"\s+", " ", text.lower()).strip(" ?？!！.。")


@lru_cache(maxsize=None)
def _expression(patterns: tuple[str, ...], language: str) -> re.Pattern[str]:
    return re.compile("|".join(f"(?:{_written(parse(one), language)})[ ?？!！.。]*" for one in patterns))


def _written(pattern: Pattern, language: str) -> str:
    said = []
    for part in pattern.parts:
        if isinstance(part, str):
            # Signs at the end do not count, and a sign in the middle changes no wording.
            said.append(re.sub(r"\\?[?？!！.。]", r"[?？!！.。]?", re.escape(part.lower()).replace(r"\ ", " *")))
        elif isinstance(part, tuple):
            shared = SHARED[language].get(part[0])
            said.append(f"(?:{'|'.join(re.escape(one.lower()) for one in shared)})" if shared else ".+")
        else:
            said.append(f"(?:{'|'.join(_written(option, language) for option in part)})")
    return "".join(said)


def known_wordings() -> Iterator[str]:
    """The questions written by hand about the software and the model, and the small talk, whose wording training has too."""
    expressions = {
        language: [_expression(tuple(entry[language]["ask"]), language) for entry in [*topics(), *(one for _, one in intents()), read("chat")["jokes"]]]
        for language in LANGUAGES
    }
    for line in (FOLDER / "hand-written.jsonl").read_text(encoding="utf-8").splitlines():
        case = json.loads(line)
        question = case["messages"][-1]["content"]
        if case["ability"] in ("topic", "greeting", "identity", "joke") and not is_held_out(question):
            if any(one.fullmatch(_bare(question)) for one in expressions[case["language"]]):
                yield question


# Skills -------------------------------------------------------------------------------------------------------------------------


def _sums(language: str, random: Random) -> Iterator[Case]:
    for skill in ("add", "subtract"):
        yield from _skill("arithmetic", skill, language, random, (40, 15))


def _counts(language: str, random: Random) -> Iterator[Case]:
    for skill in COUNTS:
        yield from _skill("count", skill, language, random, (8, 4))


def _letters(language: str, random: Random) -> Iterator[Case]:
    yield from _skill("backwards", "backwards", language, random, (30, 12))
    yield from _skill("spell", "spell", language, random, (20, 8))


def _skill(ability: str, skill: str, language: str, random: Random, counts: tuple[int, int]) -> Iterator[Case]:
    for _ in range(counts[0]):
        request, answer = ask_skill(skill, language, random, held_out=True)
        yield _case(ability, language, "drawn", vary_request(request, language, random), _expected(skill, answer))
    patterns = read("chat")["skills"][skill]["unseen"][language]
    for index in range(counts[1]):
        slots, answer = draw_slots(skill, language, random, held_out=True)
        request = draw([patterns[index % len(patterns)]], random, lambda name: slots[name])
        yield _case(ability, language, "paraphrase", request, _expected(skill, answer))


def _expected(skill: str, answer: str) -> dict:
    if skill in ("add", "subtract"):
        return {"number": int(re.findall(r"-?\d+", answer)[-1])}
    if skill in ("backwards", "spell"):
        return {"spelled": re.findall(f"{LETTERS}(.*?){LETTERS_END}", answer)[-1]}
    return {"text": [answer]}


# Tools --------------------------------------------------------------------------------------------------------------------------


def _calls(language: str, random: Random) -> Iterator[Case]:
    for ability, count, fewest, most, unseen in (("call", 100, 0, 4, False), ("call_unseen", 100, 0, 4, True), ("call_among_many", 40, 6, 9, False)):
        for _ in range(count):
            wanted = ask_tool(language, random, unseen)
            tools = with_others([wanted], language, random, random.randint(fewest, most), unseen)
            asked = [*_system(random), Turn("user", vary_request(wanted.request, language, random))]
            yield _tool_case(ability, language, asked, tools, {"call": {"name": wanted.tool["name"], "arguments": wanted.arguments}})


def _results(language: str, random: Random) -> Iterator[Case]:
    for _ in range(50):
        wanted = ask_tool(language, random)
        tools = with_others([wanted], language, random, random.randint(0, 3))
        turns = turns_of(wanted, language, random, with_answer=True)
        yield _tool_case("result", language, [*_system(random), *turns[:-1]], tools, {"text": [turns[-1].text]})


def _idle_tools(language: str, random: Random) -> Iterator[Case]:
    needs_a_tool = read("other")["without_tools"]["answers"][language]
    for index in range(40):
        exchange = _exchange(("topic", "chat", "other")[index % 3], language, random)
        # One of the tools might be the very one.
        while exchange[1] in needs_a_tool:
            exchange = _exchange("other", language, random)
        tools = some_tools(language, random, random.randint(1, 5))
        asked = [*_system(random), Turn("user", vary(exchange[0], language, random))]
        yield _tool_case("no_call", language, asked, tools, {"text": _answers(exchange[1], language)})


def _system(random: Random) -> list[Turn]:
    return [Turn("system", random.choice(PLAIN))] if random.random() < 0.3 else []


# Turns --------------------------------------------------------------------------------------------------------------------------

EARLIER = ("topic", "chat", "other", "add", "subtract", "count")


def _turns(language: str, random: Random) -> Iterator[Case]:
    for index in range(60):
        earlier: list[Turn] = []
        for _ in range(random.randint(1, 3)):
            request, answer = _exchange(random.choice(EARLIER), language, random)
            earlier += [Turn("user", vary(request, language, random)), Turn("assistant", answer)]
        if index % 4 == 0:
            wanted = ask_tool(language, random)
            tools = with_others([wanted], language, random, random.randint(0, 3))
            expect = {"call": {"name": wanted.tool["name"], "arguments": wanted.arguments}}
            yield _tool_case("turns", language, [*earlier, Turn("user", vary_request(wanted.request, language, random))], tools, expect)
            continue
        ability = ("topic", "chat", "add")[index % 4 - 1]
        request, answer = _exchange(ability, language, random)
        expect = _expected("add", answer) if ability == "add" else {"text": _answers(answer, language)}
        turns = [*earlier, Turn("user", vary_request(request, language, random))]
        yield {"ability": "turns", "language": language, "source": "drawn", "messages": _messages(turns), "expect": expect}


def _exchange(ability: str, language: str, random: Random) -> Exchange:
    """One that training never has."""
    while True:
        if ability in ("add", "subtract", "count"):
            return ask_skill(random.choice(COUNTS) if ability == "count" else ability, language, random, held_out=True)
        request, answer = ask(ability, language, random)
        if is_held_out(request):
            return request, answer


def _answers(answer: str, language: str) -> list[str]:
    """All that are as right as this one."""
    alike = (read("chat")["jokes"][language]["answers"], read("other")["answers"][language], read("other")["without_tools"]["answers"][language])
    return next((answers for answers in alike if answer in answers), [answer, *_also_right(answer, language)])


def _also_right(answer: str, language: str) -> list[str]:
    """`also_right` of an intent: who asks for its name may be told who it is."""
    by_id = {id: entry[language]["answer"] for id, entry in intents()}
    ids = next((entry.get("also_right", []) for _, entry in intents() if entry[language]["answer"] == answer), [])
    return [by_id[id] for id in ids]


# What is written ----------------------------------------------------------------------------------------------------------------


def _case(ability: str, language: str, source: str, request: str, expect: dict) -> Case:
    return {"ability": ability, "language": language, "source": source, "messages": [{"role": "user", "content": request}], "expect": expect}


def _tool_case(ability: str, language: str, turns: list[Turn], tools: list[dict], expect: dict) -> Case:
    offered = [_offered(tool) for tool in tools]
    return {"ability": ability, "language": language, "source": "drawn", "messages": _messages(turns), "tools": offered, "expect": expect}


def _offered(tool: dict) -> dict:
    return {"type": "function", "function": plain(tool)}


def _messages(turns: list[Turn]) -> list[dict]:
    """As OpenAI's API has them; calls are numbered."""
    written: list[dict] = []
    call = 0
    for turn in turns:
        text = turn.text.replace(LETTERS, "").replace(LETTERS_END, "")
        if turn.call is not None:
            call += 1
            name, arguments = turn.call
            function = {"name": name, "arguments": json.dumps(arguments, ensure_ascii=False)}
            written.append({"role": "assistant", "content": None, "tool_calls": [{"id": f"call_{call}", "type": "function", "function": function}]})
        elif turn.role == "tool":
            written.append({"role": "tool", "tool_call_id": f"call_{call}", "content": text})
        else:
            written.append({"role": turn.role, "content": text})
    return written


# As training writes it ----------------------------------------------------------------------------------------------------------


def rendered(seed: int, tokens: dict) -> Iterator[dict]:
    """Conversations as messages and tools, as the text of the training, and as its tokens: the server must make the same of them."""
    from .tokenizer import Encoder

    encoder = Encoder(tokens["vocabulary"], [tuple(pair) for pair in tokens["merges"]])
    random = Random(f"{seed} rendered")
    for index in range(20):
        conversation = _conversation_to_render(LANGUAGES[index % 2], index % 5, random)
        text = "".join(piece for piece, _ in conversation.pieces()) + f"{START}assistant\n"
        offered = {"tools": [_offered(tool) for tool in conversation.tools]} if conversation.tools else {}
        yield {"messages": _messages(conversation.turns), **offered, "text": text, "tokens": encoder.encode(text)}


def _conversation_to_render(language: str, kind: int, random: Random) -> Conversation:
    """Without letters between marks: their tokens are those of the answer, not of a text that is read again."""
    earlier = [Turn("user", (exchange := _exchange("topic", language, random))[0]), Turn("assistant", exchange[1])]
    if kind == 0:
        return Conversation("topic", [Turn("user", _exchange("topic", language, random)[0])])
    if kind == 1:
        return Conversation("other", [Turn("system", random.choice(PLAIN)), *earlier, Turn("user", _exchange("other", language, random)[0])])
    wanted = _tool_to_render(language, random, unseen=kind == 4)
    tools = [plain(tool) for tool in with_others([wanted], language, random, random.randint(0, 4))]
    turns = turns_of(wanted, language, random, with_answer=True)
    if kind == 2:
        return Conversation("tool", [Turn("system", random.choice(PLAIN)), turns[0]], tools)
    if kind == 3:
        return Conversation("tool", [*earlier, *turns[:-1]], tools)
    return Conversation("tool", [Turn("system", "You are a coding agent.\n\n- Be brief.\n"), *turns, Turn("user", _exchange("chat", language, random)[0])], tools)


def _tool_to_render(language: str, random: Random, unseen: bool) -> Wanted:
    """Without 26.0 among its arguments: JavaScript reads it as 26, and writes that into the history of a conversation."""
    while True:
        wanted = ask_tool(language, random, unseen)
        if not any(isinstance(value, float) and value.is_integer() for value in wanted.arguments.values()):
            return wanted


if __name__ == "__main__":
    main()
