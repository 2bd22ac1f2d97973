/** Why llama.cpp cannot be used here; the message says what to do. */
export class LibraryError extends Error {
  override readonly name = "LibraryError";
}
