import { readFileSync, statSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { readGguf } from "../../src/engines/gguf/gguf.ts";
import { type MachineFacts, readMachineMemory } from "../../src/engines/llama/memory/machine-memory.ts";
import { readMemoryBudget } from "../../src/engines/llama/memory/memory-budget.ts";
import { estimateMemory } from "../../src/engines/llama/memory/memory-estimate.ts";
import { physicalCores } from "../../src/engines/llama/memory/processor-cores.ts";
import { toWorkerSettings } from "../../src/engines/llama/settings.ts";
import { randomDecoder } from "../support/gguf.ts";
import { startEngine, writeModel } from "../support/llama.ts";

const mib = 1024 ** 2;
const gib = 1024 ** 3;

describe("the memory that a model needs", () => {
  test("grows with its context, its sessions and its weights, as the header's figures say", async () => {
    const path = writeModel(
      "measured.gguf",
      randomDecoder({ architecture: "qwen2", layers: 8, width: 256, contextLength: 65_536 }),
    );
    const file = { header: await readGguf(path), bytes: statSync(path).size };
    const estimate = (contextLength: number, maxSessions: number): ReturnType<typeof estimateMemory> =>
      estimateMemory(file, toWorkerSettings({ contextLength, maxSessions }, path, 1));
    // Four heads of 32 elements, keys and values, two bytes each, in 8 layers.
    expect(estimate(16_384, 2).context).toBe(2 * 4 * 32 * 2 * 8 * 16_384 * 2);
    expect(estimate(1000, 1).context).toBe(2 * 4 * 32 * 2 * 8 * 1024);
    expect(estimate(16_384, 2).weights).toBe(file.bytes);
    expect(estimate(1024, 1).total).toBeLessThan(estimate(16_384, 1).total);
  });

  test.runIf(process.platform === "linux")("is estimated near to what its process takes", async () => {
    const settings = { contextLength: 32_768, maxSessions: 2 };
    const path = writeModel(
      "real.gguf",
      randomDecoder({ architecture: "qwen2", layers: 8, width: 256, contextLength: 65_536 }),
    );
    const engine = startEngine({ model: path, ...settings });
    await engine.load("real", new AbortController().signal);
    const status = readFileSync(`/proc/${engine.processes()[0]?.pid}/status`, "utf8");
    const kilobytes = (name: string): number => Number(new RegExp(`^${name}:\\s+(\\d+)`, "m").exec(status)?.[1]) * 1024;
    const [model] = await engine.models();
    const estimate = model?.memoryBytes ?? 0;
    // Its own pages at least; at most what it has mapped besides, which is llama.cpp's and Node's code, shared by all.
    expect(estimate / kilobytes("RssAnon")).toBeGreaterThan(0.9);
    expect(estimate / kilobytes("VmRSS")).toBeLessThan(1.2);
  });
});

describe("the memory of the machine", () => {
  const info = "MemTotal:       16000000 kB\nMemFree:          200000 kB\nMemAvailable:    9000000 kB\n";
  const facts = (files: Record<string, string>, platform: NodeJS.Platform = "linux"): MachineFacts => ({
    platform,
    read: (path) => files[path] ?? null,
    total: 16 * gib,
    free: 200 * mib,
  });

  test("is what Linux calls available, not what is free", () => {
    expect(readMachineMemory(facts({ "/proc/meminfo": info }))).toEqual({
      total: 16_000_000 * 1024,
      available: 9_000_000 * 1024,
    });
  });

  test("ends at the limit of the container, less what is used there but for caches", () => {
    const second = facts({
      "/proc/meminfo": info,
      "/proc/self/cgroup": "0::/user.slice/lair\n",
      "/sys/fs/cgroup/user.slice/lair/memory.max": "max\n",
      "/sys/fs/cgroup/user.slice/memory.max": `${4 * gib}\n`,
      "/sys/fs/cgroup/user.slice/memory.current": `${3 * gib}\n`,
      "/sys/fs/cgroup/user.slice/memory.stat": `anon 5\ninactive_file ${gib}\n`,
    });
    expect(readMachineMemory(second)).toEqual({ total: 4 * gib, available: 2 * gib });
    // Docker with version 1: the path is the host's, its own group lies at the root.
    const first = facts({
      "/proc/meminfo": info,
      "/proc/self/cgroup": "5:cpuset:/x\n4:memory:/docker/abc\n",
      "/sys/fs/cgroup/memory/memory.limit_in_bytes": `${2 * gib}\n`,
      "/sys/fs/cgroup/memory/memory.usage_in_bytes": `${gib}\n`,
    });
    expect(readMachineMemory(first)).toEqual({ total: 2 * gib, available: gib });
    const unlimited = facts({
      "/proc/meminfo": info,
      "/proc/self/cgroup": "4:memory:/\n",
      "/sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
    });
    expect(readMachineMemory(unlimited).total).toBe(16_000_000 * 1024);
  });

  test("is free memory on Windows, and unknown on macOS, which keeps none free", () => {
    expect(readMachineMemory(facts({}, "win32"))).toEqual({ total: 16 * gib, available: 200 * mib });
    expect(readMachineMemory(facts({}, "darwin"))).toEqual({ total: 16 * gib, available: null });
  });
});

describe("the cores that compute", () => {
  // Two sockets with two cores each, two threads on each core.
  const cpuinfo = Array.from(
    { length: 8 },
    (_, id) => `processor\t: ${id}\nphysical id\t: ${id >> 2}\ncore id\t\t: ${id & 1}\n`,
  ).join("\n");
  const linux = { platform: "linux", arch: "x64", logical: 8, cpuinfo, status: "Cpus_allowed_list:\t0-7\n" } as const;

  test("are counted once for all threads of each, among those that may be used", () => {
    expect(physicalCores(linux)).toBe(4);
    expect(physicalCores({ ...linux, logical: 3, status: "Cpus_allowed_list:\t0,2,4\n" })).toBe(2);
    // A quota of two processors' time.
    expect(physicalCores({ ...linux, logical: 2 })).toBe(2);
  });

  test("are half of many logical ones where an x64 system does not tell, and all on Arm", () => {
    expect(physicalCores({ ...linux, cpuinfo: null })).toBe(4);
    expect(physicalCores({ ...linux, cpuinfo: "processor\t: 0\n\nprocessor\t: 1\n", arch: "arm64", logical: 2 })).toBe(
      2,
    );
    expect(physicalCores({ ...linux, platform: "win32", logical: 16 })).toBe(8);
    expect(physicalCores({ ...linux, platform: "darwin", arch: "arm64", logical: 10 })).toBe(10);
  });
});

describe("the budget of all models", () => {
  const device = (type: "gpu" | "igpu" | "cpu", freeBytes: number) =>
    ({ name: type, description: type, type, freeBytes, totalBytes: freeBytes }) as const;
  const probe =
    (...devices: ReturnType<typeof device>[]) =>
    () =>
      Promise.resolve({
        ok: true,
        report: { release: "r", gpuProblem: null, koffi: "2", devices, backends: [] },
      } as const);
  const unasked = (): never => {
    throw new Error("nothing should have been tried");
  };

  test("is what is set, else a part of the machine's memory", async () => {
    expect(await readMemoryBudget({ memoryBudget: 5 * gib }, 16 * gib, unasked)).toEqual({
      bytes: 5 * gib,
      ofGpu: false,
    });
    expect((await readMemoryBudget({ memoryBudget: "unlimited" }, 16 * gib, unasked)).bytes).toBe(Infinity);
    expect((await readMemoryBudget({ gpu: "off" }, 10 * gib, unasked)).bytes).toBe(8 * gib);
    expect((await readMemoryBudget({ library: "/own", gpuLayers: 0 }, 10 * gib, unasked)).bytes).toBe(8 * gib);
  });

  test("is that of the GPUs with memory of their own, where models are computed there", async () => {
    const settings = { library: "/own", gpuLayers: "all" } as const;
    const two = probe(device("gpu", 10 * gib), device("gpu", 20 * gib), device("cpu", 64 * gib));
    expect(await readMemoryBudget(settings, 16 * gib, two)).toEqual({ bytes: 0.92 * 30 * gib, ofGpu: true });
    // A processor's graphics share the machine's memory.
    const shared = await readMemoryBudget(settings, 10 * gib, probe(device("igpu", 7 * gib)));
    expect(shared).toEqual({ bytes: 8 * gib, ofGpu: false });
    const some = await readMemoryBudget({ ...settings, gpuLayers: 8 }, 10 * gib, probe(device("gpu", 10 * gib)));
    expect(some.bytes).toBeCloseTo(17.2 * gib);
  });
});
