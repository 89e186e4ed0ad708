/**
 * Requests as the kernel writes them, restated by hand from fuse.h and not by the code under test, and a
 * kernel that is not one: it hands requests to a session and keeps its replies.
 */
import { viewMemory } from '../../common/libc.ts';
import type { NativeBuffer } from '../../common/native-memory.ts';
import type { RequestBuffer } from '../../fuse-fs/codec.ts';
import type { IoVectors } from '../../fuse-fs/io-vectors.ts';
import type { FuseProfile } from '../../fuse-fs/negotiation.ts';
import { FuseSession, type FuseSessionPort } from '../../fuse-fs/session.ts';
import { TransferBuffer } from '../../fuse-fs/transfer-buffer.ts';

/** Where requests are put: the data of a write then begins at 4096. */
export const AT = 4016;

/** 32 bits. */
export function u32(...values: number[]): Buffer {
  return Buffer.concat(
    values.map((value) => {
      const bytes = Buffer.alloc(4);
      bytes.writeUInt32LE(value >>> 0);
      return bytes;
    }),
  );
}

/** 64 bits. */
export function u64(...values: (number | bigint)[]): Buffer {
  return Buffer.concat(
    values.map((value) => {
      const bytes = Buffer.alloc(8);
      bytes.writeBigUInt64LE(BigInt.asUintN(64, BigInt(value)));
      return bytes;
    }),
  );
}

/** A name with its NUL. */
export function name(text: string): Buffer {
  return Buffer.from(`${text}\0`, 'latin1');
}

/** What the header of a request says. */
export interface Header {
  unique?: number | bigint;
  nodeid?: number | bigint;
  uid?: number;
  gid?: number;
  pid?: number;
  length?: number;
  extensions?: number;
}

/** A whole request. */
export function request(opcode: number, header: Header = {}, ...body: Buffer[]): Buffer {
  const rest = Buffer.concat(body);
  const { unique = 2, nodeid = 1, uid = 0, gid = 0, pid = 77, extensions = 0 } = header;
  return Buffer.concat([
    u32(header.length ?? 40 + rest.length, opcode),
    u64(unique, nodeid),
    u32(uid, gid, pid, extensions),
    rest,
  ]);
}

/** INIT of Linux 6.18, with every feature on offer. */
export function initRequest(unique = 1): Buffer {
  const flags = 0x7fff_ffff;
  return request(26, { unique, nodeid: 0 }, u32(7, 45, 131072, flags, 0x7ff), Buffer.alloc(44));
}

/** A reply of a session. */
export interface Reply {
  readonly unique: bigint;
  readonly error: number;
  readonly body: Buffer;
}

/** The bytes that vectors name. */
export function gather(vectors: IoVectors): Buffer {
  const list = viewMemory(vectors.address, vectors.count * 16);
  const pieces = Array.from({ length: vectors.count }, (_, at) => {
    const address = Number(list.readBigUInt64LE(at * 16));
    return Buffer.from(viewMemory(address, Number(list.readBigUInt64LE(at * 16 + 8))));
  });
  return Buffer.concat(pieces);
}

/** See the top of the file. */
export class FakeKernel implements FuseSessionPort {
  readonly replies: Reply[] = [];
  /** Buffers that came back. */
  readonly freed: RequestBuffer[] = [];
  roomCount = 0;
  /** Replies that came in pieces. */
  gatheredCount = 0;
  /** Write-backs that the session asked for, and what goes on when they are done. */
  readonly writeBacks: { readonly nodeid: number; readonly done: () => void }[] = [];
  readonly clock = { time: 1000, nowMs: (): number => this.clock.time };
  /** What the session logged. */
  readonly logged: string[] = [];
  readonly session: FuseSession;
  readonly #buffers: TransferBuffer[] = [];

  constructor(profile: FuseProfile) {
    const add = (_: unknown, message: string): void => {
      this.logged.push(message);
    };
    const log = { debug: add, info: add, warn: add, error: add, child: () => log };
    this.session = new FuseSession({ port: this, profile, clock: this.clock, log });
  }

  reply(from: NativeBuffer, offset: number, length: number): void {
    const bytes = Buffer.from(from.bytes.subarray(offset, offset + length));
    if (bytes.readUInt32LE(0) !== length) throw new Error('a reply of the wrong length');
    this.replies.push({
      unique: bytes.readBigUInt64LE(8),
      error: bytes.readInt32LE(4),
      body: bytes.subarray(16),
    });
  }

  replyGathered(vectors: IoVectors): void {
    const bytes = gather(vectors);
    this.gatheredCount += 1;
    this.reply({ bytes, address: 0 }, 0, bytes.length);
  }

  onBufferFree(buffer: RequestBuffer): void {
    this.freed.push(buffer);
    if (buffer instanceof TransferBuffer) this.#buffers.push(buffer);
  }

  onRoom(): void {
    this.roomCount += 1;
  }

  writeBack(nodeid: number, done: () => void): void {
    this.writeBacks.push({ nodeid, done });
  }

  /** Hands a request over. @returns true when the session kept the buffer */
  send(bytes: Buffer): boolean {
    const buffer = this.#buffers.pop() ?? new TransferBuffer();
    bytes.copy(buffer.bytes, AT);
    const kept = this.session.handle(buffer, AT, bytes.length);
    if (!kept) this.#buffers.push(buffer);
    return kept;
  }

  /** Hands a request over that must be answered at once. */
  ask(bytes: Buffer): Reply {
    const before = this.replies.length;
    this.send(bytes);
    const reply = this.replies[before];
    if (reply === undefined || this.replies.length !== before + 1) {
      throw new Error(`${this.replies.length - before} replies`);
    }
    return reply;
  }

  /** Frees the buffers at hand; those that the session still has stay. */
  free(): void {
    for (const buffer of this.#buffers) buffer.free();
    this.#buffers.length = 0;
  }
}
