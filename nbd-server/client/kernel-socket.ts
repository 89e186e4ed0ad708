/**
 * Sockets for the kernel: connected and negotiated here with raw system calls, then handed over by
 * number. A Node socket would not do: it reads ahead, and a byte that it read belongs to the kernel.
 * Here each recv asks for exactly the bytes that the negotiation wants next, so the kernel's first
 * read gets the first byte of the transmission phase.
 *
 * The calls never block: the sockets are non-blocking and the wait is a poll of the event loop, so
 * that a server in this very process can answer.
 */
import dns from 'node:dns/promises';
import koffi from 'koffi';
import { errnoName, throwErrno, trySetSocketOption } from '../../common/libc.ts';
import { MemcloudError } from '../../common/errors.ts';
import { bindToInterface } from '../../common/wireguard.ts';
import { NBD_HANDSHAKE_TIMEOUT_MS } from '../constants.ts';
import { protocolError } from './codec.ts';
import type { NbdAddress } from './handshake.ts';
import { ClientNegotiation, type NegotiatedExport } from './negotiation.ts';
import { encodeSocketAddress } from './socket-address.ts';

const libc = koffi.load(null);
const socketCall = libc.func('int socket(int domain, int type, int protocol)');
const connectCall = libc.func('int connect(int fd, void *address, uint32_t length)');
const sendCall = libc.func('intptr_t send(int fd, void *bytes, size_t length, int flags)');
const recvCall = libc.func('intptr_t recv(int fd, void *bytes, size_t length, int flags)');
const closeCall = libc.func('int close(int fd)');

/** Linux `socket.h`, `in.h`, `tcp.h` (x86-64 and arm64). */
const SOCK_STREAM = 1;
const SOCK_NONBLOCK = 0x800;
const SOCK_CLOEXEC = 0x80000;
const SOL_SOCKET = 1;
const SO_KEEPALIVE = 9;
const IPPROTO_TCP = 6;
const TCP_NODELAY = 1;
const MSG_NOSIGNAL = 0x4000;

const { EAGAIN, EINPROGRESS, EALREADY, EISCONN, EINTR } = koffi.os.errno;

/** Looks at a socket before the wait between two looks becomes a sleep. */
const EAGER_LOOK_COUNT = 50;
const LOOK_INTERVAL_MS = 2;

/** How to reach an export over a socket for the kernel. */
export interface KernelSocketOptions {
  /** The export. */
  readonly exportName: string;
  /** Time for connecting and negotiating: milliseconds. */
  readonly timeoutMs?: number;
  /**
   * Run on the connected socket before the first byte of NBD, for what lies below it (kernel TLS). What
   * it throws, {@link KernelSocket.connect} throws. The descriptor stays the socket's.
   */
  readonly prepare?: (fd: number) => void;
  /** The only network interface that the socket may use, from before the connect on. */
  readonly bindTo?: string;
}

/** A negotiated socket; whoever has it must {@link KernelSocket.close} it, also after handing it over. */
export class KernelSocket {
  /** The file descriptor. */
  readonly fd: number;
  /** What was negotiated on it. */
  readonly export: NegotiatedExport;
  #open = true;

  private constructor(fd: number, negotiated: NegotiatedExport) {
    this.fd = fd;
    this.export = negotiated;
  }

  /**
   * Connects and negotiates for the kernel: simple replies, GO.
   *
   * @throws MemcloudError `ERR_NBD_CLOSED`, `ERR_TIMEOUT`, `ERR_NBD_PROTOCOL`, `ERR_NBD_OPTION`,
   *   `ERR_NBD_EXPORT_UNKNOWN`, `ERR_NATIVE`, and what `prepare` throws
   */
  static async connect(address: NbdAddress, options: KernelSocketOptions): Promise<KernelSocket> {
    const timeoutMs = options.timeoutMs ?? NBD_HANDSHAKE_TIMEOUT_MS;
    const deadlineMs = performance.now() + timeoutMs;
    const { family, bytes } = encodeSocketAddress(await resolved(address));
    const fd = socketCall(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0) as number;
    if (fd < 0) throwErrno('socket');
    try {
      if (options.bindTo !== undefined) bindToInterface(fd, options.bindTo);
      await connectSocket(fd, bytes, deadlineMs);
      if (!('path' in address)) {
        setOption(fd, IPPROTO_TCP, TCP_NODELAY);
        setOption(fd, SOL_SOCKET, SO_KEEPALIVE);
      }
      options.prepare?.(fd);
      const negotiated = await negotiateSocket(fd, options.exportName, deadlineMs);
      return new KernelSocket(fd, negotiated);
    } catch (error) {
      closeCall(fd);
      throw error;
    }
  }

  /**
   * Negotiates on a connected, non-blocking stream socket that somebody else made (kTLS, for
   * example), from the greeting on. The descriptor is ours from now on, also when this fails.
   *
   * @throws MemcloudError as {@link KernelSocket.connect}
   */
  static async adopt(
    fd: number,
    options: { exportName: string; timeoutMs?: number },
  ): Promise<KernelSocket> {
    const deadlineMs = performance.now() + (options.timeoutMs ?? NBD_HANDSHAKE_TIMEOUT_MS);
    try {
      return new KernelSocket(fd, await negotiateSocket(fd, options.exportName, deadlineMs));
    } catch (error) {
      closeCall(fd);
      throw error;
    }
  }

  /** Closes our descriptor; a socket that the kernel took lives on. */
  close(): void {
    if (!this.#open) return;
    this.#open = false;
    closeCall(this.fd);
  }
}

async function resolved(address: NbdAddress): Promise<NbdAddress> {
  if ('path' in address) return address;
  try {
    const { address: host } = await dns.lookup(address.host);
    return { host, port: address.port };
  } catch (error) {
    throw new MemcloudError('ERR_NBD_CLOSED', `no address is known for ${address.host}`, {
      cause: error,
    });
  }
}

async function connectSocket(fd: number, address: Buffer, deadlineMs: number): Promise<void> {
  await eventually(deadlineMs, 'connect', () => {
    if (connectCall(fd, address, address.length) === 0) return true;
    const errno = koffi.errno();
    if (errno === EISCONN) return true;
    // EAGAIN is how a Unix socket says that the server's queue is full.
    if (errno === EINPROGRESS || errno === EALREADY || errno === EAGAIN || errno === EINTR) {
      return undefined;
    }
    throw connectionError('connect', errno);
  });
}

async function negotiateSocket(
  fd: number,
  exportName: string,
  deadlineMs: number,
): Promise<NegotiatedExport> {
  const negotiation = new ClientNegotiation({
    goal: 'go',
    exportName,
    headerStyle: 'simple',
    allocationContext: false,
  });
  for (;;) {
    const bytes = await receiveExactly(fd, negotiation.wantedBytes, deadlineMs);
    const { send, outcome } = negotiation.receive(bytes);
    await sendAll(fd, send, deadlineMs);
    if (outcome?.goal === 'go') return outcome.export;
    if (outcome !== undefined) throw protocolError('GO ended otherwise');
  }
}

async function receiveExactly(fd: number, length: number, deadlineMs: number): Promise<Buffer> {
  const bytes = Buffer.alloc(length);
  let have = 0;
  while (have < length) {
    have += await eventually(deadlineMs, 'recv', () =>
      transfer('recv', recvCall(fd, bytes.subarray(have), length - have, 0) as number),
    );
  }
  return bytes;
}

async function sendAll(fd: number, bytes: Buffer, deadlineMs: number): Promise<void> {
  let sent = 0;
  while (sent < bytes.length) {
    sent += await eventually(deadlineMs, 'send', () =>
      transfer(
        'send',
        sendCall(fd, bytes.subarray(sent), bytes.length - sent, MSG_NOSIGNAL) as number,
      ),
    );
  }
}

/** The result of a send or recv: a count, undefined for "not yet", or an error. */
function transfer(call: string, result: number): number | undefined {
  if (result > 0) return result;
  const errno = result === 0 ? 0 : koffi.errno();
  if (errno === EAGAIN || errno === EINTR) return undefined;
  throw connectionError(call, errno);
}

function connectionError(call: string, errno: number): MemcloudError {
  const why =
    errno === 0 ? 'the NBD server hung up during the handshake' : `${call}: ${errnoName(errno)}`;
  return new MemcloudError('ERR_NBD_CLOSED', `no connection to the NBD server: ${why}`);
}

/** Tries until the attempt gives a value, with the event loop running between the tries. */
async function eventually<T>(
  deadlineMs: number,
  what: string,
  attempt: () => T | undefined,
): Promise<T> {
  for (let looks = 0; ; looks += 1) {
    const result = attempt();
    if (result !== undefined) return result;
    if (performance.now() > deadlineMs) {
      throw new MemcloudError('ERR_TIMEOUT', `the NBD server did not answer in time (${what})`);
    }
    await new Promise((resolve) => {
      if (looks < EAGER_LOOK_COUNT) setImmediate(resolve);
      else setTimeout(resolve, LOOK_INTERVAL_MS);
    });
  }
}

function setOption(fd: number, level: number, option: number): void {
  const value = Buffer.alloc(4);
  value.writeInt32LE(1);
  if (trySetSocketOption(fd, level, option, value) !== 0) throwErrno('setsockopt');
}
