/** Kernel modules that direct swap needs. Loading is root's business, not that of a confined memnode. */
import { runTool } from '../../common/tool.ts';

const MODULES: readonly (readonly [string, ...string[]])[] = [
  ['nbd', 'nbds_max=16'],
  ['tls'],
  ['chacha20poly1305'],
  ['dm-crypt'],
  ['raid1'],
];

/** Loads what is not there; what cannot be loaded may be built in, and shows in `direct.check` if not. */
export async function loadSwapModules(): Promise<void> {
  for (const words of MODULES) await runTool('modprobe', words).catch(() => undefined);
}
