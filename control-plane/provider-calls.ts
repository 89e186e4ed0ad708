/** The calls of providers (`provider.*`), answered by the leader. */
import { asMemcloudError, MemcloudError } from '../common/errors.ts';
import { isReceiptOf } from '../common/receipts.ts';
import { redeemToken, refuseToken } from './allocation-machine.ts';
import { decideFor, type Handler } from './call-context.ts';
import { leasesEnded } from './lease-machine.ts';
import { heartbeat, registerProvider } from './provider-machine.ts';
import { verifyToken } from './tokens.ts';

const register: Handler<'provider.register'> = async (context, from, params) => {
  const session = context.sessions.get(from);
  if (session === undefined) {
    throw new MemcloudError(
      'ERR_PEER_UNREACHABLE',
      'the session of the provider ended; register again',
    );
  }
  return decideFor(context, from, (state, nowMs) =>
    registerProvider(state, nowMs, { nodeId: from, ...session }, params),
  );
};

// It keeps a provider up and changes next to nothing: it never waits behind its other calls.
const beat: Handler<'provider.heartbeat'> = ({ leader }, from, params) =>
  leader.decide((state, nowMs) => heartbeat(state, nowMs, from, params));

const redeem: Handler<'provider.redeem'> = async (context, from, { life, token, client }) => {
  const { leader, sessions, publicKey, key } = context;
  const { epoch } = leader;
  const clientKey =
    sessions.get(client)?.publicKey ?? leader.state.members.get(client)?.publicKey ?? '';
  try {
    const claims = await verifyToken(token, {
      keyOf: (controlNode) => (controlNode === key.nodeId ? publicKey : undefined),
      provider: from,
      client,
      clientKey: Buffer.from(clientKey, 'hex'),
      epochMin: epoch,
    });
    const { jti, leaseId } = claims;
    const presented = { provider: from, life, client, jti, leaseId };
    const lease = await decideFor(context, from, (state, nowMs) =>
      redeemToken(state, nowMs, presented),
    );
    return { leaseId, sizeBytes: lease.sizeBytes, ttlMs: lease.ttlMs, epoch };
  } catch (error) {
    const { code, message } = asMemcloudError(error);
    // What the machine refused has its line already.
    if (code !== 'ERR_TOKEN' || !message.startsWith('the allocation token is refused')) throw error;
    return decideFor(context, from, (state, nowMs) =>
      refuseToken(state, nowMs, from, client, message),
    );
  }
};

const ended: Handler<'provider.ended'> = async (context, from, { endings }) => {
  const publicKey = Buffer.from(context.sessions.get(from)?.publicKey ?? '', 'hex');
  const valid = await Promise.all(
    endings.map((ending) => isReceiptOf(publicKey, from, ending, ending.receipt)),
  );
  return decideFor(context, from, (state, nowMs) =>
    leasesEnded(state, nowMs, from, endings, valid),
  );
};

/** The calls of providers. */
export const providerCalls = {
  'provider.register': register,
  'provider.heartbeat': beat,
  'provider.redeem': redeem,
  'provider.ended': ended,
};
