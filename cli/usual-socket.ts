/** The socket of the daemon that is meant when nobody names one. */
import { findConfigFiles } from '../common/config/files.ts';
import { defaultSocketPath } from '../common/paths.ts';

/** Where the daemon of this configuration listens. A mistake elsewhere in it is not our business. */
export async function usualSocketPath(): Promise<string> {
  const { env } = process;
  const { MEMCLOUD_CONFIG: configPath } = env;
  if (env['MEMCLOUD_SOCKET'] || findConfigFiles(configPath || undefined, env).files.length === 0) {
    return defaultSocketPath();
  }
  const { resolveConfig } = await import('../common/config/resolve.ts');
  return resolveConfig({ env }).values.socket;
}
