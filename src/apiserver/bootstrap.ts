/**
 * What every cluster holds from its first moment: system namespaces, roles, priority classes, the `kubernetes` Service.
 * Made through the write path.
 */
import type { APIService } from '#api/apiregistration.v1.ts';
import type { Template } from '#api/manifest.ts';
import type { ObjectMeta } from '#api/meta.v1.ts';
import type { ClusterRole, ClusterRoleBinding } from '#api/rbac.v1.ts';
import { isReason } from '#base/errors.ts';
import { kinds } from '#base/kinds.ts';
import type { KindRef, KubeObject } from '#base/objects.ts';
import { copyJson } from '#base/json.ts';
import { apiVersionOf } from '#base/objects.ts';
import { frontProxyClient } from '#base/node-identity.ts';
import { timestamp } from '#base/timestamp.ts';
import { addressAt, formatSubnet } from '#base/ip.ts';
import { sameJson } from '#schema/validate-values.ts';
import { serviceRange } from './allocation.ts';
import { missingPermissions } from './authz/permissions.ts';
import { autoUpdate, clusterRoleBindings, clusterRoles, roles } from './bootstrap-roles.ts';
import type { Server } from './context.ts';
import { trustedAuthorities } from './keys.ts';
import { deleteObject } from './delete.ts';
import { internalContext } from './internal.ts';
import { ownObjectsRetryMs } from './limits.ts';
import { lookUp } from './lookup.ts';
import { advertisedServers, serverLeasePrefix, type Advertised } from './server-leases.ts';
import { createObject, unversioned, updateObject } from './write-path.ts';

/** Creates an object where there is none of its name. */
async function ensure<T extends KubeObject>(
  server: Server,
  ref: KindRef<T>,
  body: Template<NoInfer<T>>,
): Promise<void> {
  const { metadata = {} }: { metadata?: ObjectMeta } = body;
  const { namespace = '', name = '' } = metadata;
  if ((await lookUp(server, ref, name, namespace)) !== undefined) return;
  const object: KubeObject = { apiVersion: apiVersionOf(ref), kind: ref.kind, ...body, metadata };
  try {
    await createObject(internalContext(server, server.kinds.builtIn(ref), { namespace }), () => copyJson(object));
  } catch (error) {
    if (!isReason(error, 'AlreadyExists')) throw error; // another API server was first
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

/** At each start: what was deleted meanwhile, or what a newer version adds, is there again. */
export async function bootstrap(server: Server): Promise<void> {
  await Promise.all(namespaces.map((name) => ensure(server, kinds.Namespace, { metadata: { name } })));
  // the rest at once, so that a store with a disk syncs a few times and not a hundred
  await Promise.all([
    ...priorities.map(([name, value, description]) =>
      ensure(server, kinds.PriorityClass, { metadata: { name }, value, description }),
    ),
    ...clusterRoles().map((role) => keepRole(server, kinds.ClusterRole, role)),
    ...clusterRoleBindings().map((binding) => keepBinding(server, binding)),
    ...roles().map((role) => keepRole(server, kinds.Role, role)),
    ensure(server, kinds.ServiceCIDR, {
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
    ...localServices(server).map((service) => ensure(server, kinds.APIService, service)),
  ]);
  await ensureKubernetesService(server);
  await ensureAuthentication(server);
}

/** What the server keeps there while it runs: one who deletes it (`kubectl delete all --all`) finds it again. */
const ownKeys = [
  ...namespaces.map((name) => `/registry/namespaces/${name}`),
  '/registry/services/default/kubernetes',
  '/registry/endpoints/default/kubernetes',
  '/registry/discovery.k8s.io/endpointslices/default/kubernetes',
  '/registry/configmaps/kube-system/extension-apiserver-authentication',
  serverLeasePrefix,
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
        for (const name of namespaces) await ensure(server, kinds.Namespace, { metadata: { name } });
        await ensureKubernetesService(server);
        await ensureAuthentication(server);
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
          if (!stopped && events.some((event) => event.type === 'delete' || event.key.startsWith(serverLeasePrefix)))
            await putBack();
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

/** Whether an administrator has taken a default role or binding over (Kubernetes, "Auto-reconciliation"). */
const isTakenOver = ({ annotations }: ObjectMeta): boolean => annotations?.[autoUpdate] === 'false';

type Granted = Pick<ClusterRole, 'rules' | 'aggregationRule'>;

/** The rules, the selectors and the labels that a default role has, beside those that it was given. */
async function keepRole<T extends KubeObject & Granted>(
  server: Server,
  ref: KindRef<T>,
  wanted: Template<NoInfer<T>> & Granted,
): Promise<void> {
  const { metadata = {} }: { metadata?: ObjectMeta } = wanted;
  const { name = '', namespace = '', labels = {} } = metadata;
  const found = await lookUp(server, ref, name, namespace);
  if (found === undefined) return ensure(server, ref, wanted);
  if (isTakenOver(found.metadata)) return;
  const rules = (wanted.rules ?? []).filter((rule) => !missingPermissions(found.rules ?? [], rule).next().done);
  const selectors = (wanted.aggregationRule?.clusterRoleSelectors ?? []).filter(
    (selector) => !(found.aggregationRule?.clusterRoleSelectors ?? []).some((other) => sameJson(other, selector)),
  );
  const isLabelled = Object.keys(labels).every((label) => found.metadata.labels?.[label] !== undefined);
  if (rules.length === 0 && selectors.length === 0 && isLabelled) return;
  await refresh(server, ref, { name, namespace }, (object) => {
    if (rules.length > 0) object.rules = [...(object.rules ?? []), ...rules];
    if (selectors.length > 0)
      object.aggregationRule = {
        clusterRoleSelectors: [...(object.aggregationRule?.clusterRoleSelectors ?? []), ...selectors],
      };
    object.metadata.labels = { ...labels, ...object.metadata.labels };
  });
}

/** The subjects of a default binding, beside those that it was given; of another role it is made anew. */
async function keepBinding(server: Server, wanted: Template<ClusterRoleBinding>): Promise<void> {
  const ref = kinds.ClusterRoleBinding;
  const { name = '' } = wanted.metadata ?? {};
  const found = await lookUp(server, ref, name);
  if (found !== undefined && isTakenOver(found.metadata)) return;
  const isOther = found !== undefined && !sameJson(found.roleRef, wanted.roleRef);
  if (isOther) await deleteObject(internalContext(server, server.kinds.builtIn(ref), { name }), '', name, {});
  if (found === undefined || isOther) return ensure(server, ref, wanted);
  const subjects = (wanted.subjects ?? []).filter(
    (subject) => !(found.subjects ?? []).some((other) => sameJson(other, subject)),
  );
  if (subjects.length > 0)
    await refresh(server, ref, { name, namespace: '' }, (object) => {
      object.subjects = [...(object.subjects ?? []), ...subjects];
    });
}

/** The groups that this server serves itself, as the API lists them. */
function localServices(server: Server): Template<APIService>[] {
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
        versionPriority: Math.max(15 - i, 1),
      },
      status: { conditions: [condition] },
    })),
  );
}

/** How aggregated API servers know who asks: clients by their certificates, others by what the front proxy says. */
async function ensureAuthentication(server: Server): Promise<void> {
  // A simulated server has no clients of others, and its keys are made only for who needs them.
  if (server.options.advertise === undefined) return;
  const { keys } = server.options;
  const list = (...names: string[]): string => JSON.stringify(names);
  const data = {
    'client-ca-file': trustedAuthorities(keys, 'ca'),
    'requestheader-client-ca-file': trustedAuthorities(keys, 'frontProxy'),
    'requestheader-allowed-names': list(frontProxyClient),
    'requestheader-extra-headers-prefix': list('X-Remote-Extra-'),
    'requestheader-group-headers': list('X-Remote-Group'),
    'requestheader-uid-headers': list('X-Remote-Uid'),
    'requestheader-username-headers': list('X-Remote-User'),
  };
  const metadata = { name: 'extension-apiserver-authentication', namespace: 'kube-system' };
  await ensure(server, kinds.ConfigMap, { metadata, data });
  await refresh(server, kinds.ConfigMap, metadata, (object) => {
    object.data = data;
  });
}

async function ensureKubernetesService(server: Server): Promise<void> {
  const advertise = server.options.advertise;
  const port = advertise?.port ?? 6443;
  const labels = { component: 'apiserver', provider: 'kubernetes' };
  await ensure(server, kinds.Service, {
    metadata: { name: 'kubernetes', namespace: 'default', labels },
    spec: {
      type: 'ClusterIP',
      clusterIP: addressAt(serviceRange(server), 1),
      ports: [{ name: 'https', port: 443, protocol: 'TCP', targetPort: port }],
    },
  });
  if (advertise !== undefined) await reconcileEndpoints(server);
}

/** The addresses of all servers; one slice for each port, that of the lowest one has the Service's name. */
async function reconcileEndpoints(server: Server): Promise<void> {
  const byPort = Map.groupBy(await advertisedServers(server), ({ port }) => port);
  const groups = [...byPort].sort(([a], [b]) => a - b);
  const addressesOf = (servers: readonly Advertised[]): string[] => servers.map(({ address }) => address);
  const portsOf = (port: number) => [{ name: 'https', port, protocol: 'TCP' }];
  const subsets = groups.map(([port, servers]) => ({
    addresses: addressesOf(servers).map((ip) => ({ ip })),
    ports: portsOf(port),
  }));
  const metadata = { name: 'kubernetes', namespace: 'default' };
  const labels = { 'endpointslice.kubernetes.io/skip-mirror': 'true' };
  await ensure(server, kinds.Endpoints, { metadata: { ...metadata, labels }, subsets });
  await refresh(server, kinds.Endpoints, metadata, (object) => {
    object.subsets = subsets;
  });
  const names = new Set<string>();
  for (const [index, [port, servers]] of groups.entries()) {
    const name = index === 0 ? 'kubernetes' : `kubernetes-${port}`;
    names.add(name);
    const endpoints = addressesOf(servers).map((address) => ({ addresses: [address], conditions: { ready: true } }));
    const ports = portsOf(port);
    await ensure(server, kinds.EndpointSlice, {
      metadata: { name, namespace: 'default', labels: { 'kubernetes.io/service-name': 'kubernetes' } },
      addressType: 'IPv4',
      endpoints,
      ports,
    });
    await refresh(server, kinds.EndpointSlice, { name, namespace: 'default' }, (object) => {
      object.endpoints = endpoints;
      object.ports = ports;
    });
  }
  const slices = (await server.live.endpointSlices.current()).in('default');
  for (const { metadata: slice } of slices)
    if (/^kubernetes-\d+$/.test(slice.name) && !names.has(slice.name)) await removeSlice(server, slice.name);
}

async function removeSlice(server: Server, name: string): Promise<void> {
  const context = internalContext(server, server.kinds.builtIn(kinds.EndpointSlice), { namespace: 'default', name });
  try {
    await deleteObject(context, 'default', name, {});
  } catch (error) {
    // Another server was first.
    if (!isReason(error, 'NotFound')) throw error;
  }
}

/** Addresses and authorities may be others after a restart. */
async function refresh<T extends KubeObject>(
  server: Server,
  ref: KindRef<T>,
  { name, namespace }: { name: string; namespace: string },
  change: (object: T) => void,
): Promise<void> {
  const context = internalContext(server, server.kinds.builtIn(ref), { namespace, name });
  await updateObject(context, name, (current) => {
    change(current);
    return unversioned(current);
  });
}
