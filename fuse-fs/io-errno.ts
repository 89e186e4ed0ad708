/** How the pool's word on a page request reads in the file system's. */
import { IoStatus, type IoStatusValue } from '../common/ports.ts';
import { Errno } from './errno.ts';

/** The result of a call whose worst device request ended so: 0, or a negative errno. */
export function resultOf(status: IoStatusValue): number {
  switch (status) {
    case IoStatus.OK:
      return 0;
    case IoStatus.NO_SPACE:
      return -Errno.ENOSPC;
    case IoStatus.INVALID:
    case IoStatus.LOST:
    case IoStatus.UNREACHABLE:
    case IoStatus.SHUTDOWN:
    case IoStatus.NO_LEASE:
      return -Errno.EIO;
  }
}
