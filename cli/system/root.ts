/** Commands that need root say so before they do anything. */
import { MemcloudError } from '../../common/errors.ts';

/** @throws MemcloudError `ERR_UNSUPPORTED` unless root runs this */
export function requireRoot(what: string): void {
  if (process.geteuid?.() === 0) return;
  throw new MemcloudError('ERR_UNSUPPORTED', `${what} needs root; run it with sudo`);
}
