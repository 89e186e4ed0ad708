/**
 * Logs: one JSON object a line on stderr, for journald and jq. Written only from control paths; the
 * page path counts (metrics) and never logs. Keys, nonces, tokens and page bytes never appear.
 */
import { pino } from 'pino';

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

/** A logger that writes to stderr, synchronously, so that the last line before an end is not lost. */
export function createLogger(level: LogLevel): Logger {
  return pino(
    { level, base: null, timestamp: () => `,"time":"${new Date().toISOString()}"` },
    pino.destination({ fd: 2, sync: true }),
  );
}

/** A logger that says nothing, for tests and short commands. */
export const silentLogger: Logger = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
  child: () => silentLogger,
};
