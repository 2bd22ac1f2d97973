import { timingSafeEqual } from "node:crypto";
import { type CallerLimits, type Principal, type Role, roles } from "../core/access.ts";
import { digestOf } from "./issue.ts";

/** The tokens that stand in the configuration, as digests. */
export class StaticTokens {
  readonly #known: readonly { readonly digest: Buffer; readonly principal: Principal }[];

  /** `tokens` may use models, `adminTokens` have every role; one that is in both has. */
  constructor(tokens: readonly string[], adminTokens: readonly string[], limits: CallerLimits) {
    const toKnown =
      (kind: string, has: readonly Role[]) =>
      (token: string, index: number): { digest: Buffer; principal: Principal } => {
        const name = `${kind}-${index + 1}`;
        return {
          digest: digestOf(token),
          principal: { id: name, name, roles: new Set(has), limits },
        };
      };
    this.#known = [...adminTokens.map(toKnown("admin", roles)), ...tokens.map(toKnown("token", ["inference"]))];
  }

  get size(): number {
    return this.#known.length;
  }

  /** Whose token has this SHA-256. Every one is compared, so that time does not tell which was near. */
  find(digest: Buffer): Principal | undefined {
    let found: Principal | undefined;
    for (const { digest: known, principal } of this.#known) if (timingSafeEqual(known, digest)) found ??= principal;
    return found;
  }
}
