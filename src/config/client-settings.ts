import { z } from "zod";
import { duration, setting, size } from "./setting.ts";

/** `responses`: what the Responses API keeps between calls. */
export const responses = z
  .strictObject({
    keep: setting(
      duration.prefault("7d"),
      "How long an answer of `/v1/responses` can be fetched, and gone on from with `previous_response_id`; `store: false` in a request keeps nothing.",
      { unit: "duration" },
    ),
    memory: setting(
      size.prefault("64MB"),
      "Without a state (`LAIR_STATE`), answers are kept in memory, at most so much; the oldest are given up first.",
      { unit: "size" },
    ),
  })
  .prefault({});

/** `ollama`: for programs that look for an Ollama. */
export const ollama = z
  .strictObject({
    listen: setting(
      z.int().min(0).max(65535).exactOptional(),
      "A second port on which the same is answered, 11434 for programs that cannot be told another address than Ollama's own.",
      { flag: "ollama-port", commands: ["serve", "cloud", "gateway"] },
    ),
  })
  .prefault({});
