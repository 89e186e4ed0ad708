/** The NBD server alone, over a memory device, before clients that we did not write. */
import { spawn, type ChildProcess } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import t from 'tap';
import type { Test } from 'tap';
import { judge, patternBytes, requires } from '../helpers/judges.ts';
import { judgeNbd } from './nbd-suite.ts';

const MAIN = path.join(import.meta.dirname, '../helpers/nbd-memory/main.js');
const VECTORS = path.join(import.meta.dirname, '../../../test/vectors/nbd-tls');
const MIB = 2 ** 20;

interface Served {
  uri: string;
  path: string;
  child: ChildProcess;
  directory: string;
}

/** Starts the memory server as a process of its own. */
async function serve(t: Test, args: readonly string[] = []): Promise<Served> {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'nbd-served-'));
  const socketPath = path.join(directory, 's.sock');
  const child = spawn(process.execPath, [MAIN, '--unix', socketPath, ...args], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  t.teardown(async () => {
    if (child.exitCode === null && child.signalCode === null) {
      const ended = new Promise((resolve) => child.once('exit', resolve));
      child.kill('SIGKILL');
      await ended;
    }
    fs.rmSync(directory, { recursive: true, force: true });
  });
  await new Promise<void>((resolve, reject) => {
    child.stdout.once('data', () => resolve());
    child.once('exit', (code) => reject(new Error(`the server ended with ${code}`)));
  });
  return { uri: `nbd+unix:///?socket=${socketPath}`, path: socketPath, child, directory };
}

t.test('a prompt device over a Unix socket', async (t) => {
  const { uri } = await serve(t, ['--size', '64M']);
  await judgeNbd(t, { uri, sizeBytes: 64 * MIB });
});

t.test('a device that ends requests late and in any order', async (t) => {
  const { uri } = await serve(t, ['--size', '64M', '--delay', '2']);
  await judgeNbd(t, { uri, sizeBytes: 64 * MIB });
});

t.test('TCP on the loopback', requires('nbdinfo'), async (t) => {
  const { directory } = await serve(t, []);
  const child = spawn(process.execPath, [MAIN, '--tcp', '0', '--size', '64M'], {
    stdio: ['ignore', 'pipe', 'inherit'],
    cwd: directory,
  });
  t.teardown(() => child.kill('SIGKILL'));
  const line = await new Promise<string>((resolve) =>
    child.stdout.once('data', (chunk: Buffer) => resolve(chunk.toString())),
  );
  const port = /"port":(\d+)/.exec(line)?.[1] ?? '0';
  const uri = `nbd://127.0.0.1:${port}/memory`;
  const info = await judge('nbdinfo', ['--size', uri]);
  t.equal(Number(info.stdout), 64 * MIB, info.stderr);
  const file = path.join(directory, 'image');
  fs.writeFileSync(file, patternBytes(64 * MIB, 3));
  t.equal((await judge('nbdcopy', [file, uri])).code, 0);
  t.equal((await judge('qemu-img', ['compare', '-f', 'raw', '-F', 'raw', file, uri])).code, 0);
  const list = await judge('nbd-client', ['-l', '127.0.0.1', port]).catch(() => undefined);
  if (list === undefined) t.comment('nbd-client is not installed: its -l was not tried');
  else t.match(list.stdout + list.stderr, /memory/, 'nbd-client -l names the export');
});

t.test('socket activation: nbdinfo and nbdcopy start us', requires('nbdcopy'), async (t) => {
  const activated = ['[', process.execPath, MAIN, ']'];
  const info = await judge('nbdinfo', ['--size', ...activated]);
  t.equal(info.stdout.trim(), String(64 * MIB), info.stderr);
  const { uri } = await serve(t, ['--size', '64M']);
  const copy = await judge('nbdcopy', ['--', ...activated, uri]);
  t.equal(copy.code, 0, copy.stderr);
});

t.test('a read-only export', requires('nbdinfo', 'qemu-io'), async (t) => {
  const { uri } = await serve(t, ['--size', '8M', '--read-only']);
  t.equal((await judge('nbdinfo', ['--is', 'read-only', uri])).code, 0);
  const write = await judge('qemu-io', ['-f', 'raw', '-c', 'write 0 512', uri]);
  t.not(write.code, 0);
  const read = await judge('qemu-io', ['-r', '-f', 'raw', '-c', 'read -P 0 0 512', uri]);
  t.equal(read.code, 0, read.stderr);
});

t.test('a name of 3000 bytes is an unknown export', requires('qemu-io'), async (t) => {
  const { uri, child, path: socketPath } = await serve(t, []);
  const name = 'a'.repeat(3000);
  const long = await judge('nbdinfo', [`nbd+unix:///${name}?socket=${socketPath}`]);
  t.not(long.code, 0);
  t.equal((await judge('nbdinfo', ['--size', uri])).code, 0, 'the server lives');
  t.equal(child.exitCode, null);
});

t.test('SIGTERM drains and ends with 0', requires('nbdinfo'), async (t) => {
  const { child, uri } = await serve(t, []);
  t.equal((await judge('nbdinfo', ['--size', uri])).code, 0);
  const ended = new Promise((resolve) => child.once('exit', (code) => resolve(code)));
  child.kill('SIGTERM');
  t.equal(await ended, 0);
});

t.test('TLS with certificates', requires('nbdinfo', 'nbdcopy', 'qemu-img'), async (t) => {
  const {
    path: socketPath,
    directory,
    child,
  } = await serve(t, [
    ...['--size', '64M', '--tls-certs', VECTORS, '--tls-verify-peer', '--tcp', '0'],
  ]);
  const uri = `nbds+unix:///?socket=${socketPath}&tls-certificates=${VECTORS}`;
  const info = await judge('nbdinfo', [uri]);
  t.match(info.stdout, /newstyle-fixed with TLS, using structured packets/, info.stderr);
  const plain = await judge('nbdinfo', ['--size', `nbd+unix:///?socket=${socketPath}`]);
  t.not(plain.code, 0, 'nothing in the clear');
  const file = path.join(directory, 'image');
  fs.writeFileSync(file, patternBytes(64 * MIB, 11));
  const back = path.join(directory, 'back');
  t.equal((await judge('nbdcopy', [file, uri])).code, 0);
  t.equal((await judge('nbdcopy', [uri, back])).code, 0);
  t.ok(fs.readFileSync(back).equals(fs.readFileSync(file)), 'equal bytes');
  const creds = `tls-creds-x509,id=t0,endpoint=client,dir=${VECTORS}`;
  const image = `driver=nbd,path=${socketPath},tls-creds=t0,tls-hostname=localhost`;
  const qemu = await judge('qemu-img', ['info', '--object', creds, '--image-opts', image]);
  t.match(qemu.stdout, /virtual size: 64 MiB/, qemu.stderr);
  t.equal(child.exitCode, null);
});

t.test('TLS with pre-shared keys', requires('nbdinfo', 'nbdcopy'), async (t) => {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'nbd-psk-'));
  t.teardown(() => fs.rmSync(directory, { recursive: true, force: true }));
  const keys = path.join(directory, 'keys.psk');
  fs.writeFileSync(keys, `alice:${'5a'.repeat(32)}\n`);
  const { path: socketPath } = await serve(t, ['--tls-psk', keys]);
  const query = `socket=${socketPath}&tls-psk-file=${keys}`;
  const info = await judge('nbdinfo', [`nbds+unix://alice@/?${query}`]);
  t.match(info.stdout, /with TLS/, info.stderr);
  t.equal((await judge('nbdcopy', [`nbds+unix://alice@/?${query}`, 'null:'])).code, 0);
  t.not((await judge('nbdinfo', [`nbds+unix://mallory@/?${query}`])).code, 0);
});

t.test('nbdkit as a client', requires('nbdkit', 'nbdcopy'), async (t) => {
  const { directory, path: socketPath } = await serve(t, ['--size', '64M']);
  const proxy = path.join(directory, 'p.sock');
  const child = spawn(
    '/usr/bin/nbdkit',
    ['-f', '-U', proxy, 'nbd', `socket=${socketPath}`, 'export=memory'],
    { stdio: 'ignore' },
  );
  child.on('error', () => undefined);
  t.teardown(() => child.kill('SIGKILL'));
  for (let i = 0; i < 100 && !fs.existsSync(proxy); i += 1) {
    await new Promise((resolve) => setTimeout(resolve, 30));
  }
  const file = path.join(directory, 'image');
  fs.writeFileSync(file, patternBytes(64 * MIB, 5));
  const uri = `nbd+unix:///?socket=${proxy}`;
  const copy = await judge('nbdcopy', [file, uri]);
  t.equal(copy.code, 0, copy.stderr);
  t.equal((await judge('qemu-img', ['compare', '-f', 'raw', '-F', 'raw', file, uri])).code, 0);
});
