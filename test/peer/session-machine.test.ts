import fc from 'fast-check';
import t, { type Test } from 'tap';
import { NativeMemory } from '../../common/native-memory.ts';
import {
  decodeControlReply,
  decodeGrant,
  encodeControlRequest,
  encodeNotice,
} from '../../peer/control.ts';
import { MemorySlabs } from '../helpers/memory-slabs.ts';
import { sessionPair, settle, Side, type SideOptions } from '../helpers/session-pair.ts';

const OK = 0;
const INVALID = 1;
const UNREACHABLE = 4;
const SHUTDOWN = 5;
const NO_LEASE = 6;
const SEALED = 4112;

/** A consumer, a provider with one slab of 256 pages, and the memory that the consumer writes from. */
function setUp(t: Test, options: { a?: SideOptions; b?: SideOptions } = {}) {
  const slabs = new MemorySlabs(2 ** 26);
  const slab = slabs.book.add('holder', 256);
  const [a, b] = sessionPair(options.a, { access: slabs.openAccess('holder'), ...options.b });
  const source = new NativeMemory(64 * SEALED);
  t.teardown(() => {
    a.free();
    b.free();
    slabs.free();
    source.free();
  });
  return { a, b, slabs, handle: slab.handle, slab, source };
}

t.test('pages written are the pages read, each call ends once', async (t) => {
  const { a, b, handle, source } = setUp(t);
  for (let page = 0; page < 8; page += 1) {
    source.bytes.fill(page + 1, 0, SEALED);
    t.ok(a.machine.requests.writePages(1, page, handle, page, 1, source, 0));
  }
  source.bytes.fill(0xee);
  settle(a, b);
  t.same(
    a.seen.done.map(({ tag, status }) => [tag, status]),
    [...Array(8).keys()].map((tag) => [tag, OK]),
  );
  for (let page = 0; page < 8; page += 1)
    t.ok(a.machine.requests.readPages(2, 100 + page, handle, page, 1));
  settle(a, b);
  t.equal(a.seen.reads.length, 8);
  for (const [page, read] of a.seen.reads.entries()) {
    t.match(read, { owner: 2, tag: 100 + page, status: OK });
    t.same(read.bytes, Buffer.alloc(SEALED, page + 1));
  }
  t.equal(a.machine.requests.count, 0);
});

t.test('a turn with many requests is one record each way', async (t) => {
  const { a, b, handle } = setUp(t);
  for (let tag = 0; tag < 60; tag += 1) a.machine.requests.readPages(0, tag, handle, tag, 1);
  const request = a.flush();
  t.equal(request.length, 8 + 60 * 24 + 16);
  b.receive(request);
  const reply = b.flush();
  t.equal(reply.length, 8 + 60 * SEALED + 60 * 24 + 16);
  a.receive(reply);
  t.equal(a.seen.reads.length, 60);
});

t.test('64 pages in one call, and more calls than one record holds', async (t) => {
  let whole = Buffer.alloc(0);
  const onRead: SideOptions['onRead'] = (_tag, _status, pages, offset) => {
    whole = Buffer.from(pages.bytes.subarray(offset, offset + 64 * SEALED));
  };
  const { a, b, handle, source } = setUp(t, { a: { onRead } });
  for (let index = 0; index < source.bytes.length; index += 1)
    source.bytes[index] = (index * 7) % 253;
  const taken = [0, 1, 2, 3].map((call) => {
    const write = (): boolean =>
      a.machine.requests.writePages(0, call, handle, call * 64, 64, source, 0);
    if (write()) return true;
    settle(a, b);
    t.ok(write(), 'once the first ones have left');
    return false;
  });
  // More would make a queue in which reads wait: the third is refused while the first is still here.
  t.same(taken, [true, true, false, true]);
  settle(a, b);
  a.machine.requests.readPages(0, 9, handle, 192, 64);
  settle(a, b);
  t.same(whole, Buffer.from(source.bytes.subarray(0, 64 * SEALED)));
  t.equal(a.seen.done.length, 4);
});

t.test('errors of the provider come back as their status', async (t) => {
  const { a, b, handle, source } = setUp(t);
  const { requests } = a.machine;
  requests.readPages(0, 1, handle, 255, 2);
  requests.readPages(0, 2, handle + 1, 0, 1);
  requests.writePages(0, 3, handle, 256, 1, source, 0);
  requests.trimPages(0, 4, 0xffffffff, 0xffffffff, 64);
  requests.readPages(0, 5, handle, 0, 1);
  settle(a, b);
  t.same(
    a.seen.reads.map(({ tag, status }) => [tag, status]),
    [
      [1, INVALID],
      [2, NO_LEASE],
      [5, OK],
    ],
  );
  t.same(
    a.seen.done.map(({ tag, status }) => [tag, status]),
    [
      [3, INVALID],
      [4, NO_LEASE],
    ],
  );
});

t.test('a node that lends nothing says so', async (t) => {
  const { a, b, handle, source } = setUp(t, { b: { access: undefined } });
  a.machine.requests.readPages(0, 1, handle, 0, 1);
  a.machine.requests.writePages(0, 2, handle, 0, 1, source, 0);
  a.machine.requests.trimPages(0, 3, handle, 0, 1);
  a.machine.requests.control(
    4,
    encodeControlRequest({ method: 'lease', pageCount: 1, ttlMs: 1000 }),
  );
  settle(a, b);
  t.same(
    [...a.seen.reads, ...a.seen.done].map(({ status }) => status),
    [NO_LEASE, NO_LEASE, NO_LEASE],
  );
  t.match(decodeControlReply(a.seen.controls[0]!.body!), { ok: false, code: 'ERR_LEASE_CAPACITY' });
});

t.test('trimmed pages are wiped', async (t) => {
  const { a, b, handle, slab, source } = setUp(t);
  source.bytes.fill(5);
  a.machine.requests.writePages(0, 1, handle, 0, 4, source, 0);
  a.machine.requests.trimPages(0, 2, handle, 1, 2);
  settle(a, b);
  const sums = [0, 1, 2, 3].map((page) => slab.memory.bytes[page * SEALED]);
  t.same(sums, [5, 0, 0, 5]);
});

t.test('both sides may ask at once', async (t) => {
  const slabs = new MemorySlabs(2 ** 24);
  const slab = slabs.book.add('a-holds', 8);
  const other = slabs.book.add('b-holds', 8);
  slab.memory.bytes.fill(1);
  other.memory.bytes.fill(2);
  const [a, b] = sessionPair(
    { access: slabs.openAccess('b-holds') },
    { access: slabs.openAccess('a-holds') },
  );
  a.machine.requests.readPages(0, 1, slab.handle, 0, 1);
  b.machine.requests.readPages(0, 1, other.handle, 0, 1);
  settle(a, b);
  t.equal(a.seen.reads[0]?.bytes[0], 1);
  t.equal(b.seen.reads[0]?.bytes[0], 2);
  a.free();
  b.free();
  slabs.free();
});

t.test('control requests and notices pass', async (t) => {
  const { a, b, slabs } = setUp(t);
  a.machine.requests.control(
    7,
    encodeControlRequest({ method: 'lease', pageCount: 4, ttlMs: 5000 }),
  );
  b.machine.notice(encodeNotice({ leasesEnded: ['0123456789abcdef'] }));
  settle(a, b);
  t.equal(a.seen.controls[0]?.tag, 7);
  const reply = decodeControlReply(a.seen.controls[0]!.body!);
  t.ok(reply.ok);
  if (reply.ok) t.ok(slabs.book.slabs.has(decodeGrant(reply.fields).slabHandle));
  t.equal(a.seen.notices.length, 1);
});

t.test('reads leave before writes of the same turn', async (t) => {
  const { a, b, handle, slab, source } = setUp(t);
  slab.memory.bytes.fill(1);
  source.bytes.fill(2);
  a.machine.requests.writePages(0, 1, handle, 0, 1, source, 0);
  a.machine.requests.readPages(0, 2, handle, 0, 1);
  settle(a, b);
  t.equal(a.seen.reads[0]?.bytes[0], 1, 'calls in flight have no order; the tier knows');
});

t.test('writes are refused while the socket is congested, reads are not', async (t) => {
  const { a, b, handle, source } = setUp(t);
  a.output.extraBacklogBytes = 1024 * 1024 + 1;
  t.notOk(a.machine.requests.writePages(0, 1, handle, 0, 1, source, 0));
  t.ok(a.machine.requests.readPages(0, 2, handle, 0, 1));
  a.output.extraBacklogBytes = 0;
  t.equal(a.seen.credits, 0);
  a.machine.onDrain();
  t.equal(a.seen.credits, 1, 'and told when it is over');
  settle(a, b);
});

t.test('calls beyond the credits of the peer are refused, then offered once', async (t) => {
  const { a, b, handle } = setUp(t, {
    a: { peerLimits: { requestCountMax: 20, pageBytesMax: 64 * SEALED } },
  });
  let taken = 0;
  while (a.machine.requests.readPages(0, taken, handle, 0, 1)) taken += 1;
  t.equal(taken, 4, '20 less 16 for control');
  settle(a, b);
  t.equal(a.seen.credits, 1);
  t.equal(a.seen.reads.length, 4);
  t.ok(a.machine.requests.readPages(0, 9, handle, 0, 64));
  t.notOk(a.machine.requests.readPages(0, 10, handle, 0, 1), 'by bytes');
  settle(a, b);
});

t.test(
  'a request that gets no reply ends at its deadline, its late reply is dropped',
  async (t) => {
    const { a, b, handle } = setUp(t);
    a.machine.requests.readPages(0, 1, handle, 0, 1);
    b.receive(a.flush());
    const late = b.flush();
    a.machine.tick(999);
    t.equal(a.seen.reads.length, 0);
    a.machine.tick(1000);
    t.match(a.seen.reads, [{ tag: 1, status: UNREACHABLE }]);
    t.equal(a.machine.requests.count, 1, 'the credit is still taken');
    a.receive(late, 1001);
    t.equal(a.seen.reads.length, 1);
    t.equal(a.machine.requests.count, 0);
    t.equal(a.machine.requests.lateReplyCount, 1);
  },
);

t.test('a peer that answers pings but not requests is given up', async (t) => {
  const { a, handle } = setUp(t);
  a.machine.requests.readPages(0, 1, handle, 0, 1);
  a.flush();
  t.throws(
    () => {
      for (let now = 100; now < 60000; now += 100) {
        a.machine.tick(now);
        // Something comes now and then, so it is not dead, but no reply.
        a.machine.onBytes(a.input, 0, 0, now);
      }
    },
    { code: 'ERR_TIMEOUT', message: /unanswered/ },
  );
});

t.test('a silent peer is dead', async (t) => {
  const { a } = setUp(t);
  t.throws(
    () => {
      for (let now = 100; now < 60000; now += 100) a.machine.tick(now);
    },
    { code: 'ERR_TIMEOUT', message: /silent/ },
  );
  t.ok(a.machine.fellSilent);
});

t.test('pings are answered and keep the session', async (t) => {
  const { a, b } = setUp(t);
  for (let now = 100; now < 30000; now += 100) {
    a.machine.tick(now);
    b.machine.tick(now);
    settle(a, b, now);
  }
  t.notOk(a.machine.ended);
});

t.test('the end completes everything once with UNREACHABLE and refuses the rest', async (t) => {
  const { a, handle, source } = setUp(t);
  const { requests } = a.machine;
  requests.readPages(0, 1, handle, 0, 1);
  requests.writePages(0, 2, handle, 0, 1, source, 0);
  requests.control(3, Buffer.from([0x80]));
  a.machine.end();
  a.machine.end();
  t.match(a.seen.reads, [{ tag: 1, status: UNREACHABLE }]);
  t.match(a.seen.done, [{ tag: 2, status: UNREACHABLE }]);
  t.same(a.seen.controls, [{ tag: 3, body: undefined }]);
  t.notOk(requests.readPages(0, 4, handle, 0, 1));
  t.notOk(requests.writePages(0, 4, handle, 0, 1, source, 0));
  t.notOk(requests.trimPages(0, 4, handle, 0, 1));
  t.notOk(requests.control(4, Buffer.alloc(0)));
  a.machine.notice(Buffer.alloc(0));
  a.machine.bye(0);
  a.machine.tick(1e9);
  t.equal(a.flush().length + a.seen.reads.length, 1);
  t.equal(a.machine.onBytes(a.input, 0, 10, 0), 10);
});

t.test('a completion that asks again during the end is refused, not lost', async (t) => {
  const again: boolean[] = [];
  const a: Side = new Side(1, 2, {
    onRead: () => again.push(a.machine.requests.readPages(0, 99, 1, 0, 1)),
  });
  for (let tag = 0; tag < 5; tag += 1) a.machine.requests.readPages(0, tag, 1, 0, 1);
  a.machine.end();
  t.same(again, [false, false, false, false, false]);
  a.output.free();
  a.input.free();
});

t.test('an owner that leaves gets SHUTDOWN, others nothing', async (t) => {
  const { a, b, handle } = setUp(t);
  a.machine.requests.readPages(5, 1, handle, 0, 1);
  a.machine.requests.readPages(6, 2, handle, 0, 1);
  a.machine.requests.abandonOwner(5);
  t.match(a.seen.reads, [{ owner: 5, tag: 1, status: SHUTDOWN }]);
  settle(a, b);
  t.match(a.seen.reads.slice(1), [{ owner: 6, tag: 2, status: OK }]);
  t.equal(a.seen.reads.length, 2);
});

t.test('a page count out of range is a defect of the caller', async (t) => {
  const { a, handle, source } = setUp(t);
  for (const count of [0, 65, -1, NaN]) {
    t.throws(() => a.machine.requests.readPages(0, 1, handle, 0, count), { code: 'ERR_INTERNAL' });
  }
  t.throws(
    () => a.machine.requests.writePages(0, 1, handle, 0, 2, source, 63 * SEALED),
    RangeError,
  );
  t.throws(() => a.machine.requests.writePages(0, 1, handle, 0, 1, source, -1), RangeError);
  t.equal(a.machine.requests.count, 0);
});

t.test('keys change under load and no byte is lost', async (t) => {
  const rekey = { recordCountMax: 3, bytesMax: 2 ** 36, ageMaxMs: 1e9 };
  const { a, b, handle, source } = setUp(t, { a: { rekey }, b: { rekey } });
  for (let round = 0; round < 50; round += 1) {
    source.bytes.fill(round, 0, SEALED);
    a.machine.requests.writePages(0, 1, handle, 3, 1, source, 0);
    settle(a, b);
    a.machine.requests.readPages(0, 2, handle, 3, 1);
    settle(a, b);
    t.equal(a.seen.reads[round]?.bytes[77], round);
  }
});

t.test('bytes split and merged anywhere mean the same', async (t) => {
  const seed = Number(process.env['SEED'] ?? Date.now() % 2 ** 31);
  t.comment(`SEED=${seed}`);
  const { a, b, handle } = setUp(t);
  fc.assert(
    fc.property(
      fc.array(fc.integer({ min: 1, max: 5000 }), { maxLength: 20 }),
      fc.integer({ min: 1, max: 6 }),
      (cuts, turns) => {
        a.seen.reads.length = 0;
        const parts: Buffer[] = [];
        for (let turn = 0; turn < turns; turn += 1) {
          for (let tag = 0; tag < 3; tag += 1)
            a.machine.requests.readPages(0, turn * 3 + tag, handle, tag, 1);
          b.receive(a.flush());
          parts.push(b.flush());
        }
        let rest = Buffer.concat(parts);
        for (const cut of cuts) {
          a.receive(rest.subarray(0, cut));
          rest = rest.subarray(cut);
        }
        a.receive(rest);
        if (a.seen.reads.length !== turns * 3) throw new Error(`${a.seen.reads.length} replies`);
      },
    ),
    { seed, numRuns: 60 },
  );
  t.pass();
});
