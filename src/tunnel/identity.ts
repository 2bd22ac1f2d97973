// The words live in core, for `state` and `config` need them too.
export { agentNamePattern, type AgentIdentity } from "../core/agent-identity.ts";
