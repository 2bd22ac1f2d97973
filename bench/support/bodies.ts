const sentence = 'Read the file src/index.ts, and say in one paragraph what it does; then name the "exports" it has.\n';

/** Bytes of the content of a large upload. */
export const uploadBytes = 32e6;

/** A chat request with a content of 32 MB, e.g. an image. */
export function uploadBody(model: string): string {
  const content = [
    { type: "image_url", image_url: { url: `data:image/png;base64,${"iVBORw0K".repeat(uploadBytes / 8)}` } },
  ];
  return JSON.stringify({ model, messages: [{ role: "user", content }] });
}

export type BodySize = "0.6 KB" | "32 KB";

/** A chat request of about the given size. `model` comes first, as in what opencode's AI SDK sends. */
export function chatBody(model: string, size: BodySize, stream: boolean): string {
  const turns = size === "0.6 KB" ? 0 : 40;
  return JSON.stringify({
    model,
    max_tokens: 200,
    temperature: 0.2,
    messages: [
      { role: "system", content: `You are a coding assistant. ${sentence.repeat(2)}` },
      ...Array.from({ length: turns }, (_, turn) => ({
        role: turn % 2 === 0 ? "user" : "assistant",
        content: sentence.repeat(7),
      })),
      { role: "user", content: sentence },
    ],
    ...(stream ? { stream: true, stream_options: { include_usage: true } } : {}),
  });
}
