/** Collects the facts of the kernel and of this process. Reads files; runs nothing but `command -v`. */
import { hasTool } from '../../common/tool.ts';
import { KernelModules, type ModuleState } from '../system/kernel-modules.ts';
import type { SystemFiles } from '../system/system-files.ts';
import { CIPHERS, MODULES, TOOLS, type KernelFacts } from './facts.ts';

/** An object of what `valueOf` says for each key. */
export function record<K extends string, V>(
  keys: readonly K[],
  valueOf: (key: K) => V,
): Readonly<Record<K, V>> {
  return Object.fromEntries(keys.map((key) => [key, valueOf(key)])) as Record<K, V>;
}

/** A cipher is there when the kernel lists it, and to be had when its module is. */
function cipherState(listed: string, name: string, module: ModuleState): ModuleState {
  const known = listed.split('\n').some((line) => /^name\s*:\s*(.*)$/.exec(line)?.[1] === name);
  return known ? 'ready' : module;
}

/** The kernel and the rights of this process. */
export function collectKernel(files: SystemFiles): KernelFacts {
  const release = files.read('/proc/sys/kernel/osrelease')?.trim() ?? '';
  const modules = new KernelModules(files, release);
  const listed = files.read('/proc/crypto') ?? '';
  const bits = /^CapEff:\s*([0-9a-f]+)$/m.exec(files.read('/proc/self/status') ?? '')?.[1];
  const limit = /^Max locked memory\s+(\S+)/m.exec(files.read('/proc/self/limits') ?? '')?.[1];
  return {
    release,
    modules: record(MODULES, (name) => modules.state(name)),
    ciphers: record(
      CIPHERS.map(({ name }) => name),
      (name) => {
        const module = CIPHERS.find((cipher) => cipher.name === name)?.module ?? '';
        return cipherState(listed, name, modules.state(module));
      },
    ),
    tools: record(TOOLS, hasTool),
    capabilities: bits === undefined ? undefined : BigInt(`0x${bits}`),
    memlockBytes: limit === 'unlimited' ? Infinity : Number(limit ?? 0),
  };
}
