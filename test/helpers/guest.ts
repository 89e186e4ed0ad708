/**
 * Guests for tests: a thin cover over cli/guest that skips with a reason where none can be booted,
 * stops the guest with the test, and puts the end of the kernel log into a failure.
 */
import type { Test } from 'tap';
import { Guest, type GuestOptions } from '../../cli/guest/guest.ts';
import type { CommandOptions, CommandResult } from '../../cli/guest/command-channel.ts';
import { guestUnsupportedReason } from '../../cli/guest/packages.ts';

/** Why a test that needs a guest must be skipped here, for tap's `skip`; false when it need not. */
export function skipWithoutGuest(): string | false {
  return guestUnsupportedReason() ?? false;
}

/** Boots a guest that the end of the test stops. */
export async function bootGuest(t: Test, options: GuestOptions): Promise<Guest> {
  const guest = await Guest.boot({ onProgress: (text) => t.comment(text), ...options });
  t.teardown(() => guest.stop());
  t.comment(`guest booted in ${(guest.bootMs / 1000).toFixed(1)} s`);
  return guest;
}

/** Runs a command that must end with 0; anything else fails the test with its output. */
export async function runOk(
  t: Test,
  guest: Guest,
  script: string,
  options: Partial<CommandOptions> = {},
): Promise<CommandResult> {
  const result = await guest.run(script, { timeoutMs: 60_000, ...options });
  t.equal(result.exitCode, 0, script.trim().split('\n')[0] ?? '', {
    diagnostic: result.exitCode !== 0,
    stdout: result.stdout.slice(-4000),
    stderr: result.stderr.slice(-4000),
    kernelLog: guest.kernelLog.split('\n').slice(-20),
  });
  return result;
}
