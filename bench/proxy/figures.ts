/** What is measured: key → how the table calls it, and its decimals. */
export const figures = {
  small_per_second: ["requests/s, 0.6 KB", 0],
  small_cpu: ["CPU µs per request, 0.6 KB", 1],
  small_per_core: ["requests/s per core, 0.6 KB", 0],
  large_per_second: ["requests/s, 32 KB", 0],
  large_cpu: ["CPU µs per request, 32 KB", 1],
  large_per_core: ["requests/s per core, 32 KB", 0],
  paced_cpu: ["CPU µs per paced SSE event", 1],
  burst_per_second: ["burst SSE events/s", 0],
  burst_cpu: ["CPU µs per burst SSE event", 2],
  burst_per_core: ["burst SSE events/s per core", 0],
  p50: ["p50 µs at 200 requests/s", 0],
  added_p50: ["added p50 µs at 200 requests/s", 0],
  waited: ["% of the time waiting for its core", 1],
  rss_idle: ["RSS idle, MB", 1],
  rss_open: ["RSS with 1,000 open streams, MB", 1],
  left_streaming: ["of 1,000 streams alive 0.5 s after", 0],
  left_silent: ["the same, before the first byte", 0],
} as const satisfies Record<string, readonly [title: string, decimals: number]>;

export type Figure = keyof typeof figures;
