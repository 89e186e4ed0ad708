/**
 * This node as a member of a control plane (docs/control-plane.md): the way to the leader, and who answers
 * which managed call.
 *
 *   peers -- ManagedService --> provider agent --> managed leases of the provider
 *                          `--> `onEnding`: the client's half (wire-managed-client.ts)
 *   peers -- ManagedLinks ----> control link ----> both halves
 *
 * Without `control-plane` in the configuration there is none of it: peers are told that this node takes no
 * managed calls.
 */
import { performance, type EventLoopUtilization } from 'node:perf_hooks';
import { monotonicClock } from '../common/clock.ts';
import { parseControlTarget, type ControlTarget } from '../common/control-target.ts';
import { MemcloudError, asMemcloudError } from '../common/errors.ts';
import type { Logger } from '../common/log.ts';
import type { ManagedLinks, ManagedService } from '../common/managed.ts';
import type { NodeId } from '../common/ports.ts';
import type { ManagedStatus } from '../common/rpc-managed.ts';
import { everyTick, type Tick } from '../common/ticker.ts';
import { ControlLink } from '../control-plane/control-link.ts';
import {
  decodeManagedCall,
  encodeManagedError,
  encodeManagedResult,
  type DecodedCall,
} from '../control-plane/messages.ts';
import { PROVIDER_TICK_MS, ProviderAgent } from '../control-plane/provider-agent.ts';
import type { ProviderRoom } from '../control-plane/provider-registration.ts';
import type { ManagedCall, ManagedParams, ManagedResult } from '../control-plane/schema.ts';
import type { Dialer } from '../peer/dialer.ts';
import type { Identity } from '../peer/identity.ts';
import type { Peers } from '../peer/peers.ts';
import type { TrustStore } from '../peer/trust.ts';
import type { RamProvider } from '../provider/service.ts';
import type { DaemonConfig } from './config.ts';

/** The load of a provider is that of so long a time, milliseconds. */
const LOAD_WINDOW_MS = 1_000;
/** A control node that is away is dialled this often at least, milliseconds. */
const REDIAL_MAX_MS = 2_000;
const NO_CONTROL =
  'answers, and is no control node: it takes part in no control plane, or is older';

/** What surrounds it. */
export interface ManagedSurroundings {
  readonly identity: Identity;
  readonly trust: TrustStore;
  readonly peers: Peers;
  readonly provider: RamProvider;
  readonly hostId: string;
  /** TCP port of this node, once it listens. */
  readonly port: () => number;
}

/** Managed mode of one memnode: made, started when the parts around it are there, connected when it may dial. */
export class Managed implements ManagedService {
  /** A lease that this node borrows will end, or has; its owner sets it. Asked by control nodes of this term or a later one only. */
  onEnding: (params: ManagedParams<'manage.ending'>) => void = () => undefined;
  /** Whether this node borrows from another, whose session must stay; its owner sets it. */
  borrowsFrom: (nodeId: NodeId) => boolean = () => false;
  /** The control nodes of the configuration; none: this node is not managed. */
  readonly targets: readonly ControlTarget[];
  readonly #config: Pick<DaemonConfig, 'controlPlane' | 'offerBytes' | 'zone'>;
  readonly #logger: Logger;
  #control: ControlLink | undefined;
  #agent: ProviderAgent | undefined;
  #timer: Tick | undefined;
  #dialers: readonly Dialer[] = [];
  #links: ManagedLinks | undefined;

  constructor(config: Pick<DaemonConfig, 'controlPlane' | 'offerBytes' | 'zone'>, logger: Logger) {
    this.#config = config;
    this.targets = config.controlPlane.map(parseControlTarget);
    this.#logger = logger;
  }

  /** The way to the leader; undefined for a node without a control plane. */
  get control(): ControlLink | undefined {
    return this.#control;
  }

  /** Makes the halves; nothing without a control plane. The peers are its already. */
  start({ identity, trust, peers, provider, hostId, port }: ManagedSurroundings): void {
    const { zone } = this.#config;
    const { targets } = this;
    if (targets.length === 0) return;
    const clock = monotonicClock;
    const logger = this.#logger;
    const control = new ControlLink({ links: peers.managedLinks, targets, clock, logger });
    this.#control = control;
    this.#timer = everyTick(PROVIDER_TICK_MS, () => this.#tick());
    if (this.#config.offerBytes === 0) return;
    const room = new RoomGauge(provider);
    this.#agent = new ProviderAgent({
      link: control,
      memory: provider.openManaged(),
      admissions: peers.admissions,
      identity,
      trustedKeyOf: (nodeId) => {
        const entry = trust.entryOf(nodeId);
        return entry?.decision === 'trusted' ? Buffer.from(entry.publicKey, 'hex') : undefined;
      },
      isNeeded: (nodeId) => this.borrowsFrom(nodeId),
      usage: () => room.read(),
      ...{ port, hostId, zone, clock, logger },
    });
  }

  /** Keeps the control nodes connected from now on. */
  connect(peers: Peers): void {
    this.#links = peers.managedLinks;
    this.#dialers = this.targets.map(({ address, fits }) => {
      return peers.connect(address, fits && { pin: ({ nodeId }) => fits(nodeId) });
    });
  }

  /** {@link ManagedService.serveManaged} */
  async serveManaged(from: NodeId, body: Buffer): Promise<Uint8Array> {
    try {
      const call = decodeManagedCall(body);
      const answer = await (this.#agent?.answer(from, call) ?? this.#answerAsClient(from, call));
      return encodeManagedResult<ManagedCall>(call.call, answer);
    } catch (error) {
      const known = asMemcloudError(error);
      if (known.fault === 'internal') {
        this.#logger.error({ err: String(known.stack) }, 'a managed call failed');
      }
      return encodeManagedError(known);
    }
  }

  /** Whether a node has managed leases here. */
  lendsTo(nodeId: NodeId): boolean {
    return this.#agent?.lendsTo(nodeId) ?? false;
  }

  /** What this node lends by the word of the control plane; null when it takes part in none, or lends nothing. */
  providerStatus(provider: RamProvider): ManagedStatus['provider'] {
    if (this.#agent === undefined) return null;
    const { registered, leaseCount } = this.#agent;
    return { registered, leaseCount, reservedBytes: provider.reservedBytes };
  }

  /** Why this node is no provider though it would lend; empty when it is. */
  get problem(): string {
    return this.#agent?.problem ?? '';
  }

  /** Why no control node leads, as far as dialling them told. */
  get whyApart(): string {
    const reasons = this.#dialers.map(({ address, state, lastError }) => {
      if (state === 'up') {
        const isControl = this.#links?.at(address)?.up === true;
        return isControl ? `${address} answers, and does not lead` : `${address} ${NO_CONTROL}`;
      }
      return `${address}: ${lastError?.message ?? 'it was not reached yet'}`;
    });
    return `no control node leads; ${reasons.join('; ')}`;
  }

  /** Ends every managed lease that was lent, and tells the leader if it answers. Clients of this node are gone. */
  async close(): Promise<void> {
    this.#timer?.stop();
    await this.#agent?.close();
    this.#control?.close();
  }

  /** As {@link Managed.close}, where nobody can be told any more: a successor has the peers. */
  abandon(): void {
    this.#control?.close();
    void this.close();
  }

  #tick(): void {
    try {
      this.#agent?.tick();
      // Peers may be waited for half a minute; a control node is missed by everybody here.
      for (const dialer of this.#dialers) if (isLate(dialer)) dialer.start();
    } catch (error) {
      const { stack } = asMemcloudError(error);
      this.#logger.error({ err: String(stack) }, 'managed mode: a tick failed');
    }
  }

  async #answerAsClient(
    from: NodeId,
    { call, params }: DecodedCall,
  ): Promise<ManagedResult<'manage.ending'>> {
    if (call !== 'manage.ending' || this.#control === undefined) {
      throw new MemcloudError('ERR_UNSUPPORTED', `this node does not answer ${call}`);
    }
    if (!this.#control.isControlNode(from)) {
      const text = 'the node that asks is no control node of this client';
      throw new MemcloudError('ERR_CONTROL_DENIED', text);
    }
    this.#hear(params.epoch);
    this.onEnding(params);
    return Promise.resolve({});
  }

  /** @throws MemcloudError `ERR_CONTROL_NOT_LEADER` */
  #hear(epoch: number): void {
    const known = this.#control?.leader?.epoch ?? 0;
    if (epoch >= known) return;
    const text = `term ${epoch} is over: this node has heard of term ${known}`;
    throw new MemcloudError('ERR_CONTROL_NOT_LEADER', text);
  }
}

/** Whether a control node would be dialled later than it should be. */
function isLate({ waitMs }: Dialer): boolean {
  return waitMs !== undefined && waitMs > REDIAL_MAX_MS;
}

/** Reads a provider's room, and how busy its thread is. */
class RoomGauge {
  readonly #provider: RamProvider;
  #before: EventLoopUtilization = performance.eventLoopUtilization();
  #load = 0;

  constructor(provider: RamProvider) {
    this.#provider = provider;
  }

  read(): ProviderRoom {
    const { offeredBytes, usedBytes } = this.#provider.usage();
    const { accepting, draining, stallShare } = this.#provider.giveBackStatus();
    return {
      offeredBytes,
      otherBytes: usedBytes - this.#provider.reservedBytes,
      ...{ accepting, draining },
      load: Math.max(this.#busyShare(), Math.min(1, stallShare)),
    };
  }

  /** Over the time since it was read last, at least {@link LOAD_WINDOW_MS}. */
  #busyShare(): number {
    const now = performance.eventLoopUtilization();
    const since = performance.eventLoopUtilization(now, this.#before);
    if (since.idle + since.active < LOAD_WINDOW_MS) return this.#load;
    this.#before = now;
    this.#load = Math.min(1, Math.max(0, since.utilization));
    return this.#load;
  }
}
