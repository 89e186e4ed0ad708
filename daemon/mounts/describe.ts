/** A mount as RPC shows it, made of what was asked for and what its process said last. Pure. */
import type { MountInfo } from '../../common/rpc-schema.ts';
import { PAGE_SIZE_BYTES, SLAB_PAGE_COUNT, formatSize } from '../../common/units.ts';
import type { MountRequest, MountStatus } from './protocol.ts';

/** See the top of `mounts.ts`. */
export type MountState = 'starting' | 'mounted' | 'kept' | 'remounting' | 'dead';

/** What is known of a mount. */
export interface MountFacts {
  /** What was asked for. */
  readonly request: MountRequest;
  /** How it is. */
  readonly state: MountState;
  /** The last answer of its process. */
  readonly status: MountStatus | undefined;
  /** Why it is dead; else empty. */
  readonly reason: string;
  /** Its process. */
  readonly pid: number;
}

/**
 * The row of `memcloud mount ls`.
 *
 * @param answered - its process said how it is just now
 */
export function describeMount(facts: MountFacts, answered: boolean): MountInfo {
  const { request, state, status, reason, pid } = facts;
  const silent = !answered && (state === 'mounted' || state === 'kept');
  return {
    directory: state === 'kept' ? '' : request.directory,
    volume: request.volumeName,
    state: silent ? 'silent' : state === 'remounting' ? 'starting' : state,
    reason: silent ? `its process ${pid} does not answer (stopped?)` : reason,
    sizeBytes: request.sizeBytes,
    usedBytes: status?.usedBytes ?? 0,
    inodeCount: status?.inodeCount ?? 0,
    metadataBytes: status?.metadataBytes ?? 0,
    leasedBytes: status?.leasedBytes ?? 0,
    copies: request.copies,
    degradedSlabs: status?.degradedSlabs ?? 0,
    providers: status?.providers ?? [],
    damagedFiles: status?.damagedFiles ?? [],
    damagedFileCount: status?.damagedFileCount ?? 0,
    requestCount: status?.requestCount ?? 0,
    keep: request.keep,
    managed: request.managed ?? false,
    profile: request.profile,
    transport: status?.transport ?? request.transport,
    pid,
  };
}

/** Sentences about what is not well with mounts; empty when all is. */
export function mountHealth(mounts: readonly MountInfo[]): string[] {
  return mounts.flatMap((mount) => {
    const { state, reason, damagedFileCount, damagedFiles, degradedSlabs } = mount;
    const what = mount.directory === '' ? `kept files ${mount.volume}` : `mount ${mount.directory}`;
    const sentences: string[] = [];
    if (state === 'dead' || state === 'silent') sentences.push(`${what}: ${reason}`);
    if (damagedFileCount > 0) {
      const [first = ''] = damagedFiles;
      const files = damagedFileCount === 1 ? 'a file' : `${damagedFileCount} files`;
      sentences.push(`${what} has lost bytes of ${files}, ${first} among them: memcloud mount ls`);
    }
    if (degradedSlabs > 0) {
      const bytes = formatSize(degradedSlabs * SLAB_PAGE_COUNT * PAGE_SIZE_BYTES);
      sentences.push(`${what}: at most ${bytes} have fewer copies than promised`);
    }
    return sentences;
  });
}
