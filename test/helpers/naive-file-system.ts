/**
 * What a file system is, in plain objects: the naive twin of fuse-fs/file-system.ts for random tests. Slow and
 * short; knows names, links, modes, sizes and contents, extended attributes, orphans. Answers with 0 or a
 * negative errno, as the real one, and nodes are objects.
 */

/** A file of the twin. */
export interface NaiveNode {
  mode: number;
  uid: number;
  gid: number;
  links: number;
  opens: number;
  /** Entries of a directory, in the order in which they came. */
  entries: Map<string, NaiveNode>;
  parent: NaiveNode | undefined;
  bytes: Buffer;
  target: string;
  attributes: Map<string, string>;
}

const DIRECTORY = 0o040000;

function node(mode: number, uid: number, gid: number): NaiveNode {
  return {
    mode,
    uid,
    gid,
    links: 1,
    opens: 0,
    entries: new Map(),
    parent: undefined,
    bytes: Buffer.alloc(0),
    target: '',
    attributes: new Map(),
  };
}

/** True for a directory. */
export function isDirectory(of: NaiveNode): boolean {
  return (of.mode & 0o170000) === DIRECTORY;
}

/** See the top of the file. */
export class NaiveFileSystem {
  readonly root = node(DIRECTORY | 0o755, 0, 0);

  constructor() {
    this.root.parent = this.root;
    this.root.links = 2;
  }

  make(
    directory: NaiveNode,
    name: string,
    mode: number,
    uid: number,
    gid: number,
    target = '',
  ): NaiveNode | number {
    const error = this.#directoryError(directory);
    if (error !== 0) return error;
    if (directory.entries.has(name)) return -17;
    const sets = (directory.mode & 0o2000) !== 0;
    const made = node(mode, uid, sets ? directory.gid : gid);
    if (isDirectory(made)) {
      if (sets) made.mode |= 0o2000;
      made.links = 2;
      made.parent = directory;
      directory.links += 1;
    }
    made.target = target;
    directory.entries.set(name, made);
    return made;
  }

  link(file: NaiveNode, directory: NaiveNode, name: string): number {
    const error = this.#directoryError(directory);
    if (error !== 0) return error;
    if (directory.entries.has(name)) return -17;
    if (isDirectory(file)) return -1;
    if (file.links === 0) return -2;
    file.links += 1;
    directory.entries.set(name, file);
    return 0;
  }

  unlink(directory: NaiveNode, name: string): number {
    const error = this.#directoryError(directory);
    if (error !== 0) return error;
    const file = directory.entries.get(name);
    if (file === undefined) return -2;
    if (isDirectory(file)) return -21;
    directory.entries.delete(name);
    file.links -= 1;
    return 0;
  }

  removeDirectory(directory: NaiveNode, name: string): number {
    const error = this.#directoryError(directory);
    if (error !== 0) return error;
    const file = directory.entries.get(name);
    if (file === undefined) return -2;
    if (!isDirectory(file)) return -20;
    if (file.entries.size > 0) return -39;
    directory.entries.delete(name);
    directory.links -= 1;
    file.links = 0;
    return 0;
  }

  rename(from: NaiveNode, name: string, to: NaiveNode, newName: string, flags: number): number {
    if (flags === 3 || flags > 4) return -22;
    const error = this.#directoryError(from) || this.#directoryError(to);
    if (error !== 0) return error;
    const file = from.entries.get(name);
    const old = to.entries.get(newName);
    if (file === undefined) return -2;
    if (flags === 2 && old === undefined) return -2;
    if (flags === 1 && old !== undefined) return -17;
    if (this.#isWithin(to, file)) return -22;
    if (file === old) return 0;
    if (flags === 2 && old !== undefined) {
      if (this.#isWithin(from, old)) return -22;
      from.entries.set(name, old);
      to.entries.set(newName, file);
      this.#moved(old, to, from);
      this.#moved(file, from, to);
      return 0;
    }
    if (old !== undefined) {
      if (isDirectory(file) && !isDirectory(old)) return -20;
      if (!isDirectory(file) && isDirectory(old)) return -21;
      if (old.entries.size > 0) return -39;
      if (isDirectory(old)) {
        old.links = 0;
        to.links -= 1;
      } else old.links -= 1;
    }
    // A Map keeps the place of a key that is set again, as the real directory does.
    to.entries.set(newName, file);
    if (flags === 4) {
      const whiteout = node(0o020000, 0, (from.mode & 0o2000) !== 0 ? from.gid : 0);
      from.entries.set(name, whiteout);
    } else from.entries.delete(name);
    this.#moved(file, from, to);
    return 0;
  }

  write(file: NaiveNode, offset: number, bytes: Buffer): number {
    const grown = Buffer.alloc(Math.max(file.bytes.length, offset + bytes.length));
    file.bytes.copy(grown);
    bytes.copy(grown, offset);
    file.bytes = grown;
    return bytes.length;
  }

  truncate(file: NaiveNode, size: number): void {
    const cut = Buffer.alloc(size);
    file.bytes.copy(cut);
    file.bytes = cut;
  }

  #directoryError(directory: NaiveNode): number {
    if (!isDirectory(directory)) return -20;
    return directory.links === 0 ? -2 : 0;
  }

  #isWithin(directory: NaiveNode, above: NaiveNode): boolean {
    let at = directory;
    while (at !== above && at.parent !== undefined && at.parent !== at) at = at.parent;
    return at === above;
  }

  #moved(file: NaiveNode, from: NaiveNode, to: NaiveNode): void {
    if (from === to || !isDirectory(file)) return;
    file.parent = to;
    from.links -= 1;
    to.links += 1;
  }
}
