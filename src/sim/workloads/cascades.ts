/** Owners with dependents, deleted in each of the three ways; Services that come, change their type and go. */
import type { OwnerReference } from '#api/meta.v1.ts';
import type { ConfigMap } from '#api/core.v1.ts';
import { kinds } from '#base/kinds.ts';
import { between, pick } from '../chance.ts';
import { attempt, listNow, template, type Workload } from './workloads.ts';

const policies = ['Orphan', 'Background', 'Foreground'] as const;
const ownerReference = ({ kind, apiVersion, metadata }: ConfigMap, blockOwnerDeletion: boolean): OwnerReference => ({
  apiVersion,
  kind,
  name: metadata.name,
  uid: metadata.uid,
  blockOwnerDeletion,
});

/** Trees of ConfigMaps, some with two owners, and Deployments. */
export function cascades(): Workload {
  let count = 0;
  return {
    name: 'cascades',
    async setUp() {
      /* They come with time. */
    },
    async act({ cluster }) {
      const { client } = cluster;
      const make = (name: string, ownerReferences: OwnerReference[] = []): Promise<ConfigMap> =>
        client.create(kinds.ConfigMap, {
          apiVersion: 'v1',
          kind: 'ConfigMap',
          metadata: { name, namespace: 'default', labels: { cascade: 'yes' }, ownerReferences },
        });
      const mine = { namespace: 'default', labelSelector: 'cascade=yes' };
      const held = await listNow(cluster, kinds.ConfigMap, mine);
      const deployments = await listNow(cluster, kinds.Deployment, mine);
      const propagationPolicy = pick(cluster.random, policies);
      if (held.length > 6)
        await attempt(() =>
          client.delete(kinds.ConfigMap, pick(cluster.random, held).metadata.name, 'default', { propagationPolicy }),
        );
      else {
        await attempt(async () => {
          const name = `tree-${count++}`;
          const root = await make(name);
          const other = held.length > 0 ? pick(cluster.random, held) : undefined;
          const child = await make(`${name}-a`, [
            ownerReference(root, true),
            ...(other === undefined ? [] : [ownerReference(other, cluster.random.float() < 0.5)]),
          ]);
          await make(`${name}-b`, [ownerReference(root, cluster.random.float() < 0.5)]);
          await make(`${name}-c`, [ownerReference(child, true)]);
        });
      }
      if (deployments.length === 0) {
        const name = `cascade-${count++}`;
        await attempt(() =>
          client.create(kinds.Deployment, {
            apiVersion: 'apps/v1',
            kind: 'Deployment',
            metadata: { name, namespace: 'default', labels: { cascade: 'yes' } },
            spec: {
              replicas: between(cluster.random, 1, 3),
              selector: { matchLabels: { app: name } },
              template: template(name),
            },
          }),
        );
      } else
        await attempt(() =>
          client.delete(kinds.Deployment, pick(cluster.random, deployments).metadata.name, 'default', {
            propagationPolicy,
          }),
        );
      // What was orphaned goes in its turn.
      for (const orphan of await listNow(cluster, kinds.ReplicaSet, { namespace: 'default' }))
        if ((orphan.metadata.ownerReferences ?? []).length === 0)
          await attempt(() =>
            client.delete(kinds.ReplicaSet, orphan.metadata.name, 'default', { propagationPolicy: 'Background' }),
          );
    },
  };
}

export function services(): Workload {
  return {
    name: 'services',
    async setUp() {
      /* They come with time. */
    },
    async act({ cluster }) {
      const { client } = cluster;
      const name = `turn-${between(cluster.random, 0, 3)}`;
      const type = pick(cluster.random, ['ClusterIP', 'NodePort', 'LoadBalancer', 'ExternalName']);
      const spec = {
        type,
        ports: [
          { port: 80, name: 'a' },
          { port: 81, name: 'b' },
        ].slice(0, between(cluster.random, 1, 2)),
        ...(type === 'ExternalName' ? { externalName: 'example.com' } : { selector: { app: 'web-1' } }),
      };
      const change = between(cluster.random, 0, 2);
      if (change === 0) await attempt(() => client.delete(kinds.Service, name, 'default'));
      else if (change === 1)
        await attempt(() =>
          client.create(kinds.Service, {
            apiVersion: 'v1',
            kind: 'Service',
            metadata: { name, namespace: 'default' },
            spec,
          }),
        );
      else
        await attempt(() =>
          client.patch(
            kinds.Service,
            { name, namespace: 'default' },
            { merge: { spec: { ...spec, externalName: type === 'ExternalName' ? 'example.com' : null } } },
          ),
        );
    },
  };
}

/** Pods that must be spread over zones, and Pods that must not share a node. */
export function placements(): Workload {
  return {
    name: 'placements',
    async setUp({ cluster }) {
      const spread = {
        topologySpreadConstraints: [
          {
            maxSkew: 1,
            topologyKey: 'topology.kubernetes.io/zone',
            whenUnsatisfiable: 'DoNotSchedule',
            labelSelector: { matchLabels: { app: 'spread' } },
          },
        ],
      };
      const apart = {
        affinity: {
          podAntiAffinity: {
            requiredDuringSchedulingIgnoredDuringExecution: [
              { topologyKey: 'kubernetes.io/hostname', labelSelector: { matchLabels: { app: 'apart' } } },
            ],
          },
        },
      };
      for (const [name, extra, replicas] of [
        ['spread', spread, 3],
        ['apart', apart, 3],
      ] as const) {
        while (
          !(await attempt(() =>
            cluster.client.create(kinds.Deployment, {
              apiVersion: 'apps/v1',
              kind: 'Deployment',
              metadata: { name, namespace: 'default' },
              spec: {
                replicas,
                strategy: { type: 'RollingUpdate', rollingUpdate: { maxSurge: 1, maxUnavailable: 1 } },
                selector: { matchLabels: { app: name } },
                template: template(name, extra),
              },
            }),
          ))
        )
          await cluster.clock.sleep(1_000);
      }
    },
    async act({ cluster }) {
      const name = pick(cluster.random, ['spread', 'apart']);
      const patch =
        cluster.random.float() < 0.5
          ? { spec: { replicas: between(cluster.random, 1, 4) } }
          : { spec: { template: { metadata: { annotations: { at: String(between(cluster.random, 1, 4)) } } } } };
      await attempt(() => cluster.client.patch(kinds.Deployment, { name, namespace: 'default' }, { merge: patch }));
    },
  };
}
