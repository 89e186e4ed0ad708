/** Parameters that come from outside: what is taken, and which sentence says what is wrong. */
import fc from 'fast-check';
import t from 'tap';
import { RPC_PARAMS, checkRpcParams, type RpcMethod } from '../../common/rpc-schema.ts';

const METHODS = Object.keys(RPC_PARAMS) as RpcMethod[];

t.test('good parameters are taken as they are', (t) => {
  const cases: [RpcMethod, object][] = [
    ['status', {}],
    ['peer.connect', { address: '10.0.0.1:7070' }],
    ['consent.answer', { request: '7', answer: 'trust' }],
    ['volume.create', { name: 'v', sizeBytes: 4096 }],
    [
      'volume.create',
      { name: 'a.b-c_D9', sizeBytes: 0, copies: 8, providers: ['n'], ringBytes: 1 },
    ],
    ['volume.create', { name: 'x'.repeat(63), sizeBytes: 2 ** 53 - 1 }],
    ['volume.remove', { name: 'v', force: true }],
    ['nbd.serve', { name: 'v', unixPath: '/run/x' }],
    ['nbd.attach', { name: 'v', connections: 16, via: 'nbd-client', timeoutS: 0 }],
    ['nbd.detach', { device: '/dev/nbd0' }],
  ];
  for (const [method, params] of cases) t.same(checkRpcParams(method, params), { params }, method);
  t.end();
});

t.test('missing parameters are none at all', (t) => {
  t.same(checkRpcParams('status', undefined), { params: {} });
  t.same(checkRpcParams('status', null), { params: {} });
  t.end();
});

t.test('bad parameters are named', (t) => {
  const cases: [RpcMethod, unknown, RegExp][] = [
    ['status', { extra: 1 }, /extra/],
    ['status', 'text', /./],
    ['status', 5, /./],
    ['peer.connect', {}, /^address: /],
    ['peer.connect', { address: 5 }, /^address: /],
    ['peer.connect', { address: 'x', toString: 1 }, /toString/],
    ['consent.answer', { request: '7', answer: 'maybe' }, /^answer: /],
    ['volume.create', { name: 'v' }, /^sizeBytes: /],
    ['volume.create', { name: 'v', sizeBytes: '1G' }, /^sizeBytes: /],
    ['volume.create', { name: 'v', sizeBytes: -1 }, /^sizeBytes: /],
    ['volume.create', { name: 'v', sizeBytes: 1.5 }, /^sizeBytes: /],
    ['volume.create', { name: 'v', sizeBytes: NaN }, /^sizeBytes: /],
    ['volume.create', { name: 'v', sizeBytes: Infinity }, /^sizeBytes: /],
    ['volume.create', { name: 'v', sizeBytes: 2 ** 53 }, /^sizeBytes: /],
    ['volume.create', { name: 'v', sizeBytes: 1n }, /^sizeBytes: /],
    ['volume.create', { name: 'v', sizeBytes: 1, copies: 0 }, /^copies: /],
    ['volume.create', { name: 'v', sizeBytes: 1, copies: 9 }, /^copies: /],
    ['volume.create', { name: 'v', sizeBytes: 1, copies: 1.5 }, /^copies: /],
    ['volume.create', { name: 'v', sizeBytes: 1, providers: 'n' }, /^providers: /],
    ['volume.create', { name: 'v', sizeBytes: 1, providers: [5] }, /^providers\.0: /],
    ['volume.create', { name: 'v', sizeBytes: 1, copys: 2 }, /copys/],
    ['volume.create', { name: '', sizeBytes: 1 }, /^name: expected 1 to 63/],
    ['volume.create', { name: 'x'.repeat(64), sizeBytes: 1 }, /^name: expected 1 to 63/],
    ['volume.create', { name: '.hidden', sizeBytes: 1 }, /^name: expected 1 to 63/],
    ['volume.create', { name: '-rf', sizeBytes: 1 }, /^name: expected 1 to 63/],
    ['volume.create', { name: '../etc', sizeBytes: 1 }, /^name: expected 1 to 63/],
    ['volume.create', { name: 'a/b', sizeBytes: 1 }, /^name: expected 1 to 63/],
    ['volume.create', { name: 'a b', sizeBytes: 1 }, /^name: expected 1 to 63/],
    ['volume.create', { name: 'a\n', sizeBytes: 1 }, /^name: expected 1 to 63/],
    ['volume.create', { name: 'ä', sizeBytes: 1 }, /^name: expected 1 to 63/],
    ['volume.create', { name: 'a\u0000', sizeBytes: 1 }, /^name: expected 1 to 63/],
    ['volume.remove', { name: 'v', force: 'yes' }, /^force: /],
    ['nbd.attach', { name: 'v', connections: 0 }, /^connections: /],
    ['nbd.attach', { name: 'v', connections: 17 }, /^connections: /],
    ['nbd.attach', { name: 'v', via: 'magic' }, /^via: /],
    ['nbd.attach', { name: 'v', timeoutS: -1 }, /^timeoutS: /],
  ];
  for (const [method, params, problem] of cases) {
    const label = `${method}: ${problem.source}`;
    const result = checkRpcParams(method, params);
    t.match(result, { problem }, label);
    if ('problem' in result) t.notMatch(result.problem, /\n/, 'one line');
  }
  t.end();
});

t.test('any value is parameters or a problem, for each method', (t) => {
  fc.assert(
    fc.property(
      fc.constantFrom(...METHODS),
      fc.anything({ withNullPrototype: true }),
      (method, value) => {
        const result = checkRpcParams(method, value);
        return 'params' in result ? typeof result.params === 'object' : result.problem.length > 0;
      },
    ),
    { numRuns: 2000 },
  );
  t.pass('every value');
  t.end();
});
