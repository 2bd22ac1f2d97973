import type { WebSocket } from "ws";
import type { Link } from "./link.ts";

/** A WebSocket whose binary messages are a link's bytes. */
export function websocketLink(webSocket: WebSocket): Link {
  throw new Error(`not built yet: ${webSocket.url}`);
}
