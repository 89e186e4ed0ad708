/**
 * Which files have lost bytes, by the names that people know them by. Looks at every inode, and at the
 * names only if one is damaged: for a status, not for a request.
 */
import { isDirectory, isRegular } from './file-mode.ts';
import type { Tree } from './tree.ts';
import { ROOT_SLOT } from './tree.ts';

/** Files of which bytes are lost. */
export interface DamagedFiles {
  /** How many, those without a name among them. */
  readonly count: number;
  /** One path of each, from the root of the file system on, as UTF-8; not more than asked for. */
  readonly paths: readonly string[];
}

/** Finds the damaged files. @param limit - paths at most */
export function damagedPaths(tree: Tree, limit: number): DamagedFiles {
  const damaged = new Set<number>();
  let count = 0;
  for (let slot = 0; slot < tree.inodes.slotEnd; slot += 1) {
    if (!tree.inodes.isLive(slot) || !isRegular(tree.inodes.mode(slot))) continue;
    if (!tree.store.isDamaged(slot)) continue;
    count += 1;
    if (damaged.size < limit) damaged.add(slot);
  }
  const paths: string[] = [];
  if (damaged.size > 0) collectPaths(tree, damaged, paths);
  return { count, paths };
}

/** Walks all directories, depth by depth, until each file has a path. */
function collectPaths(tree: Tree, damaged: Set<number>, paths: string[]): void {
  const directories = [ROOT_SLOT];
  const prefixes = ['/'];
  for (let index = 0; index < directories.length && damaged.size > 0; index += 1) {
    const prefix = prefixes[index] as string;
    let entry = tree.dentries.first(directories[index] as number);
    for (; entry !== -1; entry = tree.dentries.next(entry)) {
      const child = tree.dentries.child(entry);
      if (isDirectory(tree.inodes.mode(child))) {
        directories.push(child);
        prefixes.push(`${prefix}${tree.dentries.name(entry)}/`);
      } else if (damaged.delete(child)) {
        paths.push(Buffer.from(prefix + tree.dentries.name(entry), 'latin1').toString('utf8'));
      }
    }
  }
}
