/**
 * Nothing that a client of the Engine API says is passed over in silence. Each field of the bodies in
 * engine-fields.json is sent alone, beside what it needs: it must change what is made, be refused, be warned of, or be
 * read by those who look at the request later. What does none of that is named below, with its reason.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { messageOf } from '#base/thrown.ts';
import type { Container } from '#engine/container.ts';
import { parseHealthCheck } from '#engine/health.ts';
import { mergeConfig } from '#docker/commit.ts';
import type { DockerParts } from '#docker/context.ts';
import { adaptNetworking } from '#docker/create-network.ts';
import { specFromRequest } from '#docker/create-request.ts';
import { execFromRequest } from '#docker/exec.ts';
import { anyHost } from '#docker/host-facts.ts';
import { exposedPorts } from '#docker/inspect.ts';
import { logAttributes } from '#docker/log-attributes.ts';
import { checkShape, createShape, execShape, updateShape, volumeShape } from '#docker/shapes.ts';
import type { BodyShape, Shape } from '#docker/shapes.ts';
import { updateContainer } from '#docker/update.ts';
import { resolveReferences } from '#docker/containers.ts';
import { volumeRoutes } from '#docker/volumes.ts';

type Body = Record<string, unknown>;
type Fields = Record<string, unknown>;
const facts = JSON.parse(readFileSync(new URL('./engine-fields.json', import.meta.url), 'utf8')) as {
  create: Fields;
  update: Fields;
  exec: Fields;
  volume: Fields;
};

/** Shrinks: a field that begins to act must leave. */
const exceptions: Readonly<Record<string, string>> = {
  'create AttachStdin': 'says what the client will do; attach says it again, and inspect shows it',
  'create AttachStdout': 'as AttachStdin',
  'create AttachStderr': 'as AttachStdin',
  'create ArgsEscaped': 'of images for Windows',
  'create HostConfig.ContainerIDFile': 'the client writes the file; inspect shows its name',
  'create HostConfig.Mounts.0.Consistency': 'of file sharing with macOS; on Linux every mount is consistent',
};

function set(body: Body, path: string, value: unknown): Body {
  const parts = path.split('.');
  let at: Body | unknown[] = body;
  parts.forEach((part, index) => {
    const holder = at as Body;
    if (index === parts.length - 1) holder[part] = value;
    else at = (holder[part] ??= {}) as Body;
  });
  return body;
}

/** What one field needs beside it to mean anything. */
function createBody(path: string): Body {
  const body: Body = {
    Image: 'i',
    HostConfig: {
      Memory: path === 'HostConfig.Memory' ? 0 : 134_217_728,
      NetworkMode: path === 'HostConfig.NetworkMode' || path.startsWith('NetworkingConfig') ? 'net' : 'default',
      RestartPolicy: {},
    },
    NetworkingConfig: { EndpointsConfig: {} },
  };
  const host = body['HostConfig'] as Body;
  if (path.startsWith('HostConfig.Mounts'))
    host['Mounts'] = [
      { Type: 'bind', Source: '/tmp', Target: '/m0', ReadOnly: /ReadOnly.*Recursive/.test(path) },
      { Type: 'volume', Source: 'v', Target: '/m1' },
      { Type: 'tmpfs', Target: '/m2' },
    ];
  if (path === 'HostConfig.RestartPolicy.MaximumRetryCount') host['RestartPolicy'] = { Name: 'on-failure' };
  if (path === 'HostConfig.VolumeDriver') host['Binds'] = ['named:/n'];
  if (path === 'HostConfig.PublishAllPorts') body['ExposedPorts'] = { '81/tcp': {} };
  if (path.startsWith('Healthcheck.') && path !== 'Healthcheck.Test') body['Healthcheck'] = { Test: ['CMD', 'true'] };
  return body;
}

const donor = {
  id: 'd'.repeat(64),
  name: 'donor',
  record: { spec: { mounts: [{ type: 'bind', source: '/tmp', target: '/from-donor', readOnly: false }] } },
};
const cgroups = { controllers: ['cpu', 'memory', 'pids', 'cpuset', 'blkio'], mode: 'v1', offers: () => true };
const parts = {
  engine: {
    table: {
      get: () => donor,
      find: () => donor,
      context: { images: { find: () => undefined }, nodeName: 'host' },
    },
    images: { find: () => undefined },
    context: { os: { cgroups } },
    events: { emit: () => undefined },
  },
  clock: { now: () => 0 },
} as unknown as DockerParts;

/** The request itself is kept to be shown; whoever acts by it later is asked here. */
function planCreate(body: Body): unknown {
  const warnings = adaptNetworking(body, [1, 51]);
  const spec = specFromRequest(body, 'name', 'sha256:i', {
    ...anyHost,
    processors: 64,
    warn: (text) => warnings.push(text),
  });
  resolveReferences(parts, spec);
  const container = {
    name: 'name',
    record: { id: 'c', path: '', args: [], createdAtMs: 0, spec },
  } as unknown as Container;
  const later = [
    parseHealthCheck(body['Healthcheck'] as never),
    exposedPorts(parts, container),
    logAttributes(parts, container),
    mergeConfig({}, { Shell: body['Shell'], OnBuild: body['OnBuild'] } as never),
  ];
  return { spec: { ...spec, request: undefined }, warnings, later };
}

function planUpdate(body: Body, minor: number): unknown {
  const record = { id: 'c', spec: { resources: {}, restartPolicy: { name: 'no' }, request: {} } };
  const container = { record, name: 'c', isRunning: false, save: () => undefined } as unknown as Container;
  const answer = updateContainer(parts, container, body, [1, minor]);
  return { answer, resources: record.spec.resources, restartPolicy: record.spec.restartPolicy };
}

async function planVolume(body: Body): Promise<unknown> {
  let wanted: unknown;
  const create = (given: unknown): unknown => {
    wanted = given;
    return { name: 'n', labels: {}, options: {}, createdAtMs: 0 };
  };
  const route = volumeRoutes({
    engine: { volumes: { createPinned: async (given: unknown) => create(given), mountpoint: () => '' } },
  } as unknown as DockerParts).find((one) => one.path === '/volumes/create')!;
  await route.handle({ json: async () => body } as never);
  return wanted;
}

async function outcome(plan: (body: Body) => unknown, shape: BodyShape<unknown>, body: Body): Promise<string> {
  checkShape(body, shape, 'Body');
  try {
    return JSON.stringify(await plan(body), (_key, value: unknown) => (value === undefined ? null : value));
  } catch (error) {
    return `refused: ${messageOf(error)}`;
  }
}

/** Field by field; the names of those that change nothing. */
async function silent(
  kind: string,
  fields: Fields,
  shape: BodyShape<unknown>,
  plan: (body: Body) => unknown,
  base: (path: string) => Body,
): Promise<string[]> {
  const out: string[] = [];
  for (const [path, value] of Object.entries(fields)) {
    const without = await outcome(plan, shape, base(path));
    assert.ok(!without.startsWith('refused'), `${kind} ${path}: ${without}`);
    const withField = await outcome(plan, shape, set(base(path), path, value));
    if (without === withField) out.push(`${kind} ${path}`);
  }
  return out;
}

/** Those of single block devices, which act since version 1.55. */
const ofDevices = Object.fromEntries(Object.entries(facts.update).filter(([name]) => /^Blkio.*Device/.test(name)));

function updateBody(path: string): Body {
  if (path === 'RestartPolicy.MaximumRetryCount') return { RestartPolicy: { Name: 'on-failure' } };
  return path === 'MemorySwap' ? { Memory: 134_217_728 } : {};
}

test('every field of a request acts, is refused, or is warned of', async () => {
  const found = [
    ...(await silent('create', facts.create, createShape, planCreate, createBody)),
    ...(await silent('update', facts.update, updateShape, (body) => planUpdate(body, 51), updateBody)),
    ...(await silent('update', ofDevices, updateShape, (body) => planUpdate(body, 55), updateBody)),
    ...(await silent('exec', facts.exec, execShape, execFromRequest, () => ({ Cmd: ['x'] }))),
    ...(await silent('volume', facts.volume, volumeShape, planVolume, () => ({}))),
  ];
  assert.deepEqual(found.sort(), Object.keys(exceptions).sort());
});

test('every field is one that the shape of its body knows, so that its type is checked', () => {
  const known = (shape: Shape, path: string[]): boolean => {
    const [first, ...rest] = path;
    if (first === undefined || shape === 'any' || typeof shape === 'string') return true;
    if ('list' in shape) return known(shape.list, /^\d+$/.test(first) ? rest : path);
    if ('map' in shape) return known(shape.map, rest);
    return Object.hasOwn(shape.fields, first) && known(shape.fields[first]!, rest);
  };
  const unknown = (
    [
      ['create', createShape],
      ['update', updateShape],
      ['exec', execShape],
      ['volume', volumeShape],
    ] as const
  ).flatMap(([kind, shape]) =>
    Object.keys(facts[kind])
      .filter((path) => !known(shape, path.split('.')))
      .map((path) => `${kind} ${path}`),
  );
  assert.deepEqual(unknown, []);
});
