/**
 * One guest: a QEMU process without KVM (TCG), its console and its command channel. The guest sees
 * the host's loopback at 10.0.2.2 and nothing can reach it but through `forwards`.
 *
 * Nothing outlives us. The images are opened and already unlinked or dropped on close
 * (`snapshot=on`), the ports are socket pairs without names, and the kernel kills QEMU when this
 * process dies, however it dies (`setpriv --pdeathsig`). QEMU has a process group of its own, so
 * that Ctrl-C on the terminal reaches us first.
 *
 * The serial console carries only the kernel's log. When a command breaks its deadline, the kernel
 * is asked for the stacks of blocked tasks (a break, then `w`: SysRq), so that the log of a hang
 * says where it hangs.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { open, rm, type FileHandle } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { Duplex } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import { MemcloudError } from '../../common/errors.ts';
import { defaultCacheFolder } from './cache.ts';
import { CommandChannel, type CommandOptions, type CommandResult } from './command-channel.ts';
import { findProgram } from './host-command.ts';
import { GUEST_READY_LINE } from './init-script.ts';
import { buildInitramfs } from './initramfs.ts';
import { fetchKernel } from './kernel.ts';
import { MachineMonitor } from './machine-monitor.ts';
import { guestUnsupportedReason } from './packages.ts';
import { NETWORK_CARD, qemuArguments, type PortForward } from './qemu-arguments.ts';
import { rootImage } from './root-image.ts';
import { SYSTEMD_KERNEL_ARGUMENTS, systemdTree } from './systemd-tree.ts';

/** Time within which the agent must listen. Two seconds when the host is idle. */
const BOOT_TIMEOUT_MS = 120_000;
/** Most characters kept of the kernel log; older ones go. */
const KERNEL_LOG_LENGTH_MAX = 2 ** 20;
/** Time for the kernel to print its blocked tasks, and then its memory, before the guest is killed. */
const STACKS_TIMEOUT_MS = 2000;
const LOG_TAIL_LINE_COUNT = 12;
/** What the kernel says when it gives up or kills. */
const DEATH_PATTERN = /Kernel panic|BUG:|Oops|sysrq: Trigger|blocked for more than|Out of memory/;
/** A break on the console of a QEMU multiplexer: Ctrl-A b. */
const CONSOLE_BREAK = '\u0001b';

/** How to boot a guest. */
export interface GuestOptions {
  /** Life of the guest: after it, the guest is stopped whatever it does. */
  readonly timeoutMs: number;
  /** Default 512. */
  readonly memoryMib?: number;
  /** Lines for modprobe, in order: a module, then its parameters. Default `nbd nbds_max=4`. */
  readonly modules?: readonly string[];
  /** Programs of the host to carry, with their libraries. */
  readonly programs?: readonly string[];
  /** Absolute path in the guest -> content, or where the host has it. Mode 0755. */
  readonly files?: Readonly<Record<string, Uint8Array | string | { hostPath: string }>>;
  /** Carry the compiled tests too. */
  readonly includeTests?: boolean;
  /** Ports of the host's loopback that lead into the guest. */
  readonly forwards?: readonly PortForward[];
  /** A task that is blocked for so long ends the guest by a kernel panic: seconds, default 120; 0: never. */
  readonly hungTaskTimeoutS?: number;
  /** Debian's systemd as process 1, with the agent as one of its services; `modules` are left out. */
  readonly systemd?: boolean;
  /** More kernel parameters. */
  readonly kernelArguments?: readonly string[];
  /** Told each line of the kernel log. */
  readonly onConsole?: (line: string) => void;
  /** Told of the slow steps before the boot. */
  readonly onProgress?: (text: string) => void;
  /** The cache folder; default {@link defaultCacheFolder}. */
  readonly cacheFolder?: string;
  /** Ends the guest when aborted. */
  readonly signal?: AbortSignal;
}

/** A running guest. */
export class Guest {
  readonly #qemu: ChildProcess;
  readonly #channel: CommandChannel;
  readonly #monitor: MachineMonitor;
  readonly #exited: Promise<void>;
  readonly #onConsole: ((line: string) => void) | undefined;
  readonly #timer: NodeJS.Timeout;
  #kernelLog = '';
  #consoleLine = '';
  #qemuErrors = '';
  #onReady: (() => void) | undefined;
  #endReason: MemcloudError | undefined;
  #stopping = false;
  /** Time from the start of QEMU until the agent listened: milliseconds. */
  bootMs = 0;

  private constructor(qemu: ChildProcess, options: GuestOptions) {
    this.#qemu = qemu;
    this.#onConsole = options.onConsole;
    const [, stdout, stderr, control, out, err, , monitor] = qemu.stdio as unknown as Duplex[];
    if (!stdout || !stderr || !control || !out || !err || !monitor) {
      throw new MemcloudError('ERR_INTERNAL', 'QEMU was spawned without its pipes');
    }
    qemu.stdin?.on('error', () => undefined);
    stdout.on('data', (chunk: Buffer) => this.#onConsoleBytes(chunk));
    stderr.on('data', (chunk: Buffer) => {
      this.#qemuErrors = (this.#qemuErrors + chunk.toString()).slice(-4096);
    });
    this.#channel = new CommandChannel({ control, out, err }, (reason) => {
      void this.#stopWithStacks(reason);
    });
    this.#monitor = new MachineMonitor(monitor);
    this.#exited = new Promise((resolve) => {
      qemu.once('error', () => resolve());
      qemu.once('close', () => resolve());
    });
    void this.#exited.then(() => this.#onExit());
    this.#timer = setTimeout(() => {
      const text = `the guest's life of ${options.timeoutMs} ms is over`;
      void this.#stopWithStacks(new MemcloudError('ERR_TIMEOUT', text));
    }, options.timeoutMs);
    options.signal?.addEventListener('abort', () => {
      this.#end(new MemcloudError('ERR_CANCELLED', 'the guest was cancelled'));
      this.#kill();
    });
  }

  /**
   * Boots a guest and waits until it takes commands. The first call on a machine downloads a
   * kernel and makes an image (tens of seconds); both stay in the cache.
   *
   * @throws MemcloudError `ERR_UNSUPPORTED` when the host lacks a tool, `ERR_GUEST` with the end of
   *   the console when the guest does not come up, `ERR_TIMEOUT`, `ERR_CANCELLED`
   */
  static async boot(options: GuestOptions): Promise<Guest> {
    const reason = guestUnsupportedReason();
    if (reason !== undefined) throw new MemcloudError('ERR_UNSUPPORTED', reason);
    const packageRoot = findPackageRoot();
    const cacheFolder = options.cacheFolder ?? defaultCacheFolder();
    const onProgress = options.onProgress ?? ((): void => undefined);
    const kernel = await fetchKernel(cacheFolder, onProgress);
    const systemd = options.systemd ?? false;
    const overlay = systemd ? await systemdTree(cacheFolder, onProgress) : undefined;
    const image = await rootImage({
      kernel,
      packageRoot,
      programs: options.programs ?? [],
      overlay,
      cacheFolder,
      onProgress,
    });
    const initramfs = await buildInitramfs({
      kernel,
      packageRoot,
      includeTests: options.includeTests ?? false,
      files: options.files ?? {},
      modules: options.modules ?? ['nbd nbds_max=4'],
      hungTaskTimeoutS: options.hungTaskTimeoutS ?? 120,
      systemd,
    });
    if (options.signal?.aborted === true) {
      throw new MemcloudError('ERR_CANCELLED', 'the guest was cancelled');
    }
    const handle = await openUnlinked(initramfs);
    try {
      const guest = new Guest(startQemu(options, kernel.imageFile, image, handle.fd), options);
      await guest.#waitUntilReady();
      return guest;
    } finally {
      await handle.close();
    }
  }

  /** The kernel's log as far as the console showed it: warnings while booting, then everything. */
  get kernelLog(): string {
    return this.#kernelLog;
  }

  /** Process id of QEMU, for tests that look whether it is gone. */
  get pid(): number {
    return this.#qemu.pid ?? -1;
  }

  /**
   * Runs a shell script in the guest. A nonzero exit code is a result, not an error.
   *
   * @throws MemcloudError `ERR_GUEST` when the guest ends first, `ERR_TIMEOUT`
   */
  run(script: string, options: CommandOptions): Promise<CommandResult> {
    return this.#channel.run(script, options);
  }

  /** Writes a file of at most 16 MiB. @throws MemcloudError as {@link Guest.run} */
  async writeFile(place: string, content: Uint8Array | string): Promise<void> {
    const options = { stdin: content, timeoutMs: 60_000 };
    const result = await this.run(`cat >'${place.replaceAll("'", `'\\''`)}'`, options);
    if (result.exitCode !== 0) {
      throw new MemcloudError('ERR_GUEST', `writing ${place}: ${result.stderr.trim()}`);
    }
  }

  /**
   * Pulls the cable out of the guest's network card, or puts it back.
   *
   * @throws MemcloudError `ERR_GUEST`, `ERR_TIMEOUT` when the machine does not answer
   */
  plugCable(plugged: boolean): Promise<void> {
    return this.#monitor.execute('set_link', { name: NETWORK_CARD, up: plugged });
  }

  /**
   * Waits until the guest ends by itself, as after `poweroff`; the console is complete then.
   *
   * @throws MemcloudError `ERR_TIMEOUT` when it still runs after `timeoutMs`; it is stopped then
   */
  async waitForEnd(timeoutMs: number): Promise<void> {
    const timer = setTimeout(() => {
      const text = `the guest did not end within ${timeoutMs} ms`;
      void this.#stopWithStacks(new MemcloudError('ERR_TIMEOUT', text));
    }, timeoutMs);
    await this.#exited;
    clearTimeout(timer);
    if (this.#stopping) throw this.#endReason ?? new MemcloudError('ERR_TIMEOUT', 'the guest hung');
  }

  /** Stops the guest at once; its disk is dropped. May be called twice. */
  async stop(): Promise<void> {
    this.#end(new MemcloudError('ERR_GUEST', 'the guest was stopped'));
    this.#kill();
    await this.#exited;
  }

  async #waitUntilReady(): Promise<void> {
    const startMs = performance.now();
    const timer = setTimeout(() => {
      void this.#stopWithStacks(
        new MemcloudError('ERR_TIMEOUT', `the guest did not boot within ${BOOT_TIMEOUT_MS} ms`),
      );
    }, BOOT_TIMEOUT_MS);
    try {
      await Promise.race([
        new Promise<void>((resolve) => (this.#onReady = resolve)),
        this.#exited.then(() => {
          throw this.#endReason ?? new MemcloudError('ERR_GUEST', 'the guest ended');
        }),
      ]);
    } finally {
      clearTimeout(timer);
    }
    this.bootMs = performance.now() - startMs;
  }

  #onConsoleBytes(chunk: Buffer): void {
    const text = chunk.toString('utf8').replaceAll('\r', '');
    this.#kernelLog = (this.#kernelLog + text).slice(-KERNEL_LOG_LENGTH_MAX);
    const lines = (this.#consoleLine + text).split('\n');
    this.#consoleLine = lines.pop() ?? '';
    for (const line of lines) {
      if (line === GUEST_READY_LINE) this.#onReady?.();
      this.#onConsole?.(line);
    }
  }

  async #stopWithStacks(reason: MemcloudError): Promise<void> {
    if (this.#stopping) return;
    this.#stopping = true;
    // One at a time: QEMU's serial port remembers that there was a break, not which byte it was.
    for (const key of ['w', 'm']) {
      this.#qemu.stdin?.write(CONSOLE_BREAK + key);
      await Promise.race([delay(STACKS_TIMEOUT_MS), this.#exited]);
    }
    this.#end(reason);
    this.#kill();
  }

  #end(reason: MemcloudError): void {
    if (this.#endReason !== undefined) return;
    this.#endReason = new MemcloudError(reason.code, reason.message + this.#logTail());
    this.#channel.end(this.#endReason);
  }

  #kill(): void {
    clearTimeout(this.#timer);
    this.#qemu.kill('SIGKILL');
  }

  #onExit(): void {
    clearTimeout(this.#timer);
    this.#end(new MemcloudError('ERR_GUEST', 'the guest ended by itself'));
  }

  /** The lines of the console that matter for an error message: what the kernel died of, and the end. */
  #logTail(): string {
    const lines = `${this.#kernelLog.trimEnd()}\n${this.#qemuErrors.trim()}`.trim().split('\n');
    const end = lines.slice(-LOG_TAIL_LINE_COUNT);
    const deaths = lines.filter((line) => DEATH_PATTERN.test(line) && !end.includes(line));
    const shown = [...deaths.slice(-LOG_TAIL_LINE_COUNT), ...end];
    return shown.join('') === '' ? '' : `; its console ended with:\n${shown.join('\n')}`;
  }
}

/** Boots a guest, hands it to `use`, and stops it whatever happens. */
export async function withGuest<T>(
  options: GuestOptions,
  use: (guest: Guest) => Promise<T>,
): Promise<T> {
  const guest = await Guest.boot(options);
  try {
    return await use(guest);
  } finally {
    await guest.stop();
  }
}

function startQemu(
  options: GuestOptions,
  kernelFile: string,
  imageFile: string,
  initramfsFd: number,
): ChildProcess {
  const programArguments = qemuArguments({
    kernelFile,
    imageFile,
    memoryMib: options.memoryMib ?? 512,
    forwards: options.forwards ?? [],
    kernelArguments: [
      ...(options.systemd === true ? SYSTEMD_KERNEL_ARGUMENTS : []),
      ...(options.kernelArguments ?? []),
    ],
  });
  const qemu = findProgram('qemu-system-x86_64') ?? '';
  const setpriv = findProgram('setpriv') ?? '';
  return spawn(setpriv, ['--pdeathsig', 'KILL', '--', qemu, ...programArguments], {
    stdio: ['pipe', 'pipe', 'pipe', 'pipe', 'pipe', 'pipe', initramfsFd, 'pipe'],
    detached: true,
  });
}

/** A temporary file that already has no name: it is gone when the last descriptor closes. */
async function openUnlinked(content: Uint8Array): Promise<FileHandle> {
  const place = path.join(
    tmpdir(),
    `memcloud-guest-${process.pid}-${randomBytes(8).toString('hex')}`,
  );
  const handle = await open(place, 'wx+', 0o600);
  await rm(place);
  await handle.writeFile(content);
  return handle;
}

/** The folder with package.json, from which `dist/` and `node_modules/` are taken. */
function findPackageRoot(): string {
  for (let at = import.meta.dirname; at !== path.dirname(at); at = path.dirname(at)) {
    if (existsSync(path.join(at, 'package.json'))) return at;
  }
  throw new MemcloudError('ERR_INTERNAL', 'no package.json above the guest code');
}
