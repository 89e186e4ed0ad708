/** What ends by time only: reads from a provider that is gone, leases of a consumer that is gone. */
import t from 'tap';
import type { StatusInfo } from '../../common/rpc-schema.ts';
import { patternBytes } from '../helpers/judges.ts';
import { eventually, memcloudJson } from '../helpers/lab-node.ts';
import { disk, lab, readBack, write } from '../helpers/lab.ts';

const MIB = 2 ** 20;

t.test('with one copy a killed provider costs errors, never other bytes', async (t) => {
  const pool = await lab(t, 1);
  const nbd = await disk(t, pool, 1);
  const bytes = patternBytes(16 * MIB, 3);
  await write(nbd, bytes);
  await pool.providers[0]?.end('SIGKILL');
  const startMs = performance.now();
  const seen = await readBack(nbd, bytes);
  t.equal(seen.wrong, 0, 'no other bytes');
  t.equal(seen.right + seen.errors.length, 64);
  t.ok(seen.errors.length > 0, 'errors are told');
  t.match(seen.errors[0], /EIO/);
  t.ok(performance.now() - startMs < 20_000, 'by the deadline of 15 s');
  const status = await memcloudJson<StatusInfo>(t, pool.consumer.socketPath, 'status');
  t.equal(status.name, 'consumer', 'the daemon lives');
});

t.test('a provider wipes what a killed consumer held', async (t) => {
  const pool = await lab(t, 1, 5);
  const nbd = await disk(t, pool, 1);
  await write(nbd, patternBytes(4 * MIB, 7));
  const [provider] = pool.providers;
  if (provider === undefined) throw new Error('no provider');
  await new Promise((resolve) => setTimeout(resolve, 6000));
  t.ok((await provider.usedBytes()) > 0, 'the lease is renewed while the consumer lives');
  await pool.consumer.end('SIGKILL');
  await eventually('the lease has ended', async () => (await provider.usedBytes()) === 0);
});
