/**
 * Text of ours in a field that clients hand back unread (`encrypted_content`). No secret and no proof: whoever is given
 * it may read the text anyway, and may say the same in words of their own.
 */
export function encodeOpaque(text: string): string {
  return mark + Buffer.from(text, "utf8").toString("base64url");
}

/** The text of `encodeOpaque`; undefined when the value is somebody else's. */
export function decodeOpaque(value: string): string | undefined {
  if (!value.startsWith(mark)) return undefined;
  return Buffer.from(value.slice(mark.length), "base64url").toString("utf8");
}

/** Tells ours from OpenAI's, which begin with `gAAAA`; the figure is for another form one day. */
const mark = "lair1.";
