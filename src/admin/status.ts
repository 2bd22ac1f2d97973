import { type Handler, jsonReply } from "../core/call.ts";
import type { Health, Provider } from "../core/provider.ts";

/** `/health`: this process answers. */
export const health: Handler = () => Promise.resolve(jsonReply(200, { status: "ok" }));

/** `/version`: what runs here. */
export function version(number: string, role: string): Handler {
  return () =>
    Promise.resolve(jsonReply(200, { name: "local-ai-runtime", version: number, role, node: process.versions.node }));
}

/** `/ready`: 200 when at least one provider can answer, with the state of each. A provider has `timeout` milliseconds to tell. */
export function ready(providers: readonly Provider[], timeout: number): Handler {
  return async (call) => {
    const checks = await Promise.all(
      providers.map(async (provider) => ({ name: provider.name, ...(await check(provider, call.signal, timeout)) })),
    );
    const ok = checks.some((one) => one.ok);
    return jsonReply(ok ? 200 : 503, {
      status: ok ? "ready" : "no provider answers",
      providers: checks.map((one) => ({ ...one })),
    });
  };
}

async function check(provider: Provider, signal: AbortSignal, timeout: number): Promise<Health> {
  const limit = AbortSignal.any([signal, AbortSignal.timeout(timeout)]);
  const late = new Promise<Health>((resolve) => {
    limit.addEventListener("abort", () => resolve({ ok: false, detail: `no answer within ${timeout / 1000} s` }), {
      once: true,
    });
  });
  return Promise.race([provider.health(limit), late]);
}
