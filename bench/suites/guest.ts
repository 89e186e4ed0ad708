/**
 * What the kernel of a swapping machine sees: its block devices, measured with fio inside one guest,
 * side by side. The peer is the kernel's nbd straight to nbdkit, plain: no encryption, one hop, nothing
 * between kernel and wire. Ours are the direct path (dm-crypt, kernel TLS, memnode as the server) with
 * one copy and with two, and the pool path through a memnode in the guest. Beside them is what a machine has
 * without a network: zram, and a file on its disk, which QEMU keeps in the host's page cache, so that it is
 * a disk without a seek. What is written does not compress. The processor is emulated,
 * so only ratios mean something, and they show cryptography dearer than it is on real hardware.
 */
import { Guest } from '../../cli/guest/guest.ts';
import { GUEST_PACKAGE_ROOT } from '../../cli/guest/root-image.ts';
import { fioDeviceArguments, parseFioReport, type FioResult, type Workload } from '../fio.ts';
import { medianEstimate, ratioEstimate, shuffled, type Estimate } from '../statistics.ts';
import { formatEstimate, formatNumber, layOut } from '../table.ts';
import { startNode } from '../targets/memcloud.ts';
import { nbdkitTcp } from '../targets/nbdkit.ts';
import { reasonOf } from '../trials.ts';
import type { Suite, SuiteOptions } from './suite.ts';

const MEMORY_MIB = 768;
const DEVICE_SIZE_MIB = 128;
/** fio works in the first of them. */
const RANGE_MIB = 32;
const OFFER_BYTES = 2 ** 30;
const GUEST_LIFE_MS = 30 * 60_000;
const START_TIMEOUT_MS = 180_000;
const COMMAND_TIMEOUT_MS = 120_000;
const SOCKET = '/tmp/memcloud.sock';
const MEMCLOUD = `node dist/cli/main.js --socket ${SOCKET}`;
const PEER = 'plain';
/** A compressed disk in the guest's own RAM, and a file on the guest's own disk. */
const ZRAM = '/dev/zram0';
const DISK_FILE = '/swapfile';

/** What swapping looks like: single pages, readahead of 8 pages, merged page-outs. */
const WORKLOADS: readonly (Workload & { readonly metric: 'p50' | 'bandwidth' })[] = [
  { name: 'page-in-4k', pattern: 'randread', blockSizeBytes: 4096, queueDepth: 1, metric: 'p50' },
  { name: 'page-in-32k', pattern: 'randread', blockSizeBytes: 32768, queueDepth: 1, metric: 'p50' },
  {
    name: 'page-out-128k',
    pattern: 'randwrite',
    blockSizeBytes: 131072,
    queueDepth: 4,
    metric: 'bandwidth',
  },
];

/** Devices in the guest by the name of their path. */
type Devices = ReadonlyMap<string, string>;

async function succeed(guest: Guest, script: string, timeoutMs: number): Promise<string> {
  const { exitCode, stdout, stderr } = await guest.run(script, { timeoutMs });
  if (exitCode !== 0) throw new Error(`in the guest: ${stderr.trim().slice(-500)}`);
  return stdout;
}

function hostPort(address: string): string {
  return address.split(':').at(-1)?.replace('/', '') ?? '';
}

async function startMemnode(guest: Guest, providers: readonly string[]): Promise<void> {
  const connect = providers.map((address) => `--connect 10.0.2.2:${hostPort(address)}`).join(' ');
  await succeed(
    guest,
    `cd ${GUEST_PACKAGE_ROOT}
    node dist/daemon/main.js --name guest --state /tmp/state --socket ${SOCKET} \\
      --listen 127.0.0.1:0 --offer 0 --auto-trust ${connect} >/tmp/ready 2>/tmp/memnode.log &
    for second in $(seq 170); do
      if [ "$(grep -c 'peer up' /tmp/memnode.log)" -ge ${providers.length} ]; then exit 0; fi
      sleep 1
    done
    cat /tmp/memnode.log >&2; exit 1`,
    START_TIMEOUT_MS,
  );
}

/** A direct device that is no swap: `swap on` makes it, swapoff by hand leaves it. */
async function directDevice(guest: Guest, copies: number): Promise<string> {
  const script = `cd ${GUEST_PACKAGE_ROOT}
    ${MEMCLOUD} --json swap on ${DEVICE_SIZE_MIB}M --via direct --copies ${copies}`;
  const { device } = JSON.parse(await succeed(guest, script, COMMAND_TIMEOUT_MS)) as {
    device: string;
  };
  await succeed(guest, `swapoff ${device}`, COMMAND_TIMEOUT_MS);
  return device;
}

async function makeDevices(guest: Guest, plainUri: string): Promise<Devices> {
  const plain = '/dev/nbd7';
  await succeed(
    guest,
    `nbd-client -b 4096 10.0.2.2 ${hostPort(plainUri)} ${plain}`,
    COMMAND_TIMEOUT_MS,
  );
  const pool = `cd ${GUEST_PACKAGE_ROOT}
    ${MEMCLOUD} volume create disk --size ${DEVICE_SIZE_MIB}M --copies 1 >&2
    ${MEMCLOUD} --json nbd attach disk`;
  const local = `echo ${DEVICE_SIZE_MIB}M >/sys/block/zram0/disksize
    dd if=/dev/zero of=${DISK_FILE} bs=1M count=${DEVICE_SIZE_MIB} conv=fsync`;
  await succeed(guest, local, COMMAND_TIMEOUT_MS);
  const attached = JSON.parse(await succeed(guest, pool, COMMAND_TIMEOUT_MS)) as { device: string };
  return new Map([
    [PEER, plain],
    ['direct, 1 copy', await directDevice(guest, 1)],
    ['direct, 2 copies', await directDevice(guest, 2)],
    ['pool, 1 copy', attached.device],
    ['zram', ZRAM],
    ['file on a disk', DISK_FILE],
  ]);
}

async function runTrial(
  guest: Guest,
  device: string,
  workload: Workload,
  options: { seconds: number; seed: number },
): Promise<FioResult> {
  const sizeBytes = RANGE_MIB * 2 ** 20;
  const run = { ...options, sizeBytes, rampSeconds: 1 };
  const words = fioDeviceArguments(workload, device, run).map((word) => `'${word}'`);
  const output = await succeed(guest, `fio ${words.join(' ')}`, COMMAND_TIMEOUT_MS);
  return parseFioReport(output, workload);
}

/** Trials of each path and workload, in rounds. */
type Trials = ReadonlyMap<string, Readonly<Record<string, number[]>>>;

async function measure(
  { random, note, seconds = 4, rounds = 5 }: SuiteOptions,
  guest: Guest,
  devices: Devices,
): Promise<Trials> {
  const trials = new Map(
    [...devices.keys()].map((name) => [
      name,
      Object.fromEntries(WORKLOADS.map((workload): [string, number[]] => [workload.name, []])),
    ]),
  );
  for (const device of devices.values()) {
    const fill = `dd if=/dev/urandom of=${device} bs=1M count=${RANGE_MIB} oflag=direct conv=notrunc`;
    await succeed(guest, fill, COMMAND_TIMEOUT_MS);
  }
  for (let round = 1; round <= rounds; round += 1) {
    for (const workload of WORKLOADS) {
      for (const [name, device] of shuffled([...devices], random)) {
        const seed = 1 + Math.floor(random() * 2 ** 31);
        const result = await runTrial(guest, device, workload, { seconds, seed });
        const value =
          workload.metric === 'p50' ? result.latencyUs.p50 : result.bytesPerSecond / 1e6;
        trials.get(name)?.[workload.name]?.push(value);
      }
    }
    note(`guest: round ${round} of ${rounds}`);
  }
  return trials;
}

interface Row {
  readonly workload: string;
  readonly unit: string;
  readonly path: string;
  readonly value: Estimate;
  /** Of the path's median over the peer's. */
  readonly ratio: Estimate;
}

function compare(trials: Trials, options: SuiteOptions): Row[] {
  return WORKLOADS.flatMap(({ name: workload, metric }) => {
    const peer = trials.get(PEER)?.[workload] ?? [];
    return [...trials].map(([path, of]) => {
      const sample = of[workload] ?? [];
      return {
        workload,
        unit: metric === 'p50' ? 'us' : 'MB/s',
        path,
        value: medianEstimate(sample, options.random),
        ratio: ratioEstimate(sample, peer, options.random),
      };
    });
  });
}

function render(rows: readonly Row[]): string {
  const header = ['work', 'path', 'median', '', 'ratio to plain [95 %]'];
  return layOut(
    header,
    rows.map(({ workload, path, value, unit, ratio }) => [
      ...[workload, path, formatNumber(value.value), unit],
      path === PEER ? '' : formatEstimate(ratio),
    ]),
  );
}

/** See the top of the file. */
export const guest: Suite = {
  name: 'guest',
  description: 'block devices of a swapping kernel, in an emulated guest',
  run: async (options) => {
    const { stage, note } = options;
    const failures: Record<string, string> = {};
    let rows: Row[] = [];
    try {
      const directory = stage.makeDirectory('guest');
      const providers = [
        await startNode(stage, directory, 'provider-a', OFFER_BYTES, []),
        await startNode(stage, directory, 'provider-b', OFFER_BYTES, []),
      ];
      const plain = await nbdkitTcp.start(stage, DEVICE_SIZE_MIB * 2 ** 20);
      const machine = await Guest.boot({
        timeoutMs: GUEST_LIFE_MS,
        memoryMib: MEMORY_MIB,
        modules: [
          ...['nbd nbds_max=8', 'tls', 'chacha20poly1305', 'xts', 'dm-crypt', 'raid1'],
          ...['zram num_devices=1'],
        ],
        programs: ['fio', 'mdadm', 'nbd-client'],
        onProgress: note,
      });
      try {
        await startMemnode(
          machine,
          providers.map(({ peerAddress }) => peerAddress),
        );
        const devices = await makeDevices(machine, plain.uri);
        rows = compare(await measure(options, machine, devices), options);
      } finally {
        await machine.stop();
      }
    } catch (thrown) {
      failures['guest'] = reasonOf(thrown);
    }
    return { data: { rows }, text: render(rows), panels: [], failures };
  },
};
