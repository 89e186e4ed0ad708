/** The Python client: its unit tests, and the same tests against real daemons. */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import path from 'node:path';
import t, { type Test } from 'tap';
import { CLEAN_ENV, LabNode, labFolder } from '../helpers/lab-node.ts';

const FOLDER = path.join(import.meta.dirname, '../../../sdk/python');
const VERSION_WANTED = [3, 9];
/** Long enough for a machine that is busy with other things. */
const RUN_TIMEOUT_MS = 240_000;

/** Why Python's tests cannot run here; empty when they can. */
function whyNot(): string {
  const { status, stdout } = spawnSync(
    'python3',
    ['-c', 'import sys; print(*sys.version_info[:2])'],
    {
      encoding: 'utf8',
    },
  );
  if (status !== 0) return 'python3 is missing';
  const [major = 0, minor = 0] = stdout.split(' ').map(Number);
  const [wantedMajor = 0, wantedMinor = 0] = VERSION_WANTED;
  const isRecent = major > wantedMajor || (major === wantedMajor && minor >= wantedMinor);
  return isRecent ? '' : `python3 is ${major}.${minor}, expected 3.9 or later`;
}

const skip = whyNot();
t.setTimeout(RUN_TIMEOUT_MS + 60_000);

/** Runs a module of tests; warnings are errors, and nothing is written beside the sources. */
async function run(t: Test, module: string, env: NodeJS.ProcessEnv = {}): Promise<string> {
  const args = ['-B', '-W', 'error', '-m', 'unittest', '-v', `tests.${module}`];
  const child = spawn('python3', args, {
    cwd: FOLDER,
    env: { ...CLEAN_ENV, ...env },
    stdio: ['ignore', 'ignore', 'pipe'],
    timeout: RUN_TIMEOUT_MS,
    killSignal: 'SIGKILL',
  });
  let text = '';
  child.stderr.on('data', (chunk: Buffer) => (text += chunk.toString()));
  const [code] = (await once(child, 'close')) as [number | null];
  t.equal(code, 0, text.slice(-4000));
  t.match(text, /\nRan [1-9][0-9]* tests? in /, 'tests ran');
  return text;
}

for (const module of ['test_msgpack', 'test_encoding', 'test_connection']) {
  t.test(`python: ${module}`, { skip }, async (t) => {
    await run(t, module);
  });
}

t.test('python: every test file is run', { skip }, (t) => {
  const files = fs.readdirSync(path.join(FOLDER, 'tests')).filter((name) => /^test_/.test(name));
  const names = ['connection', 'daemon', 'encoding', 'msgpack'].map((name) => `test_${name}.py`);
  t.same(files.sort(), names);
  t.end();
});

t.test('python: blocks, keys and streams on two daemons', { skip }, async (t) => {
  const folder = labFolder(t);
  const peer = await LabNode.start(t, { name: 'lender', folder, offer: '256M' });
  const connect = [peer.peerAddress];
  const node = await LabNode.start(t, { name: 'node', folder, offer: '256M', connect });
  await node.waitForPeers(1);
  const text = await run(t, 'test_daemon', {
    MEMCLOUD_TEST_SOCKET: node.socketPath,
    MEMCLOUD_TEST_PEER: 'lender',
  });
  t.comment(text.replace(/\n+/g, '; ').slice(0, 4000));
  const { objects } = await node.use((client) => client.call('stats', {}));
  t.equal(objects.uploadCount, 0);
});
