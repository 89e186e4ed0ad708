/**
 * What somebody may try with the door of data connections (docs/peer-protocol.md section 11
 * "Attacks"). A bystander has a session and a data connection on the node; after each case both are
 * the ones they were and work.
 */
import { randomBytes } from 'node:crypto';
import net from 'node:net';
import t, { type Test } from 'tap';
import { encodeHandshakeFrame } from '../../peer/frame.ts';
import { HandshakeMachine } from '../../peer/handshake-machine.ts';
import { MemoryDirect } from '../helpers/memory-direct.ts';
import { portOf, testNode, until } from '../helpers/peer-node.ts';
import { RawPeer } from '../helpers/raw-peer.ts';

const MAGIC = Buffer.from('MCDIRECT');
const NONCE = '00'.repeat(32);

const prefaceOf = (ticketId: string): Buffer =>
  Buffer.concat([MAGIC, Buffer.from(ticketId, 'hex')]);

async function scene(t: Test, options: Parameters<typeof testNode>[2] = {}) {
  const direct = new MemoryDirect();
  t.teardown(() => direct.close());
  const node = testNode(t, 'node', { direct, ...options });
  const port = portOf(await node.listen());
  direct.port = port;
  const bystander = testNode(t, 'bystander');
  await bystander.peers.connect(`127.0.0.1:${port}`).outcome();
  const friend = bystander.peers.store('node');
  const { session } = friend;
  const { exportId } = await friend.openDirect({ sizeBytes: 4096, ttlMs: 60_000 });
  const ticket = await friend.directTicket(exportId, NONCE);
  const data = await RawPeer.connect(ticket.port);
  t.teardown(() => data.destroy());
  let echoed = '';
  data.socket.on('data', (bytes) => (echoed += bytes.toString('latin1')));
  data.socket.write(prefaceOf(ticket.ticketId));
  await until(() => direct.connections.length === 1);
  const unharmed = async (): Promise<void> => {
    echoed = '';
    data.socket.write('ping');
    await until(() => echoed === 'ping', "the bystander's data connection");
    t.match(await friend.listDirect(), [{ exportId, connected: true }]);
    t.equal(friend.session, session, 'in the same session');
    t.equal(node.peers.connectionCount, 1, 'nothing is left behind');
  };
  return { direct, node, port, friend, exportId, ticket, unharmed };
}

const OPENINGS: Record<string, Buffer> = {
  'another magic': Buffer.from('MCDIRECX'),
  'lower case': Buffer.from('mcdirect'),
  'a magic cut short by noise': Buffer.concat([Buffer.from('MCDIR'), Buffer.alloc(30, 7)]),
  'a magic after a space': Buffer.from(' MCDIRECT'),
  'a ticket of noise': Buffer.concat([MAGIC, randomBytes(16), randomBytes(4000)]),
  'a ticket of zeroes': Buffer.concat([MAGIC, Buffer.alloc(16)]),
};
for (const [name, bytes] of Object.entries(OPENINGS)) {
  t.test(`${name} is closed at once, without a word`, async (t) => {
    const { port, direct, unharmed } = await scene(t);
    const raw = await RawPeer.connect(port);
    let answered = 0;
    raw.socket.on('data', (part) => (answered += part.length));
    raw.socket.write(bytes);
    await raw.ended();
    await raw.destroy();
    t.equal(answered, 0);
    t.equal(direct.connections.length, 1);
    await unharmed();
  });
}

t.test('half a preface is given up with the step, dripping or not', async (t) => {
  const { port, direct, unharmed } = await scene(t, { handshakeStepTimeoutMs: 150 });
  for (const dripping of [false, true]) {
    const raw = await RawPeer.connect(port);
    const bytes = Buffer.concat([MAGIC, Buffer.alloc(15, 1)]);
    let at = dripping ? 1 : 23;
    raw.socket.write(bytes.subarray(0, at));
    const timer = setInterval(() => {
      if (at < bytes.length) raw.socket.write(bytes.subarray(at, (at += 1)));
    }, 20);
    await raw.ended();
    clearInterval(timer);
    t.ok(at < 24);
    await raw.destroy();
  }
  t.equal(direct.named.length, 1, 'nobody was asked');
  await unharmed();
});

t.test('a preface after bytes of a handshake is none', async (t) => {
  const { port, friend, exportId, direct, unharmed } = await scene(t);
  const { ticketId } = await friend.directTicket(exportId, NONCE);
  const after: Record<string, (raw: RawPeer) => Promise<void>> = {
    'half a frame': async (raw) => void raw.socket.write(Buffer.from([0, 32, 1, 2, 3])),
    'message 1': async (raw) => {
      const machine = new HandshakeMachine({
        role: 'initiator',
        identity: raw.identity,
        name: 'raw',
        secrets: randomBytes(64),
      });
      raw.socket.write(encodeHandshakeFrame(machine.begin()));
      await raw.readFrame();
    },
    'message 3': (raw) => raw.handshake('initiator'),
    'the verdict': async (raw) => {
      await raw.handshake('initiator');
      await raw.accept();
    },
  };
  for (const [step, begin] of Object.entries(after)) {
    const raw = await RawPeer.connect(port, step.replaceAll(' ', '-'));
    await begin(raw);
    // Enough of it for any frame or record that its bytes may claim.
    raw.socket.write(Buffer.concat(Array.from({ length: 2000 }, () => prefaceOf(ticketId))));
    await raw.ended();
    await raw.destroy();
  }
  t.equal(direct.named.length, 1, 'the ticket was named by none of them');
  await unharmed();
});

t.test('a ticket opens one connection, even if two come at once', async (t) => {
  const { port, direct, friend, ticket, unharmed } = await scene(t);
  const again = await RawPeer.connect(port);
  again.socket.write(prefaceOf(ticket.ticketId));
  await again.ended();
  await again.destroy();
  await unharmed();
  const { exportId } = await friend.openDirect({ sizeBytes: 4096, ttlMs: 60_000 });
  const { ticketId } = await friend.directTicket(exportId, NONCE);
  const two = await Promise.all([RawPeer.connect(port), RawPeer.connect(port)]);
  for (const raw of two) raw.socket.write(prefaceOf(ticketId));
  await until(() => two.filter(({ closed }) => closed).length === 1);
  t.equal(direct.connections.length, 2, 'the one and that of the bystander');
  t.equal(two.filter(({ closed }) => !closed).length, 1);
  for (const raw of two) await raw.destroy();
  await unharmed();
});

t.test('a newer connection of an export ends the older one, not that of another', async (t) => {
  const { port, direct, friend, unharmed } = await scene(t);
  const { exportId } = await friend.openDirect({ sizeBytes: 4096, ttlMs: 60_000 });
  const raws: RawPeer[] = [];
  for (let round = 0; round < 3; round += 1) {
    const { ticketId } = await friend.directTicket(exportId, NONCE);
    const raw = await RawPeer.connect(port);
    raw.socket.write(prefaceOf(ticketId));
    await until(() => direct.connections.length === 2 + round);
    raws.push(raw);
  }
  await until(() => raws.filter(({ closed }) => closed).length === 2);
  t.notOk(raws[2]?.closed);
  for (const raw of raws) await raw.destroy();
  await unharmed();
});

t.test('half prefaces are handshakes as far as counting goes: 16 of an address', async (t) => {
  const { port, node, unharmed } = await scene(t);
  const raws = await Promise.all(Array.from({ length: 24 }, () => RawPeer.connect(port)));
  for (const raw of raws) raw.socket.write('MCDIRECT');
  await until(() => raws.filter(({ closed }) => closed).length === 8);
  t.equal(node.peers.connectionCount, 17);
  for (const raw of raws) await raw.destroy();
  await until(() => node.peers.connectionCount === 1);
  await unharmed();
});

t.test('data connections take no place of a handshake', async (t) => {
  const { port, node, direct, friend, unharmed } = await scene(t);
  const raws: RawPeer[] = [];
  for (let count = 0; count < 20; count += 1) {
    const { exportId } = await friend.openDirect({ sizeBytes: 4096, ttlMs: 60_000 });
    const { ticketId } = await friend.directTicket(exportId, NONCE);
    const raw = await RawPeer.connect(port);
    raws.push(raw);
    raw.socket.write(prefaceOf(ticketId));
    await until(() => direct.connections.length === 2 + count);
  }
  t.equal(node.peers.connectionCount, 1);
  t.ok(raws.every(({ closed }) => !closed));
  for (const raw of raws) await raw.destroy();
  await unharmed();
});

t.test('300 guesses take no permit of a handshake, and leave memory bounded', async (t) => {
  const { port, node, direct, unharmed } = await scene(t);
  const rssBefore = process.memoryUsage.rss();
  const guess = (): Promise<void> =>
    new Promise((resolve) => {
      const socket = net.connect({ host: '127.0.0.1', port }, () => {
        socket.write(Buffer.concat([MAGIC, randomBytes(16)]));
      });
      socket.on('error', () => undefined).on('close', () => resolve());
    });
  for (let round = 0; round < 30; round += 1) await Promise.all(Array.from({ length: 10 }, guess));
  t.equal(direct.named.length, 301);
  t.equal(direct.connections.length, 1);
  await until(() => node.peers.connectionCount === 1);
  // The bucket holds 64: had guesses drawn from it, 60 handshakes in a row would not be begun.
  const permitsBefore = 60;
  for (let count = 0; count < permitsBefore; count += 15) {
    const raws = await Promise.all(Array.from({ length: 15 }, () => RawPeer.connect(port)));
    for (const raw of raws) {
      const machine = new HandshakeMachine({
        role: 'initiator',
        identity: raw.identity,
        name: 'raw',
        secrets: randomBytes(64),
      });
      raw.socket.write(encodeHandshakeFrame(machine.begin()));
    }
    for (const raw of raws) t.ok((await raw.readFrame()).length > 0);
    for (const raw of raws) await raw.destroy();
    await until(() => node.peers.connectionCount === 1);
  }
  const growthMiB = (process.memoryUsage.rss() - rssBefore) / 2 ** 20;
  t.ok(growthMiB < 200, `resident memory grew by ${growthMiB.toFixed(0)} MiB`);
  await unharmed();
});

t.test('prefaces of random lengths, cut and glued anywhere, hurt nobody', async (t) => {
  const { port, direct, unharmed } = await scene(t);
  const one = (): Promise<void> =>
    new Promise((resolve) => {
      const bytes = Buffer.concat([MAGIC, randomBytes(16), randomBytes(40)]);
      const at = Math.floor(Math.random() * bytes.length);
      const socket = net.connect({ host: '127.0.0.1', port, noDelay: true }, () => {
        socket.write(bytes.subarray(0, at));
        setTimeout(() => socket.end(bytes.subarray(Math.floor(Math.random() * 64))), 2);
      });
      socket.on('error', () => undefined).on('close', () => resolve());
    });
  for (let round = 0; round < 20; round += 1) await Promise.all(Array.from({ length: 10 }, one));
  t.equal(direct.connections.length, 1);
  await unharmed();
});

t.test('one holder names no export of another', async (t) => {
  const { port, exportId, friend, unharmed } = await scene(t);
  const mallory = testNode(t, 'mallory');
  await mallory.peers.connect(`127.0.0.1:${port}`).outcome();
  const store = mallory.peers.store('node');
  await t.rejects(store.directTicket(exportId, NONCE), { code: 'ERR_LEASE_UNKNOWN' });
  await t.rejects(store.closeDirect(exportId), { code: 'ERR_LEASE_UNKNOWN' });
  t.same(await store.renewDirect([exportId]), [exportId]);
  t.same(await store.listDirect(), []);
  t.equal((await friend.listDirect()).length, 1);
  await mallory.peers.close();
  await until(() => friend.up);
  await until(() => friend.session?.ended === false);
  await unharmed();
});

t.test(
  'a provider cannot turn TLS into plain: what was not asked for ends the session',
  async (t) => {
    const { direct, friend, exportId, unharmed } = await scene(t);
    t.equal((await friend.directTicket(exportId, NONCE)).transport, 'tls');
    t.equal((await friend.directTicket(exportId, NONCE, 'plain')).transport, 'plain');
    await unharmed();
    direct.transport = 'tls';
    await t.rejects(friend.directTicket(exportId, NONCE, 'plain'), { code: 'ERR_UNSUPPORTED' });
    await unharmed();
    const { session } = friend;
    direct.transport = 'plain';
    await t.rejects(friend.directTicket(exportId, NONCE), { code: 'ERR_PEER_PROTOCOL' });
    await until(() => friend.session !== session, 'a breach ends the session');
  },
);
