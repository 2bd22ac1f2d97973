import type { Headers } from "../../src/core/call.ts";
import type { Log } from "../../src/core/log.ts";
import type { Clock } from "../../src/core/clock.ts";
import {
  type AgentMessage,
  agentMessages,
  controlPath,
  encodeMessage,
  type RelayMessage,
} from "../../src/tunnel/control.ts";
import type { Dialled } from "../../src/tunnel/handshake/dial.ts";
import { Http2Session } from "../../src/tunnel/http2/session.ts";
import type { Link } from "../../src/tunnel/links/link.ts";
import { linkPair } from "./links.ts";
import { Asked, ask } from "./tunnel-ends.ts";

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** Waits, turn of the loop by turn, until it is so. */
export async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await turn();
}

/** Lets everything that is under way in memory come to rest. */
export async function settle(): Promise<void> {
  for (let turns = 0; turns < 40; turns++) await turn();
}

/** A clock that only the test moves. While the machine sleeps, the wall's time goes on and timers do not. */
export class ManualClock implements Clock {
  chance = 0.5;
  #wall = 1_700_000_000_000;
  #awake = 0;
  #timers: { due: number; task: () => void }[] = [];

  get pending(): number {
    return this.#timers.length;
  }

  now(): number {
    return this.#wall;
  }

  random(): number {
    return this.chance;
  }

  after(milliseconds: number, task: () => void): () => void {
    const timer = { due: this.#awake + milliseconds, task };
    this.#timers.push(timer);
    return () => void (this.#timers = this.#timers.filter((one) => one !== timer));
  }

  sleep(milliseconds: number): void {
    this.#wall += milliseconds;
  }

  /** Time passes; what it sets off has come to rest when this resolves. */
  async advance(milliseconds: number): Promise<void> {
    await settle();
    const end = this.#awake + milliseconds;
    for (;;) {
      const next = this.#timers.filter(({ due }) => due <= end).toSorted((one, other) => one.due - other.due)[0];
      if (next === undefined) break;
      this.#timers = this.#timers.filter((one) => one !== next);
      this.#wall += Math.max(0, next.due - this.#awake);
      this.#awake = Math.max(this.#awake, next.due);
      next.task();
      await settle();
    }
    this.#wall += end - this.#awake;
    this.#awake = end;
    await settle();
  }
}

/** The relay's end of one connection, which says what the test lets it say. */
export class RelayEnd {
  readonly session: Http2Session;
  readonly messages: AgentMessage[] = [];
  readonly control = new Asked();
  closed = false;
  readonly #link: Link;

  constructor(link: Link, welcomes: boolean, relay: string | undefined) {
    this.#link = link;
    this.session = new Http2Session(link, { role: "client", onClose: () => (this.closed = true) });
    const reader = agentMessages();
    const { control } = this;
    control.onData = (chunk) => {
      for (const message of reader.push(chunk)) {
        this.messages.push(message);
        const told = relay === undefined ? {} : { relay };
        if (message.type === "hello" && welcomes)
          this.say({ type: "welcome", agent: "home", version: "1.2.3", ...told });
      }
    };
    control.onEnd = () => control.stream.end();
    control.stream = this.session.open(
      { ":method": "POST", ":scheme": "http", ":authority": "agent", ":path": controlPath },
      control,
      false,
    );
  }

  get hello(): Extract<AgentMessage, { type: "hello" }> | undefined {
    return this.messages.find((message) => message.type === "hello");
  }

  of<Type extends AgentMessage["type"]>(type: Type): Extract<AgentMessage, { type: Type }>[] {
    return this.messages.filter((message): message is Extract<AgentMessage, { type: Type }> => message.type === type);
  }

  say(message: RelayMessage): void {
    this.control.stream.write(encodeMessage(message));
  }

  ask(headers: Headers = {}, body: string | null | undefined = "{}"): Asked {
    return ask(this.session, { ":path": "/v1/chat/completions", ...headers }, body);
  }

  /** As a process that is stopped: its connection stands, and nothing of it moves. */
  freeze(): void {
    this.#link.pause();
  }

  thaw(): void {
    this.#link.resume();
  }
}

/** An attempt of the agent to connect, which the test lets succeed or fail. */
export interface Attempt {
  readonly at: number;
  readonly aborted: () => boolean;
  /** `relay`: its id, said in the welcome. */
  accept(welcomes?: boolean, relay?: string): RelayEnd;
  refuse(error: Error): void;
}

/** The agent's way to a relay that is not there but in the test. */
export class ScriptedRelay {
  readonly attempts: Attempt[] = [];
  readonly #clock: Clock;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  readonly dial = (signal: AbortSignal): Promise<Dialled> =>
    new Promise((resolve, reject) => {
      signal.addEventListener("abort", () => reject(new Error("given up")));
      this.attempts.push({
        at: this.#clock.now(),
        aborted: () => signal.aborted,
        accept: (welcomes = true, relay) => {
          const [near, far] = linkPair();
          resolve({ link: far, transport: "upgrade" });
          return new RelayEnd(near, welcomes, relay);
        },
        refuse: reject,
      });
    });

  /** The attempt of that number, from 0 on, once it is made. */
  async attempt(number: number): Promise<Attempt> {
    await until(() => this.attempts.length > number);
    return this.attempts[number] as Attempt;
  }
}

/** A log that keeps its lines. */
export function keptLog(): Log & { readonly lines: { level: string; message: string; fields: object }[] } {
  const lines: { level: string; message: string; fields: object }[] = [];
  const at =
    (level: string) =>
    (fields: object, message: string): void =>
      void lines.push({ level, message, fields });
  return { lines, debug: at("debug"), info: at("info"), warn: at("warn"), error: at("error") };
}
