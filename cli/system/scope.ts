/**
 * An existing control group as the scope of pool swap: which one is meant, whether it may be, and
 * its limits, set and given back. The one thing to be careful about: a `memory.max` below what the
 * group uses makes the kernel kill in it. So the group is squeezed by `memory.high` first, which only
 * ever slows and swaps, and `memory.max` comes when it fits.
 */
import fs from 'node:fs';
import path from 'node:path';
import { CGROUP_ROOT, groupOfProcess, groupValue } from '../../common/control-group.ts';
import { MemcloudError } from '../../common/errors.ts';
import { withoutIoFlusher } from '../../common/kit.ts';
import { formatSize } from '../../common/units.ts';
import { SQUEEZE_STEP_BYTES } from './guard-machine.ts';

/** Groups are looked for by name no deeper than this, and no more of them are kept. */
const SEARCH_DEPTH_MAX = 12;
const LIMIT_FILES = ['memory.max', 'memory.high', 'memory.swap.max'] as const;
const OWN_GROUP = /^\/memcloud-(run|kit)-/;
/** A squeeze that frees nothing for so long has failed. */
const SQUEEZE_PATIENCE_MS = 30_000;
const SQUEEZE_POLL_MS = 50;

/** Every group whose last component is one of the names, as paths below the mount. */
function groupsNamed(names: readonly string[], root: string): string[] {
  const found: string[] = [];
  const walk = (group: string, depth: number): void => {
    let entries: fs.Dirent[];
    try {
      entries = fs.readdirSync(path.join(root, group), { withFileTypes: true });
    } catch {
      return;
    }
    for (const entry of entries) {
      if (!entry.isDirectory()) continue;
      const child = path.posix.join(group, entry.name);
      if (names.includes(entry.name)) found.push(child);
      if (depth < SEARCH_DEPTH_MAX) walk(child, depth + 1);
    }
  };
  walk('/', 1);
  return found;
}

/**
 * The group that words mean.
 *
 * @param words - a path (`/sys/fs/cgroup/a/b`, or `/a/b` below the mount), or the name of a systemd
 *   unit; without a suffix a service
 * @returns its path below the mount
 * @throws MemcloudError `ERR_USAGE` when there is none or more than one
 */
export function findScope(words: string, root: string = CGROUP_ROOT): string {
  if (words.startsWith('/')) {
    const inside = words === root || words.startsWith(`${root}/`);
    const group = path.posix.normalize(inside ? words.slice(root.length) || '/' : words);
    const plain = group === '/' ? group : group.replace(/\/$/, '');
    if (fs.existsSync(path.join(root, plain, 'cgroup.procs'))) return plain;
    throw new MemcloudError('ERR_USAGE', `--scope: there is no control group ${plain}`);
  }
  const names = /\.(service|scope|slice)$/.test(words) ? [words] : [words, `${words}.service`];
  const found = groupsNamed(names, root);
  const [first, ...others] = found;
  if (first === undefined) {
    throw new MemcloudError(
      'ERR_USAGE',
      `--scope: no running unit or control group is called ${words}; start it first, or name its path`,
    );
  }
  if (others.length > 0) {
    throw new MemcloudError(
      'ERR_USAGE',
      `--scope: ${words} may be any of ${found.join(', ')}; name the path`,
    );
  }
  return first;
}

function holds(scope: string, group: string | undefined): boolean {
  return group !== undefined && (scope === '/' || group === scope || group.startsWith(`${scope}/`));
}

/**
 * Why a group may not be a scope; undefined when it may.
 *
 * @param scope - as {@link findScope} returned it
 * @param inside - who must stay outside: what it is, and its group
 */
export function scopeProblem(
  scope: string,
  inside: readonly { what: string; group: string | undefined }[],
): string | undefined {
  if (scope === '/') return 'the root group is the whole machine; name one unit';
  if (scope.split('/').includes('memcloud.slice')) {
    return 'memcloud.slice is for the daemon, which must never swap onto itself';
  }
  if (OWN_GROUP.test(scope)) return `${scope} belongs to a memcloud command already`;
  const held = inside.find(({ group }) => holds(scope, group));
  return held && `${scope} holds ${held.what}, which must never wait for the swap it serves`;
}

/** @throws MemcloudError `ERR_USAGE` with the reason when a group may not be a scope */
export function checkScope(scope: string, memnodePid: number, root: string = CGROUP_ROOT): void {
  const problem = scopeProblem(scope, [
    { what: 'memnode', group: groupOfProcess(`/proc/${memnodePid}`) },
    { what: 'this command', group: groupOfProcess('/proc/self') },
    { what: 'process 1', group: groupOfProcess('/proc/1') },
  ]);
  if (problem !== undefined) throw new MemcloudError('ERR_USAGE', `--scope: ${problem}`);
  if (!fs.existsSync(path.join(root, scope, 'memory.max'))) {
    throw new MemcloudError(
      'ERR_UNSUPPORTED',
      `--scope: ${scope} has no memory controller; set MemoryAccounting=yes for the unit`,
    );
  }
}

/** The limits of a group, as its files have them: bytes in digits, or `max`. */
export type GroupLimits = Readonly<Record<(typeof LIMIT_FILES)[number], string>>;

/** True for what {@link readLimits} can have returned. */
export function areLimits(value: unknown): value is GroupLimits {
  if (typeof value !== 'object' || value === null) return false;
  const limits = value as Record<string, unknown>;
  return LIMIT_FILES.every((file) => /^(max|\d+)$/.test(String(limits[file])));
}

function readLimits(directory: string): GroupLimits {
  const read = (file: string): string => fs.readFileSync(path.join(directory, file), 'utf8').trim();
  try {
    return Object.fromEntries(LIMIT_FILES.map((file) => [file, read(file)])) as GroupLimits;
  } catch (cause) {
    throw new MemcloudError('ERR_NATIVE', `cannot read the limits of ${directory}`, { cause });
  }
}

/** A group whose limits are ours for a while. */
export class ScopedGroup {
  /** Its directory. */
  readonly directory: string;
  /** Its limits as they were before us. */
  readonly before: GroupLimits;

  /**
   * Remembers the limits of a group.
   *
   * @param before - its limits, where another process of ours changed them already
   * @throws MemcloudError `ERR_NATIVE` when it is gone
   */
  constructor(directory: string, before: GroupLimits = readLimits(directory)) {
    this.directory = directory;
    this.before = before;
  }

  /** True while the group exists. */
  get exists(): boolean {
    return fs.existsSync(this.directory);
  }

  /** The most memory that the group used since it was made, bytes; 0 where the kernel does not tell. */
  get peakBytes(): number {
    return groupValue(this.directory, 'memory.peak') ?? 0;
  }

  /**
   * Squeezes the group to `memoryBytes` and sets its limits.
   *
   * @param signal - ends the squeeze early
   * @throws MemcloudError `ERR_CANCELLED`, `ERR_TIMEOUT` when nothing more can be squeezed out,
   *   `ERR_NATIVE`
   */
  async limit(
    limits: { memoryBytes: number; swapBytes: number },
    signal: AbortSignal,
  ): Promise<void> {
    const { memoryBytes, swapBytes } = limits;
    const swappedBytes = groupValue(this.directory, 'memory.swap.current') ?? 0;
    this.#write('memory.swap.max', String(swappedBytes + swapBytes));
    let least = Infinity;
    for (let sinceMs = performance.now(); ;) {
      const usedBytes = groupValue(this.directory, 'memory.current') ?? 0;
      if (usedBytes <= memoryBytes) break;
      if (signal.aborted) throw new MemcloudError('ERR_CANCELLED', 'ended while squeezing');
      if (usedBytes < least) {
        least = usedBytes;
        sinceMs = performance.now();
      } else if (performance.now() - sinceMs > SQUEEZE_PATIENCE_MS) {
        throw new MemcloudError(
          'ERR_TIMEOUT',
          `${this.directory} cannot be squeezed below ${formatSize(least)}; give it more --memory`,
        );
      }
      const highBytes = Math.max(memoryBytes, usedBytes - SQUEEZE_STEP_BYTES);
      withoutIoFlusher(() => this.#write('memory.high', String(highBytes)));
      await new Promise((resolve) => setTimeout(resolve, SQUEEZE_POLL_MS));
    }
    this.#write('memory.max', String(memoryBytes));
  }

  /** Gives the group its old limits; nothing when it is gone. @throws MemcloudError `ERR_NATIVE` */
  restore(): void {
    if (!this.exists) return;
    for (const file of LIMIT_FILES) this.#write(file, this.before[file]);
  }

  #write(file: string, text: string): void {
    try {
      fs.writeFileSync(path.join(this.directory, file), text);
    } catch (cause) {
      throw new MemcloudError('ERR_NATIVE', `cannot set ${file} of ${this.directory}`, { cause });
    }
  }
}
