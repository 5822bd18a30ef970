/**
 * What a hostile request costs: each is sent to the API server with the token of an ordinary ServiceAccount, or of an
 * administrator where an ordinary one is refused before it matters. Meanwhile somebody else asks for `/livez` without
 * pause: the longest of those answers, less the median on the idle server, is how long the request kept the server from
 * everybody. Memory is the growth of the server's peak. For an idle machine; the bounds themselves are tests
 * (`test/hostile`).
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { Agent, request } from 'node:https';
import { join } from 'node:path';
import { median, sleep } from './harness.ts';
import type { Bench, Result, Run, Sample } from './harness.ts';
import { KubeClient, loadToken, targetOf } from './kube-client.ts';
import { Tiphys, tiphysVersion } from './tiphys.ts';

const defaultRounds = 3;
const blockMsMax = 50;
const growthMbMax = 64;
const megabytes = 3 * 1024 * 1024 - 4096;

export const hostile: Bench = {
  name: 'hostile',
  about: 'how long and how much memory single hostile requests take',
  run,
};

interface Sent {
  name: string;
  method: string;
  path: string;
  type: string;
  body: Buffer;
  admin?: boolean;
}

const filled = (start: string, unit: string, end: string): Buffer =>
  Buffer.from(start + unit.repeat(Math.floor((megabytes - start.length - end.length) / unit.length)) + end);

function laughs(): string {
  let text = 'a0: &a0 [x,x,x,x,x,x,x,x,x]\n';
  for (let level = 1; level < 12; level++)
    text += `a${level}: &a${level} [${Array.from({ length: 9 }, () => `*a${level - 1}`).join(',')}]\n`;
  return text;
}

function requests(): Sent[] {
  const review = '/apis/authentication.k8s.io/v1/selfsubjectreviews';
  const access = '/apis/authorization.k8s.io/v1/selfsubjectaccessreviews';
  const maps = '/api/v1/namespaces/default/configmaps';
  const json = (name: string, body: Buffer, path = review, admin = false): Sent => ({
    name,
    method: 'POST',
    path,
    type: 'application/json',
    body,
    admin,
  });
  const patch = (name: string, type: string, body: unknown): Sent => ({
    name,
    method: 'PATCH',
    path: `${maps}/target`,
    type: `application/${type}+json`,
    body: Buffer.from(JSON.stringify(body)),
    admin: true,
  });
  const yaml = (name: string, body: Buffer): Sent => ({
    name,
    method: 'POST',
    path: review,
    type: 'application/yaml',
    body,
  });
  return [
    yaml('YAML: twelve levels of aliases', Buffer.from(laughs())),
    yaml(
      'YAML: a long text by alias',
      Buffer.from(`a: &a ${'x'.repeat(1_000_000)}\nb: [${Array.from({ length: 1000 }, () => '*a').join(',')}]`),
    ),
    yaml('YAML: 3 MB of a list', filled('a:\n', '- x\n', '')),
    yaml('YAML: 100,000 brackets', Buffer.from('['.repeat(100_000))),
    json('JSON: 3 MB of empty lists', filled('{"a":[', '[],', '[]]}')),
    json('JSON: 3 MB of numbers', filled('{"a":[', '1,', '1]}')),
    json('JSON: 3 MB of one doubled key', filled('{', '"a":1,', '"a":1}')),
    json('JSON: 3 MB of digits', filled('{"a":', '1', '}')),
    json('JSON: 3 MB of brackets', filled('', '[', '')),
    json('JSON: 3 MB of backslashes', filled('{"a":"', '\\\\', '"}')),
    json(
      'JSON: unknown fields below a long name',
      Buffer.from(
        `{"${'k'.repeat(1_000_000)}":{${Array.from({ length: 100_000 }, (_unused, i) => `"f${i}":1`).join(',')}}}`,
      ),
    ),
    json(
      'access review of a long name',
      filled('{"spec":{"resourceAttributes":{"verb":"get","resource":"', 'x', '"}}}'),
      access,
    ),
    json(
      'wrong labels',
      Buffer.from(
        JSON.stringify({
          metadata: {
            name: 'x',
            labels: Object.fromEntries(Array.from({ length: 100_000 }, (_unused, i) => [`_${i}`, '!'])),
          },
        }),
      ),
      maps,
      true,
    ),
    json(
      'owner references',
      Buffer.from(
        JSON.stringify({
          metadata: {
            name: 'x',
            ownerReferences: Array.from({ length: 40_000 }, (_unused, i) => ({
              apiVersion: 'v1',
              kind: 'Pod',
              name: 'a',
              uid: `u${i}`,
              controller: true,
            })),
          },
        }),
      ),
      maps,
      true,
    ),
    patch(
      'JSON Patch: copies of copies',
      'json-patch',
      Array.from({ length: 40 }, (_unused, i) => ({ op: 'copy', from: '', path: `/c${i}` })),
    ),
    patch('JSON Patch: 10,000 insertions at the front', 'json-patch', [
      { op: 'add', path: '/l', value: Array.from({ length: 100_000 }, () => 1) },
      ...Array.from({ length: 9_999 }, () => ({ op: 'add', path: '/l/0', value: 1 })),
    ]),
    patch('strategic merge: a large map', 'strategic-merge-patch', {
      data: Object.fromEntries(Array.from({ length: 100_000 }, (_unused, i) => [`k${i}`, 'v'])),
    }),
    {
      name: 'pattern: (a+)+ and 1 MB',
      method: 'POST',
      path: '/apis/bench.example.com/v1/matches',
      type: 'application/json',
      body: Buffer.from(
        JSON.stringify({
          apiVersion: 'bench.example.com/v1',
          kind: 'Match',
          metadata: { name: 'x' },
          text: `${'a'.repeat(1_000_000)}!`,
        }),
      ),
      admin: true,
    },
    {
      name: 'protobuf: 3 MB of empty messages',
      method: 'POST',
      path: '/api/v1/namespaces/default/pods',
      type: 'application/vnd.kubernetes.protobuf',
      admin: true,
      body: protobufPod(),
    },
    {
      name: 'a selector of 12,000 values',
      method: 'GET',
      path: `${maps}?labelSelector=${encodeURIComponent(`a in (${Array.from({ length: 3000 }, (_unused, i) => i).join(',')})`)}`,
      type: 'application/json',
      body: Buffer.alloc(0),
      admin: true,
    },
  ];
}

/** A Pod whose list of containers is as many empty messages as fit. */
function protobufPod(): Buffer {
  const field = (number: number, content: Buffer): Buffer => {
    const head = [number * 8 + 2];
    for (let left = content.length; ; left = Math.floor(left / 128)) {
      head.push(left > 127 ? (left % 128) | 128 : left);
      if (left <= 127) break;
    }
    return Buffer.concat([Buffer.from(head), content]);
  };
  const spec = Buffer.from('1200'.repeat(Math.floor((megabytes - 200) / 2)), 'hex');
  const type = Buffer.concat([field(1, Buffer.from('v1')), field(2, Buffer.from('Pod'))]);
  return Buffer.concat([Buffer.from([0x6b, 0x38, 0x73, 0x00]), field(1, type), field(2, field(2, spec))]);
}

interface Side {
  server: string;
  agent: Agent;
  headers: Record<string, string>;
}

function ask(side: Side, sent: Pick<Sent, 'method' | 'path' | 'type' | 'body'>): Promise<number> {
  return new Promise((resolve) => {
    const out = request(
      `${side.server}${sent.path}`,
      {
        method: sent.method,
        agent: side.agent,
        headers: {
          ...side.headers,
          ...(sent.body.length === 0 ? {} : { 'content-type': sent.type, 'content-length': String(sent.body.length) }),
        },
      },
      (answer) => {
        answer.resume();
        answer.on('end', () => resolve(answer.statusCode ?? 0)).on('error', () => resolve(-1));
      },
    );
    out.on('error', () => resolve(-1));
    out.end(sent.body);
  });
}

async function run(current: Run): Promise<Result> {
  const tiphys = new Tiphys(join(current.scratch, 'tiphys'));
  current.defer(() => tiphys.purge());
  await tiphys.up();
  const target = await targetOf('Tiphys', tiphys.kubeconfig);
  const client = new KubeClient(target);
  const agent = new Agent({ keepAlive: true, rejectUnauthorized: false });
  current.defer(() => {
    client.close();
    agent.destroy();
  });
  const admin: Side = {
    server: target.server,
    agent,
    headers: { authorization: `Bearer ${await loadToken(client)}`, accept: 'application/json' },
  };
  const podToken = (await client.ask('POST', '/api/v1/namespaces/default/serviceaccounts/default/token', { spec: {} }))[
    'status'
  ].token as string;
  const pod: Side = { ...admin, headers: { authorization: `Bearer ${podToken}`, accept: 'application/json' } };
  await client.ask('POST', '/api/v1/namespaces/default/configmaps', {
    metadata: { name: 'target' },
    data: { a: 'x'.repeat(1000) },
  });
  await client.ask('POST', '/apis/apiextensions.k8s.io/v1/customresourcedefinitions', {
    apiVersion: 'apiextensions.k8s.io/v1',
    kind: 'CustomResourceDefinition',
    metadata: { name: 'matches.bench.example.com' },
    spec: {
      group: 'bench.example.com',
      scope: 'Cluster',
      names: { plural: 'matches', kind: 'Match' },
      versions: [
        {
          name: 'v1',
          served: true,
          storage: true,
          schema: { openAPIV3Schema: { type: 'object', properties: { text: { type: 'string', pattern: '^(a+)+$' } } } },
        },
      ],
    },
  });
  for (let i = 0; i < 2000; i += 16)
    await Promise.all(
      Array.from({ length: 16 }, (_unused, k) =>
        client.ask('POST', '/api/v1/namespaces/default/configmaps', {
          metadata: { name: `c${i + k}`, labels: { a: String(i + k) } },
        }),
      ),
    );
  const pid = tiphys.pid('server');
  const ping = (): Promise<number> =>
    ask(
      { server: target.server, agent: pinger, headers: {} },
      { method: 'GET', path: '/livez', type: '', body: Buffer.alloc(0) },
    );
  const pinger = new Agent({ keepAlive: true, rejectUnauthorized: false, maxSockets: 1 });
  current.defer(() => pinger.destroy());
  const samples: Sample[] = [];
  let [worstMs, worstMb] = [0, 0];
  for (const sent of requests()) {
    const measured: Sample[] = [
      { name: `${sent.name}: kept others waiting`, unit: 'ms', values: [] },
      { name: `${sent.name}: memory`, unit: 'MB', values: [] },
    ];
    let code = 0;
    for (let round = 0; round < (current.rounds ?? defaultRounds); round++) {
      const idle: number[] = [];
      for (let i = 0; i < 50; i++) {
        const begun = performance.now();
        await ping();
        idle.push(performance.now() - begun);
      }
      writeFileSync(`/proc/${pid}/clear_refs`, '5');
      const before = memoryOf(pid, 'VmRSS');
      let done = false;
      const answered = ask(sent.admin === true ? admin : pod, sent).then((status) => {
        code = status;
        done = true;
      });
      let longest = 0;
      while (!done) {
        const begun = performance.now();
        await ping();
        longest = Math.max(longest, performance.now() - begun);
      }
      await answered;
      measured[0]!.values.push(Math.max(0, longest - median(idle)));
      measured[1]!.values.push(Math.max(0, memoryOf(pid, 'VmHWM') - before));
      await sleep(200);
    }
    for (const sample of measured) sample.note = `answer ${code}`;
    worstMs = Math.max(worstMs, Math.min(...measured[0]!.values));
    worstMb = Math.max(worstMb, Math.min(...measured[1]!.values));
    samples.push(...measured);
  }
  return {
    bench: hostile.name,
    about: hostile.about,
    samples,
    skipped: [],
    versions: { Tiphys: tiphysVersion(), Node: process.version },
    goals: [
      { text: 'the longest wait of others (least of the rounds), ms', atMost: blockMsMax, value: worstMs },
      { text: 'the most memory (least of the rounds), MB', atMost: growthMbMax, value: worstMb },
    ],
  };
}

function memoryOf(pid: number, name: string): number {
  return (
    Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0) / 1024
  );
}
