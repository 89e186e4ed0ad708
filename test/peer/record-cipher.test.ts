import { chacha20poly1305 } from '@noble/ciphers/chacha.js';
import t from 'tap';
import { NativeMemory } from '../../common/native-memory.ts';
import { writeRecordLengths } from '../../peer/frame.ts';
import { CipherState } from '../../peer/noise/cipher-state.ts';
import { RecordOpener, RecordSealer, REKEY_LIMITS } from '../../peer/record-cipher.ts';

const KEY = Uint8Array.from({ length: 32 }, (_, index) => 255 - index);
const key = (): Uint8Array => Uint8Array.from(KEY);
const HEAD = 24;
const PAGES = 4112;
const SIZE = 8 + PAGES + HEAD + 16;

function record(memory: NativeMemory, at = 0): void {
  for (let index = 0; index < PAGES + HEAD; index += 1) memory.bytes[at + 8 + index] = index % 251;
  writeRecordLengths(memory, at, PAGES, HEAD);
}

t.test('a record is lengths and pages as associated data, head encrypted, tag', async (t) => {
  const memory = new NativeMemory(8192);
  const sealer = new RecordSealer(key(), 0);
  for (let number = 0; number < 3; number += 1) {
    record(memory);
    const plain = Buffer.from(memory.bytes.subarray(0, SIZE));
    sealer.seal(memory, 0, PAGES, HEAD);
    const nonce = Uint8Array.of(0, 0, 0, 0, number, 0, 0, 0, 0, 0, 0, 0);
    const aad = plain.subarray(0, 8 + PAGES);
    const sealed = chacha20poly1305(KEY, nonce, aad).encrypt(
      plain.subarray(8 + PAGES, 8 + PAGES + HEAD),
    );
    t.same(memory.bytes.subarray(0, SIZE), Buffer.concat([aad, sealed]), `record ${number}`);
  }
  sealer.destroy();
  memory.free();
});

t.test('the key that was given is zeroed', async (t) => {
  const given = key();
  new RecordSealer(given, 0).destroy();
  t.same(given, new Uint8Array(32));
});

t.test('a changed bit anywhere, a repeated, a missing and a moved record fail', async (t) => {
  const memory = new NativeMemory(4 * 8192);
  const sealer = new RecordSealer(key(), 0);
  for (let index = 0; index < 3; index += 1) {
    record(memory, index * 8192);
    sealer.seal(memory, index * 8192, PAGES, HEAD);
  }
  const sealed = Buffer.from(memory.bytes);
  const open = (numbers: number[], flip = -1): void => {
    const opener = new RecordOpener(key());
    sealed.copy(memory.bytes);
    if (flip >= 0) memory.bytes[flip]! ^= 1 << (flip % 8);
    try {
      for (const number of numbers) opener.open(memory, number * 8192, PAGES, HEAD);
    } finally {
      opener.destroy();
    }
  };
  const refused = { code: 'ERR_PEER_AUTHENTICATION' };
  t.doesNotThrow(() => open([0, 1, 2]));
  t.throws(() => open([1]), refused, 'first missing');
  t.throws(() => open([0, 2]), refused, 'one missing');
  t.throws(() => open([1, 0]), refused, 'order changed');
  for (let at = 0; at < SIZE; at += at > 16 && at < 4000 ? 97 : 1) {
    t.throws(() => open([0], at), refused, `byte ${at}`);
  }
  const opener = new RecordOpener(key());
  sealed.copy(memory.bytes);
  opener.open(memory, 0, PAGES, HEAD);
  sealed.copy(memory.bytes);
  t.throws(() => opener.open(memory, 0, PAGES, HEAD), refused, 'repeated');
  opener.destroy();
  sealer.destroy();
  memory.free();
});

t.test('a range outside of the buffer is refused before a number is taken', async (t) => {
  const memory = new NativeMemory(8192);
  const sealer = new RecordSealer(key(), 0);
  const opener = new RecordOpener(key());
  record(memory);
  t.throws(() => sealer.seal(memory, 8192, PAGES, HEAD), RangeError);
  sealer.seal(memory, 0, PAGES, HEAD);
  t.doesNotThrow(() => opener.open(memory, 0, PAGES, HEAD), 'this is record 0');
  sealer.destroy();
  opener.destroy();
  memory.free();
});

t.test('rekey is that of Noise and the number goes on', async (t) => {
  const memory = new NativeMemory(8192);
  const sealer = new RecordSealer(key(), 0);
  const opener = new RecordOpener(key());
  const twin = new CipherState();
  twin.initializeKey(KEY);
  for (let number = 0; number < 4; number += 1) {
    record(memory);
    const plain = Buffer.from(memory.bytes.subarray(0, SIZE));
    sealer.seal(memory, 0, PAGES, HEAD);
    const sealed = twin.encryptWithAd(
      plain.subarray(0, 8 + PAGES),
      plain.subarray(8 + PAGES, 8 + PAGES + HEAD),
    );
    t.same(memory.bytes.subarray(8 + PAGES, SIZE), Buffer.from(sealed));
    opener.open(memory, 0, PAGES, HEAD);
    t.same(memory.bytes.subarray(8, 8 + PAGES + HEAD), plain.subarray(8, 8 + PAGES + HEAD));
    sealer.rekey(0);
    opener.rekey();
    twin.rekey();
  }
  sealer.destroy();
  opener.destroy();
  memory.free();
});

t.test('numbers are refused at 2^53 - 1, taken before it', async (t) => {
  const memory = new NativeMemory(8192);
  const last = 9007199254740990;
  for (const [first, allowed] of [
    [last - 1, true],
    [last, true],
    [last + 1, false],
  ] as const) {
    record(memory);
    const sealer = new RecordSealer(key(), 0, REKEY_LIMITS, first);
    const opener = new RecordOpener(key(), REKEY_LIMITS, first);
    if (allowed) {
      sealer.seal(memory, 0, PAGES, HEAD);
      t.doesNotThrow(() => opener.open(memory, 0, PAGES, HEAD), String(first));
    } else {
      t.throws(() => sealer.seal(memory, 0, PAGES, HEAD), { code: 'ERR_INTERNAL' });
      t.throws(() => opener.open(memory, 0, PAGES, HEAD), { code: 'ERR_PEER_PROTOCOL' });
    }
    sealer.destroy();
    opener.destroy();
  }
  memory.free();
});

t.test('a high number reaches the high half of the nonce', async (t) => {
  const memory = new NativeMemory(8192);
  const sealer = new RecordSealer(key(), 0, REKEY_LIMITS, 2 ** 32 + 7);
  record(memory);
  const plain = Buffer.from(memory.bytes.subarray(0, SIZE));
  sealer.seal(memory, 0, PAGES, HEAD);
  const nonce = Uint8Array.of(0, 0, 0, 0, 7, 0, 0, 0, 1, 0, 0, 0);
  const aad = plain.subarray(0, 8 + PAGES);
  const sealed = chacha20poly1305(KEY, nonce, aad).encrypt(
    plain.subarray(8 + PAGES, 8 + PAGES + HEAD),
  );
  t.same(memory.bytes.subarray(8 + PAGES, SIZE), Buffer.from(sealed));
  sealer.destroy();
  memory.free();
});

t.test('the limits of a key are 2^20 records, 2^36 bytes, one hour', async (t) => {
  t.same(REKEY_LIMITS, { recordCountMax: 1048576, bytesMax: 68719476736, ageMaxMs: 3600000 });
});

t.test('a sender steps before each limit, a receiver refuses beyond it', async (t) => {
  const memory = new NativeMemory(8192);
  const limits = { recordCountMax: 3, bytesMax: 2 ** 36, ageMaxMs: 1000 };
  const sealer = new RecordSealer(key(), 0, limits);
  const opener = new RecordOpener(key(), limits);
  const pass = (): void => {
    record(memory);
    sealer.seal(memory, 0, PAGES, HEAD);
    opener.open(memory, 0, PAGES, HEAD);
  };
  t.equal(sealer.mustRekey(0), false);
  t.equal(sealer.mustRekey(999), false);
  t.equal(sealer.mustRekey(1000), true, 'by age');
  pass();
  pass();
  t.equal(sealer.mustRekey(0), true, 'the third of three must be the last');
  pass();
  t.throws(pass, { code: 'ERR_PEER_PROTOCOL' }, 'a fourth is refused');
  sealer.destroy();
  opener.destroy();

  const byBytes = { recordCountMax: 1000, bytesMax: SIZE + 2 * 2 ** 21, ageMaxMs: 1000 };
  const second = new RecordSealer(key(), 0, byBytes);
  t.equal(second.mustRekey(0), false);
  record(memory);
  second.seal(memory, 0, PAGES, HEAD);
  t.equal(second.mustRekey(0), false);
  record(memory);
  second.seal(memory, 0, PAGES, HEAD);
  t.equal(second.mustRekey(0), true, 'by bytes');
  second.rekey(500);
  t.equal(second.mustRekey(1499), false, 'the key is new');
  t.equal(second.mustRekey(1500), true);
  second.destroy();
  memory.free();
});
