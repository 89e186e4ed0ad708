/**
 * Values that clients send in pieces. Each belongs to the connection that began it: nobody else can add to
 * it, and when the connection ends, the holder gets its room back.
 */
import { MemcloudError } from '../../common/errors.ts';
import type { PoolUpload } from '../../objects/pool.ts';
import type { RpcClient } from '../rpc/call.ts';

/** Values that one connection may have on their way. */
export const UPLOAD_COUNT_MAX = 256;

/** The uploads of one connection. */
class ClientUploads {
  readonly byNumber = new Map<string, PoolUpload>();
  /** Those that the holder has not begun yet included. */
  count = 0;
  isGone = false;
}

/** The uploads of all connections. */
export class Uploads {
  readonly #clients = new Map<number, ClientUploads>();
  #number = 0;

  /**
   * Begins one.
   *
   * @param begin - asks the holder
   * @returns its number
   * @throws MemcloudError `ERR_USAGE` beyond {@link UPLOAD_COUNT_MAX}; what `begin` throws
   */
  async begin(
    connection: RpcClient,
    begin: () => PoolUpload | Promise<PoolUpload>,
  ): Promise<{ number: string; upload: PoolUpload }> {
    const client = this.#clientOf(connection);
    if (client.count >= UPLOAD_COUNT_MAX) {
      const text = `expected at most ${UPLOAD_COUNT_MAX} values on their way over one connection`;
      throw new MemcloudError('ERR_USAGE', text);
    }
    client.count += 1;
    let upload: PoolUpload;
    try {
      upload = await begin();
    } catch (error) {
      client.count -= 1;
      throw error;
    }
    if (client.isGone) {
      giveUp(upload);
      throw new MemcloudError('ERR_CANCELLED', 'the client has gone');
    }
    this.#number += 1;
    const number = String(this.#number);
    client.byNumber.set(number, upload);
    return { number, upload };
  }

  /** An upload of a connection. @throws MemcloudError `ERR_OBJECT_UNKNOWN` */
  find(connection: RpcClient, number: string): PoolUpload {
    const upload = this.#clients.get(connection.id)?.byNumber.get(number);
    if (upload !== undefined) return upload;
    const text = 'there is no such upload, or another connection began it';
    throw new MemcloudError('ERR_OBJECT_UNKNOWN', text);
  }

  /** It ended. @returns it, if there was one */
  remove(connection: RpcClient, number: string): PoolUpload | undefined {
    const client = this.#clients.get(connection.id);
    const upload = client?.byNumber.get(number);
    if (client === undefined || upload === undefined) return undefined;
    client.byNumber.delete(number);
    client.count -= 1;
    return upload;
  }

  #clientOf(connection: RpcClient): ClientUploads {
    const known = this.#clients.get(connection.id);
    if (known !== undefined) return known;
    const client = new ClientUploads();
    this.#clients.set(connection.id, client);
    connection.onClose(() => {
      client.isGone = true;
      this.#clients.delete(connection.id);
      for (const upload of client.byNumber.values()) giveUp(upload);
      client.byNumber.clear();
    });
    return client;
  }
}

/** Nobody is left to hear of a failure; the holder gives uploads up by itself after a minute. */
function giveUp(upload: PoolUpload): void {
  const onFailure = (): void => undefined;
  try {
    const ended = upload.abort();
    if (ended instanceof Promise) ended.catch(onFailure);
  } catch {
    onFailure();
  }
}
