/** A piece of configuration. */
export interface Piece {
  /** Where it goes: a file, a place in a program, a shell. */
  readonly where: string;
  readonly text: string;
}

/** What stands for a key that nobody asks for, where a program wants one. */
export const noKey = "none";
