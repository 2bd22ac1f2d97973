/** How one exchange ended, for the access log. */
export interface Outcome {
  readonly status: number;
  /** `left`: the client was gone first. `failed`: the reply broke off, or told of a failure after its head was sent. */
  readonly end: "complete" | "left" | "failed";
  /** What failed after the head was sent. */
  readonly problem?: string;
  /** Milliseconds until the reply's head and until its end. */
  readonly firstByte: number;
  readonly duration: number;
  /** Bytes of the reply's body. */
  readonly bytes: number;
}
