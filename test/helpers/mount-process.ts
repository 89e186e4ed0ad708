/** The process of a mount in the hands of a test, which plays its daemon; donors are real memnodes. */
import { fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import path from 'node:path';
import type { Test } from 'tap';
import { MOUNT, tryUnmount } from '../../common/libc.ts';
import { mountAt, readMountTable } from '../../common/mount-table.ts';
import type {
  FromMount,
  MountPeer,
  MountRequest,
  MountStatus,
  ToMount,
} from '../../daemon/mounts/protocol.ts';
import { Identity } from '../../peer/identity.ts';
import { fuseMissing } from './fuse-mount/start.ts';
import { CLEAN_ENV, LabNode, labFolder } from './lab-node.ts';

const MIB = 2 ** 20;
const ANSWER_TIMEOUT_MS = 20_000;

/** The built program. */
export const MOUNT_MAIN = path.join(import.meta.dirname, '../../daemon/mount-main.js');

/** Why mounts cannot be made here, or false. */
export function cannotMount(): string | false {
  return fuseMissing() ?? false;
}

/** A node as the daemon of a mount names it. */
export function mountPeer(folder: string, node: LabNode): MountPeer {
  const file = path.join(folder, node.name, 'identity.json');
  const { publicKey } = JSON.parse(fs.readFileSync(file, 'utf8')) as { publicKey: string };
  return {
    nodeId: node.nodeId,
    name: node.name,
    address: node.peerAddress,
    publicKey: Buffer.from(publicKey, 'hex').toString('base64'),
  };
}

/** What a test asks for, beside what it changes. */
export function mountRequest(directory: string, change: Partial<MountRequest> = {}): MountRequest {
  return {
    directory,
    volumeName: 'files',
    sizeBytes: 64 * MIB,
    copies: 1,
    ringSizeBytes: 4 * MIB,
    providers: undefined,
    overcommit: false,
    keep: false,
    allowOther: true,
    profile: 'default',
    transport: 'kernel',
    ...{ uid: 0, gid: 0, mode: 0o1777 },
    ...change,
  };
}

/** The order to begin, of a daemon whose state is in `folder`. */
export function startMessage(
  folder: string,
  request: MountRequest,
  peers: readonly MountPeer[],
): Extract<ToMount, { type: 'start' }> {
  const stateDirectory = path.join(folder, 'daemon');
  fs.mkdirSync(stateDirectory, { recursive: true, mode: 0o700 });
  Identity.load(stateDirectory);
  return {
    type: 'start',
    ...{ request, stateDirectory, peers },
    ...{ name: 'daemon', hostId: 'daemon', zone: '' },
    ...{ leaseTtlMs: 60_000, peerDeadMs: 500, memoryDirectory: undefined, logLevel: 'info' },
  };
}

/** A directory to mount on; whatever is left there is taken away with the test. */
export function mountPoint(t: Test, folder: string, name = 'mnt'): string {
  const directory = path.join(folder, name);
  fs.mkdirSync(directory);
  t.teardown(() => {
    for (let tries = 0; isMounted(directory) && tries < 3; tries += 1) {
      tryUnmount(directory, MOUNT.MNT_DETACH);
    }
  });
  return directory;
}

/** Whether anything is mounted there, by the kernel's table: a look at the directory could hang. */
export function isMounted(directory: string): boolean {
  return mountAt(readMountTable(), directory) !== undefined;
}

/** See the top of the file. */
export class MountProcess {
  readonly child: ChildProcess;
  readonly said: FromMount[] = [];
  log = '';
  #id = 0;
  readonly #waiters: (() => void)[] = [];

  constructor(t: Test) {
    this.child = fork(MOUNT_MAIN, [], {
      cwd: '/',
      env: CLEAN_ENV,
      execArgv: [],
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    });
    this.child.stderr?.on('data', (bytes: Buffer) => (this.log += bytes.toString()));
    this.child.on('message', (message: FromMount) => {
      this.said.push(message);
      for (const wake of this.#waiters.splice(0)) wake();
    });
    this.child.on('exit', () => {
      for (const wake of this.#waiters.splice(0)) wake();
    });
    t.teardown(async () => {
      if (this.exited) return;
      this.child.kill('SIGKILL');
      await once(this.child, 'exit');
    });
  }

  get exited(): boolean {
    return this.child.exitCode !== null || this.child.signalCode !== null;
  }

  send(message: ToMount): void {
    this.child.send(message, () => undefined);
  }

  /** Waits for a message of a kind, the first one that `fits`. */
  async hear<K extends FromMount['type']>(
    kind: K,
    fits: (message: Extract<FromMount, { type: K }>) => boolean = () => true,
  ): Promise<Extract<FromMount, { type: K }>> {
    const deadlineMs = performance.now() + ANSWER_TIMEOUT_MS;
    for (;;) {
      for (const message of this.said) {
        const wanted = message as Extract<FromMount, { type: K }>;
        if (message.type === kind && fits(wanted)) return wanted;
      }
      if (this.exited || performance.now() > deadlineMs) {
        const said = JSON.stringify(this.said);
        throw new Error(`no ${kind}: exit ${this.child.exitCode}, said ${said}, log ${this.log}`);
      }
      await new Promise<void>((resolve) => {
        setTimeout(resolve, 200).unref();
        this.#waiters.push(resolve);
      });
    }
  }

  async status(): Promise<MountStatus> {
    const id = (this.#id += 1);
    this.send({ type: 'status', id });
    return (await this.hear('status', (message) => message.id === id)).status;
  }

  async unmount(how: { lazy: boolean; keep?: boolean }): Promise<'done' | 'busy'> {
    const id = (this.#id += 1);
    this.send({ type: 'unmount', id, keep: false, ...how });
    return (await this.hear('unmounted', (message) => message.id === id)).busy ? 'busy' : 'done';
  }

  async remount(directory: string): Promise<{ code: string; message: string } | null> {
    const id = (this.#id += 1);
    this.send({ type: 'remount', id, directory });
    return (await this.hear('remounted', (message) => message.id === id)).error;
  }

  /** Waits for its end. @returns its code, or the signal */
  async ended(): Promise<number | NodeJS.Signals | null> {
    if (!this.exited) await once(this.child, 'exit', { signal: AbortSignal.timeout(15_000) });
    return this.child.exitCode ?? this.child.signalCode;
  }
}

/** A directory to mount on, and donors. */
export interface MountScene {
  folder: string;
  directory: string;
  donors: LabNode[];
  peers: MountPeer[];
}

/** Starts donors by name, each with 256 MiB. */
export async function mountScene(t: Test, donorNames: readonly string[]): Promise<MountScene> {
  const folder = labFolder(t);
  const directory = mountPoint(t, folder);
  const donors = await Promise.all(
    donorNames.map((name) => LabNode.start(t, { name, folder, offer: '256M' })),
  );
  return { folder, directory, donors, peers: donors.map((node) => mountPeer(folder, node)) };
}

/** A mount that is there. */
export async function mounted(
  t: Test,
  { folder, directory, peers }: MountScene,
  change: Partial<MountRequest> = {},
): Promise<MountProcess> {
  const mount = new MountProcess(t);
  mount.send(startMessage(folder, mountRequest(directory, change), peers));
  await mount.hear('mounted');
  return mount;
}

// Reads and writes of files on a mount go through promises: a test never waits in the kernel itself.

/** Writes a file. */
export const write = (file: string, bytes: Buffer): Promise<void> =>
  fs.promises.writeFile(file, bytes);

/** Reads a file. */
export const read = (file: string): Promise<Buffer> => fs.promises.readFile(file);

/** Waits until a file is on its donors. */
export async function sync(file: string): Promise<void> {
  const handle = await fs.promises.open(file, 'r+');
  await handle.sync();
  await handle.close();
}

/** Makes the kernel forget what it has cached, so that reads reach the pool. */
export const dropCaches = (): void => fs.writeFileSync('/proc/sys/vm/drop_caches', '3');
