/** What the process of a mount does with the words of its daemon; without kernel, pool and process. */
import t, { type Test } from 'tap';
import { MemcloudError } from '../../../common/errors.ts';
import { MountChild, type ServedMount, type StartMessage } from '../../../daemon/mounts/child.ts';
import type { FromMount, MountPeer, MountStatus } from '../../../daemon/mounts/protocol.ts';
import { mountRequest } from '../../helpers/mount-process.ts';

const START: StartMessage = {
  type: 'start',
  request: mountRequest('/m'),
  ...{ stateDirectory: '/s', name: 'n', hostId: '', zone: '', leaseTtlMs: 1, peerDeadMs: 1 },
  ...{ memoryDirectory: undefined, logLevel: 'info', peers: [] },
};
const PEER: MountPeer = { nodeId: 'a', name: 'a', address: 'a:1', publicKey: '' };

interface Scene {
  child: MountChild;
  said: FromMount[];
  /** What was done to the mount, in order. */
  log: string[];
  exits: number[];
  /** Somebody else unmounts it. */
  unmounted: () => void;
}

function scene(
  t: Test,
  change: Partial<ServedMount> = {},
  opening: (cancelled: () => boolean) => Promise<void> = () => Promise.resolve(),
): Scene {
  const [said, log, exits]: [FromMount[], string[], number[]] = [[], [], []];
  let unmounted = (): void => undefined;
  const mount: ServedMount = {
    setPeers: (peers) => log.push(`peers ${peers.length}`),
    setLeases: (leases) => {
      log.push(`leases ${leases.length}`);
      return { leases: [], sound: [], recalled: [] };
    },
    status: () => ({ directory: '/m' }) as MountStatus,
    unmount: async (lazy) => {
      log.push(lazy ? 'lazy' : 'unmount');
      return 'done';
    },
    remount: async (directory) => void log.push(`remount ${directory}`),
    close: async () => void log.push('close'),
    ...change,
  };
  const child = new MountChild({
    open: async (_start, cancelled, onUnmounted) => {
      unmounted = onUnmounted;
      await opening(cancelled);
      return mount;
    },
    send: async (message) => void said.push(message),
    exit: (code) => exits.push(code),
    note: () => undefined,
  });
  t.teardown(() => child.end('the test'));
  return { child, said, log, exits, unmounted: () => unmounted() };
}

const turn = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 20));

t.test('start, status, peers, unmount: each is done and answered, and it ends', async (t) => {
  const { child, said, log, exits } = scene(t);
  child.onMessage(START);
  child.onMessage({ type: 'peers', peers: [PEER] });
  await turn();
  t.same(said, [{ type: 'mounted' }]);
  t.same(log, ['peers 1'], 'a list that came too early counts');
  child.onMessage({ type: 'status', id: 7 });
  t.match(said[1], { type: 'status', id: 7, status: { directory: '/m' } });
  child.onMessage({ type: 'unmount', id: 8, lazy: false, keep: false });
  await turn();
  t.same(said[2], { type: 'unmounted', id: 8, busy: false });
  t.same(log, ['peers 1', 'unmount', 'close']);
  t.same(exits, [0]);
});

t.test('what cannot be made is told with its code, and it ends', async (t) => {
  const { child, said, exits } = scene(t, {}, async () => {
    throw new MemcloudError('ERR_VOLUME_CAPACITY', 'too small');
  });
  child.onMessage(START);
  await turn();
  t.same(said, [{ type: 'failed', code: 'ERR_VOLUME_CAPACITY', message: 'too small' }]);
  t.same(exits, [1]);
});

t.test('a busy mount stays; a kept one can be mounted again', async (t) => {
  let busy = true;
  const { child, said, log, exits } = scene(t, {
    unmount: async () => (busy ? 'busy' : 'done'),
  });
  child.onMessage(START);
  child.onMessage({ type: 'unmount', id: 1, lazy: false, keep: false });
  await turn();
  t.same(said.at(-1), { type: 'unmounted', id: 1, busy: true });
  busy = false;
  child.onMessage({ type: 'unmount', id: 2, lazy: false, keep: true });
  child.onMessage({ type: 'remount', id: 3, directory: '/other' });
  await turn();
  t.same(said.slice(-2), [
    { type: 'unmounted', id: 2, busy: false },
    { type: 'remounted', id: 3, error: null },
  ]);
  t.same(log, ['remount /other']);
  t.same(exits, []);
});

t.test('a remount that fails is told, and the files stay', async (t) => {
  const { child, said, exits } = scene(t, {
    remount: async () => {
      throw new MemcloudError('ERR_MOUNT_POINT', 'no directory');
    },
  });
  child.onMessage(START);
  child.onMessage({ type: 'remount', id: 1, directory: '/x' });
  await turn();
  const error = { code: 'ERR_MOUNT_POINT', message: 'no directory' };
  t.same(said.at(-1), { type: 'remounted', id: 1, error });
  t.same(exits, []);
});

t.test('somebody else unmounts it: it ends, or keeps the files', async (t) => {
  for (const keep of [false, true]) {
    const { child, said, log, exits, unmounted } = scene(t);
    child.onMessage({ ...START, request: { ...START.request, keep } });
    await turn();
    unmounted();
    await turn();
    t.same(said.at(-1), { type: 'unmounted', id: 0, busy: false });
    t.same(log, keep ? [] : ['close']);
    t.same(exits, keep ? [] : [0]);
  }
});

t.test('a lazy unmount does not wait for one that waits', async (t) => {
  let release = (): void => undefined;
  const log: boolean[] = [];
  const { child, said, exits } = scene(t, {
    unmount: async (lazy) => {
      log.push(lazy);
      if (!lazy) await new Promise<void>((resolve) => (release = resolve));
      return 'done';
    },
  });
  child.onMessage(START);
  await turn();
  child.onMessage({ type: 'unmount', id: 1, lazy: false, keep: false });
  await turn();
  child.onMessage({ type: 'unmount', id: 2, lazy: true, keep: false });
  await turn();
  release();
  await turn();
  t.same(log, [false, true]);
  t.same(said.at(-1), { type: 'unmounted', id: 2, busy: false });
  t.same(exits, [0]);
});

t.test(
  'the daemon is gone: unmounted in order, else lazily, and a second time at once',
  async (t) => {
    const orderly = scene(t);
    orderly.child.onMessage(START);
    await turn();
    orderly.child.end('gone');
    await turn();
    t.same(orderly.log, ['unmount', 'close']);
    t.same(orderly.exits, [0]);

    const busy = scene(t, {
      unmount: async (lazy) => {
        busy.log.push(lazy ? 'lazy' : 'unmount');
        return lazy ? 'done' : 'busy';
      },
    });
    busy.child.onMessage(START);
    await turn();
    busy.child.end('gone');
    await turn();
    t.same(busy.log, ['unmount', 'lazy', 'close']);

    const stuck = scene(t, { unmount: () => new Promise(() => undefined) });
    stuck.child.onMessage(START);
    await turn();
    stuck.child.end('gone');
    await turn();
    t.same(stuck.exits, []);
    stuck.child.end('gone');
    t.same(stuck.exits, [1]);
  },
);

t.test('the daemon goes while the mount is being made: it is taken away again', async (t) => {
  let asked = false;
  const { child, log, exits } = scene(t, {}, async (cancelled) => {
    await turn();
    asked = cancelled();
  });
  child.onMessage(START);
  child.end('gone');
  t.same(exits, []);
  await turn();
  await turn();
  t.equal(asked, true);
  t.same(log, ['unmount', 'close']);
  t.same(exits, [0]);
});
