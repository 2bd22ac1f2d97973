import { describe, expect, it } from "vitest";
import { proxyFor } from "../../src/config/proxy.ts";

const proxy = "http://proxy.example:3128";

describe("proxyFor", () => {
  it("takes the proxy of the URL's scheme, small letters first, else that for all", () => {
    const env = { HTTP_PROXY: "http://plain", HTTPS_PROXY: "http://upper", https_proxy: "http://lower" };
    expect(proxyFor("http://a.example", env)).toBe("http://plain");
    expect(proxyFor("https://a.example", env)).toBe("http://lower");
    expect(proxyFor("https://a.example", { ALL_PROXY: proxy })).toBe(proxy);
    expect(proxyFor("https://a.example", { HTTP_PROXY: proxy })).toBeUndefined();
    expect(proxyFor(new URL("http://a.example"), { http_proxy: "proxy.example:3128" })).toBe(proxy);
  });

  it("never sends this machine's own traffic through a proxy", () => {
    for (const url of [
      "http://127.0.0.1:11434",
      "http://localhost",
      "http://[::1]:8000",
      "http://127.8.8.8",
      "http://a.localhost",
    ]) {
      expect(proxyFor(url, { http_proxy: proxy })).toBeUndefined();
    }
  });

  it("takes no SOCKS proxy", () => {
    expect(proxyFor("http://a.example", { all_proxy: "socks5://s.example" })).toBeUndefined();
  });

  it.each([
    ["*", "http://a.example", true],
    ["example", "http://a.example", true],
    [".a.example", "http://a.example", true],
    ["*.a.example", "http://b.a.example", true],
    ["a.example", "http://b.a.example", true],
    ["a.example", "http://ba.example", false],
    ["A.Example", "http://a.EXAMPLE", true],
    ["x, a.example", "http://a.example", true],
    ["x a.example", "http://a.example", true],
    ["a.example:8080", "http://a.example:8080", true],
    ["a.example:8080", "http://a.example", false],
    ["a.example:80", "http://a.example", true],
    ["10.1.2.3", "http://10.1.2.3:8000", true],
    ["1.2.3", "http://10.1.2.3", false],
    ["10.0.0.0/8", "http://10.1.2.3", true],
    ["10.0.0.0/8", "http://11.1.2.3", false],
    ["10.0.0.0/33", "http://10.1.2.3", false],
    ["fd00::/8", "http://[fd12::1]:8000", true],
    ["[fd12::1]:8000", "http://[fd12::1]:8000", true],
    ["", "http://a.example", false],
    [" , ,", "http://a.example", false],
  ])("with NO_PROXY=%s reaches %s directly: %s", (list, url, direct) => {
    expect(proxyFor(url, { http_proxy: proxy, NO_PROXY: list })).toBe(direct ? undefined : proxy);
  });
});
