/** The command line as a process without a daemon: exit codes, help, and what goes to which output. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import t from 'tap';
import { labFolder, memcloud } from '../helpers/lab-node.ts';

const COMMANDS = (
  'status|peer ls|peer connect x:1|peer disconnect x|consent ls|consent allow x|consent trust x|' +
  'consent deny x|trust ls|trust rm x|volume create x --size 1M|volume ls|volume inspect x|' +
  'volume rm x|nbd serve x --unix y|nbd stop x|nbd attach x|nbd detach x|nbd ls|swap ls'
).split('|');

/** Runs `work` for each item, four at a time: most of a start is waiting. */
async function fewAtOnce<T>(items: readonly T[], work: (item: T) => Promise<void>): Promise<void> {
  const left = items.values();
  const worker = async (): Promise<void> => {
    for (const item of left) await work(item);
  };
  await Promise.all(Array.from({ length: 4 }, worker));
}

t.test('every command without a daemon: exit code 3, a sentence, nothing on stdout', async (t) => {
  const absent = path.join(labFolder(t), 'absent');
  await fewAtOnce(COMMANDS, async (words) => {
    const ended = await memcloud(absent, '--json', ...words.split(' '));
    t.match(ended, { code: 3, stdout: '' }, words);
    t.match(JSON.parse(ended.stderr), { error: { code: 'ERR_DAEMON_UNREACHABLE' } });
  });
});

t.test('wrong words: exit code 2, one sentence, and the command is not run', async (t) => {
  const absent = path.join(labFolder(t), 'absent');
  const cases: [string, RegExp][] = [
    ['statu', /^memcloud: Did you mean status\?; see memcloud --help\n$/],
    ['volume', /^memcloud: volume: expected a command; see memcloud volume --help\n$/],
    ['volume creat x', /Did you mean create\?/],
    ['volume create x', /Missing required argument: size; see memcloud volume --help/],
    ['volume create x --size 1M --size 2M', /--size was given 2 times/],
    ['volume create x --size 1X', /got "1X"/],
    ['volume rm', /arguments? (is|are) missing/],
    ['volume rm x --forse', /Unknown argument: forse/],
    ['status --bogus', /Unknown argument: bogus; see memcloud status --help/],
    ['nbd serve x', /expected one of --unix PATH, --tcp HOST:PORT/],
    ['nbd serve x --unix a --tcp b:1', /expected one of/],
    ['nbd attach x --via pigeon', /Invalid values/],
    ['run --memory 1G --swap 1G', /expected a command after --/],
    ['run --memory 1X --swap 1G -- true', /got "1X"/],
  ];
  await fewAtOnce(cases, async ([words, sentence]) => {
    const ended = await memcloud(absent, ...words.split(' '));
    t.match(ended, { code: 2, stdout: '' }, words);
    t.match(ended.stderr, sentence);
  });
  const json = await memcloud(absent, 'volume', 'rm', '--json');
  t.match(JSON.parse(json.stderr), { error: { code: 'ERR_USAGE' } });
  t.equal((await memcloud('x'.repeat(108), 'status')).code, 2, 'a socket path that is too long');
});

t.test('help is on stdout and tells of every option', async (t) => {
  const groups = ['', 'status', 'peer', 'consent', 'trust', 'volume', 'nbd', 'swap', 'run'];
  const every = [...groups, 'doctor', 'demo', 'volume create', 'nbd serve', 'swap on'];
  await fewAtOnce(every, async (words) => {
    const args = words === '' ? [] : words.split(' ');
    const { code, stdout, stderr } = await memcloud('unused', ...args, '--help');
    t.match({ code, stderr }, { code: 0, stderr: '' }, words);
    t.match(stdout, /Options:/);
    t.notMatch(stdout, /^ {2,}--[a-z-]+ +\[/m, 'each option is described');
  });
  t.match(await memcloud('unused', '--version'), { code: 0, stdout: '0.1.0\n', stderr: '' });
});

t.test('doctor tells of a daemon that is down, as JSON too', async (t) => {
  const ended = await memcloud(path.join(labFolder(t), 'absent'), '--json', 'doctor');
  const checks = JSON.parse(ended.stdout) as { check: string; level: string; fix: string }[];
  t.match(
    checks.find(({ check }) => check === 'daemon'),
    { level: 'warning', fix: /^memcloud --socket \S+\/absent node start$/ },
  );
  const problems = checks.some(({ level }) => level === 'problem');
  t.equal(ended.code, problems ? 9 : 0);
});

t.test('a reader that closes the pipe early is no error', async (t) => {
  const main = path.join(import.meta.dirname, '../../cli/main.js');
  const child = spawn(process.execPath, [main, '--help'], { stdio: ['ignore', 'pipe', 'pipe'] });
  let stderr = '';
  child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
  child.stdout.destroy();
  const [code] = (await once(child, 'close')) as [number];
  t.match({ code, stderr }, { code: 0, stderr: '' });
});
