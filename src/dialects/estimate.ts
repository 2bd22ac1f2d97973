/**
 * Tokens in so many UTF-16 units of text, roughly: four to a token, as in English and code. For servers that count
 * nothing: a usage of 0 would keep clients from ever compacting a conversation.
 */
export function estimateTokens(length: number): number {
  return Math.max(1, Math.ceil(length / 4));
}
