/** A request with a body (body-requests.ts) as a promise. */
import { MemcloudError } from '../common/errors.ts';
import type { BodyRequests, RequestFailure } from './body-requests.ts';

/** Why a request has no reply, for people. */
const FAILURES: Readonly<Record<RequestFailure, string>> = {
  ERR_PEER_UNREACHABLE: 'the session has ended, or too many requests wait for it',
  ERR_TIMEOUT: 'it did not answer in time',
  ERR_CANCELLED: 'the request was cancelled',
};

/**
 * Sends a request.
 *
 * @param nodeName - the peer's, for messages
 * @param body - at most 60 000 bytes, taken before the return
 * @param replySizeMax - the most bytes of the reply
 * @returns the reply's body, the caller's
 * @throws MemcloudError `ERR_PEER_UNREACHABLE`, `ERR_TIMEOUT`, `ERR_CANCELLED`
 */
export function requestBody(
  requests: BodyRequests,
  nodeName: string,
  body: Uint8Array,
  replySizeMax: number,
  signal?: AbortSignal,
): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const fail = (code: RequestFailure): void => {
      reject(new MemcloudError(code, `node "${nodeName}": ${FAILURES[code]}`));
    };
    if (signal?.aborted === true) return fail('ERR_CANCELLED');
    const cancel = (): void => {
      requests.cancel(request);
    };
    const request = requests.request(body, replySizeMax, (reply, failure) => {
      signal?.removeEventListener('abort', cancel);
      if (reply === undefined) fail(failure);
      else resolve(Buffer.from(reply));
    });
    signal?.addEventListener('abort', cancel, { once: true });
  });
}
