import { expect, test } from "vitest";
import { ThreadCount } from "../../src/engines/llama/scheduling/thread-count.ts";

/** Steps on a machine where one thread takes 30 ms and four 10 ms, or 1 s each while another program runs. */
class Machine {
  busy = false;
  clock = 0;
  readonly threads = new ThreadCount(4, () => this.clock);

  run(steps: number): { counts: number[]; milliseconds: number } {
    const begin = this.clock;
    const counts = Array.from({ length: steps }, () => {
      const { count } = this.threads;
      const took = count === 4 ? (this.busy ? 1000 : 10) : this.busy ? 60 : 20;
      this.clock += took;
      this.threads.observe(1, took);
      return count;
    });
    return { counts, milliseconds: this.clock - begin };
  }
}

test("a quiet machine always computes with all threads", () => {
  const machine = new Machine();
  expect(new Set(machine.run(500).counts)).toEqual(new Set([4]));
});

test("a busy machine is left with fewer after some slow steps, and tried again seldom", () => {
  const machine = new Machine();
  machine.run(50);
  machine.busy = true;
  const { counts } = machine.run(2000);
  expect(counts.indexOf(2)).toBeLessThanOrEqual(6);
  expect(counts.filter((count) => count === 4).length).toBeLessThan(20);
});

test("all threads are back soon after the machine is quiet again", () => {
  const machine = new Machine();
  machine.run(50);
  machine.busy = true;
  machine.run(30);
  machine.busy = false;
  const { counts } = machine.run(1000);
  expect(counts.slice(-300)).toEqual(Array.from({ length: 300 }, () => 4));
});

test("a single slow step, or fewer threads that are no faster, change nothing for long", () => {
  const machine = new Machine();
  machine.run(20);
  machine.threads.observe(1, 500);
  expect(new Set(machine.run(100).counts)).toEqual(new Set([4]));
  const slowWithAny = new ThreadCount(4, () => 0);
  const seen = Array.from({ length: 200 }, (_, step) => {
    const { count } = slowWithAny;
    slowWithAny.observe(1, step < 20 ? 10 : 100);
    return count;
  });
  expect(seen.filter((count) => count !== 4).length).toBeLessThan(20);
});
