/**
 * The data connections of one export: the one that counts, and those that named a ticket but have not
 * shown yet that they have its keys.
 *
 * Fence: the consumer asks for a new connection when the old one is dead to it, and its kernel then
 * sends again what was not answered. Were the old one still alive here, an old write could come after
 * a new one. So the old connection is destroyed, with all that lies unread in it, before the first
 * request of the new one is looked at. Not sooner: the id of a ticket travels in clear, and who only
 * saw it must not be able to cut anybody off. So it is the first record that verifies (or the proof of a
 * plain connection) that makes a connection the one that counts. Until then it is greeted and nothing
 * else; the NBD server gives that ten seconds.
 */
import type { ByteStream } from '../common/byte-stream.ts';
import type { Clock } from '../common/clock.ts';
import { MemcloudError } from '../common/errors.ts';
import type { Logger } from '../common/log.ts';
import type { NbdStream } from '../common/nbd-stream.ts';
import type { BlockDevice } from '../common/ports.ts';
import { bindToInterface } from '../common/wireguard.ts';
import type { ExportLife } from './export-life.ts';
import { watchConnection } from './keep-alive.ts';
import { deriveDirectKeys, derivePlainProof, wipeDirectKeys } from './keys.ts';
import { PlainStream } from './plain-stream.ts';
import { RecordStream } from './record-stream.ts';
import type { SlabDevice } from './slab-device.ts';
import type { Ticket } from './tickets.ts';

/** Which data connections without TLS a provider takes. */
export interface PlainPolicy {
  /** From anywhere: the operator said so. */
  readonly everywhere: boolean;
  /** True when there is any protected link, so that a connection over it may come. */
  readonly hasLink: () => boolean;
  /** The WireGuard interface through which packets to an IP address leave; undefined when it is another kind. */
  readonly linkTo: (host: string) => string | undefined;
}

/** What the connections of an export are made of. */
export interface ExportConnectionsParts {
  /** What they serve. */
  readonly device: SlabDevice;
  /** Told of begin and end. */
  readonly life: ExportLife;
  /** Time. */
  readonly clock: Clock;
  /** Serves NBD on a stream; the stream is then the server's. */
  readonly serve: (stream: NbdStream, device: BlockDevice) => void;
  /** Where plain ones may come from. */
  readonly plain: PlainPolicy;
  /** Told what the operator should know. */
  readonly logger: Logger;
}

type DataStream = RecordStream | PlainStream;

/** See the top of the file. */
export class ExportConnections {
  readonly #parts: ExportConnectionsParts;
  readonly #unproved = new Set<DataStream>();
  #current: DataStream | undefined;

  /** @param parts - what they are made of */
  constructor(parts: ExportConnectionsParts) {
    this.#parts = parts;
  }

  /**
   * Takes a connection over, behind its preface.
   *
   * @param ticket - the one that it named; its secret is zeroed
   * @returns the handler of what follows; undefined when it may not be: close it without a word
   */
  open(stream: ByteStream, ticketId: Buffer, ticket: Ticket): DataStream | undefined {
    const { logger, device, serve } = this.#parts;
    if (ticket.transport === 'plain' && !this.#mayBePlain(stream)) {
      ticket.secret.fill(0);
      return undefined;
    }
    const refused = watchConnection(stream.fd);
    if (refused !== undefined) {
      logger.warn({ errno: refused }, 'direct: a vanished consumer may go unnoticed');
    }
    const opened = this.#openStream(stream, ticketId, ticket);
    this.#unproved.add(opened);
    serve(opened, device);
    return opened;
  }

  /** Cuts every connection. */
  cut(why: string): void {
    const error = new MemcloudError('ERR_CANCELLED', why);
    const streams = [...this.#unproved, ...(this.#current === undefined ? [] : [this.#current])];
    this.#current = undefined;
    this.#unproved.clear();
    for (const stream of streams) stream.destroy(error);
  }

  /** Over WireGuard it may, and from then on nothing reaches the socket but through that tunnel. */
  #mayBePlain(stream: ByteStream): boolean {
    const { plain, logger } = this.#parts;
    const remote = stream.remoteHost;
    try {
      const link = plain.linkTo(remote);
      if (link !== undefined) {
        bindToInterface(stream.fd, link);
        return true;
      }
    } catch (error) {
      logger.warn({ remote, error: String(error) }, 'direct: not bound to the tunnel');
    }
    if (plain.everywhere) return true;
    logger.warn({ remote }, 'direct: a plain connection came from outside of WireGuard: closed');
    return false;
  }

  #openStream(stream: ByteStream, ticketId: Buffer, ticket: Ticket): DataStream {
    const { secret, consumerNonce, transport } = ticket;
    const material = { ticketId, secret, consumerNonce };
    const events = {
      below: stream,
      onProved: () => this.#onProved(opened),
      onEnded: () => this.#onEnded(opened),
    };
    let opened: DataStream;
    if (transport === 'plain') {
      opened = new PlainStream({ ...events, proof: derivePlainProof(material) });
    } else {
      const keys = deriveDirectKeys(material);
      opened = new RecordStream({ ...events, writeKeys: keys.provider, readKeys: keys.consumer });
      wipeDirectKeys(keys);
    }
    secret.fill(0);
    return opened;
  }

  #onProved(stream: DataStream): void {
    if (!this.#unproved.delete(stream)) return;
    const { device, life, logger } = this.#parts;
    const older = this.#current;
    this.#current = stream;
    device.fence();
    older?.destroy(new MemcloudError('ERR_CANCELLED', 'a newer connection took over'));
    life.connect();
    const plain = stream instanceof PlainStream;
    logger.info({ remote: stream.remoteAddress, plain }, 'direct: a data connection began');
  }

  #onEnded(stream: DataStream): void {
    if (this.#unproved.delete(stream)) return;
    if (this.#current !== stream) return;
    const { life, clock, logger } = this.#parts;
    this.#current = undefined;
    life.disconnect(clock.nowMs());
    logger.info({}, 'direct: the data connection ended');
  }
}
