/** The RPC methods about who is let in: requests for consent, trusted keys, invitations. */
import { MemcloudError } from '../../common/errors.ts';
import { fingerprintOf, parseKeyPattern } from '../../common/fingerprint.ts';
import {
  INVITE_ADDRESS_COUNT_MAX,
  decodeInviteToken,
  encodeInviteToken,
  type ControlNodePlace,
} from '../../common/invite-token.ts';
import type { NodeId } from '../../common/ports.ts';
import type { InviteInfo } from '../../common/rpc-nodes.ts';
import type { ConsentInfo, PeerInfo, RpcParams, TrustInfo } from '../../common/rpc-schema.ts';
import { formatAddress, parseAddress } from '../../common/units.ts';
import type { DialExpectation } from '../../peer/connection-context.ts';
import type { ConsentAnswer, ConsentQueue } from '../../peer/consent.ts';
import type { Invites, OpenInvite } from '../../peer/invites.ts';
import type { Peers } from '../../peer/peers.ts';
import type { Revocations } from '../../peer/revocations.ts';
import type { ExpectedKey, TrustEntry } from '../../peer/trust-file.ts';
import type { TrustStore } from '../../peer/trust.ts';
import type { RpcHandlers } from '../rpc-server.ts';
import { join } from './join.ts';
import { reachableAddresses } from './own-addresses.ts';

/** What the methods work on. */
export interface TrustContext {
  /** Who we are. */
  readonly nodeId: NodeId;
  /** Where peers reach us, as we listen. */
  readonly peerAddress: string;
  /** Our peers. */
  readonly peers: Peers;
  /** Strangers that wait. */
  readonly consent: ConsentQueue;
  /** Whom we trust. */
  readonly trust: TrustStore;
  /** The invitations that are open. */
  readonly invites: Invites;
  /** Who lost whose trust. */
  readonly revocations: Revocations;
  /** Our peers as people see them. */
  readonly listPeers: () => PeerInfo[];
}

/** Gives a node what it was promised here, bytes; undefined takes the promise back. */
export type Allow = (nodeId: NodeId, allowedBytes: number | undefined) => void;

type TrustMethod =
  | 'consent.list'
  | 'consent.answer'
  | 'trust.list'
  | 'trust.add'
  | 'trust.remove'
  | 'invite.create'
  | 'invite.list'
  | 'invite.revoke'
  | 'invite.join';

const ANSWERS: Readonly<Record<'allow' | 'trust' | 'deny', ConsentAnswer>> = {
  allow: 'once',
  trust: 'trust',
  deny: 'deny',
};

function listConsent(consent: ConsentQueue): ConsentInfo[] {
  return consent.list().map(({ id, nodeId, name, address, dialled, expiresInMs }) => ({
    request: id,
    nodeId,
    fingerprint: fingerprintOf(nodeId),
    name,
    address,
    direction: dialled ? 'outbound' : 'inbound',
    expiresInS: Math.round(expiresInMs / 1000),
  }));
}

function describeEntry(entry: TrustEntry, revocations: Revocations): TrustInfo {
  const { nodeId, publicKey, name, decision, decidedAtMs } = entry;
  return {
    nodeId,
    fingerprint: fingerprintOf(nodeId),
    publicKey,
    revokedBy: revocations.revokedBy(nodeId),
    name,
    decision,
    decidedAt: new Date(decidedAtMs).toISOString(),
  };
}

function describeExpected({ pattern, name, addedAtMs }: ExpectedKey): TrustInfo {
  const { nodeId = '' } = parseKeyPattern(pattern);
  const isKey = pattern.length === 64 && !pattern.includes('-');
  return {
    nodeId,
    fingerprint: nodeId === '' && !isKey ? pattern : nodeId === '' ? '' : fingerprintOf(nodeId),
    publicKey: isKey ? pattern : '',
    revokedBy: [],
    name,
    decision: 'expected',
    decidedAt: new Date(addedAtMs).toISOString(),
  };
}

function describeTrust(row: TrustEntry | ExpectedKey, revocations: Revocations): TrustInfo {
  return 'pattern' in row ? describeExpected(row) : describeEntry(row, revocations);
}

/** A peer that was removed would come back by the configuration: that has to be said first. */
function refuseConfigured({ trust }: TrustContext, which: string): void {
  const [pattern] = trust.configuredFor(which);
  if (pattern === undefined) return;
  throw new MemcloudError(
    'ERR_USAGE',
    `trust-fingerprint of the configuration trusts this key (${pattern}): take it out there first, ` +
      'then memcloud config reload; or refuse it whatever is configured: memcloud trust rm --deny',
  );
}

function removeTrust(context: TrustContext, { peer, deny }: RpcParams<'trust.remove'>): null {
  const { trust } = context;
  if (deny !== true) {
    refuseConfigured(context, peer);
    trust.remove(peer);
    return null;
  }
  const entry = trust.find(peer);
  if ('pattern' in entry) {
    throw new MemcloudError(
      'ERR_USAGE',
      'that key was never seen here; without --deny it is forgotten',
    );
  }
  trust.deny({ ...entry, publicKey: Buffer.from(entry.publicKey, 'hex') });
  return null;
}

/** An open invitation, as `invite ls` shows it. */
function describeInvite({ id, addresses, expiresInMs, allowedBytes }: OpenInvite): InviteInfo {
  const expiresInS = Math.max(0, Math.round(expiresInMs / 1000));
  return { invite: id, addresses, expiresInS, allowedBytes: allowedBytes ?? null };
}

/**
 * Opens an invitation and writes its token.
 *
 * @param controlNodes - of a control node: the others of its control plane
 * @throws MemcloudError `ERR_USAGE`, `ERR_USAGE_ADDRESS`, `ERR_INVITE`
 */
export function createInvite(
  { nodeId, peerAddress, invites }: Pick<TrustContext, 'nodeId' | 'peerAddress' | 'invites'>,
  { ttlMs, addresses: wanted, allowedBytes }: RpcParams<'invite.create'>,
  controlNodes?: readonly ControlNodePlace[],
): InviteInfo & { token: string } {
  const addresses = (wanted ?? reachableAddresses(peerAddress)).map(spelled);
  if (addresses.length === 0 || addresses.length > INVITE_ADDRESS_COUNT_MAX) {
    throw new MemcloudError(
      'ERR_USAGE',
      `an invitation has 1 to ${INVITE_ADDRESS_COUNT_MAX} addresses, got ${addresses.length}`,
    );
  }
  const { invite, secret } = invites.create({ addresses, ttlMs, allowedBytes });
  const others = controlNodes === undefined ? {} : { controlNodes };
  const token = encodeInviteToken({ nodeId, secret, addresses, ...others });
  secret.fill(0);
  return { ...describeInvite(invite), token };
}

/** An address that means the same on another machine. @throws MemcloudError `ERR_USAGE_ADDRESS` */
function spelled(address: string): string {
  const { host, port } = parseAddress(address);
  if (host === '' || port === 0 || !/^[\x21-\x7e]{1,255}$/.test(address)) {
    throw new MemcloudError(
      'ERR_USAGE_ADDRESS',
      `expected HOST:PORT as the other machine reaches it, got ${JSON.stringify(address)}`,
    );
  }
  return formatAddress(host, port);
}

async function joinByToken(
  context: TrustContext,
  { token: text, allowedBytes }: RpcParams<'invite.join'>,
  allow: Allow,
): Promise<PeerInfo> {
  const token = decodeInviteToken(text);
  if (token.nodeId === context.nodeId) {
    token.secret.fill(0);
    throw new MemcloudError('ERR_INVITE', 'this invitation is of this very node; join on another');
  }
  const { nodeId } = token;
  // Before it is let in, since it is told its room then.
  if (allowedBytes !== undefined) allow(nodeId, allowedBytes);
  let address;
  try {
    ({ address } = await join(context.peers, token));
  } catch (error) {
    if (context.trust.decisionOf(nodeId) !== 'trusted') allow(nodeId, undefined);
    throw error;
  }
  const found = context.listPeers().find((peer) => peer.nodeId === nodeId);
  if (found !== undefined) return found;
  throw new MemcloudError('ERR_PEER_UNREACHABLE', `the session with ${address} has ended again`);
}

/** The only key that an operator lets answer at an address that he dials. @throws MemcloudError `ERR_USAGE` */
export function pinOf(fingerprint: string | undefined): DialExpectation | undefined {
  if (fingerprint === undefined) return undefined;
  const { fits } = parseKeyPattern(fingerprint);
  return {
    pin: ({ nodeId, publicKey }) => fits(nodeId, Buffer.from(publicKey).toString('hex')),
  };
}

/** Sentences about trust that a human should read. */
export function trustHealth({
  peers,
  revocations,
  consent,
}: Pick<TrustContext, 'peers' | 'revocations' | 'consent'>): string[] {
  const sentences = peers.keyAlarms.map(
    ({ name, nodeId, trustedNodeId, address }) =>
      `REFUSED: ${address} calls itself "${name}" and has another key than the "${name}" that is ` +
      `trusted here: they are: ${fingerprintOf(nodeId)}; trusted is: ${fingerprintOf(trustedNodeId)}. ` +
      `If it was set up anew: memcloud trust rm ${trustedNodeId}`,
  );
  for (const { nodeId, name, by, isTrusted } of revocations.heard()) {
    if (!isTrusted) continue;
    const words = fingerprintOf(nodeId);
    sentences.push(
      `${by.join(', ')} no longer trust ${name} (${words}), which is trusted here: ` +
        `memcloud trust rm ${nodeId}, or memcloud trust add ${nodeId} to keep it`,
    );
  }
  const waiting = consent.list().length;
  if (waiting === 1) sentences.push('1 machine waits for consent: memcloud consent');
  if (waiting > 1) sentences.push(`${waiting} machines wait for consent: memcloud consent`);
  return sentences;
}

/** The handlers. */
export function trustHandlers(context: TrustContext, allow: Allow): Pick<RpcHandlers, TrustMethod> {
  const { consent, trust, invites, revocations } = context;
  return {
    'consent.list': () => listConsent(consent),
    'consent.answer': ({ request, answer }) => {
      consent.answer(request, ANSWERS[answer]);
      return null;
    },
    'trust.list': () => [
      ...trust.list().map((entry) => describeEntry(entry, revocations)),
      ...trust.expected.map(describeExpected),
    ],
    'trust.add': ({ fingerprint, name }) => {
      const added = trust.expect(fingerprint, name);
      return describeTrust(added, revocations);
    },
    'trust.remove': (params) => removeTrust(context, params),
    'invite.create': (params) => createInvite(context, params),
    'invite.list': () => invites.list().map(describeInvite),
    'invite.revoke': ({ invite }) => {
      invites.revoke(invite);
      return null;
    },
    'invite.join': (params) => joinByToken(context, params, allow),
  };
}
