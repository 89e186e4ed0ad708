/** The calls of admins (`admin.*`), answered by the leader. */
import { MemcloudError } from '../common/errors.ts';
import { AUDIT_PREFIX, auditKey, parseAuditLine, type AuditLine } from './audit.ts';
import { decideFor, type Handler } from './call-context.ts';
import { revokeLeases } from './lease-machine.ts';
import type { Lease, LedgerState } from './ledger-state.ts';
import { findMember, findProvider, putMember, removeMember } from './member-machine.ts';
import { drainProvider } from './provider-machine.ts';
import { PREFIX, readRecord } from './record-codec.ts';
import { memberRow, PAGE_SIZE_MAX_BYTES, pageOf, providerRow, usageRow } from './rows.ts';
import type { ManagedParams } from './schema.ts';

const AUDIT_COUNT_DEFAULT = 100;

const status: Handler<'admin.status'> = async (context) => {
  const { leader, store, cluster, key, name, address } = context;
  const { entries } = await store.list(PREFIX.control);
  const controlNodes = entries.map(({ value }) => {
    const record = readRecord.control(value);
    return { ...record, leads: record.nodeId === key.nodeId };
  });
  if (!controlNodes.some(({ leads }) => leads)) {
    controlNodes.push({ nodeId: key.nodeId, name, address: address(), leads: true });
  }
  return leader.read((state, nowMs) => {
    const providers = [...state.providers.values()];
    const up = providers.filter(({ isUp }) => isUp);
    return {
      cluster,
      store: store.description.slice(0, 512),
      controlNodes,
      epoch: leader.epoch,
      providers: { up: up.length, known: providers.length },
      members: state.members.size,
      leaseCount: state.leases.size,
      offeredBytes: up.reduce((sum, { record }) => sum + record.offeredBytes, 0),
      reservedBytes: state.reservedBytes,
      grantedLastMinute: state.granted.sum(nowMs),
      deniedLastMinute: state.denied.sum(nowMs),
    };
  });
};

const providers: Handler<'admin.providers'> = ({ leader }, _from, wish) =>
  leader.read((state, nowMs) =>
    pageOf(
      state.providers.values(),
      ({ record }) => record.nodeId,
      (provider) => providerRow(state, nowMs, provider),
      wish,
    ),
  );

const members: Handler<'admin.members'> = ({ leader, sessions }, _from, wish) =>
  leader.read((state) =>
    pageOf(
      state.members.values(),
      ({ id }) => id,
      (member) => memberRow(state, member, (nodeId) => sessions.has(nodeId)),
      wish,
    ),
  );

const memberPut: Handler<'admin.member-put'> = async (context, from, params) => {
  const member = await decideFor(context, from, (state, nowMs) => putMember(state, nowMs, params));
  return memberRow(context.leader.state, member, (nodeId) => context.sessions.has(nodeId));
};

const memberRemove: Handler<'admin.member-remove'> = (context, from, { key }) =>
  decideFor(context, from, (state, nowMs) => removeMember(state, nowMs, key));

/** The leases that a revocation names, and the ids that name none. */
function named(
  state: LedgerState,
  { leaseIds = [], client, provider }: ManagedParams<'admin.revoke'>,
): { leases: Set<Lease>; unknown: string[] } {
  const leases = new Set(leaseIds.flatMap((id) => state.leases.get(id) ?? []));
  if (client !== undefined) {
    const nodeId = findMember(state, client)?.nodeId ?? client;
    const ofClient = state.clientLeases.get(nodeId);
    if (ofClient === undefined && findMember(state, client) === undefined) {
      throw new MemcloudError(
        'ERR_PEER_UNKNOWN',
        `there is no client "${client.slice(0, 64)}" here`,
      );
    }
    for (const lease of ofClient ?? []) leases.add(lease);
  }
  if (provider !== undefined) {
    for (const lease of findProvider(state, provider).leases) leases.add(lease);
  }
  return { leases, unknown: leaseIds.filter((id) => !state.leases.has(id)) };
}

const revoke: Handler<'admin.revoke'> = async (context, from, params) => {
  if (Object.values(params).every((value) => value === undefined)) {
    throw new MemcloudError('ERR_USAGE', 'expected leases, a client or a provider; got none');
  }
  let unknown: string[] = [];
  const revoked = await decideFor(context, from, (state, nowMs) => {
    const found = named(state, params);
    ({ unknown } = found);
    return revokeLeases(state, nowMs, found.leases);
  });
  return { revoked, unknown };
};

const drain: Handler<'admin.drain'> = async (context, from, { provider: text, draining }) => {
  const { leader } = context;
  const provider = await decideFor(context, from, (state, nowMs) =>
    drainProvider(state, nowMs, findProvider(state, text), draining),
  );
  return leader.read((state, nowMs) => providerRow(state, nowMs, provider));
};

const usage: Handler<'admin.usage'> = ({ leader }, _from, wish) =>
  leader.read((state, nowMs) =>
    pageOf(
      state.usage.keys(),
      (client) => client,
      (client) => usageRow(state, nowMs, client),
      wish,
    ),
  );

const audit: Handler<'admin.audit'> = async ({ leader, store }, _from, params) => {
  const { after, countMax = AUDIT_COUNT_DEFAULT } = params;
  await leader.read(() => undefined);
  const { entries } = await store.list(AUDIT_PREFIX, {
    countMax,
    ...(after === undefined ? {} : { after: auditKey(after) }),
  });
  const rows: AuditLine[] = [];
  let size = 0;
  for (const { value } of entries) {
    size += Buffer.byteLength(value) + 1;
    if (size > PAGE_SIZE_MAX_BYTES && rows.length > 0) break;
    rows.push(parseAuditLine(value));
  }
  return { rows };
};

const watch: Handler<'admin.watch'> = ({ leader }, _from, params) => leader.watch(params);

/** The calls of admins. */
export const adminCalls = {
  'admin.status': status,
  'admin.providers': providers,
  'admin.members': members,
  'admin.member-put': memberPut,
  'admin.member-remove': memberRemove,
  'admin.revoke': revoke,
  'admin.drain': drain,
  'admin.usage': usage,
  'admin.audit': audit,
  'admin.watch': watch,
};
