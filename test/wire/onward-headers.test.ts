import { describe, expect, test } from "vitest";
import { contentLength, replyHeaders, requestHeaders } from "../../src/wire/onward-headers.ts";

describe("headers of a request", () => {
  test("go on when they tell the runtime something about the call", () => {
    const told = {
      "content-type": "application/json",
      accept: "text/event-stream",
      "user-agent": "opencode/1.0",
      "x-request-id": "abc",
      traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
      "anthropic-version": "2023-06-01",
      "x-session-id": "s1",
      session_id: "s2",
    };
    expect(requestHeaders(told)).toEqual(told);
  });

  test("stay at the relay when they hold credentials, addresses, origins or framing", () => {
    const kept = {
      authorization: "Bearer CALLERS-KEY",
      "api-key": "CALLERS-KEY",
      "x-api-key": "CALLERS-KEY",
      "x-goog-api-key": "CALLERS-KEY",
      "proxy-authorization": "Basic x",
      cookie: "session=1",
      forwarded: "for=203.0.113.7",
      "x-forwarded-for": "203.0.113.7",
      "x-forwarded-host": "relay",
      "x-real-ip": "203.0.113.7",
      "cf-connecting-ip": "203.0.113.7",
      host: "relay",
      origin: "https://page.example",
      referer: "https://page.example/x",
      connection: "close, x-request-id",
      "content-length": "5",
      "transfer-encoding": "chunked",
      "content-encoding": "gzip",
      "accept-encoding": "gzip",
      te: "trailers",
      upgrade: "websocket",
      expect: "100-continue",
      ":path": "/v1/models",
      ":authority": "evil",
      "x-lair-agent": "other",
    };
    expect(requestHeaders(kept)).toEqual({});
    // What Connection names does not take a header away that is on the list: it is the relay that regenerates the head.
    expect(requestHeaders({ ...kept, "x-request-id": "abc" })).toEqual({ "x-request-id": "abc" });
  });

  test("never hold what could end their line at the runtime", () => {
    for (const value of ["a\r\nx: y", "a\nb", "a\0", "\u0001", "a\u0100", 5 as unknown as string])
      expect(requestHeaders({ accept: value })).toEqual({});
    expect(requestHeaders({ accept: "caf\u00e9\tau lait" })).toEqual({ accept: "caf\u00e9\tau lait" });
  });
});

describe("headers of a reply", () => {
  test("go back as the runtime wrote them", () => {
    const told = {
      "content-type": "text/event-stream; charset=utf-8",
      "cache-control": "no-cache, no-transform",
      "x-accel-buffering": "no",
      "content-encoding": "gzip",
      "retry-after": "2",
      allow: "POST",
      "openai-processing-ms": "12",
    };
    expect(replyHeaders(told)).toEqual(told);
  });

  test("stay behind when they are of one connection, or speak for an origin that is not the relay's", () => {
    const kept = {
      connection: "close, X-Hop",
      "x-hop": "1",
      "keep-alive": "timeout=5",
      "transfer-encoding": "chunked",
      "content-length": "3",
      upgrade: "h2c",
      trailer: "x",
      te: "trailers",
      "proxy-authenticate": "Basic",
      "proxy-connection": "close",
      "x-ratelimit-limit-requests": "10",
      "x-ratelimit-remaining": "1",
      "set-cookie": "a=b",
      server: "uvicorn",
      "x-powered-by": "Express",
      "alt-svc": 'h3=":443"',
      "strict-transport-security": "max-age=1",
      "www-authenticate": "Bearer",
      location: "http://192.168.1.1/",
      "access-control-allow-origin": "*",
      "clear-site-data": '"*"',
      ":status": "200",
    };
    expect(replyHeaders(kept)).toEqual({});
  });

  test("of a hostile agent cannot break the relay's own head", () => {
    expect(
      replyHeaders({ "x y": "1", "X-Upper": "1", "": "1", "a\r\nb": "1", "x-ok": "1", "x-bad": "1\r\n\r\n<html>" }),
    ).toEqual({ "x-ok": "1" });
  });
});

test("a body's length is a plain number, nothing, or none", () => {
  expect(contentLength({})).toBe(undefined);
  expect(contentLength({ "content-length": "12" })).toBe(12);
  for (const wrong of ["", "-1", "+1", "1e3", "0x10", "1, 1", " 1", "1234567890123456"])
    expect(contentLength({ "content-length": wrong })).toBe(Number.NaN);
});
