/**
 * Two daemons and one socket. W15 of MemCloud in Rust: there a second daemon removes the first one's socket,
 * then finds its port taken and ends, and nobody reaches the first one again.
 */
import fs from 'node:fs';
import path from 'node:path';
import t, { type Test } from 'tap';
import {
  CLEAN_ENV,
  LabNode,
  MEMNODE,
  labFolder,
  memcloudJson,
  runProgram,
  type Ended,
} from '../helpers/lab-node.ts';
import { endChild, launchLabProcess } from '../helpers/lab-process.ts';
import { portOf } from '../helpers/peer-node.ts';

interface Scene {
  folder: string;
  first: LabNode;
  /** Starts a daemon that is to end by itself. */
  second: (flags: Record<string, string>) => Promise<Ended>;
  /** Fails unless the first daemon is reached by the socket that it made. */
  unharmed: () => Promise<void>;
}

async function scene(t: Test): Promise<Scene> {
  const folder = labFolder(t);
  const first = await LabNode.start(t, { name: 'first', folder });
  const { ino } = fs.statSync(first.socketPath);
  const second: Scene['second'] = (flags) => {
    const all = {
      ...{ name: 'second', listen: '127.0.0.1:0', state: path.join(folder, 'second') },
      ...{ socket: path.join(folder, 'second.sock') },
      ...flags,
    };
    const words = Object.entries(all).flatMap(([name, value]) => [`--${name}`, value]);
    return runProgram([MEMNODE, '--no-mdns', ...words]);
  };
  const unharmed = async (): Promise<void> => {
    t.equal(fs.statSync(first.socketPath).ino, ino, 'the socket is the one that it made');
    const { pid } = await memcloudJson<{ pid: number }>(t, first.socketPath, 'status');
    t.equal(pid, first.child.pid, 'and it answers there');
  };
  return { folder, first, second, unharmed };
}

t.test('a second daemon on the same socket ends, and takes nothing away', async (t) => {
  const { first, second, unharmed } = await scene(t);
  const ended = await second({ socket: first.socketPath });
  t.not(ended.code, 0);
  t.match(ended.stderr, /another memnode answers on/);
  await unharmed();
});

t.test('nor when the first one stands still and answers nobody', async (t) => {
  const { first, second, unharmed } = await scene(t);
  first.child.kill('SIGSTOP');
  const ended = await second({ socket: first.socketPath });
  first.child.kill('SIGCONT');
  t.not(ended.code, 0);
  t.match(ended.stderr, /another memnode answers on/);
  await unharmed();
});

t.test(
  'a second daemon whose port is taken leaves no socket behind, nor takes the first’s',
  async (t) => {
    const { folder, first, second, unharmed } = await scene(t);
    const ended = await second({ listen: `127.0.0.1:${portOf(first.peerAddress)}` });
    t.not(ended.code, 0);
    t.match(ended.stderr, /EADDRINUSE|taken|listens there/i);
    t.notOk(fs.existsSync(path.join(folder, 'second.sock')));
    const both = await second({ listen: first.peerAddress, socket: first.socketPath });
    t.not(both.code, 0);
    await unharmed();
  },
);

t.test(
  'a second daemon of the same state directory is refused before it touches anything',
  async (t) => {
    const { folder, first, second, unharmed } = await scene(t);
    const ended = await second({ state: path.join(folder, 'first'), socket: first.socketPath });
    t.not(ended.code, 0);
    t.match(ended.stderr, new RegExp(`memnode with process id ${first.child.pid} uses`));
    await unharmed();
  },
);

t.test('two daemons that know nothing of each other run side by side', async (t) => {
  const { folder, first, unharmed } = await scene(t);
  const other = await LabNode.start(t, { name: 'other', folder });
  t.not(other.nodeId, first.nodeId);
  t.equal((await other.end('SIGTERM')).code, 0);
  await unharmed();
});

t.test('a daemon that ends removes its own socket, not the one that took its place', async (t) => {
  const { folder, first } = await scene(t);
  fs.rmSync(first.socketPath);
  const words = ['--json', '--name', 'next', '--listen', '127.0.0.1:0', '--no-mdns'];
  const places = ['--state', path.join(folder, 'next'), '--socket', first.socketPath];
  const next = await launchLabProcess(t, process.execPath, [MEMNODE, ...words, ...places], {
    env: CLEAN_ENV,
    timeoutMs: 20_000,
  });
  t.ok(next.line, next.stderr());
  t.equal((await first.end('SIGTERM')).code, 0);
  const { pid } = await memcloudJson<{ pid: number }>(t, first.socketPath, 'status');
  t.equal(pid, next.child.pid);
  await endChild(next.child, 'SIGTERM');
  t.notOk(fs.existsSync(first.socketPath), 'and this one did remove its own');
});
