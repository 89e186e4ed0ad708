/** Which daemon answers what (daemon/control-plane/refused.ts). */
import t from 'tap';
import { CONTROL_RPC_PARAMS } from '../../../common/rpc-control.ts';
import { RPC_PARAMS } from '../../../common/rpc-schema.ts';
import { notAControlNode, notAMemnode } from '../../../daemon/control-plane/refused.ts';

t.test('what is of the other daemon is refused in a sentence, method for method', (t) => {
  const memnode = notAControlNode() as unknown as Record<string, () => unknown>;
  t.same(Object.keys(memnode), Object.keys(CONTROL_RPC_PARAMS));
  for (const handler of Object.values(memnode)) {
    t.throws(handler, { code: 'ERR_UNSUPPORTED', message: /this is a memnode/ });
  }
  const control = notAMemnode() as unknown as Record<string, () => unknown>;
  t.same(Object.keys(control), Object.keys(RPC_PARAMS));
  for (const [method, handler] of Object.entries(control)) {
    t.throws(handler, {
      code: 'ERR_UNSUPPORTED',
      message: new RegExp(`${method} is for a memnode`),
    });
  }
  t.end();
});
