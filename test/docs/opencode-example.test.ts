import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { schema } from "../../src/config/schema.ts";

interface Example {
  readonly model: string;
  readonly small_model: string;
  readonly provider: {
    readonly local: {
      readonly options: { readonly baseURL: string; readonly apiKey: string };
      readonly models: Readonly<Record<string, { limit: { context: number; output: number } }>>;
    };
  };
}

const read = (name: string): string => readFileSync(fileURLToPath(new URL(`../../${name}`, import.meta.url)), "utf8");
const example = JSON.parse(read("examples/opencode/opencode.json")) as Example;
const { local } = example.provider;

// That opencode works with the very file is for test/clients to show.
describe("the example configuration of opencode", () => {
  it("calls the runtime where it listens by default, with a key from the environment", () => {
    const { host, port } = schema.parse({}).listen;
    expect(local.options.baseURL).toBe(`http://${host}:${port}/v1`);
    expect(local.options.apiKey).toMatch(/^\{env:\w+\}$/);
  });

  it("gives every model limits with room for opencode's own prompt", () => {
    expect(Object.keys(local.models).map((id) => `local/${id}`)).toEqual(
      expect.arrayContaining([example.model, example.small_model]),
    );
    for (const { limit } of Object.values(local.models)) {
      expect(limit.context).toBeGreaterThanOrEqual(16_384);
      expect(limit.output).toBeLessThanOrEqual(limit.context / 4);
    }
  });

  it.each(["README.md", "README.zh-CN.md"].filter((name) => existsSync(new URL(`../../${name}`, import.meta.url))))(
    "is what %s shows",
    (name) => {
      const blocks = [...read(name).matchAll(/```json\r?\n([\s\S]*?)```/g)].map(([, json]) => json ?? "");
      const shown = blocks.filter((json) => json.includes("opencode.ai/config.json"));
      expect(shown).toHaveLength(1);
      expect(example).toMatchObject(JSON.parse(shown[0] ?? "") as object);
    },
  );
});
