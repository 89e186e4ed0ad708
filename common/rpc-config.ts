/** What RPC methods about the configuration answer with. */

/** An option as it counts. */
export interface ConfigSetting {
  /** Its key in a configuration file. */
  readonly key: string;
  /** Sizes are bytes; null when it is not set. */
  readonly value: unknown;
  /** `flag`, `env`, `file` or `default`. */
  readonly source: string;
  /** The flag, the variable, or `FILE:LINE`; empty for a default. */
  readonly at: string;
}

/** The configuration by which a daemon runs. */
export interface ConfigInfo {
  /** The file or folder that `--config` or `MEMCLOUD_CONFIG` named; null for the usual ones. */
  readonly configPath: string | null;
  /** The files that were read, the least important first. */
  readonly files: readonly string[];
  /** A row for each option. */
  readonly settings: readonly ConfigSetting[];
}

/** What a reload did about one option. */
export interface ConfigChange {
  /** Its key. */
  readonly key: string;
  /** What counted before; null when it was not set. */
  readonly before: unknown;
  /** What the files say now. */
  readonly after: unknown;
  /** `applied`, `restart` (it needs one), `next swap on`, `next mount` (it counts then) or `failed`. */
  readonly effect: 'applied' | 'restart' | 'next swap on' | 'next mount' | 'failed';
  /** Why it failed; else empty. */
  readonly note: string;
}
