import { flags, frameTypes, kindOf } from "./frames.ts";
import type { FrameWriter } from "./frame-writer.ts";

interface Ping {
  readonly number: number;
  readonly sentAt: number;
  readonly answered: (roundTrip: number) => void;
  readonly lost: ((error: Error) => void) | undefined;
}

/** Our pings, and the round trip that they measure. */
export class Pings {
  /** Milliseconds, smoothed; 0 before the first answer. */
  roundTrip = 0;
  readonly #frames: FrameWriter;
  #pending: Ping[] = [];
  #number = 0;

  constructor(frames: FrameWriter) {
    this.#frames = frames;
  }

  /** Writes one. Either `answered` or `lost` is called, once. */
  send(answered: (roundTrip: number) => void, lost?: (error: Error) => void): void {
    this.#number = (this.#number + 1) >>> 0;
    this.#pending.push({ number: this.#number, sentAt: performance.now(), answered, lost });
    this.#frames.numbers(kindOf(frameTypes.ping), 0, [0, this.#number]);
  }

  /** The peer has answered; whatever it made up is left out. */
  answer(payload: Buffer): void {
    const number = payload.readUInt32BE(4);
    const index = this.#pending.findIndex((ping) => ping.number === number);
    const ping = this.#pending[index];
    if (ping === undefined || payload.readUInt32BE(0) !== 0) return;
    this.#pending.splice(index, 1);
    const roundTrip = performance.now() - ping.sentAt;
    this.roundTrip = this.roundTrip === 0 ? roundTrip : Math.min(roundTrip, this.roundTrip * 0.75 + roundTrip * 0.25);
    ping.answered(roundTrip);
  }

  /** Writes the answer to one of the peer's. */
  reply(payload: Buffer): void {
    this.#frames.numbers(kindOf(frameTypes.ping, flags.ack), 0, [payload.readUInt32BE(0), payload.readUInt32BE(4)]);
  }

  /** There will be no more answers. */
  close(error: Error): void {
    const pending = this.#pending;
    this.#pending = [];
    for (const ping of pending) ping.lost?.(error);
  }
}
