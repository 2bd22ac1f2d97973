/** The UTC day and month that a moment belongs to. */
export interface Today {
  /** E.g. `2026-11-22`. */
  readonly day: string;
  /** E.g. `2026-11`. */
  readonly month: string;
  /** Milliseconds since 1970: the day begins at `from`; day and month end before `dayEnd` and `monthEnd`. */
  readonly from: number;
  readonly dayEnd: number;
  readonly monthEnd: number;
}

let today: Today = { day: "", month: "", from: 0, dayEnd: 0, monthEnd: 0 };

/** Today by the wall clock, the same object all day; a clock that is put back has its earlier day again. */
export function todayOf(now: number): Today {
  if (now < today.from || now >= today.dayEnd) today = readToday(now);
  return today;
}

function readToday(now: number): Today {
  const date = new Date(now);
  const [year, month, day] = [date.getUTCFullYear(), date.getUTCMonth(), date.getUTCDate()];
  const text = date.toISOString().slice(0, 10);
  return {
    day: text,
    month: text.slice(0, 7),
    from: Date.UTC(year, month, day),
    dayEnd: Date.UTC(year, month, day + 1),
    monthEnd: Date.UTC(year, month + 1, 1),
  };
}
