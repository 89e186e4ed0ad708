/**
 * The pool as swap, checked by content: a program whose heap is twice the RAM it may use fills the
 * heap, the kernel swaps most of it out to the providers and back, and every word is compared. On a
 * kernel with nbd this runs here; elsewhere in a guest that boots Debian's kernel, with memnode and
 * the program inside and the providers outside.
 */
import { spawn } from 'node:child_process';
import readline from 'node:readline';
import { fileURLToPath } from 'node:url';
import { MemcloudError } from '../../common/errors.ts';
import { formatDuration, formatSize } from '../../common/units.ts';
import { ensureGuestPackages } from '../guest/packages.ts';
import { withGuest, type Guest } from '../guest/guest.ts';
import { GUEST_PACKAGE_ROOT } from '../guest/root-image.ts';
import { note } from '../output.ts';

/** RAM of the control group, MiB. */
const GROUP_MIB = 80;
/** Heap of the program: twice that. */
const HEAP_MIB = 160;
const SWAP_MIB = 320;
const PASSES = 1;
const GUEST_MEMORY_MIB = 640;
const GUEST_LIFE_MS = 12 * 60_000;
const GUEST_RUN_MS = 9 * 60_000;
const GUEST_START_MS = 3 * 60_000;
/** The host's loopback, as QEMU's user network shows it to a guest. */
const HOST_FROM_GUEST = '10.0.2.2';

interface HogResult {
  readonly wordsChecked: number;
  readonly wrongWords: number;
  readonly pagesOut: number;
  readonly pagesIn: number;
  readonly ms: number;
}

/** What `memcloud run --json` says at its end. */
interface RunReport {
  readonly trimmedPages: number;
  readonly storedBytes: number;
}

const hogFile = fileURLToPath(new URL('./hog.js', import.meta.url));
const cliFile = fileURLToPath(new URL('../main.js', import.meta.url));

/** Reads the lines that hog prints; tells its progress, keeps its result. */
class HogReader {
  result: HogResult | undefined;
  run: RunReport | undefined;

  onLine(line: string): void {
    if (!line.startsWith('{')) return;
    const message = JSON.parse(line) as Record<string, unknown>;
    if (message['device'] !== undefined) this.run = message as unknown as RunReport;
    if (message['type'] === 'filled') note(`      heap filled in ${seconds(message['ms'])}`);
    if (message['type'] === 'verified') {
      const wrong = String(message['wrong']);
      note(
        `      pass ${String(message['pass'])}: ${wrong} wrong words, ${seconds(message['ms'])}`,
      );
    }
    if (message['type'] === 'result') this.result = message as unknown as HogResult;
  }

  /** What was seen. @throws MemcloudError unless every word was right and pages really moved */
  summary(exitCode: number): string {
    const { result } = this;
    if (result === undefined) {
      throw new MemcloudError('ERR_INTERNAL', `the program ended with ${exitCode} and no result`);
    }
    const { wordsChecked, wrongWords, pagesOut, pagesIn, ms } = result;
    if (wrongWords > 0) {
      throw new MemcloudError('ERR_DATA_LOST', `${wrongWords} of ${wordsChecked} words were wrong`);
    }
    const heapPages = (HEAP_MIB * 2 ** 20) / 4096;
    if (exitCode !== 0 || pagesOut < heapPages / 4 || pagesIn < heapPages / 4) {
      throw new MemcloudError(
        'ERR_INTERNAL',
        `exit code ${exitCode}, ${pagesOut} pages out, ${pagesIn} in: the kernel hardly swapped`,
      );
    }
    const { trimmedPages = 0, storedBytes = Infinity } = this.run ?? {};
    if (trimmedPages < heapPages / 4 || storedBytes > (HEAP_MIB * 2 ** 20) / 4) {
      throw new MemcloudError(
        'ERR_INTERNAL',
        `${trimmedPages} pages trimmed, ${storedBytes} bytes still kept: RAM did not go back`,
      );
    }
    return (
      `${HEAP_MIB} MiB heap in ${GROUP_MIB} MiB of RAM: ${pagesOut} pages out, ${pagesIn} in, ` +
      `${wordsChecked} words checked, 0 wrong, ` +
      `${trimmedPages} pages trimmed, ${formatSize(storedBytes)} kept at its end, ${formatDuration(ms)}`
    );
  }
}

function seconds(ms: unknown): string {
  return formatDuration(Number(ms));
}

function runArguments(): string[] {
  return ['run', '--memory', `${GROUP_MIB}M`, '--swap', `${SWAP_MIB}M`, '--'];
}

/** Swaps on this machine, through the daemon on `socketPath`. */
export async function swapHere(socketPath: string): Promise<string> {
  const reader = new HogReader();
  const hog = [process.execPath, hogFile, String(HEAP_MIB), String(PASSES)];
  const child = spawn(
    process.execPath,
    [cliFile, '--json', '--socket', socketPath, ...runArguments(), ...hog],
    { stdio: ['ignore', 'pipe', 'pipe'] },
  );
  for (const input of [child.stdout, child.stderr]) {
    readline.createInterface({ input }).on('line', (line) => reader.onLine(line));
  }
  const exitCode = await new Promise<number>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code) => resolve(code ?? 1));
  });
  return reader.summary(exitCode);
}

/**
 * Swaps in a guest.
 *
 * @param providers - `HOST:PORT` on this machine's loopback
 * @param install - apt-get what QEMU needs when it is missing
 * @returns what was seen
 */
export async function swapInGuest(
  providers: readonly string[],
  install: boolean,
  signal: AbortSignal,
): Promise<string> {
  await ensureGuestPackages({ install, onProgress: (text) => note(`      ${text}`) });
  const options = {
    timeoutMs: GUEST_LIFE_MS,
    memoryMib: GUEST_MEMORY_MIB,
    modules: ['nbd nbds_max=4'],
    onProgress: (text: string) => note(`      ${text}`),
    signal,
  };
  return withGuest(options, async (guest) => {
    note('      the guest is up; starting memnode in it (emulated: this takes a while)');
    await startMemnode(guest, providers);
    return runHog(guest);
  });
}

async function startMemnode(guest: Guest, providers: readonly string[]): Promise<void> {
  const connect = providers
    .map((address) => `--connect ${HOST_FROM_GUEST}:${address.split(':').at(-1) ?? ''}`)
    .join(' ');
  const script = `
    cd ${GUEST_PACKAGE_ROOT}
    node dist/daemon/main.js --name guest --state /tmp/state --socket /tmp/memcloud.sock \\
      --listen 127.0.0.1:0 --offer 0 --no-mdns --auto-trust ${connect} \\
      >/tmp/ready 2>/tmp/memnode.log &
    for second in $(seq 170); do
      if [ "$(grep -c 'peer up' /tmp/memnode.log)" -ge ${providers.length} ]; then exit 0; fi
      sleep 1
    done
    cat /tmp/ready /tmp/memnode.log >&2
    exit 1`;
  const { exitCode, stderr } = await guest.run(script, { timeoutMs: GUEST_START_MS });
  if (exitCode !== 0) throw new MemcloudError('ERR_TIMEOUT', `memnode in the guest: ${stderr}`);
}

async function runHog(guest: Guest): Promise<string> {
  const reader = new HogReader();
  const script = `
    cd ${GUEST_PACKAGE_ROOT}
    node dist/cli/main.js --json --socket /tmp/memcloud.sock ${runArguments().join(' ')} \\
      node dist/cli/demo/hog.js ${HEAP_MIB} ${PASSES}`;
  const { exitCode, stderr } = await guest.run(script, {
    timeoutMs: GUEST_RUN_MS,
    onLine: (line, stream) => {
      if (line.startsWith('{')) reader.onLine(line);
      else if (stream === 'stderr') note(`      ${line}`);
    },
  });
  if (reader.result === undefined) throw new MemcloudError('ERR_INTERNAL', stderr.trim());
  return reader.summary(exitCode);
}
