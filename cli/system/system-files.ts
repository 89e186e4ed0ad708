/**
 * The files in which a kernel tells of itself (/proc, /sys, /lib/modules), below a root that tests
 * choose. What cannot be read is an answer here, not an error: it is absent, or not for this user.
 */
import fs from 'node:fs';
import path from 'node:path';
import { gunzipSync } from 'node:zlib';
import { MemcloudError } from '../../common/errors.ts';

/** The files. */
export class SystemFiles {
  readonly #root: string;

  /** @param root - what stands before every path; empty for the running system */
  constructor(root = '') {
    this.#root = root;
  }

  /** The text of a file, unzipped when its name ends in `.gz`; undefined when it cannot be read. */
  read(file: string): string | undefined {
    try {
      const bytes = fs.readFileSync(this.#root + file);
      return (file.endsWith('.gz') ? gunzipSync(bytes) : bytes).toString();
    } catch {
      return undefined;
    }
  }

  /** The number that is all of a file; undefined when it is none. */
  readNumber(file: string): number | undefined {
    const text = this.read(file)?.trim() ?? '';
    return /^-?\d+$/.test(text) ? Number(text) : undefined;
  }

  /** Whether there is such a file or folder. */
  exists(file: string): boolean {
    return fs.existsSync(this.#root + file);
  }

  /** The names in a folder, sorted; none when it cannot be read. */
  list(folder: string): string[] {
    try {
      return fs.readdirSync(this.#root + folder).sort();
    } catch {
      return [];
    }
  }

  /** The last part of the path that links lead to: `dm-0` for `/dev/mapper/swap`. */
  realName(file: string): string {
    try {
      return path.basename(fs.realpathSync(this.#root + file));
    } catch {
      return path.basename(file);
    }
  }

  /** @throws MemcloudError `ERR_NATIVE` */
  write(file: string, text: string): void {
    try {
      fs.writeFileSync(this.#root + file, text);
    } catch (cause) {
      const { code } = cause as NodeJS.ErrnoException;
      throw new MemcloudError(
        'ERR_NATIVE',
        `cannot write ${text} to ${file}: ${code ?? 'failed'}`,
        {
          cause,
        },
      );
    }
  }
}
