/**
 * Objects joined with the rest of a daemon: they lie in the provider's memory, other nodes reach them over
 * their sessions, and clients of this node reach those of all nodes by RPC.
 *
 *   peers -- ObjectService --> server --> store --> ObjectMemory of the provider
 *   RPC ---------------------> pool ----> store, or ObjectLinks of peers
 *
 * Objects end with the process: nothing of them is handed over, and a daemon that would lose what cannot
 * be made again says so first ({@link Objects.lossOfHandover}).
 */
import { monotonicClock } from '../common/clock.ts';
import { asMemcloudError } from '../common/errors.ts';
import type { Logger } from '../common/log.ts';
import type { ObjectService } from '../common/objects.ts';
import type { NodeId } from '../common/ports.ts';
import { everyTick, type Tick } from '../common/ticker.ts';
import { formatSize } from '../common/units.ts';
import { ObjectPool } from '../objects/pool.ts';
import { ObjectServer } from '../objects/service.ts';
import { ObjectStore } from '../objects/store.ts';
import type { Peers } from '../peer/peers.ts';
import type { TrustStore } from '../peer/trust.ts';
import type { RamProvider } from '../provider/service.ts';
import type { DrainParts } from './drain.ts';
import { objectHandlers, type ObjectHandlers } from './objects/rpc.ts';
import type { ObjectNumbers } from './rpc/rpc.ts';

/** How often what is over is taken out, milliseconds. */
const TICK_MS = 250;

/** What surrounds the objects of a daemon. */
export interface ObjectSurroundings {
  /** What this node is called. */
  readonly name: string;
  /** Who may read an object whose writer does not say. */
  readonly readersDefault: 'trusted' | 'private';
  /** The other nodes. */
  readonly peers: Peers;
  /** Whose names are known, connected or not. */
  readonly trust: TrustStore;
}

/** The objects of a daemon. */
export class Objects {
  /** Answers other nodes. */
  readonly service: ObjectService;
  readonly #nodeId: NodeId;
  readonly #store: ObjectStore;
  readonly #timer: Tick;
  #closed = false;

  /** @param provider - whose memory they lie in; it is to be closed after them */
  constructor(nodeId: NodeId, provider: RamProvider, logger: Logger) {
    this.#nodeId = nodeId;
    const clock = monotonicClock;
    const memory = provider.openObjectMemory();
    this.#store = new ObjectStore({ nodeId, memory, clock, random: Math.random });
    this.service = new ObjectServer(this.#store, ({ stack }) => {
      logger.error({ err: String(stack) }, 'a request about objects failed');
    });
    this.#timer = everyTick(TICK_MS, () => {
      try {
        this.#store.tick(clock.nowMs());
      } catch (error) {
        logger.error({ err: String(asMemcloudError(error).stack) }, 'objects could not be tidied');
      }
    });
  }

  /** The methods of objects. */
  handlers({ name, readersDefault, peers, trust }: ObjectSurroundings): ObjectHandlers {
    const nodeId = this.#nodeId;
    const links = peers.objectLinks;
    const pool = new ObjectPool({
      ...{ nodeId, nodeName: name, links, random: Math.random },
      local: this.#store.openHolder(nodeId),
      usageHere: () => this.#store.usage(),
    });
    const resolveNode = (wanted: string): NodeId => {
      if (/^[0-9a-f]{32}$/.test(wanted)) return wanted;
      if (wanted === 'local' || wanted.toLowerCase() === name.toLowerCase()) return nodeId;
      const trusted = trust.list().find((entry) => isCalled(entry.name, wanted));
      return trusted?.nodeId ?? links.find(wanted).nodeId;
    };
    return objectHandlers({ pool, readersDefault, resolveNode });
  }

  /** Everybody's objects here, in numbers. */
  get numbers(): ObjectNumbers {
    const { hit, miss, put, evicted, expired, ...rest } = this.#store.counters;
    return {
      objects: this.#store.usage(),
      objectCounters: {
        ...{ hitCount: hit, missCount: miss, putCount: put },
        ...{ deleteCount: rest.delete, evictedCount: evicted, expiredCount: expired },
      },
    };
  }

  /** Why this process should not be replaced; undefined when nothing is lost that was to stay. */
  get lossOfHandover(): string | undefined {
    const { pinnedCount } = this.#store;
    if (pinnedCount === 0) return undefined;
    const size = formatSize(this.#store.usage().valueBytes);
    return (
      `${pinnedCount} pinned objects are here (with the others ${size}) and would be lost, for objects ` +
      'end with their memnode: copy them to another node first, or use --force'
    );
  }

  /** Whose objects are here, for a drain: they do not leave by themselves. */
  get drained(): DrainParts['objects'] {
    return {
      list: () =>
        this.#store.usageByOwner().map(([owner, { objectCount, valueBytes }]) => {
          return { owner, objectCount, valueBytes };
        }),
      pinnedCountOf: (owner) => this.#store.pinnedCountOf(owner),
    };
  }

  /** Wipes them. Sessions and clients have ended before. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#timer.stop();
    this.#store.close();
  }
}

function isCalled(name: string, wanted: string): boolean {
  return name.toLowerCase() === wanted.toLowerCase();
}
