/**
 * Where in our sources the time of a page goes: which folder or file belongs to which stage of its way.
 * The first row that fits counts. What many stages use (the cipher, libc) belongs to nobody, so its time
 * goes to the stage that called it: a cipher run from `tier/` seals a page, one from `peer/` a record.
 * So does the time of native functions, except those that are a stage of their own. Pure.
 */
import type { CallFrame } from './cpu-profile.ts';

/** A row of a budget. */
export interface StageRow {
  readonly stage: string;
  /** One line for people. */
  readonly what: string;
}

/** Samples in which the thread slept, or polled outside any function. */
export const IDLE_STAGE = '(idle)';
/** Samples in native code with no function of JavaScript below it. */
const PROGRAM_STAGE = '(program)';
/** Collections of garbage. */
export const GARBAGE_STAGE = 'garbage collection';
/** Time of the thread that samples do not show: libuv, epoll, the reads of sockets. */
export const OUTSIDE_STAGE = 'loop, poll, receive';
/** Processor time of all other threads of the process. */
export const THREADS_STAGE = 'other threads';

/** What is outside any function is one stage: its samples cannot be told apart. */
export const OUTSIDE_JAVASCRIPT: readonly string[] = [IDLE_STAGE, PROGRAM_STAGE];

const SEND = 'socket write (system call)';
const RECEIVE = 'socket read while it spins';
const COPY = 'copy (memcpy)';
const NODE = 'node: streams, ticks';
const OTHER = 'other';

/** Folders and files of ours, as they begin; `undefined` is left to the caller. */
const SOURCES: readonly (readonly [prefix: string, stage: string | undefined])[] = [
  ['nbd-server/', 'NBD request and reply'],
  ['tier/fill.', 'test for same-filled pages'],
  ['tier/seal.', 'page sealed or opened'],
  ['tier/page-guard.', 'page sealed or opened'],
  ['tier/source-link.', 'calls to the provider'],
  ['tier/call-table.', 'calls to the provider'],
  ['tier/write-back.', 'calls to the provider'],
  ['tier/', 'volume: page map, ring, requests'],
  ['peer/record-cipher.', 'record sealed or opened'],
  ['peer/', 'session: messages, records'],
  ['provider/', 'provider: lease, slab'],
  ['common/byte-stream.', 'byte stream'],
  ['common/event-loop-spin.', 'spin'],
  ['common/', undefined],
  ['', OTHER],
];

/** Native functions that are a stage of their own, by the name that V8 gives them. */
const NATIVE: Readonly<Record<string, string>> = {
  '(idle)': IDLE_STAGE,
  '(program)': PROGRAM_STAGE,
  '(garbage collector)': GARBAGE_STAGE,
  writeBuffer: SEND,
  writev: SEND,
};

/**
 * Functions of ours that only call a foreign one. V8 does not know foreign functions, so their time is
 * that of the function of ours that calls them.
 */
const FOREIGN: Readonly<Record<string, string>> = {
  copyMemory: COPY,
  zeroMemory: COPY,
  trySend: SEND,
  tryReceive: RECEIVE,
};

/** The rows of a budget, in the order of a page's way; what is in none of them is added below. */
export const STAGE_ROWS: readonly StageRow[] = [
  { stage: OUTSIDE_STAGE, what: 'libuv, epoll, reads of sockets; polling while it spins' },
  { stage: NODE, what: "Node's own JavaScript: streams, ticks, immediates" },
  { stage: 'byte stream', what: 'input offered, output gathered' },
  { stage: 'NBD request and reply', what: 'parsed, judged, slot, answered' },
  { stage: 'volume: page map, ring, requests', what: 'pages of a request, versions, ring' },
  { stage: 'test for same-filled pages', what: 'three words, rarely more' },
  { stage: 'page sealed or opened', what: 'ChaCha20-Poly1305 over 4 KiB, once' },
  { stage: 'calls to the provider', what: 'credit, call table, acknowledgements' },
  { stage: 'session: messages, records', what: 'messages written, read and dealt' },
  { stage: 'record sealed or opened', what: 'head encrypted, pages authenticated' },
  { stage: 'provider: lease, slab', what: 'look-up, checks' },
  { stage: COPY, what: 'to the slab, or from it into the output' },
  { stage: SEND, what: 'one for all that a turn produced' },
  { stage: RECEIVE, what: 'past the loop, mostly in vain' },
  { stage: 'spin', what: 'the look at the clock between two polls' },
  { stage: GARBAGE_STAGE, what: 'on the thread that serves pages' },
  { stage: OTHER, what: '' },
  { stage: THREADS_STAGE, what: 'collector helpers, libuv' },
];

/** The stage of a function; undefined leaves it to its caller. */
export function stageOf({ functionName, url }: CallFrame): string | undefined {
  if (url === '') return NATIVE[functionName];
  if (url.startsWith('node:')) return NODE;
  const foreign = FOREIGN[functionName];
  if (foreign !== undefined) return foreign;
  const file = /\/dist\/(?:\.\.\/)*(.+)$/.exec(url)?.[1] ?? '';
  return SOURCES.find(([prefix]) => file.startsWith(prefix))?.[1];
}
