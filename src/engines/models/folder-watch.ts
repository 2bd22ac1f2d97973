import { type FSWatcher, watch } from "node:fs";

/** More folders are not watched: each takes a handle of the system, of which there are some thousand. */
const mostFolders = 512;

/** Watches folders, each alone: what "recursive" means differs between systems. */
export class FolderWatch {
  readonly #onChange: () => void;
  readonly #watchers = new Map<string, FSWatcher>();

  /** `onChange` is called for every change; it may be called without one, and none is promised on network drives. */
  constructor(onChange: () => void) {
    this.#onChange = onChange;
  }

  /** Watches these folders and no others from now on, and tells whether one is new; what cannot be watched is left out. */
  set(folders: readonly string[]): boolean {
    const wanted = new Set(folders.slice(0, mostFolders));
    for (const folder of this.#watchers.keys()) if (!wanted.has(folder)) this.#drop(folder);
    const before = this.#watchers.size;
    for (const folder of wanted) if (!this.#watchers.has(folder)) this.#add(folder);
    return this.#watchers.size > before;
  }

  close(): void {
    for (const folder of this.#watchers.keys()) this.#drop(folder);
  }

  #add(folder: string): void {
    try {
      const watcher = watch(folder, { persistent: false }, this.#onChange);
      // The folder went away, or the system has no handles left.
      watcher.on("error", () => {
        this.#drop(folder);
        this.#onChange();
      });
      this.#watchers.set(folder, watcher);
    } catch {
      // It does not exist (any more), or there are no handles left: the lister looks again by itself.
    }
  }

  #drop(folder: string): void {
    this.#watchers.get(folder)?.close();
    this.#watchers.delete(folder);
  }
}
