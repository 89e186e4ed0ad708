/**
 * What a hostile peer may try. Each case ends the attacker's own connection, at most; a bystander's
 * session on the same node is checked after each one, and the slab that was attacked is unchanged.
 * The faults of MemCloud in Rust that the cases stand for are named (W1 to W14, in the order of
 * docs/peer-protocol.md "Attacks").
 */
import { randomBytes } from 'node:crypto';
import net from 'node:net';
import { sha256 } from '@noble/hashes/sha2.js';
import t, { type Test } from 'tap';
import type { RemoteStore } from '../../peer/remote-store.ts';
import { encodeCredentials } from '../../peer/credentials.ts';
import { encodeHandshakeFrame } from '../../peer/frame.ts';
import { HandshakeMachine } from '../../peer/handshake-machine.ts';
import { Identity } from '../../peer/identity.ts';
import { HandshakeState, keyPairFrom } from '../../peer/noise/handshake-state.ts';
import { RecordSealer } from '../../peer/record-cipher.ts';
import { RecordWriter } from '../../peer/record-writer.ts';
import { KeepingSink, portOf, testNode, until, type TestNode } from '../helpers/peer-node.ts';
import { RawPeer, rawServer } from '../helpers/raw-peer.ts';
import { MemoryOutput, Side } from '../helpers/session-pair.ts';

const READ = 0x01;
const WRITE = 0x02;
const TRIM = 0x03;
const PING = 0x10;
const CONTROL = 0x20;
const HELLO = 0x70;
const REKEY = 0x71;
const NOTICE = 0x72;
const READ_REPLY = 0x81;
const WRITE_REPLY = 0x82;
const PONG = 0x90;
const CONTROL_REPLY = 0xa0;

interface Scene {
  node: TestNode;
  port: number;
  /** The bystander's view of the node. */
  friend: RemoteStore;
  /** Fails unless the bystander's session is the one it was and works. */
  unharmed: () => Promise<void>;
}

async function scene(t: Test, options: Parameters<typeof testNode>[2] = {}): Promise<Scene> {
  const node = testNode(t, 'node', options);
  const port = portOf(await node.listen());
  const bystander = testNode(t, 'bystander');
  if (options?.autoTrust === false) {
    const { identity } = bystander;
    node.trust.trust({ publicKey: identity.publicKey, nodeId: identity.nodeId, name: 'bystander' });
  }
  await bystander.peers.connect(`127.0.0.1:${port}`).outcome();
  const friend = bystander.peers.store('node');
  const session = friend.session;
  const grant = await friend.lease({ pageCount: 1, ttlMs: 60_000 });
  const sink = new KeepingSink();
  const queue = friend.openPageQueue(sink);
  const unharmed = async (): Promise<void> => {
    sink.reads.length = 0;
    t.ok(queue.readPages(1, grant.slabHandle, 0, 1), 'the bystander may still ask');
    await until(() => sink.reads.length === 1, "the bystander's reply");
    t.equal(sink.reads[0]?.status, 0, 'and is answered');
    t.equal(friend.session, session, 'in the same session');
  };
  return { node, port, friend, unharmed };
}

// --- Before and in the handshake -----------------------------------------------------------------

const OPENINGS: Record<string, Buffer> = {
  'a frame of 1025 bytes (W8)': Buffer.from([0x04, 0x01]),
  'a frame of 65535 bytes (W8)': Buffer.from([0xff, 0xff]),
  'an empty frame': Buffer.from([0, 0]),
  'a first message of 31 bytes': Buffer.concat([Buffer.from([0, 31]), Buffer.alloc(31, 9)]),
  'a first message with a payload': Buffer.concat([Buffer.from([0, 33]), Buffer.alloc(33, 9)]),
  'a key of small order': Buffer.concat([Buffer.from([0, 32]), Buffer.alloc(32, 0)]),
  HTTP: Buffer.from('GET / HTTP/1.1\r\n\r\n'),
  TLS: Buffer.from([22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3]),
};
for (const [name, bytes] of Object.entries(OPENINGS)) {
  t.test(`${name} ends the connection at once`, async (t) => {
    const { node, port, unharmed } = await scene(t);
    const raw = await RawPeer.connect(port);
    raw.socket.write(bytes);
    await raw.ended();
    await raw.destroy();
    t.equal(node.peers.connectionCount, 1);
    await unharmed();
  });
}

t.test('credentials with the key of another are refused (W6: no self-asserted id)', async (t) => {
  const { node, port, unharmed } = await scene(t);
  const victim = Identity.ephemeral();
  const mallory = Identity.ephemeral();
  const raw = await RawPeer.connect(port);
  const noise = new HandshakeState({
    initiator: true,
    prologue: Buffer.from('memcloud/1'),
    staticKeys: keyPairFrom(randomBytes(32)),
    ephemeralKeys: keyPairFrom(randomBytes(32)),
    hash: { name: 'SHA256', hash: sha256 },
  });
  raw.socket.write(encodeHandshakeFrame(noise.writeMessage(() => new Uint8Array(0))));
  noise.readMessage(await raw.readFrame());
  const third = noise.writeMessage((hash) => {
    const credentials = Uint8Array.from(encodeCredentials(mallory, 'victim', 'initiator', hash));
    credentials.set(victim.publicKey, 1);
    return credentials;
  });
  raw.socket.write(encodeHandshakeFrame(third));
  await raw.ended();
  await raw.destroy();
  t.equal(node.trust.list().length, 1, 'nobody new is trusted');
  await unharmed();
});

t.test('credentials signed for another handshake are refused', async (t) => {
  const { port, node, unharmed } = await scene(t);
  const victim = Identity.ephemeral();
  const stolen = encodeCredentials(victim, 'victim', 'initiator', new Uint8Array(32));
  const raw = await RawPeer.connect(port);
  const noise = new HandshakeState({
    initiator: true,
    prologue: Buffer.from('memcloud/1'),
    staticKeys: keyPairFrom(randomBytes(32)),
    ephemeralKeys: keyPairFrom(randomBytes(32)),
    hash: { name: 'SHA256', hash: sha256 },
  });
  raw.socket.write(encodeHandshakeFrame(noise.writeMessage(() => new Uint8Array(0))));
  noise.readMessage(await raw.readFrame());
  raw.socket.write(encodeHandshakeFrame(noise.writeMessage(() => stolen)));
  await raw.ended();
  await raw.destroy();
  t.equal(node.trust.list().length, 1);
  await unharmed();
});

t.test('a name with a terminal escape is refused, though properly signed (W10)', async (t) => {
  const { port, node, unharmed } = await scene(t, { autoTrust: false });
  const raw = await RawPeer.connect(port, 'a\u001b[2Jb');
  await raw.handshake('initiator');
  await raw.ended();
  await raw.destroy();
  t.same(node.consent.list(), [], 'no human sees it');
  await unharmed();
});

t.test('a whole conversation replayed leads nowhere', async (t) => {
  const { port, node, unharmed } = await scene(t);
  const sent: Buffer[] = [];
  const raw = await RawPeer.connect(port, 'genuine');
  const write = raw.socket.write.bind(raw.socket);
  raw.socket.write = (bytes: Buffer) => {
    sent.push(Buffer.from(bytes));
    return write(bytes);
  };
  await raw.handshake('initiator');
  await raw.accept();
  await raw.destroy();
  await until(() => node.peers.connectionCount === 1);
  const replay = await RawPeer.connect(port);
  replay.socket.write(Buffer.concat(sent));
  await replay.ended();
  await replay.destroy();
  t.equal(node.peers.connectionCount, 1);
  await unharmed();
});

t.test('a handshake cut off after any step leaves nothing behind', async (t) => {
  const { port, node, unharmed } = await scene(t);
  for (let step = 0; step < 4; step += 1) {
    const raw = await RawPeer.connect(port);
    const machine = new HandshakeMachine({
      role: 'initiator',
      identity: raw.identity,
      name: 'raw',
      secrets: randomBytes(64),
    });
    const first = encodeHandshakeFrame(machine.begin());
    raw.socket.write(step === 0 ? first.subarray(0, 20) : first);
    if (step >= 2) {
      machine.onMessage(await raw.readFrame());
      const third = encodeHandshakeFrame(machine.proceed());
      raw.socket.write(step === 2 ? third.subarray(0, 100) : third);
    }
    await new Promise((resolve) => setTimeout(resolve, 10));
    await raw.destroy();
    await until(() => node.peers.connectionCount === 1);
  }
  await unharmed();
});

t.test('a slow peer is given up in each step (W9)', async (t) => {
  const { port, node, unharmed } = await scene(t, { handshakeStepTimeoutMs: 150 });
  const drip = (raw: RawPeer, bytes: Buffer): NodeJS.Timeout => {
    let at = 0;
    return setInterval(
      () => void (at < bytes.length && raw.socket.write(bytes.subarray(at, ++at))),
      20,
    );
  };
  for (const step of ['nothing', 'dripping', 'after 1', 'after 3']) {
    const raw = await RawPeer.connect(port);
    let timer: NodeJS.Timeout | undefined;
    const machine = new HandshakeMachine({
      role: 'initiator',
      identity: raw.identity,
      name: 'raw',
      secrets: randomBytes(64),
    });
    const first = encodeHandshakeFrame(machine.begin());
    if (step === 'dripping') timer = drip(raw, first);
    if (step.startsWith('after')) raw.socket.write(first);
    if (step === 'after 3') {
      machine.onMessage(await raw.readFrame());
      raw.socket.write(encodeHandshakeFrame(machine.proceed()));
      const keys = machine.takeKeys();
      t.equal(keys.send.length, 32);
    }
    await raw.ended();
    clearInterval(timer);
    await raw.destroy();
    t.equal(node.peers.connectionCount, 1, step);
  }
  await unharmed();
});

t.test('a silent or slow server is given up by the dialler in each step (W9)', async (t) => {
  for (const step of ['nothing', 'after 2', 'pending twice']) {
    const server = await rawServer((raw) => {
      t.teardown(() => raw.destroy());
      if (step === 'nothing') return;
      raw
        .handshake('responder')
        .then(() => {
          if (step !== 'pending twice') return;
          raw.hello({ verdict: 'pending', lane: '' });
          raw.hello({ verdict: 'pending', lane: '' });
        })
        .catch(() => undefined);
    });
    const node = testNode(t, 'dialler', { handshakeStepTimeoutMs: 150 });
    const dialer = node.peers.connect(`127.0.0.1:${server.port}`);
    await until(() => dialer.lastError !== undefined, step);
    t.match(dialer.lastError?.code, /ERR_TIMEOUT|ERR_PEER_PROTOCOL/, step);
    dialer.stop();
    server.close();
  }
});

t.test('a rogue server is not trusted by the one that dials it (W1)', async (t) => {
  const raws: RawPeer[] = [];
  const server = await rawServer((raw) => {
    raws.push(raw);
    raw
      .handshake('responder')
      .then(() => raw.accept())
      .then(() => raw.send((writer) => writer.pages(READ, 1, 1, 1, 0, 1)))
      .catch(() => undefined);
  });
  const node = testNode(t, 'dialler', { autoTrust: false });
  const dialer = node.peers.connect(`127.0.0.1:${server.port}`);
  await until(() => node.consent.list().length === 1);
  t.equal(dialer.state, 'pending');
  t.equal(node.slabs.callCount, 0);
  t.equal(node.peers.list().length, 0, 'it is no provider either');
  for (const raw of raws) await raw.destroy();
  server.close();
});

t.test('a request before both sides accepted ends the connection', async (t) => {
  const { port, node, unharmed } = await scene(t, { autoTrust: false });
  const calls = node.slabs.callCount;
  const early: ((raw: RawPeer) => void)[] = [
    (raw) => raw.send((writer) => writer.pages(READ, 1, 1, 1, 0, 1)),
    (raw) =>
      raw.send((writer) => {
        RawPeer.pages(writer, 1, 7);
        writer.pages(WRITE, 1, 1, 1, 0, 1);
      }),
    (raw) => raw.send((writer) => writer.body(CONTROL, 1, 1, Buffer.from([0x80]))),
    (raw) => raw.send((writer) => writer.body(HELLO, 0, 0, Buffer.from([0xc1]))),
    (raw) => raw.send((writer) => writer.body(HELLO, 0, 0, Buffer.alloc(2000, 0x80))),
    (raw) => raw.socket.write(Buffer.alloc(64, 0x55)),
  ];
  for (const send of early) {
    const raw = await RawPeer.connect(port, `raw-${early.indexOf(send)}`);
    await raw.handshake('initiator');
    t.same(await raw.readHello(), { verdict: 'pending', lane: '' });
    send(raw);
    await raw.ended();
    await raw.destroy();
    t.same(node.consent.list(), [], 'the question is gone too');
  }
  t.equal(node.slabs.callCount, calls);
  await unharmed();
});

t.test('one address has 16 handshakes at a time, the others are closed unread (W9)', async (t) => {
  const { port, node, unharmed } = await scene(t);
  const raws = await Promise.all(Array.from({ length: 24 }, () => RawPeer.connect(port)));
  await until(() => raws.filter(({ closed }) => closed).length === 8);
  t.equal(node.peers.connectionCount, 17);
  for (const raw of raws) await raw.destroy();
  await until(() => node.peers.connectionCount === 1);
  await unharmed();
});

t.test('1000 connections of random bytes leave memory bounded and others unharmed', async (t) => {
  const { port, node, unharmed } = await scene(t);
  const rssBefore = process.memoryUsage.rss();
  let ended = 0;
  const one = (): Promise<void> =>
    new Promise((resolve) => {
      const socket = net.connect({ host: '127.0.0.1', port }, () => {
        socket.write(randomBytes(1 + Math.floor(Math.random() * 3000)));
        if (Math.random() < 0.3) socket.end();
        else setTimeout(() => socket.destroy(), 20);
      });
      socket.on('error', () => undefined);
      socket.on('close', () => {
        ended += 1;
        resolve();
      });
    });
  for (let round = 0; round < 50; round += 1) {
    await Promise.all(Array.from({ length: 20 }, one));
    if (round % 10 === 0) await unharmed();
  }
  t.equal(ended, 1000);
  await until(() => node.peers.connectionCount === 1);
  const growthMiB = (process.memoryUsage.rss() - rssBefore) / 2 ** 20;
  t.ok(growthMiB < 200, `resident memory grew by ${growthMiB.toFixed(0)} MiB`);
  await unharmed();
});

// --- In a session, over a socket -----------------------------------------------------------------

/** A trusted peer with a slab of 64 pages on the node. */
async function insider(t: Test, port: number, node: TestNode, name = 'raw') {
  const raw = await RawPeer.open(port, name);
  t.teardown(() => raw.destroy());
  const slab = node.slabs.book.add(raw.identity.nodeId, 64);
  return { raw, handle: slab.handle, slab };
}

t.test(
  'a changed bit in any part of a record ends the session, the slab is untouched',
  async (t) => {
    const { port, node, unharmed } = await scene(t);
    const size = 8 + 4112 + 24 + 16;
    const parts = {
      length: 0,
      'high length': 3,
      'head length': 4,
      page: 8,
      'last page byte': 4119,
      head: 4120,
      tag: size - 1,
    };
    for (const [part, at] of Object.entries(parts)) {
      const { raw, handle, slab } = await insider(t, port, node, `raw-${at}`);
      const bytes = raw.build((writer) => {
        RawPeer.pages(writer, 1, 0x77);
        writer.pages(WRITE, handle, 1, 1, 0, 1);
      });
      t.equal(bytes.length, size);
      bytes[at]! ^= 1;
      // More bytes than the lengths may claim, so that a record that grew is whole.
      raw.socket.write(Buffer.concat([bytes, Buffer.alloc(300_000)]));
      await raw.ended();
      t.equal(slab.memory.bytes[0], 0, part);
    }
    await unharmed();
  },
);

t.test('a record repeated, left out or moved ends the session', async (t) => {
  const { port, node, unharmed } = await scene(t);
  const orders = { repeated: [0, 0], 'left out': [1], moved: [1, 0] };
  for (const [name, order] of Object.entries(orders)) {
    const { raw, handle } = await insider(t, port, node, name.replace(' ', '-'));
    const records = [0, 1].map((page) =>
      raw.build((writer) => writer.pages(TRIM, handle, page + 1, 1, page, 1)),
    );
    raw.socket.write(Buffer.concat(order.map((index) => records[index]!)));
    await raw.ended();
  }
  await unharmed();
});

t.test('a record over 2 MiB is refused on its length (W8)', async (t) => {
  const { port, node, unharmed } = await scene(t);
  for (const length of [2 * 2 ** 20 - 3, 2 ** 31, 2 ** 32 - 1]) {
    const { raw } = await insider(t, port, node, `raw-${length}`);
    const lengths = Buffer.alloc(8);
    lengths.writeUInt32LE(length, 0);
    lengths.writeUInt32LE(16, 4);
    raw.socket.write(lengths);
    await raw.ended();
  }
  await unharmed();
});

const BREACHES: Record<string, (writer: RecordWriter, handle: number) => void> = {
  'a second HELLO': (writer) => writer.body(HELLO, 0, 0, Buffer.from([0x80])),
  'a WRITE that names a page more than came': (writer, handle) => {
    RawPeer.pages(writer, 1, 1);
    writer.pages(WRITE, handle, 1, 1, 0, 2);
  },
  'a page that belongs to no message': (writer, handle) => {
    RawPeer.pages(writer, 2, 1);
    writer.pages(WRITE, handle, 1, 1, 0, 1);
  },
  'pages for a READ': (writer, handle) => {
    RawPeer.pages(writer, 1, 1);
    writer.pages(READ, handle, 1, 1, 0, 1);
  },
  '1025 requests at once': (writer, handle) => {
    for (let id = 0; id < 1025; id += 1) writer.pages(TRIM, handle, id, 1, 0, 1);
  },
  'requests for 4097 pages at once': (writer, handle) => {
    for (let id = 0; id < 64; id += 1) writer.pages(READ, handle, id, 1, 0, 64);
    writer.pages(READ, handle, 64, 1, 0, 1);
  },
  '17 control requests at once': (writer) => {
    const usage = Buffer.from([
      0x81,
      0xa6,
      ...Buffer.from('method'),
      0xa5,
      ...Buffer.from('usage'),
    ]);
    for (let id = 0; id < 17; id += 1) writer.body(CONTROL, id, 1, usage);
  },
  'a control request that is none': (writer) => writer.body(CONTROL, 1, 1, Buffer.from([0xc1])),
  'a notice that is none': (writer) => writer.body(NOTICE, 0, 0, Buffer.from([0x93])),
  'two PINGs at once': (writer) => {
    writer.plain(PING, 0, 1, 0);
    writer.plain(PING, 0, 2, 0);
  },
  'a PONG that nobody asked for': (writer) => writer.plain(PONG, 0, 77, 0),
  'a reply that nobody asked for (W4)': (writer) => writer.plain(WRITE_REPLY, 0, 0, 1),
  'a read reply that nobody asked for (W4)': (writer) => {
    RawPeer.pages(writer, 1, 1);
    writer.pages(READ_REPLY, 0, 0, 1, 1, 0);
  },
  'a control reply that nobody asked for': (writer) =>
    writer.body(CONTROL_REPLY, 0, 1, Buffer.from([0x80])),
  'a message after REKEY': (writer, handle) => {
    writer.plain(REKEY, 0, 0, 0);
    writer.pages(TRIM, handle, 1, 1, 0, 1);
  },
};
for (const [name, fill] of Object.entries(BREACHES)) {
  t.test(`${name} ends the session`, async (t) => {
    const { port, node, unharmed } = await scene(t);
    const { raw, handle } = await insider(t, port, node);
    raw.send((writer) => fill(writer, handle));
    await raw.ended();
    await unharmed();
  });
}

t.test('1024 requests and 4096 pages at once are within the credits', async (t) => {
  const { port, node } = await scene(t);
  const { raw, handle } = await insider(t, port, node);
  raw.send((writer) => {
    for (let id = 0; id < 1024; id += 1) writer.pages(READ, handle, id, 1, 0, 4);
  });
  for (let id = 0; id < 1024; id += 1) {
    const reply = await raw.readType(READ_REPLY);
    if (reply.idLow !== id || reply.pageCount !== 4) t.fail(`reply ${id}`);
  }
  t.pass();
});

t.test('one that asks and never reads is cut, with memory bounded (W9)', async (t) => {
  const { port, node, unharmed } = await scene(t);
  const { raw, handle } = await insider(t, port, node);
  raw.socket.pause();
  const rssBefore = process.memoryUsage.rss();
  for (let round = 0; round < 400 && !raw.socket.destroyed; round += 1) {
    // 60 requests of 64 pages: 15.8 MB asked for in a turn, within the credits of one turn.
    raw.send((writer) => {
      for (let id = 0; id < 60; id += 1) writer.pages(READ, handle, id, round + 1, 0, 64);
    });
    await new Promise((resolve) => setImmediate(resolve));
    if (!node.peers.peers().some(({ name, state }) => name === 'raw' && state === 'up')) break;
  }
  t.notOk(
    node.peers.peers().some(({ name, state }) => name === 'raw' && state === 'up'),
    'cut',
  );
  const growthMiB = (process.memoryUsage.rss() - rssBefore) / 2 ** 20;
  t.ok(growthMiB < 250, `resident memory grew by ${growthMiB.toFixed(0)} MiB`);
  await unharmed();
});

t.test('a peer reads, writes and trims nothing of another (W2, W3)', async (t) => {
  const { port, node, unharmed } = await scene(t);
  const { raw: a, handle, slab } = await insider(t, port, node, 'a');
  const { raw: b } = await insider(t, port, node, 'b');
  slab.memory.bytes.fill(0x33);
  b.send((writer) => {
    writer.pages(READ, handle, 1, 1, 0, 1);
    RawPeer.pages(writer, 1, 0x99);
    writer.pages(WRITE, handle, 2, 1, 0, 1);
    writer.pages(TRIM, handle, 3, 1, 0, 64);
  });
  const replies = [];
  while (replies.length < 3) {
    const message = await b.read();
    if (message.type >= 0x80) replies.push(message.aux);
  }
  t.same(replies, [6, 6, 6], 'NO_LEASE');
  t.ok(slab.memory.bytes.subarray(0, 4112).every((byte) => byte === 0x33));
  a.send((writer) => writer.pages(READ, handle, 1, 1, 0, 1));
  t.equal((await a.readType(READ_REPLY)).aux, 0, 'its owner still does');
  await unharmed();
});

const OUTCASTS: Record<string, (node: TestNode, raw: RawPeer) => unknown> = {
  'forgotten trust': ({ trust }) => trust.remove('outcast'),
  'denied trust': ({ trust }, { identity: { publicKey, nodeId } }) =>
    trust.deny({ publicKey, nodeId, name: 'outcast' }),
  'disconnection by an operator': ({ peers }) => peers.disconnect('outcast'),
};
for (const [how, castOut] of Object.entries(OUTCASTS)) {
  t.test(`after ${how} a peer that ignores BYE and goes on gets nothing (W7)`, async (t) => {
    const { port, node, unharmed } = await scene(t);
    const { raw, handle } = await insider(t, port, node, 'outcast');
    castOut(node, raw);
    const calls = node.slabs.callCount;
    raw.send((writer) => writer.pages(READ, handle, 1, 1, 0, 1));
    await raw.ended();
    t.equal(node.slabs.callCount, calls);
    t.notOk(node.peers.peers().some(({ name, state }) => name === 'outcast' && state === 'up'));
    await unharmed();
  });
}

t.test(
  'a node that connects twice has one session, which the end of the other leaves (W14)',
  async (t) => {
    const { port, node, unharmed } = await scene(t);
    const identity = Identity.ephemeral();
    const twins = [
      await RawPeer.open(port, 'twin', identity),
      await RawPeer.open(port, 'twin', identity),
    ];
    for (const twin of twins) t.teardown(() => twin.destroy());
    await until(() => twins.filter(({ closed }) => closed).length === 1, 'the end of one of them');
    const live = twins.find(({ closed }) => !closed)!;
    const { handle } = node.slabs.book.add(identity.nodeId, 1);
    for (let id = 1; id <= 3; id += 1) {
      live.send((writer) => writer.pages(READ, handle, id, 1, 0, 1));
      t.equal((await live.readType(READ_REPLY)).aux, 0, 'it is served');
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    const [row] = node.peers.peers().filter(({ name }) => name === 'twin');
    t.match(row, { state: 'up', nodeId: identity.nodeId });
    t.equal(node.peers.connectionCount, 2, 'the twin and the bystander');
    await unharmed();
  },
);

// --- A hostile provider --------------------------------------------------------------------------

/** A consumer's machine, and a forger that holds the keys of its provider. */
function forged(t: Test): { a: Side; reply: (fill: (writer: RecordWriter) => void) => void } {
  const a = new Side(1, 2);
  const output = new MemoryOutput();
  const writer = new RecordWriter(output, new RecordSealer(new Uint8Array(32).fill(2), 0), 0);
  t.teardown(() => {
    a.free();
    writer.destroy();
    output.free();
  });
  const reply = (fill: (writer: RecordWriter) => void): void => {
    fill(writer);
    writer.close();
    a.receive(output.take());
  };
  return { a, reply };
}

const BREACH = { code: 'ERR_PEER_PROTOCOL' };
const readReply = (writer: RecordWriter, slot: number, generation: number, count: number): void => {
  if (count > 0) RawPeer.pages(writer, count, 1);
  writer.pages(READ_REPLY, count > 0 ? 0 : 1, slot, generation, count, 0);
};

t.test('a second reply to a request ends the session (W4)', async (t) => {
  const { a, reply } = forged(t);
  a.machine.requests.readPages(0, 5, 1, 0, 1);
  reply((writer) => readReply(writer, 0, 1, 1));
  t.equal(a.seen.reads.length, 1);
  t.throws(() => reply((writer) => readReply(writer, 0, 1, 1)), BREACH);
  t.equal(a.seen.reads.length, 1);
});

t.test('replies with more or fewer pages than asked for end the session', async (t) => {
  for (const count of [1, 3, 64]) {
    const { a, reply } = forged(t);
    a.machine.requests.readPages(0, 5, 1, 0, 2);
    t.throws(() => reply((writer) => readReply(writer, 0, 1, count)), BREACH);
    t.equal(a.seen.reads.length, 0);
  }
});

t.test('a reply with an id of another request, slot or generation ends the session', async (t) => {
  const ids: [number, number][] = [
    [0, 0],
    [0, 2],
    [1, 1],
    [1023, 1],
    [1024, 1],
    [0xffffffff, 1],
    [0, 0xffffffff],
  ];
  for (const [slot, generation] of ids) {
    const { a, reply } = forged(t);
    a.machine.requests.readPages(0, 5, 1, 0, 1);
    t.throws(() => reply((writer) => readReply(writer, slot, generation, 1)), BREACH);
  }
});

t.test('a reply of another type than its request ends the session', async (t) => {
  for (const [type, ask] of [
    [0x82, (a: Side) => a.machine.requests.readPages(0, 5, 1, 0, 1)],
    [0x83, (a: Side) => a.machine.requests.readPages(0, 5, 1, 0, 1)],
    [0x82, (a: Side) => a.machine.requests.trimPages(0, 5, 1, 0, 1)],
    [0x82, (a: Side) => a.machine.requests.control(5, Buffer.from([0x80]))],
  ] as const) {
    const { a, reply } = forged(t);
    ask(a);
    t.throws(() => reply((writer) => writer.plain(type, 0, 0, 1)), BREACH);
  }
});

t.test('swapped replies cannot complete a request twice: the last one has none', async (t) => {
  const { a, reply } = forged(t);
  a.machine.requests.readPages(0, 1, 1, 0, 1);
  a.machine.requests.readPages(0, 2, 1, 1, 1);
  reply((writer) => readReply(writer, 1, 1, 1));
  reply((writer) => readReply(writer, 0, 1, 1));
  t.same(
    a.seen.reads.map(({ tag }) => tag),
    [2, 1],
    'out of order is allowed',
  );
  t.throws(() => reply((writer) => readReply(writer, 1, 1, 1)), BREACH);
});

t.test(
  'a reply to a request given up is dropped once, a second one ends the session',
  async (t) => {
    const { a, reply } = forged(t);
    a.machine.requests.readPages(0, 1, 1, 0, 1);
    a.machine.tick(2000);
    t.match(a.seen.reads, [{ tag: 1, status: 4 }]);
    reply((writer) => readReply(writer, 0, 1, 1));
    t.equal(a.seen.reads.length, 1);
    t.throws(() => reply((writer) => readReply(writer, 0, 1, 1)), BREACH);
  },
);

t.test('a failed reply carries no pages', async (t) => {
  const { a, reply } = forged(t);
  a.machine.requests.readPages(0, 1, 1, 0, 1);
  t.throws(
    () =>
      reply((writer) => {
        RawPeer.pages(writer, 1, 1);
        writer.pages(READ_REPLY, 1, 0, 1, 0, 0);
      }),
    BREACH,
  );
});
