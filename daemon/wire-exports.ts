/**
 * Block devices at the doors of the daemon: NBD servers on sockets, and devices of the kernel whose
 * sockets lead to such a server. Both can be held, written down, and gone on with in another process
 * (docs/adr/0009-handover.md): the sockets themselves go there, so that a client, the kernel among
 * them, sees neither an end nor a new beginning.
 */
import { MemcloudError } from '../common/errors.ts';
import type { EventLoopSpin } from '../common/event-loop-spin.ts';
import type { Logger } from '../common/log.ts';
import { checkSocketPath } from '../common/paths.ts';
import type { BlockDevice } from '../common/ports.ts';
import type { AttachmentInfo } from '../common/rpc-schema.ts';
import { formatAddress, parseAddress } from '../common/units.ts';
import {
  attachKernel,
  detachKernel,
  watchKernel,
  type AttachOptions,
  type KernelAttachment,
} from '../nbd-server/client/kernel/attach.ts';
import { deviceIndex, deviceUser } from '../nbd-server/client/kernel/devices.ts';
import { keepConnected } from '../nbd-server/client/kernel/keep-connected.ts';
import {
  attachByNbdClient,
  detachByNbdClient,
} from '../nbd-server/client/kernel/nbd-client-program.ts';
import { RPC_SOCKET_NAME, inheritedSockets } from '../nbd-server/inherited-sockets.ts';
import { NbdServer, type ListenTarget } from '../nbd-server/server.ts';
import { tlsFromCertificates, tlsFromKeys, type ServerTls } from '../nbd-server/tls.ts';
import { AttachedDevices } from './attached-devices.ts';
import type { Inheritance, Luggage } from './handover/belongings.ts';
import type { AttachmentRecord, ServiceRecord } from './handover/manifest.ts';
import type {
  AttachRequest,
  Attachment,
  ExportService,
  ExportTls,
  ServeRequest,
} from './volumes.ts';

/**
 * The kernel keeps the requests of a device so long when every connection is dead. A connection that
 * dies under a living daemon is replaced within a second; a daemon that died has left nothing.
 */
const DEAD_CONNECTION_TIMEOUT_S = 30;

/** What servers are made of. */
export interface ExportsParts {
  /** Told what the operator should know. */
  readonly logger: Logger;
  /** Kept awake by requests. */
  readonly spin: EventLoopSpin;
  /** The RPC socket: those of kernel devices lie beside it. */
  readonly socketPath: string;
}

function serverTls(tls: ExportTls): ServerTls {
  const { policy, certificates, keys, verifyPeer } = tls;
  if (certificates !== undefined) return tlsFromCertificates(policy, certificates, verifyPeer);
  return tlsFromKeys(policy, keys ?? '');
}

function targetOf({ address }: ServeRequest): ListenTarget {
  if ('fd' in address) return address;
  if ('unixPath' in address) return { path: address.unixPath };
  return parseAddress(address.tcpAddress);
}

function uriOf({ address, tls }: ServeRequest, device: BlockDevice, bound: ListenTarget): string {
  const scheme = tls?.policy === 'require' ? 'nbds' : 'nbd';
  if ('fd' in address) return `${scheme}://inherited/${device.name}`;
  if ('unixPath' in address) {
    return `${scheme}+unix:///${device.name}?socket=${address.unixPath}`;
  }
  const { host, port } = 'port' in bound ? bound : { host: '', port: 0 };
  return `${scheme}://${formatAddress(host, port)}/${device.name}`;
}

/** A server of one device. */
class NbdExport implements ExportService {
  readonly uri: string;
  readonly #server: NbdServer;
  readonly #request: ServeRequest;

  constructor(server: NbdServer, request: ServeRequest, uri: string) {
    this.#server = server;
    this.#request = request;
    this.uri = uri;
  }

  get held(): boolean {
    return this.#server.held;
  }

  get boundCount(): number {
    return this.#server.boundCount;
  }

  hold(): void {
    this.#server.hold();
  }

  goOn(): void {
    this.#server.goOn();
  }

  record(luggage: Luggage): ServiceRecord {
    const { address, readOnly, tls } = this.#request;
    const { listeners, connections, waiting } = this.#server.state();
    return {
      address,
      readOnly,
      ...(tls === undefined ? {} : { tls }),
      uri: this.uri,
      listeners: listeners.map((fd) => luggage.add(fd)),
      connections: connections.map(({ fd, unread, ...terms }) => ({
        ...terms,
        socket: luggage.add(fd),
        unreadAt: luggage.addUnread(unread),
        unreadLength: unread.length,
      })),
      waiting: waiting.map((fd) => luggage.add(fd)),
    };
  }

  abandon(): void {
    this.#server.abandon();
  }

  close(): Promise<void> {
    return this.#server.close();
  }
}

/** A device of the kernel. */
class KernelDevice implements Attachment {
  readonly info: AttachmentInfo;
  readonly service: ExportService;
  readonly #attached: AttachedDevices;
  readonly #options: AttachOptions;
  readonly #kernel: KernelAttachment | undefined;
  readonly #stop: () => void;

  /** @param kernel - to watch and mend it; undefined for a device of the nbd-client program */
  constructor(
    parts: {
      info: AttachmentInfo;
      service: ExportService;
      options: AttachOptions;
      logger: Logger;
      attached: AttachedDevices;
    },
    kernel: KernelAttachment | undefined,
  ) {
    const { info, service, options, logger } = parts;
    this.#attached = parts.attached;
    this.info = info;
    this.service = service;
    this.#options = options;
    this.#kernel = kernel;
    const { device } = info;
    this.#stop =
      kernel === undefined
        ? () => undefined
        : keepConnected(kernel, (event) => {
            logger.warn({ device, event: event.type }, 'the connection to the kernel changed');
          });
  }

  record(luggage: Luggage): AttachmentRecord {
    const { device, connections, via } = this.info;
    const service = this.service.record(luggage);
    const timeoutS = this.#options.timeoutS ?? 0;
    return { device, connections, via: via as AttachmentRecord['via'], timeoutS, service };
  }

  abandon(): void {
    this.#stop();
    this.#kernel?.close();
  }

  async detach(): Promise<void> {
    this.#stop();
    this.#attached.remove(this.info.device);
    if (this.#kernel !== undefined) await this.#kernel.detach();
    else if (this.info.via === 'netlink') await detachKernel(this.info.device);
    else await detachByNbdClient(this.info.device);
    await this.service.close();
  }
}

/** Makes servers and devices, and goes on with those of another process. */
export class Exports {
  /** Kernel devices made so far, also by former processes: names their sockets. */
  attachCount = 0;
  readonly #parts: ExportsParts;
  readonly #attached: AttachedDevices;

  /** @param parts - what servers are made of */
  constructor(parts: ExportsParts) {
    this.#parts = parts;
    this.#attached = new AttachedDevices(`${parts.socketPath}.attached.json`);
  }

  /**
   * Ends the devices of a memnode that was killed: its volumes are gone, and whoever waits for their
   * pages gets an error. In the background; the kernel may take its time.
   */
  endOrphans(): void {
    const { logger } = this.#parts;
    for (const { device, user } of this.#attached.load()) {
      this.#attached.remove(device);
      if (deviceUser(deviceIndex(device)) !== user) continue;
      logger.error({ device }, 'a memnode that was killed left this device; its pages are gone');
      detachKernel(device).catch((error: unknown) => {
        logger.error({ device, err: String(error) }, 'the device could not be ended');
      });
    }
  }

  #noteAttached(device: string): void {
    const user = deviceUser(deviceIndex(device));
    if (user !== undefined) this.#attached.add({ device, user });
  }

  /** Exports a device. Errors as {@link NbdServer.listen} and of the TLS files. */
  async serve(device: BlockDevice, request: ServeRequest): Promise<ExportService> {
    const server = this.#server(device, request);
    const bound = await server.listen(targetOf(request));
    return new NbdExport(server, request, uriOf(request, device, bound));
  }

  /** Attaches a device to the kernel. Errors as {@link attachKernel}. */
  async attach(device: BlockDevice, request: AttachRequest): Promise<Attachment> {
    const { via, connections } = request;
    this.attachCount += 1;
    const path = checkSocketPath(`${this.#parts.socketPath}.attach-${this.attachCount}`);
    const service = await this.serve(device, { address: { unixPath: path }, readOnly: false });
    const options = attachOptions(device, path, request);
    try {
      const kernel = await (via === 'netlink' ? attachKernel(options) : attachByNbdClient(options));
      const info = { device: kernel.device, volume: device.name, connections, via };
      const { logger } = this.#parts;
      logger.info({ volume: device.name, device: kernel.device, via }, 'attached');
      this.#noteAttached(kernel.device);
      const attached = this.#attached;
      const attachment = 'reconnect' in kernel ? kernel : undefined;
      return new KernelDevice({ info, service, options, logger, attached }, attachment);
    } catch (error) {
      await service.close();
      throw error;
    }
  }

  /**
   * Goes on with a server of another process: listens on its sockets and serves its clients.
   *
   * @param from - the open files, and what clients had sent and nobody had handled; copied
   */
  async resumeService(
    device: BlockDevice,
    record: ServiceRecord,
    from: { inheritance: Inheritance; unread: Uint8Array },
  ): Promise<ExportService> {
    const { address, readOnly, tls, uri } = record;
    const { inheritance, unread } = from;
    const request: ServeRequest = { address, readOnly, ...(tls === undefined ? {} : { tls }) };
    const server = this.#server(device, request);
    // Clients first: they wait, and whoever comes now waits in the queue of the socket.
    for (const { socket, unreadAt, unreadLength, ...terms } of record.connections) {
      const left = unread.subarray(unreadAt, unreadAt + unreadLength);
      server.resume({ ...terms, fd: inheritance.take(socket), unread: left });
    }
    for (const place of record.waiting) server.acceptDescriptor(inheritance.take(place));
    for (const place of record.listeners) {
      await server.listen(targetOf(request), inheritance.take(place));
    }
    return new NbdExport(server, request, uri);
  }

  /** Goes on with a kernel device of another process: serves its sockets, watches it, mends it. */
  async resumeAttachment(
    device: BlockDevice,
    record: AttachmentRecord,
    from: { inheritance: Inheritance; unread: Uint8Array },
  ): Promise<Attachment> {
    const { connections, via, timeoutS } = record;
    const service = await this.resumeService(device, record.service, from);
    const { address } = record.service;
    const path = 'unixPath' in address ? address.unixPath : '';
    const request = { device: record.device, connections, via, timeoutS };
    const options = { ...attachOptions(device, path, request), device: record.device };
    const { logger } = this.#parts;
    const info = { device: record.device, volume: device.name, connections, via };
    // Its sockets are alive: without a watch it works all the same until one of them dies.
    const kernel = via === 'netlink' ? await this.#watch(options) : undefined;
    this.#noteAttached(record.device);
    return new KernelDevice({ info, service, options, logger, attached: this.#attached }, kernel);
  }

  async #watch(options: AttachOptions & { device: string }): Promise<KernelAttachment | undefined> {
    try {
      return await watchKernel(options);
    } catch (error) {
      const { device } = options;
      this.#parts.logger.error({ device, err: String(error) }, 'the device cannot be watched');
      return undefined;
    }
  }

  #server(device: BlockDevice, { readOnly, tls }: ServeRequest): NbdServer {
    const server = new NbdServer({
      logger: this.#parts.logger,
      spin: this.#parts.spin,
      ...(tls === undefined ? {} : { tls: serverTls(tls) }),
    });
    server.addExport(device, { readOnly });
    return server;
  }
}

function attachOptions(
  device: BlockDevice,
  path: string,
  { connections, timeoutS, device: wanted }: AttachRequest,
): AttachOptions & { readonly address: { readonly path: string } } {
  return {
    address: { path },
    exportName: device.name,
    connections,
    timeoutS,
    deadConnectionTimeoutS: DEAD_CONNECTION_TIMEOUT_S,
    ...(wanted === undefined ? {} : { device: wanted }),
  };
}

/** The RPC socket that the service manager opened (systemd/memcloud.socket), if it did. */
export function activatedSocket(): { fd: number; keepFile: boolean } | undefined {
  const [fd] = inheritedSockets(process.env, process.pid, (name) => name === RPC_SOCKET_NAME);
  return fd === undefined ? undefined : { fd, keepFile: true };
}

/** The socket for `--export`. @throws MemcloudError `ERR_USAGE` when none was passed */
export function passedSocket(): number {
  const [fd] = inheritedSockets(process.env, process.pid, (name) => name !== RPC_SOCKET_NAME);
  if (fd !== undefined) return fd;
  throw new MemcloudError('ERR_USAGE', '--export: no socket was passed (LISTEN_FDS is not set)');
}
