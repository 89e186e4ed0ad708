/**
 * Hostile clients against a live server in this process: mutated handshakes and requests, cut at
 * random places, sockets left half open or reset with replies in flight. After each round a second,
 * well-behaved client must be served as before, and at the end nothing may be left.
 *
 * SEED repeats a run, FUZZ_SECONDS lengthens it (default 4 s).
 */
import type net from 'node:net';
import t from 'tap';
import { eventually, seededRandom, startNbdServer, testSeed } from '../helpers/nbd-fixture.ts';
import {
  counted,
  extendedRequest,
  infoData,
  metaData,
  option,
  RawClient,
  request,
  u16,
  u32,
} from '../helpers/nbd-raw-client.ts';

const seed = testSeed();
t.comment(`SEED=${seed}`);
const random = seededRandom(seed);
const milliseconds = Number(process.env['FUZZ_SECONDS'] ?? 4) * 1000;

const pick = <T>(values: readonly T[]): T => values[Math.floor(random() * values.length)]!;
const below = (limit: number): number => Math.floor(random() * limit);
const bytes = (length: number): Buffer => Buffer.from(Array.from({ length }, () => below(256)));

const NUMBERS = [0, 1, 2, 511, 512, 4095, 4096, 65535, 65536, 2 ** 20, 2 ** 20 + 1, 2 ** 25];
const HUGE = [
  2n ** 31n,
  2n ** 32n - 1n,
  2n ** 32n,
  2n ** 53n,
  2n ** 63n - 1n,
  2n ** 63n,
  2n ** 64n - 1n,
];

function someOption(): Buffer {
  const name = pick(['memory', '', 'nope', 'n'.repeat(300), 'x'.repeat(5000), '\0']);
  const data = pick([
    () => Buffer.alloc(0),
    () => bytes(below(64)),
    () => infoData(name, [below(5), below(65536)]),
    () => metaData(name, pick([[], ['base:'], ['base:allocation', 'q:z'], [name]])),
    () => Buffer.concat([u32(below(2 ** 32)), bytes(below(20))]),
    () => Buffer.concat([counted(name), u16(65535)]),
    () => Buffer.alloc(65537 + below(1000)),
  ])();
  return option(pick([1, 2, 3, 4, 5, 6, 6, 7, 7, 8, 8, 9, 10, 10, 11, 12, 999]), data);
}

function someRequest(extended: boolean): Buffer {
  const command = below(10);
  const carries = command === 1 || (extended && random() < 0.3);
  const huge = random() < 0.15;
  const length = huge ? (extended ? pick(HUGE) : pick(HUGE.slice(0, 2))) : BigInt(pick(NUMBERS));
  const payloadSize = carries && length < 2n ** 21n ? Number(length) : 0;
  const parts = {
    command,
    flags: random() < 0.7 ? pick([0, 0, 1, 32, 33]) : below(65536),
    cookie: BigInt(below(2 ** 32)),
    offset: random() < 0.2 ? pick(HUGE) : BigInt(pick(NUMBERS)),
    length,
    payload: Buffer.alloc(payloadSize, 0x5a),
  };
  return extended ? extendedRequest(parts) : request(parts);
}

function mutate(message: Buffer): Buffer {
  const copy = Buffer.from(message);
  switch (below(4)) {
    case 0:
      if (copy.length > 0) copy[below(copy.length)] = below(256);
      return copy;
    case 1:
      return copy.subarray(0, below(copy.length + 1));
    case 2:
      return Buffer.concat([copy, bytes(below(8))]);
    default:
      return bytes(below(200));
  }
}

/** What one hostile client sends, and whether it first gets through the handshake. */
function conversation(): Buffer[] {
  const parts: Buffer[] = [random() < 0.9 ? u32(below(4)) : bytes(4)];
  const extended = random() < 0.4;
  if (random() < 0.5) for (let i = below(6); i > 0; i -= 1) parts.push(someOption());
  if (extended) parts.push(option(11));
  else if (random() < 0.5) parts.push(option(8));
  if (random() < 0.5) parts.push(option(10, metaData('memory', ['base:allocation'])));
  if (random() < 0.85) parts.push(option(7, infoData('memory')));
  for (let i = below(60); i > 0; i -= 1) parts.push(someRequest(extended));
  if (random() < 0.2) parts.push(request({ command: 2 }));
  if (random() < 0.5) {
    const index = below(parts.length);
    parts[index] = mutate(parts[index]!);
  }
  return parts;
}

async function attack(target: net.NetConnectOpts): Promise<void> {
  const client = await RawClient.connect(target).catch(() => undefined);
  if (client === undefined) return;
  // A client that never reads makes the server hold replies; it must not hold them for ever.
  const reads = random() < 0.7;
  if (!reads) client.socket.pause();
  const all = Buffer.concat(conversation());
  let at = 0;
  while (at < all.length && !client.socket.destroyed) {
    const end = random() < 0.5 ? all.length : Math.min(all.length, at + 1 + below(5000));
    client.send(all.subarray(at, end));
    at = end;
    if (random() < 0.3) await new Promise((resolve) => setImmediate(resolve));
  }
  const halfClosed = random() < 0.3;
  if (halfClosed) client.socket.end();
  if (random() < 0.5) await new Promise((resolve) => setTimeout(resolve, below(5)));
  // Node cannot reset a socket that is shutting down: its handle would leak.
  if ('port' in target && !halfClosed && random() < 0.5) client.socket.resetAndDestroy();
  else client.destroy();
}

for (const delayed of [false, true]) {
  t.test(`hostile clients harm nobody else, ${delayed ? 'slow' : 'prompt'} device`, async (t) => {
    const delayMs = (): number => below(4) - 1;
    const { target, server, device } = await startNbdServer(t, {
      sizeBytes: 2 ** 21,
      ...(delayed && { device: { delayMs } }),
    });
    const tcp = (await server.listen({ host: '127.0.0.1', port: 0 })) as net.TcpNetConnectOpts;
    const witness = await RawClient.open(target, 'simple');
    const payload = Buffer.alloc(4096);
    const before = process.memoryUsage().rss;
    const end = Date.now() + milliseconds / 2;
    let rounds = 0;
    while (Date.now() < end) {
      await Promise.all([target, target, tcp, tcp].map(attack));
      rounds += 1;
      payload.fill(rounds & 255);
      const offset = 2 ** 21 - 4096;
      const write = { command: 1, offset, length: 4096, payload };
      if ((await witness.ask(write)).error !== 0) throw new Error('the witness was refused');
      const read = await witness.ask({ command: 0, offset, length: 4096 }, 4096);
      if (read.error !== 0) throw new Error('the witness could not read');
    }
    t.comment(`${rounds * 4} sessions`);
    const fresh = await RawClient.open(target, 'structured');
    t.match(await fresh.ask({ command: 3 }), { error: 0 }, 'a new client is served');
    fresh.destroy();
    witness.destroy();
    await eventually(() => server.stats.connectionCount === 0, 'every connection ended');
    t.equal(device.openQueueCount, 0, 'every queue was closed');
    const grown = process.memoryUsage().rss - before;
    t.ok(grown < 2 ** 29, `resident memory grew by ${grown} bytes`);
  });
}
