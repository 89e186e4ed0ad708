/**
 * The listening socket for peers. A stranger can open connections but not many: there are caps on
 * connections in all, on those that have not proved yet who they are, and on those of one address; one
 * too many is closed before a byte of it is read. Handshakes, which cost processor time, have a rate.
 */
import net from 'node:net';
import type { Clock } from '../common/clock.ts';
import { MemcloudError } from '../common/errors.ts';
import { listenerDescriptor } from '../common/listening-socket.ts';
import type { Logger } from '../common/log.ts';
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

/** What a listener needs of its owner. */
export interface ListenerOptions {
  /** Takes a socket that is within the caps; it is paused. */
  readonly onSocket: (socket: net.Socket) => void;
  /** Connections now: in all, and those still in the handshake, by remote address. */
  readonly counts: () => { total: number; handshakes: number; byAddress: Map<string, number> };
  /** Where refusals are noted. */
  readonly logger: Logger;
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
   * @param target - port 0 for any free one
   * @param inheritedFd - the listening socket of another process, ours from now on, instead
   * @throws MemcloudError `ERR_USAGE_ADDRESS` when the address cannot be listened on
   */
  static async open(
    target: { host: string; port: number },
    options: ListenerOptions,
    inheritedFd?: number,
  ): Promise<Listener> {
    const listener = new Listener(options);
    const server = listener.#server;
    await new Promise<void>((resolve, reject) => {
      const onError = (cause: Error): void => {
        reject(
          new MemcloudError(
            'ERR_USAGE_ADDRESS',
            `cannot listen on ${target.host}:${target.port}: ${cause.message}`,
            { cause },
          ),
        );
      };
      server.once('error', onError);
      const host = target.host === '' ? {} : { host: target.host };
      const where =
        inheritedFd === undefined ? { ...host, port: target.port } : { fd: inheritedFd };
      server.listen(where, () => {
        server.off('error', onError);
        server.on('error', (error) => {
          options.logger.warn({ error: error.message }, 'the peer listener had an error');
        });
        resolve();
      });
    });
    return listener;
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
    const host = socket.remoteAddress ?? '';
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
