/**
 * The shell of discovery: it joins what finds nodes (mDNS, names, peers that tell of peers) to the
 * machine that decides, and the machine to those that dial. Nothing here trusts anybody: a node that is
 * found is dialled, and then the gatekeeper of both sides has its say, as with any other.
 */
import type { Clock } from '../../common/clock.ts';
import type { Logger } from '../../common/log.ts';
import type { NodeId } from '../../common/ports.ts';
import { everyTick, type Tick } from '../../common/ticker.ts';
import { formatAddress } from '../../common/units.ts';
import type { PeerHint } from '../exchange-control.ts';
import type { FoundDials } from '../found-dials.ts';
import type { PeerExchange } from '../peer-exchange.ts';
import {
  ADVERT_LIFE_MS,
  DISCOVERY_TICK_MS,
  EXCHANGE_INTERVAL_MS,
  EXCHANGE_LIFE_MS,
  PROTOCOL_VERSION,
} from './constants.ts';
import {
  DiscoveryMachine,
  type DiscoveryAction,
  type DiscoveryRow,
  type Sighting,
} from './discovery-machine.ts';
import { DnsNames, type Resolver } from './dns-names.ts';
import type { LinkChoice } from './links.ts';
import { Mdns } from './mdns.ts';
import type { OwnAdvert } from './mdns-link.ts';

/** What discovery needs of the peers of a node. */
export interface DiscoveryPeers {
  readonly found: Pick<FoundDials, 'dial' | 'standing' | 'trustedIds'>;
  readonly exchange: Pick<PeerExchange, 'partners' | 'ask'>;
}

/** How discovery is run. */
export interface DiscoveryOptions {
  readonly peers: DiscoveryPeers;
  /** Who we are. */
  readonly own: OwnAdvert;
  /** The links of mDNS; undefined for no mDNS. */
  readonly mdns: LinkChoice | undefined;
  /** Names to look up. */
  readonly dnsNames: readonly string[];
  /** Ask trusted peers for theirs. */
  readonly exchangesPeers: boolean;
  readonly clock: Clock;
  /** A number from 0 to 1, below 1. */
  readonly random: () => number;
  readonly logger: Logger;
  /** Asks name servers; default: the system's. */
  readonly resolver?: Resolver;
}

/** See the top of the file. */
export class Discovery {
  readonly #options: DiscoveryOptions;
  readonly #machine: DiscoveryMachine;
  readonly #mdns: Mdns | undefined;
  readonly #names: DnsNames | undefined;
  readonly #timer: Tick;
  /** When each partner is asked again. */
  #askAtMs = new Map<NodeId, number>();
  #tickedAtMs: number;
  #closed = false;

  /** Begins at once. */
  constructor(options: DiscoveryOptions) {
    this.#options = options;
    const { peers, own, clock, random, dnsNames, mdns: choice } = options;
    const world = {
      selfId: own.nodeId,
      standing: (nodeId: NodeId) => peers.found.standing(nodeId),
      trusted: () => peers.found.trustedIds(),
      random,
    };
    this.#tickedAtMs = clock.nowMs();
    this.#machine = new DiscoveryMachine(world, clock.nowMs());
    const onSighting = (sighting: Sighting): void => this.onSighting(sighting);
    this.#names =
      dnsNames.length === 0 ? undefined : new DnsNames(dnsNames, onSighting, options.resolver);
    this.#mdns = choice === undefined ? undefined : this.#openMdns(choice);
    this.#timer = everyTick(DISCOVERY_TICK_MS, () => this.#tick());
  }

  /** The nodes that are around, one row for each. */
  list(): DiscoveryRow[] {
    return this.#machine.list(this.#options.clock.nowMs());
  }

  /** Interfaces that are announced on, with their families; for people. */
  get links(): string[] {
    return this.#mdns?.links ?? [];
  }

  /** Somebody says that a node is somewhere. */
  onSighting(sighting: Sighting): void {
    if (!this.#closed) this.#machine.onSighting(sighting, this.#options.clock.nowMs());
  }

  /** Says goodbye, and finds and dials nobody any more. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#timer.stop();
    this.#names?.close();
    await this.#mdns?.close();
  }

  #openMdns(choice: LinkChoice): Mdns {
    const { own, clock, random, logger } = this.#options;
    return new Mdns({
      ...{ own, clock, random, logger, choice },
      onAdvert: ({ nodeId, name, port, protocol, freeBytes }, host, link) => {
        this.onSighting({
          ...{ nodeId, name, protocol, freeBytes, origin: host, source: 'mdns' },
          address: formatAddress(host, port),
          networkInterface: link.name,
          lifeMs: ADVERT_LIFE_MS,
        });
      },
      onGoodbye: (nodeId, host) => this.#machine.onGoodbye(nodeId, host),
    });
  }

  #tick(): void {
    const { peers, clock, exchangesPeers } = this.#options;
    const nowMs = clock.nowMs();
    const lateMs = nowMs - this.#tickedAtMs - DISCOVERY_TICK_MS;
    this.#tickedAtMs = nowMs;
    if (lateMs > DISCOVERY_TICK_MS) this.#machine.onStandstill(lateMs);
    for (const action of this.#machine.tick(nowMs)) this.#act(action);
    if (!exchangesPeers) return;
    const askAtMs = new Map<NodeId, number>();
    for (const nodeId of peers.exchange.partners()) {
      const atMs = this.#askAtMs.get(nodeId) ?? nowMs;
      askAtMs.set(nodeId, atMs <= nowMs ? nowMs + EXCHANGE_INTERVAL_MS : atMs);
      if (atMs <= nowMs) void this.#askPeers(nodeId);
    }
    this.#askAtMs = askAtMs;
  }

  #act(action: DiscoveryAction): void {
    const { peers, clock, logger } = this.#options;
    const { type, address, nodeId } = action;
    if (type !== 'dial') {
      const what = type === 'found' ? 'a node was found' : 'a node that was found is gone';
      return logger.debug({ nodeId, address, source: action.source }, what);
    }
    peers.found.dial({ address, nodeId }, (end, answered) => {
      logger.debug({ nodeId, address, end }, 'a node that was found was dialled');
      if (end === 'impostor' && nodeId !== undefined) {
        logger.warn({ nodeId, address }, 'announced as a node whose key it does not have');
      }
      this.#machine.onDialEnded(action.key, end, answered, clock.nowMs());
    });
  }

  async #askPeers(teller: NodeId): Promise<void> {
    const { peers, logger } = this.#options;
    let hints: readonly PeerHint[];
    try {
      hints = await peers.exchange.ask(teller);
    } catch (error) {
      return logger.debug({ teller, error: String(error) }, 'a peer told nothing of its peers');
    }
    for (const { nodeId, address } of hints) {
      this.onSighting({
        ...{ nodeId, address, name: '', origin: teller, source: 'exchange' },
        ...{ networkInterface: '', freeBytes: null, protocol: PROTOCOL_VERSION },
        lifeMs: EXCHANGE_LIFE_MS,
      });
    }
  }
}
