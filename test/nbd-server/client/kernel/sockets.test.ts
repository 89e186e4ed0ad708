import t from 'tap';
import { openSockets, kernelBlockSize } from '../../../../nbd-server/client/kernel/sockets.ts';
import type { NegotiatedExport } from '../../../../nbd-server/client/negotiation.ts';
import { startNbdServer } from '../../../helpers/nbd-fixture.ts';

function described(sizeBytes: number, minimum: number): NegotiatedExport {
  return {
    sizeBytes,
    transmissionFlags: 1,
    blockSize: { minimum, preferred: 4096, maximumPayload: 2 ** 25 },
    description: '',
    headerStyle: 'simple',
    allocationContextId: undefined,
  };
}

t.test('the kernel’s block size is a page where the size allows it', async (t) => {
  t.equal(kernelBlockSize(described(2 ** 20, 1)), 4096);
  t.equal(kernelBlockSize(described(2 ** 20 + 2048, 1)), 2048);
  t.equal(kernelBlockSize(described(2 ** 20 + 100, 1)), 512);
  t.equal(kernelBlockSize(described(2 ** 20, 4096)), 4096);
  t.throws(() => kernelBlockSize(described(2 ** 20, 8192)), { code: 'ERR_NBD_ATTACH' });
  t.throws(() => kernelBlockSize(described(2 ** 20 + 512, 4096)), { code: 'ERR_NBD_ATTACH' });
});

t.test('sockets are negotiated one by one and all closed by the caller', async (t) => {
  const { target, server } = await startNbdServer(t);
  const sockets = await openSockets({ address: target, exportName: 'memory', connections: 3 });
  t.equal(sockets.length, 3);
  t.equal(server.clientCount('memory'), 3);
  t.match(sockets[2]?.export, { sizeBytes: 1_048_576, headerStyle: 'simple' });
  for (const socket of sockets) socket.close();
});

t.test('bounds and refusals', async (t) => {
  const { target } = await startNbdServer(t);
  for (const connections of [0, 17, 1.5]) {
    await t.rejects(openSockets({ address: target, exportName: 'memory', connections }), {
      code: 'ERR_USAGE',
    });
  }
  await t.rejects(openSockets({ address: target, exportName: 'other' }), {
    code: 'ERR_NBD_EXPORT_UNKNOWN',
  });
});
