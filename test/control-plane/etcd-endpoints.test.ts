import { spawn } from 'node:child_process';
import { once } from 'node:events';
import net from 'node:net';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { requiresEtcd, startEtcd } from '../helpers/etcd.ts';
import { freePort } from '../helpers/free-ports.ts';
import { opened, putAgain, until, Watched } from './meta-store-conformance.ts';

const CHILD = fileURLToPath(import.meta.resolve('../helpers/store-child/main.js'));
const STORE_ERROR = { name: 'MemcloudError', code: 'ERR_CONTROL_STORE' };

t.test(
  'a change while etcd restarts is asked for only once it answers',
  requiresEtcd(),
  async (t) => {
    const { address, members } = await startEtcd(t);
    const store = await opened(t, address);
    await store.put('a', '1');
    await members[0]!.kill();
    await t.rejects(store.get('a'), STORE_ERROR);
    const restarted = members[0]!.start();
    const put = store.cas('b', 0, '1');
    const [revision] = await Promise.all([put.catch(() => undefined), restarted]);
    const entry = await store.get('b');
    t.equal(entry?.revision, revision, 'what it says is so');
  },
);

t.test(
  'of three members one dies, then one hangs: calls go to the others',
  requiresEtcd(),
  async (t) => {
    const { address, leader } = await startEtcd(t, { memberCount: 3 });
    const store = await opened(t, address);
    const watched = new Watched();
    store.watch('', await store.put('a', '1'), watched);
    const hit = await leader();
    await hit.kill();
    await putAgain(store, 'b', '1');
    await until(() => watched.changes.some(({ key }) => key === 'b'));
    await hit.start();
    const next = await leader();
    next.freeze();
    t.teardown(() => {
      next.thaw();
    });
    const startMs = performance.now();
    await putAgain(store, 'c', '1');
    t.comment(`the hung leader cost ${Math.round(performance.now() - startMs)} ms`);
    await until(() => watched.changes.some(({ key }) => key === 'c'));
    t.equal((await store.list('')).entries.length, 3);
    next.thaw();
    await putAgain(store, 'd', '1');
    await until(() => watched.changes.some(({ key }) => key === 'd'));
    t.equal(watched.lostCount, 0);
    // A change whose answer was lost may have been made before it was made again.
    const seen = watched.changes.map(({ revision }) => revision);
    t.same(
      seen,
      [...new Set(seen)].toSorted((left, right) => left - right),
      'each change once',
    );
  },
);

t.test(
  'a member without a majority answers nothing, and grants nothing',
  requiresEtcd(),
  async (t) => {
    const { members } = await startEtcd(t, { memberCount: 3 });
    const alone = await opened(t, `etcd://${members[0]!.host}`);
    await alone.put('a', '1');
    members[1]!.freeze();
    members[2]!.freeze();
    await t.rejects(alone.get('a'), STORE_ERROR, 'not even what it has itself');
    await t.rejects(alone.cas('b', 0, '1'), STORE_ERROR);
    members[1]!.thaw();
    members[2]!.thaw();
    await putAgain(alone, 'c', '1');
  },
);

t.test('no etcd at all: it opens, calls fail in time, and the process ends', async (t) => {
  const port = await freePort();
  const child = spawn(process.execPath, [CHILD, `etcd://127.0.0.1:${port}`, 'once'], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  child.stdout.on('data', (text: Buffer) => (output += text.toString()));
  child.stderr.on('data', (text: Buffer) => (output += text.toString()));
  const startMs = performance.now();
  const [code] = (await once(child, 'close')) as [number];
  t.equal(code, 0, output);
  t.match(output, /^open\nERR_CONTROL_STORE etcd at 127\.0\.0\.1:\d+: .*\nclosed\n$/);
  t.ok(performance.now() - startMs < 15_000);
});

t.test('who takes connections and says nothing is given up in time', async (t) => {
  const sockets = new Set<net.Socket>();
  const mute = net.createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined);
  });
  mute.listen(0, '127.0.0.1');
  await once(mute, 'listening');
  t.teardown(() => {
    for (const socket of sockets) socket.destroy();
    mute.close();
  });
  const store = await opened(t, `etcd://127.0.0.1:${(mute.address() as net.AddressInfo).port}`);
  const watched = new Watched();
  store.watch('', 0, watched);
  const startMs = performance.now();
  await t.rejects(store.put('a', '1'), STORE_ERROR);
  t.ok(performance.now() - startMs < 6500);
  await store.close();
  t.equal(watched.lostCount, 1);
});
