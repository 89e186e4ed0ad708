/** The methods that are about RPC itself: numbers of the daemon, and events. */
import { MemcloudError } from '../../common/errors.ts';
import type { StatsInfo } from '../../common/rpc-nodes.ts';
import type { StatusInfo } from '../../common/rpc-schema.ts';
import type { RpcCall, RpcHandlers } from './call.ts';
import { EVENT_TOPICS, Events, isEventTopic, type EventLook, type EventLooks } from './events.ts';

/** What is known of objects here, in numbers. */
export type ObjectNumbers = Pick<StatsInfo, 'objects' | 'objectCounters'>;

/** What the methods of this file work on. */
export interface NumbersContext {
  /** What objects take, and what was done with them. */
  readonly objectNumbers: () => ObjectNumbers;
  /** Connections and calls. */
  readonly rpcCounters: () => StatsInfo['rpc'];
  /** What is lent. */
  readonly provider: {
    /** How it stands. */
    status(): { readonly usage: StatusInfo['provider']['usage'] };
  };
  /** The peers. */
  readonly peers: {
    /** Every peer. */
    peers(): readonly { readonly state: string }[];
  };
  /** The volumes. */
  readonly volumes: {
    /** Every volume. */
    list(): readonly { readonly storedBytes: number }[];
  };
}

function stats(context: NumbersContext): StatsInfo {
  const peers = context.peers.peers();
  const volumes = context.volumes.list();
  return {
    uptimeS: Math.round(process.uptime()),
    ...context.objectNumbers(),
    provider: context.provider.status().usage,
    peers: { up: peers.filter(({ state }) => state === 'up').length, known: peers.length },
    volumes: {
      count: volumes.length,
      storedBytes: volumes.reduce((sum, { storedBytes }) => sum + storedBytes, 0),
    },
    rpc: context.rpcCounters(),
    residentBytes: process.memoryUsage.rss(),
  };
}

/** A call that nobody made and nobody takes back. */
const OUR_OWN: RpcCall = {
  signal: new AbortController().signal,
  connection: { id: 0, onClose: () => () => undefined, push: () => false, onRoom: () => undefined },
};

function byName<T extends object>(rows: readonly T[], name: (row: T) => string): EventLook {
  return new Map(rows.map((row) => [name(row), row]));
}

/** What may be seen of each topic; numbers that change by themselves all the time are left out. */
function looks(context: NumbersContext, all: () => RpcHandlers): EventLooks {
  return {
    peer: async () =>
      byName(
        (await all()['peer.list']({}, OUR_OWN)).map(
          ({ nodeId, name, address, state, reason, accepting, allowedBytes, quarantine }) => ({
            ...{ nodeId, name, address, state, reason, accepting, allowedBytes, quarantine },
          }),
        ),
        ({ nodeId, address }) => nodeId || address,
      ),
    consent: async () =>
      byName(
        (await all()['consent.list']({}, OUR_OWN)).map(
          ({ request, nodeId, name, address, fingerprint, direction }) => ({
            ...{ request, nodeId, name, address, fingerprint, direction },
          }),
        ),
        ({ request }) => request,
      ),
    trust: async () => byName(await all()['trust.list']({}, OUR_OWN), ({ nodeId }) => nodeId),
    volume: async () =>
      byName(
        (await all()['volume.list']({}, OUR_OWN)).map(
          ({ name, sizeBytes, copies, health, servedAt, devices }) => ({
            ...{ name, sizeBytes, copies, health, servedAt, devices },
          }),
        ),
        ({ name }) => name,
      ),
    mount: async () =>
      byName(
        (await all()['mount.list']({}, OUR_OWN)).map(
          ({ directory, volume, state, reason, sizeBytes, degradedSlabs, damagedFileCount }) => ({
            ...{ directory, volume, state, reason, sizeBytes, degradedSlabs, damagedFileCount },
          }),
        ),
        ({ volume }) => volume,
      ),
    lease: async () =>
      byName(
        (await all()['managed.list']({}, OUR_OWN)).map(
          ({ leaseId, provider, sizeBytes, purpose, state, reason, renews, warnedMs }) => ({
            ...{ leaseId, provider, sizeBytes, purpose, state, reason, renews, warnedMs },
          }),
        ),
        ({ leaseId }) => leaseId,
      ),
    object: () => new Map([['here', context.objectNumbers().objects]]),
    config: async () =>
      byName([...(await all()['config.get']({}, OUR_OWN)).settings], ({ key }) => key),
  };
}

/**
 * The handlers.
 *
 * @param all - every handler of the daemon, these included; asked when something is looked at
 */
export function numbersHandlers(
  context: NumbersContext,
  all: () => RpcHandlers,
): Pick<RpcHandlers, 'stats' | 'events.subscribe'> {
  const events = new Events(looks(context, all));
  return {
    stats: () => stats(context),
    'events.subscribe': async ({ topics = EVENT_TOPICS }, { connection }) => {
      const wanted = topics.map((topic) => {
        if (isEventTopic(topic)) return topic;
        const text = `topics: expected some of ${EVENT_TOPICS.join(', ')}, got "${topic}"`;
        throw new MemcloudError('ERR_USAGE', text);
      });
      await events.subscribe(connection, new Set(wanted));
      return null;
    },
  };
}
