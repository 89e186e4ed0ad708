/**
 * Which kernel devices lead to volumes of this memnode, beside the RPC socket. The next memnode reads
 * it when this one was killed: the volumes died with it, their keys were nowhere else, and the kernel
 * would keep the requests of such a device waiting for a server that cannot come. It is to fail them.
 * A device is told from a later one of the same name by the user that the kernel names, and by the boot.
 */
import fs from 'node:fs';
import * as v from 'valibot';
import { replaceFile } from '../common/replace-file.ts';
import { readBootId } from '../common/boot-id.ts';

const RECORD = v.object({
  device: v.pipe(v.string(), v.regex(/^\/dev\/nbd\d{1,5}$/)),
  user: v.pipe(v.number(), v.safeInteger()),
});
const FILE = v.object({ version: v.literal(1), boot: v.string(), devices: v.array(RECORD) });

/** A device. */
export interface AttachedDevice {
  /** `/dev/nbdN`. */
  readonly device: string;
  /** The process, or thread, that the kernel names as its user since it was attached. */
  readonly user: number;
}

/** The list. */
export class AttachedDevices {
  readonly #file: string;
  readonly #boot: string;
  #devices: AttachedDevice[] = [];

  /**
   * @param file - where it is kept
   * @param boot - names this run of the machine
   */
  constructor(file: string, boot = readBootId()) {
    this.#file = file;
    this.#boot = boot;
  }

  /** Reads what the last process left; a file that is damaged or of another boot tells nothing. */
  load(): readonly AttachedDevice[] {
    this.#devices = [];
    try {
      const found = v.parse(FILE, JSON.parse(fs.readFileSync(this.#file, 'utf8')));
      if (found.boot === this.#boot) this.#devices = found.devices;
    } catch {
      // No file is the rule; nobody's device may be ended on a guess.
    }
    return [...this.#devices];
  }

  /** Adds a device. */
  add(attached: AttachedDevice): void {
    this.#save([...this.#devices.filter(({ device }) => device !== attached.device), attached]);
  }

  /** Removes a device. */
  remove(device: string): void {
    this.#save(this.#devices.filter((attached) => attached.device !== device));
  }

  /** Replaces the file, whole or not at all; removes it when nothing is left. */
  #save(devices: AttachedDevice[]): void {
    this.#devices = devices;
    if (devices.length === 0) return fs.rmSync(this.#file, { force: true });
    const text = JSON.stringify({ version: 1, boot: this.#boot, devices }, undefined, 2);
    replaceFile(this.#file, `${text}\n`, 0o600);
  }
}
