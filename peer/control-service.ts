/**
 * Executes the control requests of a peer against its own leases. The provider's refusals become
 * replies; a request that is no request ends the session (its decoder throws).
 */
import { asMemcloudError, MemcloudError } from '../common/errors.ts';
import type { SlabAccess } from '../common/ports.ts';
import {
  decodeControlRequest,
  encodeControlError,
  encodeControlOk,
  type ControlRequest,
} from './control.ts';

/**
 * Answers one control request.
 *
 * @param access - the peer's leases; undefined when this node lends nothing
 * @returns the body of the reply
 * @throws MemcloudError `ERR_PEER_PROTOCOL` when `body` is no control request
 */
export function serveControl(access: SlabAccess | undefined, body: Buffer): Buffer {
  const request = decodeControlRequest(body);
  try {
    return encodeControlOk(execute(access, request));
  } catch (error) {
    return encodeControlError(asMemcloudError(error));
  }
}

function execute(access: SlabAccess | undefined, request: ControlRequest): object {
  if (access === undefined) {
    throw new MemcloudError('ERR_LEASE_CAPACITY', 'this node lends no memory');
  }
  switch (request.method) {
    case 'lease': {
      const { pageCount, ttlMs } = request;
      return { ...access.lease({ pageCount, ttlMs }) };
    }
    case 'renew':
      return { unknown: access.renew(request.leaseIds, request.ttlMs) };
    case 'release':
      access.release(request.leaseId);
      return {};
    case 'usage':
      return { usage: access.usage() };
  }
}
