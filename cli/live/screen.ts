/**
 * The whole terminal for a while, in plain ANSI: another screen without a cursor, written over from the
 * top, each line cut to the width so that a long one does not push the rest down. However the command
 * ends, the terminal is as it was.
 */
import type { Readable } from 'node:stream';

const ENTER = '\u001b[?1049h\u001b[?25l';
const LEAVE = '\u001b[?25h\u001b[?1049l';
const HOME = '\u001b[H';
const CLEAR_LINE = '\u001b[K';
const CLEAR_BELOW = '\u001b[J';
/** What Ctrl-C is when the terminal hands keys over as they are. */
const CTRL_C = '\u0003';

/** The size of a terminal that does not know its own. */
const COLUMNS_USUAL = 80;
const ROWS_USUAL = 24;

/** A terminal that we write to. */
export interface Terminal {
  /** Columns; undefined or 0 when unknown. */
  readonly columns?: number | undefined;
  /** Lines; undefined or 0 when unknown. */
  readonly rows?: number | undefined;
  /** Writes text. */
  write(text: string): unknown;
}

/** A keyboard. */
export type Keyboard = Readable & {
  readonly isTTY?: boolean;
  setRawMode?(isRaw: boolean): unknown;
};

/** A picture as the bytes that draw it over the one before. */
export function frame(text: string, columns: number, rows: number): string {
  const lines = text.split('\n').slice(0, rows);
  const drawn = lines.map((line) => `${[...line].slice(0, columns).join('')}${CLEAR_LINE}`);
  return `${HOME}${drawn.join('\r\n')}${CLEAR_BELOW}`;
}

/** The screen. */
export class Screen {
  readonly #terminal: Terminal;
  readonly #keyboard: Keyboard;
  readonly #onQuit: () => void;
  #isOpen = false;
  #text = '';

  /** @param onQuit - hears that q or Ctrl-C was pressed */
  constructor(terminal: Terminal, keyboard: Keyboard, onQuit: () => void) {
    this.#terminal = terminal;
    this.#keyboard = keyboard;
    this.#onQuit = onQuit;
  }

  /** Takes the terminal. */
  open(): void {
    this.#isOpen = true;
    this.#terminal.write(ENTER);
    process.on('exit', this.#close);
    process.on('SIGWINCH', this.#redraw);
    if (this.#keyboard.isTTY !== true) return;
    this.#keyboard.setRawMode?.(true);
    this.#keyboard.on('data', this.#onKey);
    this.#keyboard.resume();
  }

  /** Draws a picture. */
  draw(text: string): void {
    this.#text = text;
    // A serial line, or one that script(1) made for a pipe, says 0.
    const { columns, rows } = this.#terminal;
    this.#terminal.write(frame(text, columns || COLUMNS_USUAL, rows || ROWS_USUAL));
  }

  /** Gives the terminal back; twice is once. */
  close(): void {
    this.#close();
  }

  readonly #close = (): void => {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    process.off('exit', this.#close);
    process.off('SIGWINCH', this.#redraw);
    this.#terminal.write(LEAVE);
    if (this.#keyboard.isTTY !== true) return;
    this.#keyboard.off('data', this.#onKey);
    this.#keyboard.setRawMode?.(false);
    this.#keyboard.pause();
  };

  readonly #redraw = (): void => {
    this.draw(this.#text);
  };

  readonly #onKey = (bytes: Buffer): void => {
    const keys = bytes.toString();
    if (keys.includes('q') || keys.includes('Q') || keys.includes(CTRL_C)) this.#onQuit();
  };
}
