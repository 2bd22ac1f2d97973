/** Resolves when the work is done, or has taken so many milliseconds; it is not given up. Rejects as the work does. */
export async function within(work: Promise<void>, milliseconds: number): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  try {
    await Promise.race([work, new Promise<void>((resolve) => (timer = setTimeout(resolve, milliseconds)))]);
  } finally {
    clearTimeout(timer);
  }
}

/** Whether the work is over, done or failed, after so many milliseconds. */
export async function settlesWithin(work: Promise<unknown>, milliseconds: number): Promise<boolean> {
  let settled = false;
  const settle = (): void => void (settled = true);
  await within(work.then(settle, settle), milliseconds);
  return settled;
}
