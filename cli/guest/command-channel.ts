/**
 * The host's half of the command protocol that init-script.ts describes: one command at a time,
 * its output cut out of the streams by a random token, its length bounded, its time bounded.
 */
import { randomBytes } from 'node:crypto';
import type { Duplex } from 'node:stream';
import { MemcloudError } from '../../common/errors.ts';
import { OutputSplitter } from './output-splitter.ts';

/** Most bytes of a script and of a command's input. */
const INPUT_SIZE_MAX = 16 * 2 ** 20;
/** Most bytes kept of each output stream of one command; what follows is counted and dropped. */
const OUTPUT_SIZE_MAX = 16 * 2 ** 20;
/** Most bytes of the line that follows the token. */
const EXIT_LINE_SIZE_MAX = 16;

/** How one command ended. */
export interface CommandResult {
  /** As the shell has it: 0 to 255, above 128 for a signal. */
  readonly exitCode: number;
  /** Standard output as UTF-8. */
  readonly stdout: string;
  /** Error output as UTF-8. */
  readonly stderr: string;
  /** Standard output as it came. */
  readonly stdoutBytes: Buffer;
  /** Bytes beyond the bound, dropped. */
  readonly droppedBytes: number;
  /** Time from sending to the end: milliseconds of the host's clock. */
  readonly durationMs: number;
}

/** What a command may have besides its script. */
export interface CommandOptions {
  /** The command must end within this time, or the guest is stopped. */
  readonly timeoutMs: number;
  /** Standard input; none by default. */
  readonly stdin?: Uint8Array | string;
  /** Told each line of either output while the command runs. */
  readonly onLine?: (line: string, stream: 'stdout' | 'stderr') => void;
}

class Capture {
  readonly #chunks: Buffer[] = [];
  readonly #splitter: OutputSplitter;
  readonly #onLine: ((line: string) => void) | undefined;
  #line = '';
  #sizeBytes = 0;
  droppedBytes = 0;

  constructor(token: string, onLine: ((line: string) => void) | undefined) {
    this.#splitter = new OutputSplitter(token);
    this.#onLine = onLine;
  }

  /** Returns what follows the token, once it came. */
  push(chunk: Buffer): Buffer | undefined {
    const { output, rest } = this.#splitter.push(chunk);
    const room = Math.max(0, OUTPUT_SIZE_MAX - this.#sizeBytes);
    this.#chunks.push(output.subarray(0, room));
    this.#sizeBytes += output.length;
    this.droppedBytes += Math.max(0, output.length - room);
    if (this.#onLine !== undefined) this.#emitLines(output, this.#onLine, rest !== undefined);
    return rest;
  }

  get bytes(): Buffer {
    return Buffer.concat(this.#chunks);
  }

  #emitLines(output: Buffer, onLine: (line: string) => void, last: boolean): void {
    const lines = (this.#line + output.toString('utf8')).split('\n');
    this.#line = lines.pop() ?? '';
    for (const line of lines) onLine(line);
    if (last && this.#line !== '') onLine(this.#line);
  }
}

interface Running {
  readonly stdout: Capture;
  readonly stderr: Capture;
  exitLine: Buffer | undefined;
  stderrEnded: boolean;
  readonly finish: () => void;
}

/** Runs commands over the three ports of a guest. */
export class CommandChannel {
  readonly #control: Duplex;
  readonly #fail: (reason: MemcloudError) => void;
  #running: Running | undefined;
  #previous: Promise<unknown> = Promise.resolve();
  #ended: MemcloudError | undefined;
  #onEnded: ((reason: MemcloudError) => void) | undefined;

  /**
   * @param ports - `ctl`, `out` and `err`
   * @param fail - called when a command broke its deadline or the protocol: the guest must be stopped
   */
  constructor(
    ports: { control: Duplex; out: Duplex; err: Duplex },
    fail: (reason: MemcloudError) => void,
  ) {
    this.#control = ports.control;
    this.#fail = fail;
    ports.out.on('data', (chunk: Buffer) => this.#onOut(chunk));
    ports.err.on('data', (chunk: Buffer) => this.#onErr(chunk));
    for (const port of Object.values(ports)) {
      port.on('error', () => undefined);
    }
  }

  /**
   * Runs a shell script; commands that are asked for meanwhile wait their turn.
   *
   * @throws MemcloudError `ERR_GUEST` when the guest ends first, `ERR_TIMEOUT`, `ERR_USAGE` when
   *   script or input are too long
   */
  run(script: string, options: CommandOptions): Promise<CommandResult> {
    const result = this.#previous.then(() => this.#runNow(script, options));
    this.#previous = result.catch(() => undefined);
    return result;
  }

  /** Ends every command, running and to come, with the reason. */
  end(reason: MemcloudError): void {
    this.#ended ??= reason;
    this.#onEnded?.(this.#ended);
  }

  async #runNow(script: string, options: CommandOptions): Promise<CommandResult> {
    if (this.#ended !== undefined) throw this.#ended;
    const body = Buffer.from(script === '' ? ':' : script);
    const input = Buffer.from(options.stdin ?? '');
    if (Math.max(body.length, input.length) > INPUT_SIZE_MAX) {
      throw new MemcloudError('ERR_USAGE', `a guest command takes at most ${INPUT_SIZE_MAX} bytes`);
    }
    const startMs = performance.now();
    const token = randomBytes(16).toString('hex');
    const running = await new Promise<Running>((resolve, reject) => {
      const timer = setTimeout(() => {
        const first = script.trim().split('\n')[0] ?? '';
        this.#fail(
          new MemcloudError(
            'ERR_TIMEOUT',
            `a guest command did not end within ${options.timeoutMs} ms: ${first}`,
          ),
        );
      }, options.timeoutMs);
      const { onLine } = options;
      const lineSink = (stream: 'stdout' | 'stderr'): ((line: string) => void) | undefined =>
        onLine === undefined ? undefined : (line) => onLine(line, stream);
      const started: Running = {
        stdout: new Capture(token, lineSink('stdout')),
        stderr: new Capture(token, lineSink('stderr')),
        exitLine: undefined,
        stderrEnded: false,
        finish: () => {
          clearTimeout(timer);
          resolve(started);
        },
      };
      this.#onEnded = (reason) => {
        clearTimeout(timer);
        reject(reason);
      };
      this.#running = started;
      this.#control.write(`${token} ${body.length} ${input.length}\n`);
      this.#control.write(Buffer.concat([body, input]));
    }).finally(() => {
      this.#running = undefined;
      this.#onEnded = undefined;
    });
    const stdoutBytes = running.stdout.bytes;
    return {
      exitCode: Number.parseInt(running.exitLine?.toString('latin1') ?? '', 10),
      stdout: stdoutBytes.toString('utf8'),
      stderr: running.stderr.bytes.toString('utf8'),
      stdoutBytes,
      droppedBytes: running.stdout.droppedBytes + running.stderr.droppedBytes,
      durationMs: performance.now() - startMs,
    };
  }

  #onOut(chunk: Buffer): void {
    const running = this.#running;
    if (running === undefined) return;
    if (running.exitLine === undefined) running.exitLine = running.stdout.push(chunk);
    else running.exitLine = Buffer.concat([running.exitLine, chunk]);
    if (running.exitLine !== undefined && running.exitLine.length > EXIT_LINE_SIZE_MAX) {
      // Output of a process left in the background may follow the line; the line itself is short.
      running.exitLine = running.exitLine.subarray(0, EXIT_LINE_SIZE_MAX);
    }
    this.#finishWhenBothEnded(running);
  }

  #onErr(chunk: Buffer): void {
    const running = this.#running;
    if (running === undefined || running.stderrEnded) return;
    running.stderrEnded = running.stderr.push(chunk) !== undefined;
    this.#finishWhenBothEnded(running);
  }

  #finishWhenBothEnded(running: Running): void {
    const lineEnded = running.exitLine?.includes(10) === true;
    if (lineEnded && running.stderrEnded) running.finish();
  }
}
