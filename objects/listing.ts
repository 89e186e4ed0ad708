/**
 * One page of a listing: names in order, from where the last page ended. The cursor is the last name, so it
 * stays good whatever comes and goes. A page ends when it has its names or when it took
 * {@link PAGE_STEP_COUNT_MAX} steps, then perhaps without a single object: whoever lists goes on until the
 * cursor is null. Patterns that begin with text let the walk jump over what cannot fit.
 */
import { MemcloudError } from '../common/errors.ts';
import {
  OBJECT_KEY_SIZE_MAX_BYTES,
  OBJECT_LIST_COUNT_MAX,
  OBJECT_PATTERN_COUNT_MAX,
  type ObjectInfo,
  type ObjectListing,
  type ObjectName,
  type ObjectQuery,
} from '../common/objects.ts';
import type { NodeId } from '../common/ports.ts';
import { checkWhole, usageError } from './arguments.ts';
import { readBlockId } from './block-id.ts';
import { infoOf, mayRead, publicName, type StoreCore } from './core.ts';
import { Glob } from './glob.ts';
import type { NameWalk, SortedNames } from './sorted-names.ts';

/** Characters of a pattern at most, and of all of a listing: one key takes at most their product with its own. */
const PATTERN_LENGTH_MAX = OBJECT_KEY_SIZE_MAX_BYTES;
const PATTERNS_LENGTH_MAX = 2 * PATTERN_LENGTH_MAX;
/** Steps of a page: looks at a name, or at a character of one. Some ten milliseconds. */
export const PAGE_STEP_COUNT_MAX = 400_000;

/** The cursor of a page that ends with this object, for those who shorten one. */
export function cursorAfter(name: ObjectName): string {
  return name.kind === 'key' ? `k${name.key}` : `b${name.id}`;
}

/**
 * `ObjectHolder.list` of `requester`.
 *
 * @throws MemcloudError `ERR_USAGE`
 */
export function listObjects(core: StoreCore, requester: NodeId, query: ObjectQuery): ObjectListing {
  return new Page(core, requester, query).fill();
}

class Page {
  readonly #core: StoreCore;
  readonly #requester: NodeId;
  readonly #kind: 'key' | 'block' | 'all';
  readonly #globs: readonly Glob[];
  readonly #cursor: string;
  readonly #countMax: number;
  readonly #objects: ObjectInfo[] = [];
  readonly #nowMs: number;
  #steps = 0;
  #isFull = false;
  /** The name that was looked at last. */
  #lastCursor: string | null = null;

  constructor(core: StoreCore, requester: NodeId, query: ObjectQuery) {
    const { kind = 'key', patterns = [], cursor = 'k', countMax = OBJECT_LIST_COUNT_MAX } = query;
    if (kind !== 'key' && kind !== 'block' && kind !== 'all') {
      throw usageError('kind', 'key, block or all', kind);
    }
    checkWhole('countMax', countMax, 1, OBJECT_LIST_COUNT_MAX);
    this.#core = core;
    this.#requester = requester;
    this.#kind = kind;
    this.#globs = readPatterns(patterns);
    this.#cursor = cursor;
    this.#countMax = countMax;
    this.#nowMs = core.clock.nowMs();
  }

  fill(): ObjectListing {
    const { visible } = this.#core.table;
    const place = readCursor(this.#cursor);
    const lastBlock = typeof place === 'number' ? place : undefined;
    if (this.#kind !== 'block' && typeof place === 'string') {
      this.#walk(visible.keys(this.#requester), place, (key, walks) => this.#fits(key, walks));
    }
    // A pattern is one of keys, and no block has one.
    if (this.#kind !== 'key' && this.#globs.length === 0 && !this.#isFull) {
      this.#walk(visible.blocks(this.#requester), lastBlock, () => true);
    }
    return { objects: this.#objects, cursor: this.#isFull ? this.#lastCursor : null };
  }

  #walk<Name extends string | number>(
    rows: readonly SortedNames<Name>[],
    from: Name | undefined,
    fits: (name: Name, walks: readonly NameWalk<Name>[]) => boolean,
  ): void {
    const walks = rows.map((names) => names.walk(from, true));
    for (;;) {
      const walk = lowest(walks);
      const name = walk?.current;
      if (walk === undefined || name === undefined) return;
      if (this.#objects.length === this.#countMax || this.#steps > PAGE_STEP_COUNT_MAX) {
        this.#isFull = this.#lastCursor !== null;
        if (this.#isFull) return;
      }
      this.#steps += 1;
      if (fits(name, walks)) this.#take(name);
      // A jump has moved it already.
      if (walk.current === name) {
        this.#lastCursor = cursorAfter(publicName(this.#core, name));
        walk.advance();
      }
    }
  }

  #take(name: string | number): void {
    const { table } = this.#core;
    const row = table.find(name);
    if (row === undefined || table.endMsOf(row) <= this.#nowMs) return;
    if (mayRead(this.#core, row, this.#requester)) {
      this.#objects.push(infoOf(this.#core, row, this.#nowMs));
    }
  }

  /** Whether a key fits; when nothing that begins like it could, the walks jump to what might. */
  #fits(key: string, walks: readonly NameWalk<string>[]): boolean {
    if (this.#globs.length === 0) return true;
    const before = this.#globs.reduce((sum, glob) => sum + glob.steps, 0);
    const isFit = this.#globs.some((glob) => glob.matches(key));
    this.#steps += this.#globs.reduce((sum, glob) => sum + glob.steps, 0) - before;
    if (isFit || this.#globs.some((glob) => key.startsWith(glob.prefix))) return isFit;
    const above = this.#globs.map((glob) => glob.prefix).filter((prefix) => prefix > key);
    const target = above.reduce<string | undefined>(
      (least, prefix) => (least === undefined || prefix < least ? prefix : least),
      undefined,
    );
    for (const walk of walks) walk.seek(target ?? LAST_KEY, target === undefined);
    return false;
  }
}

/** No key is above it: no text of 1024 bytes has a greater code unit anywhere. */
const LAST_KEY = '\uffff'.repeat(OBJECT_KEY_SIZE_MAX_BYTES);

function lowest<Name extends string | number>(
  walks: readonly NameWalk<Name>[],
): NameWalk<Name> | undefined {
  let least: NameWalk<Name> | undefined;
  for (const walk of walks) {
    const name = walk.current;
    const leastName = least?.current;
    if (name !== undefined && (leastName === undefined || name < leastName)) least = walk;
  }
  return least;
}

function readPatterns(patterns: readonly string[]): Glob[] {
  if (!Array.isArray(patterns) || patterns.length > OBJECT_PATTERN_COUNT_MAX) {
    throw usageError('patterns', `at most ${OBJECT_PATTERN_COUNT_MAX}`, patterns.length);
  }
  let length = 0;
  return patterns.map((pattern: string) => {
    if (typeof pattern !== 'string' || pattern.length > PATTERN_LENGTH_MAX) {
      throw usageError('pattern', `at most ${PATTERN_LENGTH_MAX} characters`, pattern.length);
    }
    length += pattern.length;
    if (length > PATTERNS_LENGTH_MAX) {
      throw usageError('patterns', `at most ${PATTERNS_LENGTH_MAX} characters together`, length);
    }
    return new Glob(pattern);
  });
}

/** The key, or the own bits of the block, behind which the page begins; a key may be empty. */
function readCursor(cursor: string): string | number {
  const isText = typeof cursor === 'string' && cursor.length <= OBJECT_KEY_SIZE_MAX_BYTES + 1;
  if (isText && cursor.startsWith('k')) return cursor.slice(1);
  const block = isText && cursor.startsWith('b') ? readBlockId(cursor.slice(1)) : undefined;
  if (block !== undefined) return block.own;
  throw new MemcloudError('ERR_USAGE', 'cursor: expected one that a listing returned');
}
