/**
 * One mount's conversation with the kernel: requests in, calls of the file system, replies out. The
 * shell (device.ts) brings each request in memory of its own and sends each reply with one write(2).
 *
 * Every request gets exactly one reply, except those that have none (FORGET, BATCH_FORGET, INTERRUPT).
 * What cannot be decoded gets an errno, an opcode that we do not have `ENOSYS` (after which the kernel
 * stops asking), and whatever throws, which is a defect of ours, `EIO`, a count and a line in the log.
 *
 * Calls that may wait for the pool take a slot of {@link RequestTable}; the shell asks
 * {@link FuseSession.hasRoom} before it reads the next request, so that there is always one. A read goes
 * into the slot's own buffer, behind the header of its reply. The data of a write stays where it was read
 * to: the session keeps that buffer until the write has ended.
 *
 * INTERRUPT says that a signal came for the caller. Files in memory do not end with EINTR, and few
 * programs expect it of files, so the answer goes its way; only a request that waits for
 * {@link INTERRUPT_PATIENCE_MS} more ends with EINTR. Its buffers are kept until the file system is done.
 */
import type { Clock } from '../common/clock.ts';
import type { Logger } from '../common/log.ts';
import type { NativeBuffer } from '../common/native-memory.ts';
import { FuseRequest, type RequestBuffer } from './codec.ts';
import {
  FUSE_OPEN_KILL_SUIDGID,
  FuseInit,
  FuseOpcode,
  FuseOutSize,
  FuseWrite,
  O_TRUNC,
  opcodeName,
  SLOT_COUNT,
} from './constants.ts';
import { Errno } from './errno.ts';
import { InPlaceReads, type GatheringPort } from './in-place-reads.ts';
import { ELSEWHERE, isSilent, MetadataRequests } from './metadata-requests.ts';
import { negotiate, type FuseProfile } from './negotiation.ts';
import {
  AttributeBit,
  emptyChange,
  ROOT_NODEID,
  type AttributeChange,
  type FileCompletionSink,
  type FileOperations,
} from './operations.ts';
import {
  encodeInitOut,
  encodeOutHeader,
  encodeSizeOut,
  encodeU64,
  type InitOut,
} from './reply-codec.ts';
import { RequestTable, SlotState } from './request-table.ts';
import { REPLY_AT, REPLY_DATA_AT, TransferBuffer } from './transfer-buffer.ts';

/** How long an interrupted request may still go on waiting for the pool: milliseconds. */
export const INTERRUPT_PATIENCE_MS = 1000;

/** Defects that are logged; further ones are only counted. */
const LOGGED_DEFECT_COUNT_MAX = 20;
const HEADER_WORD = REPLY_AT / 4;
const DATA_WORD = REPLY_DATA_AT / 4;
/** What fits a reply's 32 bits, in whole pages: COPY_FILE_RANGE may copy less than it was asked. */
const COPY_SIZE_MAX_BYTES = 2 ** 32 - 4096;

/** Bits of a change that say how, not what. */
const IGNORED_CHANGES = AttributeBit.FH | AttributeBit.LOCKOWNER;

/** What a session asks of its shell. */
export interface FuseSessionPort extends GatheringPort {
  /** Sends a whole reply, at once: `from` is the session's again on return. */
  reply(from: NativeBuffer, offset: number, length: number): void;
  /** A request's buffer that {@link FuseSession.handle} kept is the shell's again. */
  onBufferFree(buffer: RequestBuffer): void;
  /** A slot became free after there was none. */
  onRoom(): void;
  /**
   * Makes the kernel write back what it caches of a file, whose pages it drops, while requests are served.
   * Calls `onDone` once, later, also when it failed.
   */
  writeBack(nodeid: number, onDone: () => void): void;
}

/** What a session has done. */
export interface FuseSessionStatistics {
  /** Requests taken. */
  requestCount: number;
  /** Replies with an errno. */
  errorCount: number;
  /** Requests that could not be decoded. */
  malformedCount: number;
  /** Times that code of ours threw. */
  defectCount: number;
  /** Requests that ended with EINTR. */
  interruptedCount: number;
}

/** See the top of the file. */
export class FuseSession implements FileCompletionSink {
  readonly statistics: FuseSessionStatistics = {
    requestCount: 0,
    errorCount: 0,
    malformedCount: 0,
    defectCount: 0,
    interruptedCount: 0,
  };
  readonly #port: FuseSessionPort;
  readonly #profile: FuseProfile;
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #request = new FuseRequest();
  readonly #slots = new RequestTable();
  /** Where replies to requests that end at once are made. */
  readonly #prompt = new TransferBuffer();
  /** Where replies of calls that end in {@link FuseSession.onFileDone} are made: it may come at any time. */
  readonly #late = new TransferBuffer();
  /** By slot: where a read goes. Made at the slot's first read, kept. */
  readonly #readBuffers: (TransferBuffer | undefined)[] = new Array<undefined>(SLOT_COUNT).fill(
    undefined,
  );
  /** By slot: the request that holds the data of a write under way. */
  readonly #writeBuffers: (RequestBuffer | undefined)[] = new Array<undefined>(SLOT_COUNT).fill(
    undefined,
  );
  readonly #inPlace: InPlaceReads;
  readonly #truncation: AttributeChange = emptyChange();
  #operations: FileOperations | undefined;
  #metadata: MetadataRequests | undefined;
  #agreed: InitOut | undefined;
  /** The slot taken by the request in hand, or -1. */
  #taken = -1;
  #interruptedCount = 0;

  constructor(options: {
    readonly port: FuseSessionPort;
    readonly profile: FuseProfile;
    readonly clock: Clock;
    readonly log: Logger;
  }) {
    this.#port = options.port;
    this.#profile = options.profile;
    this.#clock = options.clock;
    this.#log = options.log;
    this.#inPlace = new InPlaceReads(options.port, this.#prompt);
  }

  /** Names the file system, whose completion sink this session is; once, before the first request. */
  attach(operations: FileOperations): void {
    this.#operations = operations;
    this.#metadata = new MetadataRequests(operations, this.#prompt);
  }

  /** What INIT agreed on, undefined before. */
  get agreed(): InitOut | undefined {
    return this.#agreed;
  }

  /** True when the next request may come. */
  get hasRoom(): boolean {
    return this.#slots.hasRoom;
  }

  /** Requests that wait for the pool. */
  get waitingCount(): number {
    return this.#slots.busyCount;
  }

  /** True while {@link FuseSession.tick} has something to watch. */
  get needsTick(): boolean {
    return this.#interruptedCount > 0;
  }

  /**
   * Takes a request. Never throws.
   *
   * @param at - where it begins in `buffer`, a multiple of 8
   * @param length - what read(2) returned
   * @returns true when the buffer is kept until `onBufferFree` (for ever after a defect)
   */
  handle(buffer: RequestBuffer, at: number, length: number): boolean {
    const request = this.#request;
    const invalid = request.begin(buffer, at, length);
    if (!request.answerable) {
      this.statistics.malformedCount += 1;
      return false;
    }
    this.statistics.requestCount += 1;
    this.#taken = -1;
    let result: number;
    try {
      result = invalid === 0 ? this.#dispatch(request) : this.#refuse(request, invalid);
    } catch (error) {
      result = this.#onDefect(request.opcode, error);
    }
    // A call of the file system may have ended other requests, never this one's fields.
    if (result !== ELSEWHERE) {
      this.#send(this.#prompt, result, request.uniqueLow, request.uniqueHigh);
      // After a defect the file system may still read the data of the write: the buffer is lost.
      return this.#taken >= 0 && request.opcode === FuseOpcode.FUSE_WRITE;
    }
    const slot = this.#taken;
    if (slot < 0 || request.opcode !== FuseOpcode.FUSE_WRITE) return false;
    if (this.#slots.state[slot] === SlotState.FREE) return false;
    this.#writeBuffers[slot] = buffer;
    return true;
  }

  onFileDone(tag: number, result: number): void {
    const slot = this.#slots.slot(tag);
    if (slot < 0) return;
    try {
      if (this.#slots.state[slot] === SlotState.UNDER_WAY) this.#complete(slot, result);
    } catch (error) {
      this.#sendForSlot(slot, this.#late, this.#countDefect('completion', error));
    }
    this.#giveSlot(slot);
  }

  /** Ends interrupted requests that waited long enough; every 100 ms or so while `needsTick`. */
  tick(): void {
    const before = this.#clock.nowMs() - INTERRUPT_PATIENCE_MS;
    const { state, interruptedAtMs } = this.#slots;
    for (let slot = 0; slot < SLOT_COUNT; slot += 1) {
      const sinceMs = interruptedAtMs[slot] as number;
      if (state[slot] !== SlotState.UNDER_WAY || sinceMs === 0 || sinceMs > before) continue;
      state[slot] = SlotState.ANSWERED;
      this.#interruptedCount -= 1;
      this.statistics.interruptedCount += 1;
      this.#sendForSlot(slot, this.#late, -Errno.EINTR);
    }
  }

  /** Frees memory. No call of the file system may be under way, and none may come. */
  close(): void {
    for (const buffer of this.#readBuffers) buffer?.free();
    this.#readBuffers.fill(undefined);
    this.#inPlace.free();
    this.#prompt.free();
    this.#late.free();
  }

  #dispatch(request: FuseRequest): number {
    const operations = this.#operations;
    const metadata = this.#metadata;
    if (request.opcode === FuseOpcode.FUSE_INIT) return this.#initialize(request);
    if (operations === undefined || metadata === undefined || this.#agreed === undefined) {
      return this.#refuse(request, -Errno.EIO);
    }
    switch (request.opcode) {
      case FuseOpcode.FUSE_READ:
        return this.#read(operations, request);
      case FuseOpcode.FUSE_WRITE:
        return this.#write(operations, request);
      case FuseOpcode.FUSE_SETATTR:
        return this.#setAttributes(operations, metadata, request);
      case FuseOpcode.FUSE_OPEN:
        return this.#open(operations, metadata, request);
      case FuseOpcode.FUSE_FALLOCATE:
        return this.#allocate(operations, request);
      case FuseOpcode.FUSE_COPY_FILE_RANGE:
      case FuseOpcode.FUSE_COPY_FILE_RANGE_64:
        return this.#copyRange(operations, request);
      case FuseOpcode.FUSE_LSEEK:
        return this.#seek(operations, metadata, request);
      case FuseOpcode.FUSE_FSYNC:
        return this.#sync(operations, request, request.nodeid, request.decodeSync());
      case FuseOpcode.FUSE_SYNCFS:
        return this.#sync(operations, request, ROOT_NODEID, 0);
      case FuseOpcode.FUSE_INTERRUPT:
        return this.#interrupt(request);
      default:
        return metadata.serve(request);
    }
  }

  #initialize(request: FuseRequest): number {
    const invalid = request.decodeInit();
    if (invalid !== 0) return invalid;
    if (this.#agreed !== undefined) return -Errno.EINVAL;
    const verdict = negotiate(request.init, this.#profile);
    if (verdict.kind === 'refused') return -Errno.EPROTO;
    if (verdict.kind === 'agreed') {
      this.#agreed = verdict.reply;
      this.#metadata?.configure(this.#profile, verdict.reply.flags);
    }
    encodeInitOut(this.#prompt.words, DATA_WORD, verdict.reply);
    return FuseOutSize.fuse_init_out;
  }

  get #openless(): boolean {
    return ((this.#agreed?.flags ?? 0) & FuseInit.FUSE_NO_OPEN_SUPPORT) !== 0;
  }

  #read(operations: FileOperations, request: FuseRequest): number {
    const invalid = request.decodeRead();
    if (invalid !== 0) return invalid;
    if (this.#inPlace.answer(operations, request)) return ELSEWHERE;
    const { nodeid, offset, length } = request;
    const slot = this.#take(request);
    const buffer = (this.#readBuffers[slot] ??= new TransferBuffer());
    operations.read(this.#slots.tag(slot), nodeid, offset, length, buffer, REPLY_DATA_AT);
    return ELSEWHERE;
  }

  #write(operations: FileOperations, request: FuseRequest): number {
    const invalid = request.decodeWrite();
    if (invalid !== 0) return invalid;
    const slot = this.#take(request);
    const { nodeid, offset, length, moreFlags, dataAt } = request;
    operations.write(
      this.#slots.tag(slot),
      nodeid,
      offset,
      length,
      request.buffer,
      dataAt,
      (moreFlags & FuseWrite.FUSE_WRITE_KILL_SUIDGID) !== 0,
      // Without its writeback cache the kernel keeps no times of what comes from mappings either.
      this.#profile.writebackCache && (moreFlags & FuseWrite.FUSE_WRITE_CACHE) !== 0,
    );
    return ELSEWHERE;
  }

  #setAttributes(
    operations: FileOperations,
    metadata: MetadataRequests,
    request: FuseRequest,
  ): number {
    const invalid = request.decodeSetAttributes();
    if (invalid !== 0) return invalid;
    const { caller, nodeid, change } = request;
    // chown(2) to nobody new comes as a change of nothing, or of the change time with the writeback cache;
    // files lose set-user-id by it all the same.
    const nothing = (change.valid & ~AttributeBit.CTIME & ~IGNORED_CHANGES) === 0;
    if (nothing && !metadata.isDirectory(nodeid)) change.valid |= AttributeBit.KILL_SUIDGID;
    const slot = this.#take(request);
    operations.changeAttributes(this.#slots.tag(slot), caller, nodeid, change);
    return ELSEWHERE;
  }

  #open(operations: FileOperations, metadata: MetadataRequests, request: FuseRequest): number {
    if (this.#openless) return -Errno.ENOSYS;
    const invalid = request.decodeOpen();
    if (invalid !== 0) return invalid;
    const { caller, nodeid, flags, moreFlags } = request;
    const fh = operations.open(nodeid, flags);
    if (fh < 0) return fh;
    if ((flags & O_TRUNC) === 0) return metadata.opened(fh, this.#prompt);
    const slot = this.#take(request);
    this.#slots.fh[slot] = fh;
    const kills = (moreFlags & FUSE_OPEN_KILL_SUIDGID) !== 0;
    // FH: O_TRUNC sets the times of a file that was empty, too.
    const bits = AttributeBit.SIZE | AttributeBit.FH;
    this.#truncation.valid = kills ? bits | AttributeBit.KILL_SUIDGID : bits;
    operations.changeAttributes(this.#slots.tag(slot), caller, nodeid, this.#truncation);
    return ELSEWHERE;
  }

  #allocate(operations: FileOperations, request: FuseRequest): number {
    const invalid = request.decodeAllocate();
    if (invalid !== 0) return invalid;
    const slot = this.#take(request);
    const { caller, nodeid, mode, offset, length } = request;
    operations.allocate(this.#slots.tag(slot), nodeid, mode, offset, length, caller.uid !== 0);
    return ELSEWHERE;
  }

  #copyRange(operations: FileOperations, request: FuseRequest): number {
    const invalid = request.decodeCopyRange();
    if (invalid !== 0) return invalid;
    const slot = this.#take(request);
    const { caller, nodeid, offset, otherNodeid, otherOffset } = request;
    const length = Math.min(request.length, COPY_SIZE_MAX_BYTES);
    const tag = this.#slots.tag(slot);
    const kills = caller.uid !== 0;
    operations.copyRange(tag, nodeid, offset, otherNodeid, otherOffset, length, kills);
    return ELSEWHERE;
  }

  /** The kernel asks for data and holes without a look at its own cache: what is there must come first. */
  #seek(operations: FileOperations, metadata: MetadataRequests, request: FuseRequest): number {
    const invalid = request.decodeSeek();
    // Who is not told of opens cannot tell whether a file was written.
    const unknown = this.#openless || operations.mayBeDirty(request.nodeid);
    const clean = !this.#profile.writebackCache || !unknown;
    if (invalid !== 0 || clean) return metadata.serve(request);
    const tag = this.#slots.tag(this.#take(request));
    this.#port.writeBack(request.nodeid, () => this.onFileDone(tag, 0));
    return ELSEWHERE;
  }

  #sync(operations: FileOperations, request: FuseRequest, nodeid: number, invalid: number): number {
    if (invalid !== 0) return invalid;
    const slot = this.#take(request);
    operations.sync(this.#slots.tag(slot), nodeid);
    return ELSEWHERE;
  }

  #interrupt(request: FuseRequest): number {
    if (request.decodeInterrupt() !== 0) return ELSEWHERE;
    const slot = this.#slots.find(request.offset, request.otherOffset);
    if (slot >= 0 && this.#slots.interruptedAtMs[slot] === 0) {
      this.#slots.interruptedAtMs[slot] = Math.max(this.#clock.nowMs(), Number.MIN_VALUE);
      this.#interruptedCount += 1;
    }
    return ELSEWHERE;
  }

  /** The answer to a request that is not carried out. */
  #refuse(request: FuseRequest, errno: number): number {
    this.statistics.malformedCount += 1;
    return isSilent(request.opcode) ? ELSEWHERE : errno;
  }

  #take(request: FuseRequest): number {
    this.#taken = this.#slots.take(request);
    return this.#taken;
  }

  /** A call ended for which the kernel waits. */
  #complete(slot: number, result: number): void {
    const { opcode, nodeid, fh } = this.#slots;
    const late = this.#late;
    if (result < 0) {
      if (fh[slot] !== 0) this.#operations?.release(fh[slot] as number);
      this.#sendForSlot(slot, late, result);
      return;
    }
    const metadata = this.#metadata as MetadataRequests;
    let size = 0;
    switch (opcode[slot]) {
      case FuseOpcode.FUSE_READ:
        this.#sendForSlot(slot, this.#readBuffers[slot] as TransferBuffer, result);
        return;
      case FuseOpcode.FUSE_WRITE:
      case FuseOpcode.FUSE_COPY_FILE_RANGE:
        encodeSizeOut(late.words, DATA_WORD, result);
        size = FuseOutSize.fuse_write_out;
        break;
      case FuseOpcode.FUSE_COPY_FILE_RANGE_64:
        encodeU64(late.words, DATA_WORD, result);
        size = FuseOutSize.fuse_copy_file_range_out;
        break;
      case FuseOpcode.FUSE_SETATTR:
        size = metadata.attributesOf(nodeid[slot] as number, late);
        break;
      case FuseOpcode.FUSE_LSEEK:
        size = metadata.sought(this.#slots, slot, late);
        break;
      case FuseOpcode.FUSE_OPEN:
        size = metadata.opened(fh[slot] as number, late);
        break;
      default:
        break;
    }
    this.#sendForSlot(slot, late, size);
  }

  #sendForSlot(slot: number, from: TransferBuffer, result: number): void {
    const { uniqueLow, uniqueHigh } = this.#slots;
    this.#send(from, result, uniqueLow[slot] as number, uniqueHigh[slot] as number);
  }

  /** Sends a reply: `result` bytes that lie at `REPLY_DATA_AT`, or a negative errno alone. */
  #send(from: TransferBuffer, result: number, uniqueLow: number, uniqueHigh: number): void {
    const length = FuseOutSize.fuse_out_header + Math.max(result, 0);
    if (result < 0) this.statistics.errorCount += 1;
    encodeOutHeader(from.words, HEADER_WORD, length, Math.min(result, 0), uniqueLow, uniqueHigh);
    this.#port.reply(from, REPLY_AT, length);
  }

  #giveSlot(slot: number): void {
    const { state, interruptedAtMs } = this.#slots;
    if (state[slot] === SlotState.UNDER_WAY && interruptedAtMs[slot] !== 0) {
      this.#interruptedCount -= 1;
    }
    const buffer = this.#writeBuffers[slot];
    const wasFull = !this.#slots.hasRoom;
    this.#writeBuffers[slot] = undefined;
    this.#slots.give(slot);
    if (buffer !== undefined) this.#port.onBufferFree(buffer);
    if (wasFull) this.#port.onRoom();
  }

  /**
   * Code of ours threw while it served a request: what it was to do may be half done. The slot is given
   * up, with its memory, which the file system may still write to or read from.
   */
  #onDefect(opcode: number, error: unknown): number {
    const errno = this.#countDefect(opcodeName(opcode), error);
    const slot = this.#taken;
    if (slot < 0) return isSilent(opcode) ? ELSEWHERE : errno;
    if (this.#slots.state[slot] !== SlotState.UNDER_WAY) return ELSEWHERE;
    this.#readBuffers[slot] = undefined;
    this.#giveSlot(slot);
    return errno;
  }

  #countDefect(where: string, error: unknown): number {
    this.statistics.defectCount += 1;
    if (this.statistics.defectCount <= LOGGED_DEFECT_COUNT_MAX) {
      const err = error instanceof Error ? error : new Error(String(error));
      this.#log.error({ where, err }, 'a file request met a defect; it was answered with EIO');
    }
    return -Errno.EIO;
  }
}
