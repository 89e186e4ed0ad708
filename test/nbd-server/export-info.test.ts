import t from 'tap';
import { transmissionFlags, type ExportInfo } from '../../nbd-server/export-info.ts';
import { ReplyMode } from '../../nbd-server/message-codec.ts';

const disk: ExportInfo = {
  name: 'disk',
  description: 'a disk',
  sizeBytes: 8192,
  readOnly: false,
  singleConnection: false,
};
const other: ExportInfo = {
  name: 'other',
  description: '',
  sizeBytes: 4096,
  readOnly: true,
  singleConnection: false,
};

t.test('transmission flags follow the mode and the export', async (t) => {
  t.equal(transmissionFlags(disk, ReplyMode.SIMPLE), 0b0000_1101_0110_1101);
  t.equal(transmissionFlags(disk, ReplyMode.STRUCTURED), 0b0000_1101_1110_1101);
  t.equal(transmissionFlags(disk, ReplyMode.EXTENDED), 0b0001_1101_1110_1101);
  t.equal(transmissionFlags(other, ReplyMode.SIMPLE), 0b0000_0101_0000_1111);
  const single = { ...disk, singleConnection: true };
  t.equal(transmissionFlags(single, ReplyMode.SIMPLE), 0b0000_1100_0110_1101);
});
