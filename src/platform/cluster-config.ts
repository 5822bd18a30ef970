/**
 * What the cluster says to machines that are to join it, as kubeadm does: `kube-public/cluster-info` holds its address
 * and authority for everybody (a machine checks the authority by the hash in its token), `kube-system/tiphys-cluster`
 * what only machines with a token, and nodes, need to know. Written at each start of a server; what the cluster is, by
 * the one where it began.
 */
import type { ConfigMap } from '#api/core.v1.ts';
import type { Manifest } from '#api/manifest.ts';
import { ApiError, isReason } from '#base/errors.ts';
import { joinHostPort } from '#base/ip.ts';
import { kinds } from '#base/kinds.ts';
import { clusterConfig, clusterInfo } from '#base/node-identity.ts';
import { fieldOf } from '#base/unknown.ts';
import type { Client } from '#client/client.ts';
import { kubeconfigText } from './identity.ts';
import { networkModes, serverAddress, vxlanIdOf, type Instance, type NetworkMode } from './instance.ts';
import { kubernetesVersion, tiphysVersion } from './version.ts';

export interface ClusterConfig {
  podRange: string;
  serviceRange: string;
  domain: string;
  network: NetworkMode;
  vxlanId: number;
  /** In the Pod network: of the API server and the registry. */
  serverAddress: string;
  registryPort: number;
  volumeDirectory: string;
  kubernetesVersion: string;
  tiphysVersion: string;
  /** Formats up to this one are written; 0: those of before there were levels. */
  level: number;
}

export async function publishCluster(
  client: Client,
  instance: Instance,
  { ca, volumeDirectory }: { ca: string; volumeDirectory: string },
): Promise<void> {
  const { podRange, serviceRange, domain, network = 'auto', registryPort, joined } = instance;
  const config: ClusterConfig = {
    podRange,
    serviceRange,
    domain,
    network,
    vxlanId: vxlanIdOf(instance),
    serverAddress: serverAddress(instance),
    registryPort,
    volumeDirectory,
    kubernetesVersion,
    tiphysVersion: tiphysVersion(),
    level: instance.level ?? 0,
  };
  const texts = Object.fromEntries(Object.entries(config).map(([name, value]) => [name, String(value)]));
  // Nodes that joined follow the authority's certificate when it is renewed.
  const pool = instance.loadBalancerPool;
  const data = {
    ...(joined === undefined ? texts : {}),
    authority: ca,
    ...(instance.level === undefined ? {} : { level: String(instance.level) }),
    ...(pool === undefined ? {} : { loadBalancerPool: pool === 'none' ? '' : pool }),
  };
  await put(client, { apiVersion: 'v1', kind: 'ConfigMap', metadata: { ...clusterConfig }, data });
  if (instance.address === undefined) return;
  const server = `https://${joinHostPort(instance.address, instance.apiPort)}`;
  const kubeconfig = kubeconfigText({ server, ca });
  await put(client, { apiVersion: 'v1', kind: 'ConfigMap', metadata: { ...clusterInfo }, data: { kubeconfig } });
}

async function put(client: Client, wanted: Manifest<ConfigMap> & { metadata: { name: string } }): Promise<void> {
  try {
    await client.create(kinds.ConfigMap, wanted);
  } catch (error) {
    if (!isReason(error, 'AlreadyExists')) throw error;
    await client.patch(kinds.ConfigMap, wanted.metadata, { merge: { data: wanted.data } });
  }
}

/** Throws where something is missing: what a newer version leaves out, this one cannot do without. */
export function readClusterConfig({ data }: Pick<ConfigMap, 'data'>): ClusterConfig {
  const text = (name: keyof ClusterConfig): string => {
    const value = fieldOf(data, name);
    if (typeof value === 'string' && value !== '') return value;
    throw new ApiError(
      'BadRequest',
      `the cluster does not say its ${name}: its version of Tiphys and that of this machine are too far apart`,
    );
  };
  return {
    podRange: text('podRange'),
    serviceRange: text('serviceRange'),
    domain: text('domain'),
    network: networkModes.find((mode) => mode === text('network')) ?? 'auto',
    vxlanId: Number(text('vxlanId')),
    serverAddress: text('serverAddress'),
    registryPort: Number(text('registryPort')),
    volumeDirectory: text('volumeDirectory'),
    kubernetesVersion: text('kubernetesVersion'),
    tiphysVersion: text('tiphysVersion'),
    // Servers of before levels say nothing of it.
    level: Number(fieldOf(data, 'level') ?? 0),
  };
}
