import { type Driver, drivers, loadDriver } from "../../src/state/sqlite/database.ts";

/** The SQLite libraries that can be tested here; says which one is missing. */
export async function availableDrivers(): Promise<Driver[]> {
  const available: Driver[] = [];
  for (const driver of drivers) {
    try {
      await loadDriver([driver]);
      available.push(driver);
    } catch {
      process.stderr.write(`${driver} is not here (Node ${process.version}): its tests are not run\n`);
    }
  }
  return available;
}
