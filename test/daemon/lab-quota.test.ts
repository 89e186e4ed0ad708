/** Allowances and ping between real daemons, by the command line: both ends, over a restart, and a Ctrl-C. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import path from 'node:path';
import t, { type Test } from 'tap';
import type { PeerPing } from '../../common/rpc-nodes.ts';
import type { PeerInfo } from '../../common/rpc-schema.ts';
import { LabNode, eventually, labFolder, memcloud, memcloudJson } from '../helpers/lab-node.ts';

const MIB = 2 ** 20;
const CLI = path.join(import.meta.dirname, '../../cli/main.js');

async function peerOf(t: Test, node: LabNode): Promise<PeerInfo> {
  const [peer] = await memcloudJson<PeerInfo[]>(t, node.socketPath, 'peer', 'ls');
  if (peer === undefined) throw new Error(`${node.name} has no peer`);
  return peer;
}

t.test('an allowance is decided at the connect, seen at both ends, and survives', async (t) => {
  const folder = labFolder(t);
  const alpha = await LabNode.start(t, { name: 'alpha', folder, offer: '256M' });
  const beta = await LabNode.start(t, { name: 'beta', folder, offer: '128M' });
  const connected = await memcloudJson<PeerInfo>(
    t,
    beta.socketPath,
    ...['peer', 'connect', alpha.peerAddress, '--allow', '64M'],
  );
  t.match(connected, { name: 'alpha', state: 'up', allowedBytes: 64 * MIB });
  t.match(connected.usage, { offeredBytes: 256 * MIB, heldBytes: 0 });
  await alpha.waitForPeers(1);
  t.match(await peerOf(t, alpha), { allowedBytes: null, usage: { offeredBytes: 64 * MIB } });

  const updated = await memcloud(alpha.socketPath, 'peer', 'update', 'beta', '--quota', '40M');
  t.equal(updated.stdout, 'beta may use 40 MiB here; it has 0 B.\n');
  await eventually('the other end sees it', async () => {
    return (await peerOf(t, beta)).usage?.offeredBytes === 40 * MIB;
  });
  const create = ['volume', 'create', 'disk', '--copies', '1', '--size'];
  const tooLarge = await memcloud(beta.socketPath, ...create, '41M');
  t.equal(tooLarge.code, 7);
  t.match(tooLarge.stderr, /have 40 MiB free/, 'a consumer knows what it may use');
  t.equal((await memcloud(beta.socketPath, ...create, '32M')).code, 0);

  const { stdout } = await memcloud(beta.socketPath, 'peers');
  t.match(stdout, /ALLOWED +LENT +OFFERS +FREE +BORROWED/);
  t.match(stdout, /^alpha .* 64 MiB +- +40 MiB +40 MiB/m);
  t.match(stdout, /^Pooled: 40 MiB, 40 MiB of it free$/m);

  await alpha.end('SIGTERM');
  await eventually('beta sees it go, and when it is tried again', async () => {
    const { state, nextTryInMs } = await peerOf(t, beta);
    return state === 'down' && nextTryInMs !== null && nextTryInMs <= 30_000;
  });
  const listen = alpha.peerAddress;
  const again = await LabNode.start(t, { name: 'alpha', folder, offer: '256M', listen });
  await again.waitForPeers(1);
  t.match(await peerOf(t, again), { name: 'beta', allowedBytes: 40 * MIB });
  await beta.waitForPeers(1);
  t.match(await peerOf(t, beta), { allowedBytes: 64 * MIB, usage: { offeredBytes: 40 * MIB } });
  const file = path.join(folder, 'alpha', 'allowances.json');
  t.equal(fs.statSync(file).mode & 0o777, 0o600);

  const none = await memcloud(again.socketPath, 'peer', 'update', beta.nodeId, '--allow', 'none');
  t.equal(none.stdout, 'beta may use as much as is offered to all here; it has 0 B.\n');
  for (const [words, code] of [
    [['peer', 'update', 'nobody', '--allow', '1M'], 6],
    [['peer', 'update', 'beta', '--allow', 'lots'], 2],
    [['peer', 'update', 'beta', '--allow', '-1'], 2],
    [['peer', 'update', 'beta'], 2],
  ] as const) {
    t.equal((await memcloud(again.socketPath, ...words)).code, code, words.join(' '));
  }
});

t.test('peer-allowed is for those whom nobody decided about, and follows a reload', async (t) => {
  const folder = labFolder(t);
  const configFile = path.join(folder, 'alpha.toml');
  const write = (allowed: string): void =>
    fs.writeFileSync(configFile, `offer = "256M"\npeer-allowed = ${allowed}\n`);
  write('0');
  const alpha = await LabNode.start(t, { name: 'alpha', folder, configFile });
  const beta = await LabNode.start(t, { name: 'beta', folder, connect: [alpha.peerAddress] });
  await beta.waitForPeers(1);
  t.match(await peerOf(t, beta), { usage: { offeredBytes: 0, usedBytes: 0 } }, 'unidirectional');
  t.match(await peerOf(t, alpha), { allowedBytes: 0 });
  const silent = await memcloudJson<PeerPing>(t, beta.socketPath, 'ping', 'alpha', '-c', '3');
  t.match(silent, { roundTrip: { count: 3 }, write: null, read: null });
  write('"100M"');
  t.equal((await memcloud(alpha.socketPath, 'config', 'reload')).code, 0);
  await eventually('a reload counts at once', async () => {
    return (await peerOf(t, beta)).usage?.offeredBytes === 100 * MIB;
  });
});

t.test('ping measures, refuses nonsense, and says on Ctrl-C what it has', async (t) => {
  const folder = labFolder(t);
  const alpha = await LabNode.start(t, { name: 'alpha', folder, offer: '64M' });
  const beta = await LabNode.start(t, { name: 'beta', folder, connect: [alpha.peerAddress] });
  await beta.waitForPeers(1);
  const told = await memcloud(beta.socketPath, 'ping', 'alpha', '-c', '4');
  t.equal(told.code, 0, told.stderr);
  t.match(told.stdout, /^alpha: session over TCP to 127\.0\.0\.1:\d+, ChaCha20-Poly1305\n/);
  for (const what of ['round trip', '4 KiB write', '4 KiB read']) {
    t.match(told.stdout, new RegExp(`^${what} +4 +[0-9.]+ .s `, 'm'));
  }
  await eventually('nothing stays lent', async () => (await alpha.usedBytes()) === 0);
  for (const [words, code] of [
    [['ping', 'nobody'], 6],
    [['ping', 'alpha', '-c', '0'], 2],
    [['ping', 'alpha', '-c', '1.5'], 2],
    [['ping'], 2],
  ] as const) {
    t.equal((await memcloud(beta.socketPath, ...words)).code, code, words.join(' '));
  }

  const args = [CLI, '--socket', beta.socketPath, '--json', 'ping', 'alpha', '-c', '10000'];
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  t.teardown(() => child.kill('SIGKILL'));
  let stdout = '';
  child.stdout.on('data', (chunk: Buffer) => (stdout += chunk.toString()));
  await eventually('it has begun', async () => (await alpha.usedBytes()) > 0);
  // Each request takes a slab and gives it back: the second one says that the first was answered.
  await eventually('the first is over', async () => (await alpha.usedBytes()) === 0);
  await eventually('the next has begun', async () => (await alpha.usedBytes()) > 0);
  child.kill('SIGINT');
  const [code] = (await once(child, 'close')) as [number | null];
  t.equal(code, 130);
  const { roundTrip } = JSON.parse(stdout) as PeerPing;
  t.ok(roundTrip.count >= 1 && roundTrip.count < 10_000, `${roundTrip.count} of 10000`);

  await alpha.end('SIGKILL');
  await eventually('it is down', async () => {
    return (await memcloud(beta.socketPath, 'ping', 'alpha', '-c', '1')).code === 5;
  });
});
