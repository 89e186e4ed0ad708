/**
 * Mends a device whenever one of its connections dies: asks the kernel to take fresh sockets, again
 * and again until the server answers. What the kernel does with requests meanwhile is told at
 * {@link KernelAttachment}. Connections die one by one while one round of fresh sockets may be under
 * way, and that round may have come too early for the later ones, so each death starts another.
 */
import { asMemcloudError, type MemcloudError } from '../../../common/errors.ts';
import type { KernelAttachment } from './attach.ts';

const RETRY_INTERVAL_MS = 250;

/** What happened to a device. */
export type LinkEvent =
  | { readonly type: 'linkDead' }
  | { readonly type: 'reconnected'; readonly attempts: number }
  /** An attempt failed; the next follows. */
  | { readonly type: 'retry'; readonly attempts: number; readonly error: MemcloudError };

/**
 * Watches a device until the returned function is called.
 *
 * @param attachment - its `onLinkDead` is used
 * @param onEvent - told what happens, for logs
 * @param retryIntervalMs - pause between attempts
 */
export function keepConnected(
  attachment: Pick<KernelAttachment, 'onLinkDead' | 'reconnect'>,
  onEvent: (event: LinkEvent) => void,
  retryIntervalMs = RETRY_INTERVAL_MS,
): () => void {
  let stopped = false;
  let mending = false;
  let diedMeanwhile = false;
  const mend = async (): Promise<void> => {
    mending = true;
    for (let attempts = 1; !stopped; attempts += 1) {
      diedMeanwhile = false;
      try {
        await attachment.reconnect();
        if (!diedMeanwhile) {
          onEvent({ type: 'reconnected', attempts });
          break;
        }
      } catch (error) {
        const reason = asMemcloudError(error);
        // The attachment was closed: the device is somebody else's business now.
        if (reason.code === 'ERR_CANCELLED') break;
        onEvent({ type: 'retry', attempts, error: reason });
      }
      await new Promise((resolve) => setTimeout(resolve, retryIntervalMs));
    }
    mending = false;
  };
  attachment.onLinkDead(() => {
    if (stopped) return;
    onEvent({ type: 'linkDead' });
    diedMeanwhile = true;
    if (!mending) void mend();
  });
  return () => {
    stopped = true;
  };
}
