/**
 * Whether the kernel has a part: in /sys/module when it is loaded (or built in with parameters), in
 * modules.builtin or in the kernel's own account of how it was built when it is built in, in
 * modules.dep when it can be loaded. kernel-scripts/check-kernel.sh looks in the same places.
 */
import os from 'node:os';
import { SystemFiles } from './system-files.ts';

/** Where a part of the kernel is: there now, to be loaded, or nowhere. */
export type ModuleState = 'ready' | 'loadable' | 'absent';

/** The options of the kernel configuration for modules that this program asks for. */
const CONFIG_OPTIONS: Readonly<Record<string, string>> = {
  nbd: 'CONFIG_BLK_DEV_NBD',
  tls: 'CONFIG_TLS',
  'dm-crypt': 'CONFIG_DM_CRYPT',
  raid1: 'CONFIG_MD_RAID1',
  chacha20poly1305: 'CONFIG_CRYPTO_CHACHA20POLY1305',
  xts: 'CONFIG_CRYPTO_XTS',
};

/** The modules of one kernel; reads its lists once. */
export class KernelModules {
  readonly #files: SystemFiles;
  readonly #builtin: string;
  readonly #dependencies: string;
  readonly #config: string;

  /** @param release - as `uname -r` says it */
  constructor(files: SystemFiles, release: string) {
    this.#files = files;
    this.#builtin = files.read(`/lib/modules/${release}/modules.builtin`) ?? '';
    this.#dependencies = files.read(`/lib/modules/${release}/modules.dep`) ?? '';
    this.#config = files.read('/proc/config.gz') ?? files.read(`/boot/config-${release}`) ?? '';
  }

  /** @param name - as modprobe takes it, such as `dm-crypt` */
  state(name: string): ModuleState {
    const option = CONFIG_OPTIONS[name];
    if (this.#files.exists(`/sys/module/${name.replaceAll('-', '_')}`)) return 'ready';
    if (this.#builtin.includes(`/${name}.ko`)) return 'ready';
    if (option !== undefined && `\n${this.#config}`.includes(`\n${option}=y`)) return 'ready';
    return this.#dependencies
      .split('\n')
      .some((line) => (line.split(':')[0] ?? '').includes(`/${name}.ko`))
      ? 'loadable'
      : 'absent';
  }
}

/** Whether the running kernel has a module. */
export function kernelModule(name: string): ModuleState {
  return new KernelModules(new SystemFiles(), os.release()).state(name);
}
