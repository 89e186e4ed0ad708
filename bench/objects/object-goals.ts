/** What objects must reach, as data. Pure. */
import type { FileGoal } from '../mounts/file-goals.ts';

const REDIS = 'redis';
const OURS = 'memcloud';

/** Beside redis through ioredis, as many a second. */
export const OBJECT_GOALS: readonly FileGoal[] = [
  'put-1k-seq',
  'get-1k-seq',
  'put-1k-64',
  'get-1k-64',
].map((workload) => ({ workload, ours: OURS, peer: REDIS, sense: 'at least', bound: 1 }));

/** The published figures of the first MemCloud, an M1 Air, twice; either way of asking will do. */
export const PUT_RATE_MIN = 2 * 25_545;
/** As {@link PUT_RATE_MIN}. */
export const GET_RATE_MIN = 2 * 16_704;
/** A key that is not there costs less than this many hits. */
export const MISS_OVER_HIT_MAX = 2;
/** A key that is overwritten a million times may grow the process by this. */
export const OVERWRITE_GROWTH_MAX_BYTES = 16 * 2 ** 20;
