/**
 * memnode is replaced under a client that never stops: real processes, two providers, one connection
 * that both memnodes serve one after the other. Every read must be the last write that was answered.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import path from 'node:path';
import t, { type Test } from 'tap';
import type { VolumeDetails } from '../../common/rpc-schema.ts';
import { NbdClient } from '../../nbd-server/client/connection.ts';
import {
  CLEAN_ENV,
  LabNode,
  MEMNODE,
  eventually,
  labFolder,
  memcloud,
  memcloudJson,
} from '../helpers/lab-node.ts';
import { NotifyReceiver } from '../helpers/notify-receiver.ts';
import { lab, type Lab } from '../helpers/lab.ts';

const MIB = 2 ** 20;
const SIZE_BYTES = 64 * MIB;
const BLOCK = 16 * 1024;
const BLOCK_COUNT = 1024;
const DEPTH = 16;

/** Writes and reads blocks for as long as it is told, each worker its own, and notes the longest wait. */
class BusyClient {
  requests = 0;
  wrong = 0;
  longestMs = 0;
  readonly #nbd: NbdClient;
  #stop = false;
  readonly #workers: Promise<void>[];

  constructor(nbd: NbdClient) {
    this.#nbd = nbd;
    this.#workers = Array.from({ length: DEPTH }, (_, worker) => this.#work(worker));
  }

  async stop(): Promise<void> {
    this.#stop = true;
    await Promise.all(this.#workers);
  }

  async #work(worker: number): Promise<void> {
    const written = new Map<number, number>();
    const block = Buffer.alloc(BLOCK);
    for (let turn = 1; !this.#stop; turn += 1) {
      const index = worker + DEPTH * ((turn * 7) % (BLOCK_COUNT / DEPTH));
      const startMs = performance.now();
      if (turn % 3 === 0 || !written.has(index)) {
        for (let at = 0; at < BLOCK; at += 16) {
          block.writeUInt32LE(index, at);
          block.writeUInt32LE(turn, at + 4);
          block.writeUInt32LE(at, at + 8);
        }
        await this.#nbd.write(index * BLOCK, block);
        written.set(index, turn);
      } else {
        const back = await this.#nbd.read(index * BLOCK, BLOCK);
        for (let at = 0; at < BLOCK; at += 16) {
          const right =
            back.readUInt32LE(at) === index &&
            back.readUInt32LE(at + 4) === written.get(index) &&
            back.readUInt32LE(at + 8) === at;
          if (!right) this.wrong += 1;
        }
      }
      this.longestMs = Math.max(this.longestMs, performance.now() - startMs);
      this.requests += 1;
    }
  }
}

async function served(t: Test, pool: Lab, copies: number): Promise<{ path: string }> {
  await pool.consumer.waitForPeers(pool.providers.length);
  const { socketPath } = pool.consumer;
  const unix = path.join(pool.folder, 'v.nbd');
  for (const words of [
    ['volume', 'create', 'v', '--size', String(SIZE_BYTES), '--copies', String(copies)],
    ['nbd', 'serve', 'v', '--unix', unix],
  ]) {
    const { code, stderr } = await memcloud(socketPath, ...words);
    t.equal(code, 0, `${words.join(' ')} ${stderr}`);
  }
  return { path: unix };
}

t.test('replaced three times under load: no wrong byte, no error, a short pause', async (t) => {
  const pool = await lab(t, 2);
  const target = await served(t, pool, 2);
  const nbd = await NbdClient.connect(target, { exportName: 'v' });
  const busy = new BusyClient(nbd);
  await eventually('a full device', () => busy.requests > 3 * BLOCK_COUNT);
  let pid = pool.consumer.child.pid ?? 0;
  // What a request takes beyond what it takes without a handover: others may use the machine.
  const longest: number[] = [];
  for (let round = 1; round <= 3; round += 1) {
    busy.longestMs = 0;
    await new Promise((resolve) => setTimeout(resolve, 1000));
    const calmMs = busy.longestMs;
    const before = { requests: busy.requests };
    busy.longestMs = 0;
    const { handover, pid: next } = await pool.consumer.restart(t);
    await eventually('it goes on', () => busy.requests > before.requests + BLOCK_COUNT);
    t.equal(handover.fromPid, pid);
    t.not(next, pid);
    pid = next;
    t.equal(handover.connections, 1, 'the very connection of the client');
    t.comment(
      `round ${round}: held ${handover.pauseMs} ms, ${handover.bytes} bytes; longest request ` +
        `${busy.longestMs.toFixed(0)} ms, calm ${calmMs.toFixed(0)} ms`,
    );
    t.ok(handover.pauseMs < 1000, `held for ${handover.pauseMs} ms`);
    longest.push(busy.longestMs - calmMs);
    const inspect = (): Promise<VolumeDetails> =>
      pool.consumer.use((client) => client.call('volume.inspect', { name: 'v' }));
    await eventually(
      'both copies of every slab are there',
      async () => (await inspect()).slabs.degraded === 0,
    );
    const details = await inspect();
    const { lostPages, forgedPages, droppedReplicas, failedRequests } = details.counters;
    t.same([lostPages, forgedPages, droppedReplicas, failedRequests], [0, 0, 0, 0]);
  }
  await busy.stop();
  t.ok(Math.min(...longest) < 1000, `a handover as such costs no second: ${longest.join(', ')} ms`);
  t.ok(Math.max(...longest) < 5000, 'and nobody waited out the grace of a provider');
  t.equal(busy.wrong, 0, `${busy.requests} requests`);
  const again = await NbdClient.connect(target, { exportName: 'v' });
  t.equal((await again.read(0, BLOCK)).length, BLOCK, 'the same path takes new clients');
  await again.close();
  await nbd.close();
  process.kill(pid, 'SIGTERM');
  await eventually('the last one ended', () => !fs.existsSync(`/proc/${pid}`));
  t.equal(await pool.providers[0]?.usedBytes(), 0, 'it gave the leases back');
  const left = fs.readdirSync(pool.folder).filter((name) => /sock|nbd|next|handover/.test(name));
  t.same(left.sort(), ['alpha.sock', 'beta.sock'], 'and left no socket file');
  t.notMatch(pool.consumer.log, /"level":50/, 'nothing failed by the word of the log');
});

t.test('a successor that dies before its word leaves everything as it was', async (t) => {
  const pool = await lab(t, 1);
  const target = await served(t, pool, 1);
  const nbd = await NbdClient.connect(target, { exportName: 'v' });
  const busy = new BusyClient(nbd);
  await eventually('some pages', () => busy.requests > 500);
  const { consumer } = pool;
  const flags = ['--name', 'consumer', '--listen', '127.0.0.1:0', '--offer', '0', '--replace'];
  const { folder } = pool;
  const places = ['--state', path.join(folder, 'consumer'), '--socket', consumer.socketPath];
  const program = [MEMNODE, ...flags, ...places, '--auto-trust'];
  // It reads what it is given and dies: killed when it maps the image for the second time: the
  // first is the rehearsal, this one is the last thing before its word, with every client held.
  const dying = `
    const fs = require('node:fs');
    const { fstatSync } = fs;
    let images = 0;
    fs.fstatSync = (...words) => {
      const link = fs.readlinkSync('/proc/self/fd/' + words[0]);
      if (link.includes('memcloud-volume') && ++images === 2) process.kill(process.pid, 'SIGKILL');
      return fstatSync(...words);
    };
    require('node:module').syncBuiltinESMExports();`;
  const hook = path.join(folder, 'dying.cjs');
  fs.writeFileSync(hook, dying);
  for (let round = 0; round < 2; round += 1) {
    busy.longestMs = 0;
    const child = spawn(process.execPath, ['--require', hook, ...program], {
      stdio: 'ignore',
      env: CLEAN_ENV,
    });
    t.same(await once(child, 'exit'), [null, 'SIGKILL'], 'the successor died');
    const undone = (): number => consumer.log.match(/not handed over, all goes on/g)?.length ?? 0;
    await eventually('all was undone', () => undone() === round + 1);
    const after = busy.requests;
    await eventually('it goes on', () => busy.requests > after + 500);
    t.comment(`the longest request took ${busy.longestMs.toFixed(0)} ms`);
  }
  t.equal(consumer.child.exitCode, null, 'the same process');
  const { handover } = await consumer.restart(t);
  t.equal(handover.connections, 1, 'and another successor may come');
  await busy.stop();
  t.equal(busy.wrong, 0, `${busy.requests} requests`);
  await nbd.close();
});

t.test('kill -9 of memnode: the volume is gone, not old', async (t) => {
  const pool = await lab(t, 1);
  const target = await served(t, pool, 1);
  const nbd = await NbdClient.connect(target, { exportName: 'v' });
  const secret = Buffer.alloc(BLOCK, 'old bytes ');
  await nbd.write(0, secret);
  await nbd.flush();
  await pool.consumer.end('SIGKILL');
  await t.rejects(nbd.read(0, BLOCK), { code: 'ERR_NBD_CLOSED' }, 'an error, not bytes');
  const connect = pool.providers.map(({ peerAddress }) => peerAddress);
  const next = await LabNode.start(t, { name: 'consumer', folder: pool.folder, connect });
  await next.waitForPeers(1);
  t.same(await next.use((client) => client.call('volume.list', {})), [], 'nobody knows it');
  await t.rejects(NbdClient.connect(target, { exportName: 'v' }), { code: 'ERR_NBD_CLOSED' });
  // Under the same name, on the same provider: zeroes.
  const fresh = await served(t, { ...pool, consumer: next }, 1);
  const again = await NbdClient.connect(fresh, { exportName: 'v' });
  t.ok((await again.read(0, BLOCK)).equals(Buffer.alloc(BLOCK)), 'no old byte');
  await again.close();
});

t.test(
  'a service manager hears who its main process is now, and when that one is ready',
  async (t) => {
    const folder = labFolder(t);
    const manager = path.join(folder, 'notify');
    const receiver = new NotifyReceiver(t, manager);
    const env = { NOTIFY_SOCKET: manager, WATCHDOG_USEC: '3000000' };
    const node = await LabNode.start(t, { name: 'node', folder, env });
    await eventually('ready', () => receiver.take().includes('READY=1'));
    const { pid } = await node.restart(t);
    const heard: string[] = [];
    await eventually('ready again', () => {
      heard.push(...receiver.take().filter((text) => /^(MAINPID|READY|STOPPING)/.test(text)));
      return heard.includes('READY=1');
    });
    t.same(heard, [`MAINPID=${pid}`, 'READY=1'], 'in this order, and no word of an end');
    await eventually('the watchdog is fed', () => receiver.take().includes('WATCHDOG=1'));
  },
);

t.test('what cannot go over is refused with the numbers', async (t) => {
  const pool = await lab(t, 1);
  const target = await served(t, pool, 1);
  const nbd = await NbdClient.connect(target, { exportName: 'v' });
  await nbd.write(0, Buffer.alloc(BLOCK, 7));
  await nbd.flush();
  const [provider] = pool.providers;
  const refused = await memcloud(provider?.socketPath ?? '', 'restart');
  t.equal(refused.code, 1);
  t.match(refused.stderr, /lends .* under 1 leases, which would be wiped/);
  t.equal((await nbd.read(0, BLOCK))[0], 7, 'and nothing has happened');
  await nbd.close();
  const lone = await memcloud(path.join(pool.folder, 'nobody.sock'), 'restart');
  t.equal(lone.code, 3, 'no memnode runs');
  const direct = spawn(
    process.execPath,
    [
      MEMNODE,
      '--replace',
      '--socket',
      path.join(pool.folder, 'nobody.sock'),
      '--offer',
      '0',
      '--state',
      path.join(pool.folder, 'nobody'),
      '--listen',
      '127.0.0.1:0',
    ],
    { stdio: ['ignore', 'ignore', 'pipe'], env: CLEAN_ENV },
  );
  let said = '';
  direct.stderr.on('data', (chunk: Buffer) => (said += chunk.toString()));
  t.same(await once(direct, 'close'), [3, null]);
  t.match(said, /no memnode answers/);
  await memcloudJson(t, pool.consumer.socketPath, 'status');
});
