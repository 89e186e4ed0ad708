/**
 * Cuts one command's output out of a byte stream that has no message borders. The host chooses a
 * random token for each command and the guest writes it after the command's last byte, so output
 * may hold any bytes: it ends where the token begins. Pure: chunks in, chunks out.
 */

/** What one chunk brought. */
export interface SplitResult {
  /** Bytes that belong to the command. */
  readonly output: Buffer;
  /** Bytes after the token, once it came. */
  readonly rest: Buffer | undefined;
}

/** Looks for one token in a stream. */
export class OutputSplitter {
  readonly #token: Buffer;
  #held: Buffer = Buffer.alloc(0);

  /** @param token - at least one byte, unknown to whoever writes the output */
  constructor(token: string) {
    this.#token = Buffer.from(token);
  }

  /** Takes the next chunk; holds back the bytes that may be the beginning of the token. */
  push(chunk: Buffer): SplitResult {
    const bytes = this.#held.length === 0 ? chunk : Buffer.concat([this.#held, chunk]);
    const at = bytes.indexOf(this.#token);
    if (at >= 0) {
      this.#held = Buffer.alloc(0);
      return { output: bytes.subarray(0, at), rest: bytes.subarray(at + this.#token.length) };
    }
    const keep = this.#prefixAtEndOf(bytes);
    this.#held = Buffer.from(bytes.subarray(bytes.length - keep));
    return { output: bytes.subarray(0, bytes.length - keep), rest: undefined };
  }

  #prefixAtEndOf(bytes: Buffer): number {
    const most = Math.min(this.#token.length - 1, bytes.length);
    for (let length = most; length > 0; length -= 1) {
      const tail = bytes.subarray(bytes.length - length);
      if (tail.equals(this.#token.subarray(0, length))) return length;
    }
    return 0;
  }
}
