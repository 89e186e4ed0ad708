/**
 * The handshake of docs/peer-protocol.md section 2 as a machine: Noise XX with credentials in the
 * second and third payload. Messages and randomness come in as arguments; who the peer is and the
 * transport keys come out. The initiator stops before its third message, which would tell the peer who
 * it is: only if the peer may go on does the shell ask for it.
 */
import { sha256 } from '@noble/hashes/sha2.js';
import { MemcloudError } from '../common/errors.ts';
import { PROLOGUE } from './constants.ts';
import {
  decodeCredentials,
  encodeCredentials,
  type PeerIdentity,
  type Role,
} from './credentials.ts';
import type { Identity } from './identity.ts';
import { HandshakeState, keyPairFrom } from './noise/handshake-state.ts';

/** Where a handshake stands. */
type State =
  /** Initiator: message 1 not written yet. */
  | 'start'
  /** Responder: waits for message 1. */
  | 'await-1'
  /** Initiator: waits for message 2. */
  | 'await-2'
  /** Initiator: knows the peer; message 3 not written yet. */
  | 'decide'
  /** Responder: waits for message 3. */
  | 'await-3'
  /** Both: the keys are ready. */
  | 'done'
  /** Failed, or the keys were taken; the secrets are gone. */
  | 'closed';

/** The events of a handshake and the states in which they may happen. */
const TRANSITIONS = {
  begin: { start: 'await-2' },
  message1: { 'await-1': 'await-3' },
  message2: { 'await-2': 'decide' },
  proceed: { decide: 'done' },
  message3: { 'await-3': 'done' },
  takeKeys: { done: 'closed' },
} as const satisfies Record<string, Partial<Record<State, State>>>;

/** What a side brings to a handshake. */
export interface HandshakeMachineOptions {
  /** `initiator` for the side that dialled. */
  readonly role: Role;
  /** Who we are. */
  readonly identity: Identity;
  /** What people call us. */
  readonly name: string;
  /** 64 random bytes, taken over and zeroed: the Noise static and ephemeral secret. */
  readonly secrets: Uint8Array;
}

/** Keys of the two directions, 32 bytes each; the taker zeroes them. */
export interface TransportKeys {
  /** Of what we send. */
  readonly send: Uint8Array;
  /** Of what we receive. */
  readonly receive: Uint8Array;
  /** `h` after the last message: names this handshake and no other, on both sides alike. No secret. */
  readonly handshakeHash: Uint8Array;
}

const EMPTY = new Uint8Array(0);

/** One side of one handshake. */
export class HandshakeMachine {
  readonly #options: HandshakeMachineOptions;
  readonly #noise: HandshakeState;
  #state: State;
  #peer: PeerIdentity | undefined;

  constructor(options: HandshakeMachineOptions) {
    this.#options = options;
    this.#state = options.role === 'initiator' ? 'start' : 'await-1';
    this.#noise = new HandshakeState({
      initiator: options.role === 'initiator',
      prologue: Buffer.from(PROLOGUE, 'ascii'),
      staticKeys: keyPairFrom(options.secrets.subarray(0, 32)),
      ephemeralKeys: keyPairFrom(options.secrets.subarray(32, 64)),
      hash: { name: 'SHA256', hash: sha256 },
    });
  }

  /** The peer, once its credentials verified. */
  get peer(): PeerIdentity | undefined {
    return this.#peer;
  }

  /** True once the keys are ready. */
  get done(): boolean {
    return this.#state === 'done';
  }

  /** Initiator: message 1. */
  begin(): Uint8Array {
    this.#step('begin');
    return this.#noise.writeMessage(() => EMPTY);
  }

  /**
   * A message came.
   *
   * @returns the answer to send, if the next message is ours and needs no decision
   * @throws MemcloudError `ERR_PEER_HANDSHAKE`, `ERR_PEER_AUTHENTICATION`: the handshake is over
   */
  onMessage(message: Uint8Array): Uint8Array | undefined {
    try {
      return this.#onMessage(message);
    } catch (error) {
      this.destroy();
      throw error;
    }
  }

  /** Initiator, once {@link HandshakeMachine.peer} may know who we are: message 3. */
  proceed(): Uint8Array {
    this.#step('proceed');
    return this.#noise.writeMessage((hash) => this.#credentials(hash));
  }

  /** The transport keys; the machine is closed. */
  takeKeys(): TransportKeys {
    this.#step('takeKeys');
    const { handshakeHash } = this.#noise;
    const { send, receive } = this.#noise.split();
    return { send: send.takeKey(), receive: receive.takeKey(), handshakeHash };
  }

  /** Zeroes the secrets. */
  destroy(): void {
    this.#state = 'closed';
    this.#noise.destroy();
  }

  #onMessage(message: Uint8Array): Uint8Array | undefined {
    switch (this.#state) {
      case 'await-1':
        this.#step('message1');
        // A payload of message 1 would be in the clear; there is none to understand.
        if (this.#noise.readMessage(message).payload.length > 0) {
          throw new MemcloudError('ERR_PEER_HANDSHAKE', 'handshake message 1 has a payload');
        }
        return this.#noise.writeMessage((hash) => this.#credentials(hash));
      case 'await-2':
        this.#step('message2');
        this.#readCredentials(message, 'responder');
        return undefined;
      case 'await-3':
        this.#step('message3');
        this.#readCredentials(message, 'initiator');
        return undefined;
      default:
        throw new MemcloudError('ERR_PEER_HANDSHAKE', 'a handshake message came out of turn');
    }
  }

  #readCredentials(message: Uint8Array, role: Role): void {
    const { payload, handshakeHash } = this.#noise.readMessage(message);
    const peer = decodeCredentials(payload, role, handshakeHash);
    if (peer.nodeId === this.#options.identity.nodeId) {
      throw new MemcloudError('ERR_PEER_HANDSHAKE', 'the other side is this node itself');
    }
    this.#peer = peer;
  }

  #credentials(handshakeHash: Uint8Array): Uint8Array {
    const { identity, name, role } = this.#options;
    return encodeCredentials(identity, name, role, handshakeHash);
  }

  #step(event: keyof typeof TRANSITIONS): void {
    const next = (TRANSITIONS[event] as Partial<Record<State, State>>)[this.#state];
    if (next === undefined) {
      throw new MemcloudError('ERR_INTERNAL', `handshake: ${event} while ${this.#state}`);
    }
    this.#state = next;
  }
}
