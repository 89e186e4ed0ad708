/**
 * Every peer of this node in one place: the connections that are being made, the sessions that live,
 * and a RemoteStore for each node that was ever let in. Two rules live here. Two nodes keep one
 * session: of two connections made at once both sides keep the one whose dialler has the smaller node
 * id, and a newer one of the same dialler replaces the older. And trust is live: when a key loses it, its
 * connections end at once, and its direct exports with them.
 *
 * Another process of a node may have peers of its own, on a *lane* (docs/peer-protocol.md section 8): it
 * dials and borrows, and is no second node to anybody (lanes.ts).
 */
import assert from 'node:assert';
import type net from 'node:net';
import type { ByteStreamHandler } from '../common/byte-stream.ts';
import { monotonicClock, type Clock } from '../common/clock.ts';
import { MemcloudError } from '../common/errors.ts';
import type { EventLoopSpin } from '../common/event-loop-spin.ts';
import { holderParts } from '../common/holder.ts';
import { silentLogger, type Logger } from '../common/log.ts';
import type {
  DirectProvider,
  NodeId,
  ProviderUsage,
  SlabProvider,
  SlabSources,
} from '../common/ports.ts';
import { formatAddress } from '../common/units.ts';
import type { ConnectionContext, Established } from './connection-context.ts';
import { Connection } from './connection.ts';
import type { ConsentQueue } from './consent.ts';
import {
  ByeReason,
  DIAL_COUNT_MAX,
  Feature,
  PEER_COUNT_MAX,
  REQUEST_TIMEOUT_MS,
  type ByeReasonValue,
} from './constants.ts';
import { decodeRecallRoom, type RecallRoom } from './control.ts';
import { isNodeName } from './credentials.ts';
import { Dialer, dialTarget } from './dialer.ts';
import { Gatekeeper } from './gatekeeper.ts';
import type { Identity } from './identity.ts';
import { KEEPALIVE_DEFAULTS, type KeepaliveLimits } from './keepalive-machine.ts';
import { Lanes } from './lanes.ts';
import { Patience } from './patience.ts';
import {
  describePeers,
  laneTargets,
  type LaneTarget,
  type PeerInfo,
  type PeerRecord,
  type Reach,
} from './peer-info.ts';
import { Quarantines } from './quarantines.ts';
import { RemoteStore } from './remote-store.ts';
import { HandshakeRate, Listener } from './server.ts';
import { Session } from './session.ts';
import type { TrustStore } from './trust.ts';

/** What a node's peering is made of. */
export interface PeersOptions {
  /** Who we are. */
  readonly identity: Identity;
  /** What people call us: 1 to 64 letters, digits, spaces, `.`, `_`, `-`. */
  readonly name: string;
  /** Whom we trust. */
  readonly trust: TrustStore;
  /** Where questions wait. */
  readonly consent: ConsentQueue;
  /** What we lend; undefined for nothing. */
  readonly provider?: SlabProvider | undefined;
  /** Our direct exports; undefined for none. Its owner closes it, after the peers. */
  readonly direct?: DirectProvider | undefined;
  /** Whose pages are not believed any more; by default kept for the life of the process. */
  readonly quarantines?: Quarantines;
  /** Names the machine that we run on; default: empty, which says nothing. */
  readonly hostId?: string;
  /** Our wider failure domain; default: none. */
  readonly zone?: string;
  /** The lane that we are on (`isLaneName`): we dial only, and lend nothing. Default: the node itself. */
  readonly lane?: string;
  /** Where events are noted. */
  readonly logger?: Logger;
  /** The clock of deadlines. */
  readonly clock?: Clock;
  /** Jitter: a number from 0 to 1, below 1. */
  readonly random?: () => number;
  /** Keeps the event loop awake between requests and replies; none by default. */
  readonly spin?: EventLoopSpin;
  /** When to ping and to give up. */
  readonly keepalive?: KeepaliveLimits;
  /** Longest wait for a reply, milliseconds. */
  readonly requestTimeoutMs?: number;
  /** Longest time of one handshake step, milliseconds. */
  readonly handshakeStepTimeoutMs?: number;
}

const NO_USAGE: ProviderUsage = { offeredBytes: 0, usedBytes: 0, residentBytes: 0, leaseCount: 0 };

const NOTHING_HELD: RecallRoom = { heldBytes: 0, roomBytes: 0, problem: '' };

interface KnownPeer extends PeerRecord {
  /** How long it may be silent. */
  readonly patience: Patience;
}

/** The peers of one node. */
export class Peers implements SlabSources {
  /** What this node could take back of what it has leased from a provider; its owner sets it. */
  recallRoom: (provider: NodeId) => RecallRoom = () => NOTHING_HELD;
  readonly #options: PeersOptions;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #context: ConnectionContext;
  readonly #connections = new Map<Connection, Dialer | undefined>();
  readonly #sessions = new Set<Session>();
  readonly #records = new Map<NodeId, KnownPeer>();
  readonly #dialers = new Map<string, Dialer>();
  readonly #listeners: Listener[] = [];
  readonly #heldNodes = new Set<NodeId>();
  readonly #quarantines: Quarantines;
  readonly #lanes: Lanes;
  readonly #stopWatchingTrust: () => void;
  #closed = false;

  /** @throws MemcloudError `ERR_USAGE` when the name may not be a node's name */
  constructor(options: PeersOptions) {
    if (!isNodeName(options.name)) {
      throw new MemcloudError(
        'ERR_USAGE',
        'node name: expected 1 to 64 letters, digits, spaces, ".", "_" or "-", ' +
          `beginning and ending with a letter or digit, got ${JSON.stringify(options.name)}`,
      );
    }
    this.#options = options;
    this.#clock = options.clock ?? monotonicClock;
    this.#logger = options.logger ?? silentLogger;
    this.#quarantines = options.quarantines ?? Quarantines.inMemory();
    const rate = new HandshakeRate(this.#clock);
    this.#lanes = new Lanes({
      provider: options.provider,
      clock: this.#clock,
      keepalive: options.keepalive ?? KEEPALIVE_DEFAULTS,
      requestTimeoutMs: options.requestTimeoutMs ?? REQUEST_TIMEOUT_MS,
      spin: options.spin,
      logger: this.#logger,
      onEnded: (session) => this.#sessions.delete(session),
      onBreach: ({ peer }, error) => this.#quarantineForBreach(peer.nodeId, peer.name, error),
    });
    this.#context = {
      identity: options.identity,
      name: options.name,
      gatekeeper: new Gatekeeper(options.trust, options.consent, this.#logger),
      clock: this.#clock,
      mayHandshake: () => rate.take(),
      usage: () => options.provider?.usage() ?? NO_USAGE,
      accepting: () => options.provider?.accepting ?? true,
      hostId: options.hostId ?? '',
      zone: options.zone ?? '',
      lane: options.lane ?? '',
      port: () => this.#listeners[0]?.address.port ?? 0,
      direct: options.direct,
      ...(options.handshakeStepTimeoutMs === undefined
        ? {}
        : { stepTimeoutMs: options.handshakeStepTimeoutMs }),
    };
    this.#stopWatchingTrust = options.trust.onRevoked(({ nodeId }) => {
      this.#cut(nodeId, ByeReason.REVOKED, 'it is no longer trusted');
    });
  }

  // --- For the daemon ------------------------------------------------------------------------------

  /**
   * Listens for peers.
   *
   * @param inheritedFd - the listening socket of another process of this node, instead of a new one
   * @returns where; the port is the real one when 0 was asked for
   * @throws MemcloudError `ERR_USAGE_ADDRESS`
   */
  async listen(
    target: { host: string; port: number },
    inheritedFd?: number,
  ): Promise<{ host: string; port: number }> {
    assert(this.#context.lane === '', 'a lane takes no peers');
    const options = {
      onSocket: (socket: net.Socket): void => this.#onSocket(socket),
      counts: () => this.#counts(),
      logger: this.#logger,
    };
    const listener = await Listener.open(target, options, inheritedFd);
    this.#listeners.push(listener);
    return listener.address;
  }

  /**
   * Keeps an address connected from now on; lifts a {@link Peers.disconnect} of the node there.
   *
   * @param address - `HOST:PORT`
   * @throws MemcloudError `ERR_USAGE_ADDRESS`, or `ERR_USAGE` beyond 256 addresses
   */
  connect(address: string): Dialer {
    const { key, target } = dialTarget(address);
    let dialer = this.#dialers.get(key);
    if (dialer === undefined) {
      if (this.#dialers.size >= DIAL_COUNT_MAX) {
        throw new MemcloudError('ERR_USAGE', `cannot dial more than ${DIAL_COUNT_MAX} addresses`);
      }
      const created: Dialer = new Dialer({
        address: key,
        dial: () => this.#dial(created, target),
        isUp: (nodeId) => this.#records.get(nodeId)?.session !== undefined,
        random: this.#options.random ?? Math.random,
        nowMs: () => this.#clock.nowMs(),
      });
      // An address that was given up for a while and whose session goes on: it is that session's again.
      const held = `${target.host}:${target.port}`;
      created.nodeId = [...this.#records.values()].find(
        ({ session, address }) => session?.dialled === true && address === held,
      )?.store.nodeId;
      dialer = created;
      this.#dialers.set(key, dialer);
    }
    if (dialer.nodeId !== undefined) this.#heldNodes.delete(dialer.nodeId);
    dialer.start();
    return dialer;
  }

  /**
   * Dials an address no more; a session with the node there goes on until it ends by itself.
   *
   * @throws MemcloudError `ERR_USAGE_ADDRESS`
   */
  stopDialling(address: string): void {
    const { key } = dialTarget(address);
    this.#dialers.get(key)?.stop();
    this.#dialers.delete(key);
  }

  /**
   * Ends the session with a node and keeps it out until {@link Peers.connect}, or a restart. Its
   * direct exports here are wiped: they live by their data connections, which need no session, so
   * nothing milder would keep it out.
   *
   * @param nodeIdOrName - which
   * @throws MemcloudError `ERR_PEER_UNKNOWN`
   */
  disconnect(nodeIdOrName: string): void {
    const record = this.#find(nodeIdOrName);
    const { nodeId } = record.store;
    this.#heldNodes.add(nodeId);
    for (const [address, dialer] of this.#dialers) {
      if (dialer.nodeId !== nodeId) continue;
      dialer.stop();
      this.#dialers.delete(address);
    }
    this.#cut(nodeId, ByeReason.DISCONNECT, 'it was disconnected by an operator');
  }

  /** Every node that was ever let in, for placement; each is a `DirectSource` as well. */
  list(): readonly RemoteStore[] {
    return [...this.#records.values()].map(({ store }) => store);
  }

  /** The memory of a node, leased or direct, by id or name. @throws MemcloudError `ERR_PEER_UNKNOWN` */
  store(nodeIdOrName: string): RemoteStore {
    return this.#find(nodeIdOrName).store;
  }

  /**
   * Asks a node whether it could move what it has leased from us to others.
   *
   * @param holder - the node, or a lane of it (common/holder.ts)
   * @throws MemcloudError `ERR_PEER_UNREACHABLE`, `ERR_TIMEOUT`, `ERR_UNSUPPORTED` (an older memnode)
   */
  async askRecallRoom(holder: string): Promise<RecallRoom> {
    const { nodeId, lane } = holderParts(holder);
    const session =
      lane === '' ? this.#records.get(nodeId)?.session : this.#lanes.find(nodeId, lane);
    if (session === undefined) {
      throw new MemcloudError('ERR_PEER_UNREACHABLE', 'it is not connected');
    }
    if (!session.features.includes(Feature.RECALL)) {
      throw new MemcloudError('ERR_UNSUPPORTED', 'its memnode is too old to move pages by itself');
    }
    return session.control({ method: 'recall-room' }, decodeRecallRoom);
  }

  /**
   * The memory of a node that a former process of this node knew; it is up when a session comes.
   *
   * @throws MemcloudError `ERR_PEER_UNKNOWN` beyond the bound on peers
   */
  remember(nodeId: NodeId, name: string): RemoteStore {
    const record = this.#recordOf(nodeId, name);
    if (record !== undefined) return record.store;
    throw new MemcloudError('ERR_PEER_UNKNOWN', `no room for node "${name}": too many peers`);
  }

  /** The addresses that are kept connected, `HOST:PORT`. */
  get dialled(): string[] {
    return [...this.#dialers.keys()];
  }

  /** Descriptors of the listening sockets, for another process of this node; still ours. */
  get listenerDescriptors(): number[] {
    return this.#listeners.map(({ descriptor }) => descriptor);
  }

  /** Every peer: nodes that were let in, and addresses where none has answered. */
  peers(): PeerInfo[] {
    return describePeers(this.#records, [...this.#dialers.values()]);
  }

  /** The nodes that a lane of this one may dial: up, or up before, and neither cut off nor disbelieved. */
  laneTargets(): LaneTarget[] {
    return laneTargets(this.#records.values());
  }

  /** Lanes of a node that are here now. */
  laneCount(nodeId: NodeId): number {
    return this.#lanes.count(nodeId);
  }

  /** Connections and sessions now, for tests and metrics. */
  get connectionCount(): number {
    return this.#connections.size + this.#sessions.size;
  }

  /** Ends everything; page calls in flight end with UNREACHABLE. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#stopWatchingTrust();
    for (const dialer of this.#dialers.values()) dialer.stop();
    for (const session of [...this.#sessions]) session.close(ByeReason.SHUTDOWN);
    const error = new MemcloudError('ERR_CANCELLED', 'the node shuts down');
    for (const connection of [...this.#connections.keys()]) connection.close(error);
    await Promise.all(this.#listeners.map((listener) => listener.close()));
  }

  // --- Connections ---------------------------------------------------------------------------------

  #onSocket(socket: net.Socket): void {
    if (this.#closed) return void socket.destroy();
    this.#connections.set(Connection.accept(socket, this.#context, this), undefined);
  }

  #dial(dialer: Dialer, target: { host: string; port: number }): void {
    this.#connections.set(Connection.dial(target, this.#context, this), dialer);
  }

  /** A human has to be asked. */
  onPending(connection: Connection, side: 'local' | 'remote'): void {
    const fields = { address: connection.address, name: connection.peer?.name };
    if (side === 'remote') this.#logger.info(fields, 'the node asks its human about us');
    this.#connections.get(connection)?.onPending();
  }

  /** A data connection: it counts among the direct exports, at most one for each, not here. */
  onHandedOver(connection: Connection): void {
    this.#connections.delete(connection);
    this.#logger.debug({ address: connection.address }, 'a data connection was handed over');
  }

  /** A connection is over. */
  onFailed(connection: Connection, error: MemcloudError): void {
    const dialer = this.#connections.get(connection);
    this.#connections.delete(connection);
    this.#logger.debug({ address: connection.address, code: error.code }, error.message);
    if (dialer === undefined) return;
    if (dialer.lastError?.code !== error.code) {
      this.#logger.warn({ address: dialer.address, code: error.code }, error.message);
    }
    if (connection.peer !== undefined) dialer.nodeId = connection.peer.nodeId;
    dialer.onFailed(error);
  }

  /** A connection is accepted by both sides. */
  onEstablished(connection: Connection, established: Established): ByteStreamHandler | undefined {
    const dialer = this.#connections.get(connection);
    if (established.lane !== '') return this.#onLane(connection, established);
    const { peer, dialled } = established;
    const { nodeId } = peer;
    if (dialled) this.#heldNodes.delete(nodeId);
    const record = this.#recordOf(nodeId, peer.name);
    const old = record?.session;
    const refused =
      this.#closed ||
      record === undefined ||
      this.#heldNodes.has(nodeId) ||
      (old !== undefined && !this.#replaces(dialled, old.dialled, nodeId));
    if (refused) {
      this.#connections.delete(connection);
      if (dialer !== undefined) {
        dialer.nodeId = nodeId;
        dialer.onFailed(new MemcloudError('ERR_PEER_UNREACHABLE', 'too many peers'));
      }
      return undefined;
    }
    old?.close(ByeReason.DUPLICATE);
    const session = new Session(established, {
      provider: this.#options.provider,
      direct: this.#options.direct,
      clock: this.#clock,
      keepalive: record.patience.onUp(this.#clock.nowMs()),
      requestTimeoutMs: this.#options.requestTimeoutMs ?? REQUEST_TIMEOUT_MS,
      spin: this.#options.spin,
      client: record.store,
      recallRoom: () => this.recallRoom(nodeId),
      onEnded: (ended, error) => this.#onSessionEnded(record, ended, error),
    });
    this.#connections.delete(connection);
    this.#sessions.add(session);
    record.session = session;
    record.address = established.address;
    record.lastError = undefined;
    record.reach = this.#reachOf(established, dialer);
    if (dialer !== undefined) dialer.nodeId = nodeId;
    for (const each of this.#dialers.values()) if (each.nodeId === nodeId) each.onUp(nodeId);
    this.#logger.info({ nodeId, name: peer.name, address: session.address, dialled }, 'peer up');
    record.store.attach(session, established);
    return session;
  }

  #onLane(connection: Connection, established: Established): ByteStreamHandler | undefined {
    this.#connections.delete(connection);
    const { nodeId } = established.peer;
    if (this.#closed || this.#heldNodes.has(nodeId)) return undefined;
    const session = this.#lanes.take(established);
    if (session !== undefined) this.#sessions.add(session);
    return session;
  }

  /** Where a lane of ours reaches a node: where we dial it, or where by its own word it listens. */
  #reachOf(
    { stream, peer, features, port }: Established,
    dialer: Dialer | undefined,
  ): Reach | undefined {
    if (!features.includes(Feature.LANES)) return undefined;
    const { publicKey, nodeId } = peer;
    const known = dialer ?? [...this.#dialers.values()].find((each) => each.nodeId === nodeId);
    if (known !== undefined) return { address: known.address, publicKey };
    return port === 0 ? undefined : { address: formatAddress(stream.remoteHost, port), publicKey };
  }

  /** Which of two connections with one node stays: see the head of this file. */
  #replaces(newDialled: boolean, oldDialled: boolean, nodeId: NodeId): boolean {
    if (newDialled === oldDialled) return true;
    return newDialled === this.#options.identity.nodeId < nodeId;
  }

  #onSessionEnded(record: KnownPeer, session: Session, error: MemcloudError | undefined): void {
    this.#sessions.delete(session);
    record.store.detach(session);
    if (record.session !== session) return;
    record.patience.onDown(this.#clock.nowMs(), session.fellSilent);
    record.session = undefined;
    record.lastError = error;
    const { nodeId, name } = session.peer;
    const fields = { nodeId, name, code: error?.code, bye: session.byeReason };
    if (error === undefined) this.#logger.info(fields, 'peer down');
    else this.#logger.warn(fields, `peer down: ${error.message}`);
    if (error?.code === 'ERR_PEER_PROTOCOL') this.#quarantineForBreach(nodeId, name, error);
    for (const dialer of this.#dialers.values()) {
      if (dialer.nodeId === nodeId) dialer.onDown(error);
    }
  }

  /** It came in a record that only that node could seal: whoever sends this may send anything. */
  #quarantineForBreach(nodeId: NodeId, name: string, error: MemcloudError): void {
    this.#quarantines.put(nodeId, name, `it broke the protocol: ${error.message}`);
  }

  #cut(nodeId: NodeId, reason: ByeReasonValue, why: string): void {
    const record = this.#records.get(nodeId);
    if (record !== undefined) record.reach = undefined;
    record?.session?.close(reason);
    this.#lanes.cut(nodeId, reason);
    for (const connection of [...this.#connections.keys()]) {
      if (connection.peer?.nodeId !== nodeId) continue;
      connection.close(new MemcloudError('ERR_PEER_UNTRUSTED', `node ${nodeId}: ${why}`));
    }
    // After the session, which could ask for new ones.
    this.#options.direct?.revoke(nodeId);
  }

  #recordOf(nodeId: NodeId, name: string): KnownPeer | undefined {
    const known = this.#records.get(nodeId);
    if (known !== undefined || this.#records.size >= PEER_COUNT_MAX) return known;
    const store = new RemoteStore(nodeId, name, this.#quarantines);
    const patience = new Patience(this.#options.keepalive ?? KEEPALIVE_DEFAULTS);
    const nothing = { session: undefined, lastError: undefined, reach: undefined };
    const record = { store, patience, address: '', ...nothing };
    this.#records.set(nodeId, record);
    return record;
  }

  #find(nodeIdOrName: string): KnownPeer {
    const byId = this.#records.get(nodeIdOrName);
    if (byId !== undefined) return byId;
    const wanted = nodeIdOrName.toLowerCase();
    const found = [...this.#records.values()].filter(
      ({ store }) => store.nodeName.toLowerCase() === wanted,
    );
    // Of several nodes that bore a name, the one that bears it now is meant.
    const record = found.find(({ session }) => session !== undefined) ?? found[0];
    if (record === undefined) {
      throw new MemcloudError('ERR_PEER_UNKNOWN', `no peer is called "${nodeIdOrName}"`);
    }
    return record;
  }

  #counts(): { total: number; handshakes: number; byAddress: Map<string, number> } {
    const byAddress = new Map<string, number>();
    for (const { address, dialled } of this.#connections.keys()) {
      const host = address.slice(0, address.lastIndexOf(':'));
      if (!dialled) byAddress.set(host, (byAddress.get(host) ?? 0) + 1);
    }
    return { total: this.connectionCount, handshakes: this.#connections.size, byAddress };
  }
}
