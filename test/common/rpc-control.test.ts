/** What admins see over RPC is what the control plane answers (control-plane/schema.ts). */
import t from 'tap';
import type {
  ControlAnswers,
  ControlAuditLine,
  ControlLease,
  ControlMember,
  ControlProvider,
  ControlUsage,
} from '../../common/rpc-control.ts';
import { checkRpcParams } from '../../common/rpc-schema.ts';
import { MANAGED_CALLS, type ManagedResult } from '../../control-plane/schema.ts';

/** Each way round: a field that one has and the other has not is a mistake of the compiler's. */
type Same<A, B> = [A] extends [Readonly<B>] ? ([B] extends [A] ? true : false) : false;
type Deep<T> = T extends (infer E)[]
  ? readonly Deep<E>[]
  : T extends object
    ? { readonly [K in keyof T]: Deep<T[K]> }
    : T;
type AnswerOf<C extends keyof ControlAnswers> = Deep<ManagedResult<C>>;
/** A picklist of the schema is text to whoever prints it. */
type Loose<T, K extends keyof T> = Omit<T, K> & { readonly [P in K]: string };
type RowOf<C extends 'admin.members' | 'admin.providers' | 'admin.usage' | 'lease.list'> =
  AnswerOf<C>['rows'][number];

const SAME: {
  status: Same<AnswerOf<'admin.status'>, Deep<ControlAnswers['admin.status']>>;
  provider: Same<Loose<RowOf<'admin.providers'>, 'state'>, ControlProvider>;
  drained: Same<Loose<AnswerOf<'admin.drain'>, 'state'>, ControlProvider>;
  member: Same<RowOf<'admin.members'>, ControlMember>;
  put: Same<AnswerOf<'admin.member-put'>, ControlMember>;
  removed: Same<AnswerOf<'admin.member-remove'>, ControlAnswers['admin.member-remove']>;
  lease: Same<Loose<RowOf<'lease.list'>, 'state'>, ControlLease>;
  usage: Same<RowOf<'admin.usage'>, ControlUsage>;
  audit: Same<AnswerOf<'admin.audit'>['rows'][number], ControlAuditLine>;
  revoke: Same<AnswerOf<'admin.revoke'>, ControlAnswers['admin.revoke']>;
  watch: Same<AnswerOf<'admin.watch'>, ControlAnswers['admin.watch']>;
} = {
  ...{ status: true, provider: true, drained: true, member: true, put: true, removed: true },
  ...{ lease: true, usage: true, audit: true, revoke: true, watch: true },
};

t.test('each answer has the fields of the schema', (t) => {
  t.ok(Object.values(SAME).every(Boolean), 'as the compiler holds them');
  const told: (keyof ControlAnswers)[] = [
    ...(['admin.status', 'admin.providers', 'admin.members', 'admin.member-put'] as const),
    ...(['admin.member-remove', 'admin.revoke', 'admin.drain', 'admin.usage'] as const),
    ...(['admin.audit', 'admin.watch', 'lease.list'] as const),
  ];
  const admin = Object.keys(MANAGED_CALLS).filter((call) => call.startsWith('admin.'));
  t.same(
    admin.filter((call) => !(told as string[]).includes(call)),
    [],
    'every admin call has a command',
  );
  t.end();
});

t.test('an invitation and consent want roles, and limits that are limits', (t) => {
  const invite = (params: object): object => checkRpcParams('control.invite', params);
  const good = { roles: ['client', 'admin'], quotaBytes: null, quotaLeases: 3, ttlMs: 1000 };
  t.match(invite(good), { params: good });
  for (const wrong of [
    {},
    { roles: [] },
    { roles: ['king'] },
    { roles: ['client'], quotaBytes: -1 },
    { roles: ['client'], quotaLeases: 0.5 },
    { roles: ['client'], ttlMs: 10 },
    { roles: ['client'], more: 1 },
  ]) {
    t.match(invite(wrong), { problem: String }, JSON.stringify(wrong));
  }
  const consent = { roles: ['provider'], request: 'x' };
  t.match(checkRpcParams('control.consent', consent), { params: consent });
  t.match(checkRpcParams('control.consent', { request: 'x' }), { problem: String });
  t.end();
});
