/**
 * What stands between a page and the place that keeps it. Both kinds take 4096 bytes and give 4112, and
 * open only as the version of the page that is asked for.
 *
 * *Sealed* (seal.ts) is the rule: the place is another machine, which must not read or forge a page.
 *
 * *Labelled* is for a volume whose only place is memory of its own process, as a mount or a volume with
 * `--provider local` alone: who could read that memory has the page already, in the client's buffer, so that a cipher
 * would hide it from nobody. The page is kept as it is, and the 16 bytes behind it say which page and
 * version it is, so that a mistake of our own still shows as a page that does not open.
 */
import { copyMemory } from '../common/libc.ts';
import { NativeMemory } from '../common/native-memory.ts';
import { MemcloudError } from '../common/errors.ts';
import { PAGE_SIZE_BYTES } from '../common/units.ts';

/** Makes pages ready to be kept, and reads them back. Pages and versions as in seal.ts. */
export interface PageGuard {
  /** Turns the 4096 bytes at the address `from` into 4112 at `to`. */
  seal(page: number, versionLow: number, versionHigh: number, from: number, to: number): void;
  /**
   * Turns the 4112 bytes at `from` back into 4096 at `to`.
   *
   * @returns false when they are not that version of that page; what is at `to` then means nothing
   */
  open(page: number, versionLow: number, versionHigh: number, from: number, to: number): boolean;
  /** As PageSealer.exportSecrets. */
  exportSecrets(into: Buffer): void;
  /** Destroys what is secret; no page is sealed or opened any more. */
  destroy(): void;
}

const LABEL_SIZE_BYTES = 16;
/** Never the first word of a page number's neighbour: `MCPL`, so that zeroed memory is no label. */
const LABEL_MAGIC = 0x4c50434d;

/** Keeps pages as they are, with a label; only for memory of this process. */
export class PageLabeller implements PageGuard {
  readonly #label = new NativeMemory(LABEL_SIZE_BYTES);
  readonly #words: Uint32Array;
  #destroyed = false;

  constructor() {
    const { buffer, byteOffset } = this.#label.bytes;
    this.#words = new Uint32Array(buffer, byteOffset, LABEL_SIZE_BYTES / 4);
    this.#words[0] = LABEL_MAGIC;
  }

  /** Copies the page and writes its label behind it. */
  seal(page: number, versionLow: number, versionHigh: number, from: number, to: number): void {
    this.#check();
    const words = this.#words;
    words[0] = LABEL_MAGIC;
    words[1] = page;
    words[2] = versionLow;
    words[3] = versionHigh;
    copyMemory(to, from, PAGE_SIZE_BYTES);
    copyMemory(to + PAGE_SIZE_BYTES, this.#label.address, LABEL_SIZE_BYTES);
  }

  /** Copies the page back if its label is the one that is asked for. */
  open(page: number, versionLow: number, versionHigh: number, from: number, to: number): boolean {
    this.#check();
    const words = this.#words;
    copyMemory(this.#label.address, from + PAGE_SIZE_BYTES, LABEL_SIZE_BYTES);
    const fits =
      words[0] === LABEL_MAGIC &&
      words[1] === page >>> 0 &&
      words[2] === versionLow >>> 0 &&
      words[3] === versionHigh >>> 0;
    if (fits) copyMemory(to, from, PAGE_SIZE_BYTES);
    return fits;
  }

  /** There are none: such a volume is never handed to another process. */
  exportSecrets(): void {
    throw new MemcloudError('ERR_INTERNAL', 'a volume of labelled pages has no secrets');
  }

  /** Ends it. */
  destroy(): void {
    if (this.#destroyed) return;
    this.#destroyed = true;
    this.#label.free();
  }

  #check(): void {
    if (this.#destroyed) throw new MemcloudError('ERR_INTERNAL', 'labeller used after its end');
  }
}
