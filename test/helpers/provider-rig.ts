/** A provider of 64 MiB on a directory of the test's, under a clock that the test moves. */
import type { Test } from 'tap';
import { RamProvider, type RamProviderOptions } from '../../provider/service.ts';
import { tmpfsBase } from './tmpfs.ts';

/** Opens one; it is closed with the test. */
export function openProvider(
  t: Test,
  options: Partial<RamProviderOptions> = {},
): { provider: RamProvider; clock: { ms: number; nowMs: () => number } } {
  const clock = { ms: 1000, nowMs: () => clock.ms };
  const provider = RamProvider.open({
    offeredBytes: 64 * 2 ** 20,
    directory: tmpfsBase(t),
    noswap: 'off',
    clock,
    reserveBytes: 0,
    ...options,
  });
  t.teardown(() => provider.close());
  return { provider, clock };
}
