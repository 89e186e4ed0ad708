/** Drain, pressure and quarantine between real daemons, by the command line as people use it. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import path from 'node:path';
import t, { type Test } from 'tap';
import type { GiveBackInfo } from '../../common/rpc-nodes.ts';
import type { DrainInfo } from '../../common/rpc-nodes.ts';
import type { PeerInfo } from '../../common/rpc-schema.ts';
import { QUARANTINE_FILE_NAME } from '../../peer/quarantines.ts';
import { patternBytes } from '../helpers/judges.ts';
import {
  CLEAN_ENV,
  LabNode,
  MEMNODE,
  eventually,
  labFolder,
  memcloud,
  memcloudJson,
} from '../helpers/lab-node.ts';
import { disk, lab, readBack, write } from '../helpers/lab.ts';

const MIB = 2 ** 20;
const MEMCLOUD = path.join(path.dirname(MEMNODE), '../cli/main.js');

function giveBackOf(node: LabNode): Promise<GiveBackInfo> {
  return node.use(async (client) => (await client.call('status', {})).provider.giveBack);
}

async function peerOf(t: Test, node: LabNode, name: string): Promise<PeerInfo> {
  const peers = await memcloudJson<PeerInfo[]>(t, node.socketPath, 'peer', 'ls');
  const found = peers.find((peer) => peer.name === name);
  if (found === undefined) throw new Error(`no peer ${name}`);
  return found;
}

t.test('a drain that nobody can make room for is refused with the numbers', async (t) => {
  const pool = await lab(t, 1);
  const alpha = pool.providers[0]!;
  const nbd = await disk(t, pool, 1);
  const bytes = patternBytes(20 * MIB, 7);
  await write(nbd, bytes);
  const refused = await memcloud(alpha.socketPath, 'drain', '--timeout', '1');
  t.match(refused, {
    code: 7,
    stderr: /on alpha: consumer has 3\d(\.\d)? MiB there and 0 B free elsewhere .*another machine/,
  });
  t.equal((await giveBackOf(alpha)).draining, false, 'nothing has begun');

  const forced = await memcloud(alpha.socketPath, 'drain', '--force', '--timeout', '1');
  t.match(forced, { code: 5, stderr: /still being drained, until memcloud undrain/ });
  t.match(await giveBackOf(alpha), { draining: true, accepting: false, askedCount: 2 });
  await eventually('the consumer knows', async () => {
    return !(await peerOf(t, pool.consumer, 'alpha')).accepting;
  });
  t.match(await memcloud(pool.consumer.socketPath, 'peer', 'ls'), { stdout: /up, takes no pages/ });
  const more = await memcloud(pool.consumer.socketPath, 'volume', 'create', 'more', '--size', '1M');
  t.match(more, { code: 7 });
  const seen = await readBack(nbd, bytes);
  t.match(seen, { right: 80, wrong: 0, errors: [] }, 'what has no place stays and is served');

  await pool.consumer.use((client) => client.call('volume.remove', { name: 'disk', force: true }));
  const empty = await memcloudJson<DrainInfo>(t, alpha.socketPath, 'drain', '--timeout', '10');
  t.match(empty, { name: 'alpha', side: 'provider', draining: true, heldBytes: 0, holders: [] });
  t.match(await memcloud(alpha.socketPath, 'undrain'), { code: 0, stdout: /takes pages again/ });
  await eventually('it is used again', async () => {
    return (await peerOf(t, pool.consumer, 'alpha')).accepting;
  });
});

for (const [who, node] of [
  ['the provider', undefined],
  ['its consumer', 'alpha'],
] as const) {
  t.test(`drained by ${who}, a provider becomes empty while it is read and written`, async (t) => {
    const pool = await lab(t, 2);
    const [alpha, beta] = [pool.providers[0]!, pool.providers[1]!];
    const nbd = await disk(t, pool, 1);
    const bytes = patternBytes(24 * MIB, 7);
    await write(nbd, bytes);
    const at = node === undefined ? alpha.socketPath : pool.consumer.socketPath;
    const words = [...(node === undefined ? [] : [node]), '--timeout', '20'];
    const info = await memcloudJson<DrainInfo>(t, at, 'drain', ...words);
    t.match(info, { name: 'alpha', draining: true, heldBytes: 0, holders: [] });
    await eventually('alpha has given all back', async () => (await alpha.usedBytes()) === 0);
    t.ok((await beta.usedBytes()) > 24 * MIB);
    t.match(await readBack(nbd, bytes), { right: 96, wrong: 0, errors: [] });
  });
}

t.test('Ctrl-C ends the watching, not the drain', async (t) => {
  const pool = await lab(t, 1);
  const alpha = pool.providers[0]!;
  await write(await disk(t, pool, 1), patternBytes(MIB, 7));
  const args = [MEMCLOUD, '--socket', alpha.socketPath, '--json', 'drain', '--force'];
  const child = spawn(process.execPath, args, { env: CLEAN_ENV });
  let stderr = '';
  let stdout = '';
  child.stdout.on('data', (chunk: Buffer) => (stdout += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
  await eventually('it watches', () => stderr.includes('is being drained'));
  child.kill('SIGINT');
  const [code] = (await once(child, 'close')) as [number | null];
  t.equal(code, 130);
  t.match(stderr, /alpha is still being drained. To end that: memcloud undrain/);
  t.match(JSON.parse(stdout), { draining: true, holders: [{ name: 'consumer' }] });
  t.equal((await giveBackOf(alpha)).draining, true);
});

t.test('a consumer that leaves a peer is told when it has no other', async (t) => {
  const pool = await lab(t, 1);
  await write(await disk(t, pool, 1), patternBytes(MIB, 7));
  const { socketPath } = pool.consumer;
  t.match(await memcloud(socketPath, 'drain', 'alpha'), {
    code: 7,
    stderr: /consumer has .* 0 B free elsewhere/,
  });
  t.match(await memcloud(socketPath, 'drain', 'nobody'), { code: 6 });
  t.match(await memcloud(socketPath, 'drain', '--timeout', '-1'), { code: 2 });
});

/** A provider whose reserve can be changed as an operator would, and a full disk on it. */
async function pressable(t: Test, graceS: number) {
  const folder = labFolder(t);
  const configFile = path.join(folder, 'alpha.toml');
  const set = (reserve: number): void =>
    fs.writeFileSync(
      configFile,
      `offer = "256M"\nreserve = ${reserve}\nrecall-grace = ${graceS.toFixed(1)}\n`,
    );
  set(0);
  const alpha = await LabNode.start(t, { name: 'alpha', folder, configFile });
  const connect = [alpha.peerAddress];
  const consumer = await LabNode.start(t, { name: 'consumer', folder, connect });
  await consumer.waitForPeers(1);
  const nbd = await disk(t, { folder, providers: [alpha], consumer }, 1);
  const bytes = patternBytes(20 * MIB, 7);
  await write(nbd, bytes);
  const reserve = async (value: number): Promise<void> => {
    set(value);
    t.equal((await memcloud(alpha.socketPath, 'config', 'reload')).code, 0);
  };
  return { alpha, consumer, nbd, bytes, reserve };
}

t.test('an owner that needs RAM asks for it back, and loses nothing of others', async (t) => {
  const { alpha, nbd, bytes, reserve } = await pressable(t, 1);
  const { availableBytes } = await giveBackOf(alpha);
  await reserve(Math.round(availableBytes * 1.5));
  await eventually('pressure is seen', async () => (await giveBackOf(alpha)).level === 'pressed');
  t.match(await giveBackOf(alpha), { accepting: false, askedCount: 2, endedCount: 0 });
  t.match(await memcloud(alpha.socketPath, 'status'), {
    stdout: /memory pressure \(pressed\): .* missing[^]*2 slabs asked back/,
  });
  await new Promise((resolve) => setTimeout(resolve, 1500));
  t.match(await readBack(nbd, bytes), { right: 80, wrong: 0, errors: [] });
  await reserve(0);
  await eventually('it is calm', async () => (await giveBackOf(alpha)).accepting);
  t.match(await giveBackOf(alpha), { level: 'calm', askedCount: 0, endedCount: 0 });
});

t.test('in an emergency the RAM comes back, and what was on it is an error', async (t) => {
  const { alpha, nbd, bytes, reserve } = await pressable(t, 1);
  const { availableBytes } = await giveBackOf(alpha);
  const beganMs = performance.now();
  await reserve(Math.round(availableBytes * 8));
  await eventually('the RAM is back', async () => (await alpha.usedBytes()) === 0);
  t.ok(performance.now() - beganMs >= 1000, 'the grace was kept');
  t.match(await giveBackOf(alpha), { level: 'emergency', endedCount: 2, givenBackCount: 0 });
  t.match(alpha.log, /emergency: leases that were not given back in time/);
  const seen = await readBack(nbd, bytes);
  t.match(seen, { right: 0, wrong: 0 });
  t.equal(seen.errors.length, 80);
});

t.test('a quarantine is shown, kept over a restart, and lifted by a person', async (t) => {
  const folder = labFolder(t);
  const alpha = await LabNode.start(t, { name: 'alpha', folder, offer: '64M' });
  const state = path.join(folder, 'consumer');
  fs.mkdirSync(state, { mode: 0o700 });
  const nodes = [{ nodeId: alpha.nodeId, name: 'alpha', reason: 'a page failed', sinceMs: 1 }];
  const text = JSON.stringify({ format: 'memcloud-quarantine/1', nodes });
  fs.writeFileSync(path.join(state, QUARANTINE_FILE_NAME), text, { mode: 0o600 });
  const connect = [alpha.peerAddress];
  const consumer = await LabNode.start(t, { name: 'consumer', folder, connect });
  const { socketPath } = consumer;
  await consumer.waitForPeers(1);
  t.match(await peerOf(t, consumer, 'alpha'), { quarantine: 'a page failed', state: 'up' });
  t.match(await memcloud(socketPath, 'peer', 'ls'), {
    stdout: /up, quarantined \(a page failed\)/,
  });
  t.match(await memcloud(socketPath, 'status'), { stdout: /peer alpha is in quarantine: a page/ });
  const create = ['volume', 'create', 'v', '--size', '1M', '--copies', '1'];
  t.match(await memcloud(socketPath, ...create), { code: 7 }, 'nothing is placed there');
  t.match(await memcloud(socketPath, 'peer', 'pardon', 'alpha'), { code: 0 });
  t.match(await memcloud(socketPath, 'peer', 'pardon', 'alpha'), { code: 6 });
  t.equal((await peerOf(t, consumer, 'alpha')).quarantine, '');
  t.equal((await memcloud(socketPath, ...create)).code, 0);
});

t.test('daemons on one machine tell the same host, unless they are told another', async (t) => {
  const folder = labFolder(t);
  const alpha = await LabNode.start(t, { name: 'alpha', folder, host: 'other', zone: 'rack-1' });
  const plain = spawnedWithoutHost(t, folder);
  const [first, second] = [await plain('one'), await plain('two')];
  t.match(first, /^[0-9a-f]{32}$/);
  t.equal(first, second);
  const status = await alpha.use((client) => client.call('status', {}));
  t.match(status, { hostId: 'other', zone: 'rack-1' });
});

/** Starts a node without `--host` and resolves to what it calls its machine. */
function spawnedWithoutHost(t: Test, folder: string): (name: string) => Promise<string> {
  return async (name) => {
    const node = await LabNode.start(t, { name, folder, host: '' });
    return (await node.use((client) => client.call('status', {}))).hostId;
  };
}
