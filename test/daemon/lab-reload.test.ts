/** Reloads of real daemons while a client reads and writes: what changes, and that nothing ends. */
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import t, { type Test } from 'tap';
import type { ConfigChange, ConfigInfo } from '../../common/rpc-config.ts';
import type { NbdClient } from '../../nbd-server/client/connection.ts';
import { patternBytes, requires } from '../helpers/judges.ts';
import {
  CLEAN_ENV,
  LabNode,
  MEMNODE,
  eventually,
  labFolder,
  memcloud,
  memcloudJson,
} from '../helpers/lab-node.ts';
import { CHUNK, disk, readBack, volumeOf, write } from '../helpers/lab.ts';

const MIB = 2 ** 20;
/** What a slab of 16 MiB is charged. */
const SLAB_CHARGE = 4096 * 4112 + 512 + 1024;

/** A node that runs by a file, and the way to change that. */
async function nodeByFile(t: Test, folder: string, name: string, text: string) {
  const configFile = path.join(folder, `${name}.toml`);
  const write = (next: string): void => fs.writeFileSync(configFile, next);
  write(text);
  const node = await LabNode.start(t, { name, folder, configFile });
  return { node, write };
}

/** Reads and writes all over the disk until told to stop; how often, and what went wrong. */
function load(nbd: NbdClient, bytes: Buffer): { stop: () => Promise<{ rounds: number }> } {
  let stopped = false;
  let rounds = 0;
  const one = async (lane: number): Promise<void> => {
    for (let offset = lane * CHUNK; !stopped; offset = (offset + 4 * CHUNK) % bytes.length) {
      await nbd.write(offset, bytes.subarray(offset, offset + CHUNK));
      const back = await nbd.read(offset, CHUNK);
      if (!back.equals(bytes.subarray(offset, offset + CHUNK))) throw new Error(`at ${offset}`);
      rounds += 1;
    }
  };
  const lanes = Promise.all([0, 1, 2, 3].map(one));
  lanes.catch(() => undefined);
  return {
    stop: async () => {
      stopped = true;
      await lanes;
      return { rounds };
    },
  };
}

function reload(t: Test, node: LabNode): Promise<ConfigChange[]> {
  return memcloudJson<ConfigChange[]>(t, node.socketPath, 'config', 'reload');
}

/** Sends SIGHUP and waits until the log has one more line like `pattern`. */
async function hangUp(node: LabNode, pattern: RegExp): Promise<void> {
  const count = (): number => node.log.split('\n').filter((line) => pattern.test(line)).length;
  const before = count();
  node.child.kill('SIGHUP');
  await eventually(`${node.name} logs ${pattern}`, () => count() > before);
}

function offered(node: LabNode): Promise<number> {
  return node.use(async (client) => (await client.call('status', {})).provider.usage.offeredBytes);
}

t.test(
  'offer, peers and log level change under load; no page, lease or session ends',
  async (t) => {
    const folder = labFolder(t);
    const alpha = await nodeByFile(t, folder, 'alpha', 'offer = "64M"\n');
    const beta = await LabNode.start(t, { name: 'beta', folder, offer: '64M' });
    const toAlpha = `connect = ["${alpha.node.peerAddress}"]\n`;
    const toBoth = `connect = ["${alpha.node.peerAddress}", "${beta.peerAddress}"]\n`;
    const consumer = await nodeByFile(t, folder, 'consumer', `offer = 0\n${toAlpha}`);
    await consumer.node.waitForPeers(1);
    const nbd = await disk(t, { folder, providers: [], consumer: consumer.node }, 1);
    const bytes = patternBytes(32 * MIB, 7);
    await write(nbd, bytes);
    const busy = load(nbd, bytes);

    alpha.write('offer = "16M"\n');
    const [less, ...others] = await reload(t, alpha.node);
    t.match(less, { key: 'offer', before: 64 * MIB, after: 16 * MIB, effect: 'applied' });
    t.same(others, []);
    t.equal(await offered(alpha.node), 2 * SLAB_CHARGE, 'as little as is lent');
    const more = ['volume', 'create', 'more', '--size', '16M', '--copies', '1'];
    await eventually('the consumer knows of it', async () => {
      const [peer] = await consumer.node.use((client) => client.call('peer.list', {}));
      return peer?.usage?.offeredBytes === 2 * SLAB_CHARGE;
    });
    t.equal((await memcloud(consumer.node.socketPath, ...more)).code, 7, 'nothing is left to lend');

    for (const wrong of ['offer = "1G"\nnmae = "x"\n', 'offer = 8G\n', '[', 'offer = "-1"\n']) {
      alpha.write(wrong);
      const refused = await memcloud(alpha.node.socketPath, 'config', 'reload');
      t.match(refused, { code: 2, stdout: '', stderr: /^memcloud: .*alpha\.toml:\d: / }, wrong);
      await hangUp(alpha.node, /the configuration is wrong; all stays as it was/);
    }
    t.equal(await offered(alpha.node), 2 * SLAB_CHARGE);

    for (let round = 0; round < 10; round += 1) {
      alpha.write(`offer = "${round % 2 === 0 ? '512M' : '0'}"\n`);
      await hangUp(alpha.node, /"msg":"offer changed"/);
      consumer.write(`offer = 0\nlog-level = "debug"\n${round % 2 === 0 ? toBoth : toAlpha}`);
      await hangUp(consumer.node, /"msg":"connect changed"/);
    }
    t.equal(await offered(alpha.node), 2 * SLAB_CHARGE);
    consumer.write(`offer = "1M"\nname = "other"\n${toBoth}[swap]\nsize = "50%"\n`);
    t.match(
      await reload(t, consumer.node),
      [
        { key: 'offer', effect: 'applied' },
        { key: 'connect', effect: 'applied' },
        { key: 'log-level', before: 'debug', after: 'info', effect: 'applied' },
        { key: 'swap.size', effect: 'next swap on' },
      ],
      'the name is a flag, so that the file does not count',
    );
    await consumer.node.waitForPeers(2);

    alpha.write('offer = "25%"\n');
    t.match(await reload(t, alpha.node), [{ key: 'offer', effect: 'applied' }]);
    await eventually('there is room again', async () => {
      return (await memcloud(consumer.node.socketPath, ...more)).code === 0;
    });

    const { rounds } = await busy.stop();
    t.ok(rounds > 20, `${rounds} chunks written and read meanwhile`);
    await nbd.flush();
    t.same(await readBack(nbd, bytes), { right: 128, wrong: 0, errors: [] });
    const { health, counters } = await volumeOf(consumer.node);
    t.equal(health, 'ok');
    t.match(counters, { lostPages: 0, droppedReplicas: 0, failedRequests: 0, forgedPages: 0 });
    t.notMatch(alpha.node.log, /peer down/, 'the session lived through it all');
    t.notMatch(consumer.node.log, /"name":"alpha".*peer down/);
  },
);

t.test('config show tells what the daemon does and the files do not say', async (t) => {
  const folder = labFolder(t);
  const { node, write } = await nodeByFile(
    t,
    folder,
    'alpha',
    'offer = "64M"\n[swap]\nsize = "1G"',
  );
  const { settings, configPath, files } = await node.use((client) => client.call('config.get', {}));
  const file = path.join(folder, 'alpha.toml');
  t.match({ configPath, files } satisfies Partial<ConfigInfo>, { configPath: file, files: [file] });
  t.match(
    settings.filter(({ key }) => ['offer', 'name', 'swap.size'].includes(key)),
    [
      { key: 'offer', value: 64 * MIB, source: 'file', at: `${file}:1` },
      { key: 'name', value: 'alpha', source: 'flag', at: '--name' },
      { key: 'swap.size', value: 1024 * MIB, source: 'file', at: `${file}:3` },
    ],
  );
  write('\noffer = "32M"\n');
  const show = await memcloud(node.socketPath, 'config', 'show', '--origin', '--config', file);
  t.equal(show.code, 0, show.stderr);
  const line = (key: string): string =>
    show.stdout.split('\n').find((each) => each.startsWith(`${key} `)) ?? '';
  t.equal(line('offer').replace(/ +/g, ' '), `offer 32 MiB ${file}:2 64 MiB ${file}:1`);
  t.match(line('name'), /default +alpha +--name$/);
  t.equal(line('lease-ttl').replace(/ +/g, ' '), 'lease-ttl 120 default');
  t.match(show.stderr, /the running daemon does otherwise/);
});

t.test(
  'SIGHUP in a terminal: a reload, and when it is closed, the end',
  requires('script'),
  async (t) => {
    const folder = labFolder(t);
    const words = [
      ...[process.execPath, MEMNODE, '--state', folder, '--socket', `${folder}/s`],
      ...['--listen', '127.0.0.1:0', '--offer', '0'],
    ];
    const terminal = spawn('script', ['-qefc', `exec ${words.join(' ')}`, '/dev/null'], {
      stdio: ['pipe', 'pipe', 'ignore'],
      env: CLEAN_ENV,
    });
    t.teardown(() => terminal.kill('SIGKILL'));
    let output = '';
    terminal.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()));
    await eventually('it is ready', () => output.includes(' ready: '));
    const pidFile = path.join(folder, 'memnode.pid');
    const pid = Number(fs.readFileSync(pidFile, 'utf8'));
    t.teardown(() => {
      if (fs.existsSync(pidFile)) process.kill(pid, 'SIGKILL');
    });
    process.kill(pid, 'SIGHUP');
    await eventually('it has read its files', () =>
      output.includes('the configuration is as it was'),
    );
    terminal.kill('SIGKILL');
    await eventually('it gave back its lock and socket', () => {
      return !fs.existsSync(pidFile) && !fs.existsSync(`${folder}/s`);
    });
    t.match(output, / ready: [^]*the configuration is as it was/, 'in this order');
  },
);
