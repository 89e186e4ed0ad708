/** What a volume gets that its maker leaves open, whether it is for block devices or for files. */
import os from 'node:os';
import { MemcloudError } from '../common/errors.ts';
import { formatSize } from '../common/units.ts';

/** Without a word, so many copies where as many machines lend. */
const COPIES_DEFAULT = 2;
/** 64 MiB; of a small machine a 32nd of its RAM. */
const RING_SIZE_DEFAULT_BYTES = Math.min(64 * 2 ** 20, Math.floor(os.totalmem() / 32));
const RING_SIZE_MAX_BYTES = 4 * 2 ** 30;

/** Copies of a volume. @param hostCount - machines that lend */
export function defaultCopies(hostCount: number): number {
  return Math.max(1, Math.min(COPIES_DEFAULT, hostCount));
}

/**
 * Bytes of a volume's ring.
 *
 * @param asked - undefined for the default
 * @param what - what it is for, in an error
 * @throws MemcloudError `ERR_USAGE`
 */
export function ringSize(asked: number | undefined, what: string): number {
  const ringSizeBytes = asked ?? RING_SIZE_DEFAULT_BYTES;
  if (ringSizeBytes <= RING_SIZE_MAX_BYTES) return ringSizeBytes;
  const most = formatSize(RING_SIZE_MAX_BYTES);
  throw new MemcloudError('ERR_USAGE', `${what}: expected a ring of at most ${most}`);
}
