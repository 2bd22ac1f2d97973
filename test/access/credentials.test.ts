import { request as httpRequest } from "node:http";
import { once } from "node:events";
import { afterEach, describe, expect, test } from "vitest";
import { type AccessServer, sendRaw, startAccessServer } from "../support/access-server.ts";

const token = "planted-token-0123456789abcdef";
const other = "planted-other-0123456789abcdef";
/** What is in every planted secret, however it is spelt. */
const planted = /planted|0123456789abcdef/i;

let server: AccessServer | undefined;
afterEach(async () => {
  await server?.close();
  server = undefined;
});

interface Ask {
  method?: string;
  path?: string;
  headers?: Record<string, string>;
  body?: string;
}

/** The status; throws where any of what was planted is seen anywhere. */
async function ask(at: AccessServer, { method, path = "/v1/models", headers = {}, body }: Ask): Promise<number> {
  const reply = await fetch(at.url + path, {
    method: method ?? (body === undefined ? "GET" : "POST"),
    headers: { ...(body === undefined ? {} : { "content-type": "application/json" }), ...headers },
    ...(body === undefined ? {} : { body }),
  });
  expect(await reply.text()).not.toMatch(planted);
  expect([...reply.headers].join("\n")).not.toMatch(planted);
  expect(at.arrived.join("\n")).not.toMatch(planted);
  expect(at.lines.join("\n")).not.toMatch(planted);
  return reply.status;
}

const chat = "/v1/chat/completions";
const said = (fields: string): Ask => ({ path: chat, body: `{${fields}"model":"m","n":12345678901234567890}` });
const bearer = { authorization: `Bearer ${token}` };

const forms: [string, Ask][] = [
  ["Authorization: Bearer", { headers: bearer }],
  ["authorization: bearer, with spaces", { headers: { authorization: `bearer   ${token}  ` } }],
  ["api-key", { headers: { "api-key": token } }],
  ["x-api-key", { headers: { "X-API-Key": token } }],
  ["?api-key=", { path: `/v1/models?api-key=${token}` }],
  ["?api_key=", { path: `/v1/models?api_key=${token}` }],
  ["a percent-encoded name", { path: `/v1/models?x=1&%61pi%2Dkey=${token}&y=%20+z` }],
  ["a percent-encoded value", { path: `/v1/models?api_key=${token.replace("-", "%2d")}` }],
  ["a name in capital letters", { path: `/v1/models?API-KEY=${token}` }],
  ["a repeated name", { path: `/v1/models?api_key=${token}&a=b&api-key=${token}&api_key=${token}` }],
  ["a semicolon before it", { path: `/v1/models?a=b;api_key=${token}` }],
  ["a second question mark", { path: `/v1/models?a=b?api_key=${token}` }],
  ["api_key in the body", said(`"api_key":"${token}",`)],
  ["api-key in the body", said(`"api-key":"${token}",`)],
  ["a path with a slash at its end", { ...said(`"api_key":"${token}",`), path: `${chat}/` }],
  ["an escaped name in the body", said(`"\\u0061pi\\u005Fkey":"${token}",`)],
  ["a wholly escaped name", said(`"\\u0061\\u0070\\u0069\\u002d\\u006b\\u0065\\u0079":"${token}",`)],
  ["an escaped value", said(`"api_key":"\\u0070${token.slice(1)}",`)],
  ["a repeated name in the body", said(`"api_key":"${token}","api_key":"${token}",`)],
  [
    "all at once",
    {
      ...said(`"api_key":"${token}","api-key":"${token}",`),
      path: `${chat}?api_key=${token}`,
      headers: { ...bearer, "api-key": token, "x-api-key": token },
    },
  ],
];

describe("a credential", () => {
  test.each(forms)("as %s lets in, and nothing of it goes on", async (_name, question) => {
    server = await startAccessServer({ tokens: [other, token] });
    expect(await ask(server, question)).toBe(200);
    expect(server.arrived).toHaveLength(1);
    expect(server.lines.join()).toContain('"key":"token-2"');
  });

  test.each(forms)("as %s goes nowhere from a server that asks for none", async (_name, question) => {
    server = await startAccessServer({});
    expect(await ask(server, question)).toBe(200);
    expect(server.arrived).toHaveLength(1);
  });

  test.each(forms)("as %s that is wrong goes nowhere either", async (_name, question) => {
    server = await startAccessServer({ tokens: [other] });
    expect(await ask(server, question)).toBe(401);
    expect(server.arrived).toEqual([]);
  });

  test.each<[string, Ask]>([
    ["another scheme", { headers: { authorization: `Basic ${token}` } }],
    ["a bare key", { headers: { authorization: token } }],
    ["another scheme beside a right one", { headers: { authorization: `Basic ${other}`, "x-api-key": token } }],
    ["a Bearer without anything", { headers: { authorization: "Bearer" } }],
    ["an empty header", { headers: { "x-api-key": "" } }],
    ["an empty parameter", { path: "/v1/models?api-key=&api_key" }],
    ["one with a space in it", { headers: { "x-api-key": `${token} ${token}` } }],
    ["one with a tab in it", { path: `/v1/models?api-key=${token}%09` }],
    ["one with a line end in it", { path: `/v1/models?api-key=${token}%0d%0aX-Evil:%201` }],
    ["one with a zero in it", { path: `/v1/models?api-key=${token}%00` }],
    ["10,000 characters", { headers: { authorization: `Bearer ${token.repeat(334)}` } }],
    ["10,000 characters in the query", { path: `/v1/models?api-key=${token.repeat(334)}` }],
    ["10,000 characters in the body", said(`"api_key":"${token.repeat(334)}",`)],
    ["broken percent-encoding", { path: `/v1/models?api-key=${token}%zz` }],
    ["an empty one in the body", said('"api_key":"",')],
    ["one that is deeper in the body", said(`"metadata":{"a":1},`)],
    ["one in the body of another path", { path: "/v1/embeddings", body: '{"api_key":"x"}' }],
  ])("that is %s is 401", async (_name, question) => {
    server = await startAccessServer({ tokens: [token] });
    expect(await ask(server, question)).toBe(401);
    expect(server.arrived).toEqual([]);
  });

  test.each<[string, Ask]>([
    ["two headers", { headers: { ...bearer, "api-key": other } }],
    ["a header and the query", { path: `/v1/models?api_key=${other}`, headers: bearer }],
    ["two parameters", { path: `/v1/models?api_key=${token}&api-key=${other}` }],
    ["a header and the body", { ...said(`"api_key":"${other}",`), headers: bearer }],
    ["two names in the body", said(`"api_key":"${token}","api-key":"${other}",`)],
    ["one name in the body, twice", said(`"api_key":"${other}","api_key":"${token}",`)],
    ["a number in the body", said('"api_key":12345,')],
    ["a list in the body", said(`"api_key":["${token}"],`)],
    ["null in the body", said('"api_key":null,')],
    ["a number in the body beside a header", { ...said('"api_key":12345,'), headers: bearer }],
    ["a body that is no JSON", { path: chat, body: `{"api_key":"${token}"`, headers: bearer }],
  ])("as %s is 400", async (_name, question) => {
    server = await startAccessServer({ tokens: [token, other] });
    expect(await ask(server, question)).toBe(400);
    expect(server.arrived).toEqual([]);
  });

  test.each([
    ["Authorization", 400],
    ["x-api-key", 400],
  ])("that is repeated as %s with another value is %i", async (name, status) => {
    server = await startAccessServer({ tokens: [token, other] });
    const send = (second: string): Promise<string> =>
      sendRaw(
        server?.port ?? 0,
        [
          "GET /v1/models HTTP/1.1",
          "Host: localhost",
          ...[token, second].map((one) => `${name}: ${name === "Authorization" ? "Bearer " : ""}${one}`),
          "Connection: close",
          "",
          "",
        ].join("\r\n"),
      );
    expect(await send(other)).toMatch(new RegExp(`^HTTP/1.1 ${status} `));
    expect(server.arrived).toEqual([]);
    expect(await send(token)).toMatch(/^HTTP\/1.1 200 /);
  });
});

describe("what goes on", () => {
  test("is byte for byte what came, but for the credential", async () => {
    server = await startAccessServer({ tokens: [token] });
    await ask(server, { path: `/v1/models?a=%41&api_key=${token}&b=c+d&&e;f=%zz&g`, headers: { "x-own": "1" } });
    expect(server.arrived[0]).toMatch(/^GET \/v1\/models\?a=%41&b=c\+d&&e;f=%zz&g\n/);
    expect(server.arrived[0]).toContain("x-own\n1");
    await ask(server, { path: `/v1/models?api_key=${token}` });
    expect(server.arrived[1]).toMatch(/^GET \/v1\/models\n/);
    await ask(server, { path: `/v1/models?api_key=${token}&a=1` });
    expect(server.arrived[2]).toMatch(/^GET \/v1\/models\?a=1\n/);
  });

  test.each([
    [`{"api_key":"T","model":"m"}`, /^\{ +"model":"m"\}$/],
    [`{"model":"m","api_key":"T"}`, /^\{"model":"m" +\}$/],
    [`{"model":"m" , "api_key" : "T" ,"n":1e400}`, /^\{"model":"m" , +"n":1e400\}$/],
    [`{"model":"m","api_key":"T","api-key":"T"}`, /^\{"model":"m" +\}$/],
    [`{"api-key":"T","model":"ü","api_key":"T", "x":{"api_key":1}}`, /^\{ +"model":"Ã¼", +"x":\{"api_key":1\}\}$/],
    [`{"api_key":"T"}`, /^\{ +\}$/],
    [`{"text":"\\"api_key\\":","api_key":"T","z":[1,"]"]}`, /^\{"text":"\\"api_key\\":", +"z":\[1,"\]"\]\}$/],
  ])("of the body %s is all the rest, and as long", async (body, rest) => {
    server = await startAccessServer({ tokens: [token] });
    const sent = body.replaceAll("T", token);
    expect(await ask(server, { path: chat, body: sent })).toBe(200);
    const [, got = ""] = /([{][^]*)$/.exec(server.arrived[0] ?? "") ?? [];
    expect(got).toMatch(rest);
    expect(got).toHaveLength(Buffer.byteLength(sent));
    expect(() => JSON.parse(got) as unknown).not.toThrow();
  });

  test("of a body on another path is everything: nobody looks for a key there", async () => {
    server = await startAccessServer({ tokens: [token] });
    const body = '{"api_key":"mine","model":"m"}';
    await ask(server, { path: "/v1/embeddings", body, headers: bearer });
    expect(server.arrived[0]).toContain(body);
  });
});

describe("a body of several megabytes", () => {
  const text = "x".repeat(3 * 1024 * 1024);

  test("passes with a key in the header", async () => {
    server = await startAccessServer({ tokens: [token] });
    expect(await ask(server, { path: chat, body: `{"model":"m","text":"${text}"}`, headers: bearer })).toBe(200);
    expect(server.arrived[0]).toContain(text);
  });

  test("may hold the key itself", async () => {
    server = await startAccessServer({ tokens: [token] });
    expect(await ask(server, { path: chat, body: `{"model":"m","text":"${text}","api_key":"${token}"}` })).toBe(200);
    expect(server.arrived[0]).toContain(text);
  });

  test.each([
    ["with a key to let it in", [token]],
    ["on a server that asks for none", []],
  ])("is broken off before a key in it goes on: %s", async (_name, tokens) => {
    server = await startAccessServer({ tokens });
    const body = `{"model":"m","text":"${text}","api\\u005fkey":"${token}"}`;
    expect(await ask(server, { path: chat, body, headers: bearer })).toBe(400);
    expect(server.arrived).toEqual([]);
  });

  test("of an unknown length is treated the same", async () => {
    server = await startAccessServer({ tokens: [token] });
    const send = async (headers: Record<string, string>, last: string): Promise<number> => {
      const request = httpRequest(`${server?.url}${chat}`, {
        method: "POST",
        headers: { "content-type": "application/json", ...headers },
      });
      for (const piece of ['{"model":"m","text":"', text, '"', last]) request.write(piece);
      request.end("}");
      const [reply] = (await once(request, "response")) as [{ statusCode: number; resume(): void }];
      reply.resume();
      return reply.statusCode;
    };
    expect(await send(bearer, "")).toBe(200);
    expect(await send({}, `,"api_key":"${token}"`)).toBe(200);
    expect(server.arrived).toHaveLength(2);
    expect(await send(bearer, `,"api_key":"${token}"`)).toBe(400);
    expect(server.arrived).toHaveLength(2);
    expect(server.arrived.join()).not.toMatch(planted);
  });
});
