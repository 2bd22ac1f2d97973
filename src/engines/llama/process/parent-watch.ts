const everyMs = 2000;

/**
 * Ends this process when the one that started it is gone. The channel between the two tells it at once, but only to a
 * main thread that listens: this is for the other threads, so that a template without end does not outlive everybody.
 */
export function watchParent(): void {
  const parent = process.ppid;
  const look = (): void => {
    if (!isAlive(parent)) process.kill(process.pid, "SIGKILL");
  };
  setInterval(look, everyMs).unref();
}

/** An orphan has another parent; on Windows it keeps the number of the one it had. */
function isAlive(parent: number): boolean {
  if (process.ppid !== parent) return false;
  try {
    process.kill(parent, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}
