import { buildNative } from "../support/native.ts";
import { kill, linesOf, nextLine, startPinned } from "../support/processes.ts";

/** A line with a delay (`bench/delay.c`). */
export interface DelayLine {
  /** Where to connect to. */
  readonly port: number;
  stop(): Promise<void>;
}

/** Starts a line to a port; each byte arrives half of `roundTrip` milliseconds after it was sent. */
export async function startDelayLine(core: string, to: number, roundTrip: number): Promise<DelayLine> {
  const args = [String(to), String((roundTrip * 1000) / 2)];
  const child = startPinned({ command: buildNative("delay"), args, core });
  return { port: Number(await nextLine(linesOf(child))), stop: () => kill(child) };
}
