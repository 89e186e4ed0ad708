/** A program of ours as a process of a test: its ready line, its log, and its end with the test. */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import readline from 'node:readline';
import type { Test } from 'tap';

/** Of the log, the end that is kept: characters. */
const LOG_LENGTH_MAX = 65_536;
const END_GRACE_MS = 10_000;
/** Words before a program: the kernel ends it when this process is killed, or runs out of its time. */
export const DIES_WITH_US = ['setpriv', '--pdeathsig', 'KILL', '--'] as const;

/** A process that was started. */
export interface LabProcess {
  readonly child: ChildProcess;
  /** The first line that it printed; undefined when it ended, or did not print one in time. */
  readonly line: string | undefined;
  /** The end of its log so far. */
  readonly stderr: () => string;
}

/** Starts a program and waits for its first line. The test ends it if it still lives. */
export async function launchLabProcess(
  t: Test,
  program: string,
  args: readonly string[],
  { env, timeoutMs }: { readonly env: NodeJS.ProcessEnv; readonly timeoutMs: number },
): Promise<LabProcess> {
  const [launcher, ...words] = DIES_WITH_US;
  const command = [...words, program, ...args];
  const child = spawn(launcher, command, { stdio: ['ignore', 'pipe', 'pipe'], env });
  let stderr = '';
  child.stderr.on(
    'data',
    (chunk: Buffer) => (stderr = (stderr + chunk.toString()).slice(-LOG_LENGTH_MAX)),
  );
  t.teardown(async () => {
    const timer = setTimeout(() => child.kill('SIGKILL'), END_GRACE_MS);
    await endChild(child, 'SIGTERM');
    clearTimeout(timer);
  });
  const lines = readline.createInterface({ input: child.stdout });
  const line = await Promise.race([
    once(lines, 'line').then(([text]) => String(text)),
    once(child, 'close').then(() => undefined),
    new Promise<undefined>((resolve) => {
      setTimeout(resolve, timeoutMs, undefined).unref();
    }),
  ]);
  return { child, line, stderr: () => stderr };
}

/** Sends a signal to a child, unless it has ended, and waits for its end. */
export async function endChild(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, 'exit');
  child.kill(signal);
  await ended;
}
