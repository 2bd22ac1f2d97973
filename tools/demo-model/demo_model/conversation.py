"""Conversations, and how the chat template writes them. `chat-template.jinja` says the same for llama.cpp."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

START, END, STOP = "<|im_start|>", "<|im_end|>", "<|endoftext|>"
CALL, CALL_END = "<tool_call>", "</tool_call>"
RESULT, RESULT_END = "<tool_response>", "</tool_response>"
TOOLS, TOOLS_END = "<tools>", "</tools>"
CONTROL_TOKENS = [STOP, START, END]
"""Never said, only read by programs (llama.cpp: CONTROL)."""
MARK_TOKENS = [CALL, CALL_END, RESULT, RESULT_END, TOOLS, TOOLS_END]
"""A token each, and part of the text (llama.cpp: USER_DEFINED)."""

LETTERS, LETTERS_END = "\x01", "\x02"
"""Between these the tokenizer writes one token a byte: words that are spelled have no tokens of their own."""

DESCRIPTION_LENGTH = 120
"""Characters of a tool's description that the model is shown, of its first line."""


Piece = tuple[str, bool]
"""A text, and whether the model says it."""


@dataclass
class Turn:
    """What is said by `role`: `system`, `user`, `assistant` or `tool`. `call`: name and arguments."""

    role: str
    text: str = ""
    call: tuple[str, dict] | None = None
    learned: bool = True
    """An assistant's turn from which the model learns."""
    known: bool = False
    """An answer that is one of a few hundred fixed texts: its beginning tells which one."""
    named: bool = False
    """A call of which only the name is learned: which tool is wanted is harder than what goes into it."""


@dataclass
class Conversation:
    ability: str
    turns: list[Turn]
    tools: list[dict] = field(default_factory=list)
    """In OpenAI's form, without the outer `function`."""
    branches: list[list[Turn]] = field(default_factory=list)
    """Ways to go on after `turns`, none of which knows of another."""

    def pieces(self) -> list[Piece]:
        """The text of `turns` as the template writes it."""
        turns = list(self.turns)
        if not self.tools:
            return written(turns)
        system = turns.pop(0).text if turns and turns[0].role == "system" else ""
        head = f"{system}\n\n" if system else ""
        listed = "".join(f"{signature(tool)}\n" for tool in self.tools)
        return [(f"{START}system\n{head}{TOOLS}\n{listed}{TOOLS_END}{END}\n", False), *written(turns)]


def written(turns: list[Turn]) -> list[Piece]:
    """As the template writes them, behind what was said before."""
    pieces: list[Piece] = []
    for turn in turns:
        if turn.role == "tool":
            pieces.append((f"{START}user\n{RESULT}\n{turn.text}\n{RESULT_END}{END}\n", False))
            continue
        pieces.append((f"{START}{turn.role}\n", False))
        said = turn.text if turn.call is None else call_text(*turn.call)
        pieces.append((f"{said}{END}", turn.role == "assistant" and turn.learned))
        pieces.append(("\n", False))
    return pieces


def call_start(name: str) -> str:
    return f'{CALL}\n{{"name": {to_json(name)[:-1]}'


def call_text(name: str, arguments: dict) -> str:
    return f'{call_start(name)}", "arguments": {to_json(arguments)}}}\n{CALL_END}'


def signature(tool: dict) -> str:
    """A tool in one line: `name(first: string, second?: "a" | "b"): what it does`."""
    parameters = tool.get("parameters") or {}
    required = parameters.get("required") or []
    written = []
    for name, given in (parameters.get("properties") or {}).items():
        kind = given.get("type")
        shown = kind if isinstance(kind, str) else "any"
        if given.get("enum"):
            shown = " | ".join(to_json(value) for value in given["enum"])
        written.append(f"{name}{'' if name in required else '?'}: {shown}")
    first = (tool.get("description") or "").strip().split("\n")[0][:DESCRIPTION_LENGTH]
    return f"{tool['name']}({', '.join(written)}): {first}"


def to_json(value: object) -> str:
    """As `tojson` of chat templates writes it."""
    return json.dumps(value, ensure_ascii=False)
