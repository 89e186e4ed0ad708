/**
 * Which mounts this memnode has, beside the RPC socket. The next memnode reads it when this one was
 * killed: then the child of a mount unmounts by itself, but one that was killed too, or is stopped, leaves a
 * mount that answers nobody. A mount is told from somebody else's by its directory together with the
 * device number that the kernel gave it, a process by when it was started, and both by the boot.
 */
import fs from 'node:fs';
import * as v from 'valibot';
import { readBootId } from './boot-id.ts';
import { replaceFile } from './replace-file.ts';

const RECORD = v.object({
  directory: v.pipe(v.string(), v.startsWith('/')),
  device: v.pipe(v.string(), v.regex(/^\d+:\d+$/)),
  pid: v.pipe(v.number(), v.integer(), v.minValue(2)),
  started: v.string(),
});
const FILE = v.object({ version: v.literal(1), boot: v.string(), mounts: v.array(RECORD) });

/** A mount. */
export interface RegisteredMount {
  /** Where, without links. */
  readonly directory: string;
  /** `MAJOR:MINOR` of the mounted file system. */
  readonly device: string;
  /** The process that serves it. */
  readonly pid: number;
  /** When that was started, ticks since the boot. */
  readonly started: string;
}

/** Where the memnode of an RPC socket keeps its list. */
export function mountRegisterFile(socketPath: string): string {
  return `${socketPath}.mounts.json`;
}

/** The list. */
export class MountRegister {
  readonly #file: string;
  readonly #boot: string;
  #mounts: RegisteredMount[] = [];

  /**
   * @param file - where it is kept
   * @param boot - names this run of the machine
   */
  constructor(file: string, boot = readBootId()) {
    this.#file = file;
    this.#boot = boot;
  }

  /** Reads what the last process left; a file that is damaged or of another boot tells nothing. */
  load(): readonly RegisteredMount[] {
    this.#mounts = [];
    try {
      const found = v.parse(FILE, JSON.parse(fs.readFileSync(this.#file, 'utf8')));
      if (found.boot === this.#boot) this.#mounts = found.mounts;
    } catch {
      // No file is the rule; nobody's mount may be ended on a guess.
    }
    return [...this.#mounts];
  }

  /** What is in it. */
  list(): readonly RegisteredMount[] {
    return this.#mounts;
  }

  /** Adds a mount, in place of one at the same directory. */
  add(mount: RegisteredMount): void {
    this.#save([...this.#mounts.filter(({ directory }) => directory !== mount.directory), mount]);
  }

  /** Removes the mount at a directory. */
  remove(directory: string): void {
    if (!this.#mounts.some((mount) => mount.directory === directory)) return;
    this.#save(this.#mounts.filter((mount) => mount.directory !== directory));
  }

  /** Replaces the file, whole or not at all; removes it when nothing is left. */
  #save(mounts: RegisteredMount[]): void {
    this.#mounts = mounts;
    if (mounts.length === 0) return fs.rmSync(this.#file, { force: true });
    const text = JSON.stringify({ version: 1, boot: this.#boot, mounts }, undefined, 2);
    replaceFile(this.#file, `${text}\n`, 0o600);
  }
}
