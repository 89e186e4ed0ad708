/**
 * The listening socket for peers. A stranger can open connections but not many: there are caps on
 * connections in all, on those that have not proved yet who they are, and on those of one address; one
 * too many is closed before a byte of it is read. Handshakes, which cost processor time, have a rate.
 */
import net from 'node:net';
import type { Clock } from '../common/clock.ts';
import { MemcloudError } from '../common/errors.ts';
import { formatPorts } from '../common/listen-range.ts';
import { listenerDescriptor } from '../common/listening-socket.ts';
import type { Logger } from '../common/log.ts';
import { hostOfAddress, plainAddress } from '../common/units.ts';
import {
  CONNECTION_COUNT_MAX,
  HANDSHAKE_BURST_MAX,
  HANDSHAKE_COUNT_MAX,
  HANDSHAKE_COUNT_PER_ADDRESS_MAX,
  HANDSHAKE_RATE_PER_S,
} from './constants.ts';

/** A bucket of permits that fills with time. Bounds the processor time of handshakes. */
export class HandshakeRate {
  readonly #clock: Clock;
  #permits = HANDSHAKE_BURST_MAX;
  #filledAtMs: number;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#filledAtMs = clock.nowMs();
  }

  /** Takes a permit, if there is one. */
  take(): boolean {
    const nowMs = this.#clock.nowMs();
    const gained = ((nowMs - this.#filledAtMs) / 1000) * HANDSHAKE_RATE_PER_S;
    this.#permits = Math.min(HANDSHAKE_BURST_MAX, this.#permits + gained);
    this.#filledAtMs = nowMs;
    if (this.#permits < 1) return false;
    this.#permits -= 1;
    return true;
  }
}

/** Connections now. */
export interface ConnectionCounts {
  /** In all. */
  readonly total: number;
  /** Those still in the handshake. */
  readonly handshakes: number;
  /** Of these, those that came to us, by remote address. */
  readonly byAddress: ReadonlyMap<string, number>;
}

/** Counts connections that are no sessions yet. */
export function countConnections(
  connections: Iterable<{ readonly address: string; readonly dialled: boolean }>,
  total: number,
): ConnectionCounts {
  const byAddress = new Map<string, number>();
  let handshakes = 0;
  for (const { address, dialled } of connections) {
    handshakes += 1;
    const host = hostOfAddress(address);
    if (!dialled) byAddress.set(host, (byAddress.get(host) ?? 0) + 1);
  }
  return { total, handshakes, byAddress };
}

/** What a listener needs of its owner. */
export interface ListenerOptions {
  /** Takes a socket that is within the caps; it is paused. */
  readonly onSocket: (socket: net.Socket) => void;
  /** Connections now: in all, and those still in the handshake, by remote address. */
  readonly counts: () => ConnectionCounts;
  /** Where refusals are noted. */
  readonly logger: Logger;
}

/** Where to listen. */
export interface ListenTarget {
  /** The address; empty for all. */
  readonly host: string;
  /** The port; 0 for any free one. */
  readonly port: number;
  /** The last one to try when it is taken; default: `port` itself. */
  readonly lastPort?: number | undefined;
}

/** A listening socket. */
export class Listener {
  readonly #server: net.Server;
  readonly #options: ListenerOptions;
  /** Connections that were closed unread for want of room. */
  refusedCount = 0;

  private constructor(options: ListenerOptions) {
    this.#options = options;
    this.#server = net.createServer({ pauseOnConnect: true, noDelay: true });
    this.#server.on('connection', (socket) => this.#onSocket(socket));
  }

  /**
   * Listens.
   *
   * @param target - port 0 for any free one; with `lastPort` the first one up to it that nobody has
   * @param inheritedFd - the listening socket of another process, ours from now on, instead
   * @throws MemcloudError `ERR_USAGE_ADDRESS` when the address cannot be listened on
   */
  static async open(
    target: ListenTarget,
    options: ListenerOptions,
    inheritedFd?: number,
  ): Promise<Listener> {
    const { host, port: firstPort, lastPort = firstPort } = target;
    for (let port = firstPort; ; port += 1) {
      const listener = new Listener(options);
      try {
        await listener.#listen(inheritedFd === undefined ? { host, port } : { fd: inheritedFd });
        return listener;
      } catch (cause) {
        const { code, message } = cause as NodeJS.ErrnoException;
        if (code === 'EADDRINUSE' && port < lastPort) {
          options.logger.info({ port }, 'somebody else listens on this port; the next is tried');
          continue;
        }
        const where = `${host}:${formatPorts({ port: firstPort, lastPort: port })}`;
        throw new MemcloudError('ERR_USAGE_ADDRESS', `cannot listen on ${where}: ${message}`, {
          cause,
        });
      }
    }
  }

  #listen(where: { host: string; port: number } | { fd: number }): Promise<void> {
    const server = this.#server;
    return new Promise((resolve, reject) => {
      server.once('error', reject);
      const place = 'fd' in where || where.host !== '' ? where : { port: where.port };
      server.listen(place, () => {
        server.off('error', reject);
        server.on('error', (error) => {
          this.#options.logger.warn({ error: error.message }, 'the peer listener had an error');
        });
        resolve();
      });
    });
  }

  /** Where it listens. */
  get address(): { host: string; port: number } {
    const address = this.#server.address();
    if (address === null || typeof address === 'string') return { host: '', port: 0 };
    return { host: address.address, port: address.port };
  }

  /** The descriptor of the listening socket, for another process; still ours. */
  get descriptor(): number {
    return listenerDescriptor(this.#server);
  }

  /** Stops listening; connections go on. */
  close(): Promise<void> {
    return new Promise((resolve) => this.#server.close(() => resolve()));
  }

  #onSocket(socket: net.Socket): void {
    const { total, handshakes, byAddress } = this.#options.counts();
    const host = plainAddress(socket.remoteAddress ?? '');
    if (
      total >= CONNECTION_COUNT_MAX ||
      handshakes >= HANDSHAKE_COUNT_MAX ||
      (byAddress.get(host) ?? 0) >= HANDSHAKE_COUNT_PER_ADDRESS_MAX
    ) {
      this.refusedCount += 1;
      socket.destroy();
      return;
    }
    this.#options.onSocket(socket);
  }
}
