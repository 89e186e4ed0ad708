/** The command line against real processes on the loopback: every command, its exit codes, a volume from end to end. */
import fs from 'node:fs';
import path from 'node:path';
import t from 'tap';
import type { VolumeInfo } from '../../common/rpc-schema.ts';
import { NbdClient } from '../../nbd-server/client/connection.ts';
import { patternBytes } from '../helpers/judges.ts';
import { eventually, memcloud, memcloudJson } from '../helpers/lab-node.ts';
import { lab, readBack, write } from '../helpers/lab.ts';

const MIB = 2 ** 20;

t.test('the commands, their exit codes and a volume from end to end', async (t) => {
  const { folder, providers, consumer } = await lab(t, 2);
  const at = consumer.socketPath;
  const code = async (...args: string[]): Promise<number | null> =>
    (await memcloud(at, ...args)).code;
  const absent = path.join(folder, 'absent.sock');

  const down = await memcloud(absent, 'status');
  t.match(down, { code: 3, stdout: '', stderr: /no memnode answers on .*absent\.sock/ });
  t.equal(await code('volume', 'create', 'v'), 2, 'no size');
  t.equal(await code('volume', 'create', 'v', '--size', '0'), 2, 'size 0');
  t.equal(await code('volume', 'create', 'v', '--size', '9Q'), 2, 'no such unit');
  t.equal(await code('volume', 'create', 'a/b', '--size', '1M'), 2, 'an odd name');
  t.equal(await code('volume', 'create', 'v', '--size', '10G'), 7, 'more than the pool has');
  t.equal(await code('volume', 'create', 'v', '--size', '1M', '--copies', '3'), 7, 'three copies');
  for (const words of ['volume inspect', 'volume rm', 'nbd stop', 'peer disconnect', 'trust rm']) {
    t.equal(await code(...words.split(' '), 'nobody'), 6, words);
  }
  t.equal(await code('consent', 'allow', 'nobody'), 6);
  t.equal(await code('peer', 'connect', '127.0.0.1:1'), 5, 'nobody listens');
  t.equal(await code('peer', 'connect', '127.0.0.1'), 2, 'no port');

  const great = ['volume', 'create', 'great', '--size', '10G', '--overcommit'];
  t.match(await memcloudJson(t, at, ...great), { name: 'great', sizeBytes: 10 * 2 ** 30 });
  const odd = await memcloud(at, '--json', 'volume', 'create', 'odd', '--size', '5000');
  t.match(JSON.parse(odd.stdout), { sizeBytes: 8192, copies: 2 }, 'rounded up; two copies');
  t.match(odd.stderr, /rounded up to 8192 bytes/);
  t.equal(await code('volume', 'create', 'odd', '--size', '1M'), 1, 'the name is taken');
  const names = (await memcloudJson<VolumeInfo[]>(t, at, 'volume', 'ls')).map(({ name }) => name);
  t.same(names, ['great', 'odd']);

  const precious = path.join(folder, 'precious');
  fs.writeFileSync(precious, 'precious');
  t.equal(await code('nbd', 'serve', 'great', '--unix', precious), 1, 'a file is in the way');
  t.equal(fs.readFileSync(precious, 'utf8'), 'precious', 'and stays');
  const long = await memcloud(at, 'nbd', 'serve', 'great', '--unix', `/tmp/${'x'.repeat(120)}`);
  t.match(long, { code: 2, stderr: /socket path: expected 1 to 107 bytes, got 125/ });

  const unix = path.join(folder, 'great.sock');
  const served = await memcloudJson<{ uri: string }>(
    t,
    at,
    'nbd',
    'serve',
    'great',
    '--unix',
    unix,
  );
  t.equal(served.uri, `nbd+unix:///great?socket=${unix}`);
  const tcp = await memcloudJson<{ uri: string }>(
    ...([t, at, 'nbd', 'serve', 'great', '--tcp', '127.0.0.1:0'] as const),
  );
  const port = Number(/^nbd:\/\/127\.0\.0\.1:(\d+)\/great$/.exec(tcp.uri)?.[1]);
  const bytes = patternBytes(4 * MIB, 5);
  const one = await NbdClient.connect({ path: unix }, { exportName: 'great' });
  await write(one, bytes);
  const two = await NbdClient.connect({ host: '127.0.0.1', port }, { exportName: 'great' });
  t.same(await readBack(two, bytes), { right: 16, wrong: 0, errors: [] }, 'Unix in, TCP out');
  t.same(await readBack(one, bytes), { right: 16, wrong: 0, errors: [] });
  for (const provider of providers)
    t.ok((await provider.usedBytes()) > 0, `${provider.name} lends`);
  t.equal(await code('volume', 'rm', 'great'), 1, 'busy');

  await one.trim(0, 2 ** 30);
  for (const provider of providers) {
    await eventually(`${provider.name} has its RAM back`, async () => {
      return (await provider.usedBytes()) === 0;
    });
  }
  t.equal((await two.read(0, 4096)).equals(Buffer.alloc(4096)), true, 'trimmed pages are zeroes');
  await Promise.all([one.close(), two.close()]);
  t.equal(await code('nbd', 'stop', 'great'), 0);
  t.equal(fs.existsSync(unix), false, 'the socket file goes with the server');
  t.equal(await code('volume', 'rm', 'great'), 0);
  t.equal(await code('volume', 'rm', 'great'), 6, 'twice');
});
