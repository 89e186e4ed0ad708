/**
 * A link of TCP that can be slow or silent: a proxy that hands bytes on after a while, or keeps them.
 * A stalled link loses nothing and ends nothing; what came meanwhile follows when it goes on, as it
 * would over a cable that was pulled for a moment. (It cannot lose packets: see Network.loss.)
 */
import net from 'node:net';
import type { Test } from 'tap';

interface Parcel {
  readonly atMs: number;
  readonly bytes: Buffer;
}

/** One direction of one connection. */
class Pipe {
  readonly #proxy: TcpProxy;
  readonly #to: net.Socket;
  readonly #parcels: Parcel[] = [];

  constructor(proxy: TcpProxy, from: net.Socket, to: net.Socket) {
    this.#proxy = proxy;
    this.#to = to;
    from.on('data', (bytes) => this.#parcels.push({ atMs: performance.now(), bytes }));
    from.on('close', () => to.destroy());
    from.on('error', () => undefined);
  }

  /** Hands on what is due. */
  pump(nowMs: number): void {
    if (this.#proxy.stalled) return;
    let parcel = this.#parcels[0];
    while (parcel !== undefined && nowMs - parcel.atMs >= this.#proxy.delayMs) {
      this.#to.write(parcel.bytes);
      this.#parcels.shift();
      parcel = this.#parcels[0];
    }
  }
}

/** The proxy. */
export class TcpProxy {
  /** Added to the way of each byte, in each direction, milliseconds. */
  delayMs = 0;
  /** While true nothing is handed on, in either direction. */
  stalled = false;
  /** `HOST:PORT` to dial instead of the target. */
  readonly address: string;
  /** Connections that were made through it, in all. */
  connectionCount = 0;
  readonly #sockets = new Set<net.Socket>();

  private constructor(server: net.Server) {
    this.address = `127.0.0.1:${(server.address() as net.AddressInfo).port}`;
  }

  /** Stands before `HOST:PORT`; goes with the test. */
  static async before(t: Test, target: string): Promise<TcpProxy> {
    const server = net.createServer({ noDelay: true });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const proxy = new TcpProxy(server);
    const sockets = proxy.#sockets;
    const pipes = new Set<Pipe>();
    const [host = '', port = ''] = target.split(':');
    server.on('connection', (near) => {
      proxy.connectionCount += 1;
      const far = net.connect({ host, port: Number(port), noDelay: true });
      const pair = [new Pipe(proxy, near, far), new Pipe(proxy, far, near)];
      for (const pipe of pair) pipes.add(pipe);
      for (const socket of [near, far]) sockets.add(socket);
      near.on('close', () => {
        for (const pipe of pair) pipes.delete(pipe);
        for (const socket of [near, far]) sockets.delete(socket);
      });
    });
    const timer = setInterval(() => {
      for (const pipe of pipes) pipe.pump(performance.now());
    }, 1);
    t.teardown(() => {
      clearInterval(timer);
      proxy.cut();
      server.close();
    });
    return proxy;
  }

  /** Ends every connection; what was on its way is lost. */
  cut(): void {
    for (const socket of this.#sockets) socket.destroy();
  }
}
