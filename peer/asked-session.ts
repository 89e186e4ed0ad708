/** The session over which a node is asked for what not every node serves. */
import { MemcloudError } from '../common/errors.ts';
import type { RemoteStore } from './remote-store.ts';
import type { Session } from './session.ts';

/**
 * Asks over the session of this moment.
 *
 * @param serves - whether the node at its other end serves such requests
 * @param lack - what is said of one that does not, behind its name: `keeps no objects`
 * @throws MemcloudError `ERR_PEER_UNREACHABLE`, `ERR_UNSUPPORTED`, in the promise; what `request` throws
 */
export function ask<T>(
  { session, nodeName }: RemoteStore,
  serves: (session: Session) => boolean,
  lack: string,
  request: (session: Session) => Promise<T>,
): Promise<T> {
  if (session === undefined || session.ended) {
    const text = `node "${nodeName}" is not connected`;
    return Promise.reject(new MemcloudError('ERR_PEER_UNREACHABLE', text));
  }
  if (serves(session)) return request(session);
  return Promise.reject(new MemcloudError('ERR_UNSUPPORTED', `node "${nodeName}" ${lack}`));
}
