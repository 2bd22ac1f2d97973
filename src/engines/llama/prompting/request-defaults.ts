import type { Log } from "../../../core/log.ts";
import type { ModelFile } from "../../models/model-files.ts";
import type { LlamaSettings, RequestDefaults } from "../settings.ts";

/** What the model's requests leave open. What its file says of sampling and cannot be is left out, with a word in the log. */
export function requestDefaults({ id, header }: ModelFile, settings: LlamaSettings, log: Log): RequestDefaults {
  if (header === null) return settings;
  const { values, ignored } = header.sampling;
  if (ignored.length > 0)
    log.warn({ model: id }, `the model's file says of sampling what is left out: ${ignored.join("; ")}`);
  return { ...settings, recommended: values };
}
