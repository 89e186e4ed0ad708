/**
 * What brings the requests of one mount to the file system and its answers back: the kernel's own protocol
 * (kernel-transport.ts), or libfuse 2 through fuse-native (native-transport.ts). A transport mounts; to
 * unmount is the same for both (mounting.ts), and the transport says when the mount is gone.
 */
import type { MemcloudError } from '../common/errors.ts';
import type { FileCompletionSink, FileOperations } from './operations.ts';

/** How a mount ended: it is gone (`undefined`), or an error cut the way to the kernel. */
export type TransportEnd = MemcloudError | undefined;

/** What every transport is told. */
export interface TransportOptions {
  /** Absolute path of a directory that is there. */
  readonly directory: string;
  /** Let other users in. */
  readonly allowOther: boolean;
  /** Called once when the mount is gone, whoever unmounted it. */
  readonly onEnd: (end: TransportEnd) => void;
}

/** See the top of the file. */
export interface Transport {
  /** Where the file system reports the ends of its calls. */
  readonly sink: FileCompletionSink;
  /** Requests that came. */
  readonly requestCount: number;
  /** Calls that have not ended; their buffers are in use. */
  readonly waitingCount: number;
  /**
   * Mounts and serves `files`, whose calls must end in the {@link Transport.sink}.
   *
   * @throws MemcloudError `ERR_MOUNT_POINT`, `ERR_MOUNT_FAILED`, `ERR_MOUNT_TRANSPORT`, `ERR_UNSUPPORTED`;
   *   nothing is mounted then
   */
  mount(files: FileOperations): Promise<void>;
  /** Serves no more. Calls that are under way end as they would. */
  close(): void;
  /** Gives memory back; after {@link Transport.close}, and with no call under way. */
  free(): void;
}
