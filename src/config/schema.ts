import { z } from "zod";
import { ollama, responses } from "./client-settings.ts";
import { auth, callerLimits, images, prices, proxies, queue, usage } from "./caller-settings.ts";
import { gateway } from "./gateway-settings.ts";
import { llama } from "./llama-settings.ts";
import { models } from "./model-settings.ts";
import { providers } from "./provider-settings.ts";
import { duration, serverCommands, setting, size } from "./setting.ts";
import { state } from "./state-settings.ts";
import { agent, publish, relay } from "./tunnel-settings.ts";

/** Every setting there is: the one source of the loader, the flags, the reference docs and the JSON Schema. */
export const schema = z.strictObject({
  listen: z
    .strictObject({
      host: setting(
        z.string().min(1).default("127.0.0.1"),
        "Address to listen on; `0.0.0.0` or `::` for every network.",
        { env: ["RUNTIME_LISTEN_HOST"], flag: "host" },
      ),
      port: setting(z.int().min(0).max(65535).default(18080), "Port to listen on; 0 takes a free one.", {
        env: ["RUNTIME_LISTEN_PORT"],
        flag: "port",
        short: "p",
      }),
    })
    .prefault({}),
  insecure: setting(
    z.boolean().default(false),
    "Allow listening beyond this machine without a key: whoever reaches the port may use the models. Of an agent: allow a relay without TLS beyond this machine.",
    { flag: "insecure", commands: serverCommands },
  ),
  auth,
  defaultProvider: setting(
    z.string().min(1).default("llama_cpp"),
    "The provider of model names without a `provider:` prefix.",
    { env: ["RUNTIME_PROVIDER"], flag: "provider" },
  ),
  providers,
  llama: llama.extend({ models }).prefault({}),
  relay,
  agent,
  publish,
  gateway,
  state,
  timeouts: z
    .strictObject({
      connect: setting(duration.prefault("5s"), "For a connection to a provider.", { unit: "duration" }),
      firstByte: setting(
        duration.prefault("30m"),
        "For a provider's first byte; 0: for ever. A server that does not stream sends it when the whole answer is done.",
        { unit: "duration" },
      ),
      idle: setting(
        duration.prefault("15m"),
        "Between two bytes of a provider's answer; 0: for ever. Some servers send a first chunk and then read the prompt for minutes.",
        { unit: "duration" },
      ),
      probe: setting(
        duration.prefault("2s"),
        "For a provider's list of models and its health, so that a dead one delays nobody.",
        { unit: "duration" },
      ),
      heartbeat: setting(
        duration.prefault("10s"),
        "Silence of a stream after which a heartbeat is sent, so that clients and proxies keep the connection.",
        { unit: "duration" },
      ),
      headers: setting(duration.prefault("30s"), "For a client to send the head of its request.", { unit: "duration" }),
      request: setting(duration.prefault("5m"), "For a client to send its whole request.", { unit: "duration" }),
      keepAlive: setting(duration.prefault("75s"), "How long a client's unused connection stays open.", {
        unit: "duration",
      }),
      shutdown: setting(duration.prefault("30s"), "For answers under way when the program is asked to stop.", {
        unit: "duration",
      }),
    })
    .prefault({}),
  limits: z
    .strictObject({
      body: setting(size.prefault("64MB"), "Largest request body.", { unit: "size" }),
      headers: setting(size.prefault("32KB"), "Largest head of a request.", { unit: "size" }),
      concurrent: setting(z.int().min(0).default(0), "Most calls at a time over all providers; 0: no limit."),
      caller: callerLimits,
    })
    .prefault({}),
  queue,
  prices,
  usage,
  responses,
  ollama,
  images,
  cors: z
    .strictObject({
      origins: setting(
        z.array(z.string().min(1)).default([]),
        "Web pages (origins) that may call from a browser, beside those of this machine; `*`: any.",
      ),
    })
    .prefault({}),
  hosts: setting(
    z.array(z.string().min(1)).default([]),
    "Further host names by which this server may be addressed, e.g. behind a reverse proxy.",
  ),
  proxies,
  log: z
    .strictObject({
      level: setting(z.enum(["debug", "info", "warn", "error", "silent"]).default("info"), "What is worth a line.", {
        flag: "log-level",
        commands: serverCommands,
      }),
      format: setting(
        z.enum(["auto", "pretty", "json"]).default("auto"),
        "`auto`: `pretty` on a terminal, else `json`.",
        { flag: "log-format", commands: serverCommands },
      ),
    })
    .prefault({}),
});

/** A complete configuration: every default filled in, durations in milliseconds, sizes in bytes. */
export type Config = z.output<typeof schema>;
/** One upstream, ready to build: `urls` are base URLs without a trailing slash. */
export type ProviderConfig = Config["providers"][string];
