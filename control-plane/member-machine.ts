/**
 * Who may do what: members, entered by an admin, by a node id, a public key or a fingerprint in words. A
 * member that was entered by its fingerprint is bound to its key when it first comes. A machine: decisions
 * over `LedgerState`, time as an argument.
 */
import { MemcloudError } from '../common/errors.ts';
import { fingerprintOf, isKeyPattern, nodeIdOf, parseKeyPattern } from '../common/fingerprint.ts';
import type { NodeId } from '../common/ports.ts';
import { decided, refused, Steps, type Decision } from './decision.ts';
import { revokeLeases } from './lease-machine.ts';
import type { LedgerState, Provider } from './ledger-state.ts';
import { providerLost } from './provider-machine.ts';
import { PREFIX, type MemberRecord } from './record-codec.ts';
import type { ManagedParams } from './schema.ts';

/** Members of one control plane at most. */
export const MEMBER_COUNT_MAX = 20_000;

/** The id of the record of a key as it was entered. */
function idOfPattern(text: string): {
  readonly id: string;
  readonly nodeId: string;
  publicKey: string;
} {
  const wanted = text.trim().toLowerCase();
  if (/^[0-9a-f]{64}$/.test(wanted)) {
    const nodeId = nodeIdOf(Buffer.from(wanted, 'hex'));
    return { id: nodeId, nodeId, publicKey: wanted };
  }
  const { nodeId } = parseKeyPattern(wanted);
  if (nodeId !== undefined) return { id: nodeId, nodeId, publicKey: '' };
  return { id: wanted.split(/[-.\s]+/).join('-'), nodeId: '', publicKey: '' };
}

/**
 * The member that a text names: a node id, a public key, a fingerprint, or the name that only one has.
 *
 * @throws MemcloudError `ERR_USAGE` when several have the name
 */
export function findMember(state: LedgerState, text: string): MemberRecord | undefined {
  if (isKeyPattern(text)) {
    const { id, nodeId } = idOfPattern(text);
    if (nodeId !== '') return state.memberOf(nodeId);
    const bound = (member: MemberRecord): boolean =>
      member.nodeId !== '' && fingerprintOf(member.nodeId) === id;
    return state.members.get(id) ?? [...state.members.values()].find(bound);
  }
  const named = [...state.members.values()].filter(({ name }) => name === text);
  if (named.length <= 1) return named[0];
  throw new MemcloudError(
    'ERR_USAGE',
    `${named.length} members are called "${text}"; say the node id or the fingerprint`,
  );
}

/** The provider that a text names, as {@link findMember}. @throws MemcloudError `ERR_PEER_UNKNOWN`, `ERR_USAGE` */
export function findProvider(state: LedgerState, text: string): Provider {
  const provider =
    state.providers.get(findMember(state, text)?.nodeId ?? '') ??
    state.providers.get(text) ??
    [...state.providers.values()].find(({ record }) => record.name === text);
  if (provider !== undefined) return provider;
  throw new MemcloudError('ERR_PEER_UNKNOWN', `there is no provider "${text}" here`);
}

/** Binds a member that comes to its key; without effect when it is, or is none. */
export function bindMember(
  state: LedgerState,
  nodeId: NodeId,
  publicKey: string,
  name: string,
): Steps {
  const steps = new Steps();
  const member = state.memberOf(nodeId);
  if (member === undefined || (member.nodeId !== '' && member.publicKey !== '')) return steps;
  const bound = { ...member, id: nodeId, nodeId, publicKey, name: member.name || name };
  const step = steps.next;
  if (member.id !== nodeId) {
    state.members.delete(member.id);
    step.remove(PREFIX.member + member.id);
  }
  state.members.set(nodeId, bound);
  step.put(PREFIX.member + nodeId, bound);
  step.note('member.bound', { member: nodeId, name: bound.name, pattern: member.pattern });
  return steps;
}

/** Adds a member or changes one. Refusals: `ERR_USAGE` for a key that is none, `ERR_LEASE_INVALID` at the bound. */
export function putMember(
  state: LedgerState,
  nowMs: number,
  { key, ...changes }: ManagedParams<'admin.member-put'>,
): Decision<MemberRecord> {
  const steps = new Steps();
  const known = findMember(state, key);
  if (known === undefined && state.members.size >= MEMBER_COUNT_MAX) {
    return refused(steps, 'ERR_USAGE', `expected at most ${MEMBER_COUNT_MAX} members`);
  }
  const fresh = (): MemberRecord => ({
    ...{ ...idOfPattern(key), pattern: key.trim().toLowerCase(), name: '' },
    ...{ roles: ['client'], quotaBytes: null, quotaLeases: null },
  });
  const before = known ?? fresh();
  const member: MemberRecord = {
    ...before,
    name: changes.name ?? before.name,
    roles: [...new Set(changes.roles ?? before.roles)],
    quotaBytes: changes.quotaBytes === undefined ? before.quotaBytes : changes.quotaBytes,
    quotaLeases: changes.quotaLeases === undefined ? before.quotaLeases : changes.quotaLeases,
  };
  state.members.set(member.id, member);
  const step = steps.next;
  step.put(PREFIX.member + member.id, member);
  const { id, name, roles, quotaBytes, quotaLeases } = member;
  step.note('member.put', { member: id, name, roles, quotaBytes, quotaLeases });
  loseRoles(state, steps, nowMs, member, before);
  return decided(steps, member);
}

/** What follows when a member was a client or a provider and is none any more. @returns leases that are revoked */
function loseRoles(
  state: LedgerState,
  steps: Steps,
  nowMs: number,
  after: Pick<MemberRecord, 'nodeId' | 'roles'>,
  before: MemberRecord,
): number {
  const { nodeId } = after;
  const lost = before.roles.filter((role) => !after.roles.includes(role));
  let revoked = 0;
  if (lost.includes('client')) {
    const leases = state.clientLeases.get(nodeId) ?? [];
    const { answer } = revokeLeases(state, nowMs, leases, steps);
    if ('value' in answer) revoked = answer.value;
  }
  const provider = state.providers.get(nodeId);
  if (lost.includes('provider') && provider !== undefined) {
    steps.list.push(...providerLost(state, nowMs, nodeId).list);
    state.storeProvider(steps.next, provider);
  }
  return revoked;
}

/** Takes membership away. Refusal: `ERR_PEER_UNKNOWN`. */
export function removeMember(
  state: LedgerState,
  nowMs: number,
  key: string,
): Decision<{ readonly revokedLeases: number }> {
  const steps = new Steps();
  const member = findMember(state, key);
  if (member === undefined) {
    return refused(steps, 'ERR_PEER_UNKNOWN', `there is no member "${key.slice(0, 64)}" here`);
  }
  state.members.delete(member.id);
  const step = steps.next;
  step.remove(PREFIX.member + member.id);
  step.note('member.remove', { member: member.id, name: member.name });
  const after = { nodeId: member.nodeId, roles: [] };
  return decided(steps, { revokedLeases: loseRoles(state, steps, nowMs, after, member) });
}
