/** The jobs of examples/nomad, without Nomad: their shape, and every variable and flag by our own tables. */
import fs from 'node:fs';
import path from 'node:path';
import t from 'tap';
import * as v from 'valibot';
import { problemsOfCommand, problemsOfVariables } from '../helpers/written-commands.ts';

const FOLDER = path.join(import.meta.dirname, '../../../examples/nomad');
const SECOND_NS = 1e9;

const text = v.pipe(v.string(), v.minLength(1));
const seconds = v.pipe(v.number(), v.integer(), v.minValue(SECOND_NS));
/** What the jobs here use of Nomad's JSON job specification; anything else is a mistake. */
const job = v.strictObject({
  Job: v.strictObject({
    ID: text,
    Name: text,
    Type: v.picklist(['service', 'system']),
    Datacenters: v.array(text),
    Constraints: v.array(
      v.strictObject({ LTarget: text, RTarget: text, Operand: v.picklist(['=']) }),
    ),
    Update: v.optional(v.strictObject({ MaxParallel: v.number(), Stagger: seconds })),
    TaskGroups: v.array(
      v.strictObject({
        Name: text,
        Count: v.literal(1),
        Networks: v.array(
          v.strictObject({
            Mode: v.literal('host'),
            ReservedPorts: v.array(v.strictObject({ Label: text, Value: v.number() })),
          }),
        ),
        RestartPolicy: v.strictObject({
          ...{ Attempts: v.number(), Interval: seconds, Delay: seconds },
          Mode: v.picklist(['delay', 'fail']),
        }),
        Volumes: v.record(
          text,
          v.strictObject({
            Name: text,
            Type: v.literal('host'),
            Source: text,
            ReadOnly: v.boolean(),
          }),
        ),
        Services: v.optional(
          v.array(
            v.strictObject({
              ...{ Name: text, Provider: v.literal('nomad'), PortLabel: text },
              Checks: v.array(
                v.strictObject({
                  ...{ Name: text, Type: v.literal('tcp'), PortLabel: text },
                  ...{ Interval: seconds, Timeout: seconds },
                }),
              ),
            }),
          ),
        ),
        Tasks: v.array(
          v.strictObject({
            Name: text,
            Driver: v.literal('exec'),
            User: text,
            Config: v.strictObject({ command: text, args: v.optional(v.array(text)) }),
            Env: v.optional(v.record(text, v.string())),
            Templates: v.optional(
              v.array(
                v.strictObject({
                  ...{ DestPath: text, Envvars: v.literal(true), EmbeddedTmpl: text },
                  ChangeMode: v.picklist(['restart', 'noop', 'signal']),
                }),
              ),
            ),
            VolumeMounts: v.array(
              v.strictObject({ Volume: text, Destination: text, ReadOnly: v.boolean() }),
            ),
            KillTimeout: seconds,
            Resources: v.strictObject({
              ...{ CPU: v.number(), MemoryMB: v.number(), MemoryMaxMB: v.optional(v.number()) },
            }),
          }),
        ),
      }),
    ),
  }),
});

const jobs = fs
  .readdirSync(FOLDER)
  .filter((name) => name.endsWith('.nomad.json'))
  .map((file) => ({
    file,
    parsed: v.safeParse(job, JSON.parse(fs.readFileSync(path.join(FOLDER, file), 'utf8'))),
  }));

t.test('both jobs have the shape of a job', (t) => {
  t.same(jobs.map(({ file }) => file).sort(), ['control-plane.nomad.json', 'provider.nomad.json']);
  for (const { file, parsed } of jobs) t.same(parsed.issues, undefined, file);
  t.end();
});

t.test('ports, volumes, variables and flags are those of the programs', (t) => {
  for (const { parsed } of jobs) {
    if (!parsed.success) continue;
    const { ID, Type, TaskGroups } = parsed.output.Job;
    const port = ID === 'memcloud-control' ? 7071 : 7070;
    t.equal(Type, ID === 'memcloud-control' ? 'service' : 'system');
    for (const group of TaskGroups) {
      const ports = group.Networks.flatMap(({ ReservedPorts }) => ReservedPorts);
      t.same(ports, [{ Label: 'peer', Value: port }]);
      for (const task of group.Tasks) {
        const { Config, Env = {}, Templates = [], VolumeMounts } = task;
        for (const { Volume } of VolumeMounts) t.ok(Volume in group.Volumes, `${ID} ${Volume}`);
        // What Nomad fills in while it starts the task.
        const filled = Object.entries(Env).map(([name, value]) => [
          name,
          value.replace('${NOMAD_TASK_DIR}', '/local').replace(/\$\{[^}]*\}/g, 'a-name'),
        ]);
        t.same(problemsOfVariables(Object.fromEntries(filled) as Record<string, string>), [], ID);
        for (const { EmbeddedTmpl } of Templates) {
          const [name = ''] = EmbeddedTmpl.split('=');
          t.same(problemsOfVariables({ [name]: '' }), [], `${ID} ${name}`);
        }
        const words = [...(Config.args ?? [])];
        if (Config.command.endsWith('/memcloud')) t.same(problemsOfCommand(words), [], ID);
        else t.same([Config.command, words], ['/usr/bin/memnode', []], ID);
        const listen = Env['MEMCLOUD_LISTEN'] ?? words.find((word) => word.startsWith('--listen='));
        t.match(listen, new RegExp(`:${port}$`), `${ID} listens where Nomad reserves`);
      }
    }
  }
  t.end();
});
