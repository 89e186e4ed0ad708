/**
 * Logs: one JSON object a line on stderr, for journald and jq. Written only from control paths; the
 * page path counts (metrics) and never logs. Keys, nonces, tokens and page bytes never appear.
 */
import { pino, type Logger as Pino } from 'pino';

/** What a part of the daemon may call to tell the operator something. */
export interface Logger {
  /** Something that helps only a developer. */
  debug(fields: Record<string, unknown>, message: string): void;
  /** Something that happened as it should. */
  info(fields: Record<string, unknown>, message: string): void;
  /** Something that the operator may want to mend. */
  warn(fields: Record<string, unknown>, message: string): void;
  /** Something that failed. */
  error(fields: Record<string, unknown>, message: string): void;
  /** A logger that adds `fields` to each line. */
  child(fields: Record<string, unknown>): Logger;
}

/** Levels, least important first. */
export const LOG_LEVELS = ['debug', 'info', 'warn', 'error', 'silent'] as const;

/** One of {@link LOG_LEVELS}. */
export type LogLevel = (typeof LOG_LEVELS)[number];

/** A logger whose level, and that of every child, can be changed. */
export interface LevelLogger extends Logger {
  /** From now on only lines of this level and above are written. */
  setLevel(level: LogLevel): void;
}

/** pino's children keep the level that they were born with; ours share one. */
class SharedLevelLogger implements LevelLogger {
  readonly #pino: Pino;
  readonly #least: { rank: number };

  constructor(pino: Pino, least: { rank: number }) {
    this.#pino = pino;
    this.#least = least;
  }

  setLevel(level: LogLevel): void {
    this.#least.rank = LOG_LEVELS.indexOf(level);
  }

  debug(fields: Record<string, unknown>, message: string): void {
    if (this.#least.rank <= 0) this.#pino.debug(fields, message);
  }

  info(fields: Record<string, unknown>, message: string): void {
    if (this.#least.rank <= 1) this.#pino.info(fields, message);
  }

  warn(fields: Record<string, unknown>, message: string): void {
    if (this.#least.rank <= 2) this.#pino.warn(fields, message);
  }

  error(fields: Record<string, unknown>, message: string): void {
    if (this.#least.rank <= 3) this.#pino.error(fields, message);
  }

  child(fields: Record<string, unknown>): Logger {
    return new SharedLevelLogger(this.#pino.child(fields), this.#least);
  }
}

/** A logger that writes to stderr, synchronously, so that the last line before an end is not lost. */
export function createLogger(level: LogLevel): LevelLogger {
  const output = pino.destination({ fd: 2, sync: true });
  // A terminal that is gone, a full disk: whoever was to read this cannot be told.
  output.on('error', () => undefined);
  const lines = pino(
    { level: 'debug', base: null, timestamp: () => `,"time":"${new Date().toISOString()}"` },
    output,
  );
  const logger = new SharedLevelLogger(lines, { rank: 0 });
  logger.setLevel(level);
  return logger;
}

/** A logger that says nothing, for tests and short commands. */
export const silentLogger: Logger = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
  child: () => silentLogger,
};
