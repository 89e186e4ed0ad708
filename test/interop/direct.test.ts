/** A direct export, behind records and tickets, before NBD clients that we did not write. */
import t from 'tap';
import { startDirectDoor } from '../helpers/direct-consumer.ts';
import { startDirectHost } from '../helpers/direct-host.ts';
import { judgeNbd } from './nbd-suite.ts';

const MIB = 2 ** 20;

t.test('a direct export through TLS records', { timeout: 600_000 }, async (t) => {
  const host = await startDirectHost(t);
  const { exportId } = host.access.open({ sizeBytes: 64 * MIB, ttlMs: 600_000 });
  const { path } = await startDirectDoor(t, host, exportId);
  const uri = `nbd+unix:///?socket=${path}`;
  await judgeNbd(t, { uri, sizeBytes: 64 * MIB, multiConnection: false });
});
