/** Values pushed from one side, read by `for await` on the other; a failure ends the reading. */
export class EventQueue<Value> implements AsyncIterable<Value> {
  readonly #values: Value[] = [];
  #ended: { readonly error: Error | null } | null = null;
  #wake: (() => void) | undefined;

  push(...values: Value[]): void {
    this.#values.push(...values);
    this.#wake?.();
  }

  end(error: Error | null = null): void {
    this.#ended ??= { error };
    this.#wake?.();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Value> {
    for (;;) {
      const value = this.#values.shift();
      if (value !== undefined) yield value;
      else if (this.#ended !== null) {
        if (this.#ended.error !== null) throw this.#ended.error;
        return;
      } else {
        await new Promise<void>((resolve) => (this.#wake = resolve));
        this.#wake = undefined;
      }
    }
  }
}
