import { availableParallelism } from "node:os";
import { configDefaults, defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    // The suite of the real clients: vitest.clients.config.ts.
    exclude: [...configDefaults.exclude, "test/clients/**"],
    pool: "forks",
    // Tests wait more than they compute: one core less than there are would leave the other of two idle.
    maxWorkers: Math.max(2, availableParallelism() - 1),
    // Children that a test starts (the engine's process, whole programs) run the TypeScript sources too.
    execArgv: ["--import", "tsx"],
    testTimeout: 30_000,
    hookTimeout: 60_000,
  },
});
