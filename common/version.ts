/** The version of the program, read once from package.json, the one place that states it. */
import fs from 'node:fs';

function readVersion(): string {
  // From dist/common/ as built, from common/ when a tool reads the source.
  for (const relative of ['../../package.json', '../package.json']) {
    const url = new URL(relative, import.meta.url);
    if (!fs.existsSync(url)) continue;
    const { name, version } = JSON.parse(fs.readFileSync(url, 'utf8')) as Record<string, string>;
    if (name === 'memcloud' && version !== undefined) return version;
  }
  return '0.0.0';
}

/** Semantic version, such as `0.1.0`. */
export const VERSION = readVersion();
