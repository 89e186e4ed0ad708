/**
 * What lies on managed leases moves when it has to: a provider under a mount dies and another one takes
 * its place, and a provider that its owner drains is left, with nothing lost and no error on the way.
 */
import fs from 'node:fs';
import path from 'node:path';
import t from 'tap';
import { fuseMissing } from '../helpers/fuse-mount/start.ts';
import { patternBytes } from '../helpers/judges.ts';
import { eventually, memcloud } from '../helpers/lab-node.ts';
import { CHUNK, readBack, write } from '../helpers/lab.ts';
import { managedDisk } from '../helpers/managed-disk.ts';
import { LentMemory, ManagedLab, leasesOf } from '../helpers/managed-lab.ts';

const NAMES = ['alpha', 'beta', 'gamma'];

t.test(
  'providers under a mount die, one after the other',
  { skip: fuseMissing() ?? false, timeout: 180_000 },
  async (t) => {
    const lab = await ManagedLab.start(t, { providers: NAMES });
    const client = lab.node('client');
    const { socketPath } = client;
    const place = path.join(lab.folder, 'files');
    fs.mkdirSync(place);
    const words = ['--size', '32M', '--copies', '2', '--managed'];
    t.match(await memcloud(socketPath, 'mount', place, ...words), { code: 0 });
    const file = path.join(place, 'file');
    const bytes = patternBytes(32 * CHUNK, 13);
    await fs.promises.writeFile(file, bytes, { flush: true });

    const holders = async (): Promise<string[]> => {
      return (await leasesOf(lab.control)).map(({ providerName }) => providerName).sort();
    };
    const [victim = '', survivor = ''] = await holders();
    t.not(victim, survivor, 'each copy on a machine of its own');
    const spare = NAMES.find((name) => name !== victim && name !== survivor) ?? '';
    await lab.node(victim).end('SIGKILL');
    await eventually(
      'the third one takes its place',
      async () => {
        const [info] = await client.use((rpc) => rpc.call('mount.list', {}));
        const held = info?.providers.filter(({ leasedBytes }) => leasedBytes > 0) ?? [];
        const names = held.map(({ name }) => name).sort();
        return info?.degradedSlabs === 0 && names.join() === [survivor, spare].sort().join();
      },
      60_000,
    );
    await lab.node(survivor).end('SIGKILL');
    t.ok(bytes.equals(await fs.promises.readFile(file)), 'what the third one has is all of it');
    t.match(await memcloud(socketPath, 'umount', place), { code: 0 });
  },
);

t.test('a provider that is drained is left', { timeout: 120_000 }, async (t) => {
  const lab = await ManagedLab.start(t);
  const bytes = patternBytes(64 * CHUNK, 17);
  const nbd = await managedDisk(t, lab, { copies: 1, ttlMs: 60_000 });
  await write(nbd, bytes);
  const [lease] = await leasesOf(lab.control);
  const from = lab.node(lease?.providerName ?? '');
  const memory = await LentMemory.of(from);
  t.ok(memory.residentBytes >= bytes.length, 'it holds the pages');

  const drained = await memcloud(from.socketPath, 'drain', '--force');
  t.equal(drained.code, 0, drained.stderr);
  t.same(await readBack(nbd, bytes), { right: 64, wrong: 0, errors: [] }, 'nothing is lost');
  await eventually('its lease is given back, and another one is there', async () => {
    const leases = await leasesOf(lab.control);
    return leases.length > 0 && leases.every(({ providerName }) => providerName !== from.name);
  });
  t.equal(memory.residentBytes, 0, 'its RAM is its own again');
  await lab.node(from.name).end('SIGKILL');
  t.same(await readBack(nbd, bytes), { right: 64, wrong: 0, errors: [] }, 'and it is not missed');
});
