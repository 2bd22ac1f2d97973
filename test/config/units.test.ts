import { describe, expect, it } from "vitest";
import { formatDuration, formatSize, parseBoolean, parseDuration, parseSize } from "../../src/config/units.ts";

describe("durations", () => {
  it.each([
    ["30s", 30_000],
    ["1h30m", 5_400_000],
    ["500ms", 500],
    ["1.5s", 1500],
    ["2d", 172_800_000],
    ["90", 90_000],
    [0.25, 250],
    ["0", 0],
  ])("read %s as %d ms", (text, milliseconds) => {
    expect(parseDuration(text)).toBe(milliseconds);
  });

  it.each(["", "soon", "5 m", "-1s", "1x", "m"])("refuse %j", (text) => expect(parseDuration(text)).toBeNaN());

  it("are written so that they are read back as the same", () => {
    for (const milliseconds of [0, 1, 250, 5000, 75_000, 5_400_000, 90_061_001]) {
      expect(parseDuration(formatDuration(milliseconds))).toBe(milliseconds);
    }
  });
});

describe("sizes", () => {
  it.each([
    ["64MB", 67_108_864],
    ["64MiB", 67_108_864],
    ["64m", 67_108_864],
    ["512 KB", 524_288],
    ["1.5k", 1536],
    ["100B", 100],
    ["100", 100],
    [7, 7],
    ["1GB", 1_073_741_824],
  ])("read %s as %d bytes", (text, bytes) => expect(parseSize(text)).toBe(bytes));

  it.each(["", "MB", "-1", "1TB"])("refuse %j", (text) => expect(parseSize(text)).toBeNaN());

  it("are written so that they are read back as the same", () => {
    for (const bytes of [0, 100, 1024, 32_768, 67_108_864, 67_108_865])
      expect(parseSize(formatSize(bytes))).toBe(bytes);
  });
});

it("yes and no are read as the original reads them", () => {
  expect(["1", "TRUE", " yes", "y", "on"].map(parseBoolean)).toEqual(Array(5).fill(true));
  expect(["0", "False", "no ", "n", "off"].map(parseBoolean)).toEqual(Array(5).fill(false));
  expect(parseBoolean("2")).toBeUndefined();
});
