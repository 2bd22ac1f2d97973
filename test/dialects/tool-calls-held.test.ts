import { describe, expect, test } from "vitest";
import type { ChatEvent, ChatRequest, Tool } from "../../src/core/chat.ts";
import { ApiError } from "../../src/core/errors.ts";
import { holdToolCalls, type WrongCall } from "../../src/dialects/tool-calls-held.ts";
import { chatRequest, finish, reasoning, saying, text } from "../support/chat.ts";
import { gate } from "../support/fake-server.ts";

const tools: Tool[] = [
  { name: "read", parameters: { type: "object", properties: { path: { type: "string" } }, required: ["path"] } },
  { name: "wait", parameters: { type: "object", properties: { seconds: { type: "integer" } } } },
];

const part = (index: number, written: string, name?: string): ChatEvent => ({
  type: "tool-call",
  index,
  arguments: written,
  ...(name === undefined ? {} : { id: `call_${index}`, name }),
});

function failingWith(error: Error): AsyncIterable<ChatEvent> {
  return { [Symbol.asyncIterator]: () => ({ next: () => Promise.reject(error) }) };
}

interface Heard {
  events: ChatEvent[];
  /** Everything said: text, reasoning, calls; `progress` left out. */
  said: string[];
  asked: ChatRequest[];
  wrong: WrongCall[];
}

/** What goes on of these answers: the first, and those to further questions. */
async function hear(
  answers: (ChatEvent[] | (() => AsyncIterable<ChatEvent>))[],
  change: Partial<ChatRequest> = {},
): Promise<Heard> {
  const request = chatRequest({ tools, toolChoice: "auto", ...change });
  const heard: Heard = { events: [], said: [], asked: [], wrong: [] };
  const answer = (turn: number): AsyncIterable<ChatEvent> => {
    const events = answers[turn] ?? [];
    return typeof events === "function" ? events() : saying(...events);
  };
  const held = holdToolCalls(answer(0), {
    request,
    again: (asked) => answer(heard.asked.push(asked)),
    onWrong: (wrong) => heard.wrong.push(wrong),
  });
  for await (const event of held) {
    heard.events.push(event);
    if (event.type === "text" || event.type === "reasoning") heard.said.push(event.text);
    if (event.type === "tool-call") heard.said.push(`${event.index} ${event.name}${event.arguments}`);
    if (event.type === "finish") heard.said.push(event.reason);
  }
  return heard;
}

describe("calls", () => {
  test("come whole, however they were cut", async () => {
    const written = '{"path":"a \\"b\\" {c} \u{1f600}"}';
    for (let seed = 1; seed < 60; seed++) {
      const pieces: ChatEvent[] = [];
      for (let at = 0, first = true; at < written.length; first = false) {
        const size = 1 + ((seed * (at + 7)) % 5);
        pieces.push(part(0, written.slice(at, at + size), first ? "read" : undefined));
        at += size;
      }
      const { said, asked } = await hear([[text("I look."), ...pieces, finish("tool-calls")]]);
      expect(said).toEqual(["I look.", `0 read${written}`, "tool-calls"]);
      expect(asked).toEqual([]);
    }
  });

  test("that are sound go on as they were written", async () => {
    const written = ' {\n "path" : "a" , "more":1.50 } ';
    expect((await hear([[part(0, written, "read"), finish("tool-calls")]])).said).toEqual([
      `0 read${written}`,
      "tool-calls",
    ]);
  });

  test("of a server that takes turns between them are told apart", async () => {
    const events = [
      part(0, '{"path":', "read"),
      part(1, '{"sec', "wait"),
      part(0, '"a"}'),
      part(1, 'onds":1}'),
      finish("tool-calls"),
    ];
    expect((await hear([events])).said).toEqual(['0 read{"path":"a"}', '1 wait{"seconds":1}', "tool-calls"]);
  });

  test("go on as soon as the next one begins", async () => {
    const { opened, open } = gate();
    const request = chatRequest({ tools, toolChoice: "auto" });
    async function* slow(): AsyncGenerator<ChatEvent> {
      yield part(0, '{"path":"a"}', "read");
      yield part(1, "{", "wait");
      await opened;
      yield part(1, "}");
      yield finish("tool-calls");
    }
    const seen: ChatEvent[] = [];
    for await (const event of holdToolCalls(slow(), { request })) {
      seen.push(event);
      if (event.type === "tool-call" && event.index === 0) open();
    }
    expect(seen.filter(({ type }) => type === "tool-call")).toHaveLength(2);
  });

  test("hold nothing else back: what is said while one is open passes at once", async () => {
    const { opened, open } = gate();
    const request = chatRequest({ tools, toolChoice: "auto" });
    async function* slow(): AsyncGenerator<ChatEvent> {
      yield part(0, '{"path":', "read");
      yield reasoning("still thinking");
      await opened;
      yield part(0, '"a"}');
      yield finish("tool-calls");
    }
    for await (const event of holdToolCalls(slow(), { request })) if (event.type === "reasoning") open();
  });

  test("say that they begin, which is a word that the request is accepted", async () => {
    const [first] = (await hear([[part(0, '{"path":"a"}', "read"), finish("tool-calls")]])).events;
    expect(first).toEqual({ type: "progress", phase: "calling", accepted: true });
  });

  test("of another name that means a tool get that name", async () => {
    const { said, asked } = await hear([[part(0, '{"path":"a"}', "functions.Read"), finish("tool-calls")]]);
    expect([said[0], asked]).toEqual(['0 read{"path":"a"}', []]);
  });

  test("that share one id do so no longer", async () => {
    const twin = (index: number): ChatEvent => ({
      type: "tool-call",
      index,
      id: "call_0",
      name: "wait",
      arguments: "{}",
    });
    const { events } = await hear([[twin(0), twin(1), finish("tool-calls")]]);
    const ids = events.flatMap((event) => (event.type === "tool-call" ? [event.id] : []));
    expect(ids).toEqual(["call_0", undefined]);
  });

  test("that were cut by the length limit are not closed, and nobody is asked again", async () => {
    const { said, asked } = await hear([[part(0, '{"path":"a"', "read"), finish("length")]]);
    expect([said, asked]).toEqual([['0 read{"path":"a"', "length"], []]);
  });

  test("that never end do not fill the memory: they go on as they come", async () => {
    const block = "x".repeat(1024 * 1024);
    const events = [
      part(0, '{"path":"', "read"),
      ...Array.from({ length: 8 }, () => part(0, block)),
      part(0, '"}'),
      finish("tool-calls"),
    ];
    const { events: heard } = await hear([events]);
    const calls = heard.filter((event) => event.type === "tool-call");
    expect(calls.length).toBeGreaterThan(3);
    expect(calls.map((event) => event.arguments).join("")).toHaveLength(8 * 1024 * 1024 + 11);
  });

  test("beyond the first are left out where only one may be made", async () => {
    const events = [
      part(0, '{"path":"a"}', "read"),
      part(1, "{}", "wait"),
      part(2, "{}", "wait"),
      finish("tool-calls"),
    ];
    expect((await hear([events], { parallelToolCalls: false })).said).toEqual(['0 read{"path":"a"}', "tool-calls"]);
    expect((await hear([events])).said).toHaveLength(4);
  });
});

describe("a call that is wrong beyond repair", () => {
  const bad = [part(0, '{"file":"a"}', "read"), finish("tool-calls")];
  const good = [part(0, '{"path":"a"}', "read"), finish("tool-calls")];

  test("is told to the model, which answers anew; what it wrote is counted, the prompt is the client's own", async () => {
    const { said, asked, events, wrong } = await hear([bad, good]);
    expect(said).toEqual(['0 read{"path":"a"}', "tool-calls"]);
    expect(asked[0]?.tools).toEqual(tools);
    expect(asked[0]?.messages.slice(1)).toMatchObject([
      { role: "assistant", toolCalls: [{ id: "call_0", name: "read", arguments: '{"file":"a"}' }] },
      { role: "tool", toolCallId: "call_0", content: [{ text: expect.stringContaining("`path` is missing") }] },
    ]);
    expect(events.at(-1)).toMatchObject({ usage: { promptTokens: 7, completionTokens: 6 } });
    expect(wrong).toEqual([{ tool: "read", problem: "`path` is missing", asked: true }]);
  });

  test("of a tool that is not there names those that are", async () => {
    const { asked } = await hear([[part(0, "{}", "delete"), finish("tool-calls")], good]);
    expect(JSON.stringify(asked[0]?.messages)).toContain("the tools are: read, wait");
  });

  test.each<[string, ChatEvent[]]>([
    ["text", [text("Hm."), ...bad]],
    ["thinking", [reasoning("Hm."), ...bad]],
    ["a sound call", [part(1, "{}", "wait"), ...bad]],
  ])("goes on as it is once %s has gone out", async (_, events) => {
    const { said, asked, wrong } = await hear([events, good]);
    expect(said.slice(1)).toEqual(['0 read{"file":"a"}', "tool-calls"]);
    expect([asked, wrong.map((one) => one.asked)]).toEqual([[], [false]]);
  });

  test("is asked for again in a reply that goes out whole, whatever was said before; that is said once", async () => {
    const { said, asked } = await hear(
      [
        [reasoning("Hm."), text("One."), ...bad],
        [text("Two."), ...good],
      ],
      { stream: false },
    );
    expect(said).toEqual(["Two.", '0 read{"path":"a"}', "tool-calls"]);
    expect(asked[0]?.messages[1]?.content).toEqual([{ type: "text", text: "One." }]);
  });

  test("takes its sound neighbours with it, which the model is told to make again", async () => {
    const { asked } = await hear([[part(0, "{", "wait"), part(1, '{"path":"a"}', "read"), finish("tool-calls")], good]);
    expect(asked[0]?.messages.slice(2).map(({ content }) => JSON.stringify(content))).toEqual([
      expect.stringContaining("not valid JSON"),
      expect.stringContaining("Not run"),
    ]);
  });

  test("twice is wrong for good", async () => {
    const { said, asked } = await hear([bad, bad, good]);
    expect([said[0], asked.length]).toEqual(['0 read{"file":"a"}', 1]);
  });

  test("goes on as it was when the model cannot be asked again", async () => {
    const failing = failingWith(new ApiError("service_unavailable", "busy"));
    const { said } = await hear([[text("One."), ...bad], () => failing], { stream: false });
    expect(said).toEqual(["One.", '0 read{"file":"a"}', "tool-calls"]);
  });

  test("is an error when the second answer breaks off after its first words", async () => {
    async function* breaking(): AsyncGenerator<ChatEvent> {
      yield text("Well");
      throw new ApiError("upstream_error", "gone");
    }
    await expect(hear([bad, () => breaking()])).rejects.toMatchObject({ code: "upstream_error" });
  });

  test("is no reason to go on for a client that has left", async () => {
    const left = failingWith(new ApiError("client_closed_request", "left"));
    await expect(hear([bad, () => left])).rejects.toMatchObject({ code: "client_closed_request" });
  });

  test("lets the first answer be over before the second is asked for: some servers have one place", async () => {
    const order: string[] = [];
    async function* first(): AsyncGenerator<ChatEvent> {
      try {
        yield* bad;
      } finally {
        order.push("over");
      }
    }
    const second = (): AsyncIterable<ChatEvent> => {
      order.push("asked");
      return saying(...good);
    };
    await hear([() => first(), second]);
    expect(order).toEqual(["over", "asked"]);
  });
});
