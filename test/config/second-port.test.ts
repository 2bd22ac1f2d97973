import { describe, expect, it } from "vitest";
import { SecondPortError, secondPorts } from "../../src/config/second-port.ts";

const own = (listen?: number): Parameters<typeof secondPorts>[0] => ({
  ollama: listen === undefined ? {} : { listen },
});
const asking = (...urls: string[]): Parameters<typeof secondPorts>[2] => ({ box: { urls } });

describe("the second port", () => {
  it("is none where none is asked for", () => {
    expect(secondPorts(own(), { host: "127.0.0.1", port: 18080 }, asking("http://127.0.0.1:11434"))).toEqual([]);
  });

  it.each([
    ["127.0.0.1", "http://127.0.0.1:11434"],
    ["127.0.0.1", "http://localhost:11434/v1"],
    ["127.0.0.1", "http://[::1]:11434"],
    ["0.0.0.0", "http://127.0.0.1:11434"],
    ["::", "http://localhost:11434"],
    ["192.0.2.7", "http://192.0.2.7:11434"],
  ])("on %s is refused where %s is asked, for the server would ask itself", (host, url) => {
    const ports = (): number[] => secondPorts(own(11434), { host, port: 18080 }, asking("http://192.0.2.9:11434", url));
    expect(ports).toThrow(SecondPortError);
    expect(ports).toThrow(/11434, where box is asked/);
  });

  it.each([
    ["127.0.0.1", "http://127.0.0.1:11435"],
    ["127.0.0.1", "http://192.0.2.7:11434"],
    ["192.0.2.7", "http://127.0.0.1:11434"],
  ])("on %s may be there beside %s", (host, url) => {
    expect(secondPorts(own(11434), { host, port: 18080 }, asking(url))).toEqual([11434]);
  });

  it("is another than the first", () => {
    expect(() => secondPorts(own(18080), { host: "127.0.0.1", port: 18080 }, {})).toThrow(SecondPortError);
  });
});
