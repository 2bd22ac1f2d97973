import { defineConfig } from "vitest/config";
import base from "./vitest.config.ts";

// The suite of the real clients: `npm run test:clients`.
export default defineConfig({
  test: {
    ...base.test,
    include: ["test/clients/**/*.test.ts"],
    exclude: [],
    globalSetup: ["test/clients/setup.ts"],
    testTimeout: 120_000,
  },
});
