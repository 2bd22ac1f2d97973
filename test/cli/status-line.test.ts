import { EventEmitter } from "node:events";
import { describe, expect, it } from "vitest";
import { toStatus } from "../../src/cli/agent-status.ts";
import type { Terminal } from "../../src/cli/command.ts";
import { type Status, StatusLine, statusText } from "../../src/cli/status-line.ts";
import type { AgentReport } from "../../src/tunnel/agent/report.ts";

const escape = "\u001b";
const colour = new RegExp(`${escape}\\[\\d+m`, "g");
const strokes = new RegExp(`${escape}\\[\\??\\d*[a-zA-Z]|\\r|\\n|[^${escape}\\r\\n]+`, "g");

const connected: Status = {
  phase: "connected",
  relay: "relay.example:8081",
  name: "home",
  connectedFor: 3 * 3_600_000 + 5 * 60_000,
  roundTrip: 23.4,
  problem: undefined,
  retryIn: undefined,
  callsNow: 2,
  callsTotal: 1480,
  tokens: 123_456,
};

describe("the status line", () => {
  it("tells relay, name, since, round trip, calls and tokens", () => {
    expect(statusText(connected, 120, false)).toBe(
      "* connected to relay.example:8081 as home · 3 h 5 min · 23 ms · 2 now · 1,480 calls · 123,456 tokens",
    );
  });

  it("leaves out what matters least where the terminal is narrow, and is never wider than it", () => {
    expect(statusText(connected, 72, false)).toBe(
      "* connected to relay.example:8081 as home · 23 ms · 2 now · 1,480 calls",
    );
    expect(statusText(connected, 55, false)).toBe("* connected to relay.example:8081 as home · 2 now");
    for (let room = 1; room <= 130; room++) {
      const plain = statusText(connected, room, true).replace(colour, "");
      expect(plain.length, `${room} columns`).toBeLessThanOrEqual(room);
      expect(statusText(connected, room, false).length, `${room} columns`).toBeLessThanOrEqual(room);
    }
  });

  it("has no colours where none are wanted", () => {
    expect(statusText(connected, 120, false)).not.toContain("\u001b");
    expect(statusText(connected, 120, true)).toContain("\u001b[32m");
  });

  it("says why it is not connected and when it tries again", () => {
    const lost: Status = {
      ...connected,
      phase: "connecting",
      problem: "nothing listens at relay.example (ECONNREFUSED): is it running?",
      retryIn: 11_200,
      roundTrip: undefined,
    };
    expect(statusText(lost, 120, false)).toMatch(
      /^- not connected to relay\.example:8081 · next try in 12 s · nothing listens at relay\.example · 2 now/,
    );
  });

  it("does not let another server steer the terminal", () => {
    const evil: Status = { ...connected, phase: "connecting", problem: "no\u001b]0;title\u0007 \u009b2Jway\r\n" };
    expect(statusText(evil, 200, false)).not.toMatch(/\p{Cc}/u);
  });
});

describe("an agent's report", () => {
  const report: AgentReport = {
    phase: "connected",
    ready: true,
    models: 2,
    underWay: 1,
    calls: 7,
    tokens: 40,
    bytes: 1000,
    connections: [
      { state: "connected", since: 1000, transport: "upgrade", agent: "home", roundTrip: 8, underWay: 1, calls: 4 },
      { state: "connected", since: 4000, transport: "upgrade", agent: "home", roundTrip: 6, underWay: 0, calls: 3 },
    ],
  };

  it("is told from the connection that stands longest and the shortest way", () => {
    expect(toStatus(report, "r", 61_000)).toMatchObject({
      phase: "connected",
      name: "home",
      connectedFor: 60_000,
      roundTrip: 6,
      problem: undefined,
      callsNow: 1,
      callsTotal: 7,
    });
  });

  it("says when the runtime is silent, or a connection is missing", () => {
    expect(toStatus({ ...report, ready: false }, "r", 0).problem).toBe("the runtime does not answer");
    const [first] = report.connections;
    if (first === undefined) throw new Error("no connection");
    const one: AgentReport = { ...report, connections: [first, { state: "waiting", until: 9000, failure: "refused" }] };
    expect(toStatus(one, "r", 0)).toMatchObject({ phase: "connected", problem: "1 of 2 connections" });
  });

  it("says why nothing is connected", () => {
    const offline: AgentReport = {
      ...report,
      phase: "offline",
      connections: [
        { state: "waiting", until: 9000, failure: "nothing listens there" },
        { state: "waiting", until: 7000 },
      ],
    };
    expect(toStatus(offline, "r", 5000)).toMatchObject({
      phase: "connecting",
      problem: "nothing listens there",
      retryIn: 2000,
    });
  });
});

/** A terminal that keeps its screen: what a person sees after everything that was written. */
class Screen {
  readonly rows: string[] = [""];
  #row = 0;
  #column = 0;
  readonly writes: string[] = [];
  readonly output = Object.assign(new EventEmitter(), { columns: 60, hasColors: () => false });

  get terminal(): Terminal {
    const output = this.output as unknown as Terminal["output"];
    const write = (text: string): void => this.#write(text);
    return {
      env: {},
      print: (line) => write(`${line}\n`),
      write,
      complain() {},
      input: process.stdin,
      output,
      interactive: true,
    };
  }

  get text(): string {
    return this.rows.map((row) => row.trimEnd()).join("\n");
  }

  #write(text: string): void {
    this.writes.push(text);
    for (const [piece = ""] of text.matchAll(strokes)) {
      if (piece === "\r") this.#column = 0;
      else if (piece === "\n") {
        this.#row++;
        this.#column = 0;
        this.rows[this.#row] ??= "";
      } else if (piece === "\u001b[J") {
        this.rows.length = this.#row + 1;
        this.rows[this.#row] = (this.rows[this.#row] ?? "").slice(0, this.#column);
      } else if (!piece.startsWith("\u001b")) {
        const row = (this.rows[this.#row] ?? "").padEnd(this.#column);
        this.rows[this.#row] = row.slice(0, this.#column) + piece + row.slice(this.#column + piece.length);
        this.#column += piece.length;
      }
    }
  }
}

describe("a terminal with a status line", () => {
  it("shows log lines above it, each in one write, and is clean at the end", () => {
    const screen = new Screen();
    let status = connected;
    const line = new StatusLine(screen.terminal, () => status);
    line.write("one\n");
    line.start();
    line.write("two\nthree\n");
    status = { ...connected, callsNow: 0, callsTotal: 3, tokens: 0, name: undefined };
    screen.output.emit("resize");
    expect(screen.text).toBe("one\ntwo\nthree\n* connected to relay.example:8081 · 23 ms · 0 now · 3 calls");
    const before = screen.writes.length;
    line.write("four\n");
    expect(screen.writes).toHaveLength(before + 1);
    line.stop();
    line.write("five\n");
    expect(screen.text).toBe("one\ntwo\nthree\nfour\nfive\n");
    expect(screen.output.listenerCount("resize")).toBe(0);
  });

  it("fits a terminal that was made narrower", () => {
    const screen = new Screen();
    const line = new StatusLine(screen.terminal, () => connected);
    line.start();
    screen.output.columns = 20;
    screen.output.emit("resize");
    expect(screen.text).toBe("* connected to rel…");
    line.stop();
  });
});
