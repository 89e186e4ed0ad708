/**
 * The open files that go from one daemon to the next: sockets, which stay open in the first until it
 * ends, and memory that was made for the purpose. Both sides name them by their place in the list.
 */
import fs from 'node:fs';
import { MemcloudError } from '../../common/errors.ts';
import { MemoryFile } from '../../common/memory-file.ts';

/** What is to be handed over, gathered by the daemon that has it. */
export class Luggage {
  readonly #descriptors: number[] = [];
  readonly #files: MemoryFile[] = [];
  #unread: { readonly bytes: Uint8Array; readonly at: number }[] = [];
  #unreadLength = 0;

  /** Every descriptor, in order. */
  get descriptors(): readonly number[] {
    return this.#descriptors;
  }

  /** Bytes of memory in it. */
  get sizeBytes(): number {
    return this.#files.reduce((sum, { bytes }) => sum + bytes.length, 0);
  }

  /** True when all of its memory is kept in RAM. */
  get locked(): boolean {
    return this.#files.every(({ locked }) => locked);
  }

  /** Adds a socket. @returns its place. @throws MemcloudError `ERR_INTERNAL` when it is closed */
  add(fd: number): number {
    if (fd < 0) throw new MemcloudError('ERR_INTERNAL', 'a socket to hand over is closed');
    return this.#descriptors.push(fd) - 1;
  }

  /** Makes memory and adds it. @returns its place and the memory, ours to fill */
  addMemory(name: string, sizeBytes: number): { place: number; file: MemoryFile } {
    const file = MemoryFile.create(name, sizeBytes);
    this.#files.push(file);
    return { place: this.add(file.fd), file };
  }

  /** Notes bytes that a client sent and nobody has handled. @returns where they will lie */
  addUnread(bytes: Uint8Array): number {
    const at = this.#unreadLength;
    this.#unread.push({ bytes, at });
    this.#unreadLength += bytes.length;
    return at;
  }

  /** Writes all unread bytes into one memory; null when there are none. @returns its place */
  packUnread(): number | null {
    if (this.#unreadLength === 0) return null;
    const { place, file } = this.addMemory('memcloud-unread', this.#unreadLength);
    for (const { bytes, at } of this.#unread) file.bytes.set(bytes, at);
    this.#unread = [];
    return place;
  }

  /** Lets go of the memory made here; zeroes it unless somebody else has it now. */
  discard(keep: boolean): void {
    for (const file of this.#files.splice(0)) {
      if (!keep) file.wipe();
      file.close();
    }
  }
}

/** What was handed over, in the daemon that has it now. */
export class Inheritance {
  readonly #descriptors: (number | undefined)[];

  /** @param descriptors - ours from now on */
  constructor(descriptors: readonly number[]) {
    this.#descriptors = [...descriptors];
  }

  /** Takes a descriptor out. @throws MemcloudError `ERR_HANDOVER` when there is none at the place */
  take(place: number): number {
    const fd = this.#descriptors[place];
    if (fd === undefined) {
      throw new MemcloudError('ERR_HANDOVER', `handover: there is no descriptor ${place}`);
    }
    this.#descriptors[place] = undefined;
    return fd;
  }

  /** Takes memory out, mapped; the caller closes it. */
  takeMemory(place: number): MemoryFile {
    return MemoryFile.adopt(this.take(place));
  }

  /** Closes what nobody took. */
  close(): void {
    for (const fd of this.#descriptors.splice(0)) if (fd !== undefined) fs.closeSync(fd);
  }
}
