/** What the parts of a file store share; made once by page-file-store.ts. */
import type { BlockQueue } from '../common/ports.ts';
import type { BouncePages } from './bounce-pages.ts';
import type { FilePages, FilePagesState } from './file-pages.ts';
import type { SmallFiles } from './small-files.ts';
import type { StoreRequests } from './store-requests.ts';

/** What the parts of a store share. */
export interface StoreState extends FilePagesState {
  readonly pages: FilePages;
  /** Undefined when small files have pages of their own. */
  readonly small: SmallFiles | undefined;
  readonly requests: StoreRequests;
  readonly bounce: BouncePages;
  readonly queue: BlockQueue;
}

/** What a lost fragment is called in `Damage`: a number that no page of the volume has. */
export function smallDamageKey(file: number): number {
  return 2 ** 40 + file;
}
