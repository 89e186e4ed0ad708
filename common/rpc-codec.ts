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

/** Cuts a stream of bytes into messages. */
export class RpcDecoder {
  #chunks: Buffer[] = [];
  #length = 0;

  /**
   * Takes more bytes.
   *
   * @returns the messages that are whole now
   * @throws MemcloudError `ERR_RPC_PROTOCOL` when a message is too long or not a MessagePack map;
   *   the connection should then end
   */
  push(chunk: Buffer): Record<string, unknown>[] {
    this.#chunks.push(chunk);
    this.#length += chunk.length;
    const messages: Record<string, unknown>[] = [];
    for (let message = this.#next(); message !== undefined; message = this.#next()) {
      messages.push(message);
    }
    return messages;
  }

  #next(): Record<string, unknown> | undefined {
    if (this.#length < HEADER_SIZE_BYTES) return undefined;
    const first = this.#joined(HEADER_SIZE_BYTES);
    const bodyLength = first.readUInt32BE(0);
    if (bodyLength > RPC_MESSAGE_SIZE_MAX_BYTES) {
      throw new MemcloudError(
        'ERR_RPC_PROTOCOL',
        `RPC message: expected at most ${RPC_MESSAGE_SIZE_MAX_BYTES} bytes, got ${bodyLength}`,
      );
    }
    const end = HEADER_SIZE_BYTES + bodyLength;
    if (this.#length < end) return undefined;
    const whole = this.#joined(end);
    this.#chunks = whole.length > end ? [whole.subarray(end)] : [];
    this.#length -= end;
    return decodeBody(whole.subarray(HEADER_SIZE_BYTES, end));
  }

  /** The first chunk, made at least `length` bytes long. */
  #joined(length: number): Buffer {
    const first = this.#chunks[0] ?? Buffer.alloc(0);
    if (first.length >= length) return first;
    const joined = Buffer.concat(this.#chunks);
    this.#chunks = [joined];
    return joined;
  }
}

function decodeBody(body: Buffer): Record<string, unknown> {
  let message: unknown;
  try {
    message = unpackr.unpack(body);
  } catch (error) {
    throw new MemcloudError('ERR_RPC_PROTOCOL', 'RPC message: not MessagePack', { cause: error });
  }
  if (typeof message !== 'object' || message === null || Array.isArray(message)) {
    throw new MemcloudError('ERR_RPC_PROTOCOL', 'RPC message: expected a map');
  }
  return message as Record<string, unknown>;
}
