/** What a handler of an RPC method may know of the call and of the client behind it. */
import type { RpcMethod, RpcParams, RpcResults } from '../../common/rpc-schema.ts';

/** The connection that a call came on. */
export interface RpcClient {
  /** Counts the connections of this daemon, from 1. */
  readonly id: number;
  /**
   * Has `listener` called once when the connection has ended.
   *
   * @returns takes it back
   */
  onClose(listener: () => void): () => void;
  /**
   * Sends a message that answers no call.
   *
   * @returns false when the client reads too slowly for more: the message is not sent
   */
  push(message: object): boolean;
  /** Has `listener` called whenever {@link RpcClient.push} may succeed again. */
  onRoom(listener: () => void): void;
}

/** One call. */
export interface RpcCall {
  /** Aborted when the client takes the call back or is gone. Made when it is first asked for. */
  readonly signal: AbortSignal;
  /** Who asks. */
  readonly connection: RpcClient;
}

/**
 * A handler for each method. What is returned at once is answered at once, with no promise made. The binary
 * in parameters of `object.put` and `object.append` is borrowed until the handler returns.
 */
export type RpcHandlers = {
  readonly [M in RpcMethod]: (
    params: RpcParams<M>,
    call: RpcCall,
  ) => RpcResults[M] | Promise<RpcResults[M]>;
};
