/**
 * Serves one mount over the memory of this process, for tests and benchmarks, until told to end: the whole
 * of fuse-fs without a pool. Started by start.ts; the mount's options are the one argument, as JSON, and
 * messages go over the channel of child_process.fork.
 *
 * To the child: `{type: 'stop', lazy}`, `{type: 'status'}`. From it: `{type: 'mounted'}`,
 * `{type: 'failed', code, message}`, `{type: 'status', ...}`, `{type: 'busy'}`; after a stop it exits.
 */
import { randomInt } from 'node:crypto';
import { monotonicClock } from '../../../common/clock.ts';
import { MemcloudError } from '../../../common/errors.ts';
import { EventLoopSpin, SPIN_WINDOW_DEFAULT_US } from '../../../common/event-loop-spin.ts';
import { createLogger } from '../../../common/log.ts';
import type { BlockDevice } from '../../../common/ports.ts';
import { FuseDevice } from '../../../fuse-fs/device.ts';
import { FileSystem } from '../../../fuse-fs/file-system.ts';
import { mountFuse, unmountFuse } from '../../../fuse-fs/mounting.ts';
import { FUSE_PROFILES } from '../../../fuse-fs/negotiation.ts';
import { NativeTransport } from '../../../fuse-fs/native-transport.ts';
import { PageFileStore } from '../../../fuse-fs/page-file-store.ts';
import { KernelClock } from '../../../fuse-fs/wall-clock.ts';
import { MemoryBlockDevice } from '../../../provider/memory-device.ts';
import { RamProvider } from '../../../provider/service.ts';
import { MemoryDevice } from '../memory-device.ts';
import { MemoryFileStore } from '../memory-file-store.ts';
import type { FuseMountOptions, FuseMountStatus, FromFuseMount, ToFuseMount } from './start.ts';

const options = JSON.parse(process.argv[2] ?? '{}') as FuseMountOptions;
const say = (message: FromFuseMount): void => {
  process.send?.(message);
};

process.chdir('/');
const logger = createLogger('warn');
/** The device of `--provider local`: what memnode serves, on a provider of its own. */
function ownMemory(sizeBytes: number): BlockDevice {
  const provider = RamProvider.open({
    ...{ offeredBytes: sizeBytes, reserveBytes: 0, noswap: 'off', logger },
  });
  process.once('exit', () => provider.close());
  const memory = provider.openObjectMemory();
  return new MemoryBlockDevice({ name: 'own', sizeBytes, memory, owner: '0'.repeat(32) });
}

const { sizeBytes } = options;
const fileSystem = new FileSystem({
  openStore: (sink) => {
    if (options.store === 'flat') return new MemoryFileStore(sink, { pageCount: sizeBytes / 4096 });
    const device = options.store === 'own' ? ownMemory(sizeBytes) : new MemoryDevice(sizeBytes);
    return new PageFileStore(device, sink);
  },
  clock: new KernelClock(),
  sizeBytes,
  uid: options.uid ?? 0,
  gid: options.gid ?? 0,
  mode: options.mode ?? 0o1777,
  hashSeed: randomInt(2 ** 32),
});

/** Says that the mount is there, and does what the parent asks from then on. */
function obey(status: () => FuseMountStatus): void {
  const { directory, helper = false } = options;
  const stop = async (lazy: boolean): Promise<void> => {
    if ((await unmountFuse(directory, { lazy, helper })) === 'busy') say({ type: 'busy' });
  };
  process.on('message', (message: ToFuseMount) => {
    if (message.type === 'status') say({ type: 'status', status: status() });
    else void stop(message.lazy);
  });
  // The parent is gone: leave nothing behind.
  process.on('disconnect', () => void stop(true));
  process.on('SIGTERM', () => void stop(true));
  process.on('SIGINT', () => void stop(true));
  say({ type: 'mounted' });
}

async function main(): Promise<void> {
  const fd = await mountFuse({
    directory: options.directory,
    allowOther: options.allowOther ?? true,
    helper: options.helper ?? false,
  });
  const device = new FuseDevice({
    fd,
    profile: FUSE_PROFILES[options.profile ?? 'default'],
    spin: new EventLoopSpin(monotonicClock, options.spinWindowUs ?? SPIN_WINDOW_DEFAULT_US),
    clock: monotonicClock,
    log: logger,
    onEnd: (end) => {
      if (end !== undefined) logger.warn({ err: end }, 'the mount ended');
      device.close();
      fileSystem.close();
      if (process.connected) process.disconnect();
      process.exit(0);
    },
  });
  fileSystem.connect(device.session);
  device.serve(fileSystem);
  const status = (): FuseMountStatus => ({
    ...device.session.statistics,
    refusedReplyCount: device.refusedReplyCount,
    waitingCount: device.session.waitingCount,
    inodeCount: fileSystem.inodeCount,
    metadataBytes: fileSystem.metadataBytes,
    residentBytes: process.memoryUsage().rss,
  });
  obey(status);
}

/** The same files through fuse-native. */
async function mainNative(): Promise<void> {
  const transport = new NativeTransport({
    directory: options.directory,
    allowOther: options.allowOther ?? true,
    ...{ uid: options.uid ?? 0, gid: options.gid ?? 0 },
    onEnd: () => {
      fileSystem.close();
      process.disconnect();
      process.exit(0);
    },
  });
  fileSystem.connect(transport.sink);
  await transport.mount(fileSystem);
  const status = (): FuseMountStatus => ({
    ...{ requestCount: transport.requestCount, waitingCount: transport.waitingCount },
    ...{ errorCount: 0, malformedCount: 0, defectCount: 0, interruptedCount: 0 },
    refusedReplyCount: 0,
    inodeCount: fileSystem.inodeCount,
    metadataBytes: fileSystem.metadataBytes,
    residentBytes: process.memoryUsage().rss,
  });
  obey(status);
}

const run = options.transport === 'native' ? mainNative : main;
run().catch((error: unknown) => {
  const code = error instanceof MemcloudError ? error.code : 'ERR_INTERNAL';
  say({ type: 'failed', code, message: error instanceof Error ? error.message : String(error) });
  if (process.connected) process.disconnect();
  process.exitCode = 1;
});
