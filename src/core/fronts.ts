import type { Headers } from "./call.ts";

/** What fronts (nginx, Caddy, CDNs, port forwarders) tell of whom they speak for. */
const forwarding = /^(?:forwarded|via|x-forwarded-.*|x-real-ip|x-client-ip|true-client-ip|cf-.*|fly-.*)$/;

/** Whether a request says that it came through a front: then its peer is not who asks. */
export function cameThroughFront(headers: Headers): boolean {
  return Object.keys(headers).some((name) => forwarding.test(name));
}
