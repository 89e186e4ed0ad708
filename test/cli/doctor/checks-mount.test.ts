import t from 'tap';
import { checkFuse, checkStaleMounts, checkUserMounts } from '../../../cli/doctor/checks-mount.ts';
import { collectFuse } from '../../../cli/doctor/collect-mount.ts';
import type { FuseFacts, MachineFacts } from '../../../cli/doctor/facts.ts';
import { SystemFiles } from '../../../cli/system/system-files.ts';
import { MountRegister, mountRegisterFile } from '../../../common/mount-register.ts';
import { readMountTable } from '../../../common/mount-table.ts';
import { faults, healthyFacts } from '../../helpers/machine-facts.ts';

const HEALTHY = healthyFacts();

function withFuse(change: Partial<FuseFacts>, root = true): MachineFacts {
  return { ...HEALTHY, root, fuse: { ...HEALTHY.fuse, ...change } };
}

function withRelease(release: string): MachineFacts {
  return { ...HEALTHY, kernel: { ...HEALTHY.kernel, release } };
}

t.test('/dev/fuse: there, absent, refused', async (t) => {
  t.match(checkFuse(HEALTHY), [{ level: 'ok' }]);
  const absent = checkFuse(withFuse({ device: 'absent' }));
  t.match(absent, [{ level: 'warning', fix: 'modprobe fuse' }]);
  t.match(checkFuse(withFuse({ device: 'refused' })), [{ level: 'warning', fix: /chmod/ }]);
});

t.test('O_TMPFILE is there from Linux 6.1 on', async (t) => {
  for (const [release, expected] of [
    ['6.0.19', ['warning FUSE']],
    ['5.15.0-91-generic', ['warning FUSE']],
    ['6.1.0-18-amd64', []],
    ['6.12.1', []],
    ['10.0.0', []],
  ] as const) {
    t.strictSame(faults(checkFuse(withRelease(release))), expected, release);
  }
});

t.test('users need fusermount3', async (t) => {
  const missing = { fusermount: false };
  t.match(checkUserMounts(withFuse(missing, false)), [{ level: 'warning', fix: /fuse3/ }]);
  t.match(checkUserMounts(withFuse(missing)), [{ level: 'ok' }], 'root does not');
  t.match(checkUserMounts(withFuse({}, false)), [{ level: 'ok', finding: /user_allow_other/ }]);
  const shared = checkUserMounts(withFuse({ userAllowOther: true }, false));
  t.notMatch(shared[0]?.finding, /user_allow_other/);
});

t.test('mounts that nobody serves', async (t) => {
  t.strictSame(checkStaleMounts(HEALTHY), []);
  t.match(checkStaleMounts(withFuse({ staleMounts: ['/mnt/a'] })), [
    { level: 'problem', finding: /\/mnt\/a is left/, fix: 'umount -l /mnt/a' },
  ]);
});

t.test('of this machine: what is entered, there, of FUSE and of no process', async (t) => {
  const folder = t.testdir({ etc: { 'fuse.conf': '#user_allow_other\n user_allow_other \n' } });
  const socket = `${folder}/x.sock`;
  const root = readMountTable().find(({ mountPoint }) => mountPoint === '/');
  const gone = { pid: 2 ** 22 + 1, started: '1' };
  const register = new MountRegister(mountRegisterFile(socket));
  register.add({ directory: '/', device: root?.device ?? '', ...gone });
  register.add({ directory: '/nowhere', device: '0:1', ...gone });
  const facts = collectFuse(new SystemFiles(folder), socket);
  t.strictSame(facts.staleMounts, [], 'the root is no FUSE mount, the other is not there');
  t.equal(facts.userAllowOther, true);
  t.equal(collectFuse(new SystemFiles(t.testdir()), socket).userAllowOther, false);
});
