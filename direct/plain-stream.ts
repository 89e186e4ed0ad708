/**
 * A data connection without records, for links that are protected below (WireGuard) or for who insists
 * (docs/peer-protocol.md section 11 "Plain"). What the holder's kernel sends is NBD as it is; before it
 * come 32 bytes that only the holder of the ticket can make. Until they are there and right, not one
 * byte is handed on. They say who began the connection, not who goes on with it: on a bare network
 * whoever is in the way can take it over. Bytes are not copied and nothing is made per message.
 */
import { timingSafeEqual } from 'node:crypto';
import type { ByteStream, ByteStreamHandler } from '../common/byte-stream.ts';
import { MemcloudError } from '../common/errors.ts';
import type { NativeBuffer } from '../common/native-memory.ts';
import type { NbdStream } from '../common/nbd-stream.ts';
import { NOBODY } from './record-stream.ts';

/** What a plain stream works on. */
export interface PlainStreamParts {
  /** The connection, behind its preface. */
  readonly below: ByteStream;
  /** What must come first; the stream's, which zeroes it. */
  readonly proof: Uint8Array;
  /** Called once, when it came. It may destroy this stream. */
  readonly onProved?: () => void;
  /** Called once, when the connection has ended, after the handler was told. */
  readonly onEnded?: () => void;
}

/** See the top of the file. It must become the handler of the stream below. */
export class PlainStream implements NbdStream, ByteStreamHandler {
  readonly #parts: PlainStreamParts;
  readonly #below: ByteStream;
  #handler: ByteStreamHandler = NOBODY;
  #proved = false;
  #paused = false;
  #offering = false;
  #dead = false;

  /** @param parts - what it works on */
  constructor(parts: PlainStreamParts) {
    this.#parts = parts;
    this.#below = parts.below;
  }

  /** {@link NbdStream.output} */
  get output(): { readonly bytes: Buffer } {
    return this.#below.output;
  }

  /** {@link NbdStream.backlogBytes} */
  get backlogBytes(): number {
    return this.#below.backlogBytes;
  }

  /** {@link NbdStream.remoteAddress} */
  get remoteAddress(): string {
    return this.#below.remoteAddress;
  }

  /** {@link NbdStream.setHandler} */
  setHandler(handler: ByteStreamHandler): void {
    this.#handler = handler;
    if (!this.#offering && !this.#paused) this.#below.resume();
  }

  /** {@link NbdStream.reserve} */
  reserve(length: number): number {
    return this.#below.reserve(length);
  }

  /** {@link NbdStream.send} */
  send(bytes: Uint8Array): void {
    this.#below.send(bytes);
  }

  /** {@link NbdStream.pause} */
  pause(): void {
    this.#paused = true;
    this.#below.pause();
  }

  /** {@link NbdStream.resume} */
  resume(): void {
    this.#paused = false;
    this.#below.resume();
  }

  /** {@link NbdStream.close} */
  close(): void {
    this.#below.close();
  }

  /** {@link NbdStream.destroy}: from now on no byte is handed on. */
  destroy(error?: Error): void {
    this.#dead = true;
    this.#below.destroy(error);
  }

  /** Bytes came; {@link ByteStreamHandler}. */
  onBytes(input: NativeBuffer, start: number, end: number): number {
    if (this.#dead) return end;
    let at = start;
    if (!this.#proved) {
      const { length } = this.#parts.proof;
      if (end - start < length) return start;
      at += length;
      if (!this.#prove(input.bytes.subarray(start, at))) return end;
    }
    if (at === end) return end;
    const handler = this.#handler;
    this.#offering = true;
    const consumed = handler.onBytes(input, at, end);
    this.#offering = false;
    if (handler !== this.#handler && !this.#paused) this.#below.resume();
    return consumed;
  }

  /** The output has left; {@link ByteStreamHandler}. */
  onDrain(): void {
    this.#handler.onDrain();
  }

  /** The connection ended; {@link ByteStreamHandler}. */
  onClosed(error: Error | undefined): void {
    this.#dead = true;
    this.#parts.proof.fill(0);
    this.#handler.onClosed(error);
    this.#parts.onEnded?.();
  }

  /** False when the connection is over. */
  #prove(came: Buffer): boolean {
    const { proof, onProved } = this.#parts;
    if (!timingSafeEqual(came, proof)) {
      this.destroy(new MemcloudError('ERR_PEER_AUTHENTICATION', 'a proof of a ticket is wrong'));
      return false;
    }
    this.#proved = true;
    proof.fill(0);
    onProved?.();
    return !this.#dead;
  }
}
