/**
 * From paths, which libfuse's high-level interface speaks, to nodes. A walk looks up name by name, as
 * the kernel would, and what it looked up it gives back: the parent while it goes on, the node when the
 * caller's work on it is done. Symbolic links need no care: the kernel follows them.
 *
 * The package turns names into text by UTF-8 and puts U+FFFD for what is not; two such names would be
 * one, so no such name is ever made.
 */
import { Errno } from './errno.ts';
import { ROOT_NODEID, type FileOperations } from './operations.ts';

const REPLACEMENT = '\uFFFD';
const NOT_ASCII = /[^\0-\x7F]/;

/** Text to one character for each byte of its UTF-8. */
export function bytesOfText(text: string): string {
  return NOT_ASCII.test(text) ? Buffer.from(text, 'utf8').toString('latin1') : text;
}

/** The way back. */
export function textOfBytes(bytes: string): string {
  return NOT_ASCII.test(bytes) ? Buffer.from(bytes, 'latin1').toString('utf8') : bytes;
}

/** Nodes by path. */
export class NativePaths {
  readonly #files: FileOperations;

  constructor(files: FileOperations) {
    this.#files = files;
  }

  /**
   * Does `work` on the node at `path`.
   *
   * @returns what `work` returns, or the negative errno with which the walk ended
   */
  at<T>(path: string, work: (nodeid: number) => T): T | number {
    const nodeid = this.take(path);
    if (nodeid < 0) return nodeid;
    try {
      return work(nodeid);
    } finally {
      this.giveBack(nodeid);
    }
  }

  /**
   * Does `work` on the directory that holds `path` and on the last name, which need not be there.
   *
   * @returns what `work` returns, or a negative errno: of the walk, or `EINVAL` for a name that is not UTF-8
   */
  in<T>(path: string, work: (parent: number, name: string) => T): T | number {
    const at = path.lastIndexOf('/');
    const name = path.slice(at + 1);
    if (name === '' || name.includes(REPLACEMENT)) return -Errno.EINVAL;
    return this.at(path.slice(0, at), (parent) => work(parent, bytesOfText(name)));
  }

  /** Finds a node, with one lookup that is to be given back. @returns nodeid, or a negative errno */
  take(path: string): number {
    let nodeid: number = ROOT_NODEID;
    if (path.includes(REPLACEMENT)) return -Errno.ENOENT;
    for (const name of path.split('/')) {
      if (name === '') continue;
      const next = this.#files.lookup(nodeid, bytesOfText(name));
      this.giveBack(nodeid);
      if (next < 0) return next;
      nodeid = next;
    }
    return nodeid;
  }

  /** Gives back one lookup. */
  giveBack(nodeid: number): void {
    if (nodeid !== ROOT_NODEID) this.#files.forget(nodeid, 1);
  }
}
