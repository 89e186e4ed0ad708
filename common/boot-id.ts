/** Names this run of the machine. */
import fs from 'node:fs';

const BOOT_ID_FILE = '/proc/sys/kernel/random/boot_id';

/** The kernel's boot id. @throws Error of node where it has none */
export function readBootId(): string {
  return fs.readFileSync(BOOT_ID_FILE, 'latin1').trim();
}
