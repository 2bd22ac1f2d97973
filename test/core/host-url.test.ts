import { expect, test } from "vitest";
import { parseHosts } from "../../src/core/host-url.ts";

const cases: [string, string][] = [
  ["http://127.0.0.1:11434", "http://127.0.0.1:11434"],
  ["http://gpu-box", "http://gpu-box:11434"],
  ["http://gpu-box/", "http://gpu-box:11434"],
  ["gpu-box", "http://gpu-box:11434"],
  ["gpu-box:8080", "http://gpu-box:8080"],
  ["https://models.example", "https://models.example"],
  ["https://models.example:8443/ollama/", "https://models.example:8443/ollama"],
  ["http://host:80", "http://host"],
  ["0.0.0.0", "http://127.0.0.1:11434"],
  ["0.0.0.0:9000", "http://127.0.0.1:9000"],
  [":9000", "http://127.0.0.1:9000"],
  ["[::]:9000", "http://[::1]:9000"],
  ["::1", "http://[::1]:11434"],
  ["[fe80::1]", "http://[fe80::1]:11434"],
  [' "http://host:1234" ', "http://host:1234"],
  ["'host'", "http://host:11434"],
];

test.each(cases)("%s is the host %s", (value, url) => {
  expect(parseHosts(value, 11434)).toEqual([url]);
});

test("several hosts are separated by commas, and each is taken once", () => {
  expect(parseHosts("http://a:23333, http://b ,,http://a:23333", 23333)).toEqual(["http://a:23333", "http://b:23333"]);
});

test.each([
  ["", "no host given"],
  ['""', "no host given"],
  ["ftp://host", "http:// or https://"],
  ["host:port", "port"],
  ["host:99999", "65535"],
  ["ho st", "no address"],
])("%s is refused with a reason", (value, reason) => {
  expect(() => parseHosts(value, 11434)).toThrow(reason);
});

test("a password in a host is refused and not repeated", () => {
  const attempt = (): string[] => parseHosts("http://me:hunter2@host:1", 1);
  expect(attempt).toThrow("must not hold");
  expect(attempt).not.toThrow("hunter2");
});
