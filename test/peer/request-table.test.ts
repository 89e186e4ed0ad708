import fc from 'fast-check';
import t from 'tap';
import { RequestTable } from '../../peer/request-table.ts';

const READ = 1;
const WRITE = 2;
const TRIM = 3;
const CONTROL = 0x20;
const WIDE = { requestCountMax: 1024, pageBytesMax: 2 ** 31 };

t.test('a request is found by its id until its reply, and never after', async (t) => {
  const table = new RequestTable(WIDE, 64);
  const slot = table.acquire(READ, 3, 7, 123456789012, 50);
  const generation = table.generation(slot);
  t.equal(table.find(slot, generation), slot);
  t.match(
    {
      type: table.type(slot),
      pages: table.pageCount(slot),
      owner: table.owner(slot),
      tag: table.tag(slot),
    },
    { type: READ, pages: 3, owner: 7, tag: 123456789012 },
  );
  t.equal(table.find(slot, generation + 1), -1);
  t.equal(table.find(slot + 1, generation), -1);
  t.equal(table.find(64, generation), -1);
  t.equal(table.find(0xffffffff, generation), -1);
  table.release(slot);
  t.equal(table.find(slot, generation), -1, 'a second reply finds nothing');
  const again = table.acquire(READ, 1, 0, 1, 50);
  t.equal(again, slot, 'the slot is used again');
  t.equal(table.find(slot, generation), -1, 'the old id stays unknown');
});

t.test('no id is ever 0', async (t) => {
  const table = new RequestTable(WIDE, 64);
  const slot = table.acquire(READ, 1, 0, 0, 0);
  t.equal(table.generation(slot), 1);
});

t.test('an abandoned request keeps its credit until its late reply', async (t) => {
  const table = new RequestTable({ requestCountMax: 32, pageBytesMax: 2 * 4112 }, 32);
  const slot = table.acquire(READ, 2, 0, 0, 10);
  t.equal(table.acquire(READ, 1, 0, 0, 10), -1);
  table.abandon(slot);
  t.ok(table.isAbandoned(slot));
  t.equal(table.acquire(READ, 1, 0, 0, 10), -1);
  t.equal(table.find(slot, table.generation(slot)), slot, 'the late reply is expected');
  t.equal(table.nextWaiting(0, Infinity), -1, 'nobody waits for it');
  t.equal(table.hasAbandonedSince(9), false);
  t.equal(table.hasAbandonedSince(10), true);
  table.release(slot);
  t.match(table, { count: 0, abandonedCount: 0, lateReplyCount: 1 });
  t.not(table.acquire(READ, 2, 0, 0, 10), -1);
});

t.test('16 slots are kept for control requests', async (t) => {
  const table = new RequestTable(WIDE, 64);
  for (let index = 0; index < 48; index += 1) t.not(table.acquire(READ, 1, 0, 0, 0), -1);
  t.equal(table.acquire(READ, 1, 0, 0, 0), -1);
  for (let index = 0; index < 16; index += 1) t.not(table.acquire(CONTROL, 0, 0, 0, 0), -1);
  t.equal(table.acquire(CONTROL, 0, 0, 0, 0), -1);
});

t.test('writes and trims leave a quarter of the requests to reads', async (t) => {
  const table = new RequestTable(WIDE, 64);
  for (let index = 0; index < 36; index += 1) {
    t.not(table.acquire(index % 2 === 0 ? WRITE : TRIM, index % 2 === 0 ? 1 : 0, 0, 0, 0), -1);
  }
  t.equal(table.acquire(WRITE, 1, 0, 0, 0), -1);
  t.equal(table.acquire(TRIM, 0, 0, 0, 0), -1);
  t.not(table.acquire(READ, 1, 0, 0, 0), -1);
});

t.test('writes leave a quarter of the page bytes to reads', async (t) => {
  const table = new RequestTable({ requestCountMax: 1024, pageBytesMax: 128 * 4112 }, 1024);
  t.not(table.acquire(WRITE, 64, 0, 0, 0), -1);
  t.equal(table.acquire(WRITE, 33, 0, 0, 0), -1);
  t.not(table.acquire(WRITE, 32, 0, 0, 0), -1);
  t.equal(table.acquire(WRITE, 1, 0, 0, 0), -1);
  t.not(table.acquire(READ, 32, 0, 0, 0), -1);
  t.equal(table.acquire(READ, 1, 0, 0, 0), -1);
});

t.test('a provider that grants one request still gets requests, one at a time', async (t) => {
  const table = new RequestTable({ requestCountMax: 1, pageBytesMax: 64 * 4112 }, 1024);
  const slot = table.acquire(WRITE, 64, 0, 0, 0);
  t.equal(slot, 0);
  t.equal(table.acquire(READ, 1, 0, 0, 0), -1);
  table.release(slot);
  t.equal(table.acquire(READ, 1, 0, 0, 0), 0);
});

t.test('the sweep finds what is due, by owner if asked', async (t) => {
  const table = new RequestTable(WIDE, 64);
  const slots = [10, 20, 30].map((deadline, owner) => table.acquire(READ, 1, owner, 0, deadline));
  t.equal(table.nextWaiting(0, 9), -1);
  t.equal(table.nextWaiting(0, 10), slots[0]);
  t.equal(table.nextWaiting(slots[0]! + 1, 10), -1);
  t.equal(table.nextWaiting(0, Infinity, 2), slots[2]);
  t.equal(table.nextWaiting(0, 29, 2), -1);
});

t.test('any order of events keeps counts and credits equal to a naive model', async (t) => {
  const seed = Number(process.env['SEED'] ?? Date.now() % 2 ** 31);
  t.comment(`SEED=${seed}`);
  const event = fc.record({
    kind: fc.constantFrom('read', 'write', 'trim', 'control', 'reply', 'abandon'),
    pages: fc.integer({ min: 1, max: 64 }),
    pick: fc.nat(),
  });
  fc.assert(
    fc.property(fc.array(event, { maxLength: 300 }), (events) => {
      const limits = { requestCountMax: 40, pageBytesMax: 200 * 4112 };
      const table = new RequestTable(limits, 1024);
      const model = new Map<number, { type: number; pages: number; id: string; dead: boolean }>();
      const ids = new Set<string>();
      for (const { kind, pages, pick } of events) {
        const keys = [...model.keys()];
        const chosen = keys[pick % Math.max(1, keys.length)];
        if (kind === 'reply' || kind === 'abandon') {
          if (chosen === undefined) continue;
          if (kind === 'reply') {
            table.release(chosen);
            model.delete(chosen);
          } else if (!model.get(chosen)!.dead) {
            table.abandon(chosen);
            model.get(chosen)!.dead = true;
          }
        } else {
          const type = { read: READ, write: WRITE, trim: TRIM, control: CONTROL }[kind];
          const carried = kind === 'read' || kind === 'write' ? pages : 0;
          const rows = [...model.values()];
          const sum = (of: typeof rows): number => of.reduce((total, row) => total + row.pages, 0);
          const writes = rows.filter((row) => row.type === WRITE || row.type === TRIM);
          const allowed =
            type === CONTROL
              ? rows.length < 40
              : rows.length < 24 &&
                sum(rows) + carried <= 200 &&
                (type === READ ||
                  (writes.length < 18 && (sum(writes) === 0 || sum(writes) + carried <= 150)));
          const slot = table.acquire(type, carried, 1, 2, 3);
          if (allowed !== slot >= 0) throw new Error(`${kind} of ${pages}: expected ${allowed}`);
          if (slot < 0) continue;
          const id = `${slot}/${table.generation(slot)}`;
          if (ids.has(id)) throw new Error(`id ${id} was used twice`);
          ids.add(id);
          model.set(slot, { type, pages: carried, id, dead: false });
        }
        if (table.count !== model.size) throw new Error('count');
      }
    }),
    { seed, numRuns: 200 },
  );
  t.pass();
});
