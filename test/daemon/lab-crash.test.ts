/** Consumers and providers as real processes on the loopback, killed, ended and restarted. */
import fs from 'node:fs';
import t from 'tap';
import type { StatusInfo } from '../../common/rpc-schema.ts';
import { patternBytes } from '../helpers/judges.ts';
import { LabNode, eventually, memcloudJson } from '../helpers/lab-node.ts';
import { CHUNK, disk, lab, readBack, volumeOf, write } from '../helpers/lab.ts';

const MIB = 2 ** 20;

t.test('with two copies a provider may be killed', async (t) => {
  const pool = await lab(t, 2);
  const nbd = await disk(t, pool, 2);
  const bytes = patternBytes(16 * MIB, 1);
  await write(nbd, bytes);
  await pool.providers[1]?.end('SIGKILL');
  t.same(await readBack(nbd, bytes), { right: 64, wrong: 0, errors: [] });
  await eventually('the volume is told to be degraded', async () => {
    return (await volumeOf(pool.consumer)).health === 'degraded';
  });
  const status = await memcloudJson<StatusInfo>(t, pool.consumer.socketPath, 'status');
  t.same(status.health, ['volume disk has fewer copies than promised']);
  const other = patternBytes(16 * MIB, 2);
  await write(nbd, other);
  t.same(await readBack(nbd, other), { right: 64, wrong: 0, errors: [] }, 'writes go on');
});

t.test('a provider that comes back empty has lost the pages', async (t) => {
  const pool = await lab(t, 1);
  const nbd = await disk(t, pool, 1);
  const bytes = patternBytes(16 * MIB, 4);
  await write(nbd, bytes);
  const [provider] = pool.providers;
  await provider?.end('SIGKILL');
  const { folder } = pool;
  const listen = provider?.peerAddress ?? '';
  await LabNode.start(t, { name: 'alpha', folder, offer: '256M', listen });
  await pool.consumer.waitForPeers(1);
  const seen = await readBack(nbd, bytes);
  t.match(seen, { right: 0, wrong: 0 });
  t.equal(seen.errors.length, 64);
  const volume = await volumeOf(pool.consumer);
  t.equal(volume.health, 'lost');
  t.ok((volume.counters['lostPages'] ?? 0) > 0);
  const status = await memcloudJson<StatusInfo>(t, pool.consumer.socketPath, 'status');
  t.match(status.health, [/volume disk has lost pages/]);
  await write(nbd, bytes);
  t.same(await readBack(nbd, bytes), { right: 64, wrong: 0, errors: [] }, 'what is written anew');
});

t.test('SIGTERM ends consumer and provider in order', async (t) => {
  const pool = await lab(t, 1);
  const nbd = await disk(t, pool, 1);
  const [provider] = pool.providers;
  if (provider === undefined) throw new Error('no provider');
  const directories = [await provider.memoryDirectory(), await pool.consumer.memoryDirectory()];
  const bytes = patternBytes(CHUNK, 6);
  let writing = true;
  const writer = (async () => {
    for (let index = 0; writing; index = (index + 1) % 128) {
      await nbd.write(index * CHUNK, bytes).catch(() => (writing = false));
    }
  })();
  await eventually('something is lent', async () => (await provider.usedBytes()) > 0);
  t.same(await pool.consumer.end('SIGTERM'), { code: 0, signal: null }, 'the consumer');
  await writer;
  t.equal(await provider.usedBytes(), 0, 'leases went back before it ended');
  t.same(await provider.end('SIGTERM'), { code: 0, signal: null }, 'the provider');
  for (const directory of directories) t.equal(fs.existsSync(directory), false, directory);
  t.same(
    fs.readdirSync(pool.folder).filter((name) => name.endsWith('.sock')),
    [],
    'no socket file is left',
  );
  t.notMatch(pool.consumer.log + provider.log, /"level":50/, 'no error was logged');
});
