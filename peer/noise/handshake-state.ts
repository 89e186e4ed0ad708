/**
 * The HandshakeState object of the Noise specification (section 5.3) for the interactive pattern XX
 * (section 7.5), in the specification's own token language:
 *
 *     XX:
 *       -> e
 *       <- e, ee, s, es
 *       -> s, se
 *
 * XX because neither side knows the other's key in advance, and because both static keys travel
 * encrypted. Payloads are given and taken with the handshake hash as it stood when the tokens of the
 * message were processed: that is what credentials sign (peer/credentials.ts).
 */
import { x25519 } from '@noble/curves/ed25519.js';
import { MemcloudError } from '../../common/errors.ts';
import type { CipherState } from './cipher-state.ts';
import { SymmetricState, type NoiseHash } from './symmetric-state.ts';

/** Bytes of a Diffie-Hellman public key and of a result. Noise 12.1. */
export const DH_SIZE_BYTES = 32;

/** Bytes of an authentication tag. Noise 4.2. */
const TAG_SIZE_BYTES = 16;

/** The most bytes of a Noise message. Noise 3. */
export const NOISE_MESSAGE_SIZE_MAX = 65535;

type Token = 'e' | 's' | 'ee' | 'es' | 'se';

/** Noise 7.5. Messages in turn, the initiator's first. */
const XX = [['e'], ['e', 'ee', 's', 'es'], ['s', 'se']] as const satisfies readonly Token[][];

/** A Diffie-Hellman key pair. Noise 4.1. */
export interface KeyPair {
  /** 32 bytes, zeroed by the handshake that was given it. */
  readonly secretKey: Uint8Array;
  /** 32 bytes. */
  readonly publicKey: Uint8Array;
}

/** The key pair of 32 secret bytes, which it keeps. Noise: GENERATE_KEYPAIR() of given randomness. */
export function keyPairFrom(secretKey: Uint8Array): KeyPair {
  return { secretKey, publicKey: x25519.getPublicKey(secretKey) };
}

/** What a side brings to a handshake. */
export interface HandshakeOptions {
  /** True for the side that dialled. */
  readonly initiator: boolean;
  /** Bytes that both sides must agree on. */
  readonly prologue: Uint8Array;
  /** Owned by the handshake from now on. */
  readonly staticKeys: KeyPair;
  /** Owned by the handshake from now on; from a random source, never used twice. */
  readonly ephemeralKeys: KeyPair;
  /** The hash of the suite. */
  readonly hash: NoiseHash;
}

/** A payload that was read, and the `h` that the writer knew when it wrote it. */
export interface ReadMessage {
  /** The plaintext. */
  readonly payload: Uint8Array;
  /** The handshake hash before the payload was mixed in. */
  readonly handshakeHash: Uint8Array;
}

/** One side of one handshake. */
export class HandshakeState {
  readonly #symmetric: SymmetricState;
  readonly #initiator: boolean;
  readonly #s: KeyPair;
  readonly #e: KeyPair;
  #rs: Uint8Array | undefined;
  #re: Uint8Array | undefined;
  #messageIndex = 0;

  /** Noise: Initialize(handshake_pattern = XX, initiator, prologue, s, e). */
  constructor(options: HandshakeOptions) {
    this.#initiator = options.initiator;
    this.#s = options.staticKeys;
    this.#e = options.ephemeralKeys;
    this.#symmetric = new SymmetricState(
      `Noise_XX_25519_ChaChaPoly_${options.hash.name}`,
      options.hash,
    );
    this.#symmetric.mixHash(options.prologue);
  }

  /** True when all messages were written and read. */
  get complete(): boolean {
    return this.#messageIndex === XX.length;
  }

  /** The handshake hash now. */
  get handshakeHash(): Uint8Array {
    return this.#symmetric.handshakeHash;
  }

  /**
   * Writes the next message. Noise: WriteMessage(payload, message_buffer).
   *
   * @param makePayload - given `h` as it stands after the message's tokens, returns the payload
   */
  writeMessage(makePayload: (handshakeHash: Uint8Array) => Uint8Array): Uint8Array {
    const parts: Uint8Array[] = [];
    for (const token of this.#nextTokens(true)) {
      if (token === 'e') {
        parts.push(this.#e.publicKey);
        this.#symmetric.mixHash(this.#e.publicKey);
      } else if (token === 's') {
        parts.push(this.#symmetric.encryptAndHash(this.#s.publicKey));
      } else {
        this.#mixDh(token);
      }
    }
    const payload = makePayload(this.#symmetric.handshakeHash);
    parts.push(this.#symmetric.encryptAndHash(payload));
    return Buffer.concat(parts);
  }

  /**
   * Reads the next message. Noise: ReadMessage(message, payload_buffer). After an error the
   * handshake is spent.
   *
   * @throws MemcloudError `ERR_PEER_HANDSHAKE` for a message too short or too long or a weak key,
   *   `ERR_PEER_AUTHENTICATION` for one that does not verify
   */
  readMessage(message: Uint8Array): ReadMessage {
    if (message.length > NOISE_MESSAGE_SIZE_MAX) {
      throw new MemcloudError('ERR_PEER_HANDSHAKE', 'a Noise message is too long');
    }
    let at = 0;
    const take = (length: number): Uint8Array => {
      if (at + length > message.length) {
        throw new MemcloudError(
          'ERR_PEER_HANDSHAKE',
          `Noise message: expected at least ${at + length} bytes, got ${message.length}`,
        );
      }
      at += length;
      return Uint8Array.from(message.subarray(at - length, at));
    };
    for (const token of this.#nextTokens(false)) {
      if (token === 'e') {
        this.#re = take(DH_SIZE_BYTES);
        this.#symmetric.mixHash(this.#re);
      } else if (token === 's') {
        const overhead = this.#symmetric.hasKey ? TAG_SIZE_BYTES : 0;
        this.#rs = this.#symmetric.decryptAndHash(take(DH_SIZE_BYTES + overhead));
      } else {
        this.#mixDh(token);
      }
    }
    const handshakeHash = this.#symmetric.handshakeHash;
    return { payload: this.#symmetric.decryptAndHash(take(message.length - at)), handshakeHash };
  }

  /**
   * The transport ciphers of a complete handshake, and the end of this object.
   *
   * @returns the cipher of what this side sends, and of what it receives
   */
  split(): { send: CipherState; receive: CipherState } {
    if (!this.complete) throw new MemcloudError('ERR_INTERNAL', 'Noise: split before the end');
    const [c1, c2] = this.#symmetric.split();
    this.destroy();
    return this.#initiator ? { send: c1, receive: c2 } : { send: c2, receive: c1 };
  }

  /** Zeroes every secret. */
  destroy(): void {
    this.#s.secretKey.fill(0);
    this.#e.secretKey.fill(0);
    this.#symmetric.destroy();
  }

  #nextTokens(writing: boolean): readonly Token[] {
    const tokens = XX[this.#messageIndex];
    const ourTurn = (this.#messageIndex % 2 === 0) === this.#initiator;
    if (tokens === undefined || ourTurn !== writing) {
      throw new MemcloudError('ERR_INTERNAL', `Noise: message ${this.#messageIndex} out of turn`);
    }
    this.#messageIndex += 1;
    return tokens;
  }

  /** The first letter names the initiator's key, the second the responder's. Noise 5.3. */
  #mixDh(token: 'ee' | 'es' | 'se'): void {
    const [initiatorKey, responderKey] = token;
    const local = (this.#initiator ? initiatorKey : responderKey) === 'e' ? this.#e : this.#s;
    const remote = (this.#initiator ? responderKey : initiatorKey) === 'e' ? this.#re : this.#rs;
    if (remote === undefined) throw new MemcloudError('ERR_INTERNAL', `Noise: ${token} too early`);
    let shared;
    try {
      shared = x25519.getSharedSecret(local.secretKey, remote);
    } catch (cause) {
      // A point of small order gives an all-zero result: Noise 12.1 leaves the check to us.
      throw new MemcloudError('ERR_PEER_HANDSHAKE', 'a Diffie-Hellman key is weak', { cause });
    }
    this.#symmetric.mixKey(shared);
  }
}
