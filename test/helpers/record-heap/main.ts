/**
 * A program that measures what a record of the object store takes of the heap, for each kind of object;
 * prints a line of JSON for each. Who runs it keeps V8 from compiling and forgetting code meanwhile
 * (`--no-opt --no-flush-bytecode`), which would weigh more than the records.
 */
import { makeStore } from '../object-rig.ts';
import type { LocalHolder } from '../../../objects/holder.ts';

const EMPTY = Buffer.alloc(0);
/** Just behind a doubling of maps, where they weigh most. */
const RECORD_COUNT = 34_000;
/** Values of 160 000 bytes: as many as 80 MiB hold. */
const LONG_VALUE_COUNT = 500;
const LONG_SLOTS_BYTES = 2 * 65_536 + 32_768;
const WARM_UP_COUNT = 1100;

interface Kind {
  name: string;
  put: (holder: LocalHolder, index: number) => unknown;
  count?: number;
  slotBytes?: number;
}

const KINDS: Kind[] = [
  { name: 'keys', put: (holder, index) => holder.put(`some/key/${index}`, EMPTY, {}) },
  { name: 'blocks', put: (holder) => holder.put(undefined, EMPTY, {}) },
  {
    name: 'cached keys with an end',
    put: (holder, index) =>
      holder.put(`k${index}`, EMPTY, { mode: 'cache', ttlMs: 10 ** 6 + index }),
  },
  {
    name: 'private keys',
    put: (holder, index) => holder.put(`€${index}`, EMPTY, { readers: 'private' }),
  },
  {
    name: 'keys for nodes that nobody knows',
    put: (holder, index) => holder.put(`k${index}`, EMPTY, { readers: nodes(index) }),
  },
  {
    name: 'values of several pieces',
    put: putPieces,
    count: LONG_VALUE_COUNT,
    slotBytes: LONG_SLOTS_BYTES,
  },
];

function nodes(index: number): string[] {
  return Array.from({ length: 4 }, (_, each) => (index * 4 + each).toString(16).padStart(32, '0'));
}

function putPieces(holder: LocalHolder): void {
  const upload = holder.begin(undefined, {});
  const piece = Buffer.alloc(40_000, 'p');
  for (let count = 0; count < 4; count += 1) holder.append(upload, count * 40_000, piece);
  holder.commit(upload);
}

/** Bytes of the heap and of array buffers after a collection. */
function heapBytes(): number {
  const collect = globalThis.gc;
  if (collect === undefined) throw new Error('expected node --expose-gc');
  collect();
  collect();
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
}

function measure({ name, put, count = RECORD_COUNT, slotBytes = 0 }: Kind): object {
  const rig = makeStore();
  const { anna, store } = rig;
  for (let index = 0; index < WARM_UP_COUNT; index += 1) put(anna, index);
  anna.flush();
  const beforeBytes = heapBytes();
  for (let index = 0; index < count; index += 1) put(anna, index);
  const grownBytes = heapBytes() - beforeBytes;
  const chargedBytes = store.usage().chargedBytes - count * slotBytes;
  rig.end();
  rig.memory.close();
  return { name, count, grownBytes, chargedBytes };
}

// The first of all finds code that was never run.
measure(KINDS[0]!);
for (const kind of KINDS) {
  measure({ ...kind, count: WARM_UP_COUNT });
  process.stdout.write(`${JSON.stringify(measure(kind))}\n`);
}
