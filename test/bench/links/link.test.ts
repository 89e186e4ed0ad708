/** A link delays and shapes what crosses it, and nothing is left of it when its stage is closed. */
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import t from 'tap';
import { Link } from '../../../bench/links/link.ts';
import { NetworkNamespace } from '../../../bench/links/namespace.ts';
import { Stage } from '../../../bench/stage.ts';
import { commandAt } from '../../../bench/targets/place.ts';
import { missingTools } from '../../../bench/tools.ts';
import { skipWithoutNamespaces } from '../../helpers/namespaces.ts';

const TIMEOUT_MS = 20_000;
const PORT = 7777;
/** Sends a MiB to whoever connects. */
const SERVER = `require('node:net').createServer((socket) => { socket.on('error', () => {});
  socket.end(Buffer.alloc(2 ** 20)); }).listen(${PORT}, '0.0.0.0', () => console.log('ready'));`;
/** Prints the milliseconds until it is connected, and until all has come. */
const client = (host: string): string => `const begin = performance.now(); let joined = 0;
  const socket = require('node:net').connect(${PORT}, '${host}', () => joined = performance.now() - begin);
  socket.resume().on('end', () => console.log(joined, performance.now() - begin));`;

const missing = missingTools(['tc', 'nsenter', 'gcc']);
const skip = missing.length > 0 ? `missing: ${missing.join(', ')}` : skipWithoutNamespaces();

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

t.test('rate and delay', { skip }, async (t) => {
  const stage = new Stage();
  t.teardown(() => stage.close());
  const link = await Link.start(stage);
  const server = commandAt(link.provider, process.execPath, ['--eval', SERVER]);
  await stage.serve(server.command, server.args, TIMEOUT_MS, (output) => output.includes('ready'));
  const measure = async (): Promise<{ joinedMs: number; allMs: number }> => {
    const code = client(link.provider.address);
    const { command, args } = commandAt(link.consumer, process.execPath, ['--eval', code]);
    const output = await stage.run(command, args, TIMEOUT_MS);
    const [joinedMs = NaN, allMs = NaN] = output.split(' ').map(Number);
    return { joinedMs, allMs };
  };
  await link.set({ name: 'slow', bitsPerSecond: 1e8, delayUs: 0 });
  const slow = await measure();
  // Ethernet carries 2^20 bytes in 1514/1448 of their size; the first bursts are free.
  t.ok(slow.allMs > 80, `a MiB over 100 Mb/s took ${slow.allMs} ms`);
  await link.set({ name: 'long', bitsPerSecond: 1e9, delayUs: 30_000 });
  const long = await measure();
  t.ok(long.joinedMs >= 60, `30 ms in each direction: connected after ${long.joinedMs} ms`);
  await link.set({ name: 'fast', bitsPerSecond: 1e9, delayUs: 0 });
  const fast = await measure();
  t.ok(fast.joinedMs < 60, `the delay is gone: connected after ${fast.joinedMs} ms`);
});

t.test(
  'what ran in a network ends with its stage, and the network with it',
  { skip },
  async (t) => {
    const stage = new Stage();
    t.teardown(() => stage.close());
    const devices = (): string => execFileSync('ip', ['-o', 'link'], { encoding: 'utf8' });
    const before = devices();
    const link = await Link.start(stage);
    t.equal(devices(), before, 'its devices are elsewhere');
    const sleeper = commandAt(link.consumer, 'sh', ['-c', 'echo ready; exec sleep 60']);
    const isReady = (output: string): boolean => output.includes('ready');
    const server = await stage.serve(sleeper.command, sleeper.args, TIMEOUT_MS, isReady);
    const inode = (pid: number | 'self'): string => fs.readlinkSync(`/proc/${pid}/ns/net`);
    const network = inode(server.pid);
    t.not(network, inode('self'));
    await stage.close();
    t.notOk(isAlive(server.pid));
    const left = fs.readdirSync('/proc').filter((name) => {
      try {
        return /^\d+$/.test(name) && inode(Number(name)) === network;
      } catch {
        return false;
      }
    });
    t.same(left, [], 'no process is in that network');
  },
);

t.test('commands that run in a network die with us', { skip }, async (t) => {
  const stage = new Stage();
  t.teardown(() => stage.close());
  const network = await NetworkNamespace.start(stage);
  t.match(network.at('').launcher.join(' '), /^setpriv --pdeathsig KILL nsenter /);
  const status = await network.run('ip', '-o', 'link', 'show', 'up');
  t.match(status, /^1: lo:.*\n$/, 'a loopback and nothing else');
});
