/**
 * The guest's initramfs, made anew for each boot because it carries what changes: the product's
 * compiled code and the files that the caller injects. It is one uncompressed cpio archive (a few
 * megabytes; compressing would cost more time than it saves under emulation).
 */
import { readFileSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { MemcloudError } from '../../common/errors.ts';
import { cpioFile, cpioFolder, encodeCpio, type CpioEntry } from './cpio.ts';
import { findProgram } from './host-command.ts';
import { INITRAMFS_MODULES, MODPROBE_SCRIPT, initScript } from './init-script.ts';
import { moduleClosure, type GuestKernel } from './kernel.ts';
import { isStatic } from './libraries.ts';

/** Most bytes of injected files: they pass through the guest's memory. */
const INJECT_SIZE_MAX = 64 * 2 ** 20;

/** What goes into an initramfs. */
export interface InitramfsOptions {
  /** The kernel. */
  readonly kernel: GuestKernel;
  /** The folder of the product's package.json, with `dist/` built. */
  readonly packageRoot: string;
  /** Carry `dist/test` too. */
  readonly includeTests: boolean;
  /** Absolute path in the guest -> content, or where the host has it. */
  readonly files: Readonly<Record<string, Uint8Array | string | { hostPath: string }>>;
  /** Lines for modprobe. */
  readonly modules: readonly string[];
  /** See {@link initScript}. */
  readonly hungTaskTimeoutS: number;
  /** See {@link initScript}. */
  readonly systemd: boolean;
}

/**
 * The archive.
 *
 * @throws MemcloudError `ERR_UNSUPPORTED` when busybox is missing or not static, `ERR_USAGE` when
 *   the injected files are too large
 */
export async function buildInitramfs(options: InitramfsOptions): Promise<Buffer> {
  const busybox = findProgram('busybox');
  if (busybox === undefined || !(await isStatic(busybox))) {
    throw new MemcloudError(
      'ERR_UNSUPPORTED',
      'guests need a static busybox; run: apt-get install busybox-static',
    );
  }
  const { kernel } = options;
  const earlyModules = moduleClosure(kernel, INITRAMFS_MODULES);
  const entries: CpioEntry[] = [
    cpioFile('init', initScript({ ...options, earlyModules }), 0o755),
    cpioFile('bin/busybox', readFileSync(busybox), 0o755),
    cpioFile('bin/modprobe-in-root', MODPROBE_SCRIPT, 0o755),
    ...['proc', 'sys', 'dev', 'r', 'app'].map((name) => cpioFolder(name)),
    ...earlyModules.map((name) =>
      cpioFile(`modules/${name}.ko`, readFileSync(kernel.modules.get(name) ?? '')),
    ),
    ...compiledCode(options),
    ...injectedFiles(options),
  ];
  return encodeCpio(entries);
}

function compiledCode(options: InitramfsOptions): CpioEntry[] {
  const dist = path.join(options.packageRoot, 'dist');
  const entries: CpioEntry[] = [];
  for (const entry of readdirSync(dist, { recursive: true, withFileTypes: true })) {
    const file = path.join(entry.parentPath, entry.name);
    const place = path.relative(dist, file);
    if (!entry.isFile() || !/\.(js|json|mjs|html|css)$/.test(entry.name)) continue;
    if (/^(test|bench)\//.test(place) && !options.includeTests) continue;
    entries.push(cpioFile(`app/${place}`, readFileSync(file)));
  }
  return entries;
}

function injectedFiles(options: InitramfsOptions): CpioEntry[] {
  const manifest = path.join(options.packageRoot, 'package.json');
  const all = { '/opt/memcloud/package.json': { hostPath: manifest }, ...options.files };
  let sizeBytes = 0;
  return Object.entries(all).map(([place, content]) => {
    const fromHost = typeof content === 'object' && 'hostPath' in content;
    const data = fromHost ? readFileSync(content.hostPath) : Buffer.from(content);
    sizeBytes += data.length;
    if (sizeBytes > INJECT_SIZE_MAX) {
      throw new MemcloudError(
        'ERR_USAGE',
        `files for the guest: expected at most ${INJECT_SIZE_MAX} bytes together`,
      );
    }
    return cpioFile(`inject${place}`, data, 0o755);
  });
}
