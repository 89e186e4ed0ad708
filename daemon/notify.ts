/**
 * Tells the service manager how the daemon is: sd_notify(3), datagrams of `KEY=value` lines on the
 * Unix socket that `NOTIFY_SOCKET` names. Node has no datagram sockets of that family, so they come
 * from the C library. Without `NOTIFY_SOCKET` nothing is sent.
 *
 * The watchdog is fed from {@link ServiceNotifier.onTick}, which the daemon calls on the tick of its
 * volumes: the loop that carries pages is the one that feeds. A loop that is stuck, however alive
 * the process looks, feeds no more, and the manager replaces the process.
 *
 * What is told in passing (watchdog, status) never waits: a manager that does not read loses it. What
 * must arrive (ready, reloading, stopping) waits for room, for a second at most.
 */
import { readFile } from 'node:fs/promises';
import koffi from 'koffi';
import { throwErrno } from '../common/libc.ts';
import type { Logger } from '../common/log.ts';
import { formatSize } from '../common/units.ts';

const libc = koffi.load(null);
const socketCall = libc.func('int socket(int domain, int type, int protocol)');
const setsockoptCall = libc.func(
  'int setsockopt(int fd, int level, int option, void *value, uint32_t length)',
);
const sendtoCall = libc.func(
  'intptr_t sendto(int fd, void *bytes, size_t length, int flags, void *address, uint32_t length2)',
);
const closeCall = libc.func('int close(int fd)');

/** Linux `socket.h`. */
const AF_UNIX = 1;
const SOCK_DGRAM = 2;
const SOCK_CLOEXEC = 0x80000;
const SOL_SOCKET = 1;
const SO_SNDTIMEO = 21;
const MSG_DONTWAIT = 0x40;
const MSG_NOSIGNAL = 0x4000;
/** Bytes of `sun_path`, unix(7). */
const SUN_PATH_SIZE_BYTES = 108;

/** How long a datagram that must arrive waits for a manager that does not read. */
const SEND_TIMEOUT_S = 1;
/** Fed so many times within the time that the manager allows. */
const FEEDS_PER_TIMEOUT = 3;
const STATUS_INTERVAL_MS = 5000;

/** The pool in numbers, for one line of `systemctl status`. */
export interface PoolNumbers {
  /** Peers with a session. */
  readonly peersUp: number;
  /** Peers known. */
  readonly peerCount: number;
  /** Bytes that others hold of ours. */
  readonly lentBytes: number;
  /** Bytes that we lend at most. */
  readonly offeredBytes: number;
  /** Bytes leased from others, copies counted. */
  readonly borrowedBytes: number;
  /** Devices of the kernel on the pool, such as `/dev/nbd0`. */
  readonly devices: readonly string[];
}

/** Bytes in use and in all of the swap areas on some devices. */
export interface SwapNumbers {
  /** Bytes of pages out there. */
  readonly usedBytes: number;
  /** Bytes in all. */
  readonly sizeBytes: number;
}

/** The line for people: `STATUS=` shows it in `systemctl status`. */
export function statusText(pool: PoolNumbers, swap: SwapNumbers): string {
  const { peersUp, peerCount, lentBytes, offeredBytes, borrowedBytes } = pool;
  const swapText =
    swap.sizeBytes === 0
      ? 'no swap'
      : `swap ${formatSize(swap.usedBytes)} of ${formatSize(swap.sizeBytes)}`;
  return (
    `peers ${peersUp} of ${peerCount} up, lent ${formatSize(lentBytes)} of ` +
    `${formatSize(offeredBytes)}, borrowed ${formatSize(borrowedBytes)}, ${swapText}`
  );
}

/** What `/proc/swaps` (proc(5)) says of some devices. */
export function swapNumbers(procSwaps: string, devices: readonly string[]): SwapNumbers {
  let usedBytes = 0;
  let sizeBytes = 0;
  for (const line of procSwaps.split('\n')) {
    const [device = '', , sizeKib, usedKib] = line.split(/\s+/);
    if (!devices.includes(device)) continue;
    sizeBytes += Number(sizeKib) * 1024;
    usedBytes += Number(usedKib) * 1024;
  }
  return { usedBytes, sizeBytes };
}

/**
 * The `sockaddr_un` of a notify socket: a path, or after `@` an abstract name.
 *
 * @returns undefined for what is neither (`vsock:` is for virtual machines) or too long
 */
export function notifyAddress(name: string): Buffer | undefined {
  if (!/^[/@]./s.test(name) || name.includes('\0')) return undefined;
  const isAbstract = name.startsWith('@');
  const path = Buffer.from(isAbstract ? `\0${name.slice(1)}` : `${name}\0`);
  if (path.length > SUN_PATH_SIZE_BYTES) return undefined;
  return Buffer.concat([Buffer.from(Uint16Array.of(AF_UNIX).buffer), path]);
}

/**
 * How often the watchdog wants to be fed.
 *
 * @param environment - `WATCHDOG_USEC` in microseconds; `WATCHDOG_PID`, when set, must be `pid`
 * @returns milliseconds; undefined when there is no watchdog for us
 */
export function watchdogFeedMs(
  environment: Readonly<Record<string, string | undefined>>,
  pid: number,
): number | undefined {
  const { WATCHDOG_USEC = '', WATCHDOG_PID = String(pid) } = environment;
  if (!/^[1-9]\d{0,15}$/.test(WATCHDOG_USEC) || WATCHDOG_PID !== String(pid)) return undefined;
  return Number(WATCHDOG_USEC) / 1000 / FEEDS_PER_TIMEOUT;
}

/** The way to the service manager. */
export class ServiceNotifier {
  readonly #address: Buffer | undefined;
  readonly #feedIntervalMs: number | undefined;
  readonly #logger: Logger;
  readonly #watchdogBytes = Buffer.from('WATCHDOG=1');
  #fd = -1;
  #nextFeedMs = 0;
  #nextStatusMs = 0;
  #status = '';
  #readingSwaps = false;
  #failed = false;

  /**
   * @param environment - `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID` are read and removed, so
   *   that programs which the daemon starts do not speak for it
   * @param pid - ours
   * @throws MemcloudError `ERR_NATIVE` when the process can have no socket
   */
  constructor(environment: NodeJS.ProcessEnv, pid: number, logger: Logger) {
    this.#logger = logger;
    this.#address = notifyAddress(environment['NOTIFY_SOCKET'] ?? '');
    this.#feedIntervalMs = watchdogFeedMs(environment, pid);
    for (const name of ['NOTIFY_SOCKET', 'WATCHDOG_USEC', 'WATCHDOG_PID']) {
      delete environment[name];
    }
    if (this.#address === undefined) return;
    this.#fd = socketCall(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0) as number;
    if (this.#fd < 0) throwErrno('socket(AF_UNIX)');
    // struct timeval: seconds, microseconds.
    const timeout = Buffer.from(BigInt64Array.of(BigInt(SEND_TIMEOUT_S), 0n).buffer);
    if (setsockoptCall(this.#fd, SOL_SOCKET, SO_SNDTIMEO, timeout, timeout.length) !== 0) {
      throwErrno('setsockopt(SO_SNDTIMEO)');
    }
  }

  /** The daemon takes peers and RPC: at its start, and again after a reload. */
  ready(): void {
    this.#send(Buffer.from('READY=1'), 0);
  }

  /** Another process of the service is its main one from now on, and speaks for it. */
  handedOver(successorPid: number): void {
    this.#send(Buffer.from(`MAINPID=${successorPid}`), 0);
    this.close();
  }

  /** The configuration is read anew; {@link ServiceNotifier.ready} ends it. */
  reloading(): void {
    const nowUs = process.hrtime.bigint() / 1000n;
    this.#send(Buffer.from(`RELOADING=1\nMONOTONIC_USEC=${nowUs}`), 0);
  }

  /** The daemon is on its way out. @param doing - what it does meanwhile, for people */
  stopping(doing = 'giving back what is borrowed'): void {
    this.#send(Buffer.from(`STOPPING=1\nSTATUS=${doing}`), 0);
    this.#nextStatusMs = Infinity;
  }

  /**
   * To be called from the loop that carries pages, at least a few times a second: feeds the watchdog
   * and renews the status line when they are due.
   *
   * @param nowMs - of the monotonic clock
   * @param pool - called every few seconds
   */
  onTick(nowMs: number, pool: () => PoolNumbers): void {
    if (this.#isStatusDue(nowMs)) void this.#renewStatus(pool());
  }

  /** As {@link ServiceNotifier.onTick}, for a daemon without a pool. @param text - one line */
  onTextTick(nowMs: number, text: () => string): void {
    if (this.#isStatusDue(nowMs)) this.#sendStatus(text());
  }

  /** Feeds the watchdog. @returns whether the status line is due, which counts as renewed then */
  #isStatusDue(nowMs: number): boolean {
    if (this.#fd < 0) return false;
    if (this.#feedIntervalMs !== undefined && nowMs >= this.#nextFeedMs) {
      // A manager that had no room is tried again on the next tick.
      if (this.#send(this.#watchdogBytes, MSG_DONTWAIT)) {
        this.#nextFeedMs = nowMs + this.#feedIntervalMs;
      }
    }
    if (nowMs < this.#nextStatusMs) return false;
    this.#nextStatusMs = nowMs + STATUS_INTERVAL_MS;
    return true;
  }

  /** Closes the socket. */
  close(): void {
    if (this.#fd >= 0) closeCall(this.#fd);
    this.#fd = -1;
  }

  /** Reads /proc/swaps off the loop: whoever holds its lock may be waiting for a page from us. */
  async #renewStatus(pool: PoolNumbers): Promise<void> {
    if (this.#readingSwaps) return;
    this.#readingSwaps = true;
    const procSwaps = await readFile('/proc/swaps', 'utf8').catch(() => '');
    this.#readingSwaps = false;
    this.#sendStatus(statusText(pool, swapNumbers(procSwaps, pool.devices)));
  }

  #sendStatus(status: string): void {
    if (status === this.#status || this.#nextStatusMs === Infinity) return;
    if (this.#send(Buffer.from(`STATUS=${status}`), MSG_DONTWAIT)) this.#status = status;
  }

  /** @returns whether the manager has it */
  #send(bytes: Buffer, flags: number): boolean {
    const address = this.#address;
    if (this.#fd < 0 || address === undefined) return false;
    const { length } = bytes;
    const { length: addressLength } = address;
    const all = flags | MSG_NOSIGNAL;
    const sent = Number(sendtoCall(this.#fd, bytes, length, all, address, addressLength));
    if (sent === length) return true;
    if (!this.#failed && flags === 0) {
      this.#failed = true;
      this.#logger.warn({ errno: koffi.errno() }, 'the service manager takes no notifications');
    }
    return false;
  }
}
