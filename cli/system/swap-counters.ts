/** What the kernel has swapped since it booted, from /proc/vmstat. */
import fs from 'node:fs';

/** Pages swapped out and in since the boot; 0 on a kernel without swap. */
export function swapCounters(): { pagesOut: number; pagesIn: number } {
  const text = fs.readFileSync('/proc/vmstat', 'utf8');
  const count = (name: string): number =>
    Number(new RegExp(`^${name} (\\d+)`, 'm').exec(text)?.[1] ?? 0);
  return { pagesOut: count('pswpout'), pagesIn: count('pswpin') };
}
