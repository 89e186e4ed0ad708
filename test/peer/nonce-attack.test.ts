/**
 * No key seals two records under one number, whatever fails, is cancelled or is cut off. W13 of MemCloud in
 * Rust: there the number moves on only when a send has succeeded, so that the first time-out or
 * cancellation that anybody adds gives two messages the same key and nonce, which shows both and lets
 * anybody forge more. And lengths are cut to 32 bits there; here nothing is sent that is longer than its
 * length field tells.
 */
import t, { type Test } from 'tap';
import { AeadKey } from '../../common/aead.ts';
import { NativeMemory } from '../../common/native-memory.ts';
import type { BodyRequest } from '../../peer/body-requests.ts';
import { encodeHandshakeFrame } from '../../peer/frame.ts';
import { RecordOpener, RecordSealer } from '../../peer/record-cipher.ts';
import { Random } from '../helpers/fuzz.ts';
import { KeepingSink, testNode, until } from '../helpers/peer-node.ts';
import { sessionPair } from '../helpers/session-pair.ts';
import { TcpProxy } from '../helpers/tcp-proxy.ts';

const seed = Number(process.env['SEED'] ?? Date.now() % 2 ** 31);

interface SealWatch {
  sealCount: number;
  /** Nonces that a key was used with before. */
  readonly repeated: string[];
  /** When true the next seal fails, after its number was taken. */
  failsNext: boolean;
}

/** Sees every seal of this process from now on, until the test ends. */
function watchSeals(t: Test): SealWatch {
  const watch: SealWatch = { sealCount: 0, repeated: [], failsNext: false };
  const seen = new WeakMap<AeadKey, Set<string>>();
  // eslint-disable-next-line @typescript-eslint/unbound-method -- called with its own `this`
  const genuine = AeadKey.prototype.seal;
  AeadKey.prototype.seal = function (this: AeadKey, word0, word1, word2, message) {
    const nonces = seen.get(this) ?? new Set<string>();
    seen.set(this, nonces);
    const nonce = `${word0}.${word1}.${word2}`;
    if (nonces.has(nonce)) watch.repeated.push(nonce);
    nonces.add(nonce);
    watch.sealCount += 1;
    genuine.call(this, word0, word1, word2, message);
    if (!watch.failsNext) return;
    watch.failsNext = false;
    throw new Error('the seal failed');
  };
  t.teardown(() => (AeadKey.prototype.seal = genuine));
  return watch;
}

const HEAD = 24;

t.test('a seal that fails has used its number up', async (t) => {
  const watch = watchSeals(t);
  const memory = new NativeMemory(8192);
  const key = (): Uint8Array => new Uint8Array(32).fill(9);
  const sealer = new RecordSealer(key(), 0);
  watch.failsNext = true;
  t.throws(() => sealer.seal(memory, 0, 0, HEAD), { message: 'the seal failed' });
  const failed = Buffer.from(memory.bytes.subarray(0, 8 + HEAD + 16));
  memory.bytes.fill(0);
  sealer.seal(memory, 0, 0, HEAD);
  const next = Buffer.from(memory.bytes.subarray(0, 8 + HEAD + 16));
  t.notSame(failed, next, 'the same bytes again are another record');
  const opener = new RecordOpener(key());
  t.throws(() => opener.open(memory, 0, 0, HEAD), { code: 'ERR_PEER_AUTHENTICATION' });
  next.copy(memory.bytes);
  opener.open(memory, 0, 0, HEAD);
  t.ok(memory.bytes.subarray(8, 8 + HEAD).equals(Buffer.alloc(HEAD)), 'it is record 1');
  t.same(watch.repeated, []);
  sealer.destroy();
  opener.destroy();
  memory.free();
});

t.test('sends that fail, and requests that are cancelled, take no number twice', (t) => {
  const watch = watchSeals(t);
  const random = new Random(seed);
  t.comment(`SEED=${seed}`);
  const rekey = { recordCountMax: 50, bytesMax: 2 ** 36, ageMaxMs: 3_600_000 };
  for (let round = 0; round < 60; round += 1) {
    const [a, b] = sessionPair({ rekey }, { rekey, serveObject: (body) => Buffer.from(body) });
    const { objects, requests } = a.machine;
    const open: BodyRequest[] = [];
    let nowMs = 0;
    /** True when something that was sealed went nowhere: the other side cannot follow any more. */
    let isCut = false;
    const send = (): void => {
      const bytes = a.flush();
      if (isCut) return;
      if (bytes.length > 0) b.receive(bytes, nowMs);
      const back = b.flush();
      if (back.length > 0) a.receive(back, nowMs);
    };
    const failToSend = (): void => {
      watch.failsNext = true;
      try {
        send();
      } catch {
        isCut = true;
        a.output.take();
      }
      watch.failsNext = false;
    };
    const steps: (() => unknown)[] = [
      () => open.push(objects.request(Buffer.from('ask'), 100, () => undefined)),
      () => requests.readPages(0, 1, 1, 0, 1 + random.below(64)),
      () => open.length > 0 && objects.cancel(random.pick(open)),
      () => a.machine.tick((nowMs += random.below(20))),
      send,
      send,
      () => random.below(10) === 0 && failToSend(),
      () => random.below(10) === 0 && (isCut = a.flush().length > 0 || isCut),
    ];
    for (let step = 0; step < 150; step += 1) {
      try {
        random.pick(steps)();
      } catch (error) {
        // A session that hears nothing any more ends itself; what it sealed until then is looked at.
        if (!isCut) throw error;
        break;
      }
    }
    a.free();
    b.free();
  }
  t.ok(watch.sealCount > 500, `${watch.sealCount} seals`);
  t.same(watch.repeated, []);
  t.end();
});

t.test(
  'over sockets: a link that stalls and breaks under load, and sessions that come back',
  async (t) => {
    const watch = watchSeals(t);
    const provider = testNode(t, 'provider');
    const proxy = await TcpProxy.before(t, await provider.listen());
    const consumer = testNode(t, 'consumer', { random: () => 0 });
    const dialer = consumer.peers.connect(proxy.address);
    await dialer.outcome();
    const store = consumer.peers.store('provider');
    for (let round = 0; round < 4; round += 1) {
      await until(() => store.session !== undefined && dialer.state === 'up', 'a session');
      const { slabHandle } = await store.lease({ pageCount: 64, ttlMs: 60_000 });
      const sink = new KeepingSink();
      const queue = store.openPageQueue(sink);
      proxy.stalled = true;
      for (let tag = 0; tag < 2000; tag += 1) {
        queue.readPages(tag, slabHandle, tag % 64, 1);
        if (tag % 100 === 0) await new Promise((resolve) => setImmediate(resolve));
      }
      // Cancels what is under way; the records of it are on the socket, in part.
      queue.close();
      if (round % 2 === 0) proxy.cut();
      proxy.stalled = false;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    t.ok(watch.sealCount > 20, `${watch.sealCount} seals`);
    t.same(watch.repeated, []);
  },
);

t.test('what is longer than its length field can tell is not sent', (t) => {
  t.throws(() => encodeHandshakeFrame(new Uint8Array(65_536)), RangeError);
  const [side, other] = sessionPair();
  const before = side.writer.byteCount;
  for (const length of [60_001, 65_536, 65_536 + 8]) {
    t.throws(() => side.writer.body(0x20, 1, 1, new Uint8Array(length)), { code: 'ERR_INTERNAL' });
  }
  side.flush();
  t.equal(side.writer.byteCount, before, 'not a byte of it');
  side.free();
  other.free();
  t.end();
});
