/**
 * A pseudo-terminal for tests, by script(1): what a program draws there, keys for it, another size, and the
 * settings of the terminal before and after.
 */
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import type { Test } from 'tap';
import { shellWord } from '../../common/shell-word.ts';
import { CLEAN_ENV, eventually } from './lab-node.ts';

const HOME = '\u001b[H';
/** Takes the other screen of the terminal, without a cursor. */
export const ENTER = '\u001b[?1049h\u001b[?25l';
/** Gives it back, with its cursor. */
export const LEAVE = '\u001b[?25h\u001b[?1049l';

/** A size in characters. */
export interface TerminalSize {
  columns: number;
  rows: number;
}

/** A program on a terminal. */
export class TestTerminal {
  /** Everything that was written to the terminal. */
  text = '';
  readonly #child: ChildProcess;
  readonly #ended: Promise<unknown>;

  private constructor(child: ChildProcess) {
    this.#child = child;
    this.#ended = once(child, 'close');
    child.stdout?.on('data', (chunk: Buffer) => (this.text += chunk.toString()));
  }

  /** Starts a program on a terminal of that size; the test ends both. */
  static async start(
    t: Test,
    words: readonly string[],
    { columns, rows }: TerminalSize,
  ): Promise<TestTerminal> {
    const named = `sh -c 'echo pid=$$; exec "$@"' sh ${words.map(shellWord).join(' ')}`;
    const lines = [
      `stty cols ${columns} rows ${rows}; echo tty=$(tty); echo before=$(stty -g)`,
      `${named}; echo code=$?; echo after=$(stty -g)`,
    ];
    const child = spawn('script', ['-qfc', lines.join('; '), '/dev/null'], {
      stdio: ['pipe', 'pipe', 'inherit'],
      env: CLEAN_ENV,
    });
    t.teardown(() => child.kill('SIGKILL'));
    const terminal = new TestTerminal(child);
    await terminal.shows(/pid=\d+/);
    return terminal;
  }

  /** Waits until the last of what was written fits. */
  shows(what: RegExp): Promise<void> {
    return eventually(`the terminal shows ${what.source}`, () => what.test(this.text));
  }

  /** Waits until the last picture fits. */
  draws(what: RegExp): Promise<void> {
    return eventually(`a picture with ${what.source}`, () => what.test(this.picture));
  }

  /** The lines of the last whole picture. */
  get picture(): string {
    const pictures = this.text.split(HOME).slice(1);
    const whole = pictures.filter((each) => each.includes('\u001b[J')).at(-1) ?? '';
    const drawn = whole.slice(0, whole.indexOf('\u001b[J'));
    return drawn.replaceAll('\u001b[K', '').replaceAll(/\r+\n/g, '\n');
  }

  /** Presses keys. */
  type(keys: string): void {
    this.#child.stdin?.write(keys);
  }

  /** Makes the window another size, as its user would: the kernel tells the program. */
  resize({ columns, rows }: TerminalSize): void {
    const file = this.#word('tty');
    spawnSync('stty', ['-F', file, 'cols', String(columns), 'rows', String(rows)]);
  }

  /** Sends the program a signal. */
  signal(name: NodeJS.Signals): void {
    process.kill(Number(this.#word('pid')), name);
  }

  /** Waits for the end. @returns exit code, and whether the terminal has the settings that it had */
  async end(): Promise<{ code: number; isRestored: boolean }> {
    await this.shows(/after=\S+\r?\n/);
    await this.#ended;
    return {
      code: Number(this.#word('code')),
      isRestored: this.#word('before') === this.#word('after'),
    };
  }

  #word(name: string): string {
    return new RegExp(`${name}=([^\\s]+)`).exec(this.text)?.[1] ?? '';
  }
}
