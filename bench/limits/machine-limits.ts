/**
 * What the machine does for a page when nothing else is asked of it: copy it (a C program of ours), and
 * seal it, with the system's openssl in C and with ours in this process, through the libcrypto of Node.
 */
import { AEAD_KEY_SIZE_BYTES, AeadKey, emptyAeadMessage } from '../../common/aead.ts';
import { NativeMemory } from '../../common/native-memory.ts';
import { PAGE_SIZE_BYTES, SEALED_PAGE_SIZE_BYTES } from '../../common/units.ts';
import { PageSealer } from '../../tier/seal.ts';
import { compile } from '../compile.ts';
import type { Stage } from '../stage.ts';
import { median } from '../statistics.ts';
import { messageUs, parseOpensslSpeed } from './openssl-speed.ts';

/** What one thing costs. */
export interface LimitRow {
  readonly name: string;
  /** For a page of 4 KiB. */
  readonly pageUs: number;
}

const COPY_SIZE_BYTES = 128 * 2 ** 20;
const COPY_TIMEOUT_MS = 60_000;
const CIPHERS = ['chacha20-poly1305', 'aes-256-gcm'] as const;
const SPEED_SECONDS = { quick: 1, full: 3 };
const SPEED_SLACK_MS = 20_000;
/** Pages that stay in the caches, as those of a request just received do. */
const HOT_PAGE_COUNT = 16;
const BATCH_PAGE_COUNT = 4096;
const BATCH_COUNT = 15;
/** A record's own bytes beside the page: its header, and about one message. */
const RECORD_HEADER_BYTES = 8;
const RECORD_HEAD_BYTES = 32;

const COPY_NAMES: Readonly<Record<string, string>> = {
  'page-hot': 'memcpy of a page in the caches',
  'page-cold': 'memcpy of a page anywhere in 128 MiB',
  large: 'memcpy of 128 MiB in one',
};

/** Copies in C. @throws Error, RangeError */
export async function measureCopies(stage: Stage, quick: boolean): Promise<LimitRow[]> {
  const program = await compile(stage, 'memory-copy', []);
  const args = [String(COPY_SIZE_BYTES), quick ? '5' : '25'];
  const output = await stage.run(program, args, COPY_TIMEOUT_MS);
  return output
    .trim()
    .split('\n')
    .map((line) => {
      const { way, bytes, medianNs } = JSON.parse(line) as Record<'bytes' | 'medianNs', number> & {
        way: string;
      };
      return {
        name: COPY_NAMES[way] ?? way,
        pageUs: medianNs / 1000 / (bytes / PAGE_SIZE_BYTES),
      };
    });
}

/**
 * Ciphers of the system's openssl on 4 KiB: the bare cipher, and whole messages, each with a nonce of
 * its own, 13 bytes of associated data and a tag. @throws Error, RangeError
 */
export async function measureOpenssl(stage: Stage, quick: boolean): Promise<LimitRow[]> {
  const seconds = SPEED_SECONDS[quick ? 'quick' : 'full'];
  const rows: LimitRow[] = [];
  for (const cipher of CIPHERS) {
    for (const whole of [false, true]) {
      const args = ['speed', '-mr', '-seconds', `${seconds}`, '-bytes', `${PAGE_SIZE_BYTES}`];
      const output = await stage.run(
        'openssl',
        [...args, '-evp', cipher, ...(whole ? ['-aead'] : [])],
        seconds * 1000 + SPEED_SLACK_MS,
      );
      for (const speed of parseOpensslSpeed(output)) {
        const how = whole ? 'whole messages' : 'bare';
        rows.push({ name: `openssl ${cipher}, ${how}`, pageUs: messageUs(speed) });
      }
    }
  }
  return rows;
}

/** The median processor time of `work` on a page, over batches: a neighbour on the machine is not counted. */
function timePages(work: (page: number) => void): number {
  const times = Array.from({ length: BATCH_COUNT }, () => {
    const start = process.cpuUsage();
    for (let page = 0; page < BATCH_PAGE_COUNT; page += 1) work(page % HOT_PAGE_COUNT);
    const { user, system } = process.cpuUsage(start);
    return (user + system) / BATCH_PAGE_COUNT;
  });
  return median(times);
}

/** Our own page cipher and our record cipher over a page, in this process. @throws Error on a wrong tag */
export function measureOurCipher(): LimitRow[] {
  const plain = new NativeMemory(HOT_PAGE_COUNT * PAGE_SIZE_BYTES, { lock: false });
  const sealed = new NativeMemory(HOT_PAGE_COUNT * SEALED_PAGE_SIZE_BYTES, { lock: false });
  const record = new NativeMemory(2 * PAGE_SIZE_BYTES, { lock: false });
  const sealer = new PageSealer();
  const key = new AeadKey(new Uint8Array(AEAD_KEY_SIZE_BYTES));
  try {
    const plainAt = (page: number): number => plain.address + page * PAGE_SIZE_BYTES;
    const sealedAt = (page: number): number => sealed.address + page * SEALED_PAGE_SIZE_BYTES;
    const seal = (page: number): void => sealer.seal(page, 1, 0, plainAt(page), sealedAt(page));
    const open = (page: number): void => {
      if (!sealer.open(page, 1, 0, sealedAt(page), plainAt(page))) throw new Error('a wrong tag');
    };
    const message = emptyAeadMessage();
    message.aad = record.address;
    message.aadLength = RECORD_HEADER_BYTES;
    message.aad2 = record.address + RECORD_HEADER_BYTES;
    message.aad2Length = SEALED_PAGE_SIZE_BYTES;
    message.input = message.output = message.aad2 + SEALED_PAGE_SIZE_BYTES;
    message.length = RECORD_HEAD_BYTES;
    message.tag = message.input + RECORD_HEAD_BYTES;
    let number = 0;
    return [
      { name: 'ours: page sealed', pageUs: timePages(seal) },
      { name: 'ours: page opened', pageUs: timePages(open) },
      {
        name: 'ours: record of one page sealed',
        pageUs: timePages(() => key.seal(0, (number += 1), 0, message)),
      },
    ];
  } finally {
    for (const memory of [plain, sealed, record]) memory.free();
    sealer.destroy();
    key.destroy();
  }
}
