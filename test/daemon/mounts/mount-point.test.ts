/** Which directories can be mounted on, and that a dead mount is never touched to find out. */
import fs from 'node:fs';
import path from 'node:path';
import t from 'tap';
import type { MountRow } from '../../../common/mount-table.ts';
import {
  checkMountPoint,
  followPath,
  type MountPointWorld,
} from '../../../daemon/mounts/mount-point.ts';

const folder = fs.realpathSync(
  t.testdir({
    good: { inner: {} },
    file: 'x',
    fuse: {},
    ext: {},
    state: { key: '' },
    link: t.fixture('symlink', 'good'),
    toFuse: t.fixture('symlink', 'fuse/deep'),
    loop: t.fixture('symlink', 'loop'),
  }),
);
const at = (name: string): string => path.join(folder, name);
const row = (name: string, type: string): MountRow => ({
  ...{ mountPoint: at(name), device: '0:1', type, source: 'x' },
});
const touched: string[] = [];
const world: MountPointWorld = {
  table: () => [row('fuse', 'fuse.memcloud'), row('ext', 'ext4')],
  lstat: async (place) => {
    touched.push(place);
    return fs.lstatSync(place);
  },
  readlink: async (place) => fs.readlinkSync(place),
  makeDirectory: (place) => fs.mkdirSync(place, { recursive: true }),
  precious: [at('state/key')],
};

t.test('a directory, by whatever way', async (t) => {
  for (const name of ['good', 'link', './good/', 'good/../good', '//good//.', 'file/../good']) {
    if (name.startsWith('file')) continue;
    const found = await checkMountPoint(`${folder}/${name}`, false, world);
    t.strictSame(found, { path: at('good'), made: false }, name);
  }
  t.equal((await checkMountPoint(at('link/inner'), false, world)).path, at('good/inner'));
});

t.test('what cannot be mounted on, and why', async (t) => {
  for (const [name, why] of [
    ['missing', /no such directory; make it first: mkdir -p/],
    ['missing/deeper', /no such directory/],
    ['file', /expected a directory/],
    ['file/below', /is no directory/],
    ['ext', /ext4 is mounted there already/],
    ['fuse', /fuse\.memcloud is mounted there already/],
    ['fuse/x', /lies inside .*fuse \(fuse\.memcloud\)/],
    ['toFuse', /lies inside .*fuse \(fuse\.memcloud\)/],
    ['loop', /too many symbolic links/],
    ['state', /memnode needs .*state\/key/],
  ] as const) {
    const error = { code: 'ERR_MOUNT_POINT', message: why };
    await t.rejects(checkMountPoint(at(name), false, world), error, name);
  }
  await t.rejects(checkMountPoint('/', false, world), { message: /memnode needs/ });
  for (const wrong of ['relative', '', '/a\0b']) {
    await t.rejects(checkMountPoint(wrong, false, world), { code: 'ERR_USAGE' });
  }
});

t.test('a FUSE mount and what is below it is never looked at', async (t) => {
  touched.length = 0;
  await followPath(at('fuse/x/../y'), world);
  await followPath(at('toFuse'), world);
  t.strictSame(
    touched.filter((place) => place.startsWith(at('fuse'))),
    [],
  );
  t.ok(touched.includes(at('toFuse')), 'the look was taken');
});

t.test('the usual directory is made when it is missing', async (t) => {
  const found = await checkMountPoint(at('new/deep'), true, world);
  t.strictSame(found, { path: at('new/deep'), made: true });
  t.ok(fs.statSync(at('new/deep')).isDirectory());
  const makeDirectory = (): never => {
    throw Object.assign(new Error('read-only'), { code: 'EROFS' });
  };
  const readOnly = checkMountPoint(at('other'), true, { ...world, makeDirectory });
  await t.rejects(readOnly, { code: 'ERR_MOUNT_POINT', message: /cannot be made: EROFS/ });
});

t.test('a file system that does not answer is not waited for', async (t) => {
  const lstat = (): Promise<never> => new Promise(() => undefined);
  await t.rejects(checkMountPoint('/nfs', false, { ...world, lstat }), { code: 'ERR_TIMEOUT' });
});
