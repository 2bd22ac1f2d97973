import { plainText, showsColours, type Terminal } from "./command.ts";
import { LiveLine } from "./live-line.ts";

/** What an agent's status line tells. */
export interface Status {
  readonly phase: "connecting" | "connected" | "draining";
  /** The relay, as a person knows it: `relay.example:8081`. */
  readonly relay: string;
  /** The agent's name at the relay. */
  readonly name: string | undefined;
  /** Milliseconds since it is connected. */
  readonly connectedFor: number;
  /** Milliseconds to the relay and back. */
  readonly roundTrip: number | undefined;
  /** Why it is not connected, or what else is wrong, e.g. `the runtime does not answer`. */
  readonly problem: string | undefined;
  /** Milliseconds until it is tried again. */
  readonly retryIn: number | undefined;
  readonly callsNow: number;
  readonly callsTotal: number;
  /** Tokens of the answers, as far as these told. */
  readonly tokens: number;
}

/** Times between two drawings, in milliseconds: of the clock's sake, and when something has changed. */
const tick = 1000;
const soonest = 100;

/** The line at the bottom of the terminal that tells how an agent is; log lines are written above it. */
export class StatusLine {
  readonly #line: LiveLine;
  readonly #terminal: Terminal;
  readonly #read: () => Status;
  readonly #coloured: boolean;
  #clock: NodeJS.Timeout | undefined;
  #soon: NodeJS.Timeout | undefined;
  readonly #onResize = (): void => this.#draw();

  constructor(terminal: Terminal, read: () => Status) {
    this.#terminal = terminal;
    this.#line = new LiveLine(terminal);
    this.#read = read;
    this.#coloured = showsColours(terminal);
  }

  start(): void {
    this.#terminal.output.on("resize", this.#onResize);
    this.#clock = setInterval(() => this.#draw(), tick).unref();
    this.#draw();
  }

  /** Something is different now. */
  changed(): void {
    if (this.#clock === undefined) return;
    this.#soon ??= setTimeout(() => {
      this.#soon = undefined;
      this.#draw();
    }, soonest).unref();
  }

  /** Log lines, each with its line end. */
  write(lines: string): void {
    this.#line.above(lines);
  }

  stop(): void {
    this.#terminal.output.off("resize", this.#onResize);
    clearInterval(this.#clock);
    clearTimeout(this.#soon);
    this.#clock = undefined;
    this.#line.clear();
  }

  #draw(): void {
    if (this.#clock !== undefined) this.#line.draw(statusText(this.#read(), this.#line.room, this.#coloured));
  }
}

/** The status in at most `room` columns: what matters least is left out first. */
export function statusText(status: Status, room: number, coloured: boolean): string {
  const pieces = toPieces(status);
  const rest = (): string => pieces.map(({ text }) => separator + text).join("");
  const head = headText(status);
  while (pieces.length > 0 && head.length + rest().length + 2 > room) pieces.splice(leastOf(pieces), 1);
  const cut = head.length + 2 > room ? `${head.slice(0, Math.max(room - 3, 0))}…` : head;
  const well = status.phase === "connected" && status.problem === undefined;
  if (room < 3) return (well ? "*" : "-").slice(0, room);
  if (!coloured) return `${well ? "*" : "-"} ${cut}${rest()}`;
  return `\u001b[${well ? 32 : 33}m${well ? "●" : "○"}\u001b[39m ${cut}\u001b[2m${rest()}\u001b[22m`;
}

interface Piece {
  readonly text: string;
  /** What has less goes first. */
  readonly weight: number;
}

const separator = " · ";

function toPieces(status: Status): Piece[] {
  const { phase, callsNow, callsTotal, tokens, roundTrip, problem, retryIn } = status;
  const pieces: (Piece | undefined)[] = [
    retryIn === undefined || phase !== "connecting"
      ? undefined
      : { text: `next try in ${Math.ceil(retryIn / 1000)} s`, weight: 8 },
    problem === undefined ? undefined : { text: shortly(problem), weight: 7 },
    phase === "connecting" ? undefined : { text: spanText(status.connectedFor), weight: 3 },
    roundTrip === undefined
      ? undefined
      : { text: `${roundTrip < 10 ? roundTrip.toFixed(1) : Math.round(roundTrip)} ms`, weight: 4 },
    { text: `${callsNow} now`, weight: 6 },
    { text: `${toCount(callsTotal)} ${callsTotal === 1 ? "call" : "calls"}`, weight: 5 },
    tokens === 0 ? undefined : { text: `${toCount(tokens)} tokens`, weight: 2 },
  ];
  return pieces.filter((piece): piece is Piece => piece !== undefined);
}

function headText({ phase, relay, name, problem }: Status): string {
  if (phase === "draining") return `leaving ${relay}`;
  if (phase === "connected") return `connected to ${relay}${name === undefined ? "" : ` as ${name}`}`;
  return problem === undefined ? `connecting to ${relay}` : `not connected to ${relay}`;
}

/** What a problem is, without its details and what to do: the log has all of it. */
function shortly(problem: string): string {
  return plainText(problem.split(/: | \(|; /)[0] ?? problem);
}

function leastOf(pieces: readonly Piece[]): number {
  return pieces.reduce((least, { weight }, at) => (weight < (pieces[least]?.weight ?? 0) ? at : least), 0);
}

/** `45 s`, `12 min`, `3 h 5 min`, `2 d 4 h`. */
function spanText(milliseconds: number): string {
  const seconds = Math.floor(milliseconds / 1000);
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  return hours < 24 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

function toCount(count: number): string {
  return count.toLocaleString("en-US");
}
