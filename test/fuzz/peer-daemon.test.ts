/**
 * A memnode process against a peer that it trusts and that sends 10 000 messages inside real encrypted
 * sessions, most of which nobody should send: random bodies, requests about leases and objects with fields out of
 * every bound, pages that were never leased, replies to nothing, ids used twice, greetings in the middle. A
 * message that is none ends that session and no other; the node goes on, its memory stays bounded, and what
 * another peer keeps there stays as it is and can be used all the time.
 *
 * SEED=n repeats a run; PEER_MESSAGES=n lengthens it.
 */
import fs from 'node:fs';
import { Packr } from 'msgpackr';
import t from 'tap';
import { encodeRequest, replySizeMax, type ObjectRequest } from '../../objects/messages.ts';
import { Identity } from '../../peer/identity.ts';
import type { RecordWriter } from '../../peer/record-writer.ts';
import { MemcloudClient } from '../../sdk/client.ts';
import { Random } from '../helpers/fuzz.ts';
import { LabNode, eventually, labFolder } from '../helpers/lab-node.ts';
import { portOf } from '../helpers/peer-node.ts';
import { RawPeer } from '../helpers/raw-peer.ts';

const MIB = 2 ** 20;
const seed = Number(process.env['SEED'] ?? Date.now() % 2 ** 31);
const messageCount = Number(process.env['PEER_MESSAGES'] ?? 10_000);
const PATIENCE_MS = 60_000;
/** What the process may grow by beyond what it stores, once it has seen the first fifth. */
const GROWTH_MAX_BYTES = 96 * MIB;

/** docs/peer-protocol.md section 6. */
const READ = 0x01;
const PING = 0x10;
const CONTROL = 0x20;
const OBJECT = 0x30;
const MANAGE = 0x40;
const PONG = 0x90;
const BYE = 0x73;
const TYPES = [
  ...[0, 1, 2, 3, 0x10, 0x20, 0x30, 0x40, 0x70, 0x71, 0x72],
  ...[0x81, 0x82, 0x83, 0x90, 0xa0, 0xb0, 0xc0],
];

t.comment(`SEED=${seed}`);
t.setTimeout(600_000);
const packr = new Packr({ useRecords: false });

function residentBytes(pid: number): number {
  const status = fs.readFileSync(`/proc/${pid}/status`, 'utf8');
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1]) * 1024;
}

function objectRequest(random: Random): ObjectRequest {
  const key = random.pick(['k/1', 'k/2', 'bystander/kept', 'x'.repeat(1024)]);
  const name = random.pick([
    { kind: 'key', key } as const,
    { kind: 'block', id: random.pick(['0', '1', '18446744073709551615']) } as const,
  ]);
  const options = {
    mode: random.pick(['pinned', 'cache'] as const),
    ...(random.below(2) === 0 ? { ttlMs: random.pick([1, 1000, 2 ** 40]) } : {}),
    ...(random.below(4) === 0 ? { ifVersion: random.below(3) } : {}),
  };
  const upload = random.pick(['1', '2', '3', '999']);
  return random.pick<() => ObjectRequest>([
    () => ({ method: 'put', key, options, value: random.bytes(random.below(2000)) }),
    () => ({ method: 'put', key: undefined, options, value: random.bytes(random.below(200)) }),
    () => ({
      method: 'get',
      name,
      offset: random.pick([0, 7, 2 ** 50]),
      length: 49_152,
      ifVersion: undefined,
    }),
    () => ({ method: 'stat', name }),
    () => ({ method: 'delete', name, ifVersion: undefined }),
    () => ({ method: 'list', query: { patterns: [random.pick(['*', '[', '****?*a'])] } }),
    () => ({ method: 'flush' }),
    () => ({ method: 'usage' }),
    () => ({ method: 'begin', key, options, sizeHint: random.pick([undefined, 2 ** 50]) }),
    () => ({
      method: 'append',
      upload,
      offset: random.pick([0, 9, 2 ** 40]),
      piece: random.bytes(100),
    }),
    () => ({ method: 'commit', upload }),
    () => ({ method: 'abort', upload }),
  ])();
}

/** A control request within the bounds of its fields, or beyond them. */
function controlBody(random: Random, isWild: boolean): Buffer {
  const methods = ['lease', 'renew', 'release', 'usage', 'recall-room'];
  const id = random.pick(['0'.repeat(16), 'f'.repeat(16), '0123456789abcdef']);
  const fields: Record<string, unknown> = {
    method: random.pick(methods),
    pageCount: random.pick([0, 1, 16, 4097, 2 ** 32 - 1]),
    ttlMs: random.pick([0, 1000, 60_000, 2 ** 32 - 1]),
    leaseIds: [id, id],
    leaseId: id,
    ...(random.below(2) === 0 ? { under: random.pick([id.repeat(2), 'ab'.repeat(16)]) } : {}),
  };
  if (isWild) {
    const field = random.pick(Object.keys(fields));
    fields[field] = random.pick([-1, 1.5, 2 ** 53, '16', null, [], {}, [7], 'x', '__proto__']);
  }
  return packr.pack(fields);
}

/** A managed call of somebody who is no control node, or no call. */
function managedBody(random: Random): Buffer {
  const leaseIds = [random.bytes(16).toString('hex')];
  const epoch = random.pick([0, 1, 2 ** 53 - 1]);
  const publicKey = random.bytes(32).toString('hex');
  const token = random.pick(['', 'a.b.c', 'x'.repeat(2048), 'eyJhbGciOiJub25lIn0.e30.']);
  const [call, params] = random.pick<[string, unknown]>([
    ['lease.present', { token }],
    ['lease.return', { leaseIds }],
    ['manage.admit', { epoch, publicKey, name: 'attacker', ttlMs: 60_000 }],
    ['manage.extend', { epoch, leases: [{ leaseId: leaseIds[0], ttlMs: 60_000 }] }],
    ['manage.end', { epoch, leaseIds, reason: 'revoked' }],
    ['manage.ending', { epoch, leaseIds, reason: 'revoked', endsInMs: 0 }],
    ['control.hello', {}],
    ['admin.member-put', { key: publicKey, roles: ['admin'] }],
    [random.pick(['__proto__', 'constructor', 'x'.repeat(5000)]), { deep: [[[[[]]]]] }],
  ]);
  const body = Buffer.from(JSON.stringify({ call, params }));
  return random.below(3) === 0 ? random.mutate(body) : body;
}

/** Puts one message into a record; `isWild` allows what ends the session. */
function addMessage(random: Random, writer: RecordWriter, slot: number, isWild: boolean): void {
  const low = isWild ? random.below(2 ** 32) : slot;
  const high = isWild ? random.below(2 ** 32) : 1;
  const kind = random.below(14);
  // Whatever is in it, it is answered, and ends nothing.
  if (kind > 11) return writer.body(MANAGE, low, high, managedBody(random));
  if (kind < 6) {
    const request = objectRequest(random);
    const body = encodeRequest(request);
    const room = isWild && random.below(2) === 0 ? random.below(2 ** 32) : replySizeMax(request);
    writer.body(OBJECT, low, high, isWild ? random.mutate(body) : body, room);
  } else if (kind < 9) {
    const body = controlBody(random, isWild);
    writer.body(CONTROL, low, high, isWild ? random.mutate(body) : body);
  } else if (kind < 11 || !isWild) {
    // Handles that nobody was given.
    writer.pages(
      READ,
      random.below(2 ** 32),
      low,
      high,
      random.below(2 ** 20),
      1 + random.below(8),
    );
  } else {
    const type = random.pick(TYPES);
    if (random.below(2) === 0) writer.plain(type, random.below(300), low, high);
    else writer.body(type, low, high, random.bytes(random.below(3000)));
  }
}

/** One session of the attacker. @returns messages sent, and whether the node still answered after them */
async function attack(
  random: Random,
  port: number,
  identity: Identity,
): Promise<{ sent: number; answered: boolean }> {
  const peer = await RawPeer.connect(port, 'attacker', identity);
  let sent = 0;
  try {
    await peer.handshake('initiator');
    await peer.accept(random.below(8) > 0 ? ['objects', 'recall'] : []);
    const isHasty = random.below(8) === 0;
    for (let left = 1 + random.below(60); left > 0 && !peer.closed; left -= 1) {
      peer.send((writer) => {
        for (let batch = 1 + random.below(16); batch > 0; batch -= 1) {
          addMessage(random, writer, sent % 1000, random.below(300) === 0);
          sent += 1;
        }
        if (!isHasty) writer.plain(PING, 0, 0, 0);
      });
      // Who waits for answers is served for long; who does not, asks for more at once than it may.
      if (!isHasty) await peer.readType(PONG);
    }
    if (random.below(16) === 0) peer.send((writer) => writer.plain(BYE, random.below(9), 0, 0));
    if (random.below(16) === 0) peer.socket.write(random.bytes(1 + random.below(5000)));
    peer.send((writer) => writer.plain(PING, 0, 0, 0));
    await peer.readType(PONG);
    return { sent, answered: true };
  } catch {
    // The session ended in the middle: what was sent was sent.
    return { sent, answered: false };
  } finally {
    await peer.destroy();
  }
}

/** A call that is made again while the session is being renewed: a machine that stands still loses sessions. */
async function patiently<T>(call: () => Promise<T>): Promise<T> {
  const endMs = performance.now() + PATIENCE_MS;
  for (;;) {
    try {
      return await call();
    } catch (error) {
      const { code } = error as { code?: string };
      if (code !== 'ERR_PEER_UNREACHABLE' || performance.now() > endMs) throw error;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }
}

/** A peer that behaves, for as long as the attack lasts. */
async function behave(friend: LabNode, kept: Buffer, isOver: () => boolean): Promise<number> {
  const client = await MemcloudClient.connect(friend.socketPath);
  const options = { timeoutMs: PATIENCE_MS };
  const put = (key: string, data: Buffer): Promise<unknown> =>
    patiently(() => client.call('object.put', { key, peer: 'node', data }, options));
  let rounds = 0;
  try {
    await put('bystander/kept', kept);
    // Once at least, also when the attack was over before it began.
    while (rounds === 0 || !isOver()) {
      const data = Buffer.alloc(1000, rounds % 251);
      await put('bystander', data);
      for (const [key, value] of [
        ['bystander', data],
        ['bystander/kept', kept],
      ] as const) {
        const got = await patiently(() =>
          client.call('object.get', { key, peer: 'node' }, options),
        );
        if (!got.found || !value.equals(got.data))
          throw new Error(`round ${rounds}: ${key} changed`);
      }
      rounds += 1;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  } finally {
    client.close();
  }
  return rounds;
}

t.test('10 000 messages of a trusted peer that nobody should send', async (t) => {
  const folder = labFolder(t);
  // It takes part in a control plane, of which nobody answers.
  const flags = ['--control-plane', '127.0.0.1:1'];
  const node = await LabNode.start(t, { name: 'node', folder, offer: '512M', flags });
  const connect = [node.peerAddress];
  const friend = await LabNode.start(t, { name: 'friend', folder, connect });
  await friend.waitForPeers(1);
  const pid = node.child.pid ?? 0;
  const random = new Random(seed);
  const identity = Identity.ephemeral();
  let over = false;
  const behaved = behave(friend, random.bytes(5000), () => over);
  behaved.catch(() => undefined);

  let sent = 0;
  let sessions = 0;
  let answered = 0;
  let residentBefore = 0;
  while (sent < messageCount && node.child.exitCode === null && node.child.signalCode === null) {
    if (residentBefore === 0 && sent >= messageCount / 5) residentBefore = residentBytes(pid);
    const result = await attack(random, portOf(node.peerAddress), identity);
    sent += result.sent;
    sessions += 1;
    if (result.answered) answered += 1;
    // Handshakes are rationed, attackers' too.
    if (result.sent === 0) await new Promise((resolve) => setTimeout(resolve, 100));
  }
  over = true;
  const downs = [...friend.log.matchAll(/"msg":"(peer down[^"]*)/g)].map(([, text]) => text);
  if (downs.length > 0) t.comment(`the peer beside it: ${downs.join('; ')}`);
  t.comment(`${sent} messages in ${sessions} sessions, ${answered} of them to their end`);
  t.equal(node.child.exitCode ?? node.child.signalCode, null, `SEED=${seed}: it lives`);
  t.ok((await behaved) > 0, 'the peer beside it was served all the time');
  t.ok(answered > 0, 'some sessions were answered to their end');
  t.ok(sessions > answered, 'some were ended');
  t.notMatch(downs.join('; '), /protocol|broke|revoked/i, 'its session was not ended for another');
  t.match((await node.use((client) => client.call('managed.status', {}))).provider, {
    ...{ leaseCount: 0, reservedBytes: 0 },
  });
  t.notMatch(node.log, /uncaught|unhandled|TypeError|RangeError|AssertionError/i);

  await eventually(
    'uploads of the attacker are over',
    async () => (await node.use((client) => client.call('stats', {}))).objects.uploadCount === 0,
    PATIENCE_MS,
  );
  const stored = (await node.use((client) => client.call('stats', {}))).objects.chargedBytes;
  const grown = residentBytes(pid) - residentBefore - stored;
  t.comment(
    `grew by ${Math.round(grown / MIB)} MiB beyond the ${Math.round(stored / MIB)} it stores`,
  );
  t.ok(grown < GROWTH_MAX_BYTES, `memory grew by ${grown} bytes`);
});
