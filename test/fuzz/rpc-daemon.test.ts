/**
 * A memnode process against 10 000 RPC messages that nobody should send (test/helpers/hostile-rpc.ts), over
 * many connections that end in the middle of everything. It goes on, its memory stays bounded, nothing is an
 * error of its own, and a client beside it never waits in vain.
 *
 * SEED=n repeats a run; RPC_MESSAGES=n lengthens it.
 */
import fs from 'node:fs';
import net from 'node:net';
import t from 'tap';
import { isErrorCode } from '../../common/errors.ts';
import { RpcDecoder } from '../../common/rpc-codec.ts';
import { MemcloudClient } from '../../sdk/client.ts';
import { Random } from '../helpers/fuzz.ts';
import { brokenBytes, randomCall, randomCancel } from '../helpers/hostile-rpc.ts';
import { LabNode, eventually, labFolder } from '../helpers/lab-node.ts';

const MIB = 2 ** 20;
const seed = Number(process.env['SEED'] ?? Date.now() % 2 ** 31);
const messageCount = Number(process.env['RPC_MESSAGES'] ?? 10_000);
/** A call that takes longer than this hangs, on any machine. */
const PATIENCE_MS = 60_000;
/** What the process may grow by, once it has seen the first fifth of the messages. */
const GROWTH_MAX_BYTES = 96 * MIB;

t.comment(`SEED=${seed}`);
t.setTimeout(600_000);

function residentBytes(pid: number): number {
  const status = fs.readFileSync(`/proc/${pid}/status`, 'utf8');
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1]) * 1024;
}

function descriptorCount(pid: number): number {
  return fs.readdirSync(`/proc/${pid}/fd`).length;
}

/** One connection of the attacker, which notes what the daemon answers. */
class Attacker {
  readonly #socket: net.Socket;
  readonly #codes: Map<string, number>;
  #closed = false;

  constructor(path: string, codes: Map<string, number>, isDeaf: boolean) {
    this.#codes = codes;
    this.#socket = net.connect({ path });
    this.#socket.on('error', () => undefined);
    this.#socket.on('close', () => (this.#closed = true));
    if (isDeaf) return;
    const decoder = new RpcDecoder();
    this.#socket.on('data', (chunk: Buffer) => {
      for (const reply of decoder.push(chunk)) this.#note(reply);
    });
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** Sends, and waits as long as the daemon takes nothing more. */
  async send(bytes: Buffer): Promise<void> {
    if (this.#closed || this.#socket.write(bytes)) return;
    // A daemon that is full reads nothing before this side has read: then the bytes stay where they are.
    await new Promise<void>((resolve) => {
      const done = (): void => {
        clearTimeout(timer);
        this.#socket.off('drain', done).off('close', done);
        resolve();
      };
      const timer = setTimeout(done, 20);
      this.#socket.once('drain', done);
      this.#socket.once('close', done);
    });
  }

  async leave(isRude: boolean): Promise<void> {
    if (this.#closed) return;
    const closed = new Promise((resolve) => this.#socket.once('close', resolve));
    if (isRude) this.#socket.destroy();
    else this.#socket.end();
    const timer = setTimeout(() => this.#socket.destroy(), 500);
    await closed;
    clearTimeout(timer);
  }

  #note(reply: Record<string, unknown>): void {
    const error = reply['error'] as { code?: unknown; message?: unknown } | undefined;
    const code = error === undefined ? 'result' : String(error.code);
    this.#codes.set(code, (this.#codes.get(code) ?? 0) + 1);
    if (error !== undefined && (!isErrorCode(code) || code === 'ERR_INTERNAL')) {
      t.fail(`SEED=${seed}: an answer with ${code}: ${String(error.message).slice(0, 300)}`);
    }
  }
}

/** A client that behaves, for as long as the attack lasts. */
async function behave(socketPath: string, isOver: () => boolean): Promise<number> {
  const client = await MemcloudClient.connect(socketPath);
  let rounds = 0;
  try {
    while (!isOver()) {
      const data = Buffer.alloc(1000, rounds % 251);
      const options = { timeoutMs: PATIENCE_MS };
      await client.call('object.put', { key: 'well/behaved', data }, options);
      const got = await client.call('object.get', { key: 'well/behaved', peer: 'local' }, options);
      if (!got.found || !data.equals(got.data)) throw new Error(`round ${rounds}: other bytes`);
      await client.call('status', {}, options);
      rounds += 1;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  } finally {
    client.close();
  }
  return rounds;
}

t.test('10 000 messages that nobody should send', async (t) => {
  const folder = labFolder(t);
  const friend = await LabNode.start(t, { name: 'friend', folder, offer: '256M' });
  const connect = [friend.peerAddress];
  const node = await LabNode.start(t, { name: 'node', folder, offer: '256M', connect });
  await node.waitForPeers(1);
  const pid = node.child.pid ?? 0;
  const seeds = new Random(seed);
  const codes = new Map<string, number>();
  let over = false;
  const behaved = behave(node.socketPath, () => over);
  // It may fail while nobody looks; it is looked at in the end.
  behaved.catch(() => undefined);

  let sent = 0;
  let residentBefore = 0;
  while (sent < messageCount) {
    if (residentBefore === 0 && sent >= messageCount / 5) residentBefore = residentBytes(pid);
    // When a connection ends is a matter of time: what the next one sends must not depend on it.
    const random = new Random(seeds.below(2 ** 31));
    const attacker = new Attacker(node.socketPath, codes, random.below(8) === 0);
    for (let left = 1 + random.below(60); left > 0 && !attacker.closed; left -= 1) {
      const kind = random.below(60);
      if (kind === 0) await attacker.send(brokenBytes(random));
      else if (kind < 8) await attacker.send(randomCancel(random));
      else await attacker.send(randomCall(random));
      sent += 1;
    }
    if (random.below(2) === 0) await attacker.send(brokenBytes(random));
    await attacker.leave(random.below(2) === 0);
    if (node.child.exitCode !== null || node.child.signalCode !== null) break;
  }
  over = true;
  const end = node.child.exitCode ?? node.child.signalCode;
  if (!t.equal(end, null, `SEED=${seed}: it lives`)) t.comment(node.log.slice(-2000));
  t.ok((await behaved) > 0, 'the client beside it was served all the time');
  t.comment(JSON.stringify(Object.fromEntries([...codes].sort())));
  t.ok((codes.get('ERR_USAGE') ?? 0) > messageCount / 10, 'many were refused');
  t.ok((codes.get('result') ?? 0) > messageCount / 50, 'some were good');
  t.notMatch(node.log, /RPC failed|uncaught|unhandled/i, 'nothing was an error of its own');

  await eventually(
    'connections of the attacker are over',
    async () => (await node.use((client) => client.call('stats', {}))).rpc.connectionCount <= 2,
    PATIENCE_MS,
  );
  const { objects } = await node.use((client) => client.call('stats', {}));
  t.equal(objects.uploadCount, 0, 'what it had begun went with its connections');
  const grown = residentBytes(pid) - residentBefore;
  t.comment(`grew by ${Math.round(grown / MIB)} MiB, ${descriptorCount(pid)} descriptors`);
  t.ok(grown < GROWTH_MAX_BYTES, `memory grew by ${grown} bytes`);
  t.ok(descriptorCount(pid) < 200, 'descriptors went with connections');
  t.ok((await node.use((client) => client.call('peer.list', {}))).length > 0);
});
