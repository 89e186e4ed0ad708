/**
 * Who guards on this machine: a file for each guard, named by its process. Guards of different
 * processes look at the same free memory; each takes its part of it, so each must know how many
 * there are. A guard that was killed leaves its file; it is removed when the next one comes.
 */
import fs from 'node:fs';
import path from 'node:path';
import { makeDirectory } from '../../common/directory.ts';

const REGISTER = '/run/memcloud-guards';

/** This process's entry. */
export class GuardRegister {
  readonly #folder: string;
  readonly #file: string;

  /** Enters this process and removes the entries of dead ones. A folder that cannot be made is no harm. */
  constructor(folder: string = REGISTER) {
    this.#folder = folder;
    this.#file = path.join(folder, String(process.pid));
    try {
      makeDirectory(folder, 0o755);
      for (const name of fs.readdirSync(folder)) {
        if (!fs.existsSync(`/proc/${name}`)) fs.rmSync(path.join(folder, name), { force: true });
      }
      fs.writeFileSync(this.#file, '');
    } catch {
      // Then each guard takes itself for the only one, and the reserve has to bear it.
    }
  }

  /** Guards of living processes now, this one included; at least 1. */
  count(): number {
    try {
      const names = fs.readdirSync(this.#folder);
      return Math.max(1, names.filter((name) => fs.existsSync(`/proc/${name}`)).length);
    } catch {
      return 1;
    }
  }

  /** Removes the entry. */
  leave(): void {
    fs.rmSync(this.#file, { force: true });
  }
}
