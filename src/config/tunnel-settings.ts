import { z } from "zod";
import { agentNamePattern } from "../core/agent-identity.ts";
import { parseHosts } from "../core/host-url.ts";
import { withHome } from "./home.ts";
import { count, duration, setting } from "./setting.ts";

const text = z.string().min(1);
/** A path, relative to the current folder. */
export const path = text.transform((given) => withHome(given));
const relayUrl = text.superRefine(checkRelay);

/** `relay`: the public host that agents dial into. */
export const relay = z
  .strictObject({
    host: setting(
      text.default("127.0.0.1"),
      "Address that the relay listens on, for callers and agents; `0.0.0.0` or `::` for every network.",
      { flag: "host", commands: ["cloud"] },
    ),
    port: setting(z.int().min(0).max(65535).default(8081), "Port of the relay; 0 takes a free one.", {
      flag: "port",
      short: "p",
      commands: ["cloud"],
    }),
    tls: z
      .strictObject({
        cert: setting(
          path.exactOptional(),
          "File with the relay's certificate and the chain below it (PEM); read anew when it changes. Without it the relay speaks plain HTTP, for a front with TLS before it.",
          { flag: "tls-cert", commands: ["cloud"] },
        ),
        key: setting(path.exactOptional(), "File with the private key of that certificate (PEM).", {
          flag: "tls-key",
          commands: ["cloud"],
        }),
        clientCa: setting(
          path.exactOptional(),
          "File with the certificates (PEM) of which one must have signed an agent's own: agents then need a certificate beside their key.",
          { flag: "tls-client-ca", commands: ["cloud"] },
        ),
      })
      .superRefine(checkPair)
      .prefault({}),
    agents: setting(
      path.exactOptional(),
      "File with the agents that may connect, which `lair cloud agents` writes; absent: `agents.json` in the user's data folder.",
      { flag: "agents", commands: ["cloud"] },
    ),
    grace: setting(duration.prefault("30s"), "For answers under way when the relay is asked to stop.", {
      unit: "duration",
    }),
    internal: z
      .strictObject({
        host: setting(
          text.default("127.0.0.1"),
          "Address on which this relay takes calls that other relays hand on for its agents, where several share their agents through Redis (`state.url`).",
        ),
        port: setting(
          z.int().min(0).max(65535).exactOptional(),
          "Port for them; 0 takes a free one. Absent: this relay shares no agents with others.",
        ),
        url: setting(
          text.superRefine(checkRelay).exactOptional(),
          "Where the other relays reach that port, e.g. `http://10.0.0.11:8091`; absent: as it listens.",
        ),
        secret: setting(
          text.superRefine(checkSecret).exactOptional(),
          "Secret that all the relays share, at least 32 characters, by which they know one another. Relays on one machine agree on one by themselves.",
          { secret: true },
        ),
      })
      .prefault({}),
  })
  .prefault({});

/** `agent`: what dials a relay and answers its calls from a runtime. */
export const agent = z
  .strictObject({
    cloud: setting(
      relayUrl.exactOptional(),
      "The relay to connect to, e.g. `https://relay.example:8081`; a path before `/tunnel` may follow.",
      { flag: "cloud", commands: ["agent"] },
    ),
    openai: setting(
      text.prefault("http://127.0.0.1:18080").superRefine(checkRuntime).transform(toRuntime),
      "The OpenAI-compatible server that answers the calls; nothing else is ever reached.",
      { flag: "openai", commands: ["agent"] },
    ),
    openaiKey: setting(text.exactOptional(), "Key sent to that server as `Authorization: Bearer …`.", {
      secret: true,
      flag: "openai-key",
      commands: ["agent"],
    }),
    key: setting(text.exactOptional(), "The agent's key, which `lair cloud agents add NAME` has printed.", {
      secret: true,
      flag: "key",
      commands: ["agent"],
    }),
    keyFile: setting(path.exactOptional(), "File that holds the agent's key instead; read anew for every connection.", {
      flag: "key-file",
      commands: ["agent"],
    }),
    name: setting(
      z.string().regex(agentNamePattern).exactOptional(),
      "Name at a relay of this machine that asks for no key: small letters, digits and `-`. Otherwise the key says it.",
      { flag: "name", commands: ["agent"] },
    ),
    connections: setting(
      z.int().min(1).max(4).default(2),
      "Connections to the relay at a time: when one is lost, the others go on.",
      { flag: "connections", commands: ["agent"] },
    ),
    transport: setting(
      z.enum(["auto", "upgrade", "ws"]).default("auto"),
      "How the tunnel passes what is in between: `upgrade` is the plain way, `ws` a WebSocket for fronts that pass nothing else, `auto` tries them in this order.",
      { flag: "transport", commands: ["agent"] },
    ),
    capacity: setting(
      count.max(100_000).default(8),
      "Calls at a time that the runtime answers well: this agent's weight among those with the same model.",
      { flag: "capacity", commands: ["agent"] },
    ),
    grace: setting(
      duration.prefault("10m"),
      "For answers under way when the agent is asked to stop; those of a language model take long.",
      { unit: "duration" },
    ),
    tls: z
      .strictObject({
        ca: setting(
          path.exactOptional(),
          "File with certificates (PEM) to trust for the relay, in place of the usual ones: for a certificate of your own.",
          { flag: "tls-ca", commands: ["agent"] },
        ),
        cert: setting(
          path.exactOptional(),
          "File with the agent's own certificate (PEM), for relays that ask for one.",
          {
            flag: "tls-cert",
            commands: ["agent"],
          },
        ),
        key: setting(path.exactOptional(), "File with the private key of that certificate (PEM).", {
          flag: "tls-key",
          commands: ["agent"],
        }),
      })
      .superRefine(checkPair)
      .prefault({}),
  })
  .prefault({});

/** `publish`: the agent inside of the runtime's own process. */
export const publish = setting(
  relayUrl.exactOptional(),
  "A relay at which `lair serve` offers its models too, e.g. `https://relay.example:8081`; the key is that of `agent.key`.",
  { flag: "publish" },
);

interface TlsFiles {
  readonly cert?: string;
  readonly key?: string;
  readonly clientCa?: string;
}

/** A certificate is of no use without its key, nor the other way round; and who speaks no TLS can ask for no certificate. */
export function checkPair({ cert, key, clientCa }: TlsFiles, check: z.RefinementCtx): void {
  const missing = cert === undefined ? "cert" : key === undefined ? "key" : undefined;
  if (missing === undefined || (cert ?? key ?? clientCa) === undefined) return;
  const given = cert !== undefined ? "cert" : key !== undefined ? "key" : "clientCa";
  check.addIssue({ code: "custom", path: [missing], message: `is missing; ${given} is set, and needs it` });
}

/** So many characters cannot be guessed, if they are random. */
function checkSecret(text: string, check: z.RefinementCtx): void {
  if (text.length < 32)
    check.addIssue({
      code: "custom",
      message: `has ${text.length} characters, and needs 32 at least; take random ones`,
    });
}

function checkRelay(text: string, check: z.RefinementCtx): void {
  const problem = relayProblem(text);
  if (problem !== undefined) check.addIssue({ code: "custom", message: problem });
}

/** Why the text is no relay's address; a user name or password in it is not repeated. */
function relayProblem(text: string): string | undefined {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url === undefined || !["http:", "https:"].includes(url.protocol))
    return "is no address of a relay; write for example https://relay.example:8081";
  if (url.username !== "" || url.password !== "")
    return "must not hold a user name or password; the agent's key is a setting of its own";
  if (url.search !== "" || url.hash !== "") return "must end before ? and #";
  return undefined;
}

function checkRuntime(text: string, check: z.RefinementCtx): void {
  try {
    const hosts = parseHosts(text, 18080);
    if (hosts.length > 1) check.addIssue({ code: "custom", message: "names more than one server; an agent has one" });
  } catch (error) {
    check.addIssue({ code: "custom", message: error instanceof Error ? error.message : String(error) });
  }
}

/** The base URL without the `/v1` that many write after it: paths that come from the relay begin with it. */
function toRuntime(text: string): string {
  const [host = ""] = parseHosts(text, 18080);
  return host.replace(/\/v1$/, "");
}
