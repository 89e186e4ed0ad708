/** What `mount.create` makes of what people leave open. */
import t from 'tap';
import type { RpcParams } from '../../../common/rpc-schema.ts';
import type { FreeRoom } from '../../../daemon/capacity.ts';
import type { Mounts } from '../../../daemon/mounts/mounts.ts';
import { defaultVolumeName, mountRequest, type MountContext } from '../../../daemon/mounts/rpc.ts';

const MIB = 2 ** 20;

function context(rooms: readonly FreeRoom[], taken: readonly string[] = []): MountContext {
  const mounts = { has: (name: string) => taken.includes(name) } as unknown as Mounts;
  const isVolume = (name: string): boolean => name === 'disk';
  return { mounts, rooms: () => [...rooms], isVolume, managed: undefined };
}

function room(host: string, mib: number): FreeRoom {
  return { name: host, host, freeBytes: mib * MIB };
}

const TWO = context([room('a', 300), room('b', 200)]);

function params(change: Partial<RpcParams<'mount.create'>> = {}): RpcParams<'mount.create'> {
  return { directory: '/mnt/memcloud', ...change };
}

t.test('two copies where two machines lend, and all that they can take', async (t) => {
  t.match(mountRequest(params(), TWO), {
    ...{ copies: 2, sizeBytes: 192 * MIB, volumeName: 'memcloud', profile: 'default' },
    ...{ transport: 'kernel', keep: false, overcommit: false },
  });
  t.match(mountRequest(params(), context([room('a', 300)])), { copies: 1, sizeBytes: 288 * MIB });
  t.match(mountRequest(params({ copies: 1 }), TWO), { copies: 1, sizeBytes: 480 * MIB });
  t.match(mountRequest(params({ sizeBytes: 5 * MIB + 1 }), TWO), { sizeBytes: 5 * MIB + 4096 });
});

t.test('root shares as tmpfs does, a user keeps to himself', async (t) => {
  const isRoot = process.geteuid?.() === 0;
  const { mode, allowOther, uid } = mountRequest(params(), TWO);
  t.strictSame([mode, allowOther], isRoot ? [0o1777, true] : [0o755, false]);
  t.equal(uid, process.geteuid?.());
  const said = mountRequest(params({ uid: 5, gid: 6, mode: 0o700, allowOther: false }), TWO);
  t.match(said, { uid: 5, gid: 6, mode: 0o700, allowOther: false });
});

t.test('what the pool cannot take, with numbers and what to do', async (t) => {
  for (const [change, given, code, message] of [
    [{}, context([]), 'ERR_VOLUME_CAPACITY', /up now: none; --provider local takes RAM of this/],
    [{}, context([room('a', 10)]), 'ERR_VOLUME_CAPACITY', /have no room left/],
    [{ sizeBytes: 400 * MIB }, TWO, 'ERR_VOLUME_CAPACITY', /need 800 MiB.*or --overcommit/],
    [{ copies: 3 }, TWO, 'ERR_VOLUME_CAPACITY', /3 copies need providers on 3 machines/],
    [{ sizeBytes: 4096 }, TWO, 'ERR_USAGE_SIZE', /at least 1 MiB/],
    [{ ringBytes: 2 ** 40 }, TWO, 'ERR_USAGE', /at most 4 GiB/],
  ] as const) {
    t.throws(() => mountRequest(params(change), given), { code, message });
  }
  const large = params({ sizeBytes: 400 * MIB, overcommit: true });
  t.match(mountRequest(large, TWO), { sizeBytes: 400 * MIB, overcommit: true });
});

t.test('a name that nobody has', async (t) => {
  const free = (): boolean => false;
  for (const [directory, name] of [
    ['/mnt/memcloud', 'memcloud'],
    ['/mnt/my files', 'my-files'],
    ['/mnt/.cache', 'mount.cache'],
    ['/mnt/ä', 'mount-'],
    [`/mnt/${'x'.repeat(255)}`, 'x'.repeat(56)],
  ] as const) {
    t.equal(defaultVolumeName(directory, free), name);
  }
  const taken = ['a', 'a-2'];
  t.equal(
    defaultVolumeName('/mnt/a', (name) => taken.includes(name)),
    'a-3',
  );
  t.throws(() => defaultVolumeName('/mnt/a', () => true), { code: 'ERR_USAGE' });
  t.equal(mountRequest(params({ directory: '/x/disk' }), TWO).volumeName, 'disk-2');
});
