import t from 'tap';
import {
  anyLeasedPrefix,
  decodeEntry,
  decodeNumber,
  encodeEntry,
  encodeNumber,
  entryKey,
  entryPrefix,
  keyOfEntry,
  keyOfLeased,
  leasedKey,
  leasedPrefix,
  utf8,
} from '../../control-plane/lmdb-record-codec.ts';
import { Random } from '../helpers/fuzz.ts';

const STORE_ERROR = { name: 'MemcloudError', code: 'ERR_CONTROL_STORE' };
const hex = (bytes: Buffer): string => bytes.toString('hex');

/** `python3 -c 'import zlib;print("%08x"%zlib.crc32(b"key"+(5).to_bytes(8,"big")+(258).to_bytes(8,"big")+b"v"))'` */
const CHECKSUM = '1a757c33';

t.test('records are laid down as the file says', async (t) => {
  const key = Buffer.from('key');
  t.equal(hex(entryKey(key)), '656b6579');
  t.equal(hex(entryPrefix()), '65');
  t.equal(hex(anyLeasedPrefix()), '6c');
  t.equal(hex(leasedPrefix(258)), '6c0000000000000102');
  t.equal(hex(leasedKey(258, key)), '6c00000000000001026b6579');
  t.equal(hex(encodeNumber(2 ** 53 - 1)), '001fffffffffffff');
  const entry = encodeEntry(key, { revision: 5, lease: 258, value: Buffer.from('v') });
  // The CRC-32 of `key`, both numbers and `v`, as python's zlib.crc32 computes it.
  t.equal(hex(entry), '0000000000000005000000000000010276' + CHECKSUM);
});

t.test('what was encoded is decoded', async (t) => {
  const key = Buffer.from('key');
  t.same(keyOfEntry(entryKey(key)), key);
  t.same(keyOfLeased(leasedKey(7, key)), key);
  for (const size of [0, 1, 65_536]) {
    const record = { revision: 2 ** 53 - 1, lease: 0, value: Buffer.alloc(size, 'x') };
    t.same(decodeEntry(key, encodeEntry(key, record)), record);
  }
  t.equal(decodeNumber(encodeNumber(0)), 0);
  t.equal(utf8(Buffer.from('\ufeffé')), '\ufeffé');
});

t.test('damaged records are errors, whatever bytes they have', async (t) => {
  const key = Buffer.from('key');
  const good = encodeEntry(key, { revision: 5, lease: 0, value: Buffer.from('value') });
  t.throws(() => decodeEntry(Buffer.from('kez'), good), STORE_ERROR, 'of another key');
  const random = new Random(1);
  for (let round = 0; round < 2000; round += 1) {
    const bad = random.mutate(good);
    if (bad.equals(good)) continue;
    t.throws(() => decodeEntry(key, bad), STORE_ERROR);
  }
  t.throws(() => decodeEntry(key, Buffer.alloc(19)), STORE_ERROR);
  t.throws(() => decodeNumber(Buffer.alloc(7)), STORE_ERROR);
  t.throws(() => decodeNumber(Buffer.from('0020000000000000', 'hex')), STORE_ERROR);
  t.throws(() => keyOfLeased(Buffer.alloc(9)), STORE_ERROR);
  t.throws(() => utf8(Buffer.from([0xff])), STORE_ERROR);
});
