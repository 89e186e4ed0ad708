/**
 * RPC framing: a 32-bit big-endian length, then a MessagePack map. Requests are `{id, method,
 * params}`, replies `{id, result}` or `{id, error: {code, message}}`. Both ends may send the next
 * message without waiting; replies come in any order and are matched by id.
 */
import { Packr, Unpackr } from 'msgpackr';
import { MemcloudError } from './errors.ts';
import { RPC_MESSAGE_SIZE_MAX_BYTES } from './rpc-schema.ts';

const packr = new Packr({ useRecords: false });
const unpackr = new Unpackr({ useRecords: false, mapsAsObjects: true });

const HEADER_SIZE_BYTES = 4;

/** Encodes one message with its length in front. */
export function encodeRpcMessage(message: unknown): Buffer {
  const body = packr.pack(message);
  const header = Buffer.alloc(HEADER_SIZE_BYTES);
  header.writeUInt32BE(body.length);
  return Buffer.concat([header, body]);
}

/** Cuts a stream of bytes into messages. It holds one message at most, however small the chunks are. */
export class RpcDecoder {
  readonly #header = Buffer.alloc(HEADER_SIZE_BYTES);
  #headerFilled = 0;
  #body: Buffer | undefined;
  #bodyFilled = 0;

  /**
   * Takes more bytes.
   *
   * @returns the messages that are whole now
   * @throws MemcloudError `ERR_RPC_PROTOCOL` when a message is too long or not a MessagePack map;
   *   the connection should then end
   */
  push(chunk: Buffer): Record<string, unknown>[] {
    const messages: Record<string, unknown>[] = [];
    let at = 0;
    while (at < chunk.length) {
      if (this.#body === undefined) {
        at += this.#takeHeader(chunk, at);
      } else {
        const taken = chunk.copy(this.#body, this.#bodyFilled, at);
        this.#bodyFilled += taken;
        at += taken;
      }
      const body = this.#body;
      if (body !== undefined && this.#bodyFilled === body.length) {
        this.#body = undefined;
        messages.push(decodeBody(body));
      }
    }
    return messages;
  }

  #takeHeader(chunk: Buffer, at: number): number {
    const taken = chunk.copy(this.#header, this.#headerFilled, at);
    this.#headerFilled += taken;
    if (this.#headerFilled < HEADER_SIZE_BYTES) return taken;
    const bodyLength = this.#header.readUInt32BE();
    if (bodyLength > RPC_MESSAGE_SIZE_MAX_BYTES) {
      throw new MemcloudError(
        'ERR_RPC_PROTOCOL',
        `RPC message: expected at most ${RPC_MESSAGE_SIZE_MAX_BYTES} bytes, got ${bodyLength}`,
      );
    }
    this.#headerFilled = 0;
    this.#body = Buffer.allocUnsafe(bodyLength);
    this.#bodyFilled = 0;
    return taken;
  }
}

function decodeBody(body: Buffer): Record<string, unknown> {
  let message: unknown;
  try {
    message = unpackr.unpack(body);
  } catch (error) {
    throw new MemcloudError('ERR_RPC_PROTOCOL', 'RPC message: not MessagePack', { cause: error });
  }
  // Extensions make dates, sets and the like: only a map is a plain object.
  if (
    typeof message !== 'object' ||
    message === null ||
    Object.getPrototypeOf(message) !== Object.prototype
  ) {
    throw new MemcloudError('ERR_RPC_PROTOCOL', 'RPC message: expected a map');
  }
  return message as Record<string, unknown>;
}
