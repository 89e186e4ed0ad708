import fs from 'node:fs';
import path from 'node:path';
import t from 'tap';
import { MountRegister } from '../../common/mount-register.ts';

const MOUNT = { directory: '/mnt/a', device: '0:52', pid: 4000, started: '123' };

t.test('what one process enters the next one reads; an empty list is no file', async (t) => {
  const file = path.join(t.testdir(), 'mounts.json');
  const register = new MountRegister(file, 'boot');
  t.strictSame(register.load(), []);
  register.add(MOUNT);
  register.add({ ...MOUNT, directory: '/mnt/b' });
  register.add({ ...MOUNT, device: '0:53' });
  t.equal(fs.statSync(file).mode & 0o777, 0o600);
  const next = new MountRegister(file, 'boot');
  t.strictSame(next.load(), [
    { ...MOUNT, directory: '/mnt/b' },
    { ...MOUNT, device: '0:53' },
  ]);
  next.remove('/mnt/c');
  next.remove('/mnt/b');
  t.strictSame(next.list(), [{ ...MOUNT, device: '0:53' }]);
  next.remove('/mnt/a');
  t.equal(fs.existsSync(file), false);
});

t.test('of another boot, or damaged: it tells nothing', async (t) => {
  const file = path.join(t.testdir(), 'mounts.json');
  new MountRegister(file, 'boot').add(MOUNT);
  t.strictSame(new MountRegister(file, 'other boot').load(), []);
  const right = fs.readFileSync(file, 'utf8');
  for (const wrong of [
    '',
    '{',
    '[]',
    right.replace('/mnt/a', 'mnt/a'),
    right.replace('0:52', 'x'),
    right.replace('4000', '1'),
    right.replace('"version": 1', '"version": 2'),
  ]) {
    fs.writeFileSync(file, wrong);
    t.strictSame(new MountRegister(file, 'boot').load(), [], wrong);
  }
});
