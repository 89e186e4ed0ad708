/**
 * The watches of the embedded store: a bounded history of changes in memory and those who follow it.
 * A watch that begins behind the history has lost changes, and is told so. Pure but for the callbacks.
 */
import type { MetaChange, MetaWatcher } from './meta-store.ts';

/** Changes that are kept for watches that begin late. */
export const HISTORY_COUNT_MAX = 10_000;
/** Characters of keys and values in them. */
export const HISTORY_LENGTH_MAX = 16 * 1024 * 1024;

interface Watch {
  readonly prefix: string;
  readonly watcher: MetaWatcher;
  /** The revision that it was told last. */
  seen: number;
  /** True until it was told what it missed. */
  fresh: boolean;
}

const lengthOf = (change: MetaChange): number => change.key.length + (change.value?.length ?? 0);

/** See the top of the file. */
export class LmdbChanges {
  readonly #history: MetaChange[] = [];
  readonly #watches = new Set<Watch>();
  readonly #countMax: number;
  /** Changes at the start of `#history` that are given up. */
  #dropped = 0;
  #length = 0;
  /** The history is whole above this revision. */
  #base: number;

  /** @param revision - of the store now: nothing before it is known */
  constructor(revision: number, countMax: number = HISTORY_COUNT_MAX) {
    this.#base = revision;
    this.#countMax = countMax;
  }

  /** Takes the changes of one revision and tells them. */
  publish(changes: readonly MetaChange[]): void {
    for (const change of changes) {
      this.#history.push(change);
      this.#length += lengthOf(change);
    }
    for (const watch of [...this.#watches]) {
      if (!watch.fresh) this.#tell(watch, changes);
    }
    this.#trim();
  }

  /** See `MetaStore.watch`. */
  watch(prefix: string, after: number, watcher: MetaWatcher): () => void {
    const watch: Watch = { prefix, watcher, seen: after, fresh: true };
    this.#watches.add(watch);
    queueMicrotask(() => {
      this.#begin(watch);
    });
    return () => {
      this.#watches.delete(watch);
    };
  }

  /** Every watch is lost. */
  close(): void {
    for (const watch of [...this.#watches]) this.#lose(watch);
  }

  #begin(watch: Watch): void {
    if (!this.#watches.has(watch)) return;
    watch.fresh = false;
    if (watch.seen < this.#base) {
      this.#lose(watch);
      return;
    }
    this.#tell(watch, this.#history.slice(this.#dropped));
  }

  #tell(watch: Watch, changes: readonly MetaChange[]): void {
    const news = changes.filter(
      ({ key, revision }) => revision > watch.seen && key.startsWith(watch.prefix),
    );
    watch.seen = Math.max(watch.seen, changes.at(-1)?.revision ?? 0);
    if (news.length > 0 && this.#watches.has(watch)) watch.watcher.onChanges(news);
  }

  #lose(watch: Watch): void {
    if (this.#watches.delete(watch)) watch.watcher.onLost();
  }

  /** Gives up the oldest revisions, each whole. */
  #trim(): void {
    while (
      this.#history.length - this.#dropped > this.#countMax ||
      this.#length > HISTORY_LENGTH_MAX
    ) {
      const revision = this.#history[this.#dropped]?.revision;
      if (revision === undefined) break;
      this.#base = revision;
      for (;;) {
        const change = this.#history[this.#dropped];
        if (change?.revision !== revision) break;
        this.#length -= lengthOf(change);
        this.#dropped += 1;
      }
    }
    if (this.#dropped < this.#countMax) return;
    this.#history.splice(0, this.#dropped);
    this.#dropped = 0;
  }
}
