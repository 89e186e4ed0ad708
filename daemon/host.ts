/**
 * Names this machine to others, so that no two copies of a page are put on one. The kernel draws a
 * random boot id at each start; every daemon under it, in whatever container, reads the same. Others get
 * a hash, because systemd and others use the id itself as a secret salt (sd_id128_get_boot(3)). A machine
 * that boots again is told as a new one, which does no harm: its pages are gone.
 */
import { createHash } from 'node:crypto';
import { readBootId } from '../common/boot-id.ts';

/** Keeps this hash apart from any other use of the boot id. */
const CONTEXT = 'memcloud/1 host\0';
const HOST_ID_DIGITS = 32;

/** The name that follows from a boot id: 32 hex digits; empty when the text is none. */
export function hostIdOf(bootId: string): string {
  const id = bootId.trim().toLowerCase();
  if (!/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(id)) return '';
  return createHash('sha256').update(CONTEXT).update(id).digest('hex').slice(0, HOST_ID_DIGITS);
}

/** The name of this machine; empty where the kernel has no boot id. */
export function machineHostId(): string {
  try {
    return hostIdOf(readBootId());
  } catch {
    return '';
  }
}
