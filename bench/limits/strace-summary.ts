/**
 * The table of `strace -c` (strace(1)): a row for each system call, columns by position, the count of
 * errors left blank where there were none. Pure.
 */

/** What was called how often. */
export interface CallCount {
  readonly name: string;
  readonly calls: number;
  /** Of these, calls that returned an error, such as a read that would have blocked. */
  readonly errors: number;
}

/** percent, seconds, microseconds a call, calls, errors or nothing, name */
const ROW = /^ *\d+\.\d+ +\d+\.\d+ +\d+ +(\d+) +(?:(\d+) +)?([a-z_]\w*)$/gm;

/** Reads the table, most calls first. @throws RangeError when there is none */
export function parseStraceSummary(text: string): CallCount[] {
  if (!/^% time +seconds +usecs\/call +calls +errors +syscall$/m.test(text)) {
    throw new RangeError(`strace: expected a table, got "${text.trim().slice(0, 200)}"`);
  }
  return [...text.matchAll(ROW)]
    .map(([, calls, errors, name]) => ({
      name: name ?? '',
      calls: Number(calls),
      errors: Number(errors ?? 0),
    }))
    .filter(({ name }) => name !== 'total')
    .sort((a, b) => b.calls - a.calls);
}

/** System calls that do the same for a reader of the table. */
const KINDS: Readonly<Record<string, readonly string[]>> = {
  read: ['read', 'readv', 'recv', 'recvfrom', 'recvmsg', 'pread64', 'preadv'],
  write: ['write', 'writev', 'send', 'sendto', 'sendmsg', 'pwrite64', 'pwritev'],
  wait: ['epoll_wait', 'epoll_pwait', 'epoll_pwait2', 'poll', 'ppoll', 'select', 'pselect6'],
  futex: ['futex', 'futex_waitv'],
};

/** The kinds of {@link callsPerPage}, in the order of a table. */
export const CALL_KINDS = [...Object.keys(KINDS), 'other'] as const;

/** Calls for each page by kind; `other` is what is of none. */
export function callsPerPage(counts: readonly CallCount[], pages: number): Map<string, number> {
  const sums = new Map<string, number>(CALL_KINDS.map((kind) => [kind, 0]));
  for (const { name, calls } of counts) {
    const kind = Object.keys(KINDS).find((key) => KINDS[key]?.includes(name)) ?? 'other';
    sums.set(kind, (sums.get(kind) ?? 0) + calls / pages);
  }
  return sums;
}
