/**
 * The place of last resort for the pages of one volume (DESIGN D4): a file on a local disk, bounded,
 * used when no provider can take them, and left as soon as one can. It holds sealed pages only, so the
 * disk learns no more than a provider would. The file has no name from the moment it is open: it is gone
 * with the process, however that ends, and its bytes mean nothing once the volume's key is gone.
 *
 * Calls are carried out one after the other, in their order, by the thread pool of node: a slow disk
 * delays its own pages and nobody else's.
 */
import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { MemcloudError } from '../common/errors.ts';
import { FALLOC, tryFallocate } from '../common/libc.ts';
import { NativeMemory, type NativeBuffer } from '../common/native-memory.ts';
import {
  IoStatus,
  PAGE_CALL_PAGE_COUNT_MAX,
  type IoStatusValue,
  type PageCompletionSink,
  type PageQueue,
  type ProviderUsage,
  type SlabGrant,
  type SlabRequest,
  type SpillStore,
} from '../common/ports.ts';
import { PAGE_SIZE_BYTES, SEALED_PAGE_SIZE_BYTES, SLAB_PAGE_COUNT } from '../common/units.ts';

const SLAB_SIZE_BYTES = SLAB_PAGE_COUNT * SEALED_PAGE_SIZE_BYTES;
/** Calls that wait for the disk at once; further ones are refused until one has ended. */
const CALL_COUNT_MAX = 16;
const CALL_SIZE_BYTES = PAGE_CALL_PAGE_COUNT_MAX * SEALED_PAGE_SIZE_BYTES;

/** Opens a file that nobody had, or a nameless one in a directory. */
function openNameless(place: string): number {
  const isDirectory = fs.statSync(place, { throwIfNoEntry: false })?.isDirectory() ?? false;
  const file = isDirectory
    ? path.join(place, `memcloud-spill-${randomBytes(6).toString('hex')}`)
    : place;
  try {
    const fd = fs.openSync(file, 'wx+', 0o600);
    fs.unlinkSync(file);
    return fd;
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    const why = code === 'EEXIST' ? 'it exists; name a new file or a directory' : String(code);
    throw new MemcloudError('ERR_USAGE', `spill ${place}: ${why}`, { cause });
  }
}

/** The file as a place for slabs. */
export class SpillSource implements SpillStore {
  readonly nodeId = 'spill'.padEnd(32, '0');
  readonly nodeName = 'spill file';
  readonly hostId = '';
  readonly zone = '';
  readonly roundTripMs = 0;
  readonly accepting = true;
  readonly quarantineReason = undefined;
  readonly #fd: number;
  readonly #leased: boolean[];
  #closed = false;
  #busyCount = 0;

  /**
   * @param place - a file that does not exist yet, or a directory
   * @param sizeBytes - of pages, the most that it may come to hold; rounded up to whole slabs
   * @throws MemcloudError `ERR_USAGE`
   */
  constructor(place: string, sizeBytes: number) {
    if (!(sizeBytes >= 1)) {
      throw new MemcloudError('ERR_USAGE', `spill size: expected bytes, got ${sizeBytes}`);
    }
    const slabCount = Math.ceil(sizeBytes / (SLAB_PAGE_COUNT * PAGE_SIZE_BYTES));
    this.#fd = openNameless(place);
    this.#leased = new Array<boolean>(slabCount).fill(false);
  }

  /** True until it is closed. */
  get up(): boolean {
    return !this.#closed;
  }

  /** Its room. */
  get usage(): ProviderUsage {
    const leaseCount = this.#leased.filter(Boolean).length;
    const usedBytes = leaseCount * SLAB_SIZE_BYTES;
    const offeredBytes = this.#leased.length * SLAB_SIZE_BYTES;
    return { offeredBytes, usedBytes, residentBytes: usedBytes, leaseCount };
  }

  /** Nothing: a disk that returns other bytes is no donor's lie; the page is not believed all the same. */
  quarantine(): void {
    return;
  }

  /** It asks for nothing back. */
  onRecall(): () => void {
    return () => undefined;
  }

  /** Takes a slab's room. The number of the slab is its handle. */
  async lease({ ttlMs }: SlabRequest): Promise<SlabGrant> {
    const slabHandle = this.#leased.indexOf(false);
    if (slabHandle < 0 || this.#closed) {
      throw new MemcloudError('ERR_LEASE_CAPACITY', 'lease: the spill file is full');
    }
    this.#leased[slabHandle] = true;
    return Promise.resolve({ leaseId: String(slabHandle), slabHandle, ttlMs });
  }

  /** Leases of the file end with it. */
  async renew(leaseIds: readonly string[]): Promise<string[]> {
    return Promise.resolve(leaseIds.filter((id) => this.#leased[Number(id)] !== true));
  }

  /** Gives the room back to the disk. */
  async release(leaseId: string): Promise<void> {
    const slab = Number(leaseId);
    if (this.#leased[slab] !== true) return Promise.resolve();
    this.#leased[slab] = false;
    this.punch(slab * SLAB_SIZE_BYTES, SLAB_SIZE_BYTES);
    return Promise.resolve();
  }

  /** Opens a way in. */
  openPageQueue(sink: PageCompletionSink): PageQueue {
    return new SpillQueue(this, sink);
  }

  /** Where a run of pages lies; -1 when it lies in no leased slab. */
  offsetOf(slabHandle: number, firstPage: number, pageCount: number): number {
    const whole = this.#leased[slabHandle] === true && firstPage + pageCount <= SLAB_PAGE_COUNT;
    return whole ? slabHandle * SLAB_SIZE_BYTES + firstPage * SEALED_PAGE_SIZE_BYTES : -1;
  }

  /** Gives a range back to the disk, where the file system can. */
  punch(offset: number, length: number): void {
    if (this.#closed) return;
    tryFallocate(this.#fd, FALLOC.PUNCH_HOLE | FALLOC.KEEP_SIZE, offset, length);
  }

  /** Reads or writes a range; `done` hears whether all of it was. */
  transfer(
    write: boolean,
    bytes: Buffer,
    length: number,
    offset: number,
    done: (whole: boolean) => void,
  ): void {
    if (this.#closed) {
      setImmediate(done, false);
      return;
    }
    this.#busyCount += 1;
    const ended = (error: Error | null, count: number): void => {
      this.#busyCount -= 1;
      if (this.#closed && this.#busyCount === 0) fs.closeSync(this.#fd);
      // Past the end of the file lie pages that were never written.
      if (!write && error === null) bytes.fill(0, count, length);
      done(error === null && (!write || count === length));
    };
    if (write) fs.write(this.#fd, bytes, 0, length, offset, ended);
    else fs.read(this.#fd, bytes, 0, length, offset, ended);
  }

  /** Ends it: the file is gone. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    if (this.#busyCount === 0) fs.closeSync(this.#fd);
  }
}

/** A call that waits for the disk, or is there. */
interface Call {
  kind: 'read' | 'write' | 'trim';
  tag: number;
  offset: number;
  length: number;
  readonly memory: NativeMemory;
}

/** One volume's way to the file. */
class SpillQueue implements PageQueue {
  readonly #source: SpillSource;
  readonly #sink: PageCompletionSink;
  readonly #free: Call[] = [];
  readonly #waiting: Call[] = [];
  #made = 0;
  #running = false;
  #refused = false;
  #closed = false;

  constructor(source: SpillSource, sink: PageCompletionSink) {
    this.#source = source;
    this.#sink = sink;
  }

  readPages(tag: number, slabHandle: number, firstPage: number, pageCount: number): boolean {
    return this.#take('read', tag, slabHandle, firstPage, pageCount) !== undefined;
  }

  writePages(
    tag: number,
    slabHandle: number,
    firstPage: number,
    pageCount: number,
    from: NativeBuffer,
    fromOffset: number,
  ): boolean {
    const call = this.#take('write', tag, slabHandle, firstPage, pageCount);
    if (call === undefined) return false;
    from.bytes.copy(call.memory.bytes, 0, fromOffset, fromOffset + call.length);
    return true;
  }

  trimPages(tag: number, slabHandle: number, firstPage: number, pageCount: number): boolean {
    return this.#take('trim', tag, slabHandle, firstPage, pageCount) !== undefined;
  }

  close(): void {
    this.#closed = true;
    for (const { memory } of this.#free.splice(0)) memory.free();
  }

  #take(
    kind: Call['kind'],
    tag: number,
    slabHandle: number,
    firstPage: number,
    pageCount: number,
  ): Call | undefined {
    if (this.#closed || !this.#source.up) return undefined;
    let call = this.#free.pop();
    if (call === undefined) {
      if (this.#made === CALL_COUNT_MAX) {
        this.#refused = true;
        return undefined;
      }
      this.#made += 1;
      const memory = new NativeMemory(CALL_SIZE_BYTES, { lock: true });
      call = { kind, tag, offset: 0, length: 0, memory };
    }
    call.kind = kind;
    call.tag = tag;
    call.offset = this.#source.offsetOf(slabHandle, firstPage, pageCount);
    call.length = pageCount * SEALED_PAGE_SIZE_BYTES;
    this.#waiting.push(call);
    if (!this.#running) {
      this.#running = true;
      setImmediate(() => this.#next());
    }
    return call;
  }

  #next(): void {
    const call = this.#waiting.shift();
    if (call === undefined) {
      this.#running = false;
      return;
    }
    const { kind, offset, length, memory } = call;
    if (offset < 0) this.#end(call, IoStatus.NO_LEASE);
    else if (kind === 'trim') {
      this.#source.punch(offset, length);
      this.#end(call, IoStatus.OK);
    } else {
      this.#source.transfer(kind === 'write', memory.bytes, length, offset, (whole) => {
        const failed = kind === 'write' ? IoStatus.NO_SPACE : IoStatus.UNREACHABLE;
        this.#end(call, whole ? IoStatus.OK : failed);
      });
    }
  }

  #end(call: Call, status: IoStatusValue): void {
    const { kind, tag, memory } = call;
    const told = this.#closed ? IoStatus.SHUTDOWN : status;
    if (kind === 'read') this.#sink.onPagesRead(tag, told, memory, 0);
    else this.#sink.onPagesDone(tag, told);
    if (this.#closed) memory.free();
    else this.#free.push(call);
    if (this.#refused && !this.#closed) {
      this.#refused = false;
      this.#sink.onCredit();
    }
    this.#next();
  }
}
