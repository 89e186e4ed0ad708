/**
 * One link on which we announce ourselves and ask for others: a socket of its own, and an instance of the
 * library on it. The library makes, sends and takes apart packets; what it would do beyond that is held
 * back here: it announces the addresses of every interface everywhere, answers as often as it is asked,
 * and decodes whatever comes as fast as it comes.
 *
 * Life and death are told by answers: about every second somebody on the link asks, all that are there
 * answer to all, and whoever has not answered three times is gone.
 */
import dgram from 'node:dgram';
import type { EventEmitter } from 'node:events';
import { Bonjour } from 'bonjour-service';
import type { Clock } from '../../common/clock.ts';
import { trySetSocketOption } from '../../common/libc.ts';
import type { NodeId } from '../../common/ports.ts';
import { everyTick, type Tick } from '../../common/ticker.ts';
import {
  asksForNodes,
  instanceName,
  readAdverts,
  recordsForLink,
  txtFields,
  type Advert,
  type DnsPacket,
  type DnsRecord,
} from './advert-codec.ts';
import {
  ANSWER_GAP_MS,
  DISCOVERY_TICK_MS,
  MDNS_GROUP_V4,
  MDNS_GROUP_V6,
  PACKET_RATE_PER_S,
  QUERY_INTERVAL_MS,
  QUERY_JITTER_MS,
  SERVICE_DOMAIN,
  SERVICE_TYPE,
} from './constants.ts';
import type { Link } from './links.ts';
import { Permits } from './permits.ts';

/** What a node says of itself now. */
export interface OwnAdvert {
  readonly nodeId: NodeId;
  /** What people call it. */
  readonly name: string;
  /** Where it takes peers. */
  readonly port: number;
  /** Bytes that it could lend. */
  readonly freeBytes: () => number;
}

/** What a link needs and tells. */
export interface MdnsLinkOptions {
  readonly own: OwnAdvert;
  readonly clock: Clock;
  /** From 0 up to 1, for the jitter of queries. */
  readonly random: () => number;
  /** A node was heard, at the address that the packet came from. */
  readonly onAdvert: (advert: Advert, host: string, link: Link) => void;
  /** A node says goodbye. */
  readonly onGoodbye: (nodeId: NodeId, host: string) => void;
  /** mDNS does not work here; called once, and the link is to be closed. */
  readonly onFailed: (error: Error, link: Link) => void;
}

/** Linux `in.h`, `in6.h`: only packets of groups that this very socket joined, on its own interface. */
const ONLY_OWN_GROUPS = {
  IPv4: { level: 0, option: 49 },
  IPv6: { level: 41, option: 29 },
} as const;
/** A goodbye that cannot leave is not waited for longer, milliseconds. */
const CLOSE_TIMEOUT_MS = 300;

type Answer =
  readonly DnsRecord[] | { answers: readonly DnsRecord[]; additionals?: readonly DnsRecord[] };

/** The part of multicast-dns, below the library, that is used here. */
interface Packets extends EventEmitter {
  respond: (answer: Answer, to?: unknown, done?: unknown) => void;
  query: (name: string, type: string) => void;
}

/** Where the library keeps it. */
interface WithPackets {
  readonly server: { readonly mdns: Packets };
}

/** Drops packets beyond the rate before anybody decodes them. */
function limitPackets(socket: dgram.Socket, clock: Clock): void {
  const permits = new Permits(PACKET_RATE_PER_S, 1000 / PACKET_RATE_PER_S, clock.nowMs());
  const emit = socket.emit.bind(socket);
  socket.emit = (event: string | symbol, ...values: unknown[]): boolean =>
    event === 'message' && !permits.take(clock.nowMs())
      ? false
      : (emit as (event: string | symbol, ...values: unknown[]) => boolean)(event, ...values);
}

function listenToOwnGroups(socket: dgram.Socket, family: 'IPv4' | 'IPv6'): void {
  const { level, option } = ONLY_OWN_GROUPS[family];
  // Without it packets of other links are heard too, which `covers` drops.
  const fd = descriptorOf(socket);
  if (fd >= 0) trySetSocketOption(fd, level, option, Buffer.alloc(4));
}

/** The descriptor, or -1: node keeps it in a state of its own, and warns of the name `_handle`. */
function descriptorOf(socket: dgram.Socket): number {
  const values = Object.getOwnPropertySymbols(socket).map(
    (key) => (socket as unknown as Record<symbol, unknown>)[key],
  );
  for (const value of values) {
    const { handle } = (value ?? {}) as { handle?: { readonly fd?: unknown } | null };
    if (typeof handle?.fd === 'number') return handle.fd;
  }
  return -1;
}

/** See the top of the file. */
export class MdnsLink {
  readonly link: Link;
  readonly #options: MdnsLinkOptions;
  readonly #bonjour: Bonjour;
  readonly #packets: Packets;
  readonly #timer: Tick;
  #askAtMs: number;
  #heardQuery = false;
  #answeredAtMs = -Infinity;
  #failed = false;

  constructor(link: Link, options: MdnsLinkOptions) {
    this.link = link;
    this.#options = options;
    const { clock, own } = options;
    const isV4 = link.family === 'IPv4';
    const type = isV4 ? 'udp4' : 'udp6';
    const socket = dgram.createSocket({ type, reuseAddr: true, ipv6Only: !isV4 });
    limitPackets(socket, clock);
    socket.once('listening', () => listenToOwnGroups(socket, link.family));
    const place = isV4
      ? { interface: link.address, bind: '0.0.0.0', ip: MDNS_GROUP_V4 }
      : { interface: `::%${link.name}`, bind: '::', ip: MDNS_GROUP_V6 };
    const onError = (error: Error): void => this.#fail(error);
    // What could not be sent is asked for again within a second or two.
    this.#bonjour = new Bonjour({ socket, type, ...place } as object, () => undefined);
    this.#packets = (this.#bonjour as unknown as WithPackets).server.mdns;
    this.#packets.on('error', onError);
    this.#packets.on('query', (packet: DnsPacket, from: dgram.RemoteInfo) => {
      if (link.covers(from.address) && asksForNodes(packet)) this.#heardQuery = true;
    });
    this.#packets.on('response', (packet: DnsPacket, from: dgram.RemoteInfo) => {
      this.#onResponse(packet, from);
    });
    const respond = this.#packets.respond.bind(this.#packets);
    this.#packets.respond = (answer, to, done): void => {
      const kept = this.#toAnswer(answer);
      if (kept !== undefined) respond(kept, to, done);
    };
    this.#bonjour.publish({
      name: instanceName(own.name, own.nodeId),
      type: SERVICE_TYPE,
      port: own.port,
      txt: this.#text(),
      // Not the host name, which is nobody's business.
      host: `memcloud-${own.nodeId.slice(0, 12)}.local`,
      // The id is in the name: nobody else has it, and who says so may not silence us.
      probe: false,
    });
    this.#askAtMs = clock.nowMs();
    this.#ask();
    this.#timer = everyTick(DISCOVERY_TICK_MS, () => this.#ask());
  }

  /** Says goodbye, as far as that still works, and closes the socket. */
  async close(): Promise<void> {
    this.#timer.stop();
    if (!this.#failed) {
      await new Promise<void>((resolve) => {
        setTimeout(resolve, CLOSE_TIMEOUT_MS).unref();
        this.#bonjour.unpublishAll(() => resolve());
      });
    }
    this.#bonjour.destroy();
  }

  #text(): Record<string, string> {
    const { nodeId, port, freeBytes } = this.#options.own;
    return txtFields({ nodeId, port, freeBytes: freeBytes() });
  }

  /** Asks, unless somebody else on the link just did: the answers are for all. Never twice left to others. */
  #ask(): void {
    const { clock, random } = this.#options;
    const nowMs = clock.nowMs();
    if (nowMs < this.#askAtMs || this.#failed) return;
    this.#askAtMs = nowMs + QUERY_INTERVAL_MS + random() * QUERY_JITTER_MS;
    const isAsked = this.#heardQuery;
    this.#heardQuery = false;
    if (isAsked) return;
    this.#packets.query(SERVICE_DOMAIN, 'PTR');
  }

  #onResponse(packet: DnsPacket, { address }: dgram.RemoteInfo): void {
    const { link } = this;
    // RFC 6762 section 11: an answer from elsewhere is none.
    if (!link.covers(address)) return;
    const { alive, gone } = readAdverts(packet);
    for (const nodeId of gone) this.#options.onGoodbye(nodeId, address);
    for (const advert of alive) this.#options.onAdvert(advert, address, link);
  }

  /** What leaves of an answer; undefined when it is too soon for another one. */
  #toAnswer(answer: Answer): { answers: DnsRecord[]; additionals: DnsRecord[] } | undefined {
    const isReply = !Array.isArray(answer);
    const nowMs = this.#options.clock.nowMs();
    if (isReply && nowMs - this.#answeredAtMs < ANSWER_GAP_MS) return undefined;
    this.#answeredAtMs = nowMs;
    const { answers, additionals = [] } = isReply
      ? (answer as Exclude<Answer, readonly DnsRecord[]>)
      : { answers: answer as readonly DnsRecord[] };
    const text = this.#text();
    const ofLink = (records: readonly DnsRecord[]): DnsRecord[] =>
      recordsForLink(records, this.link.addresses, text);
    return { answers: ofLink(answers), additionals: ofLink(additionals) };
  }

  #fail(error: Error): void {
    if (this.#failed) return;
    this.#failed = true;
    this.#options.onFailed(error, this.link);
  }
}
