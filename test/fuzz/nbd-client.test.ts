/**
 * A hostile NBD server: the recorded bytes of a good one, mutated, and plain noise. For any of them
 * the client's machines give a value or `ERR_NBD_*`, take no more than was sent, and hold no more
 * memory than was asked for; over a real socket every promise settles within its deadline.
 *
 * SEED=n repeats a run; FUZZ_SECONDS=n lengthens it.
 */
import { once } from 'node:events';
import net from 'node:net';
import path from 'node:path';
import t from 'tap';
import { MemcloudError } from '../../common/errors.ts';
import { NbdClient } from '../../nbd-server/client/connection.ts';
import { ClientNegotiation } from '../../nbd-server/client/negotiation.ts';
import { ReplyMachine } from '../../nbd-server/client/transmission.ts';
import { seededRandom, testSeed } from '../helpers/nbd-fixture.ts';
import { temporaryFolder } from '../helpers/nbd-servers.ts';

const seed = testSeed();
const seconds = Number(process.env['FUZZ_SECONDS'] ?? 3);
const random = seededRandom(seed);
t.comment(`SEED=${seed}`);
t.setTimeout((seconds * 3 + 60) * 1000);

const STYLES = ['simple', 'structured', 'extended'] as const;
const MACHINE_CODES = ['ERR_NBD_PROTOCOL', 'ERR_NBD_OPTION', 'ERR_NBD_EXPORT_UNKNOWN'];

function below(limit: number): number {
  return Math.floor(random() * limit);
}

function bytesOf(...fields: [size: 1 | 2 | 4 | 8, value: number | bigint][]): Buffer {
  return Buffer.concat(
    fields.map(([size, value]) => {
      const bytes = Buffer.alloc(8);
      bytes.writeBigUInt64BE(BigInt(value));
      return bytes.subarray(8 - size);
    }),
  );
}

function optionReply(option: number, type: number, data: Buffer = Buffer.alloc(0)): Buffer {
  const header = bytesOf([8, 0x3e889045565a9n], [4, option], [4, type], [4, data.length]);
  return Buffer.concat([header, data]);
}

function chunk(
  extended: boolean,
  cookie: number,
  flags: number,
  type: number,
  data: Buffer,
): Buffer {
  const magic = extended ? 0x6e8a278c : 0x668e33ef;
  const length: [4 | 8, number][] = extended
    ? [
        [8, 0],
        [8, data.length],
      ]
    : [[4, data.length]];
  return Buffer.concat([bytesOf([4, magic], [2, flags], [2, type], [8, cookie], ...length), data]);
}

/** What a good server says in each style: the handshake, then the answers to requests 1 to 5. */
function goodServer(style: (typeof STYLES)[number]): { handshake: Buffer; replies: Buffer } {
  const context = Buffer.concat([bytesOf([4, 1]), Buffer.from('base:allocation')]);
  const handshake: Buffer[] = [Buffer.from('NBDMAGICIHAVEOPT\0\x03', 'latin1')];
  if (style === 'extended') handshake.push(optionReply(11, 1));
  if (style === 'structured') handshake.push(optionReply(8, 1));
  if (style !== 'simple') handshake.push(optionReply(10, 4, context), optionReply(10, 1));
  handshake.push(
    optionReply(7, 3, bytesOf([2, 0], [8, 2 ** 20], [2, 0x1ed])),
    optionReply(7, 3, bytesOf([2, 3], [4, 1], [4, 4096], [4, 2 ** 25])),
    optionReply(7, 1),
  );
  if (style === 'simple') {
    const ok = (cookie: number): Buffer => bytesOf([4, 0x67446698], [4, 0], [8, cookie]);
    const replies = [ok(2), ok(1), Buffer.alloc(4096, 1), ok(3), Buffer.alloc(4096, 2), ok(4)];
    return { handshake: Buffer.concat(handshake), replies: Buffer.concat(replies) };
  }
  const wide = style === 'extended';
  const status = wide
    ? bytesOf([4, 1], [4, 2], [8, 4096], [8, 3], [8, 8192], [8, 0])
    : bytesOf([4, 1], [4, 4096], [4, 3], [4, 8192], [4, 0]);
  const replies = [
    chunk(wide, 1, 0, 1, Buffer.concat([bytesOf([8, 0]), Buffer.alloc(2048, 1)])),
    chunk(wide, 2, 1, 0, Buffer.alloc(0)),
    chunk(wide, 1, 1, 2, bytesOf([8, 2048], [4, 2048])),
    chunk(wide, 5, 1, wide ? 6 : 5, status),
    chunk(
      wide,
      3,
      1,
      0x8002,
      Buffer.concat([bytesOf([4, 5], [2, 3]), Buffer.from('bad'), Buffer.alloc(8)]),
    ),
    chunk(wide, 4, 1, 0, Buffer.alloc(0)),
  ];
  return { handshake: Buffer.concat(handshake), replies: Buffer.concat(replies) };
}

/** Flips, overwrites with edge values, inserts, deletes, repeats or cuts, once or a few times. */
function mutate(good: Buffer): Buffer {
  let bytes = Buffer.from(good);
  for (let count = 1 + below(3); count > 0 && bytes.length > 0; count -= 1) {
    const at = below(bytes.length);
    const length = Math.min(1 + below(12), bytes.length - at);
    const noise = Buffer.from(Array.from({ length }, () => below(256)));
    switch (below(6)) {
      case 0:
        bytes[at] = (bytes[at] ?? 0) ^ (1 << below(8));
        break;
      case 1:
        bytes.fill([0, 0xff, 0x80, 0x7f][below(4)] ?? 0, at, at + length);
        break;
      case 2:
        bytes = Buffer.concat([bytes.subarray(0, at), noise, bytes.subarray(at)]);
        break;
      case 3:
        bytes = Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + length)]);
        break;
      case 4:
        bytes = Buffer.concat([bytes.subarray(0, at + length), bytes.subarray(at)]);
        break;
      default:
        bytes = bytes.subarray(0, at);
    }
  }
  return bytes;
}

/** True for an error that a machine may throw. */
function allowed(error: unknown): boolean {
  return error instanceof MemcloudError && MACHINE_CODES.includes(error.code);
}

t.test('negotiation machine', async (t) => {
  const counts = { runs: 0, ended: 0, refused: 0 };
  for (const until = Date.now() + seconds * 1000; Date.now() < until;) {
    const style = STYLES[below(3)] ?? 'simple';
    const bytes = mutate(goodServer(style).handshake);
    const negotiation = new ClientNegotiation({
      goal: 'go',
      exportName: 'x',
      headerStyle: style,
      allocationContext: true,
    });
    counts.runs += 1;
    let at = 0;
    try {
      while (negotiation.wantedBytes > 0 && at + negotiation.wantedBytes <= bytes.length) {
        const wanted = negotiation.wantedBytes;
        if (wanted > 16_384) t.fail(`wants ${wanted} bytes at once`);
        if (negotiation.receive(bytes.subarray(at, at + wanted)).outcome) counts.ended += 1;
        at += wanted;
      }
    } catch (error) {
      if (!allowed(error)) throw error;
      counts.refused += 1;
    }
  }
  t.comment(JSON.stringify(counts));
  t.ok(counts.ended > 0 && counts.refused > 0, 'mutants of both kinds were met');
});

t.test('reply machine', async (t) => {
  const counts = { runs: 0, ended: 0, refused: 0 };
  for (const until = Date.now() + seconds * 1000; Date.now() < until;) {
    const style = STYLES[below(3)] ?? 'simple';
    const bytes = mutate(goodServer(style).replies);
    const machine = new ReplyMachine(style, 1);
    const guard = Buffer.alloc(4096 + 64, 0xaa);
    const ended = new Set<number>();
    for (const [cookie, type] of [
      [1, 0],
      [2, 1],
      [3, 0],
      [4, 4],
      [5, 7],
    ] as const) {
      machine.expect(cookie, {
        type,
        offset: 0,
        length: 4096,
        into: type === 0 ? guard.subarray(32, 32 + 4096) : undefined,
        onEnd: () => {
          if (ended.has(cookie)) t.fail(`request ${cookie} ended twice`);
          ended.add(cookie);
        },
      });
    }
    counts.runs += 1;
    try {
      for (let at = 0, end = 0; end < bytes.length;) {
        end = Math.min(bytes.length, end + 1 + below(600));
        const next = machine.receive(bytes, at, end);
        if (next < at || next > end) t.fail('took bytes that are not there');
        at = next;
        // What it leaves must be the beginning of something short, or the input buffer would fill.
        if (end - at > 8192) t.fail(`left ${end - at} bytes`);
      }
    } catch (error) {
      if (!allowed(error)) throw error;
      counts.refused += 1;
    }
    counts.ended += ended.size;
    const edges = Buffer.concat([guard.subarray(0, 32), guard.subarray(-32)]);
    if (!edges.equals(Buffer.alloc(64, 0xaa))) t.fail('wrote outside the buffer');
  }
  t.comment(JSON.stringify(counts));
  t.ok(counts.ended > 0 && counts.refused > 0, 'mutants of both kinds were met');
});

t.test('over a socket every promise settles', async (t) => {
  let script = Buffer.alloc(0);
  const sockets = new Set<net.Socket>();
  const server = net.createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined).resume();
    socket.on('close', () => sockets.delete(socket));
    socket.write(script);
    if (below(2) === 0) socket.end();
  });
  const place = path.join(temporaryFolder(t), 's.sock');
  server.listen(place);
  await once(server, 'listening');
  const outcomes = new Map<string, number>();
  const note = (outcome: string): void => {
    outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
  };
  for (const until = Date.now() + seconds * 1000; Date.now() < until;) {
    const headerStyle = STYLES[below(3)] ?? 'simple';
    const { handshake, replies } = goodServer(headerStyle);
    const whole = below(4) > 0;
    script = Buffer.concat([whole ? handshake : mutate(handshake), mutate(replies)]);
    const options = { headerStyle, handshakeTimeoutMs: 60, requestTimeoutMs: 60 };
    const client = await NbdClient.connect({ path: place }, options).catch((error: unknown) => {
      if (!(error instanceof MemcloudError)) throw error;
      note(error.code);
    });
    if (client === undefined) continue;
    const requests = [
      ...[client.read(0, 4096), client.write(0, Buffer.alloc(4096)), client.read(0, 4096)],
      ...[client.trim(0, 4096), client.blockStatus(0, 4096)],
    ];
    for (const result of await Promise.allSettled(requests)) {
      if (result.status === 'fulfilled') note('ok');
      else if (!(result.reason instanceof MemcloudError)) throw result.reason;
      else note(result.reason.code);
    }
    await client.close();
  }
  server.close();
  for (const socket of sockets) socket.destroy();
  t.comment(JSON.stringify(Object.fromEntries(outcomes)));
  t.ok((outcomes.get('ok') ?? 0) > 0);
  t.notOk(outcomes.has('ERR_INTERNAL'), 'no defect of ours');
  t.ok(process.memoryUsage().rss < 600 * 2 ** 20, 'memory stays bounded');
});
