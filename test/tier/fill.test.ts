/** Same-filled pages, held to a test of every word. */
import fc from 'fast-check';
import t from 'tap';
import { NativeMemory } from '../../common/native-memory.ts';
import { fillPage, isSameFilled } from '../../tier/fill.ts';

const memory = new NativeMemory(3 * 4096);
const OFFSET = 4096;

/** The slow twin. */
function naive(): boolean {
  const first = memory.bytes.readBigUInt64LE(OFFSET);
  for (let at = 8; at < 4096; at += 8) {
    if (memory.bytes.readBigUInt64LE(OFFSET + at) !== first) return false;
  }
  return true;
}

const u32 = fc.oneof(fc.constantFrom(0, 1, 0xffffffff), fc.integer({ min: 0, max: 0xffffffff }));

t.test('a page of one word is same-filled, and of no other', (t) => {
  fc.assert(
    fc.property(
      u32,
      u32,
      fc.option(fc.record({ at: fc.nat(4095), mask: fc.integer({ min: 1, max: 255 }) })),
      (low, high, change) => {
        memory.bytes.fill(0xa5);
        fillPage(memory, OFFSET, low, high);
        if (change !== null) {
          const at = OFFSET + change.at;
          memory.bytes[at] = (memory.bytes[at] ?? 0) ^ change.mask;
        }
        return isSameFilled(memory, OFFSET) === (change === null) && naive() === (change === null);
      },
    ),
    { numRuns: 1000 },
  );
  t.pass('every page');
  t.end();
});

t.test('a change of any one byte is seen', (t) => {
  for (const word of [0, 7]) {
    fillPage(memory, OFFSET, word, word);
    for (let at = 0; at < 4096; at += 1) {
      memory.bytes[OFFSET + at] = (memory.bytes[OFFSET + at] ?? 0) ^ 1;
      if (isSameFilled(memory, OFFSET)) t.fail(`byte ${at}`);
      memory.bytes[OFFSET + at] = (memory.bytes[OFFSET + at] ?? 0) ^ 1;
    }
    t.ok(isSameFilled(memory, OFFSET));
  }
  t.end();
});

t.test('pages whose words are equal in part are not', (t) => {
  // 16-byte patterns, halves, and the words that the quick glance looks at.
  const cases: [string, (at: number) => number][] = [
    ['a period of 16', (at) => (at >>> 3) & 1],
    ['two halves', (at) => Number(at >= 2048)],
    ['all but the middle', (at) => Number(at === 2000)],
    ['all but the last but one word', (at) => Number(at >= 4080 && at < 4088)],
    ['all but the third word', (at) => Number(at >= 16 && at < 24)],
  ];
  for (const [name, byte] of cases) {
    for (let at = 0; at < 4096; at += 1) memory.bytes[OFFSET + at] = byte(at);
    t.equal(isSameFilled(memory, OFFSET), false, name);
  }
  t.end();
});

t.test('filling writes the page and nothing beside it', (t) => {
  for (const [low, high] of [
    [0, 0],
    [0x04030201, 0x08070605],
    [0, 1],
  ] as const) {
    memory.bytes.fill(0xa5);
    fillPage(memory, OFFSET, low, high);
    t.ok(memory.bytes.subarray(0, OFFSET).every((byte) => byte === 0xa5));
    t.ok(memory.bytes.subarray(OFFSET + 4096).every((byte) => byte === 0xa5));
    t.equal(memory.bytes.readUInt32LE(OFFSET + 4088), low);
    t.equal(memory.bytes.readUInt32LE(OFFSET + 4092), high);
    t.ok(naive());
  }
  t.end();
});

t.teardown(() => memory.free());
