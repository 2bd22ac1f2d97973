import { describe, expect, it } from "vitest";
import { createLogger } from "../../src/cli/logger.ts";

function logger(format: "json" | "pretty", level: "debug" | "info" = "info") {
  const lines: string[] = [];
  return { lines, log: createLogger({ level, format, write: (line) => void lines.push(line) }) };
}

describe("the JSON log", () => {
  it("is one object a line with time, level as a word, fields and message", () => {
    const { lines, log } = logger("json");
    log.info({ path: "/v1/models", status: 200 }, "answered");
    expect(lines).toHaveLength(1);
    const { time, ...rest } = JSON.parse(lines[0] ?? "");
    expect(rest).toEqual({ level: "info", path: "/v1/models", status: 200, msg: "answered" });
    expect(new Date(time).toISOString()).toBe(time);
  });

  it("leaves out what is below its level", () => {
    const { lines, log } = logger("json");
    log.debug({}, "details");
    expect(lines).toEqual([]);
  });

  it("holds no credential, should one slip in", () => {
    const { lines, log } = logger("json");
    log.warn(
      {
        authorization: "Bearer s3cret",
        key: "s3cret",
        headers: { authorization: "s3cret", "x-api-key": "s3cret", accept: "*/*" },
      },
      "odd",
    );
    expect(lines[0]).not.toContain("s3cret");
    expect(lines[0]).toContain("*/*");
  });

  it("tells an error's message and stack", () => {
    const { lines, log } = logger("json");
    log.error({ err: new Error("broken", { cause: new Error("below") }) }, "internal error");
    expect(JSON.parse(lines[0] ?? "").err).toMatchObject({
      type: "Error",
      message: expect.stringContaining("broken"),
      stack: expect.stringContaining("logger.test"),
    });
  });
});

describe("the readable log", () => {
  it("is one line each: clock, level, message, fields", () => {
    const { lines, log } = logger("pretty");
    log.warn({ status: 404, path: "/v1/x", note: "two words" }, "no such route");
    expect(lines[0]).toMatch(/^\d\d:\d\d:\d\d warn {2}no such route {2}status=404 path=\/v1\/x note="two words"\n$/);
  });

  it("shows an error's stack below its line", () => {
    const { lines, log } = logger("pretty");
    log.error({ err: new Error("broken") }, "internal error");
    expect(lines[0]?.split("\n")[1]).toBe("    Error: broken");
  });

  it("lets nothing that a caller sends steer the terminal", () => {
    const { lines, log } = logger("pretty");
    log.info({ agent: "\u001b]0;owned\u0007" }, "hello\u001b[2J\nfake line\u009b31m");
    // oxlint-disable-next-line no-control-regex -- that is the point
    expect((lines[0] ?? "").slice(0, -1)).not.toMatch(/[\u0000-\u001f\u007f-\u009f]/);
  });
});
