/**
 * Joins the node that a token names: all of its addresses are tried, the next one second after the one
 * before, until a session with that very key lives. What was dialled in vain is given up again.
 */
import { MemcloudError } from '../../common/errors.ts';
import type { InviteToken } from '../../common/invite-token.ts';
import type { Dialer } from '../../peer/dialer.ts';
import type { Peers } from '../../peer/peers.ts';

/** How long after an address the next one is tried as well, milliseconds. */
const STAGGER_MS = 1_000;
/** How long all of it may take, milliseconds. */
const JOIN_TIMEOUT_MS = 25_000;
const POLL_MS = 50;

/** What joining needs of the peers. */
export type JoinPeers = Pick<Peers, 'connect' | 'stopDialling' | 'dialled'>;

/**
 * Joins; the secret of the token is zeroed.
 *
 * @returns the dialler that leads to the node, which goes on
 * @throws MemcloudError `ERR_INVITE` when the invitation was not taken, else why nobody was reached
 */
export async function join(peers: JoinPeers, token: InviteToken): Promise<Dialer> {
  const { nodeId, secret, addresses } = token;
  const before = new Set(peers.dialled);
  const pin = (peer: { readonly nodeId: string }): boolean => peer.nodeId === nodeId;
  const dialers: Dialer[] = [];
  try {
    const startedAtMs = performance.now();
    for (;;) {
      const up = dialers.find(({ state }) => state === 'up');
      if (up !== undefined) {
        for (const each of dialers) if (each !== up) giveUp(peers, each, before);
        return up;
      }
      const refused = dialers.find(({ lastError }) => isFinal(lastError))?.lastError;
      if (refused !== undefined) throw refused;
      const elapsedMs = performance.now() - startedAtMs;
      const failed = dialers.filter(({ state }) => state === 'waiting');
      const isNextDue =
        elapsedMs >= dialers.length * STAGGER_MS || failed.length === dialers.length;
      const next = addresses[dialers.length];
      if (next !== undefined && isNextDue) {
        dialers.push(peers.connect(next, { pin, inviteSecret: secret }));
      } else if (elapsedMs > JOIN_TIMEOUT_MS || isHopeless(dialers, next)) {
        throw unreachable(dialers);
      }
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
  } catch (error) {
    for (const each of dialers) giveUp(peers, each, before);
    throw error;
  } finally {
    for (const each of dialers) each.expected = { pin };
    secret.fill(0);
  }
}

/** The node answered and will not change its mind. */
function isFinal(error: MemcloudError | undefined): boolean {
  return error?.code === 'ERR_INVITE' || error?.code === 'ERR_PEER_UNTRUSTED';
}

/** Every address failed, and there is no other. */
function isHopeless(dialers: readonly Dialer[], next: string | undefined): boolean {
  return next === undefined && dialers.every(({ state }) => state === 'waiting');
}

function unreachable(dialers: readonly Dialer[]): MemcloudError {
  // Another key says more than an address that is not reached from here.
  const errors = dialers.flatMap(({ lastError }) => lastError ?? []);
  const changed = errors.find(({ code }) => code === 'ERR_PEER_KEY_CHANGED');
  if (changed !== undefined) return changed;
  const whys = dialers.map(({ address, lastError }) => lastError?.message ?? `${address}: silent`);
  return new MemcloudError(
    'ERR_PEER_UNREACHABLE',
    `the node that invites was not reached: ${whys.join('; ')}`,
  );
}

/** What was dialled before this began is somebody else's. */
function giveUp(peers: JoinPeers, dialer: Dialer, before: ReadonlySet<string>): void {
  if (!before.has(dialer.address)) peers.stopDialling(dialer.address);
}
