/** Managed calls on a session: answered in any order, bounded, and neither in the way of pages nor behind them. */
import t, { type Test } from 'tap';
import type { ManageRequest } from '../../peer/managed-replies.ts';
import { MemorySlabs } from '../helpers/memory-slabs.ts';
import { sessionPair, settle, type Side } from '../helpers/session-pair.ts';

const MANAGE = 0x40;
const MANAGE_REPLY = 0xc0;
const ID_BASE = 2 ** 30;
const KIB = 1024;

type End = string;

/** Two sides; `b` keeps what it is asked until the test answers. */
function pair(t: Test) {
  const open: { request: ManageRequest; body: string }[] = [];
  const [a, b] = sessionPair(
    {},
    { onManage: (request, body) => open.push({ request, body: body.toString('latin1', 0, 8) }) },
  );
  t.teardown(() => {
    a.free();
    b.free();
  });
  const ends: End[] = [];
  const ask = (body: string | Buffer) =>
    a.machine.managed.request(Buffer.from(body), 60_000, (reply, failure) =>
      ends.push(reply === undefined ? failure : reply.toString('latin1', 0, 8)),
    );
  const answer = (index: number, body: string | Buffer = open[index]!.body): void =>
    b.machine.managedReplies.reply(open[index]!.request, Buffer.from(body));
  return { a, b, open, ends, ask, answer };
}

function inject(side: Side, type: number, idLow: number, idHigh: number, length = 1, aux = 0) {
  side.writer.body(type, idLow, idHigh, Buffer.alloc(length), aux);
}

t.test('calls are answered when their answer is there, in any order', (t) => {
  const { a, b, open, ends, ask, answer } = pair(t);
  for (const name of ['one', 'two', 'three']) ask(name);
  settle(a, b);
  t.same(
    open.map(({ body }) => body),
    ['one', 'two', 'three'],
  );
  t.equal(b.machine.managedReplies.count, 3);
  answer(2);
  settle(a, b);
  answer(0);
  answer(1);
  settle(a, b);
  t.same(ends, ['three', 'one', 'two']);
  t.equal(a.machine.managed.count + b.machine.managedReplies.count, 0);
  t.end();
});

t.test('64 are in flight, more wait in order, and slots come back', (t) => {
  const { a, b, open, ends, ask, answer } = pair(t);
  for (let index = 0; index < 200; index += 1) ask(`r${index}`);
  t.equal(a.machine.managed.count, 64);
  t.equal(a.machine.managed.queuedCount, 136);
  for (let index = 0; index < 200; index += 1) {
    settle(a, b);
    t.ok(b.machine.managedReplies.count <= 64);
    answer(index);
  }
  settle(a, b);
  t.same(
    ends,
    Array.from({ length: 200 }, (_, index) => `r${index}`),
  );
  t.equal(open.length, 200);
  t.end();
});

t.test('bodies of 60 000 bytes go both ways, and none longer', (t) => {
  const { a, b, ends, ask, answer } = pair(t);
  ask(Buffer.alloc(60_000, 'q'));
  settle(a, b);
  answer(0, Buffer.alloc(60_000, 'r'));
  settle(a, b);
  t.same(ends, ['rrrrrrrr']);
  t.throws(() => ask(Buffer.alloc(60_001)), { code: 'ERR_INTERNAL' });
  ask('x');
  settle(a, b);
  t.throws(() => answer(1, Buffer.alloc(60_001)), { code: 'ERR_INTERNAL', message: /60001/ });
  t.end();
});

t.test('pages do not keep calls back, nor do calls make a queue for pages', (t) => {
  const { a, b, open, ends, ask, answer } = pair(t);
  // The kernel takes nothing for a while.
  a.output.extraBacklogBytes = 10 * KIB * KIB;
  b.output.extraBacklogBytes = 10 * KIB * KIB;
  for (let index = 0; index < 40; index += 1) ask(Buffer.alloc(20_000, 'q'));
  t.equal(a.machine.managed.count, 3, '64 KiB at most');
  a.machine.tick(50);
  t.equal(a.machine.managed.count, 6, 'and as many with each tick');
  settle(a, b, 50);
  t.equal(open.length, 6);
  for (let index = 0; index < 6; index += 1) answer(index, Buffer.alloc(30_000, 'r'));
  settle(a, b, 50);
  t.equal(ends.length, 2, 'replies likewise');
  b.machine.tick(100);
  settle(a, b, 100);
  t.equal(ends.length, 4);
  a.output.extraBacklogBytes = b.output.extraBacklogBytes = 0;
  for (let turn = 0; turn < 4; turn += 1) {
    a.machine.onDrain();
    b.machine.onDrain();
    settle(a, b, 100);
  }
  t.equal(ends.length, 6, 'all that is answered, once there is room');
  t.equal(open.length, 40);
  t.end();
});

t.test('READ leaves before MANAGE of the same turn, and takes no credit of its', (t) => {
  const order: string[] = [];
  const slabs = new MemorySlabs(2 ** 24);
  const { handle } = slabs.book.add('holder', 16);
  const [a, b] = sessionPair(
    { onRead: () => order.push('read') },
    { access: slabs.openAccess('holder'), onManage: () => order.push('manage') },
  );
  t.teardown(() => {
    a.free();
    b.free();
    slabs.free();
  });
  for (let index = 0; index < 100; index += 1) {
    a.machine.managed.request(Buffer.from('x'), 60_000, () => undefined);
  }
  let taken = 0;
  while (a.machine.requests.readPages(0, taken, handle, 0, 1)) taken += 1;
  t.equal(taken, 1008, 'as many as without');
  settle(a, b);
  t.equal(order.filter((what) => what === 'manage').length, 64);
  t.equal(a.seen.reads.length, taken);
  t.end();
});

t.test('a call ends once: by its deadline, by its caller, or with the session', (t) => {
  const { a, b, ends, ask, answer } = pair(t);
  ask('slow');
  settle(a, b);
  a.machine.tick(1000);
  t.same(ends.splice(0), ['ERR_TIMEOUT']);
  answer(0);
  settle(a, b, 1000);
  t.same(ends, [], 'a late reply is dropped');
  t.equal(a.machine.managed.count, 0);
  const cancelled = ask('cancelled');
  a.machine.managed.cancel(cancelled);
  t.same(ends.splice(0), ['ERR_CANCELLED']);
  for (let index = 0; index < 70; index += 1) ask('x');
  t.equal(a.machine.managed.queuedCount, 7);
  settle(a, b, 1000);
  a.machine.end();
  t.equal(ends.length, 70);
  t.ok(ends.every((end) => end === 'ERR_PEER_UNREACHABLE'));
  b.machine.end();
  answer(1);
  t.equal(b.machine.managedReplies.count, 0, 'an answer after the end is dropped');
  t.end();
});

t.test('what waits is bounded in number, bytes and time', (t) => {
  const { a, b, ends, ask } = pair(t);
  for (let index = 0; index < 64 + 1024; index += 1) ask('x');
  t.same(ends, []);
  ask('one too many');
  t.same(ends.splice(0), ['ERR_PEER_UNREACHABLE']);
  const other = pair(t);
  for (let index = 0; index < 400; index += 1) other.ask(Buffer.alloc(60_000));
  t.ok(other.ends.length >= 400 - 64 - 140, `${other.ends.length} refused`);
  settle(a, b);
  a.machine.tick(5000);
  t.equal(ends.length, 1088, 'those that were sent, and those that waited');
  t.ok(ends.every((end) => end === 'ERR_TIMEOUT'));
  t.end();
});

t.test('a call that takes its time calls nobody dead', (t) => {
  const { a, b, ask } = pair(t);
  ask('slow');
  // It learns the round trip, and then nothing comes for three seconds.
  for (let nowMs = 0; nowMs <= 500; nowMs += 50) {
    a.machine.tick(nowMs);
    b.machine.tick(nowMs);
    settle(a, b, nowMs);
  }
  for (let nowMs = 550; nowMs < 3500; nowMs += 50) {
    a.machine.tick(nowMs);
    a.flush();
  }
  t.notOk(a.machine.fellSilent);
  t.end();
});

t.test('a peer that sits on calls loses the session', (t) => {
  const { a, b, ask } = pair(t);
  ask('x');
  t.throws(
    () => {
      for (let nowMs = 0; nowMs < 40_000; nowMs += 50) {
        a.machine.tick(nowMs);
        b.machine.tick(nowMs);
        settle(a, b, nowMs);
      }
    },
    { code: 'ERR_TIMEOUT', message: /unanswered/ },
  );
  t.end();
});

t.test('replies that answer nothing break the session', (t) => {
  const cases: [string, (b: Side) => void][] = [
    ['no request', (b) => inject(b, MANAGE_REPLY, ID_BASE, 1)],
    ['another generation', (b) => inject(b, MANAGE_REPLY, ID_BASE, 2)],
    ['an id of pages', (b) => inject(b, MANAGE_REPLY, 0, 1)],
    ['an id of objects', (b) => inject(b, MANAGE_REPLY, 2 ** 31, 1)],
    ['beyond the slots', (b) => inject(b, MANAGE_REPLY, ID_BASE + 64, 1)],
    ['an aux', (b) => inject(b, MANAGE_REPLY, ID_BASE, 1, 1, 1)],
    ['an object reply', (b) => inject(b, 0xb0, ID_BASE, 1)],
    ['a control reply', (b) => inject(b, 0xa0, ID_BASE, 1)],
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
  const twice = pair(t);
  twice.ask('x');
  twice.a.flush();
  inject(twice.b, MANAGE_REPLY, ID_BASE, 1);
  inject(twice.b, MANAGE_REPLY, ID_BASE, 1);
  t.throws(() => twice.a.receive(twice.b.flush()), { code: 'ERR_PEER_PROTOCOL' }, 'a second');
  t.end();
});

t.test('the 65th call in flight breaks the session, also over many turns', (t) => {
  const { a, b, open, answer } = pair(t);
  for (let index = 0; index < 64; index += 1) {
    inject(a, MANAGE, index, 9);
    b.receive(a.flush());
    b.flush();
  }
  t.equal(open.length, 64);
  answer(7);
  b.flush();
  inject(a, MANAGE, 64, 9);
  b.receive(a.flush());
  t.equal(open.length, 65, 'one was answered');
  inject(a, MANAGE, 65, 9);
  t.throws(() => b.receive(a.flush()), { code: 'ERR_PEER_PROTOCOL', message: /in flight/ });
  t.equal(open.length, 65);
  t.end();
});

t.test('calls with an aux, or where none are served, break the session', (t) => {
  const { a, b, open } = pair(t);
  inject(a, MANAGE, 0, 1, 1, 1);
  t.throws(() => b.receive(a.flush()), { code: 'ERR_PEER_PROTOCOL' });
  t.same(open, []);
  const [one, other] = sessionPair();
  t.teardown(() => {
    one.free();
    other.free();
  });
  one.machine.managed.request(Buffer.from('x'), 60_000, () => undefined);
  t.throws(() => other.receive(one.flush()), {
    code: 'ERR_PEER_PROTOCOL',
    message: /no managed calls/,
  });
  t.end();
});
