/** What `mount` asks for: its words over `[mount]`. */
import path from 'node:path';
import t from 'tap';
import { mountSettings, type MountWords } from '../../cli/mount-settings.ts';
import type { MemcloudClient } from '../../sdk/client.ts';

const NOTHING: MountWords = {
  ...{ directory: undefined, size: undefined, copies: undefined, volume: undefined },
  ...{ provider: undefined, 'allow-other': undefined, profile: undefined },
  ...{ 'fuse-transport': 'kernel', keep: false, overcommit: false },
  ...{ uid: undefined, gid: undefined, mode: undefined },
};
const GIB = 2 ** 30;

function daemon(
  values: Readonly<Record<string, unknown>>,
  kept: readonly string[] = [],
): Pick<MemcloudClient, 'call'> {
  const answers: Record<string, unknown> = {
    'config.get': { settings: Object.entries(values).map(([key, value]) => ({ key, value })) },
    'mount.list': kept.map((volume) => ({ volume, state: 'kept' })),
  };
  return { call: (method: string) => Promise.resolve(answers[method]) } as never;
}

t.test('without words the configuration counts, and its directory is made', async (t) => {
  const configured = { 'mount.directory': '/files', 'mount.size': 4 * GIB, 'mount.copies': 3 };
  t.strictSame(
    await mountSettings(daemon({ ...configured, 'mount.profile': 'default' }), NOTHING),
    {
      ...{ directory: '/files', makeDirectory: true, sizeBytes: 4 * GIB, copies: 3 },
      ...{ profile: 'default', keep: false, overcommit: false, transport: 'kernel' },
    },
  );
  const bare = await mountSettings(daemon({}), NOTHING);
  t.match(bare, { directory: '/mnt/memcloud', makeDirectory: true });
  t.notOk('sizeBytes' in bare, 'the daemon says how large');
});

t.test('words count more; a directory that is named is not made', async (t) => {
  const words: MountWords = {
    ...NOTHING,
    ...{ directory: 'here', size: '1G', copies: 1, mode: '750', uid: 5, 'allow-other': true },
    ...{ provider: ['a', 'b'], keep: true, profile: 'build-cache' },
  };
  t.match(await mountSettings(daemon({ 'mount.size': 4 * GIB, 'mount.copies': 3 }), words), {
    ...{ directory: path.resolve('here'), makeDirectory: false, sizeBytes: GIB, copies: 1 },
    ...{ mode: 0o750, uid: 5, allowOther: true, providers: ['a', 'b'], keep: true },
    profile: 'build-cache',
  });
});

t.test('of files that are kept nothing is configured anew', async (t) => {
  const words = { ...NOTHING, volume: 'stuff' };
  const wish = await mountSettings(
    daemon({ 'mount.size': GIB, 'mount.copies': 2 }, ['stuff']),
    words,
  );
  t.notOk('sizeBytes' in wish || 'copies' in wish);
});

t.test('wrong words', async (t) => {
  for (const mode of ['9', '', '10000', 'rwx', '-1', '077777']) {
    await t.rejects(mountSettings(daemon({}), { ...NOTHING, mode }), { code: 'ERR_USAGE' }, mode);
  }
  await t.rejects(mountSettings(daemon({}), { ...NOTHING, size: '1X' }), {
    code: 'ERR_USAGE_SIZE',
  });
});
