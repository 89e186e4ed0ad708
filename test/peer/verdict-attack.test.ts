/**
 * What somebody on the network may learn of a node by asking, and may do to the verdicts that two nodes tell
 * each other. W11 of MemCloud in Rust: there "consent required" and "denied" travel in the clear and anybody
 * on the way can say them, the version is never looked at, and the first message tells every scanner how
 * much memory there is and how much is offered.
 */
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import net from 'node:net';
import { sha256 } from '@noble/hashes/sha2.js';
import t, { type Test } from 'tap';
import { NativeMemory } from '../../common/native-memory.ts';
import { encodeHello, type AcceptedHello, type Hello } from '../../peer/control.ts';
import { encodeCredentials } from '../../peer/credentials.ts';
import { encodeHandshakeFrame } from '../../peer/frame.ts';
import { Identity } from '../../peer/identity.ts';
import { unpackMap } from '../../peer/message-pack.ts';
import { MessageWriter } from '../../peer/messages.ts';
import { HandshakeState, keyPairFrom } from '../../peer/noise/handshake-state.ts';
import { RecordSealer } from '../../peer/record-cipher.ts';
import { RecordWriter } from '../../peer/record-writer.ts';
import { portOf, testNode, until, type TestNode } from '../helpers/peer-node.ts';
import { RawPeer, rawServer } from '../helpers/raw-peer.ts';
import { MemoryOutput } from '../helpers/session-pair.ts';

const HELLO = 0x70;
const TAG_SIZE = 16;

const ACCEPTED: AcceptedHello = {
  verdict: 'accepted',
  limits: { requestCountMax: 1024, pageBytesMax: 4096 * 4112 },
  usage: { offeredBytes: 2 ** 40, usedBytes: 0, residentBytes: 0, leaseCount: 0 },
  features: [],
  ...{ hostId: '', zone: '', accepting: true, lane: '', port: 0 },
};

/** Bytes of the first handshake frame in `bytes`; 0 while it is not whole. */
function frameSize(bytes: Buffer): number {
  if (bytes.length < 2) return 0;
  const size = 2 + bytes.readUInt16BE(0);
  return size <= bytes.length ? size : 0;
}

/** Somebody on the way: sees every byte, and puts what it likes behind message 2, where the verdict goes. */
class Meddler {
  readonly address: string;
  /** What the dialled node said, behind its message 2. */
  saidLater = Buffer.alloc(0);
  /** All that went either way. */
  seen = Buffer.alloc(0);

  private constructor(server: net.Server) {
    this.address = `127.0.0.1:${(server.address() as net.AddressInfo).port}`;
  }

  static async before(
    t: Test,
    target: string,
    change: (bytes: Buffer) => Buffer = (bytes) => bytes,
  ): Promise<Meddler> {
    const server = net.createServer({ noDelay: true }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const meddler = new Meddler(server);
    const sockets: net.Socket[] = [];
    server.on('connection', (near) => {
      const far = net.connect({ host: '127.0.0.1', port: portOf(target), noDelay: true });
      sockets.push(near, far);
      let frames = Buffer.alloc(0);
      let isBehind = false;
      near.on('data', (bytes: Buffer) => {
        meddler.seen = Buffer.concat([meddler.seen, bytes]);
        far.write(bytes);
      });
      far.on('data', (bytes: Buffer) => {
        meddler.seen = Buffer.concat([meddler.seen, bytes]);
        let rest = bytes;
        if (!isBehind) {
          frames = Buffer.concat([frames, bytes]);
          const size = frameSize(frames);
          if (size === 0) return;
          isBehind = true;
          near.write(frames.subarray(0, size));
          rest = frames.subarray(size);
        }
        if (rest.length === 0) return;
        meddler.saidLater = Buffer.concat([meddler.saidLater, rest]);
        near.write(change(rest));
      });
      for (const [one, other] of [
        [near, far],
        [far, near],
      ] as const) {
        one.on('error', () => undefined);
        one.on('close', () => other.destroy());
      }
    });
    t.teardown(() => {
      for (const socket of sockets) socket.destroy();
      server.close();
    });
    return meddler;
  }
}

/** A HELLO sealed with a key that is nobody's. */
function sealedByAnother(hello: Hello): Buffer {
  const output = new MemoryOutput();
  const writer = new RecordWriter(output, new RecordSealer(randomBytes(32), 0), 0);
  writer.body(HELLO, 0, 0, encodeHello(hello));
  writer.close();
  const bytes = output.take();
  writer.destroy();
  output.free();
  return bytes;
}

/** A HELLO as a record would be if nothing were encrypted. */
function inTheClear(hello: Hello): Buffer {
  const head = new NativeMemory(65536);
  const writer = new MessageWriter(head);
  writer.body(HELLO, 0, 0, encodeHello(hello));
  const record = Buffer.alloc(8 + writer.length + TAG_SIZE);
  record.writeUInt32LE(record.length - 4, 0);
  record.writeUInt32LE(writer.length, 4);
  head.bytes.copy(record, 8, 0, writer.length);
  head.free();
  return record;
}

/** The verdict of a node that lets this very dialler in, recorded on the way. */
async function recordedAcceptance(t: Test, dialler: Identity): Promise<Buffer> {
  const host = testNode(t, 'friend');
  const meddler = await Meddler.before(t, await host.listen());
  const node = testNode(t, 'node', { identity: dialler });
  await node.peers.connect(meddler.address).outcome();
  t.ok(meddler.saidLater.length > 0);
  return meddler.saidLater;
}

const flipped =
  (at: number) =>
  (bytes: Buffer): Buffer => {
    const changed = Buffer.from(bytes);
    changed[at]! ^= 1;
    return changed;
  };

const FORGERIES: Record<string, (bytes: Buffer) => Buffer> = {
  'a changed bit in the verdict': flipped(8 + 20),
  'a changed bit in the tag': (bytes) => flipped(bytes.length - 1)(bytes),
  '"accepted" in the clear': () => inTheClear(ACCEPTED),
  '"refused" in the clear': () => inTheClear({ verdict: 'refused' }),
  '"pending" in the clear': () => inTheClear({ verdict: 'pending', lane: '' }),
  '"accepted" sealed with another key': () => sealedByAnother(ACCEPTED),
  '"refused" sealed with another key': () => sealedByAnother({ verdict: 'refused' }),
  'the verdict twice': (bytes) => Buffer.concat([bytes, bytes]),
};
for (const [name, change] of Object.entries(FORGERIES)) {
  t.test(`${name} ends the connection, and is no verdict`, async (t) => {
    const host = testNode(t, 'host', { autoTrust: false });
    const meddler = await Meddler.before(t, await host.listen(), change);
    const node = testNode(t, 'node');
    const dialer = node.peers.connect(meddler.address);
    await until(() => dialer.lastError !== undefined, 'the end of the attempt');
    t.equal(dialer.lastError?.code, 'ERR_PEER_AUTHENTICATION');
    t.not(dialer.state, 'up');
    t.equal(node.peers.list().length, 0, 'nobody was let in by it');
    dialer.stop();
    await until(() => host.consent.list().length === 0, 'the question went with the connection');
    t.same(host.trust.list(), []);
  });
}

t.test('an acceptance of another connection is none, for the same two keys', async (t) => {
  const identity = Identity.ephemeral();
  const accepted = await recordedAcceptance(t, identity);
  const host = testNode(t, 'host', { autoTrust: false });
  const meddler = await Meddler.before(t, await host.listen(), () => accepted);
  const node = testNode(t, 'second', { identity });
  const dialer = node.peers.connect(meddler.address);
  await until(() => dialer.lastError !== undefined, 'the end of the attempt');
  t.equal(dialer.lastError?.code, 'ERR_PEER_AUTHENTICATION');
  t.equal(node.peers.list().length, 0);
});

t.test('who listens on the way reads no name, key, verdict or number', async (t) => {
  const host = testNode(t, 'host-of-secrets', { autoTrust: false, hostId: 'machine-of-secrets' });
  const meddler = await Meddler.before(t, await host.listen());
  const node = testNode(t, 'dialler-of-secrets');
  const dialer = node.peers.connect(meddler.address);
  await until(() => host.consent.list().length === 1, 'the question');
  host.consent.answer(host.consent.list()[0]!.id, 'trust');
  await until(() => dialer.state === 'up', 'the session');
  const { seen } = meddler;
  t.ok(seen.length > 500, `${seen.length} bytes were seen`);
  const secrets: Record<string, string | Uint8Array> = {
    ...{ name: 'of-secrets', verdict: 'verdict', accepted: 'accepted', pending: 'pending' },
    ...{ usage: 'offeredBytes', 'key of the host': host.identity.publicKey },
    'key of the dialler': node.identity.publicKey,
    'id of the host': Buffer.from(host.identity.nodeId, 'hex'),
    'id of the dialler': Buffer.from(node.identity.nodeId, 'hex'),
    'id in words': host.identity.nodeId,
  };
  for (const [what, secret] of Object.entries(secrets))
    t.notOk(seen.includes(Buffer.from(secret)), what);
});

// --- Scanners ------------------------------------------------------------------------------------

/** A node that lends 64 MiB and lets nobody in unasked. */
async function scanned(t: Test): Promise<{ node: TestNode; port: number }> {
  const node = testNode(t, 'scanned', { autoTrust: false });
  return { node, port: portOf(await node.listen()) };
}

t.test('who says nothing is told nothing', async (t) => {
  const node = testNode(t, 'scanned', { handshakeStepTimeoutMs: 150 });
  const socket = net.connect({ host: '127.0.0.1', port: portOf(await node.listen()) });
  let told = 0;
  socket.on('data', (bytes: Buffer) => (told += bytes.length));
  await once(socket, 'close');
  t.equal(told, 0);
});

t.test(
  'a scanner with a good key of its own learns that it has to wait, or that it may not',
  async (t) => {
    const { node, port } = await scanned(t);
    t.ok(node.slabs.usage().offeredBytes > 0, 'there is something to be learnt');
    const raw = await RawPeer.connect(port, 'scanner');
    t.teardown(() => raw.destroy());
    await raw.handshake('initiator');
    const pending = await raw.readType(HELLO);
    t.same({ ...unpackMap(pending.body) }, { verdict: 'pending' }, 'this word and no number');
    // It says `accepted` itself, which opens nothing.
    raw.hello(ACCEPTED);
    node.consent.answer(node.consent.list()[0]!.id, 'deny');
    const refused = await raw.readType(HELLO);
    t.same({ ...unpackMap(refused.body) }, { verdict: 'refused' });
    await raw.ended();
    const again = await RawPeer.connect(port, 'scanner', raw.identity);
    t.teardown(() => again.destroy());
    await again.handshake('initiator');
    const at = await again.readType(HELLO);
    t.same({ ...unpackMap(at.body) }, { verdict: 'refused' }, 'at once, unasked');
    t.same(node.consent.list(), []);
  },
);

// --- Versions ------------------------------------------------------------------------------------

function noiseOf(initiator: boolean, prologue: string): HandshakeState {
  return new HandshakeState({
    initiator,
    prologue: Buffer.from(prologue),
    staticKeys: keyPairFrom(randomBytes(32)),
    ephemeralKeys: keyPairFrom(randomBytes(32)),
    hash: { name: 'SHA256', hash: sha256 },
  });
}

const NOTHING = (): Uint8Array => new Uint8Array(0);

t.test('a dialler of another version of the protocol is nobody to ask about', async (t) => {
  const { node, port } = await scanned(t);
  for (const prologue of ['memcloud/2', 'memcloud/0', 'memcloud/', '']) {
    const raw = await RawPeer.connect(port);
    const noise = noiseOf(true, prologue);
    raw.socket.write(encodeHandshakeFrame(noise.writeMessage(NOTHING)));
    const second = await raw.readFrame();
    t.throws(() => noise.readMessage(second), { code: 'ERR_PEER_AUTHENTICATION' });
    // It goes on all the same, with something of the right length.
    raw.socket.write(encodeHandshakeFrame(randomBytes(200)));
    await raw.ended();
    await raw.destroy();
    t.same(node.consent.list(), [], prologue);
  }
  t.equal(node.peers.connectionCount, 0);
});

t.test('credentials of another version are refused, though properly signed', async (t) => {
  const { node, port } = await scanned(t);
  for (const version of [0, 2, 255]) {
    const raw = await RawPeer.connect(port);
    const noise = noiseOf(true, 'memcloud/1');
    raw.socket.write(encodeHandshakeFrame(noise.writeMessage(NOTHING)));
    noise.readMessage(await raw.readFrame());
    const third = noise.writeMessage((hash) => {
      const credentials = encodeCredentials(raw.identity, 'future', 'initiator', hash);
      credentials[0] = version;
      return credentials;
    });
    raw.socket.write(encodeHandshakeFrame(third));
    await raw.ended();
    await raw.destroy();
    t.same(node.consent.list(), [], `version ${version}`);
  }
});

t.test('a dialled node of another version never sees who dialled it', async (t) => {
  let later = 0;
  const server = await rawServer(async (raw) => {
    const noise = noiseOf(false, 'memcloud/2');
    noise.readMessage(await raw.readFrame());
    const second = noise.writeMessage((hash) =>
      encodeCredentials(raw.identity, 'future', 'responder', hash),
    );
    raw.socket.on('data', (bytes: Buffer) => (later += bytes.length));
    raw.socket.write(encodeHandshakeFrame(second));
    await raw.ended();
    await raw.destroy();
  });
  t.teardown(() => server.close());
  const node = testNode(t, 'node');
  const dialer = node.peers.connect(`127.0.0.1:${server.port}`);
  await until(() => dialer.lastError !== undefined, 'the refusal');
  t.match(dialer.lastError?.code, /^ERR_PEER_(AUTHENTICATION|HANDSHAKE)$/);
  t.equal(later, 0, 'no third message');
  t.same(node.trust.list(), [], 'though it trusts at first sight');
  dialer.stop();
});
