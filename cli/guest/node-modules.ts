/**
 * Which packages the product needs at run time: the `dependencies` of package.json and theirs,
 * found the way Node finds them (the nearest `node_modules` upwards). Development tools, a hundred
 * times as large, stay out of the guest.
 */
import { existsSync, readFileSync, realpathSync } from 'node:fs';
import path from 'node:path';

/** One installed package. */
export interface InstalledPackage {
  /** Where it lies under the package root: `node_modules/...`. */
  readonly place: string;
  /** The folder on the host. */
  readonly folder: string;
  /** Its version. */
  readonly version: string;
}

interface Manifest {
  version?: string;
  dependencies?: Record<string, string>;
  optionalDependencies?: Record<string, string>;
}

/** The run-time packages of the package in `root`, each once. Optional ones that are absent are left out. */
export function runtimePackages(root: string): InstalledPackage[] {
  const found = new Map<string, InstalledPackage>();
  const visit = (manifest: Manifest, folder: string): void => {
    const names = Object.keys({ ...manifest.dependencies, ...manifest.optionalDependencies });
    for (const name of names) {
      const place = resolveUpwards(root, folder, name);
      if (place === undefined || found.has(place)) continue;
      const own = readManifest(path.join(root, place));
      const real = realpathSync(path.join(root, place));
      found.set(place, { place, folder: real, version: own.version ?? '' });
      visit(own, place);
    }
  };
  const { dependencies } = readManifest(root);
  visit(dependencies === undefined ? {} : { dependencies }, '');
  return [...found.values()];
}

/** The nearest `node_modules/NAME` at or above `folder`, both relative to the root. */
function resolveUpwards(root: string, folder: string, name: string): string | undefined {
  for (let at = folder; ; at = path.dirname(at)) {
    const place = path.join(at, 'node_modules', name);
    if (existsSync(path.join(root, place, 'package.json'))) return place;
    if (at === '' || at === '.') return undefined;
  }
}

function readManifest(folder: string): Manifest {
  return JSON.parse(readFileSync(path.join(folder, 'package.json'), 'utf8')) as Manifest;
}
