import { z } from "zod";
import { upstreams } from "./provider-settings.ts";
import { duration, patternName, setting } from "./setting.ts";
import { checkPair, path } from "./tunnel-settings.ts";

/** `gateway`: the public front, which asks for keys, holds callers to limits, and counts what they use. */
export const gateway = z
  .strictObject({
    host: setting(
      z.string().min(1).default("127.0.0.1"),
      "Address that the gateway listens on; `0.0.0.0` or `::` for every network.",
      { flag: "host", commands: ["gateway"] },
    ),
    port: setting(z.int().min(0).max(65535).default(8082), "Port of the gateway; 0 takes a free one.", {
      flag: "port",
      short: "p",
      commands: ["gateway"],
    }),
    tls: z
      .strictObject({
        cert: setting(
          path.exactOptional(),
          "File with the gateway's certificate and the chain below it (PEM); read anew when it changes. Without it the gateway speaks plain HTTP, for a front with TLS before it.",
          { flag: "tls-cert", commands: ["gateway"] },
        ),
        key: setting(path.exactOptional(), "File with the private key of that certificate (PEM).", {
          flag: "tls-key",
          commands: ["gateway"],
        }),
      })
      .superRefine(checkPair)
      .prefault({}),
    grace: setting(duration.prefault("30s"), "For answers under way when the gateway is asked to stop.", {
      unit: "duration",
    }),
    upstreams,
    models: z
      .record(
        patternName,
        setting(
          z.array(z.string().min(1).max(300)).min(1),
          "A model of the gateway's own: what answers for it, in this order until one does, each as `upstream/model`, e.g. `[home/llama_cpp:qwen3-coder, office/vllm:Qwen/Qwen3-Coder]`.",
        ),
      )
      .prefault({}),
  })
  .prefault({});
