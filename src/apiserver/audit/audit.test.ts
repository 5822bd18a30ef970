/** What is recorded of requests, by which policy, and where it goes. */
import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync, appendFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { silentLogger } from '#observe/log.ts';
import { Metrics } from '#observe/metrics.ts';
import { realClock } from '#os/clock.real.ts';
import { RotatingFile } from '#os/rotating-file.ts';
import { createFakeClock } from '#store/fake-clock.ts';
import { createTestApi, podBody, pods } from '../fixture.ts';
import { ServerFlags } from '../server-flags.ts';
import type { AuditBackend } from './auditor.ts';
import { BatchBackend } from './backends.ts';
import type { Event } from './event.ts';
import { openAudit, type OpenAudit } from './open-audit.ts';
import { parseAuditPolicy } from './policy.ts';

const policy = (rules: string, top = ''): string => `apiVersion: audit.k8s.io/v1\nkind: Policy\n${top}rules:\n${rules}`;

function collect(text: string, isTaken = true): { events: Event[]; audit: OpenAudit } {
  const events: Event[] = [];
  const backend: AuditBackend = {
    name: 'test',
    isStrict: true,
    take: (event) => {
      events.push(event);
      return isTaken;
    },
    async [Symbol.asyncDispose]() {},
  };
  return { events, audit: { policy: parseAuditPolicy(text, 'policy.yaml'), backends: [backend] } };
}

class Directory implements Disposable {
  readonly path = mkdtempSync(join(tmpdir(), 'tiphys-audit-'));

  write(name: string, text: string): string {
    writeFileSync(join(this.path, name), text);
    return join(this.path, name);
  }
  [Symbol.dispose](): void {
    rmSync(this.path, { recursive: true });
  }
}

describe('a policy', () => {
  it('decides by its first rule that matches', async () => {
    const { events, audit } = collect(
      policy(
        [
          '- {level: None, users: [jane]}',
          '- {level: RequestResponse, resources: [{group: "", resources: [configmaps]}], namespaces: [default]}',
          '- {level: Request, verbs: [create], resources: [{group: "", resources: ["pods/*", pods]}]}',
          '- {level: Metadata, nonResourceURLs: ["/version*"]}',
          '- {level: None, nonResourceURLs: ["*"]}',
          '- {level: Metadata, resources: [{group: "", resources: [secrets], resourceNames: [a]}], omitStages: []}',
        ].join('\n'),
        'omitStages: [RequestReceived]\n',
      ),
    );
    await using api = await createTestApi({ audit });
    events.length = 0;
    const jane = { name: 'jane', groups: ['system:authenticated'] };
    await api.call('GET', '/version', undefined, { user: jane });
    await api.call('GET', '/version');
    await api.call('GET', '/healthz');
    await api.call('GET', '/api/v1/namespaces/default/secrets/a');
    await api.call('GET', '/api/v1/namespaces/default/secrets/b');
    await api.call('POST', pods, podBody('p'));
    await api.call('GET', `${pods}/p`);
    await api.call('POST', '/api/v1/namespaces/default/configmaps', { metadata: { name: 'c' }, data: { a: 'b' } });
    assert.deepEqual(
      events.map(({ verb, level, stage, objectRef, requestURI }) =>
        [stage, verb, objectRef === undefined ? requestURI : `${objectRef.resource}/${objectRef.name}`, level].join(
          ' ',
        ),
      ),
      [
        'ResponseComplete get /version Metadata',
        'ResponseComplete get secrets/a Metadata',
        'ResponseComplete create pods/p Request',
        'ResponseComplete create configmaps/c RequestResponse',
      ],
    );
    const [, secret, pod, map] = events;
    assert.deepEqual(secret?.responseStatus?.['code'], 404);
    assert.equal(secret?.responseStatus?.['reason'], 'NotFound');
    assert.ok(pod?.requestObject !== undefined && pod.responseObject === undefined);
    assert.ok(JSON.stringify(map?.responseObject).includes('managedFields'));
  });

  it('is refused with all that is wrong with it', () => {
    const problems = (text: string): string => {
      try {
        parseAuditPolicy(text, 'p.yaml');
        return '';
      } catch (error) {
        return String(error);
      }
    };
    assert.match(
      problems(policy('- {level: All}\n- {users: [a]}\n- {level: None, nonResourceURLs: ["x*y"], namespaces: [a]}\n')),
      /rules\[0\]\.level: Unsupported value: "All".*rules\[1\]\.level: Required value.*must begin with a '\/'.*must be the final character.*cannot apply to both/s,
    );
    assert.match(problems(policy('- {level: None, resourcs: []}')), /unknown field "resourcs"/);
    assert.match(problems('apiVersion: audit.k8s.io/v1\nkind: Policy\n'), /0 rules/);
    assert.match(problems('apiVersion: v1\nkind: Policy\n'), /no kind "Policy" is registered/);
    assert.match(problems('a: [\n'), /p\.yaml: /);
    assert.match(problems(policy('- {level: None}', 'omitStages: [Later]\n')), /omitStages\[0\].*allowed stages are/);
  });
});

describe('an event', () => {
  it('says who asked, as whom, and why it was allowed', async () => {
    const { events, audit } = collect(policy('- {level: Metadata, resources: [{group: ""}]}'));
    await using api = await createTestApi({ audit });
    events.length = 0;
    const headers = {
      'impersonate-user': 'jane',
      'audit-id': 'mine',
      'user-agent': 'test',
      'x-forwarded-for': '192.0.2.1, 192.0.2.2',
    };
    const answer = await api.call('GET', pods, undefined, { headers });
    assert.equal(answer.headers['audit-id'], 'mine');
    assert.deepEqual(
      events.map(({ stage }) => stage),
      ['RequestReceived', 'ResponseComplete'],
    );
    const [received, complete] = events;
    assert.equal(received?.impersonatedUser, undefined);
    assert.deepEqual(complete?.impersonatedUser?.username, 'jane');
    assert.deepEqual(complete.user.username, 'admin');
    assert.deepEqual(complete.sourceIPs, ['192.0.2.1', '192.0.2.2']);
    assert.equal(complete.annotations?.['authorization.k8s.io/decision'], 'forbid');
    assert.match(complete.requestReceivedTimestamp, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/);
    events.length = 0;
    const account = {
      name: 'system:serviceaccount:kube-system:generic-garbage-collector',
      groups: ['system:serviceaccounts', 'system:authenticated'],
    };
    await api.make('/apis/rbac.authorization.k8s.io/v1/clusterrolebindings', {
      metadata: { name: 'tested' },
      roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: 'view' },
      subjects: [{ kind: 'Group', name: 'system:serviceaccounts', apiGroup: 'rbac.authorization.k8s.io' }],
    });
    await api.call('GET', '/api/v1/namespaces/default/pods/x', undefined, { user: account });
    assert.equal(events.at(-1)?.annotations?.['authorization.k8s.io/decision'], 'allow');
  });

  it('is made of who could not be known, and leaves managed fields out where the policy says so', async () => {
    const { events, audit } = collect(policy('- {level: RequestResponse, omitManagedFields: true}'));
    await using api = await createTestApi({ audit });
    events.length = 0;
    await api.call('GET', pods, undefined, { headers: { authorization: 'Bearer x' }, user: null });
    assert.deepEqual(
      events.map(({ stage, responseStatus, user }) => [stage, responseStatus?.['message'], user]),
      [['ResponseStarted', 'Authentication failed, attempted: bearer', {}]],
    );
    events.length = 0;
    await api.make('/api/v1/namespaces/default/configmaps', { metadata: { name: 'c' } });
    await api.call('GET', '/api/v1/namespaces/default/configmaps');
    assert.equal(events.length, 4);
    assert.ok(!JSON.stringify(events).includes('managedFields'));
  });

  it('of a watch comes when it begins and when it ends', async () => {
    const { events, audit } = collect(policy('- {level: Metadata, verbs: [watch]}'));
    await using api = await createTestApi({ audit });
    const gone = new AbortController();
    await api.raw('GET', `${pods}?watch=1`, { signal: gone.signal });
    assert.deepEqual(
      events.map(({ stage }) => stage),
      ['RequestReceived', 'ResponseStarted'],
    );
    gone.abort();
    assert.equal(events.at(-1)?.stage, 'ResponseComplete');
  });

  it('that a backend insists on and cannot take refuses the request', async () => {
    const { audit } = collect(policy('- {level: Metadata, verbs: [list], resources: [{group: ""}]}'), false);
    await using api = await createTestApi({ audit });
    const answer = await api.call('GET', pods);
    assert.deepEqual(
      [answer.status, answer.body.message],
      [500, 'Internal error occurred: failed to store audit event'],
    );
  });
});

describe('the log', () => {
  it('is renamed when it is full, and as many are kept as are wanted', () => {
    using directory = new Directory();
    const clock = createFakeClock();
    const path = join(directory.path, 'logs', 'audit.log');
    const file = new RotatingFile({ path, bytesMax: 20, backupsMax: 2, ageMsMax: 0, now: () => clock.now() });
    for (let i = 0; i < 10; i++) file.write(`line number ${i}\n`);
    file.close();
    const names = readdirSync(join(directory.path, 'logs')).sort();
    assert.equal(names.length, 3);
    assert.match(names[0] ?? '', /^audit-2030-01-01T00-00-00\.\d{3}\.log$/);
    assert.equal(readFileSync(path, 'utf8'), 'line number 9\n');
  });

  it('forgets what is too old', () => {
    using directory = new Directory();
    const clock = createFakeClock();
    const path = join(directory.path, 'audit.log');
    const file = new RotatingFile({ path, bytesMax: 5, backupsMax: 0, ageMsMax: 1_000, now: () => clock.now() });
    for (let i = 0; i < 4; i++) {
      file.write('12345\n');
      clock.advance(900);
    }
    file.close();
    assert.equal(readdirSync(directory.path).length, 3);
  });

  it('begins a line of its own after one that was cut off', () => {
    using directory = new Directory();
    const path = directory.write('audit.log', '{"whole":1}\n');
    appendFileSync(path, '{"cut');
    const file = new RotatingFile({ path, bytesMax: 1_000, backupsMax: 0, ageMsMax: 0, now: () => 0 });
    file.write('{"next":1}\n');
    file.close();
    assert.equal(readFileSync(path, 'utf8'), '{"whole":1}\n{"cut\n{"next":1}\n');
  });

  it('that cannot be written loses events, says so once and counts them; requests go on', async () => {
    using directory = new Directory();
    const metrics = new Metrics();
    const told: string[] = [];
    const log = { ...silentLogger, error: (text: string) => told.push(text) };
    const file = directory.write('policy.yaml', policy('- {level: Metadata}'));
    const flags = new ServerFlags([`audit-policy-file=${file}`, 'audit-log-path=/dev/full']);
    const audit = openAudit({ flags, clock: realClock, log, metrics, standardOutput: () => undefined });
    await using api = await createTestApi({ audit, metrics });
    assert.equal((await api.call('GET', '/version')).status, 200);
    assert.equal((await api.call('GET', '/version')).status, 200);
    assert.deepEqual(told, ['audit events were lost']);
    assert.match(
      (await api.call('GET', '/metrics')).text,
      /apiserver_audit_error_total\{[^}]*plugin="log"[^}]*\} [1-9]/,
    );
  });
});

describe('a batch', () => {
  const event = (auditID: string): Event => ({
    kind: 'Event',
    apiVersion: 'audit.k8s.io/v1',
    level: 'Metadata',
    auditID,
    stage: 'ResponseComplete',
    requestURI: '/',
    verb: 'get',
    user: {},
    requestReceivedTimestamp: '',
    stageTimestamp: '',
  });
  const errors = new Metrics().counter({ name: 'errors', help: '', labels: ['plugin'] });

  it('is sent when it is full, when it has waited, and at the end; what does not fit is lost', async () => {
    const clock = createFakeClock();
    const sent: string[][] = [];
    const backend = new BatchBackend({
      name: 'test',
      batch: { bufferSize: 3, sizeMax: 2, waitMs: 1_000, throttle: undefined },
      send: async (events) => void sent.push(events.map(({ auditID }) => auditID)),
      clock,
      log: silentLogger,
      errors,
    });
    const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
    assert.deepEqual(
      ['a', 'b', 'c', 'd', 'e'].map((id) => backend.take(event(id))),
      [true, true, true, true, true],
    );
    await settled();
    clock.advance(1_000);
    await settled();
    assert.deepEqual(sent, [['a', 'b'], ['c', 'd'], ['e']]);
    backend.take(event('f'));
    await backend[Symbol.asyncDispose]();
    assert.deepEqual(sent.at(-1), ['f']);
  });

  it('waits in a bounded buffer for a receiver that is slow', async () => {
    let go = (): void => undefined;
    const backend = new BatchBackend({
      name: 'slow',
      batch: { bufferSize: 3, sizeMax: 1, waitMs: 1_000, throttle: undefined },
      send: () => new Promise((resolve) => (go = resolve)),
      clock: createFakeClock(),
      log: silentLogger,
      errors,
    });
    const taken = ['a', 'b', 'c', 'd', 'e'].map((id) => backend.take(event(id)));
    assert.deepEqual(taken, [true, true, true, true, false]);
    assert.equal(errors.of('slow').value, 1);
    go();
  });

  it('reaches a webhook as a list, again where that fails', async () => {
    using directory = new Directory();
    const lists: { kind: string; items: Event[] }[] = [];
    let refusals = 1;
    const server = createServer((request, response) => {
      let body = '';
      request.setEncoding('utf8').on('data', (part: string) => (body += part));
      request.on('end', () => {
        if (refusals-- > 0) response.writeHead(503).end();
        else {
          lists.push(JSON.parse(body));
          response.end();
        }
      });
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    try {
      const address = server.address();
      const port = address !== null && typeof address === 'object' ? address.port : 0;
      const config = directory.write(
        'webhook.yaml',
        JSON.stringify({
          'current-context': 'c',
          contexts: [{ name: 'c', context: { cluster: 'c', user: '' } }],
          clusters: [{ name: 'c', cluster: { server: `http://127.0.0.1:${port}/audit` } }],
        }),
      );
      const file = directory.write('policy.yaml', policy('- {level: Metadata, nonResourceURLs: ["/version"]}'));
      const flags = new ServerFlags([
        `--audit-policy-file=${file}`,
        `audit-webhook-config-file=${config}`,
        'audit-webhook-initial-backoff=1ms',
        'audit-webhook-batch-max-size=2',
      ]);
      const metrics = new Metrics();
      const audit = openAudit({ flags, clock: realClock, log: silentLogger, metrics, standardOutput: () => undefined });
      {
        await using api = await createTestApi({ audit, metrics });
        await api.call('GET', '/version');
      }
      assert.deepEqual([lists.length, lists[0]?.kind, lists[0]?.items.length], [1, 'EventList', 2]);
    } finally {
      server.close();
    }
  });
});

it('flags that are none, or have no such value, are refused by name', () => {
  assert.throws(() => new ServerFlags(['audit-log-maxsiz=1']), /unknown flag: --audit-log-maxsiz/);
  assert.throws(
    () => new ServerFlags(['audit-log-maxsize=big']),
    /invalid argument "big" for "--audit-log-maxsize" flag/,
  );
  assert.throws(() => new ServerFlags(['audit-log-path']), /flag needs an argument/);
});
