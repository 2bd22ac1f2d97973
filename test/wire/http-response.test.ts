import { describe, expect, test } from "vitest";
import { HttpResponse } from "../../src/wire/http-response.ts";

interface Seen {
  status?: number;
  headers?: Record<string, string>;
  body: string;
  end?: "kept" | "closed";
  broken?: string;
}

function read(text: string, { size = Infinity, close = false }: { size?: number; close?: boolean } = {}): Seen {
  const seen: Seen = { body: "" };
  const response = new HttpResponse({
    onHead: (status, headers) => Object.assign(seen, { status, headers }),
    onBody: (piece) => void (seen.body += piece.toString("latin1")),
    onEnd: (reusable) => void (seen.end = reusable ? "kept" : "closed"),
    onBroken: (message) => void (seen.broken = message),
  });
  const bytes = Buffer.from(text, "latin1");
  for (let at = 0; at < bytes.length; at += size) response.push(bytes.subarray(at, at + size));
  if (close) response.close();
  return seen;
}

const counted = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nX-Two: a\r\nx-two: b\r\ncontent-length: 5\r\n\r\nhello";
const chunked =
  'HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nhel\r\n2;name="v"\r\nlo\r\n0\r\ntrailer: x\r\n\r\n';

describe("HttpResponse", () => {
  test("reads heads and bodies however the bytes are cut", () => {
    for (const [text, close, end] of [
      [counted, false, "kept"],
      [chunked, false, "kept"],
      ["HTTP/1.1 200 OK\r\n\r\nhello", true, "closed"],
      ["HTTP/1.0 200 OK\r\ncontent-length: 5\r\n\r\nhello", false, "closed"],
      ["HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 5\r\n\r\nhello", false, "closed"],
      [`HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n${counted}`, false, "kept"],
    ] as const) {
      for (let size = 1; size <= text.length; size++) {
        expect(read(text, { size, close })).toMatchObject({ status: 200, body: "hello", end });
      }
    }
    expect(read(counted).headers).toMatchObject({ "content-type": "text/plain", "x-two": "a, b" });
  });

  test("hands on one piece for all that one read brought", () => {
    const pieces: string[] = [];
    const response = new HttpResponse({
      onHead: () => undefined,
      onBody: (piece) => pieces.push(piece.toString()),
      onEnd: () => undefined,
      onBroken: () => undefined,
    });
    response.push(Buffer.from(chunked));
    expect(pieces).toEqual(["hello"]);
  });

  test.each([204, 304])("a %i has no body", (status) => {
    expect(read(`HTTP/1.1 ${status} X\r\n\r\n`)).toEqual({ status, headers: {}, body: "", end: "kept" });
  });

  test("a connection that carried more than the response is not used again", () => {
    expect(read(`${counted}HTTP/1.1 200 OK`)).toMatchObject({ body: "hello", end: "closed" });
    expect(read(`${chunked}x`)).toMatchObject({ body: "hello", end: "closed" });
    expect(read("HTTP/1.1 204 X\r\n\r\nx")).toMatchObject({ end: "closed" });
  });

  test.each([
    ["a cut head", "HTTP/1.1 200 OK\r\ncontent-le"],
    ["a cut body", counted.slice(0, -1)],
    ["cut chunks", chunked.slice(0, -2)],
    ["chunks without the last", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nhel\r\n"],
  ])("%s is broken, not whole", (_name, text) => {
    for (let size = 1; size <= text.length; size += 3) {
      const seen = read(text, { size, close: true });
      expect(seen.end).toBeUndefined();
      expect(seen.broken).toContain("ended");
    }
  });

  test.each([
    ["another protocol", "SSH-2.0-OpenSSH\r\n\r\n"],
    ["HTTP/2", "HTTP/2 200\r\n\r\n"],
    ["two lengths", "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello"],
    ["a length that is none", "HTTP/1.1 200 OK\r\ncontent-length: 0x5\r\n\r\nhello"],
    ["a length and chunks", "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"],
    ["an unknown coding", "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n"],
    ["a folded header", "HTTP/1.1 200 OK\r\na: b\r\n c\r\n\r\n"],
    ["a header without a name", "HTTP/1.1 200 OK\r\n: b\r\n\r\n"],
    ["a blank in a header's name", "HTTP/1.1 200 OK\r\ncontent-length : 5\r\n\r\nhello"],
    ["a bare line feed in a header", "HTTP/1.1 200 OK\r\na: b\nc: d\r\n\r\n"],
    ["a chunk without a length", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nhel\r\n"],
    ["a negative chunk", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n-3\r\nhel\r\n"],
    ["a chunk longer than it says", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhel\r\n"],
    ["chunk lines with bare line feeds", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\nhel\n"],
    ["an unasked change of protocols", "HTTP/1.1 101 Switching Protocols\r\n\r\n"],
    ["a head without end", `HTTP/1.1 200 OK\r\na: ${"b".repeat(70_000)}`],
    ["a chunk line without end", `HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3;${"b".repeat(5000)}`],
    ["trailers without end", `HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n${"b".repeat(70_000)}`],
  ])("%s is refused", (_name, text) => {
    for (const size of [7, Infinity]) {
      const seen = read(text, { size });
      expect(seen.end).toBeUndefined();
      expect(seen.broken).toBeTypeOf("string");
    }
  });

  test("never tells of both an end and a break, whatever bytes come", () => {
    let seed = 3;
    const random = (below: number): number => (seed = (seed * 1103515245 + 12345) & 0x7fffffff) % below;
    for (let round = 0; round < 5000; round++) {
      const bytes = Buffer.from(random(2) === 0 ? counted : chunked);
      for (let change = random(4); change >= 0; change--) bytes[random(bytes.length)] = random(256);
      let ends = 0;
      const response = new HttpResponse({
        onHead: () => undefined,
        onBody: () => undefined,
        onEnd: () => void ends++,
        onBroken: () => void ends++,
      });
      for (let at = 0; at < bytes.length; at += 11) response.push(bytes.subarray(at, at + 11));
      response.close();
      expect(ends).toBe(1);
    }
  });
});
