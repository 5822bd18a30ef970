/**
 * What every cluster holds from its first moment: system namespaces, roles, priority classes, the `kubernetes` Service.
 * Made through the write path, once.
 */
import { ownBytes } from '#base/bytes.ts';
import type { Json, KubeObject } from '#base/objects.ts';
import { ApiError } from '#base/errors.ts';
import { copyJson } from '#base/json.ts';
import { apiVersionOf } from '#base/objects.ts';
import { timestamp } from '#base/timestamp.ts';
import { addressAt, formatSubnet } from '#base/ip.ts';
import { serviceRange } from './allocation.ts';
import { bootstrapRoles } from './bootstrap-roles.ts';
import type { Server } from './context.ts';
import { internalContext } from './internal.ts';
import { ownObjectsRetryMs } from './limits.ts';
import { storageKey } from './stored-objects.ts';
import { createObject, updateObject } from './write-path.ts';

async function ensure(
  server: Server,
  group: string,
  version: string,
  resource: string,
  body: Omit<KubeObject, 'apiVersion' | 'kind'> & Json,
): Promise<void> {
  const kind = server.kinds.find(group, version, resource)!;
  const namespace = body.metadata.namespace ?? '';
  if ((await server.store.get(storageKey(kind, namespace, body.metadata.name))) !== undefined) return;
  try {
    await createObject(internalContext(server, kind, namespace), () =>
      copyJson({ apiVersion: apiVersionOf(kind), kind: kind.kind, ...body } as KubeObject),
    );
  } catch (error) {
    if (!(error instanceof ApiError) || error.reason !== 'AlreadyExists') throw error; // another API server was first
  }
}

const namespaces = ['kube-system', 'kube-public', 'kube-node-lease', 'default'];
const priorities = [
  [
    'system-cluster-critical',
    2_000_000_000,
    'Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.',
  ],
  [
    'system-node-critical',
    2_000_001_000,
    'Used for system critical pods that must not be moved from their current node.',
  ],
] as const;
const marker = '/registry/tiphys/bootstrapped';
const bootstrapFormat = 3;

export async function bootstrap(server: Server): Promise<void> {
  const stored = await server.store.get(marker);
  const known =
    stored === undefined ? 0 : (JSON.parse(Buffer.from(stored.value).toString()) as { format: number }).format;
  if (known < bootstrapFormat) {
    await Promise.all(namespaces.map((name) => ensure(server, '', 'v1', 'namespaces', { metadata: { name } })));
    // the rest at once, so that a store with a disk syncs a few times and not a hundred
    await Promise.all([
      ...priorities.map(([name, value, description]) =>
        ensure(server, 'scheduling.k8s.io', 'v1', 'priorityclasses', { metadata: { name }, value, description }),
      ),
      ...bootstrapRoles().map(({ resource, object }) =>
        ensure(server, 'rbac.authorization.k8s.io', 'v1', resource, object),
      ),
      ensure(server, 'networking.k8s.io', 'v1', 'servicecidrs', {
        metadata: { name: 'kubernetes' },
        spec: { cidrs: [formatSubnet(serviceRange(server))] },
        status: {
          conditions: [
            {
              type: 'Ready',
              status: 'True',
              reason: '',
              message: '',
              lastTransitionTime: timestamp(server.clock.now()),
            },
          ],
        },
      }),
      ...localServices(server).map((object) => ensure(server, 'apiregistration.k8s.io', 'v1', 'apiservices', object)),
    ]);
    await server.store.txn(
      [],
      [{ type: 'put', key: marker, value: ownBytes(JSON.stringify({ format: bootstrapFormat })) }],
    );
  }
  await ensureKubernetesService(server);
}

/** What the server keeps there while it runs: one who deletes it (`kubectl delete all --all`) finds it again. */
const ownKeys = [
  ...namespaces.map((name) => `/registry/namespaces/${name}`),
  '/registry/services/default/kubernetes',
  '/registry/endpoints/default/kubernetes',
  '/registry/discovery.k8s.io/endpointslices/default/kubernetes',
];

/** Puts back what is deleted of the server's own objects. Answers how to stop. */
export function keepOwnObjects(server: Server): () => void {
  let [stopped, running, again] = [false, false, false];
  let timer = { cancel(): void {} };
  const putBack = async (): Promise<void> => {
    if (running) {
      again = true;
      return;
    }
    running = true;
    try {
      do {
        again = false;
        for (const name of namespaces) await ensure(server, '', 'v1', 'namespaces', { metadata: { name } });
        await ensureKubernetesService(server);
      } while (again && !stopped);
    } catch (error) {
      // Its address may be another's for a while, its Namespace may be going.
      if (!stopped) server.log.warn('own objects were not put back', { error });
      if (!stopped)
        timer = server.clock.setTimer(
          ownObjectsRetryMs,
          () => {
            void putBack();
          },
          { background: true },
        );
    } finally {
      running = false;
    }
  };
  const from = server.store.currentRevision();
  const watches = new Map(ownKeys.map((key) => [key, server.store.watch(key, from)]));
  const follow = async (key: string): Promise<void> => {
    while (!stopped) {
      try {
        for await (const events of watches.get(key)!)
          if (!stopped && events.some((event) => event.type === 'delete')) await putBack();
      } catch (error) {
        // What happened meanwhile is seen by looking.
        server.log.warn('own objects are watched anew', { error });
        watches.set(key, server.store.watch(key, server.store.currentRevision()));
        await putBack();
      }
    }
  };
  for (const key of ownKeys) void follow(key);
  return () => {
    stopped = true;
    timer.cancel();
    for (const watch of watches.values()) watch.close();
  };
}

/** The groups that this server serves itself, as the API lists them. */
function localServices(server: Server): Json[] {
  const condition = {
    type: 'Available',
    status: 'True',
    reason: 'Local',
    message: 'Local APIServices are always available',
    lastTransitionTime: timestamp(server.clock.now()),
  };
  return server.kinds.groups().flatMap(({ group, versions }) =>
    versions.map(({ version }, i) => ({
      metadata: { name: `${version}.${group}`, labels: { 'kube-aggregator.kubernetes.io/automanaged': 'onstart' } },
      spec: {
        ...(group === '' ? {} : { group }),
        version,
        groupPriorityMinimum: group === '' ? 18_000 : 17_000,
        versionPriority: 15 - i,
      },
      status: { conditions: [condition] },
    })),
  );
}

async function ensureKubernetesService(server: Server): Promise<void> {
  const advertise = server.options.advertise;
  const port = advertise?.port ?? 6443;
  const labels = { component: 'apiserver', provider: 'kubernetes' };
  await ensure(server, '', 'v1', 'services', {
    metadata: { name: 'kubernetes', namespace: 'default', labels },
    spec: {
      type: 'ClusterIP',
      clusterIP: addressAt(serviceRange(server), 1),
      ports: [{ name: 'https', port: 443, protocol: 'TCP', targetPort: port }],
    },
  });
  if (advertise === undefined) return;
  const endpoints = {
    metadata: {
      name: 'kubernetes',
      namespace: 'default',
      labels: { 'endpointslice.kubernetes.io/skip-mirror': 'true' },
    },
    subsets: [{ addresses: [{ ip: advertise.address }], ports: [{ name: 'https', port, protocol: 'TCP' }] }],
  };
  const slice = {
    metadata: { name: 'kubernetes', namespace: 'default', labels: { 'kubernetes.io/service-name': 'kubernetes' } },
    addressType: 'IPv4',
    endpoints: [{ addresses: [advertise.address], conditions: { ready: true } }],
    ports: [{ name: 'https', port, protocol: 'TCP' }],
  };
  await ensure(server, '', 'v1', 'endpoints', endpoints);
  await ensure(server, 'discovery.k8s.io', 'v1', 'endpointslices', slice);
  await refresh(server, '', 'endpoints', (object) => {
    object.subsets = endpoints.subsets;
  });
  await refresh(server, 'discovery.k8s.io', 'endpointslices', (object) => {
    object.endpoints = slice.endpoints;
    object.ports = slice.ports;
  });
}

/** The address may be another one after a restart. */
async function refresh(server: Server, group: string, resource: string, change: (object: Json) => void): Promise<void> {
  const context = internalContext(server, server.kinds.find(group, 'v1', resource)!, 'default');
  context.info.name = 'kubernetes';
  await updateObject(context, 'kubernetes', (current) => {
    change(current);
    delete current.metadata.resourceVersion;
    return current;
  });
}
