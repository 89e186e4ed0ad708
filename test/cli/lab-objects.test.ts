/** Objects from the command line, on real daemons: bytes, exit codes, and what Ctrl-C leaves. */
import { spawn } from 'node:child_process';
import crypto from 'node:crypto';
import { once } from 'node:events';
import fs from 'node:fs';
import path from 'node:path';
import t from 'tap';
import { CLEAN_ENV, LabNode, eventually, labFolder, memcloud } from '../helpers/lab-node.ts';

const MAIN = path.join(import.meta.dirname, '../../cli/main.js');
const MIB = 2 ** 20;

interface Ran {
  readonly code: number | null;
  readonly stdout: Buffer;
  readonly stderr: string;
}

/** Runs the program with bytes on stdin and keeps the bytes of stdout. */
async function pipe(socketPath: string, args: readonly string[], input?: Buffer): Promise<Ran> {
  const home = path.dirname(socketPath);
  const child = spawn(process.execPath, [MAIN, '--socket', socketPath, ...args], {
    stdio: ['pipe', 'pipe', 'pipe'],
    env: { ...CLEAN_ENV, HOME: home },
    timeout: 60_000,
    killSignal: 'SIGKILL',
  });
  const parts: Buffer[] = [];
  let stderr = '';
  child.stdout.on('data', (chunk: Buffer) => parts.push(chunk));
  child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
  // It may end without reading.
  child.stdin.on('error', () => undefined);
  child.stdin.end(input);
  const [code] = (await once(child, 'close')) as [number | null];
  return { code, stdout: Buffer.concat(parts), stderr };
}

t.test('one node', async (t) => {
  const folder = labFolder(t);
  const { socketPath } = await LabNode.start(t, { name: 'alpha', folder, offer: '96M' });
  const run = (...args: string[]): Promise<Ran> => pipe(socketPath, args);

  await t.test('every byte comes back, from words, stdin and files', async (t) => {
    const bytes = crypto.randomBytes(3 * MIB + 17);
    const file = path.join(folder, 'in');
    const out = path.join(folder, 'out');
    fs.writeFileSync(file, bytes);
    const id = (await pipe(socketPath, ['store', '-'], bytes)).stdout.toString().trim();
    t.match(id, /^\d+$/);
    t.ok((await run('load', id)).stdout.equals(bytes), 'from stdin');
    t.equal((await run('set', 'f', '--file', file)).code, 0);
    t.equal((await run('get', 'f', '-o', out)).code, 0);
    t.ok(fs.readFileSync(out).equals(bytes), 'by files');
    t.equal((await pipe(socketPath, ['stream', '--key', 's'], bytes)).code, 0);
    t.ok((await run('cat', 's')).stdout.equals(bytes), 'stream and cat');
    const part = await run('cat', 's', '--offset', '1M', '--length', '100');
    t.ok(part.stdout.equals(bytes.subarray(MIB, MIB + 100)), 'a part');
    const words: [string[], string][] = [
      [['007'], '007'],
      [['1e3'], '1e3'],
      [['ü\n\t'], 'ü\n\t'],
      [[''], ''],
      [['--', '--flag'], '--flag'],
    ];
    for (const [args, value] of words) {
      t.equal((await run('set', 'w', ...args)).code, 0, JSON.stringify(value));
      t.equal((await run('get', 'w')).stdout.toString(), value);
    }
    t.match(await run('free', id), { code: 0 });
    t.match(await run('free', id), { code: 6 });
    t.match(await run('free', '--force', id), { code: 0 });
  });

  await t.test('a lone dash is stdin or stdout wherever a file may be named', async (t) => {
    const bytes = crypto.randomBytes(MIB + 3);
    const writers = [
      ['store', '-', '--key-is-its-id'],
      ['store', '-', '--ttl', '1h'],
      ['store', '--file', '-'],
      ['store', '--file=-'],
      ['store', '--', '-'],
      ['stream', '-'],
      ['stream'],
    ];
    const [wrong, ...right] = writers;
    t.match(await pipe(socketPath, wrong ?? [], bytes), { code: 2, stderr: /key-is-its-id/ });
    let id = '';
    for (const args of right) {
      const stored = await pipe(socketPath, args, bytes);
      id = stored.stdout.toString().trim();
      t.match(id, /^\d+$/, `${args.join(' ')} ${stored.stderr}`);
      t.ok((await run('load', id)).stdout.equals(bytes), args.join(' '));
    }
    const readers = [
      ['load', id, '-o', '-'],
      ['load', '-o', '-', id],
      ['load', '--output', '-', id],
      ['load', '--output=-', id],
      ['cat', '-o', '-', id],
    ];
    for (const args of readers) {
      const got = await run(...args);
      t.ok(got.stdout.equals(bytes), `${args.join(' ')} ${got.stderr}`);
    }
    const keyed = ['set', 'dashed', '--file', '-', '--mode', 'cache'];
    t.equal((await pipe(socketPath, keyed, bytes)).code, 0);
    t.ok((await run('get', '-o', '-', 'dashed')).stdout.equals(bytes));
    t.equal((await pipe(socketPath, ['set', 'dashed', '-'], Buffer.from('second'))).code, 0);
    t.equal((await run('get', 'dashed')).stdout.toString(), 'second');
    t.equal((await run('set', '-', 'a key is a word')).code, 0);
    t.equal((await run('get', '-')).stdout.toString(), 'a key is a word');
    t.notOk(fs.existsSync('-'), 'no file of that name');
    t.match(await run('set', 'k', 'v', '--mode', '-'), { code: 2, stderr: /Given: "-"/ });
  });

  await t.test('sealed and compressed values are neither on the holder', async (t) => {
    const bytes = Buffer.alloc(MIB, 'memcloud ');
    const set = await pipe(socketPath, ['set', 'x', '-', '--sealed', '--compress', 'lz4'], bytes);
    t.equal(set.code, 0, set.stderr);
    t.ok((await run('get', 'x', '--sealed')).stdout.equals(bytes));
    const raw = (await run('get', 'x', '--raw')).stdout;
    t.ok(raw.length < MIB / 10 && !raw.includes('memcloud'), 'short, and not to be read');
    const part = await run('cat', 'x', '--offset', '9K', '--length', '5');
    t.equal(part.stdout.toString(), 'memcl', `a part of it as it was ${part.stderr}`);
    const rawPart = await run('cat', 'x', '--raw', '--length', '5');
    t.ok(rawPart.stdout.equals(raw.subarray(0, 5)), 'a part of it as it lies');
    t.equal((await run('set', 'plain', 'v')).code, 0);
    t.match(
      await run('get', 'plain', '--sealed'),
      { code: 8 },
      'whoever wants a seal gets no other',
    );
  });

  await t.test('what fails ends with the code of its kind, and nothing on stdout', async (t) => {
    const file = path.join(folder, 'kept');
    fs.writeFileSync(file, 'kept');
    const cases: [string[], number][] = [
      [['get', 'nobody-wrote-this'], 6],
      [['get', 'nobody-wrote-this', '-o', file], 6],
      [['stat', 'nobody-wrote-this'], 6],
      [['rm', 'nobody-wrote-this'], 6],
      [['load', '12345'], 6],
      [['load', 'twelve'], 2],
      [['set', 'k', 'v', '--ttl', 'soon'], 2],
      [['set', 'k', 'v', '--peer', 'nobody'], 6],
      [['set', 'k', 'v', '--peer', 'a', '--remote'], 2],
      [['set', 'k', 'v', '--private', '--share', 'a'], 2],
      [['set', 'k', 'v', '--file', file], 2],
      [['set', 'k', '--file', path.join(folder, 'absent')], 2],
      [['set', 'k'.repeat(1025), 'v'], 2],
      [['set', 'once', 'v', '--if-version', '3'], 5],
      [['flush'], 2],
      [['get', 'k', '-o', '/dev/full/x'], 6],
    ];
    for (const [args, code] of cases) {
      const ran = await run('--json', ...args);
      const words = args.join(' ').slice(0, 60);
      t.match({ code: ran.code, stdout: ran.stdout.toString() }, { code, stdout: '' }, words);
      t.match(JSON.parse(ran.stderr), { error: { code: /^ERR_/, message: /./ } }, words);
    }
    t.equal(fs.readFileSync(file, 'utf8'), 'kept', 'a download that fails leaves what was there');
    t.same(
      fs.readdirSync(folder).filter((name) => name.endsWith('.part')),
      [],
    );
    const full = await pipe(socketPath, ['set', 'full', '-'], Buffer.alloc(100 * MIB, 1));
    t.equal(full.code, 7, 'more than is offered');
    t.match(JSON.parse((await run('--json', 'stat')).stdout.toString()), { uploadCount: 0 });
  });

  await t.test('keys are listed by pattern, safely', async (t) => {
    for (const key of ['user:1', 'user:2', 'bad\u001b[2Jname']) await run('set', key, 'v');
    t.equal((await run('keys', 'user:*')).stdout.toString(), 'user:1\nuser:2\n');
    t.equal((await run('keys', 'bad*')).stdout.toString(), 'bad?[2Jname\n');
    const rows = JSON.parse((await run('--json', 'keys', 'bad*')).stdout.toString()) as object[];
    t.match(rows, [{ key: 'bad\u001b[2Jname', sizeBytes: 1, holderName: 'alpha' }]);
    const none = await run('keys', 'zzz');
    t.match(none, { code: 0, stderr: /nothing found/ });
    t.equal(none.stdout.length, 0);
  });

  await t.test('Ctrl-C during an upload gives the room back', async (t) => {
    const usage = async (): Promise<{ chargedBytes: number; uploadCount: number }> => {
      return JSON.parse((await run('--json', 'stat')).stdout.toString()) as never;
    };
    const before = await usage();
    const args = [MAIN, '--socket', socketPath, 'stream', '--key', 'cut'];
    const child = spawn(process.execPath, args, {
      stdio: ['pipe', 'ignore', 'ignore'],
      env: CLEAN_ENV,
    });
    t.teardown(() => void child.kill('SIGKILL'));
    child.stdin.on('error', () => undefined);
    child.stdin.write(Buffer.alloc(4 * MIB, 7));
    await eventually('the upload is under way', async () => (await usage()).uploadCount === 1);
    const ended = once(child, 'close') as Promise<[number | null]>;
    child.kill('SIGINT');
    t.equal((await ended)[0], 130);
    await eventually('the room is back', async () => {
      const after = await usage();
      return after.uploadCount === 0 && after.chargedBytes === before.chargedBytes;
    });
    t.equal((await run('get', 'cut')).code, 6);
  });

  await t.test('flush deletes all of it when it is told to', async (t) => {
    t.match(await run('--json', 'flush', '-f'), { code: 0 });
    t.equal((await run('keys')).stdout.length, 0);
  });
});

t.test('two nodes', async (t) => {
  const folder = labFolder(t);
  const alpha = await LabNode.start(t, { name: 'alpha', folder, offer: '64M' });
  const connect = [alpha.peerAddress];
  const beta = await LabNode.start(t, { name: 'beta', folder, offer: '64M', connect });
  await beta.waitForPeers(1);
  const { socketPath } = beta;
  const bytes = crypto.randomBytes(2 * MIB);
  const file = path.join(folder, 'in');
  fs.writeFileSync(file, bytes);

  await t.test('a named peer, any peer, and the way back', async (t) => {
    for (const where of [['--peer', 'alpha'], ['--remote'], ['--peer', alpha.nodeId]]) {
      const stored = await pipe(socketPath, ['--json', 'store', '--file', file, ...where]);
      t.equal(stored.code, 0, stored.stderr);
      const { id, holderName } = JSON.parse(stored.stdout.toString()) as Record<string, string>;
      t.equal(holderName, 'alpha');
      t.ok((await pipe(socketPath, ['load', String(id)])).stdout.equals(bytes), where.join(' '));
      t.equal((await pipe(socketPath, ['free', String(id)])).code, 0);
      t.equal((await pipe(socketPath, ['load', String(id)])).code, 6);
    }
  });

  await t.test('a key of a peer is found; a private one is not', async (t) => {
    t.equal((await memcloud(alpha.socketPath, 'set', 'theirs', 'v')).code, 0);
    t.equal((await memcloud(alpha.socketPath, 'set', 'hidden', 'v', '--private')).code, 0);
    t.match(await memcloud(socketPath, 'get', 'theirs'), { code: 0, stdout: 'v' });
    t.match(await memcloud(socketPath, 'get', 'hidden'), { code: 6, stdout: '' });
    t.match(await memcloud(socketPath, 'keys', '--pool'), { code: 0, stdout: 'theirs\n' });
    t.match(await memcloud(socketPath, 'rm', 'theirs'), { code: 4 }, 'only its owner deletes it');
  });
});
