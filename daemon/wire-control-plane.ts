/**
 * Joins the parts of a control node:
 *
 *   members ==== peers ---- MANAGE ----> service ----> store (lmdb, etcd)
 *                  ^                        |  ^-------- leadership
 *                  +---- trust <--- door <--+
 *                                   RPC ----> all of them
 *
 * A member that comes before the members are read waits like a stranger, for as long as that takes. Ends come in the order in which work flows: admins first, then the leadership (so that another
 * control node goes on at once), then the calls that run, the sessions, the store, the lock.
 */
import { monotonicClock } from '../common/clock.ts';
import { MemcloudError, asMemcloudError } from '../common/errors.ts';
import type { LevelLogger, Logger } from '../common/log.ts';
import type { ManagedLink } from '../common/managed.ts';
import type { NodeId } from '../common/ports.ts';
import type { ControlMember } from '../common/rpc-control.ts';
import { formatAddress } from '../common/units.ts';
import { Leadership } from '../control-plane/leadership.ts';
import type { MetaStore } from '../control-plane/meta-store.ts';
import { openMetaStore } from '../control-plane/open-store.ts';
import type { ManagedCall } from '../control-plane/schema.ts';
import { ControlService } from '../control-plane/service.ts';
import { ConsentQueue } from '../peer/consent.ts';
import { Identity } from '../peer/identity.ts';
import { Invites } from '../peer/invites.ts';
import { Peers } from '../peer/peers.ts';
import { Revocations } from '../peer/revocations.ts';
import { TrustStore } from '../peer/trust.ts';
import { MemberDoor, type MemberGrant } from './control-plane/members.ts';
import type { ControlConfig } from './control-plane/options.ts';
import { controlHandlers } from './control-plane/rpc.ts';
import { GarbageCollectionWatch } from './garbage-collection.ts';
import { RpcServer } from './rpc-server.ts';
import { lockStateDirectory } from './state-lock.ts';
import { reachableAddresses } from './trust/own-addresses.ts';
import type { Undo } from './wire-parts.ts';

const RPC_CLOSE_GRACE_MS = 500;
/** How long the store may take until the members are read, at the start. */
const STORE_DEADLINE_MS = 10_000;

/** The parts in the middle: they know each other both ways. */
interface ControlParts {
  readonly identity: Identity;
  readonly store: MetaStore;
  readonly leadership: Leadership;
  readonly peers: Peers;
  readonly service: ControlService;
  readonly trust: TrustStore;
  readonly consent: ConsentQueue;
  readonly invites: Invites;
  readonly revocations: Revocations;
  readonly door: MemberDoor;
}

/** A running control node. */
export class ControlNode {
  /** Called when somebody asks by RPC that the process end. */
  onShutdownRequested: () => void = () => undefined;
  readonly nodeId: NodeId;
  /** Where members reach it, as it listens. */
  readonly peerAddress: string;
  /** What it keeps its words in. */
  readonly storeDescription: string;
  readonly #parts: ControlParts;
  readonly #undo: Undo;
  readonly #logger: Logger;

  private constructor(parts: ControlParts, peerAddress: string, undo: Undo, logger: Logger) {
    this.#logger = logger;
    this.nodeId = parts.identity.nodeId;
    this.peerAddress = peerAddress;
    this.storeDescription = parts.store.description;
    this.#parts = parts;
    this.#undo = undo;
  }

  /**
   * Starts a control node; when this resolves it takes members and RPC.
   *
   * @throws MemcloudError `ERR_DAEMON_BUSY`, `ERR_IDENTITY`, `ERR_NATIVE`, `ERR_USAGE_ADDRESS`,
   *   `ERR_CONTROL_STORE`
   */
  static async start(config: ControlConfig, logger: LevelLogger): Promise<ControlNode> {
    const undo: Undo = [];
    try {
      const place = { peerAddress: '' };
      const address = (): string =>
        config.advertise ?? reachableAddresses(place.peerAddress)[0] ?? place.peerAddress;
      const parts = await openControlParts(config, logger, address, undo);
      const { peers, service } = parts;
      undo.push(followSessions(parts));
      const bound = await peers.listen(config.listen);
      place.peerAddress = formatAddress(bound.host, bound.port);
      const read = membersRead(parts, undo);
      service.start();
      await read;
      const node = new ControlNode(parts, place.peerAddress, undo, logger);
      await node.#listen(config);
      logger.info({ store: node.storeDescription, address: address() }, 'control node ready');
      return node;
    } catch (error) {
      for (const step of undo.reverse()) await step();
      throw error;
    }
  }

  /** One line for a service manager. */
  statusText(): string {
    const { leadership, peers } = this.#parts;
    const { leader } = leadership;
    const up = peers.peers().filter(({ state }) => state === 'up').length;
    const role =
      leader === undefined
        ? 'nobody leads'
        : leader.nodeId === this.nodeId
          ? `leads, term ${leader.epoch}`
          : `${leader.name} leads, term ${leader.epoch}`;
    return `${role}; ${up} members connected`;
  }

  /** Ends everything in order; what fails on the way is noted, and the rest ends all the same. */
  async close(): Promise<void> {
    for (const step of this.#undo.splice(0).reverse()) {
      try {
        await step();
      } catch (thrown) {
        const { code, message } = asMemcloudError(thrown);
        this.#logger.warn({ code }, `on the way out: ${message}`);
      }
    }
  }

  /** Takes admins. */
  async #listen(config: ControlConfig): Promise<void> {
    const { peers, service, trust, consent, invites, revocations, door, leadership } = this.#parts;
    const { nodeId, peerAddress } = this;
    const { name, advertise } = config;
    const garbageCollection = new GarbageCollectionWatch();
    this.#undo.push(() => garbageCollection.close());
    const handlers = controlHandlers({
      ...{ nodeId, peerAddress, name, advertise },
      ...{ peers, trust, consent, invites, revocations, door },
      // It checks both.
      call: (call, params) => service.call(call as ManagedCall, params as never),
      health: () => (leadership.leader === undefined ? ['no control node leads now'] : []),
      garbageCollection: () => garbageCollection.info,
      requestShutdown: () => this.onShutdownRequested(),
    });
    const rpc = new RpcServer(handlers, this.#logger);
    await rpc.listen(config.socketPath);
    this.#undo.push(() => rpc.close(RPC_CLOSE_GRACE_MS));
  }
}

async function openControlParts(
  { name, stateDirectory, store: storeText }: ControlConfig,
  logger: LevelLogger,
  address: () => string,
  undo: Undo,
): Promise<ControlParts> {
  const clock = monotonicClock;
  const lock = lockStateDirectory(stateDirectory, 'control node');
  undo.push(() => lock.release());
  const identity = Identity.load(stateDirectory);
  const { nodeId, signingKey } = identity;
  const store = await openMetaStore(storeText);
  undo.push(() => store.close());
  const leadership = new Leadership({ store, nodeId, name, address, clock, logger });
  undo.push(() => leadership.close());
  // The members are in the store, and who is denied is until the next start.
  const trust = TrustStore.inMemory();
  const consent = new ConsentQueue({ clock });
  const invites = new Invites(clock);
  const revocations = new Revocations({ trust, logger });
  const peers: Peers = new Peers({
    ...{ identity, name, trust, consent, invites, revocations, logger },
    managed: { serveManaged: (from, body) => service.serveManaged(from, body) },
    onJoined: (_nodeId, _allowedBytes, joined) => void door.onJoined(joined),
  });
  undo.push(() => peers.close());
  const service = new ControlService({
    ...{ store, leadership, nodeId, name, address, signingKey, clock, logger },
    links: peers.managedLinks,
    random: Math.random,
  });
  undo.push(() => service.close());
  undo.push(() => leadership.resign());
  const put = (key: string, memberName: string, grant: MemberGrant): Promise<ControlMember> => {
    const { roles, quotaBytes, quotaLeases } = grant;
    return service.call('admin.member-put', {
      ...{ key, name: memberName, roles: [...roles] },
      ...(quotaBytes === undefined ? {} : { quotaBytes }),
      ...(quotaLeases === undefined ? {} : { quotaLeases }),
    });
  };
  const door = new MemberDoor({ trust, consent, put, logger });
  return {
    ...{ identity, store, leadership, peers, service },
    ...{ trust, consent, invites, revocations, door },
  };
}

/** Tells the service which members are connected. */
function followSessions({ peers, service, trust }: ControlParts): () => void {
  return peers.managedLinks.onChange(({ nodeId, name, up }: ManagedLink) => {
    if (!up) {
      service.peerDown(nodeId);
      return;
    }
    const publicKey = trust.entryOf(nodeId)?.publicKey;
    const address = peers.peers().find((peer) => peer.nodeId === nodeId)?.address ?? '';
    if (publicKey === undefined) return;
    service.peerUp(nodeId, Buffer.from(publicKey, 'hex'), name, address);
  });
}

/** Has the door follow the members; resolves when they were read for the first time. */
function membersRead({ service, store, door }: ControlParts, undo: Undo): Promise<void> {
  return new Promise((resolve, reject) => {
    const late = new MemcloudError(
      'ERR_CONTROL_STORE',
      `the store ${store.description} has not told who the members are within ` +
        `${STORE_DEADLINE_MS / 1000} s; is it there, and does this machine reach it?`,
    );
    const timer = setTimeout(() => reject(late), STORE_DEADLINE_MS);
    const stop = service.onMembers((members) => {
      door.onMembers(members);
      clearTimeout(timer);
      resolve();
    });
    undo.push(() => {
      clearTimeout(timer);
      stop();
    });
  });
}
