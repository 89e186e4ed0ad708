/**
 * The cache folder for what is slow to make: the unpacked kernel and the root image. An entry is
 * made beside its place and renamed into it, so that an entry is whole or absent and two processes
 * that make the same one do not meet.
 */
import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, readdir, rename, rm, stat } from 'node:fs/promises';
import { homedir } from 'node:os';
import path from 'node:path';

/** Age after which an abandoned half-made entry is removed. */
const PARTIAL_AGE_MAX_MS = 3_600_000;
const PARTIAL_MARK = '.partial-';

/** The default cache folder: `$XDG_CACHE_HOME/memcloud/guest` or `~/.cache/memcloud/guest`. */
export function defaultCacheFolder(): string {
  const base = process.env['XDG_CACHE_HOME'];
  const root = base !== undefined && path.isAbsolute(base) ? base : path.join(homedir(), '.cache');
  return path.join(root, 'memcloud', 'guest');
}

/**
 * Returns the path of entry `name`, which `make` fills when it is absent.
 *
 * @param make - makes a file or folder at the path that it gets
 */
export async function cacheEntry(
  folder: string,
  name: string,
  make: (target: string) => Promise<void>,
): Promise<string> {
  const place = path.join(folder, name);
  if (existsSync(place)) return place;
  await mkdir(folder, { recursive: true });
  const partial = `${place}${PARTIAL_MARK}${randomBytes(6).toString('hex')}`;
  try {
    await make(partial);
    await rename(partial, place);
  } catch (error) {
    if (!existsSync(place)) throw error;
  } finally {
    await rm(partial, { recursive: true, force: true });
  }
  return place;
}

/** Removes all but the `keepCount` newest entries that begin with `prefix`, and what a killed process left half made. */
export async function pruneCache(folder: string, prefix: string, keepCount: number): Promise<void> {
  const entries: { place: string; partial: boolean; ageMs: number }[] = [];
  for (const name of await readdir(folder)) {
    if (!name.startsWith(prefix)) continue;
    const place = path.join(folder, name);
    const { mtimeMs } = await stat(place).catch(() => ({ mtimeMs: 0 }));
    entries.push({ place, partial: name.includes(PARTIAL_MARK), ageMs: Date.now() - mtimeMs });
  }
  const whole = entries.filter((entry) => !entry.partial).sort((a, b) => a.ageMs - b.ageMs);
  const stale = entries.filter((entry) => entry.partial && entry.ageMs > PARTIAL_AGE_MAX_MS);
  for (const { place } of [...whole.slice(keepCount), ...stale]) {
    await rm(place, { recursive: true, force: true });
  }
}
