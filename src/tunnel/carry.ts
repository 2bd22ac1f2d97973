import type { ByteStream } from "../core/bytes.ts";
import type { Call, Headers, Reply } from "../core/call.ts";
import type { Http2Session } from "./http2/session.ts";

/** What of a call goes through the tunnel. */
export interface CarriedRequest {
  /** With its query. */
  readonly path: string;
  /** As the caller sent them; what may pass is chosen here. */
  readonly headers: Headers;
  readonly body: Buffer | ByteStream | null;
}

/** Where a call was when its agent was lost to it. */
export type CarryStage = "refused" | "before-head" | "after-head";

/** A call that the tunnel could not bring to an end. `refused`: it was certainly not begun. */
export class CarryFailure extends Error {
  readonly stage: CarryStage;

  constructor(stage: CarryStage, message: string) {
    super(message);
    this.stage = stage;
  }
}

/** Sends one call over one stream of the session. Throws `CarryFailure`, or `client_closed_request` when the caller left. */
export function carry(session: Http2Session, call: Call, request: CarriedRequest): Promise<Reply> {
  void session;
  void call;
  void request;
  return Promise.reject(new CarryFailure("refused", "not there yet"));
}
