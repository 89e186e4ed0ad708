#!/usr/bin/env node
/**
 * A remote read path in its barest form: our file system, whose pages lie in another process (`bare-donor.ts`)
 * behind one plain TCP connection, without cipher, session, copies, leases or checks. One thread polls /dev/fuse
 * and the socket. `bare-remote DIR PORT` serves until DIR is unmounted. What is lost with the donor is lost for good.
 */
import { ByteStream, type ByteStreamHandler } from '../../common/byte-stream.ts';
import { monotonicClock } from '../../common/clock.ts';
import { copyMemory, zeroMemory } from '../../common/libc.ts';
import { silentLogger } from '../../common/log.ts';
import type { NativeBuffer } from '../../common/native-memory.ts';
import {
  IoStatus,
  type BlockCompletionSink,
  type BlockDevice,
  type BlockQueue,
} from '../../common/ports.ts';
import { makeProcessSpin } from '../../common/process-spin.ts';
import { FileSystem } from '../../fuse-fs/file-system.ts';
import { KernelTransport } from '../../fuse-fs/kernel-transport.ts';
import { FUSE_PROFILES } from '../../fuse-fs/negotiation.ts';
import { PageFileStore } from '../../fuse-fs/page-file-store.ts';
import { KernelClock } from '../../fuse-fs/wall-clock.ts';
import {
  BARE_ANSWER_SIZE_BYTES,
  BARE_REQUEST_SIZE_BYTES,
  BARE_SIZE_BYTES,
  BARE_STREAM_OPTIONS,
  BareKind,
} from './bare-wire.ts';

const CONNECT_TIMEOUT_MS = 5000;
/** More than the file system has in flight at once. */
const ROW_COUNT = 2 ** 16;

const spin = makeProcessSpin();

/** Requests of the donor's memory, whose answers come in their order. */
class BareQueue implements BlockQueue, ByteStreamHandler {
  readonly #stream: ByteStream;
  readonly #sink: BlockCompletionSink;
  readonly #tags = new Uint32Array(ROW_COUNT);
  readonly #restBytes = new Uint32Array(ROW_COUNT);
  /** Where the rest of an answer goes; 0: nowhere. */
  readonly #places = new Float64Array(ROW_COUNT);
  #first = 0;
  #next = 0;

  constructor(stream: ByteStream, sink: BlockCompletionSink) {
    this.#stream = stream;
    this.#sink = sink;
  }

  read(tag: number, offset: number, length: number, into: NativeBuffer, intoOffset: number): void {
    this.#ask(BareKind.READ, offset, length, 0);
    this.#expect(tag, length, into.address + intoOffset);
  }

  tryWrite(): boolean {
    return false;
  }

  write(tag: number, offset: number, length: number, from: NativeBuffer, fromOffset: number): void {
    const to = this.#ask(BareKind.WRITE, offset, length, length);
    copyMemory(to, from.address + fromOffset, length);
    this.#expect(tag, BARE_ANSWER_SIZE_BYTES, 0);
  }

  flush(tag: number): void {
    this.#sink.onBlockDone(tag, IoStatus.OK);
  }

  /** The file system reads no page that it has not written since. */
  trim(tag: number): void {
    this.#sink.onBlockDone(tag, IoStatus.OK);
  }

  writeZeroes(tag: number, offset: number, length: number): void {
    zeroMemory(this.#ask(BareKind.WRITE, offset, length, length), length);
    this.#expect(tag, BARE_ANSWER_SIZE_BYTES, 0);
  }

  close(): void {
    this.#stream.destroy();
  }

  onBytes(input: NativeBuffer, start: number, end: number): number {
    spin.onActivity(this.#stream);
    let at = start;
    while (at < end && this.#first !== this.#next) {
      const row = this.#first;
      const rest = this.#restBytes[row] as number;
      const place = this.#places[row] as number;
      const count = Math.min(rest, end - at);
      if (place !== 0) {
        copyMemory(place, input.address + at, count);
        this.#places[row] = place + count;
      }
      this.#restBytes[row] = rest - count;
      at += count;
      if (count < rest) break;
      this.#first = (row + 1) % ROW_COUNT;
      this.#sink.onBlockDone(this.#tags[row] as number, IoStatus.OK);
    }
    return at;
  }

  onDrain(): void {
    // What the kernel does not take at once waits in the stream.
  }

  onClosed(): void {
    process.exit(1);
  }

  /** @returns the address of the room for `more` bytes behind the request */
  #ask(kind: number, offset: number, length: number, more: number): number {
    const at = this.#stream.reserve(BARE_REQUEST_SIZE_BYTES + more);
    const { bytes, address } = this.#stream.output;
    bytes.writeDoubleLE(offset, at);
    bytes.writeUInt32LE(length, at + 8);
    bytes.writeUInt32LE(kind, at + 12);
    return address + at + BARE_REQUEST_SIZE_BYTES;
  }

  #expect(tag: number, lengthBytes: number, place: number): void {
    const row = this.#next;
    this.#tags[row] = tag;
    this.#restBytes[row] = lengthBytes;
    this.#places[row] = place;
    this.#next = (row + 1) % ROW_COUNT;
    if (this.#next === this.#first) throw new Error('more requests in flight than there are rows');
  }
}

const [directory = '', port = ''] = process.argv.slice(2);
// Whoever measures ends it with a signal once it is unmounted.
process.once('SIGTERM', () => process.exit(0));
const stream = await ByteStream.connect(
  { host: '127.0.0.1', port: Number(port) },
  { ...BARE_STREAM_OPTIONS, timeoutMs: CONNECT_TIMEOUT_MS },
  // Nothing is asked, so nothing comes, before there is a queue.
  { onBytes: (_input, start) => start, onDrain: () => undefined, onClosed: () => process.exit(1) },
);
const pages: BlockDevice = {
  name: 'bare',
  description: 'memory behind a plain connection',
  sizeBytes: BARE_SIZE_BYTES,
  openQueue: (sink) => {
    const queue = new BareQueue(stream, sink);
    stream.setHandler(queue);
    return queue;
  },
  extents: (_offset, length, emit) => void emit(length, 0),
};
const files = new FileSystem({
  openStore: (sink) => new PageFileStore(pages, sink),
  clock: new KernelClock(),
  ...{ sizeBytes: BARE_SIZE_BYTES, uid: 0, gid: 0, mode: 0o755, hashSeed: 1 },
});
const transport = new KernelTransport({
  ...{ directory, allowOther: true, profile: FUSE_PROFILES.default, spin },
  ...{ clock: monotonicClock, log: silentLogger },
  onEnd: () => {
    transport.close();
    process.exit(0);
  },
});
files.connect(transport.sink);
await transport.mount(files);
process.stdout.write('mounted\n');
