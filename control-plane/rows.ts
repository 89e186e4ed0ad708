/** The leader's state as rows of listings, in pages. */
import type { NodeId } from '../common/ports.ts';
import type { Lease, LedgerState, Provider } from './ledger-state.ts';
import type { MemberRecord } from './record-codec.ts';
import type { ManagedResult } from './schema.ts';

type ProviderRow = ManagedResult<'admin.drain'>;
type LeaseRow = ManagedResult<'lease.list'>['rows'][number];
type MemberRow = ManagedResult<'admin.member-put'>;
type UsageRow = ManagedResult<'admin.usage'>['rows'][number];

/** Bytes of JSON in the rows of one answer at most; the rest follows with the next page. */
export const PAGE_SIZE_MAX_BYTES = 48_000;
const PAGE_COUNT_DEFAULT = 100;

/** What a page is asked with. */
export interface PageWish {
  readonly cursor?: string | undefined;
  readonly countMax?: number | undefined;
}

/** The first so many items behind a cursor, by id; not all are sorted for it. */
function firstBehind<Item>(
  items: Iterable<Item>,
  idOf: (item: Item) => string,
  cursor: string,
  countMax: number,
): { readonly first: Item[]; readonly isAll: boolean } {
  const byId = (a: Item, b: Item): number => (idOf(a) < idOf(b) ? -1 : 1);
  let first: Item[] = [];
  let isAll = true;
  let last: string | undefined;
  const cut = (): void => {
    first.sort(byId);
    isAll &&= first.length <= countMax;
    first = first.slice(0, countMax);
    const item = first.length === countMax ? first.at(-1) : undefined;
    last = item === undefined ? undefined : idOf(item);
  };
  for (const item of items) {
    const id = idOf(item);
    if (id <= cursor) continue;
    if (last !== undefined && id > last) isAll = false;
    else if (first.push(item) === 2 * countMax) cut();
  }
  cut();
  return { first, isAll };
}

/** One page of rows, in the order of their ids. */
export function pageOf<Item, Row>(
  items: Iterable<Item>,
  idOf: (item: Item) => string,
  rowOf: (item: Item) => Row,
  { cursor = '', countMax = PAGE_COUNT_DEFAULT }: PageWish,
): { rows: Row[]; cursor: string | null } {
  const { first, isAll } = firstBehind(items, idOf, cursor, countMax);
  const rows: Row[] = [];
  let size = 0;
  let last = '';
  for (const item of first) {
    const row = rowOf(item);
    size += Buffer.byteLength(JSON.stringify(row)) + 1;
    if (size > PAGE_SIZE_MAX_BYTES && rows.length > 0) break;
    rows.push(row);
    last = idOf(item);
  }
  return { rows, cursor: isAll && rows.length === first.length ? null : last };
}

/** Whether a provider is `up`, `full`, `draining` or `down`. */
export function providerState(state: LedgerState, provider: Provider): ProviderRow['state'] {
  if (!provider.isUp) return 'down';
  if (provider.record.draining || provider.isDraining) return 'draining';
  return provider.isAccepting && state.freeBytes(provider) > 0 ? 'up' : 'full';
}

/** A provider. */
export function providerRow(state: LedgerState, nowMs: number, provider: Provider): ProviderRow {
  const { nodeId, name, address, hostId, zone, offeredBytes } = provider.record;
  return {
    ...{ nodeId, name, address, hostId, zone, offeredBytes },
    state: providerState(state, provider),
    reservedBytes: provider.reservedBytes,
    leaseCount: provider.leases.size,
    seenMsAgo: Math.max(0, Math.round(nowMs - provider.seenMs)),
  };
}

/** A lease. */
export function leaseRow(state: LedgerState, nowMs: number, lease: Lease): LeaseRow {
  const { leaseId, client, provider, sizeBytes, purpose, ttlMs } = lease.record;
  const isGranted = lease.record.state === 'granted';
  const leftMs = isGranted ? ttlMs : lease.deadlineMs - nowMs;
  return {
    ...{ leaseId, client, provider, sizeBytes, purpose },
    clientName: state.nameOf(client),
    providerName: state.providers.get(provider)?.record.name ?? '',
    state: lease.isOver ? 'ending' : lease.record.state,
    endsInMs: Math.max(0, Math.round(leftMs)),
  };
}

/** A member. */
export function memberRow(
  state: LedgerState,
  member: MemberRecord,
  isConnected: (nodeId: NodeId) => boolean,
): MemberRow {
  const { nodeId, publicKey, name, roles, quotaBytes, quotaLeases } = member;
  const meter = state.usage.get(nodeId);
  return {
    ...{ nodeId, publicKey, name, roles, quotaBytes, quotaLeases },
    usedBytes: meter?.usedBytes ?? 0,
    usedLeases: meter?.usedLeases ?? 0,
    connected: isConnected(nodeId),
  };
}

/** What a client has used. */
export function usageRow(state: LedgerState, nowMs: number, client: NodeId): UsageRow {
  const meter = state.meter(client, nowMs);
  const { usedBytes, usedLeases, leasesGranted, leasesDenied, peakBytes } = meter;
  return {
    ...{ client, usedBytes, usedLeases, leasesGranted, leasesDenied, peakBytes },
    name: state.nameOf(client),
    quotaBytes: state.members.get(client)?.quotaBytes ?? null,
    byteSeconds: meter.byteSeconds(nowMs),
  };
}

/** What is free in a zone. */
export interface ZoneCapacity {
  readonly zone: string;
  readonly offeredBytes: number;
  readonly reservedBytes: number;
  readonly freeBytes: number;
  /** Providers that lend now. */
  readonly providers: number;
}

/** What is free, by zone; only providers that lend now count. */
export function zoneCapacities(state: LedgerState): Map<string, ZoneCapacity> {
  const zones = new Map<string, ZoneCapacity>();
  for (const provider of state.providers.values()) {
    const { zone, offeredBytes } = provider.record;
    const sum = zones.get(zone) ?? zoneCapacity(zone);
    const phase = providerState(state, provider);
    const lends = phase === 'up' || phase === 'full';
    zones.set(zone, {
      zone,
      offeredBytes: sum.offeredBytes + (lends ? offeredBytes : 0),
      reservedBytes: sum.reservedBytes + provider.reservedBytes,
      freeBytes: sum.freeBytes + (phase === 'up' ? state.freeBytes(provider) : 0),
      providers: sum.providers + (lends ? 1 : 0),
    });
  }
  return zones;
}

function zoneCapacity(zone: string): ZoneCapacity {
  return { zone, offeredBytes: 0, reservedBytes: 0, freeBytes: 0, providers: 0 };
}
