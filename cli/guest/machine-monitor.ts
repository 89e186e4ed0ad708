/**
 * The monitor of the machine itself, for what nobody inside can do: pulling a cable. Speaks QMP, one JSON
 * object a line (QEMU, `docs/interop/qmp-spec.rst`): a greeting, then a command at a time and its answer;
 * events in between are passed over.
 */
import type { Duplex } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import { MemcloudError } from '../../common/errors.ts';

const ANSWER_TIMEOUT_MS = 10_000;

interface Answer {
  readonly return?: unknown;
  readonly error?: { readonly desc: string };
}

/** One monitor. Its first command introduces us. */
export class MachineMonitor {
  readonly #port: Duplex;
  #rest = '';
  #introduced = false;
  #onAnswer: ((answer: Answer) => void) | undefined;

  /** @param port - the monitor's side of `-chardev socket`; its end is the machine's own */
  constructor(port: Duplex) {
    this.#port = port;
    port.on('error', () => undefined);
    port.on('data', (chunk: Buffer) => this.#onBytes(chunk));
  }

  /**
   * Runs one command and waits for its answer.
   *
   * @throws MemcloudError `ERR_GUEST` when the machine refuses it, `ERR_TIMEOUT`
   */
  async execute(
    command: string,
    parameters: Readonly<Record<string, unknown>> = {},
  ): Promise<void> {
    if (!this.#introduced) {
      this.#introduced = true;
      await this.execute('qmp_capabilities');
    }
    const answered = new Promise<Answer>((resolve) => (this.#onAnswer = resolve));
    this.#port.write(`${JSON.stringify({ execute: command, arguments: parameters })}\n`);
    const answer = await Promise.race([
      answered,
      delay(ANSWER_TIMEOUT_MS, undefined, { ref: false }),
    ]);
    if (answer === undefined) {
      throw new MemcloudError('ERR_TIMEOUT', `${command}: no answer in ${ANSWER_TIMEOUT_MS} ms`);
    }
    if (answer.error !== undefined) {
      throw new MemcloudError('ERR_GUEST', `${command}: ${answer.error.desc}`);
    }
  }

  #onBytes(chunk: Buffer): void {
    const lines = (this.#rest + chunk.toString('utf8')).split('\n');
    this.#rest = lines.pop() ?? '';
    for (const line of lines) {
      if (line.trim() === '') continue;
      const answer = JSON.parse(line) as Answer;
      if (answer.return !== undefined || answer.error !== undefined) this.#onAnswer?.(answer);
    }
  }
}
