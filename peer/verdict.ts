/** What a connection says and hears of a verdict (docs/peer-protocol.md section 4), in words and fields. */
import { MemcloudError } from '../common/errors.ts';
import type { NodeId } from '../common/ports.ts';
import type { ConnectionContext, DialExpectation } from './connection-context.ts';
import { Feature } from './constants.ts';
import type { AcceptedHello } from './control.ts';
import { inviteProof } from './invites.ts';
import { OWN_LIMITS } from './session-service.ts';

function features({ lane, direct, objects, exchangesPeers, managed }: ConnectionContext): string[] {
  if (lane !== '') return [Feature.RECALL];
  return [
    ...(direct === undefined ? [] : [Feature.DIRECT]),
    ...[Feature.RECALL, Feature.LANES],
    ...(exchangesPeers ? [Feature.PEERS] : []),
    ...(objects ? [Feature.OBJECTS] : []),
    ...(managed ? [Feature.MANAGED] : []),
  ];
}

/** The HELLO by which we let a node in. @param handshakeHash - of this connection, for the proof of an invitation */
export function acceptance(
  context: ConnectionContext,
  nodeId: NodeId,
  { inviteSecret }: DialExpectation,
  handshakeHash: Uint8Array,
): AcceptedHello {
  const { hostId, zone, lane } = context;
  const invite =
    inviteSecret === undefined ? {} : { invite: inviteProof(inviteSecret, handshakeHash) };
  return {
    verdict: 'accepted',
    limits: OWN_LIMITS,
    usage: context.usage(nodeId),
    features: features(context),
    accepting: context.accepting(),
    port: context.port(),
    ...{ hostId, zone, lane, ...invite },
  };
}

/** What a guest is told of it: nothing that it may not ask for. */
export function forGuest(hello: AcceptedHello): AcceptedHello {
  const hidden: readonly string[] = [Feature.PEERS, Feature.OBJECTS];
  return { ...hello, features: hello.features.filter((name) => !hidden.includes(name)) };
}

/**
 * Why the other side refused, which it does not say, in words that help here.
 *
 * @param name - the other side's
 */
export function refusedBy(
  name: string,
  { name: ours }: ConnectionContext,
  { inviteSecret }: DialExpectation,
): MemcloudError {
  if (inviteSecret !== undefined) {
    return new MemcloudError(
      'ERR_INVITE',
      `node "${name}" did not take the invitation: it was used, lapsed or was revoked there, or ` +
        'memnode was restarted there; ask for a new one',
    );
  }
  return new MemcloudError(
    'ERR_PEER_UNTRUSTED',
    `node "${name}" does not trust this node: it was denied there, or its name, "${ours}", is known ` +
      'there by another key; memcloud status there says which',
  );
}
