// `npm run docs`: writes what is generated from the schema of the settings. A test says when it is stale.
import { writeFileSync } from "node:fs";
import { configurationPage } from "./configuration-page.ts";
import { jsonSchema } from "../src/config/describe.ts";

writeFileSync(new URL("../docs/configuration.md", import.meta.url), configurationPage());
writeFileSync(new URL("../config.schema.json", import.meta.url), `${JSON.stringify(jsonSchema(), null, 2)}\n`);
