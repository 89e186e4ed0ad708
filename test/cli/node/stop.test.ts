/** What keeps a memnode from being stopped, and what only goes with it. */
import { spawn } from 'node:child_process';
import t from 'tap';
import { processStart } from '../../../common/process-start.ts';
import type { StatusInfo } from '../../../common/rpc-schema.ts';
import { endingWith, swapOnNode, waitForEnd } from '../../../cli/node/stop.ts';

function status(over: object): StatusInfo {
  const usage = { offeredBytes: 0, usedBytes: 0, residentBytes: 0, leaseCount: 0 };
  const base = { directExports: [], mounts: [], volumes: [], provider: { usage } };
  return { ...base, ...over } as unknown as StatusInfo;
}

t.test('swap of this machine and of others is told with the way out', (t) => {
  const exports = [
    { holder: 'aa', residentBytes: 4096, connected: false },
    { holder: 'bb', residentBytes: 0, connected: true },
    { holder: 'cc', residentBytes: 0, connected: false },
  ];
  t.same(swapOnNode(status({ directExports: exports }), [{ device: '/dev/nbd0', usedBytes: 0 }]), [
    'this machine swaps on /dev/nbd0 (0 B in use): memcloud swap off',
    'aa has 4 KiB of its swap here: memcloud drain',
    'bb has 0 B of its swap here: memcloud drain',
  ]);
  t.same(swapOnNode(status({}), []), []);
  t.end();
});

t.test('files, volumes and leases end with it', (t) => {
  const provider = { usage: { offeredBytes: 0, usedBytes: 0, residentBytes: 0, leaseCount: 2 } };
  t.same(endingWith(status({ mounts: [{}], volumes: [{}, {}], provider })), [
    '1 mount and the files in it',
    '2 volumes and the pages in them',
    '2 leases of other machines',
  ]);
  t.same(endingWith(status({})), []);
  t.end();
});

t.test('the wait ends with the process, not with its number', async (t) => {
  const child = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000)'], { stdio: 'ignore' });
  t.teardown(() => void child.kill('SIGKILL'));
  const pid = child.pid ?? 0;
  const start = processStart(pid);
  await t.rejects(waitForEnd(pid, start, 100), { code: 'ERR_TIMEOUT' });
  await waitForEnd(pid, '1', 100);
  child.kill('SIGKILL');
  await waitForEnd(pid, start, 10_000);
  t.pass('it is over');
});
