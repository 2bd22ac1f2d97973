import { preface, settings, standardWindow } from "./frames.ts";
import { largestHeaderList } from "./header-rules.ts";
import { firstWindow, sessionWindow } from "./receive-window.ts";
import type { Sender } from "./sender.ts";

/** Writes what each end begins with. `mostStreams`: those that the peer may open at a time. */
export function writeGreeting(sender: Sender, role: "client" | "server", mostStreams: number): void {
  const client = role === "client";
  if (client) sender.frames.raw(preface);
  sender.frames.settings([
    [settings.headerTableSize, 0],
    ...(client ? ([[settings.enablePush, 0]] as const) : []),
    [settings.maxConcurrentStreams, mostStreams],
    [settings.initialWindowSize, firstWindow],
    [settings.maxHeaderListSize, largestHeaderList],
  ]);
  sender.windowUpdate(0, sessionWindow - standardWindow);
}
