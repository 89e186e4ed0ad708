/** Who uses a directory, found below a /proc that is made up, and below the real one. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import path from 'node:path';
import t from 'tap';
import { describeHolders, mountHolders } from '../../../cli/system/mount-holders.ts';

const MOUNT = '/mnt/x';

const link = (target: string) => t.fixture('symlink', target);

t.test('each way to use a mount', async (t) => {
  const proc = t.testdir({
    10: { comm: 'bash\n', cwd: link('/mnt/x/src'), fd: {} },
    11: { comm: 'vim\n', cwd: link('/home'), fd: { 0: link('/dev/null'), 3: link('/mnt/x/a b') } },
    12: { comm: 'run\n', cwd: link('/'), exe: link('/mnt/x/bin/run (deleted)'), fd: {} },
    13: { comm: 'jail\n', root: link('/mnt/x'), fd: {} },
    14: {
      comm: 'mapper\n',
      fd: {},
      maps: '7f00-7f01 r--p 00000000 08:01 12 /usr/lib/x.so\n7f01-7f02 rw-s 00000000 00:34 5 /mnt/x/m y\n',
    },
    15: { comm: 'other\n', cwd: link('/mnt/xy'), fd: { 3: link('/mnt') }, maps: '' },
    self: { cwd: link('/mnt/x') },
  });
  const table = [
    { mountPoint: MOUNT, device: '0:1', type: 'fuse.memcloud', source: 'memcloud' },
    { mountPoint: '/mnt/x/deep', device: '0:2', type: 'tmpfs', source: 'tmpfs' },
  ];
  const holders = mountHolders(MOUNT, table, proc);
  t.strictSame(
    holders.map(({ who, what }) => `${who}: ${what}`),
    [
      'a mount at /mnt/x/deep: tmpfs',
      'bash (process 10): its working directory',
      'vim (process 11): /mnt/x/a b',
      'run (process 12): its program',
      'jail (process 13): its root directory',
      'mapper (process 14): /mnt/x/m y',
    ],
  );
  const six = describeHolders(holders);
  t.match(six, /^a mount at \/mnt\/x\/deep: tmpfs; bash .*; and 1 more$/);
  t.equal(describeHolders([]), '');
  t.strictSame(mountHolders(MOUNT, [], path.join(proc, 'nothing')), []);
});

t.test('of this machine', async (t) => {
  const folder = fs.realpathSync(t.testdir({ file: 'x' }));
  const child = spawn('sh', ['-c', 'exec 5<file; echo open; exec sleep 100'], { cwd: folder });
  t.teardown(() => void child.kill('SIGKILL'));
  await once(child.stdout, 'data');
  const found = mountHolders(folder).find(({ who }) => who.includes(String(child.pid)));
  t.match(found, { what: 'its working directory' });
});
