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
import { holderParts } from '../common/holder.ts';
import { silentLogger, type Logger } from '../common/log.ts';
import type { Admissions, ManagedLinks } from '../common/managed.ts';
import type { ObjectLinks } from '../common/objects.ts';
import type { NodeId, SlabSources } from '../common/ports.ts';
import type { ConnectionContext, DialExpectation, Established } from './connection-context.ts';
import { Connection } from './connection.ts';
import { ByeReason, REQUEST_TIMEOUT_MS, type ByeReasonValue } from './constants.ts';
import type { RecallRoom } from './control.ts';
import { requireNodeName } from './credentials.ts';
import { DialledAddresses } from './dialled-addresses.ts';
import { Dialer } from './dialer.ts';
import { FoundDial } from './found-dial.ts';
import { FoundDials } from './found-dials.ts';
import { Gatekeeper, type KeyAlarm } from './gatekeeper.ts';
import { Guests } from './guests.ts';
import { Invites } from './invites.ts';
import { KEEPALIVE_DEFAULTS } from './keepalive-machine.ts';
import { KnownPeers } from './known-peers.ts';
import { Lanes } from './lanes.ts';
import { ManagedPeers } from './managed-peers.ts';
import { PeerExchange } from './peer-exchange.ts';
import {
  describePeers,
  findPeer,
  laneTargets,
  reachOf,
  type LaneTarget,
  type PeerInfo,
  type KnownPeer,
} from './peer-info.ts';
import { NO_USAGE, NOTHING_HELD, type PeersOptions } from './peers-options.ts';
import { Quarantines } from './quarantines.ts';
import type { RemoteStore } from './remote-store.ts';
import { Revocations } from './revocations.ts';
import { countConnections, HandshakeRate, Listener, type ListenTarget } from './server.ts';
import { Session } from './session.ts';

/** The peers of one node. */
export class Peers implements SlabSources {
  /** What this node could take back of what it has leased from a provider; its owner sets it. */
  recallRoom: (provider: NodeId) => RecallRoom = () => NOTHING_HELD;
  /** Dials to nodes that were found. */
  readonly found: FoundDials;
  /** What trusted peers tell each other of their peers. */
  readonly exchange: PeerExchange;
  readonly #guests: Guests;
  readonly #managed: ManagedPeers;
  readonly #options: PeersOptions;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #gatekeeper: Gatekeeper;
  readonly #context: ConnectionContext;
  readonly #connections = new Map<Connection, Dialer | FoundDial | undefined>();
  readonly #sessions = new Set<Session>();
  readonly #known: KnownPeers;
  readonly #dialers: DialledAddresses;
  readonly #listeners: Listener[] = [];
  readonly #heldNodes = new Set<NodeId>();
  readonly #quarantines: Quarantines;
  readonly #lanes: Lanes;
  readonly #revocations: Revocations;
  readonly #stopWatchingTrust: (() => void)[];
  #closed = false;

  /** @throws MemcloudError `ERR_USAGE` when the name may not be a node's name */
  constructor(options: PeersOptions) {
    requireNodeName(options.name);
    this.#options = options;
    this.#clock = options.clock ?? monotonicClock;
    this.#logger = options.logger ?? silentLogger;
    this.#quarantines = options.quarantines ?? Quarantines.inMemory();
    const rate = new HandshakeRate(this.#clock);
    const keepalive = options.keepalive ?? KEEPALIVE_DEFAULTS;
    this.#lanes = new Lanes({
      provider: options.provider,
      clock: this.#clock,
      keepalive,
      requestTimeoutMs: options.requestTimeoutMs ?? REQUEST_TIMEOUT_MS,
      spin: options.spin,
      logger: this.#logger,
      onEnded: (session) => this.#sessions.delete(session),
      onBreach: ({ peer }, error) => this.#quarantineForBreach(peer.nodeId, peer.name, error),
    });
    const { trust, consent, onJoined } = options;
    this.#guests = new Guests({
      ...{ trust, clock: this.#clock },
      isHere: (nodeId) => this.#isHere(nodeId),
      onAdmitted: (nodeId) => {
        for (const connection of this.#connectionsOf(nodeId)) connection.reconsider();
      },
      onDismissed: (nodeId) => this.#cut(nodeId, ByeReason.REVOKED, 'it is a guest no more'),
    });
    this.#known = new KnownPeers({
      ...{ trust, keepalive, guests: this.#guests, quarantines: this.#quarantines },
      isLane: (options.lane ?? '') !== '',
    });
    const records = this.#known.all;
    this.#gatekeeper = new Gatekeeper({
      ...{ trust, consent, clock: this.#clock, logger: this.#logger },
      invites: options.invites ?? new Invites(this.#clock),
      guests: this.#guests,
      ...(onJoined === undefined ? {} : { onJoined }),
    });
    this.#revocations = options.revocations ?? new Revocations({ trust, logger: this.#logger });
    this.#context = {
      identity: options.identity,
      name: options.name,
      gatekeeper: this.#gatekeeper,
      guestIdentity: (peer) => this.#guests.named(peer),
      clock: this.#clock,
      mayHandshake: () => rate.take(),
      usage: (nodeId) => options.provider?.usage(nodeId) ?? NO_USAGE,
      accepting: () => options.provider?.accepting ?? true,
      ...{ hostId: options.hostId ?? '', zone: options.zone ?? '', lane: options.lane ?? '' },
      port: () => this.#listeners[0]?.address.port ?? 0,
      exchangesPeers: options.exchangesPeers ?? false,
      direct: options.direct,
      objects: options.objects !== undefined,
      managed: options.managed !== undefined,
      stepTimeoutMs: options.handshakeStepTimeoutMs,
    };
    this.#dialers = new DialledAddresses({
      ...{ connections: this.#connections, records },
      dial: (dialer, target) => this.#dial(dialer, target, dialer.expected),
      random: options.random ?? Math.random,
      nowMs: () => this.#clock.nowMs(),
    });
    this.#managed = new ManagedPeers({
      ...{ records, dialers: this.#dialers },
      isGuest: (nodeId) => this.#guests.isGuest(nodeId),
    });
    this.exchange = new PeerExchange(records, trust);
    this.found = new FoundDials({
      ...{ connections: this.#connections, records, heldNodes: this.#heldNodes },
      ...{ trust, consent },
      dial: (dial, target, pin) => {
        if (!this.#closed) this.#dial(dial, target, { pin });
      },
    });
    this.#stopWatchingTrust = [
      trust.onRevoked(({ nodeId }) => {
        this.#cut(nodeId, ByeReason.REVOKED, 'it is no longer trusted');
        options.objects?.onRequesterRevoked(nodeId);
        options.allowances?.forget(nodeId);
      }),
      trust.onRevocationsChanged(() => {
        if (this.#context.lane === '') this.#revocations.tell(this.#sessions);
      }),
    ];
  }

  // --- For the daemon ------------------------------------------------------------------------------

  /**
   * Listens for peers.
   *
   * @param inheritedFd - the listening socket of another process of this node, instead of a new one
   * @returns where; the port is the real one
   * @throws MemcloudError `ERR_USAGE_ADDRESS`
   */
  async listen(
    target: ListenTarget,
    inheritedFd?: number,
  ): Promise<{ host: string; port: number }> {
    assert(this.#context.lane === '', 'a lane takes no peers');
    const options = {
      onSocket: (socket: net.Socket): void => this.#onSocket(socket),
      counts: () => countConnections(this.#connections.keys(), this.connectionCount),
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
   * @param expected - who is to answer there, from now on and at each attempt; without, what was said
   *   before stays
   * @throws MemcloudError `ERR_USAGE_ADDRESS`, or `ERR_USAGE` beyond 256 addresses; `ERR_PEER_KEY_CHANGED`
   *   when a session with another node lives there
   */
  connect(address: string, expected?: DialExpectation): Dialer {
    const dialer = this.#dialers.open(address, expected);
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
    this.#dialers.stop(address);
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
    const record = findPeer(this.#known.all, nodeIdOrName);
    const { nodeId } = record.store;
    this.#heldNodes.add(nodeId);
    this.#dialers.stopNode(nodeId);
    this.#cut(nodeId, ByeReason.DISCONNECT, 'it was disconnected by an operator');
  }

  /** Every node that was ever let in and is no guest, for placement; each is a `DirectSource` as well. */
  list(): readonly RemoteStore[] {
    return this.#known.withoutGuests().map(({ store }) => store);
  }

  /** The guests that were let in: for what is taken under managed leases, and nothing else. */
  guests(): readonly RemoteStore[] {
    return this.#known.guests().map(({ store }) => store);
  }

  /** Who is let in because a control plane says so. */
  get admissions(): Admissions {
    return this.#guests;
  }

  /** The ways to ask nodes about managed memory. */
  get managedLinks(): ManagedLinks {
    return this.#managed;
  }

  /** The objects of the nodes that were ever let in. */
  readonly objectLinks: ObjectLinks = {
    list: () => this.#known.withoutGuests().map(({ objects }) => objects),
    find: (nodeIdOrName) => findPeer(this.#known.all, nodeIdOrName).objects,
  };

  /** The memory of a node, leased or direct, by id or name. @throws MemcloudError `ERR_PEER_UNKNOWN` */
  store(nodeIdOrName: string): RemoteStore {
    return findPeer(this.#known.all, nodeIdOrName).store;
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
      lane === '' ? this.#known.all.get(nodeId)?.session : this.#lanes.find(nodeId, lane);
    if (session !== undefined) return session.askRecallRoom();
    throw new MemcloudError('ERR_PEER_UNREACHABLE', 'it is not connected');
  }

  /**
   * The memory of a node that a former process of this node knew; it is up when a session comes.
   *
   * @throws MemcloudError `ERR_PEER_UNKNOWN` beyond the bound on peers
   */
  remember(nodeId: NodeId, name: string): RemoteStore {
    const record = this.#known.open(nodeId, name);
    if (record !== undefined) return record.store;
    throw new MemcloudError('ERR_PEER_UNKNOWN', `no room for node "${name}": too many peers`);
  }

  /** The addresses that are kept connected, `HOST:PORT`, without those of guests. */
  get dialled(): string[] {
    return this.#dialers.addresses;
  }

  /** Descriptors of the listening sockets, for another process of this node; still ours. */
  get listenerDescriptors(): number[] {
    return this.#listeners.map(({ descriptor }) => descriptor);
  }

  /** Every peer: nodes that were let in, and addresses where none has answered. */
  peers(): PeerInfo[] {
    return describePeers(this.#known.shown(), [...this.#dialers.values(), ...this.found.pending()]);
  }

  /** Known names that came with another key lately. */
  get keyAlarms(): KeyAlarm[] {
    return this.#gatekeeper.alarms;
  }

  /** The nodes that a lane of this one may dial: up, or up before, and neither cut off nor disbelieved. */
  laneTargets(): LaneTarget[] {
    return laneTargets(this.#known.withoutGuests());
  }

  /** One of them, or a guest: for a lane that uses a managed lease. */
  laneTarget(nodeId: NodeId): LaneTarget | undefined {
    const record = this.#known.all.get(nodeId);
    return record && laneTargets([record])[0];
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
    for (const stop of this.#stopWatchingTrust) stop();
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

  #dial(
    dialer: Dialer | FoundDial,
    target: { host: string; port: number },
    expected: DialExpectation,
  ): void {
    this.#connections.set(Connection.dial(target, this.#context, this, expected), dialer);
  }

  /** A human has to be asked. */
  onPending(connection: Connection, side: 'local' | 'remote'): void {
    const fields = { address: connection.address, name: connection.peer?.name };
    if (side === 'remote') this.#logger.info(fields, 'the node asks its human about us');
    this.#connections.get(connection)?.onPending();
  }

  /** A node is let in: what was decided about the address that we dialled is decided about it. */
  onAdmitted(connection: Connection, nodeId: NodeId): void {
    const dialer = this.#connections.get(connection);
    if (dialer !== undefined) this.#options.allowances?.bind(dialer.address, nodeId);
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
    // Where a node was found is anybody's claim: that nobody answers there is no news.
    if (dialer instanceof Dialer && dialer.lastError?.code !== error.code) {
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
    if (dialer instanceof Dialer) this.#heldNodes.delete(nodeId);
    const { isGuest } = established;
    const record = this.#known.open(nodeId, peer.name, isGuest);
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
    const session: Session = new Session(established, {
      provider: this.#options.provider,
      direct: this.#options.direct,
      objects: isGuest ? undefined : this.#options.objects,
      managed: this.#context.lane === '' ? this.#options.managed : undefined,
      clock: this.#clock,
      keepalive: record.patience.onUp(this.#clock.nowMs()),
      requestTimeoutMs: this.#options.requestTimeoutMs ?? REQUEST_TIMEOUT_MS,
      spin: this.#options.spin,
      client: record.store,
      recallRoom: () => this.#roomFor(nodeId, isGuest),
      onRevoked: (revoked) => this.#revocations.hear(peer, revoked),
      knownPeers:
        this.#context.exchangesPeers && !isGuest
          ? () => this.exchange.hintsFor(session)
          : undefined,
      onEnded: (ended, error) => this.#onSessionEnded(record, ended, error),
    });
    this.#connections.delete(connection);
    this.#sessions.add(session);
    record.session = session;
    record.guest = isGuest;
    record.address = established.address;
    record.lastError = undefined;
    record.reach = reachOf(established, dialer, this.#dialers.values());
    if (dialer !== undefined) dialer.nodeId = nodeId;
    if (dialer instanceof FoundDial) dialer.onUp(nodeId);
    for (const each of this.#dialers.values()) if (each.nodeId === nodeId) each.onUp(nodeId);
    const fields = { nodeId, name: peer.name, address: session.address, dialled };
    this.#logger.info(isGuest ? { ...fields, guest: true } : fields, 'peer up');
    record.store.attach(session, established);
    this.#managed.changed(record.managed, session);
    if (this.#context.lane === '') this.#revocations.greet(session);
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
    this.#managed.changed(record.managed, session);
    const { nodeId, name } = session.peer;
    this.#options.objects?.onRequesterGone(nodeId);
    const fields = { nodeId, name, code: error?.code, bye: session.byeReason };
    if (error === undefined) this.#logger.info(fields, 'peer down');
    else this.#logger.warn(fields, `peer down: ${error.message}`);
    if (error?.code === 'ERR_PEER_PROTOCOL') this.#quarantineForBreach(nodeId, name, error);
    this.#known.forgetGuest(record);
    for (const dialer of this.#dialers.values()) {
      if (dialer.nodeId === nodeId) dialer.onDown(error);
    }
  }

  /** It came in a record that only that node could seal: whoever sends this may send anything. */
  #quarantineForBreach(nodeId: NodeId, name: string, error: MemcloudError): void {
    this.#quarantines.put(nodeId, name, `it broke the protocol: ${error.message}`);
  }

  #cut(nodeId: NodeId, reason: ByeReasonValue, why: string): void {
    const record = this.#known.all.get(nodeId);
    if (record !== undefined) record.reach = undefined;
    record?.session?.close(reason);
    this.#lanes.cut(nodeId, reason);
    for (const connection of this.#connectionsOf(nodeId)) {
      connection.close(new MemcloudError('ERR_PEER_UNTRUSTED', `node ${nodeId}: ${why}`));
    }
    // After the session, which could ask for new ones.
    this.#options.direct?.revoke(nodeId);
  }

  #connectionsOf(nodeId: NodeId): Connection[] {
    return [...this.#connections.keys()].filter(({ peer }) => peer?.nodeId === nodeId);
  }

  // --- Guests --------------------------------------------------------------------------------------

  #isHere(nodeId: NodeId): boolean {
    if (this.#known.all.get(nodeId)?.session !== undefined) return true;
    return this.#lanes.count(nodeId) > 0 || this.#connectionsOf(nodeId).length > 0;
  }

  /** What a node could move away from itself is told to none but those that it trusts. */
  #roomFor(nodeId: NodeId, isGuest: boolean): RecallRoom {
    const room = this.recallRoom(nodeId);
    const problem = 'it has its memory there by a control plane, which decides about it';
    return isGuest ? { heldBytes: room.heldBytes, roomBytes: 0, problem } : room;
  }
}
