import fs from 'node:fs';
import koffi from 'koffi';
import t from 'tap';
import { EventLoopSpin } from '../../common/event-loop-spin.ts';
import { monotonicClock } from '../../common/clock.ts';
import { KeepingSink, portOf, testNode, until } from '../helpers/peer-node.ts';
import { RawPeer, rawServer } from '../helpers/raw-peer.ts';

const keepalive = { busyPingMs: 50, idlePingMs: 100, deadMs: 300, idleDeadMs: 300 };

t.test('a peer that falls silent is dead, and its calls end', async (t) => {
  const raws: RawPeer[] = [];
  const server = await rawServer((raw) => {
    raws.push(raw);
    raw
      .handshake('responder')
      .then(() => raw.accept())
      .catch(() => undefined);
  });
  const node = testNode(t, 'node', { keepalive });
  await node.peers.connect(`127.0.0.1:${server.port}`).outcome();
  const store = node.peers.store('raw');
  const sink = new KeepingSink();
  t.ok(store.openPageQueue(sink).readPages(1, 1, 0, 1));
  const lease = store.lease({ pageCount: 1, ttlMs: 1000 });
  await t.rejects(lease, { code: 'ERR_PEER_UNREACHABLE' });
  t.match(sink.reads, [{ tag: 1, status: 4 }]);
  t.notOk(store.up);
  server.close();
  for (const raw of raws) await raw.destroy();
});

t.test('the kernel keeps little that it cannot send: reads do not queue behind it', async (t) => {
  const getsockopt = koffi
    .load(null)
    .func('int getsockopt(int fd, int level, int option, _Out_ void *value, _Inout_ uint *length)');
  /** TCP_NOTSENT_LOWAT of every socket of this process that has it, bytes. */
  const limits = (): number[] =>
    fs.readdirSync('/proc/self/fd').flatMap((name) => {
      const value = Buffer.alloc(4);
      const status = getsockopt(Number(name), 6, 25, value, [4]) as number;
      return status === 0 && value.readUInt32LE() > 0 ? [value.readUInt32LE()] : [];
    });
  const isLimited = (bytes: number): boolean => bytes === 131_072;
  const before = limits().filter(isLimited).length;
  const [a, b] = [testNode(t, 'a', { keepalive }), testNode(t, 'b', { keepalive })];
  await a.peers.connect(await b.listen()).outcome();
  await until(() => b.peers.store('a').up);
  t.equal(limits().filter(isLimited).length - before, 2, 'at both ends of the connection');
});

t.test('an idle session lives on PINGs, and knows its round trip', async (t) => {
  const [a, b] = [testNode(t, 'a', { keepalive }), testNode(t, 'b', { keepalive })];
  await a.peers.connect(await b.listen()).outcome();
  const sinceMs = performance.now();
  await new Promise((resolve) => setTimeout(resolve, 700));
  t.ok(a.peers.store('b').up);
  const { roundTripMs } = a.peers.peers()[0]!;
  t.ok(roundTripMs > 0 && roundTripMs < performance.now() - sinceMs);
});

t.test('a control request without a reply ends by its deadline', async (t) => {
  const server = await rawServer((raw) => {
    t.teardown(() => raw.destroy());
    const answerPings = async (): Promise<void> => {
      await raw.handshake('responder');
      await raw.accept();
      for (;;) {
        const { type, idLow } = await raw.read();
        if (type === 0x10) raw.send((writer) => writer.plain(0x90, 0, idLow, 0));
      }
    };
    answerPings().catch(() => undefined);
  });
  const node = testNode(t, 'node', { keepalive, requestTimeoutMs: 200 });
  await node.peers.connect(`127.0.0.1:${server.port}`).outcome();
  await t.rejects(node.peers.store('raw').lease({ pageCount: 1, ttlMs: 1000 }), {
    code: 'ERR_TIMEOUT',
  });
  t.ok(node.peers.store('raw').up, 'the session lives');
  server.close();
});

t.test('a malformed control reply rejects its request and ends the session', async (t) => {
  const server = await rawServer((raw) => {
    t.teardown(() => raw.destroy());
    const answer = async (): Promise<void> => {
      await raw.handshake('responder');
      await raw.accept();
      const { idLow, idHigh } = await raw.readType(0x20);
      raw.send((writer) =>
        writer.body(0xa0, idLow, idHigh, Buffer.from([0x81, 0xa2, 0x6f, 0x6b, 0xc3])),
      );
    };
    answer().catch(() => undefined);
  });
  const node = testNode(t, 'node');
  await node.peers.connect(`127.0.0.1:${server.port}`).outcome();
  await t.rejects(node.peers.store('raw').lease({ pageCount: 1, ttlMs: 1000 }), {
    code: 'ERR_PEER_PROTOCOL',
  });
  await until(() => !node.peers.store('raw').up);
  server.close();
});

t.test('a node that shuts down says BYE', async (t) => {
  const node = testNode(t, 'node');
  const raw = await RawPeer.open(portOf(await node.listen()), 'raw');
  const closing = node.peers.close();
  t.match(await raw.readType(0x73), { aux: 0 });
  await closing;
  await raw.ended();
  await raw.destroy();
});

t.test('BYE of a peer ends the session in order', async (t) => {
  const node = testNode(t, 'node');
  const raw = await RawPeer.open(portOf(await node.listen()), 'raw');
  raw.send((writer) => writer.plain(0x73, 3, 0, 0));
  await raw.ended();
  t.match(node.peers.peers(), [{ name: 'raw', state: 'down', error: undefined }]);
  await raw.destroy();
});

t.test('a session that spins answers the same', async (t) => {
  const spin = new EventLoopSpin(monotonicClock, 100);
  const [a, b] = [testNode(t, 'a', { spin }), testNode(t, 'b', { spin })];
  await a.peers.connect(await b.listen()).outcome();
  const grant = await a.peers.store('b').lease({ pageCount: 1, ttlMs: 1000 });
  const sink = new KeepingSink();
  const queue = a.peers.store('b').openPageQueue(sink);
  for (let tag = 0; tag < 50; tag += 1) {
    queue.readPages(tag, grant.slabHandle, 0, 1);
    await until(() => sink.reads.length === tag + 1);
  }
  t.equal(sink.reads.length, 50);
  await until(() => !spin.spinning, 'the loop to sleep');
});
