/** Labelled pages: kept as they are, and opened only as the page and version that they are. */
import fc from 'fast-check';
import t from 'tap';
import { MemcloudError } from '../../common/errors.ts';
import { NativeMemory } from '../../common/native-memory.ts';
import { PageLabeller } from '../../tier/page-guard.ts';

const memory = new NativeMemory(4 * 4112);
const AT = { from: 0, kept: 4096, to: 4096 + 4112 };
const u32 = fc.oneof(
  fc.constantFrom(0, 1, 0xffffffff, 0x80000000),
  fc.integer({ min: 0, max: 0xffffffff }),
);
const text = Buffer.from(Array.from({ length: 4096 }, (_, index) => (index * 37) & 0xff));

function keep(labeller: PageLabeller, page: number, low: number, high: number): void {
  memory.bytes.set(text, AT.from);
  labeller.seal(page, low, high, memory.address + AT.from, memory.address + AT.kept);
}

function open(labeller: PageLabeller, page: number, low: number, high: number): boolean {
  memory.bytes.fill(0xaa, AT.to, AT.to + 4096);
  return labeller.open(page, low, high, memory.address + AT.kept, memory.address + AT.to);
}

t.test('a page comes back as it was, under its own page and version and no other', (t) => {
  const labeller = new PageLabeller();
  fc.assert(
    fc.property(u32, u32, u32, u32, u32, u32, (page, low, high, page2, low2, high2) => {
      keep(labeller, page, low, high);
      if (!open(labeller, page, low, high)) return false;
      if (!text.equals(memory.bytes.subarray(AT.to, AT.to + 4096))) return false;
      const same = page === page2 && low === low2 && high === high2;
      return open(labeller, page2, low2, high2) === same;
    }),
  );
  labeller.destroy();
  t.end();
});

t.test('it lies there as it is, with its label behind it', (t) => {
  const labeller = new PageLabeller();
  keep(labeller, 5, 6, 7);
  t.same(memory.bytes.subarray(AT.kept, AT.kept + 4096), text);
  t.equal(
    memory.bytes.toString('hex', AT.kept + 4096, AT.kept + 4112),
    '4d43504c050000000600000007000000',
  );
  labeller.destroy();
  t.end();
});

t.test('memory that was wiped is no page, not even page 0 of version 0', (t) => {
  const labeller = new PageLabeller();
  memory.bytes.fill(0, AT.kept, AT.kept + 4112);
  t.equal(open(labeller, 0, 0, 0), false);
  t.same(memory.bytes.subarray(AT.to, AT.to + 4096), Buffer.alloc(4096, 0xaa), 'nothing is given');
  labeller.destroy();
  t.end();
});

t.test('a destroyed one opens nothing, and none has secrets to hand over', (t) => {
  const labeller = new PageLabeller();
  keep(labeller, 1, 2, 3);
  t.throws(() => labeller.exportSecrets(), MemcloudError);
  labeller.destroy();
  labeller.destroy();
  t.throws(() => open(labeller, 1, 2, 3), MemcloudError);
  t.throws(() => keep(labeller, 1, 2, 4), MemcloudError);
  t.end();
});
