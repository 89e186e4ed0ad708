/**
 * A change of configuration under a running daemon. The files are read again, as a whole and before
 * anything is changed: with one mistake in them everything stays as it was. What can be applied is
 * applied at once; for the rest the answer says that it needs a restart. Nothing here ends a session, a
 * lease or a device.
 */
import {
  OPTION_KEYS,
  optionOf,
  type LiveKey,
  type OptionKey,
  type OptionValue,
} from '../common/config/options.ts';
import { refuseProblems, type Origin, type ResolvedConfig } from '../common/config/resolve.ts';
import { asMemcloudError } from '../common/errors.ts';
import type { Logger } from '../common/log.ts';
import type { ConfigChange, ConfigInfo, ConfigSetting } from '../common/rpc-config.ts';
import type { WrittenConfig } from './config.ts';

/** What a daemon does with a changed value; `before` is what it did until now. */
export type Appliers = {
  readonly [K in LiveKey]: (value: OptionValue<K>, before: OptionValue<K>) => void;
};

/** For a service manager: a reload begins, and is over. */
export type ReloadPhase = 'reloading' | 'ready';

/** The configuration by which a daemon runs now. */
export class LiveConfig {
  /** Called at the begin and the end of each reload, whatever comes of it. */
  onPhase: (phase: ReloadPhase) => void = () => undefined;
  readonly #written: WrittenConfig;
  readonly #appliers: Appliers;
  readonly #logger: Logger;
  readonly #values: Record<OptionKey, unknown>;
  #origins: Readonly<Record<OptionKey, Origin>>;
  #files: readonly string[];

  /** @param written - as read at the start, by which the daemon was made */
  constructor(written: WrittenConfig, appliers: Appliers, logger: Logger) {
    const { values, origins, files } = written.resolved;
    this.#written = written;
    this.#appliers = appliers;
    this.#logger = logger;
    this.#values = { ...values };
    this.#origins = origins;
    this.#files = files;
  }

  /** What counts now, for `config show`. */
  info(): ConfigInfo {
    const settings = OPTION_KEYS.map((key): ConfigSetting => {
      const { source, at } = this.#origins[key];
      return { key, value: this.#values[key] ?? null, source, at };
    });
    return { configPath: this.#written.configPath ?? null, files: this.#files, settings };
  }

  /**
   * Reads the files again and applies what can be applied.
   *
   * @returns what is changed or would be; empty when all is as it was
   * @throws MemcloudError `ERR_CONFIG` with a line for each mistake; nothing is changed then
   */
  reload(): ConfigChange[] {
    this.onPhase('reloading');
    try {
      const resolved = this.#written.reread();
      refuseProblems(resolved.problems);
      return this.#apply(resolved);
    } catch (error) {
      const problems = asMemcloudError(error).message.split('\n');
      this.#logger.error({ problems }, 'the configuration is wrong; all stays as it was');
      throw error;
    } finally {
      this.onPhase('ready');
    }
  }

  #apply(resolved: ResolvedConfig): ConfigChange[] {
    const origins = { ...resolved.origins };
    const changes: ConfigChange[] = [];
    for (const key of OPTION_KEYS) {
      const before = this.#values[key] ?? null;
      const after = resolved.values[key] ?? null;
      if (JSON.stringify(before) === JSON.stringify(after)) continue;
      const { effect, note } = this.#change(key, resolved.values[key]);
      if (effect === 'restart' || effect === 'failed') origins[key] = this.#origins[key];
      else this.#values[key] = resolved.values[key];
      changes.push({ key, before, after, effect, note });
    }
    this.#origins = origins;
    this.#files = resolved.files;
    for (const change of changes) this.#log(change);
    if (changes.length === 0) this.#logger.info({}, 'the configuration is as it was');
    return changes;
  }

  #change(key: OptionKey, value: unknown): Pick<ConfigChange, 'effect' | 'note'> {
    const { change } = optionOf(key);
    if (change === 'restart') return { effect: 'restart', note: '' };
    if (change !== 'live') return { effect: change, note: '' };
    const apply = this.#appliers[key as LiveKey] as (value: unknown, before: unknown) => void;
    try {
      apply(value, this.#values[key]);
      return { effect: 'applied', note: '' };
    } catch (error) {
      return { effect: 'failed', note: asMemcloudError(error).message };
    }
  }

  #log({ key, before, after, effect, note }: ConfigChange): void {
    const fields = { key, before, after, ...(note === '' ? {} : { note }) };
    if (effect === 'applied') this.#logger.info(fields, `${key} changed`);
    else if (effect.startsWith('next ')) this.#logger.info(fields, `${key} is for the ${effect}`);
    else if (effect === 'restart') this.#logger.warn(fields, `${key} changed: needs a restart`);
    else this.#logger.error(fields, `${key} could not be changed`);
  }
}
