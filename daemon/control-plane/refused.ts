/** The RPC methods that only the other kind of daemon answers: memnode, or a control node. */
import { MemcloudError } from '../../common/errors.ts';
import { CONTROL_RPC_PARAMS } from '../../common/rpc-control.ts';
import { RPC_PARAMS, type RpcMethod } from '../../common/rpc-schema.ts';
import type { RpcHandlers } from '../rpc-server.ts';

function refuseAll<M extends RpcMethod>(
  methods: readonly M[],
  sentence: (method: M) => string,
): Pick<RpcHandlers, M> {
  const rows = methods.map((method) => {
    const refuse = (): never => {
      throw new MemcloudError('ERR_UNSUPPORTED', sentence(method));
    };
    return [method, refuse];
  });
  return Object.fromEntries(rows) as Pick<RpcHandlers, M>;
}

/** Memnode's answer to what is about the door of a control node. */
export function notAControlNode(): Pick<RpcHandlers, keyof typeof CONTROL_RPC_PARAMS> {
  return refuseAll(Object.keys(CONTROL_RPC_PARAMS) as (keyof typeof CONTROL_RPC_PARAMS)[], () => {
    return (
      'this is a memnode: invitations and requests for consent of a control plane are made on the ' +
      'machine of its control node'
    );
  });
}

/** A control node's answer to everything that it does not do. */
export function notAMemnode(): RpcHandlers {
  return refuseAll(Object.keys(RPC_PARAMS) as RpcMethod[], (method) => {
    return `this is a control node, which lends and borrows nothing: ${method} is for a memnode`;
  });
}
