/**
 * A provider of direct exports without the peer session: a RamProvider, its DirectExports and the NBD
 * server, on one TCP port that takes data connections, and a second port that hands out tickets to
 * whoever asks with a nonce on a line (what a control session would do).
 */
import { once } from 'node:events';
import net from 'node:net';
import type { Test } from 'tap';
import { ByteStream, type ByteStreamHandler } from '../../common/byte-stream.ts';
import { monotonicClock, type Clock } from '../../common/clock.ts';
import { silentLogger } from '../../common/log.ts';
import type { NativeBuffer } from '../../common/native-memory.ts';
import type { NbdStream } from '../../common/nbd-stream.ts';
import type { DirectAccess } from '../../common/ports.ts';
import type { PlainPolicy } from '../../direct/export-connections.ts';
import { DIRECT_TICK_MS, DirectExports } from '../../direct/exports.ts';
import { NbdServer } from '../../nbd-server/server.ts';
import { RamProvider } from '../../provider/service.ts';
import { tmpfsBase } from './tmpfs.ts';

/** The one holder of these tests. */
export const HOLDER = 'ab'.repeat(16);

const PREFACE_SIZE = 24;
const STREAM_OPTIONS = { inputSizeBytes: 2 ** 21, outputChunkSizeBytes: 2 ** 20 };

/** A running provider. */
export interface DirectHost {
  provider: RamProvider;
  exports: DirectExports;
  access: DirectAccess;
  server: NbdServer;
  /** TCP port of data connections on 127.0.0.1. */
  port: number;
  /** What the NBD server was given, oldest first. */
  streams: NbdStream[];
  /** Data connections whose preface was refused. */
  refusedCount(): number;
}

/** Starts one for the test `t`. */
export async function startDirectHost(
  t: Test,
  options: { offeredBytes?: number; clock?: Clock; plain?: PlainPolicy } = {},
): Promise<DirectHost> {
  const clock = options.clock ?? monotonicClock;
  const provider = RamProvider.open({
    offeredBytes: options.offeredBytes ?? 2 ** 30,
    directory: tmpfsBase(t),
    noswap: 'off',
    reserveBytes: 0,
  });
  const server = new NbdServer({ logger: silentLogger });
  let port = 0;
  let refused = 0;
  const streams: NbdStream[] = [];
  const exports = new DirectExports({
    provider,
    clock,
    serve: (stream, device) => {
      streams.push(stream);
      server.acceptStream(stream, device);
    },
    port: () => port,
    ...(options.plain === undefined ? {} : { plain: options.plain }),
    logger: silentLogger,
  });
  const listener = net.createServer({ pauseOnConnect: true }, (socket) => {
    const waiter = new PrefaceWaiter((stream, ticketId) => {
      const handler = exports.takeConnection(stream, ticketId);
      if (handler === undefined) refused += 1;
      return handler;
    });
    waiter.stream = ByteStream.adopt(socket, STREAM_OPTIONS, waiter);
  });
  listener.listen(0, '127.0.0.1');
  await once(listener, 'listening');
  port = (listener.address() as net.AddressInfo).port;
  const timer = setInterval(() => exports.tick(), DIRECT_TICK_MS);
  t.teardown(async () => {
    clearInterval(timer);
    listener.close();
    exports.close();
    await server.close(500);
    provider.close();
  });
  const access = exports.openDirect(HOLDER);
  return { provider, exports, access, server, port, streams, refusedCount: () => refused };
}

/** Hands out tickets of one export on a TCP port of the loopback; returns the port. */
export async function serveTickets(t: Test, host: DirectHost, exportId: string): Promise<number> {
  const listener = net.createServer((socket) => {
    socket.on('error', () => undefined);
    socket.once('data', (line) => {
      const ticket = host.access.ticket(exportId, line.toString().trim());
      socket.end(`${JSON.stringify(ticket)}\n`);
    });
  });
  listener.listen(0, '127.0.0.1');
  await once(listener, 'listening');
  t.teardown(() => listener.close());
  return (listener.address() as net.AddressInfo).port;
}

/** What peer/ does with a data connection: reads the preface, hands the rest over. */
class PrefaceWaiter implements ByteStreamHandler {
  stream: ByteStream | undefined;
  readonly #take: (stream: ByteStream, ticketId: string) => ByteStreamHandler | undefined;

  constructor(take: (stream: ByteStream, ticketId: string) => ByteStreamHandler | undefined) {
    this.#take = take;
  }

  onBytes(input: NativeBuffer, start: number, end: number): number {
    if (end - start < PREFACE_SIZE || this.stream === undefined) return start;
    const preface = input.bytes.subarray(start, start + PREFACE_SIZE);
    const magic = preface.toString('latin1', 0, 8);
    const ticketId = preface.toString('hex', 8);
    const handler = magic === 'MCDIRECT' ? this.#take(this.stream, ticketId) : undefined;
    if (handler === undefined) this.stream.destroy();
    else this.stream.setHandler(handler);
    return start + PREFACE_SIZE;
  }

  onDrain(): void {
    return undefined;
  }

  onClosed(): void {
    return undefined;
  }
}
