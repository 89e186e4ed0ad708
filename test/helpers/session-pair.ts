/**
 * Two session machines joined by memory instead of a socket: every byte can be seen, changed,
 * withheld and split, time stands still unless told, and nothing is asynchronous.
 */
import { NativeMemory, type NativeBuffer } from '../../common/native-memory.ts';
import type { DirectAccess, IoStatusValue, SlabAccess } from '../../common/ports.ts';
import type { ByeReasonValue } from '../../peer/constants.ts';
import type { CreditLimits } from '../../peer/control.ts';
import { serveControl } from '../../peer/control-service.ts';
import { KEEPALIVE_DEFAULTS, type KeepaliveLimits } from '../../peer/keepalive-machine.ts';
import type { OnManage } from '../../peer/managed-replies.ts';
import { RecordOpener, RecordSealer, type RekeyLimits } from '../../peer/record-cipher.ts';
import { RecordWriter, type RecordOutput } from '../../peer/record-writer.ts';
import { SessionMachine, type SessionMachineEvents } from '../../peer/session-machine.ts';
import { OWN_LIMITS } from '../../peer/session-service.ts';

/** Output that keeps what was reserved until somebody takes it. */
export class MemoryOutput implements RecordOutput {
  readonly output = new NativeMemory(48 * 2 ** 20);
  extraBacklogBytes = 0;
  #used = 0;

  get backlogBytes(): number {
    return this.#used + this.extraBacklogBytes;
  }

  reserve(length: number): number {
    const offset = this.#used;
    if (offset + length > this.output.bytes.length) throw new Error('the test output is full');
    this.#used += length;
    return offset;
  }

  unreserve(length: number): void {
    this.#used -= length;
  }

  take(): Buffer {
    const bytes = Buffer.from(this.output.bytes.subarray(0, this.#used));
    this.#used = 0;
    return bytes;
  }

  free(): void {
    this.output.free();
  }
}

/** What a side saw, in order. */
export interface Seen {
  reads: { owner: number; tag: number; status: IoStatusValue; bytes: Buffer }[];
  done: { owner: number; tag: number; status: IoStatusValue }[];
  controls: { tag: number; body: Buffer | undefined }[];
  notices: Buffer[];
  byes: ByeReasonValue[];
  credits: number;
}

/** Options of one side. */
export interface SideOptions {
  access?: SlabAccess | undefined;
  direct?: DirectAccess | undefined;
  serveObject?: (body: Buffer) => Buffer;
  /** Takes the other side's managed calls; the side answers with `machine.managedReplies`. */
  onManage?: OnManage;
  peerLimits?: CreditLimits;
  keepalive?: KeepaliveLimits;
  rekey?: RekeyLimits;
  onRead?: (tag: number, status: IoStatusValue, pages: NativeBuffer, offset: number) => void;
  onDone?: (tag: number, status: IoStatusValue) => void;
}

/** One machine with its ends in memory. */
export class Side {
  readonly machine: SessionMachine;
  /** Builds the next record; the machine's. */
  readonly writer: RecordWriter;
  readonly output = new MemoryOutput();
  readonly seen: Seen = { reads: [], done: [], controls: [], notices: [], byes: [], credits: 0 };
  readonly input = new NativeMemory(8 * 2 ** 20);
  #unread = 0;

  constructor(sendKey: number, receiveKey: number, options: SideOptions = {}) {
    const key = (fill: number): Uint8Array => new Uint8Array(32).fill(fill);
    const { seen } = this;
    const events: SessionMachineEvents = {
      onPagesRead: (owner, tag, status, pages, offset) => {
        // 4112 bytes a page; a test asks for what it gets.
        const bytes = Buffer.from(pages.bytes.subarray(offset, offset + 4112));
        seen.reads.push({ owner, tag, status, bytes });
        options.onRead?.(tag, status, pages, offset);
      },
      onPagesDone: (owner, tag, status) => {
        seen.done.push({ owner, tag, status });
        options.onDone?.(tag, status);
      },
      onControlDone: (tag, body) => {
        seen.controls.push({ tag, body: body === undefined ? undefined : Buffer.from(body) });
      },
      onCredit: () => (seen.credits += 1),
      serveControl: (body) => serveControl({ slabs: options.access, direct: options.direct }, body),
      onNotice: (body) => seen.notices.push(Buffer.from(body)),
      onBye: (reason) => seen.byes.push(reason),
    };
    const sealer = new RecordSealer(key(sendKey), 0, options.rekey);
    this.writer = new RecordWriter(this.output, sealer, 0);
    this.machine = new SessionMachine({
      writer: this.writer,
      opener: new RecordOpener(key(receiveKey), options.rekey),
      peerLimits: options.peerLimits ?? OWN_LIMITS,
      access: options.access,
      serveObject: options.serveObject,
      onManage: options.onManage,
      events,
      keepalive: options.keepalive ?? KEEPALIVE_DEFAULTS,
      requestTimeoutMs: 1000,
      clock: { nowMs: () => 0 },
    });
  }

  /** Ends the turn and takes what it produced. */
  flush(): Buffer {
    this.machine.onFlush();
    return this.output.take();
  }

  /** Bytes come in. */
  receive(bytes: Uint8Array, nowMs = 0): void {
    this.input.bytes.set(bytes, this.#unread);
    const end = this.#unread + bytes.length;
    const consumed = this.machine.onBytes(this.input, 0, end, nowMs);
    this.input.bytes.copyWithin(0, consumed, end);
    this.#unread = end - consumed;
  }

  free(): void {
    this.machine.end();
    this.output.free();
    this.input.free();
  }
}

/** Two sides that talk to each other. */
export function sessionPair(a: SideOptions = {}, b: SideOptions = {}): [Side, Side] {
  return [new Side(1, 2, a), new Side(2, 1, b)];
}

/** Carries bytes both ways until both are silent. */
export function settle(a: Side, b: Side, nowMs = 0): void {
  for (;;) {
    const fromA = a.flush();
    if (fromA.length > 0) b.receive(fromA, nowMs);
    const fromB = b.flush();
    if (fromB.length > 0) a.receive(fromB, nowMs);
    if (fromA.length + fromB.length === 0) return;
  }
}
