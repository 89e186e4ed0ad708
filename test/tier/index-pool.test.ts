/** Row numbers: each in use once, all given back, growth by doubling up to a bound. */
import fc from 'fast-check';
import t from 'tap';
import { CallKind, CallTable } from '../../tier/call-table.ts';
import { IndexPool, extended } from '../../tier/index-pool.ts';
import { RequestKind, RequestTable } from '../../tier/request-table.ts';

t.test('numbers in use are different, whatever the order of taking and giving back', (t) => {
  fc.assert(
    fc.property(fc.array(fc.oneof(fc.constant(-1), fc.nat()), { maxLength: 300 }), (steps) => {
      let table = new Uint8Array(0);
      const grown: number[] = [];
      const pool = new IndexPool({ capacity: 2, capacityMax: 1024 }, (capacity) => {
        grown.push(capacity);
        table = extended(table, capacity);
      });
      const used: number[] = [];
      for (const step of steps) {
        if (step === -1) {
          const index = pool.take();
          if (used.includes(index) || index < 0 || index >= table.length) return false;
          used.push(index);
        } else if (used.length > 0) {
          const [index] = used.splice(step % used.length, 1) as [number];
          pool.give(index);
        }
        if (pool.usedCount !== used.length || pool.capacity !== table.length) return false;
      }
      return grown.every((capacity, turn) => capacity === 2 ** (turn + 1));
    }),
  );
  t.pass('every order');
  t.end();
});

t.test('above the bound there is an error, and the pool works on', (t) => {
  const pool = new IndexPool({ capacity: 2, capacityMax: 4 }, () => undefined);
  const taken = [pool.take(), pool.take(), pool.take(), pool.take()];
  t.throws(() => pool.take(), { code: 'ERR_INTERNAL', message: /expected at most 4/ });
  t.equal(pool.usedCount, 4);
  pool.give(taken[2] as number);
  t.equal(pool.take(), taken[2]);
  t.end();
});

t.test('an array grows with what is in it', (t) => {
  t.same(extended(Uint32Array.of(1, 2), 4), Uint32Array.of(1, 2, 0, 0));
  t.same(extended(Float64Array.of(0.5), 2), Float64Array.of(0.5, 0));
  t.same(extended(Int32Array.of(-1), 1), Int32Array.of(-1));
  t.end();
});

t.test('a table of calls keeps its rows when it grows, and new rows are clean', (t) => {
  const calls = new CallTable();
  const rows = Array.from({ length: 5000 }, (_, index) => {
    const row = calls.take(CallKind.WRITE, index, 4_294_967_000 + (index % 200), 64, index);
    calls.attempt[row] = 200;
    calls.forged[row] = 3;
    calls.issuedAt[row] = 2 ** 40 + index;
    return row;
  });
  t.equal(new Set(rows).size, 5000);
  t.equal(calls.usedCount, 5000);
  rows.forEach((row, index) => {
    if (calls.page[row] !== 4_294_967_000 + (index % 200)) t.fail(`page of ${index}`);
    if (calls.issuedAt[row] !== 2 ** 40 + index) t.fail(`version of ${index}`);
    if (calls.slab[row] !== index) t.fail(`slab of ${index}`);
  });
  rows.forEach((row) => calls.give(row));
  const row = calls.take(CallKind.READ, 1, 2, 3, 4);
  t.same([calls.attempt[row], calls.forged[row], calls.next[row]], [0, 0, -1]);
  t.equal(calls.usedCount, 1);
  t.end();
});

t.test('a table of requests keeps its rows when it grows, and lets go of buffers', (t) => {
  const requests = new RequestTable();
  const buffer = { bytes: Buffer.alloc(1), address: 1 };
  const rows = Array.from({ length: 3000 }, (_, index) => {
    const row = requests.take(RequestKind.WRITE, 1, index, 500);
    requests.setRange(row, index, 1, buffer, 2 ** 33 + index);
    return row;
  });
  rows.forEach((row, index) => {
    if (requests.tag[row] !== index || requests.bufferOffset[row] !== 2 ** 33 + index)
      t.fail(`${index}`);
  });
  t.equal(requests.writeCovers(2999), true);
  t.equal(requests.writeCovers(3000), false);
  rows.forEach((row) => requests.give(row));
  t.equal(requests.writeCovers(2999), false);
  t.ok(rows.every((row) => requests.buffer[row] === undefined));
  t.equal(requests.usedCount, 0);
  t.end();
});
