/**
 * The bodies of peer exchange (docs/peer-protocol.md section 8 "Peer exchange"): the nodes that a node
 * has a session with. A codec; pure and total.
 */
import { MemcloudError } from '../common/errors.ts';
import type { NodeId } from '../common/ports.ts';
import { formatAddress, parseAddress } from '../common/units.ts';
import { asHex, asList, asMap, refuseBody } from './control-fields.ts';
import type { PackedMap } from './message-pack.ts';

/** Section 8 "Peer exchange": nodes in one answer. */
export const EXCHANGE_COUNT_MAX = 64;
const NODE_ID_DIGITS = 32;
/** An IPv6 address, brackets and a port fit. */
const ADDRESS_LENGTH_MAX = 64;
/** Of IPv4 or IPv6, without a scope, which is an interface of the teller's. */
const IP_PATTERN = /^(?:[\d.]+|[\da-f:.]+)$/i;

/** A node that a peer has a session with, by its word. */
export interface PeerHint {
  /** Node id: a claim, which a dial proves or not. */
  readonly nodeId: NodeId;
  /** Where it takes peers, `IP:PORT`. */
  readonly address: string;
}

/**
 * As many as travel in one answer; of more than that each answer takes up where the last one ended, so that
 * all are told in turn.
 *
 * @param told - how many the answers before have held
 */
export function shareInTurn<Item>(all: readonly Item[], told: number): readonly Item[] {
  if (all.length <= EXCHANGE_COUNT_MAX) return all;
  const from = told % all.length;
  const share = all.slice(from, from + EXCHANGE_COUNT_MAX);
  return [...share, ...all.slice(0, EXCHANGE_COUNT_MAX - share.length)];
}

/** The fields of a reply. @param hints - at most {@link EXCHANGE_COUNT_MAX} */
export function exchangeFields(hints: readonly PeerHint[]): object {
  return { peers: hints.map(({ nodeId, address }) => ({ nodeId, address })) };
}

/** The nodes in a reply. @throws MemcloudError `ERR_PEER_PROTOCOL` */
export function decodeExchange(fields: PackedMap): PeerHint[] {
  return asList(fields['peers'], EXCHANGE_COUNT_MAX, 'peers').map((value) => {
    const row = asMap(value, 'a peer');
    const nodeId = asHex(row['nodeId'], NODE_ID_DIGITS, 'a node id');
    return { nodeId, address: addressOf(row['address']) };
  });
}

function addressOf(value: unknown): string {
  if (typeof value !== 'string' || value.length > ADDRESS_LENGTH_MAX) {
    return refuseBody('the address of a peer: expected IP:PORT');
  }
  try {
    const { host, port } = parseAddress(value);
    if (IP_PATTERN.test(host) && port !== 0) return formatAddress(host, port);
  } catch (error) {
    if (!(error instanceof MemcloudError)) throw error;
  }
  return refuseBody('the address of a peer: expected IP:PORT');
}

/**
 * The address of a node as others can use it; undefined for those that mean something on this machine
 * only: loopback, and link-local ones, whose scope is an interface of ours.
 *
 * @param asker - IP address of who asks; one on this machine may be told of others here
 */
export function shareableAddress(host: string, port: number, asker: string): string | undefined {
  const isLocal = /^(127\.|::1$)/.test(host);
  if (port === 0 || host === '') return undefined;
  if (isLocal && !/^(127\.|::1$)/.test(asker)) return undefined;
  if (/^fe[89ab][0-9a-f]:/i.test(host) || host.startsWith('169.254.')) return undefined;
  return formatAddress(host, port);
}
