/** Which object a command means, where it is to go, and what is said when there is none. */
import { MemcloudError } from '../../common/errors.ts';
import type { RpcParams } from '../../common/rpc-schema.ts';
import { nameOf } from '../../sdk/pieces.ts';

/** Which object: a key or a block id, and the node to ask, if only one is to be asked. */
export type WantedObject = Pick<RpcParams<'object.get'>, 'key' | 'id' | 'peer'>;

/** How and where a value is to be kept. */
export type Destination = Omit<RpcParams<'object.put'>, 'data'>;

/** The error for an object that is not there, or not for us. */
export function unknownObject(wanted: WantedObject): MemcloudError {
  const { peer, id } = wanted;
  const where = peer ?? (id === undefined ? 'this node or any peer that answers' : 'its holder');
  return new MemcloudError(
    'ERR_OBJECT_UNKNOWN',
    `there is no ${nameOf(wanted)} on ${where}, or none that this node may read`,
  );
}
