/** Requests about objects on a session: order, credits, ends, and peers that break the rules. */
import t, { type Test } from 'tap';
import type { RequestFailure } from '../../peer/body-requests.ts';
import { MemorySlabs } from '../helpers/memory-slabs.ts';
import { sessionPair, settle, type Side, type SideOptions } from '../helpers/session-pair.ts';

const OBJECT = 0x30;
const OBJECT_REPLY = 0xb0;
const ID_BASE = 2 ** 31;
const MIB = 2 ** 20;

interface End {
  reply?: string;
  failure?: RequestFailure;
}

/** Two sides; `b` answers with `serve`, by default with what it was sent. */
function pair(t: Test, serve = (body: Buffer): Buffer => Buffer.from(body), a: SideOptions = {}) {
  const served: string[] = [];
  const [one, other] = sessionPair(a, {
    serveObject: (body) => {
      served.push(body.toString('latin1', 0, 8));
      return serve(body);
    },
  });
  t.teardown(() => {
    one.free();
    other.free();
  });
  const ends: End[] = [];
  const ask = (body: string | Buffer, replySizeMax = 1000) =>
    one.machine.objects.request(Buffer.from(body), replySizeMax, (reply, failure) =>
      ends.push(reply === undefined ? { failure } : { reply: reply.toString('latin1', 0, 8) }),
    );
  return { a: one, b: other, served, ends, ask };
}

/** Puts one message into the next record of a side, whatever it is. */
function inject(side: Side, type: number, idLow: number, idHigh: number, body: Buffer, aux = 0) {
  side.writer.body(type, idLow, idHigh, body, aux);
}

t.test('requests are executed and answered in the order of the calls', (t) => {
  const { a, b, served, ends, ask } = pair(t);
  for (let index = 0; index < 200; index += 1) ask(`r${index}`);
  t.equal(a.machine.objects.count, 64, 'so many at once');
  t.equal(a.machine.objects.queuedCount, 136);
  settle(a, b);
  const names = Array.from({ length: 200 }, (_, index) => `r${index}`);
  t.same(served, names);
  t.same(
    ends.map(({ reply }) => reply),
    names,
  );
  t.equal(a.machine.objects.count, 0);
  t.end();
});

t.test(
  '20 000 requests leave no row behind, and each hears its reply though it comes at once',
  (t) => {
    const { a, b, ends, ask } = pair(t);
    for (let index = 0; index < 20_000; index += 1) {
      ask(`r${index}`);
      b.receive(a.flush());
      a.receive(b.flush());
      if (ends.pop()?.reply !== `r${index}`) t.fail(`reply ${index}`);
    }
    t.equal(ends.length, 0);
    t.equal(a.machine.objects.count, 0);
    t.equal(a.machine.objects.queuedCount, 0);
    t.end();
  },
);

t.test('bodies and the most that replies may be are at most 1 MiB at once', (t) => {
  const { a, b, ends, ask } = pair(t, () => Buffer.alloc(0));
  const body = Buffer.alloc(49_152);
  for (let index = 0; index < 40; index += 1) ask(body, 2560);
  const inFlight = a.machine.objects.count;
  t.ok(inFlight * (49_152 + 2560) <= MIB);
  t.ok(inFlight > 0 && inFlight < 40, `${inFlight} in flight`);
  settle(a, b);
  t.equal(ends.length, 40);
  for (let index = 0; index < 40; index += 1) ask('x', 60_000);
  t.ok(a.machine.objects.count <= Math.floor(MIB / 60_001), 'replies count as well');
  settle(a, b);
  t.equal(ends.length, 80);
  t.end();
});

t.test('a page request never waits for a credit that an object has', (t) => {
  const slabs = new MemorySlabs(2 ** 24);
  const { handle } = slabs.book.add('holder', 16);
  const [a, b] = sessionPair(
    {},
    { access: slabs.openAccess('holder'), serveObject: () => Buffer.alloc(0) },
  );
  t.teardown(() => {
    a.free();
    b.free();
    slabs.free();
  });
  for (let index = 0; index < 500; index += 1) {
    a.machine.objects.request(Buffer.alloc(1000), 1000, () => undefined);
  }
  let taken = 0;
  while (a.machine.requests.readPages(0, taken, handle, 0, 1)) taken += 1;
  t.equal(taken, 1008, 'as many as without objects');
  settle(a, b);
  t.equal(a.seen.reads.length, taken);
  t.end();
});

t.test('READ leaves before OBJECT of the same turn', (t) => {
  const order: string[] = [];
  const slabs = new MemorySlabs(2 ** 24);
  const { handle } = slabs.book.add('holder', 16);
  const [a, b] = sessionPair(
    { onRead: () => order.push('read') },
    { access: slabs.openAccess('holder'), serveObject: () => Buffer.alloc(0) },
  );
  t.teardown(() => {
    a.free();
    b.free();
    slabs.free();
  });
  a.machine.objects.request(Buffer.alloc(10), 10, () => order.push('object'));
  a.machine.requests.readPages(0, 1, handle, 0, 1);
  settle(a, b);
  t.same(order, ['read', 'object']);
  t.end();
});

t.test('what waits is bounded, and refused beyond', (t) => {
  const { ends, ask } = pair(t);
  for (let index = 0; index < 64 + 4096; index += 1) ask('x');
  t.equal(ends.length, 0);
  ask('one too many');
  t.same(ends, [{ failure: 'ERR_PEER_UNREACHABLE' }]);
  const other = pair(t);
  const body = Buffer.alloc(60_000);
  for (let index = 0; index < 700; index += 1) other.ask(body);
  t.ok(other.ends.length > 0, 'bytes are bounded as well');
  t.ok((700 - other.ends.length) * 60_000 <= 33 * MIB);
  t.throws(() => ask(Buffer.alloc(60_001)), { code: 'ERR_INTERNAL' });
  t.end();
});

t.test('a request ends once: by its deadline, by its caller, or with the session', (t) => {
  const { a, b, ends, ask } = pair(t);
  ask('silent');
  a.flush();
  a.machine.tick(1000);
  t.same(ends, [{ failure: 'ERR_TIMEOUT' }], 'a second without a reply');
  const cancelled = ask('cancelled');
  a.machine.objects.cancel(cancelled);
  a.machine.objects.cancel(cancelled);
  t.same(ends.splice(0), [{ failure: 'ERR_TIMEOUT' }, { failure: 'ERR_CANCELLED' }]);
  t.equal(a.machine.objects.count, 2, 'both are still on the books');
  for (let index = 0; index < 63; index += 1) ask(`n${index}`);
  t.equal(a.machine.objects.queuedCount, 1);
  a.machine.end();
  t.equal(ends.length, 63);
  t.ok(ends.every(({ failure }) => failure === 'ERR_PEER_UNREACHABLE'));
  ask('late');
  t.equal(ends.length, 64);
  t.equal(b.seen.byes.length, 0);
  t.end();
});

t.test('a late reply is dropped, its credit comes back', (t) => {
  const { a, b, ends, ask } = pair(t);
  ask('slow');
  const request = a.flush();
  a.machine.tick(1000);
  b.receive(request, 1000);
  a.receive(b.flush(), 1000);
  t.same(ends, [{ failure: 'ERR_TIMEOUT' }], 'told once');
  t.equal(a.machine.objects.count, 0);
  t.end();
});

t.test('a peer that sits on requests loses the session', (t) => {
  const { a, ask } = pair(t);
  ask('x');
  a.flush();
  t.throws(
    () => {
      for (let nowMs = 0; nowMs < 40_000; nowMs += 50) {
        a.machine.tick(nowMs);
        a.flush();
      }
    },
    { code: 'ERR_TIMEOUT' },
  );
  t.end();
});

t.test('replies that answer nothing break the session', (t) => {
  const cases: [string, (b: Side) => void][] = [
    ['no request', (b) => inject(b, OBJECT_REPLY, ID_BASE, 1, Buffer.alloc(1))],
    ['another generation', (b) => inject(b, OBJECT_REPLY, ID_BASE, 2, Buffer.alloc(1))],
    ['an id of pages', (b) => inject(b, OBJECT_REPLY, 0, 1, Buffer.alloc(1))],
    ['beyond the slots', (b) => inject(b, OBJECT_REPLY, ID_BASE + 64, 1, Buffer.alloc(1))],
    ['an aux', (b) => inject(b, OBJECT_REPLY, ID_BASE, 1, Buffer.alloc(1), 1)],
    ['control for object', (b) => inject(b, 0xa0, ID_BASE, 1, Buffer.alloc(1))],
  ];
  for (const [index, [name, break_]] of cases.entries()) {
    const { a, b, ask } = pair(t);
    if (index > 0) {
      ask('x');
      a.flush();
    }
    break_(b);
    t.throws(() => a.receive(b.flush()), { code: 'ERR_PEER_PROTOCOL' }, name);
  }
  const { a, b, ask } = pair(t, () => Buffer.alloc(11));
  ask('x', 10);
  const request = a.flush();
  t.throws(() => b.receive(request), { code: 'ERR_PEER_PROTOCOL' }, 'the asker takes less');
  const two = pair(t);
  two.ask('x', 10);
  two.a.flush();
  inject(two.b, OBJECT_REPLY, ID_BASE, 1, Buffer.alloc(11));
  t.throws(() => two.a.receive(two.b.flush()), { code: 'ERR_PEER_PROTOCOL' }, 'longer than asked');
  const twice = pair(t);
  twice.ask('x', 10);
  twice.a.flush();
  inject(twice.b, OBJECT_REPLY, ID_BASE, 1, Buffer.alloc(1));
  inject(twice.b, OBJECT_REPLY, ID_BASE, 1, Buffer.alloc(1));
  t.throws(() => twice.a.receive(twice.b.flush()), { code: 'ERR_PEER_PROTOCOL' }, 'a second reply');
  t.end();
});

t.test('a peer beyond its credits breaks the session, and gets no answer', (t) => {
  const many = pair(t, () => Buffer.alloc(0));
  for (let index = 0; index < 65; index += 1) inject(many.a, OBJECT, index, 9, Buffer.alloc(1), 10);
  t.throws(() => many.b.receive(many.a.flush()), { code: 'ERR_PEER_PROTOCOL' });
  t.equal(many.served.length, 64);
  const heavy = pair(t, () => Buffer.alloc(0));
  for (let index = 0; index < 18; index += 1) {
    inject(heavy.a, OBJECT, index, 9, Buffer.alloc(1000), 60_000);
  }
  t.throws(() => heavy.b.receive(heavy.a.flush()), { code: 'ERR_PEER_PROTOCOL' });
  const greedy = pair(t);
  inject(greedy.a, OBJECT, 0, 9, Buffer.alloc(1), 60_001);
  t.throws(() => greedy.b.receive(greedy.a.flush()), { code: 'ERR_PEER_PROTOCOL' });
  t.same(greedy.served, []);
  t.end();
});

t.test('where no objects are served a request breaks the session', (t) => {
  const [a, b] = sessionPair();
  t.teardown(() => {
    a.free();
    b.free();
  });
  a.machine.objects.request(Buffer.alloc(1), 100, () => undefined);
  t.throws(() => b.receive(a.flush()), { code: 'ERR_PEER_PROTOCOL', message: /no objects/ });
  t.end();
});

t.test('objects do not grow a queue in which a page waits', (t) => {
  const { a, b, ends, ask } = pair(t);
  a.output.extraBacklogBytes = 300_000;
  ask('waits');
  t.equal(a.machine.objects.count, 0, 'the kernel has not taken what was sent');
  a.output.extraBacklogBytes = 0;
  a.machine.onDrain();
  t.equal(a.machine.objects.count, 1);
  settle(a, b);
  t.same(ends, [{ reply: 'waits' }]);
  t.end();
});
