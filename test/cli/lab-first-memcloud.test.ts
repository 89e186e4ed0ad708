/**
 * What the earlier MemCloud's users had and no other test shows: the port that is taken, the size that a stream
 * tells ahead, regions of pages. docs/from-memcloud.md has every row.
 */
import { once } from 'node:events';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import t, { type Test } from 'tap';
import { NbdClient } from '../../nbd-server/client/connection.ts';
import {
  LabNode,
  eventually,
  labFolder,
  memcloud,
  memcloudJson,
  runProgram,
} from '../helpers/lab-node.ts';

const MAIN = path.join(import.meta.dirname, '../../cli/main.js');
const MIB = 2 ** 20;
const PAGE = 4096;
/** Below those that the kernel hands out, so that the ports after one of them are likely free. */
const PORT_MIN = 20_000;
const PORT_COUNT = 10_000;

/** Takes a port of every address, whichever is free. */
async function takePort(t: Test): Promise<number> {
  for (;;) {
    const port = PORT_MIN + Math.floor(Math.random() * PORT_COUNT);
    const server = net.createServer();
    const listening = once(server, 'listening');
    server.listen(port, '0.0.0.0');
    try {
      await listening;
    } catch {
      continue;
    }
    t.teardown(() => void server.close());
    return port;
  }
}

t.test('--port is the first that is tried, --listen is the only one', async (t) => {
  const folder = labFolder(t);
  const port = await takePort(t);
  const run = (name: string, ...words: string[]): ReturnType<typeof runProgram> => {
    const env = { MEMCLOUD_STATE: path.join(folder, name), HOME: folder };
    return runProgram([MAIN, '-s', path.join(folder, `${name}.sock`), '--json', ...words], env);
  };
  const start = ['node', 'start', '--no-mdns', '--kit', 'off', '--offer', '0'];
  const ports: number[] = [];
  for (const name of ['one', 'two']) {
    t.teardown(async () => void (await run(name, 'node', 'stop', '--force')));
    const began = await run(name, ...start, '-n', name, '-p', String(port));
    t.equal(began.code, 0, began.stderr);
    const { peerAddress } = JSON.parse(began.stdout) as { peerAddress: string };
    ports.push(Number(peerAddress.slice(peerAddress.lastIndexOf(':') + 1)));
  }
  const [one = 0, two = 0] = ports;
  t.ok(one > port && two > one && two <= port + 9, `${port} is taken: ${one}, then ${two}`);
  const joined = await run('two', 'peer', 'connect', `127.0.0.1:${one}`);
  t.match(joined, { code: 0 }, 'and it is reached there');
  const exact = await run('three', ...start, '--listen', `0.0.0.0:${port}`);
  t.match(exact, { code: 2, stdout: '', stderr: /cannot listen on 0\.0\.0\.0:\d+: .*EADDRINUSE/ });
});

t.test(
  'the size of a file is told ahead: what cannot fit is refused before it is sent',
  async (t) => {
    const folder = labFolder(t);
    const alpha = await LabNode.start(t, { name: 'alpha', folder, offer: '64M' });
    const connect = [alpha.peerAddress];
    const beta = await LabNode.start(t, { name: 'beta', folder, offer: '64M', connect });
    await beta.waitForPeers(1);
    const file = path.join(folder, 'huge');
    fs.writeFileSync(file, '');
    // So large that to read it would take minutes.
    fs.truncateSync(file, 2 ** 40);
    for (const words of [
      ['store', '--file', file],
      ['set', 'k', '--file', file],
      ['stream', file],
    ]) {
      for (const where of [[], ['--peer', 'alpha'], ['--remote']]) {
        const ended = await memcloud(beta.socketPath, ...words, ...where);
        const line = [...words, ...where].join(' ');
        t.match({ code: ended.code, stdout: ended.stdout }, { code: 7, stdout: '' }, line);
      }
    }
    for (const { socketPath } of [alpha, beta]) {
      t.match(await memcloudJson(t, socketPath, 'stat'), { uploadCount: 0, objectCount: 0 });
    }
  },
);

t.test('a region of pages: allocated, fetched, stored, freed', async (t) => {
  const folder = labFolder(t);
  const alpha = await LabNode.start(t, { name: 'alpha', folder, offer: '128M' });
  const connect = [alpha.peerAddress];
  const beta = await LabNode.start(t, { name: 'beta', folder, connect });
  await beta.waitForPeers(1);
  const unix = path.join(folder, 'region.sock');
  const at = beta.socketPath;
  const create = ['volume', 'create', 'region', '--size', '32M', '--copies', '1'];
  t.equal((await memcloud(at, ...create)).code, 0);
  t.equal((await memcloud(at, 'nbd', 'serve', 'region', '--unix', unix)).code, 0);
  const region = await NbdClient.connect({ path: unix }, { exportName: 'region' });
  t.teardown(() => region.close());
  t.ok((await region.read(5 * PAGE, PAGE)).equals(Buffer.alloc(PAGE)), 'untouched: zeroes');
  t.equal(await alpha.usedBytes(), 0, 'and costs nothing');
  const page = (round: number): Buffer => Buffer.alloc(PAGE, `page ${round} `);
  const stored: number[] = [];
  for (let round = 0; round < 3; round += 1) {
    await region.write(5 * PAGE, page(round));
    await region.flush();
    t.ok((await region.read(5 * PAGE, PAGE)).equals(page(round)), 'as it was stored last');
    stored.push(await alpha.usedBytes());
  }
  t.ok((stored[0] ?? 0) >= 16 * MIB, 'on the peer');
  t.equal(new Set(stored).size, 1, 'a page that is stored anew takes no more');
  await t.rejects(region.write(32 * MIB, page(0)), 'nothing is stored outside');
  await region.close();
  t.equal((await memcloud(at, 'volume', 'rm', 'region', '--force')).code, 0);
  await eventually('the peer has its RAM back', async () => (await alpha.usedBytes()) === 0);
});
