import { describe, expect, it } from "vitest";
import { addressProblem } from "../../src/core/image-source.ts";

const anybody = { allow: ["*"] };
/** A name server in which every name leads to a public address. */
const publicly = (): Promise<string[]> => Promise.resolve(["93.184.216.34", "2606:2800:220:1::1"]);

describe("an address of an image", () => {
  it.each([
    "https://img.example.com/a.png",
    "http://img.example.com:8080/a/b?c=%20&d=@x#y",
    "HTTPS://IMG.Example.COM/",
    "https://img.example.com",
    "https://93.184.216.34/a.png",
    "https://[2606:2800:220:1:248:1893:25c8:1946]/a.png",
  ])("may be %s where its host is allowed", async (address) => {
    expect(await addressProblem(address, { allow: ["IMG.example.com", "93.*", "2606:*"] }, publicly)).toBe(undefined);
    expect(await addressProblem(address, { allow: [] }, publicly)).toMatch(/not fetched/);
    expect(await addressProblem(address, { allow: ["example.com", "img.example.com.evil.net"] }, publicly)).toMatch(
      /not fetched from '/,
    );
  });

  it("may be of every host that a pattern names, and of no other", async () => {
    const sources = { allow: ["*.example.com"] };
    expect(await addressProblem("https://a.example.com/", sources, publicly)).toBe(undefined);
    for (const host of [
      "example.com",
      "aexample.com",
      "a.example.com.evil.net",
      "evil.net/.example.com",
      "evil.net?.example.com",
    ])
      expect(await addressProblem(`https://${host}/`, sources, publicly)).not.toBe(undefined);
  });

  it.each([
    // loopback, in all its spellings
    "http://127.0.0.1/",
    "http://127.8.9.1:11434/api/tags",
    "http://127.1/",
    "http://2130706433/",
    "http://0x7f000001/",
    "http://0x7f.0.0.1/",
    "http://0177.0.0.1/",
    "http://017700000001/",
    "http://127.000.000.001/",
    "http://0/",
    "http://0.0.0.0/",
    "http://localhost/",
    "http://LOCALHOST:8080/",
    "http://localhost./",
    "http://a.localhost/",
    "http://[::1]/",
    "http://[0:0:0:0:0:0:0:1]/",
    "http://[::]/",
    "http://[::ffff:127.0.0.1]/",
    "http://[::ffff:7f00:1]/",
    "http://[::127.0.0.1]/",
    "http://127.0.0.1.:80/",
    "http://\u2460\u2461\u2466.0.0.1/",
    "http://127\u30020\u30020\u30021/",
    // public ones that some readers take for others
    "http://0135.184.216.34/",
    "http://0x5db8d822/",
    "http://93.12113954/",
    "http://[2606:2800:0220:1::1]/",
    // private networks, and those that carriers and clouds have for themselves
    "http://10.0.0.1/",
    "http://172.16.0.1/",
    "http://172.31.255.255/",
    "http://192.168.1.1/",
    "http://100.64.0.1/",
    "http://169.254.169.254/latest/meta-data/",
    "http://169.254.170.2/",
    "http://[fd00:ec2::254]/",
    "http://168.63.129.16/",
    "http://metadata/",
    "http://metadata.google.internal/",
    "http://192.0.0.192/",
    "http://198.18.0.1/",
    "http://224.0.0.1/",
    "http://239.255.255.250/",
    "http://240.0.0.1/",
    "http://255.255.255.255/",
    "http://[fe80::1]/",
    "http://[fe80::1%25eth0]/",
    "http://[fc00::1]/",
    "http://[ff02::1]/",
    "http://[fec0::1]/",
    "http://[::ffff:10.0.0.1]/",
    "http://[64:ff9b::10.0.0.1]/",
    "http://[64:ff9b:1::a00:1]/",
    "http://[2002:a00:1::]/",
    "http://[2001:0:a00:1::]/",
    "http://[2001:db8::1]/",
    "http://[100::1]/",
    "http://[5f00::1]/",
    "http://nas/",
    "http://nas.local/",
    "http://router.lan/",
    "http://fritz.box.home.arpa/",
    "http://x.internal/",
    "http://git.corp/",
    // what readers of URLs disagree about
    "http://allowed.example\\@10.0.0.1/",
    "http://allowed.example@10.0.0.1/",
    "http://10.0.0.1@allowed.example/",
    "http://user:password@allowed.example/",
    "http://allowed.example#@10.0.0.1/",
    "http:10.0.0.1/",
    "http:/10.0.0.1/",
    "http:///10.0.0.1/",
    "http:\\\\10.0.0.1\\",
    "http://10.0.0.1%2f@allowed.example/",
    "http://%31%30.0.0.1/",
    "http://allowed.example:80:90/",
    "http://allowed.example:99999/",
    "http://allowed.example:/",
    "http:// 10.0.0.1/",
    "http://10.0.0.1\t/",
    "ht\ntp://10.0.0.1/",
    " http://10.0.0.1/",
    "http://allowed.example/a b",
    "http://allowed.example/\r\nHost: x",
    "http://[::1",
    "http://",
    "http://.",
    "http://..example/",
    // other ways to have something read
    "//10.0.0.1/x",
    "/etc/passwd",
    "C:\\secrets.txt",
    "file:///etc/passwd",
    "FILE:///etc/passwd",
    "ftp://allowed.example/",
    "gopher://10.0.0.1/",
    "s3://bucket/x",
    "jar:http://10.0.0.1!/",
    "blob:http://10.0.0.1/",
    "unix:///var/run/docker.sock",
    "",
  ])("is never %j", async (address) => {
    expect(await addressProblem(address, anybody, publicly)).not.toBe(undefined);
  });

  it("is not let through when its name leads into a private network, with one of several addresses too", async () => {
    for (const found of [
      ["10.0.0.1"],
      ["93.184.216.34", "127.0.0.1"],
      ["::1"],
      ["::ffff:10.0.0.1"],
      ["fe80::1%2"],
      ["169.254.169.254"],
      [],
    ])
      expect(await addressProblem("https://rebound.example.com/", anybody, () => Promise.resolve(found))).toMatch(
        /private network|leads nowhere/,
      );
    expect(
      await addressProblem("https://gone.example.com/", anybody, () => Promise.reject(new Error("ENOTFOUND"))),
    ).toMatch(/leads nowhere/);
  });

  it("is looked up only when its host is allowed", async () => {
    const asked: string[] = [];
    const resolve = (host: string): Promise<string[]> => {
      asked.push(host);
      return publicly();
    };
    for (const host of ["evil.example.net", "10.0.0.1", "good.example.com", "nas.local"])
      await addressProblem(`https://${host}/`, { allow: ["good.example.com", "nas.local", "10.*"] }, resolve);
    expect(asked).toEqual(["good.example.com"]);
  });
});
