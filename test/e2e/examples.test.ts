/** The examples, run as their users run them. LINES=1000000 is the whole log archiver. */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import t, { type Test } from 'tap';
import { MemCloud } from '../../sdk/memcloud.ts';
import { CLEAN_ENV, LabNode, labFolder } from '../helpers/lab-node.ts';

const EXAMPLES = path.join(import.meta.dirname, '../../examples');
const SOURCES = path.join(import.meta.dirname, '../../../examples');
const PYTHON_SDK = path.join(import.meta.dirname, '../../../sdk/python');
const lines = Number(process.env['LINES'] ?? 20_000);
const PATIENCE_MS = 120_000 + lines;
t.setTimeout(PATIENCE_MS + 60_000);

interface Ended {
  code: number | null;
  stdout: string;
  stderr: string;
}

async function run(
  program: string,
  args: readonly string[],
  env: NodeJS.ProcessEnv,
  input = '',
): Promise<Ended> {
  const child = spawn(program, args, {
    env: { ...CLEAN_ENV, ...env },
    timeout: PATIENCE_MS,
    killSignal: 'SIGKILL',
  });
  const ended = { stdout: '', stderr: '' };
  child.stdout.on('data', (chunk: Buffer) => (ended.stdout += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (ended.stderr += chunk.toString()));
  child.stdin.end(input);
  const [code] = (await once(child, 'close')) as [number | null];
  return { code, ...ended };
}

async function twoNodes(t: Test, offer: string): Promise<{ folder: string; nodes: LabNode[] }> {
  const folder = labFolder(t);
  const one = await LabNode.start(t, { name: 'one', folder, offer });
  const two = await LabNode.start(t, { name: 'two', folder, offer, connect: [one.peerAddress] });
  await Promise.all([one.waitForPeers(1), two.waitForPeers(1)]);
  return { folder, nodes: [one, two] };
}

t.test('log archiver: streamed to a peer and back, no byte differs, nobody grows', async (t) => {
  const offer = lines > 100_000 ? '1G' : '256M';
  const { nodes } = await twoNodes(t, offer);
  const [holder, node] = nodes as [LabNode, LabNode];
  const { code, stdout, stderr } = await run(
    process.execPath,
    [path.join(EXAMPLES, 'log-archiver.js')],
    {
      LINES: String(lines),
      TARGET: 'one',
      MEMCLOUD_SOCKET: node.socketPath,
      HOLDER_SOCKET: holder.socketPath,
    },
  );
  t.equal(code, 0, stderr);
  t.comment(stdout.replace(/\s+/g, ' '));
  const report = JSON.parse(stdout) as Record<string, number>;
  t.match(report, { holder: 'one', differentBytes: 0, lines });
  t.equal(report['comparedBytes'], report['rawBytes']);
  t.ok((report['rawBytes'] ?? 0) > lines * 1000, 'lines of a kilobyte');
  t.ok((report['clientPeakMiB'] ?? Infinity) <= 100, 'the program stays small');
  t.ok((report['localDaemonGrowthMiB'] ?? Infinity) <= 150, 'so does the local daemon');
  t.ok((report['holderGrowthAboveStoredMiB'] ?? Infinity) <= 150, 'and the holder but for the log');
  const cloud = new MemCloud(holder.socketPath);
  t.equal((await cloud.stats()).objects.valueBytes, 0, 'nothing is left there');
  cloud.close();
});

t.test('shared cache: what one machine made the other finds', async (t) => {
  const { folder, nodes } = await twoNodes(t, '64M');
  const files = ['log-archiver.ts', 'shared-cache.ts', 'scratchpad.py', 'README.md'];
  const build = async (node: LabNode | undefined, key: string): Promise<unknown> => {
    const ended = await run(
      process.execPath,
      [path.join(EXAMPLES, 'shared-cache.js'), ...files.map((file) => path.join(SOURCES, file))],
      {
        MEMCLOUD_SOCKET: node?.socketPath,
        MEMCLOUD_SEAL_KEY: path.join(folder, key),
      },
    );
    t.equal(ended.code, 0, ended.stderr);
    return JSON.parse(ended.stdout);
  };
  t.match(await build(nodes[0], 'shared.key'), { found: 0, made: 4 });
  t.match(await build(nodes[1], 'shared.key'), { found: 4, made: 0 }, 'on the other machine');
  t.match(await build(nodes[0], 'shared.key'), { found: 4, made: 0 }, 'and on the first');
  t.match(
    await build(nodes[1], 'other.key'),
    { found: 0, made: 4 },
    'who has another key believes none',
  );
});

const noPython = spawnSync('python3', ['-V']).status === 0 ? '' : 'python3 is missing';
t.test('scratchpad: notes of one machine are read on the other', { skip: noPython }, async (t) => {
  const script = path.join(SOURCES, 'scratchpad.py');
  const { nodes } = await twoNodes(t, '64M');
  const pad = (node: LabNode | undefined, words: string[], input = ''): Promise<Ended> =>
    run(
      'python3',
      ['-B', script, ...words],
      { MEMCLOUD_SOCKET: node?.socketPath, PYTHONPATH: PYTHON_SDK },
      input,
    );
  const [one, two] = nodes;
  t.match(await pad(one, ['write', 'todo'], 'milk\n'), { code: 0, stderr: '' });
  t.match(await pad(two, ['read', 'todo']), { code: 0, stdout: 'milk\n' });
  t.match(await pad(one, ['append', 'todo'], 'bread\n'), { code: 0, stderr: '' });
  t.match(await pad(two, ['list']), { code: 0, stdout: 'todo\t11 bytes\ton one\n' });
  t.match(await pad(two, ['rm', 'todo']), { code: 1, stderr: /ERR_OBJECT/ }, 'it is not theirs');
  t.match(await pad(one, ['rm', 'todo']), { code: 0 });
  t.match(await pad(two, ['read', 'todo']), { code: 1, stderr: 'there is no note todo\n' });
  t.match(await pad(one, ['sing']), { code: 2 });
});
