/** Who an agent is, by the key that it showed. */
export interface AgentIdentity {
  /** Its name: small letters, digits and `-`, 1 to 32 characters, beginning with a letter. */
  readonly name: string;
  /** Which of its keys it showed, e.g. `k1`; never the key. Undefined: admitted without one, on this machine only. */
  readonly keyId: string | undefined;
  /** Why it may not be used any more, e.g. `the key was revoked`; undefined while it may. Asked before every call. */
  refusal(): string | undefined;
}

/** What may be an agent's name: no letter of another case and no separator of model names, so that none can pass for another. */
export const agentNamePattern = /^[a-z][a-z0-9-]{0,31}$/;
