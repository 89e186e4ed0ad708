import { randomBytes } from 'node:crypto';
import { truncateSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import t from 'tap';
import { NbdClient, inspectExport, listExports } from '../../nbd-server/client/connection.ts';
import { skipWithout, startNbdkit, startQemuNbd, temporaryFolder } from '../helpers/nbd-servers.ts';

const MIB = 2 ** 20;

t.test('our client and nbdkit', { skip: skipWithout('nbdkit') }, async (t) => {
  const { address } = await startNbdkit(t, ['memory', '64M']);

  await t.test('negotiates what nbdkit has', async (t) => {
    t.same(await listExports(address), [{ name: '', description: '' }]);
    const info = await inspectExport(address, { headerStyle: 'extended' });
    t.equal(info.headerStyle, 'structured', 'nbdkit 1.32 has no extended headers');
    t.equal(info.sizeBytes, 67_108_864);
  });

  for (const headerStyle of ['simple', 'structured'] as const) {
    await t.test(`${headerStyle}: 200 requests in flight, contents verified`, async (t) => {
      const client = await NbdClient.connect(address, { headerStyle });
      const bytes = randomBytes(8 * MIB);
      const parts = Array.from({ length: 512 }, (_, part) => part * 16_384);
      await Promise.all(parts.map((at) => client.write(at, bytes.subarray(at, at + 16_384))));
      await client.flush();
      const back = await Promise.all(parts.map((at) => client.read(at, 16_384)));
      t.ok(Buffer.concat(back).equals(bytes));
      await client.trim(MIB, MIB);
      await client.writeZeroes(4 * MIB, MIB);
      t.ok((await client.read(4 * MIB, MIB)).equals(Buffer.alloc(MIB)));
      await client.close();
    });
  }

  await t.test('block status tells holes from data', async (t) => {
    const client = await NbdClient.connect(address);
    await client.trim(32 * MIB, 8 * MIB);
    await client.write(34 * MIB, randomBytes(MIB));
    const extents = await client.blockStatus(32 * MIB, 8 * MIB);
    t.same(extents.slice(0, 2), [
      { lengthBytes: 2 * MIB, flags: 3 },
      { lengthBytes: MIB, flags: 0 },
    ]);
    await client.close();
  });
});

t.test('errors that nbdkit injects come through', { skip: skipWithout('nbdkit') }, async (t) => {
  const filters = ['--filter=error', 'memory', '1M'];
  const { address } = await startNbdkit(t, [
    ...filters,
    ...['error-pread=EIO', 'error-pread-rate=50%', 'error-pwrite=ENOSPC', 'error-pwrite-rate=50%'],
  ]);
  for (const headerStyle of ['simple', 'structured'] as const) {
    const client = await NbdClient.connect(address, { headerStyle });
    const results = await Promise.allSettled(
      Array.from({ length: 100 }, (_, n) =>
        n % 2 === 0 ? client.read(n * 512, 512) : client.write(n * 512, Buffer.alloc(512)),
      ),
    );
    const failed = results.filter((result) => result.status === 'rejected');
    t.ok(failed.length > 10 && failed.length < 90, 'about half');
    const numbers = new Set(failed.map(({ reason }) => (reason as { nbdError: number }).nbdError));
    t.same(numbers, new Set([5, 28]), 'EIO for reads, ENOSPC for writes');
    await client.close();
  }
});

t.test('a read-only nbdkit refuses writes', { skip: skipWithout('nbdkit') }, async (t) => {
  const { address } = await startNbdkit(t, ['-r', 'pattern', '1M']);
  const client = await NbdClient.connect(address);
  t.equal((await client.read(4096, 8)).readBigUInt64BE(), 4096n, 'the pattern is the offset');
  await t.rejects(client.write(0, Buffer.alloc(8)), { code: 'ERR_NBD_IO', nbdError: 1 });
  await client.close();
});

t.test('nbdkit dies under load', { skip: skipWithout('nbdkit') }, async (t) => {
  const server = await startNbdkit(t, ['--filter=delay', 'memory', '1M', 'rdelay=10']);
  const client = await NbdClient.connect(server.address);
  const reads = Promise.allSettled(Array.from({ length: 50 }, () => client.read(0, 4096)));
  await server.kill();
  for (const result of await reads) {
    t.match(result, { status: 'rejected', reason: { code: 'ERR_NBD_CLOSED' } });
  }
  await client.close();
});

t.test('our client and qemu-nbd', { skip: skipWithout('qemu-nbd') }, async (t) => {
  const image = path.join(temporaryFolder(t), 'disk.img');
  writeFileSync(image, '');
  truncateSync(image, 16 * MIB);
  const { address } = await startQemuNbd(t, ['--export-name=disk', '--format=raw', image]);
  t.match(await listExports(address), [{ name: 'disk' }]);
  await t.rejects(inspectExport(address, { exportName: 'nothing' }), {
    code: 'ERR_NBD_EXPORT_UNKNOWN',
  });
  const client = await NbdClient.connect(address, { exportName: 'disk' });
  t.match(client.export.blockSize, { minimum: 1, preferred: 4096, maximumPayload: 33_554_432 });
  const bytes = randomBytes(3 * MIB);
  await client.write(MIB, bytes, { forceUnitAccess: true });
  t.ok((await client.read(MIB, bytes.length)).equals(bytes));
  const extents = await client.blockStatus(0, 16 * MIB);
  t.match(extents.slice(0, 2), [
    { lengthBytes: MIB, flags: 3 },
    { lengthBytes: 3 * MIB, flags: 0 },
  ]);
  await client.writeZeroes(MIB, MIB, { fastZero: true });
  t.ok((await client.read(MIB, MIB)).equals(Buffer.alloc(MIB)));
  await client.close();
});
