import { formatBytes } from "../config/units.ts";
import { rewritesLines, type Terminal } from "./command.ts";
import { LiveLine } from "./live-line.ts";

/** How far a transfer is. */
export interface Progress {
  /** What it is at, e.g. `model.gguf`. */
  readonly label: string;
  readonly done: number;
  readonly total: number;
}

/** Rates are of this last span: what a person sees, not the mean since the start. */
const rateSpanMs = 5000;

/** One line that is rewritten where a person looks, and a line for every tenth elsewhere. */
export class ProgressLine {
  readonly #terminal: Terminal;
  readonly #line: LiveLine;
  readonly #now: () => number;
  #label = "";
  #tenth = -1;
  #drawn = -Infinity;
  #marks: { at: number; done: number }[] = [];

  constructor(terminal: Terminal, now: () => number = () => performance.now()) {
    this.#terminal = terminal;
    this.#line = new LiveLine(terminal);
    this.#now = now;
  }

  show(progress: Progress): void {
    const now = this.#now();
    if (progress.label !== this.#label) {
      this.#label = progress.label;
      this.#tenth = -1;
      this.#marks = [];
    }
    const complete = progress.done >= progress.total;
    if (!rewritesLines(this.#terminal)) {
      const tenth = Math.floor((10 * progress.done) / progress.total);
      if (tenth === this.#tenth) return;
      this.#tenth = tenth;
      this.#terminal.print(this.#text(progress, now));
    } else if (complete || now - this.#drawn >= 100) {
      this.#drawn = now;
      this.#line.draw(this.#text(progress, now).slice(0, this.#line.room));
    }
  }

  /** Takes the rewritten line away. */
  clear(): void {
    this.#line.clear();
  }

  #text({ label, done, total }: Progress, now: number): string {
    this.#marks.push({ at: now, done });
    while (this.#marks.length > 2 && now - (this.#marks[0]?.at ?? now) > rateSpanMs) this.#marks.shift();
    const [first = { at: now, done }] = this.#marks;
    const rate = now > first.at ? ((done - first.done) * 1000) / (now - first.at) : 0;
    const percent = `${Math.floor((100 * done) / total)} %`.padStart(5);
    const speed = rate > 0 ? `  ${formatBytes(rate)}/s` : "";
    const left = rate > 0 && done < total ? `  ${formatSpan((total - done) / rate)} left` : "";
    return `${label}  ${percent}  ${formatBytes(done)} of ${formatBytes(total)}${speed}${left}`;
  }
}

function formatSpan(seconds: number): string {
  if (seconds < 90) return `${Math.ceil(seconds)} s`;
  return seconds < 5400 ? `${Math.ceil(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}
