/**
 * A donor that fails under load, with real processes in network namespaces: a volume with two copies
 * on alpha and beta, gamma as a spare, fio writing and verifying at depth 32, and a prober that reads
 * and writes a page every 5 ms. Then alpha is killed, stopped for a while, unplugged, or loses 30 % of
 * its packets. Held: no wrong byte, no error to any client, a bounded stall, and every slab back on two
 * donors within 30 s for each GiB.
 *
 * The goal for the stall is 500 ms; a shared machine may stand still longer than that by itself, so the
 * bound held here is `STALL_MS` (3000 by default) and the figures are printed, beside those of the
 * calm before. `FAULT_MIB=1024` makes the volume a gigabyte, `FAULT_SECONDS=10`
 * the faults that pass longer.
 */
import path from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import t, { type Test } from 'tap';
import type { VolumeDetails } from '../../common/rpc-schema.ts';
import { NbdClient } from '../../nbd-server/client/connection.ts';
import { DiskProber, type ProbeReport } from '../helpers/disk-prober.ts';
import { fioVerify } from '../helpers/fio-load.ts';
import { patternBytes, requires } from '../helpers/judges.ts';
import { LabNode, eventually, labFolder } from '../helpers/lab-node.ts';
import { Network, skipWithoutNamespaces } from '../helpers/namespaces.ts';

const MIB = 2 ** 20;
const GIB = 2 ** 30;
const DISK_BYTES = Number(process.env['FAULT_MIB'] ?? 192) * MIB;
/** The first slabs are the prober's, fio has the rest. */
const PROBE_BYTES = 64 * MIB;
/** Behind them is a slab that nobody writes. */
const HOLE_BYTES = 16 * MIB;
const STALL_MAX_MS = Number(process.env['STALL_MS'] ?? 3_000);
const STALL_GOAL_MS = 500;
const REPAIR_MAX_MS = 30_000 * Math.max(1, DISK_BYTES / GIB);
const FIO_RATE = 5_000;
/** Load before the fault, and how long a fault lasts that passes. */
const CALM_MS = 2_000;
const FAULT_MS = Number(process.env['FAULT_SECONDS'] ?? 6) * 1000;
const FIO_SECONDS = 12 + FAULT_MS / 1000;
/** No slab may be degraded for so long before the volume counts as whole. */
const WHOLE_MS = 2_000;

const skip = skipWithoutNamespaces() || requires('fio').skip;

interface Scene {
  network: Network;
  /** Alpha, beta and gamma are machines 1, 2 and 3. */
  alpha: LabNode;
  beta: LabNode;
  gamma: LabNode;
  consumer: LabNode;
  unixPath: string;
}

function inspect(node: LabNode): Promise<VolumeDetails> {
  return node.use((client) => client.call('volume.inspect', { name: 'disk' }));
}

async function connect(consumer: LabNode, node: LabNode): Promise<void> {
  await consumer.use((client) => client.call('peer.connect', { address: node.peerAddress }));
  await eventually(`${node.name} is up`, async () => {
    const peers = await consumer.use((client) => client.call('peer.list', {}));
    return peers.some(({ name, state }) => name === node.name && state === 'up');
  });
}

/** Four machines; the consumer knows alpha and beta and has an empty disk on them. */
async function scene(t: Test): Promise<Scene> {
  const folder = labFolder(t);
  const network = new Network(t);
  const start = (name: string, number: number, offer: string): Promise<LabNode> => {
    const { address, launcher } = network.machine(number);
    return LabNode.start(t, { name, folder, offer, launcher, listen: `${address}:7070` });
  };
  const offer = String(2 * DISK_BYTES);
  const alpha = await start('alpha', 1, offer);
  const beta = await start('beta', 2, offer);
  const gamma = await start('gamma', 3, offer);
  const consumer = await start('consumer', 4, '0');
  for (const node of [alpha, beta]) await connect(consumer, node);
  const unixPath = path.join(folder, 'disk.sock');
  await consumer.use(async (client) => {
    await client.call('volume.create', {
      name: 'disk',
      sizeBytes: DISK_BYTES + HOLE_BYTES,
      copies: 2,
    });
    await client.call('nbd.serve', { name: 'disk', unixPath });
  });
  return { network, alpha, beta, gamma, consumer, unixPath };
}

async function open(t: Test, { unixPath }: Scene): Promise<NbdClient> {
  const nbd = await NbdClient.connect({ path: unixPath }, { exportName: 'disk' });
  t.teardown(() => nbd.close());
  return nbd;
}

/** Writes a pattern over what is fio's, so that there is something to make anew. */
async function fillRest(nbd: NbdClient): Promise<void> {
  for (let offset = PROBE_BYTES; offset < DISK_BYTES; offset += 4 * MIB) {
    await nbd.write(offset, patternBytes(4 * MIB, offset));
  }
  await nbd.flush();
}

/**
 * Watches until the volume has two copies of everything again.
 *
 * @returns milliseconds from the call to the last time that it had not; undefined after the limit
 */
async function wholeAfter(
  { consumer }: Scene,
  leastMs: number,
  limitMs: number,
): Promise<{ wholeMs: number | undefined; degradedMax: number }> {
  const startMs = performance.now();
  let lastDegradedMs = 0;
  let degradedMax = 0;
  for (;;) {
    const { slabs } = await inspect(consumer);
    const nowMs = performance.now() - startMs;
    degradedMax = Math.max(degradedMax, slabs.degraded);
    if (slabs.degraded > 0) lastDegradedMs = nowMs;
    const whole = nowMs - lastDegradedMs >= WHOLE_MS && nowMs >= leastMs;
    if (whole) return { wholeMs: lastDegradedMs, degradedMax };
    if (nowMs > limitMs + leastMs) return { wholeMs: undefined, degradedMax };
    await pause(50);
  }
}

function figures(what: string, report: ProbeReport): string {
  const ms = (value: number): string => `${value.toFixed(1)} ms`;
  return (
    `${what}: longest read ${ms(report.readMaxMs)}, longest write ${ms(report.writeMaxMs)} ` +
    `of ${report.readCount} + ${report.writeCount}; longest of a hole ${ms(report.holeMaxMs)}; ` +
    `the prober itself stood still ${ms(report.ownStallMs)}`
  );
}

interface Fault {
  name: string;
  /** Begins it; returns what ends it. */
  begin: (t: Test, scene: Scene) => Promise<() => Promise<void>> | (() => Promise<void>);
  /** It ends after {@link FAULT_MS}; else it stays until the volume is whole. */
  passes: boolean;
}

const FAULTS: Fault[] = [
  {
    name: 'kill -9',
    begin: (_t, { alpha }) => {
      alpha.child.kill('SIGKILL');
      return () => Promise.resolve();
    },
    passes: false,
  },
  {
    name: 'SIGSTOP for a while',
    begin: (t, { alpha }) => {
      alpha.child.kill('SIGSTOP');
      t.teardown(() => alpha.child.kill('SIGCONT'));
      return async () => void alpha.child.kill('SIGCONT');
    },
    passes: true,
  },
  {
    name: 'link down',
    begin: (_t, { network }) => {
      network.cable(1, 'down');
      return async () => network.cable(1, 'up');
    },
    passes: false,
  },
  {
    name: '30 % loss for a while',
    begin: async (t, { network }) => (await network.loss(t, 1, 0.3)).stop,
    passes: true,
  },
];

async function underLoad(t: Test, fault: Fault): Promise<void> {
  const here = await scene(t);
  const { consumer, gamma } = here;
  const [probed, filled] = [await open(t, here), await open(t, here)];
  const prober = new DiskProber(probed, {
    ...{ offset: 0, sizeBytes: PROBE_BYTES, holeOffset: DISK_BYTES },
  });
  await prober.fill();
  await fillRest(filled);
  // The spare comes when every page is on the two others.
  await connect(consumer, gamma);
  const { providers } = await inspect(consumer);
  t.same(providers.map(({ name }) => name).sort(), ['alpha', 'beta'], 'both copies of all');

  const fio = fioVerify({
    ...{ unixPath: here.unixPath, exportName: 'disk', rate: FIO_RATE, seconds: FIO_SECONDS },
    ...{ offset: PROBE_BYTES, sizeBytes: DISK_BYTES - PROBE_BYTES },
  });
  await pause(500);
  prober.start();
  await pause(CALM_MS);
  const calm = prober.take();
  const end = await fault.begin(t, here);
  const watching = wholeAfter(here, fault.passes ? FAULT_MS : 0, REPAIR_MAX_MS);
  await pause(FAULT_MS);
  if (fault.passes) await end();
  const { wholeMs, degradedMax } = await watching;
  const load = await fio;
  await prober.stop();
  const during = prober.take();
  if (!fault.passes) await end();

  t.comment(figures('before', calm));
  t.comment(figures('during', during));
  t.comment(
    `fio: longest read ${load.readMaxMs.toFixed(1)} ms, longest write ${load.writeMaxMs.toFixed(1)} ms ` +
      `of ${load.readCount} + ${load.writeCount}`,
  );
  const stallMs = Math.max(during.readMaxMs, during.writeMaxMs);
  const goal = stallMs <= STALL_GOAL_MS ? 'met' : 'missed';
  t.comment(`${fault.name}: stall ${stallMs.toFixed(1)} ms, goal ${STALL_GOAL_MS} ms ${goal}`);
  const whole = wholeMs === undefined ? 'never' : `${(wholeMs / 1000).toFixed(1)} s`;
  t.comment(
    `${fault.name}: ${degradedMax} slabs degraded, two copies again after ${whole}, ` +
      `${DISK_BYTES / MIB} MiB (goal 30 s for each GiB)`,
  );
  t.same(during.errors.slice(0, 5), [], 'no error to the prober');
  t.equal(during.wrongCount, 0, 'no wrong page');
  t.match(load, { code: 0, error: 0, said: '' }, 'fio found no error and no wrong byte');
  t.ok(stallMs <= STALL_MAX_MS, `no longer stall than ${STALL_MAX_MS} ms`);
  t.ok(wholeMs !== undefined && wholeMs <= REPAIR_MAX_MS, 'two copies of everything again');
  t.equal(await prober.readAll(), prober.pageCount, 'every page is there afterwards');
  const { counters } = await inspect(consumer);
  t.equal(counters['forgedPages'], 0, 'nobody is called a liar');
  t.equal(counters['lostPages'], 0, 'no page lost');
}

t.test('one of two donors fails under load', { skip, timeout: 600_000 }, async (t) => {
  for (const fault of FAULTS) await t.test(fault.name, (t) => underLoad(t, fault));
});

/** Requests wait for donors no longer than this (daemon/wire.ts), and a tick or two. */
const DEADLINE_MS = 15_000 + 3_000;
const NEW_OFFSET = 8 * MIB;

/** How each of many reads ended. */
async function readEach(
  nbd: NbdClient,
  offsets: readonly number[],
  right: (offset: number) => Buffer,
): Promise<{ right: number; wrong: number; errors: Set<string>; longestMs: number }> {
  const seen = { right: 0, wrong: 0, errors: new Set<string>(), longestMs: 0 };
  const startMs = performance.now();
  await Promise.all(
    offsets.map(async (offset) => {
      try {
        const got = await nbd.read(offset, 4096);
        if (got.equals(right(offset))) seen.right += 1;
        else seen.wrong += 1;
      } catch (error) {
        // `NBD_CMD_READ of 4096 bytes at 0: NBD_EIO`: the same for all but the offset.
        seen.errors.add(String(error).replace(/^.*: /, ''));
      }
      seen.longestMs = Math.max(seen.longestMs, performance.now() - startMs);
    }),
  );
  return seen;
}

t.test('both donors are gone for a while', { skip, timeout: 300_000 }, async (t) => {
  const here = await scene(t);
  const { network, consumer } = here;
  const nbd = await open(t, here);
  const page = (offset: number): Buffer => patternBytes(4096, offset / 4096 + 1);
  const pagesFrom = (start: number, count: number): number[] =>
    Array.from({ length: count }, (_, index) => start + index * 4096);
  const old = pagesFrom(0, 256);
  const fresh = pagesFrom(NEW_OFFSET, 512);
  const writeAll = (offsets: readonly number[]): Promise<unknown> =>
    Promise.all(offsets.map((offset) => nbd.write(offset, page(offset))));
  await writeAll(old);
  await nbd.flush();
  network.cable(1, 'down');
  network.cable(2, 'down');

  // These are acknowledged by the ring, and nobody else has them.
  const startMs = performance.now();
  await writeAll(fresh);
  t.comment(`512 pages were taken in ${(performance.now() - startMs).toFixed(1)} ms`);
  const ringReads = await readEach(nbd, fresh, page);
  t.match(ringReads, { right: 512, wrong: 0 }, 'the ring answers for what it holds');
  t.ok(ringReads.longestMs < 3_000, `at once: ${ringReads.longestMs.toFixed(1)} ms`);

  const lostReads = await readEach(nbd, old, page);
  const said = [...lostReads.errors].join('; ');
  t.comment(`256 reads of absent pages: ${said} after ${lostReads.longestMs.toFixed(0)} ms`);
  t.match(lostReads, { right: 0, wrong: 0 }, 'the others are refused, none with other bytes');
  t.match(said, /EIO/);
  t.ok(lostReads.longestMs < DEADLINE_MS, 'by the deadline');
  const status = await consumer.use((client) => client.call('status', {}));
  t.equal(status.pid, consumer.child.pid ?? 0, 'the daemon lives and answers');
  t.match(await readEach(nbd, fresh, page), { right: 512, wrong: 0 }, 'the ring still answers');

  network.cable(1, 'up');
  const upMs = performance.now();
  await eventually(
    'one donor with its pages is back',
    async () => (await readEach(nbd, old.slice(0, 1), page)).right === 1,
    60_000,
  );
  t.comment(`reads answer ${((performance.now() - upMs) / 1000).toFixed(1)} s after the cable`);
  t.match(await readEach(nbd, old, page), { right: 256, wrong: 0 }, 'all of them');
  t.match(await readEach(nbd, fresh, page), { right: 512, wrong: 0 }, 'and those of the ring');
  network.cable(2, 'up');
  await eventually(
    'two copies again',
    async () => (await inspect(consumer)).slabs.degraded === 0,
    60_000,
  );
  await nbd.flush();
  t.match(await readEach(nbd, [...old, ...fresh], page), { right: 768, wrong: 0 }, 'of all');
  const { counters } = await inspect(consumer);
  t.equal(counters['forgedPages'], 0, 'nobody is called a liar');
  t.equal(counters['lostPages'], 0, 'no page lost');
});
