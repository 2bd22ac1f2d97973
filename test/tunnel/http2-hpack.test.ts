import { expect, test } from "vitest";
import type { Headers } from "../../src/core/call.ts";
import { largestHeaderList } from "../../src/tunnel/http2/header-rules.ts";
import { HeaderDecoder } from "../../src/tunnel/http2/hpack-decoder.ts";
import { encodeHeaders, sizeOfHeaders } from "../../src/tunnel/http2/hpack-encoder.ts";
import { decodeHuffman } from "../../src/tunnel/http2/huffman.ts";
import { block } from "../support/http2-peer.ts";

function decode(decoder: HeaderDecoder, hex: string): Headers {
  return decoder.decode(Buffer.from(hex.replaceAll(/\s/g, ""), "hex"));
}

const get = { ":method": "GET", ":scheme": "http", ":path": "/" };
const example = { ...get, ":authority": "www.example.com" };

test("the single headers of RFC 7541, C.2 are read", () => {
  const literal = "400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572";
  expect(decode(new HeaderDecoder(), literal)).toEqual({ "custom-key": "custom-header" });
  expect(decode(new HeaderDecoder(), "040c 2f73 616d 706c 652f 7061 7468")).toEqual({ ":path": "/sample/path" });
  expect(decode(new HeaderDecoder(), "1008 7061 7373 776f 7264 0673 6563 7265 74")).toEqual({ password: "secret" });
  expect(decode(new HeaderDecoder(), "82")).toEqual({ ":method": "GET" });
});

test.each([
  [
    "C.3, plain",
    "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
    "8286 84be 5808 6e6f 2d63 6163 6865",
    "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
  ],
  [
    "C.4, Huffman",
    "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
    "8286 84be 5886 a8eb 1064 9cbf",
    "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
  ],
])("the requests of RFC 7541, %s are read one behind the other", (_name, first, second, third) => {
  const decoder = new HeaderDecoder();
  expect(decode(decoder, first)).toEqual(example);
  expect(decode(decoder, second)).toEqual({ ...example, "cache-control": "no-cache" });
  expect(decode(decoder, third)).toEqual({
    ...example,
    ":scheme": "https",
    ":path": "/index.html",
    "custom-key": "custom-value",
  });
});

test.each([
  [
    "C.5, plain",
    `4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3120 474d 54
     6e17 6874 7470 733a 2f2f 7777 772e 6578 616d 706c 652e 636f 6d`,
    "4803 3330 37c1 c0bf",
    `88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 677a 6970 7738 666f 6f3d
     4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 553b 206d 6178 2d61 6765 3d33 3630 303b 2076 6572
     7369 6f6e 3d31`,
  ],
  [
    "C.6, Huffman",
    `4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad 1718 63c7 8f0b
     97c8 e9ae 82ae 43d3`,
    "4883 640e ffc1 c0bf",
    `88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 e6c7 b335 dfdf
     cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07`,
  ],
])("the responses of RFC 7541, %s are read with entries pushed out of a small table", (_name, first, second, third) => {
  const decoder = new HeaderDecoder(256);
  const found = {
    ":status": "302",
    "cache-control": "private",
    date: "Mon, 21 Oct 2013 20:13:21 GMT",
    location: "https://www.example.com",
  };
  expect(decode(decoder, first)).toEqual(found);
  expect(decode(decoder, second)).toEqual({ ...found, ":status": "307" });
  expect(decode(decoder, third)).toEqual({
    ...found,
    ":status": "200",
    date: "Mon, 21 Oct 2013 20:13:22 GMT",
    "content-encoding": "gzip",
    "set-cookie": "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1",
  });
});

test("what we write is read as it was, with pseudo-headers first and secrets never to be indexed", () => {
  const headers = {
    accept: "*/*",
    ":method": "POST",
    ":path": "/v1/chat/completions?a=b",
    ":status": "404",
    "content-type": "application/json",
    authorization: "Bearer secret",
    "lair-long": `é${"x".repeat(5000)}\tÿ`,
    empty: "",
    constructor: "an object's own word",
  };
  const bytes = block(headers);
  expect(new HeaderDecoder(0).decode(bytes)).toEqual(headers);
  expect(bytes.subarray(0, 1).toString("hex")).toBe("83");
  // 0001: never indexed; 15 + 8 is the static table's place of authorization.
  expect(bytes.includes(Buffer.concat([Buffer.from([0x1f, 23 - 15, 13]), Buffer.from("Bearer secret")]))).toBe(true);
});

test("a block that comes again and again is read alike, and what was made of it before may be changed", () => {
  const decoder = new HeaderDecoder(0);
  const bytes = block({ ":status": "200", "content-type": "text/event-stream", "x-n": "1" });
  const other = block({ ":status": "200", "content-type": "text/event-stream", "x-n": "2" });
  for (let round = 0; round < 5; round++) {
    const headers = decoder.decode(bytes);
    expect(headers).toEqual({ ":status": "200", "content-type": "text/event-stream", "x-n": "1" });
    headers["x-n"] = "changed";
    expect(decoder.decode(other)["x-n"]).toBe("2");
  }
});

test("thousands of blocks of one length are told apart, however often each comes", () => {
  const decoder = new HeaderDecoder(0);
  for (let n = 1000; n < 4000; n++)
    for (let round = 0; round < 3; round++)
      expect(decoder.decode(block({ ":status": "200", "x-n": `${n}` }))["x-n"]).toBe(`${n}`);
});

test("headers that would break a message in two, or belong to one connection, are not sent", () => {
  const refused = [
    { a: "b\r\nc: d" },
    { a: "b\0" },
    { a: "\u20ac" },
    { "A-b": "c" },
    { "a b": "c" },
    { "": "c" },
    { ":new": "c" },
    { connection: "close" },
    { "transfer-encoding": "chunked" },
  ];
  for (const headers of refused as Headers[]) {
    const target = Buffer.alloc(sizeOfHeaders(headers));
    expect(() => encodeHeaders(headers, target, 0), JSON.stringify(headers)).toThrow("cannot be sent");
  }
});

test.each([
  ["a name in capitals", "4003 4162 6301 61"],
  ["a line end in a value", "4001 6103 620a 63"],
  ["a NUL in a value", "4001 6103 6200 63"],
  ["a blank at a value's end", "4001 6102 6220"],
  ["an unknown pseudo-header", "4002 3a61 0162"],
  ["a pseudo-header behind others", "4001 6101 6284"],
  ["a pseudo-header twice", "8283"],
  ["transfer-encoding", "0f2a 0761 6263 6465 6667"],
  ["connection", "400a 636f 6e6e 6563 7469 6f6e 0161"],
])("%s makes no message, but the next block is read", (_name, hex) => {
  const decoder = new HeaderDecoder();
  decode(decoder, hex);
  expect(decoder.problem).toBeDefined();
  expect(decode(decoder, "8286 84")).toEqual(get);
  expect(decoder.problem).toBeUndefined();
});

test.each([
  ["the index 0", "80"],
  ["an index that nothing has", "be"],
  ["an endless number", "ffff ffff ffff ffff ff01"],
  ["a number cut off", "ff"],
  ["a text longer than its block", "400a 6375"],
  ["an end after a name", "4001 61"],
  ["a table larger than agreed", "3fff 1f"],
  ["a change of the table behind a header", "8220"],
  ["Huffman's end of string", "4001 6184 ffff ffff"],
  ["Huffman padding of zeros", "4001 6182 f800"],
  ["Huffman padding of a byte", "4001 6182 07ff"],
])("%s cannot be decoded", (_name, hex) => {
  expect(() => decode(new HeaderDecoder(), hex)).toThrow("cannot be decoded");
});

test("Huffman codes of more than a byte are found among short ones", () => {
  // 00000 is 0, 1111111111000 is NUL; a single 1 fills the last byte.
  expect(decodeHuffman(Buffer.from([0x07, 0xfe, 0x01]), 0, 3)).toBe("0\0" + "0");
  expect(decodeHuffman(Buffer.alloc(0), 0, 0)).toBe("");
});

test("a small block that unfolds to megabytes is stopped at the bound", () => {
  const decoder = new HeaderDecoder();
  const name = "a".repeat(100);
  const entry = block({ [name]: "b".repeat(3000) });
  entry[0] = 0x40;
  decoder.decode(entry);
  const headers = decoder.decode(Buffer.alloc(60_000, 0xbe));
  expect(decoder.problem).toContain(String(largestHeaderList));
  expect(headers[name]!.length).toBeLessThan(largestHeaderList);
});

test("when the table is gone by agreement, its entries are gone too", () => {
  const decoder = new HeaderDecoder();
  decode(decoder, "4001 6101 62");
  expect(decode(decoder, "be")).toEqual({ a: "b" });
  decoder.boundTable(0);
  expect(() => decode(decoder, "be")).toThrow("cannot be decoded");
  expect(decode(decoder, "4001 6101 62")).toEqual({ a: "b" });
  expect(() => decode(decoder, "be")).toThrow("cannot be decoded");
});
