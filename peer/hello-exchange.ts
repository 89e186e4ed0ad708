/**
 * What the two sides of a connection say between the handshake and a session: one or two HELLO each
 * (docs/peer-protocol.md section 4). Ours follow from what the gatekeeper says of the peer, at once or when
 * a human has answered or the peer has proved an invitation; the exchange is over when both sides have
 * said `accepted`, or one of them `refused`. Deadlines, records and the socket are the shell's
 * (connection.ts).
 */
import { asMemcloudError, MemcloudError } from '../common/errors.ts';
import type { NodeId } from '../common/ports.ts';
import type { ConnectionContext, DialExpectation } from './connection-context.ts';
import { Feature, LANE_WAIT_MS } from './constants.ts';
import type { AcceptedHello, Hello, PendingHello } from './control.ts';
import type { PeerIdentity } from './credentials.ts';
import type { PeerOrigin } from './gatekeeper.ts';
import type { InviteProof } from './invites.ts';
import { breach } from './record-pages.ts';
import { acceptance, forGuest, refusedBy } from './verdict.ts';

/** The connection around an exchange. */
export interface HelloShell {
  /** Sends a HELLO in a record of its own. */
  send(hello: Hello): void;
  /** A step is done: the next one has a deadline of its own. */
  onStep(): void;
  /** Somebody has to be asked: here (`local`) or there (`remote`). */
  onPending(side: 'local' | 'remote'): void;
  /** The peer is let in by us, and is about to be told so. */
  onAdmitted(nodeId: NodeId): void;
  /** We have refused the peer, and told it so. */
  onRefused(refusal: MemcloudError): void;
  /** Both sides have accepted; may be told again by a step that was under way. */
  onAccepted(peerHello: AcceptedHello): void;
}

/** Between whom an exchange is. */
export interface HelloExchangeOptions {
  /** What every connection of this node shares. */
  readonly context: ConnectionContext;
  /** The peer, which has proved its key. */
  readonly peer: PeerIdentity;
  /** Where it came from. */
  readonly origin: PeerOrigin;
  /** What was known of it before it was dialled. */
  readonly expected: DialExpectation;
  /** Names the handshake, for the proof of an invitation. */
  readonly handshakeHash: Uint8Array;
}

/** The verdicts of both sides of one connection. */
export class HelloExchange {
  readonly #context: ConnectionContext;
  readonly #peer: PeerIdentity;
  readonly #origin: PeerOrigin;
  readonly #expected: DialExpectation;
  readonly #handshakeHash: Uint8Array;
  readonly #shell: HelloShell;
  #ended = false;
  #weAccepted = false;
  #isGuest = false;
  #peerWasPending = false;
  /** The lane that the peer named first. */
  #peerLane = '';
  #peerHello: AcceptedHello | undefined;
  #askTimer: NodeJS.Timeout | undefined;
  #cancelConsent: (() => void) | undefined;

  constructor(
    { context, peer, origin, expected, handshakeHash }: HelloExchangeOptions,
    shell: HelloShell,
  ) {
    this.#context = context;
    this.#peer = peer;
    this.#origin = origin;
    this.#expected = expected;
    this.#handshakeHash = handshakeHash;
    this.#shell = shell;
  }

  /** True while a human of either side is asked, who takes longer than a machine. */
  get waitsForHuman(): boolean {
    const theyAsk = this.#peerWasPending && this.#peerLane === '';
    return this.#cancelConsent !== undefined || theyAsk;
  }

  /** True when we let the peer in as a guest and as nothing more. */
  get isGuest(): boolean {
    return this.#isGuest;
  }

  /** Says what can be said at once. */
  begin(): void {
    const { lane, gatekeeper } = this.#context;
    // An older node, which knows no lanes, must not take this connection for the node's.
    if (lane !== '') return this.#shell.send({ verdict: 'pending', lane });
    try {
      const verdict = gatekeeper.check(this.#peer, this.#origin);
      // Who invited us needs no question here.
      const isInvited = this.#expected.inviteSecret !== undefined;
      if (verdict !== 'unknown' || isInvited) return this.#letIn(verdict === 'guest' && !isInvited);
    } catch (error) {
      return this.#decide(asMemcloudError(error));
    }
    if (this.#origin.dialled) return this.#askHuman();
    this.#askTimer = setTimeout(() => this.#askHuman(), LANE_WAIT_MS);
  }

  /** The connection is over, or a session: nobody is asked any more, and nothing is said. */
  end(): void {
    this.#ended = true;
    clearTimeout(this.#askTimer);
    const cancel = this.#cancelConsent;
    this.#cancelConsent = undefined;
    cancel?.();
  }

  // --- What we say ---------------------------------------------------------------------------------

  #askHuman(): void {
    clearTimeout(this.#askTimer);
    this.#askTimer = undefined;
    let admission;
    try {
      admission = this.#context.gatekeeper.admit(this.#peer, this.#origin, (refusal) => {
        this.#cancelConsent = undefined;
        this.#decide(refusal);
      });
    } catch (error) {
      return this.#decide(asMemcloudError(error));
    }
    if (typeof admission === 'string') return this.#letIn(admission === 'guest');
    this.#cancelConsent = admission;
    this.#shell.send({ verdict: 'pending', lane: '' });
    this.#shell.onStep();
    this.#shell.onPending('local');
  }

  /** The peer has become a guest: if a human is asked about it, or would be, it is let in. */
  reconsider(): void {
    if (this.#askTimer === undefined && this.#cancelConsent === undefined) return;
    if (this.#context.gatekeeper.check(this.#peer, this.#origin) !== 'guest') return;
    clearTimeout(this.#askTimer);
    this.#askTimer = undefined;
    this.#letIn(true);
  }

  #letIn(isGuest: boolean): void {
    this.#isGuest = isGuest;
    this.#decide(undefined);
  }

  /** The dialler has said what it is: the human can be asked. */
  #askIfDue(): void {
    if (this.#askTimer !== undefined) this.#askHuman();
  }

  /** Decides, once: a proof may come while a human still thinks. */
  #decide(refusal: MemcloudError | undefined): void {
    if (this.#ended || this.#weAccepted) return;
    if (refusal !== undefined) {
      this.#shell.send({ verdict: 'refused' });
      return this.#shell.onRefused(refusal);
    }
    this.#weAccepted = true;
    const { nodeId } = this.#peer;
    this.#shell.onAdmitted(nodeId);
    const hello = acceptance(this.#context, nodeId, this.#expected, this.#handshakeHash);
    this.#shell.send(this.#isGuest ? forGuest(hello) : hello);
    this.#shell.onStep();
    this.#settle();
  }

  #settle(): void {
    const hello = this.#peerHello;
    if (this.#weAccepted && hello !== undefined) this.#shell.onAccepted(hello);
  }

  // --- What the peer says --------------------------------------------------------------------------

  /**
   * Takes a HELLO of the peer.
   *
   * @throws MemcloudError `ERR_PEER_PROTOCOL` for one that cannot come now; `ERR_PEER_UNTRUSTED`, `ERR_INVITE`
   *   when it refuses us; `ERR_UNSUPPORTED` when it takes no lanes
   */
  onHello(hello: Hello): void {
    if (this.#peerHello !== undefined) breach('a message came before both sides accepted');
    if (hello.verdict === 'refused') {
      throw refusedBy(this.#peer.name, this.#context, this.#expected);
    }
    if (hello.verdict === 'pending') return this.#onPeerPending(hello);
    if (hello.lane !== this.#peerLane) breach('a peer that accepted is not on the lane it named');
    this.#peerHello = hello;
    this.#shell.onStep();
    if (this.#context.lane !== '') return this.#acceptOnLane(hello);
    if (hello.invite !== undefined) this.#onInvite(hello.invite);
    else this.#askIfDue();
    this.#settle();
  }

  /** A dialler proves an invitation: nobody has to be asked, or goes on being asked. */
  #onInvite(invite: InviteProof): void {
    if (this.#origin.dialled || this.#peerLane !== '') {
      breach('an invitation came where none can');
    }
    clearTimeout(this.#askTimer);
    this.#askTimer = undefined;
    try {
      const { gatekeeper } = this.#context;
      gatekeeper.redeem(this.#peer, this.#origin, invite, this.#handshakeHash);
    } catch (error) {
      return this.#decide(asMemcloudError(error));
    }
    this.#isGuest = false;
    this.#decide(undefined);
  }

  #onPeerPending({ lane }: PendingHello): void {
    if (this.#peerWasPending) breach('a peer said pending twice');
    this.#peerWasPending = true;
    if (this.#context.lane !== '') {
      throw new MemcloudError('ERR_PEER_UNTRUSTED', 'the node does not trust this node yet');
    }
    if (lane !== '') return this.#onLane(lane);
    this.#shell.onStep();
    this.#askIfDue();
    this.#shell.onPending('remote');
  }

  // --- Lanes ---------------------------------------------------------------------------------------

  /** The peer is on a lane: nobody is asked about it, nor was it let in for once. */
  #onLane(lane: string): void {
    if (this.#origin.dialled) breach('a node that was dialled named a lane');
    this.#peerLane = lane;
    this.#shell.onStep();
    try {
      const verdict = this.#context.gatekeeper.requireTrusted(this.#peer, this.#origin);
      this.#isGuest = verdict === 'guest';
    } catch (error) {
      if (this.#weAccepted) throw error;
      this.#decide(asMemcloudError(error));
    }
  }

  /** The node takes us; whether it takes lanes it says in the same HELLO. */
  #acceptOnLane({ features }: AcceptedHello): void {
    if (!features.includes(Feature.LANES)) {
      throw new MemcloudError('ERR_UNSUPPORTED', 'its memnode is too old to take mounts');
    }
    const verdict = this.#context.gatekeeper.requireTrusted(this.#peer, this.#origin);
    this.#letIn(verdict === 'guest');
  }
}
