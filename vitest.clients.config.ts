import { mergeConfig } from "vitest/config";
import base from "./vitest.config.ts";

// The suite of the real clients: `npm run test:clients`.
export default mergeConfig(
  { ...base, test: { ...base.test, include: [], exclude: [] } },
  {
    test: {
      include: ["test/clients/**/*.test.ts"],
      globalSetup: ["test/clients/setup.ts"],
      testTimeout: 120_000,
    },
  },
);
