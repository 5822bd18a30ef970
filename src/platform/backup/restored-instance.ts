/** What an instance becomes on the machine where it is restored, and why it cannot. */
import { ApiError } from '#base/errors.ts';
import { formatSubnet, overlaps, subnetOf, type Subnet } from '#base/ip.ts';
import { isObject, textOf, textsOf, type JsonObject } from '#base/unknown.ts';
import type { Random } from '#os/clock.ts';
import { networkModes, newestLevel, nodesPerMachineMax, type Instance, type InstanceChoices } from '../instance.ts';
import { checkServerArguments } from '../server-arguments.ts';
import type { BackupHead } from './format.ts';

export interface Host {
  usedSubnets: Subnet[];
  portIsFree(port: number, address?: string): boolean;
}

const portOf = (settings: JsonObject, name: string, otherwise: number): number => {
  const port = settings[name];
  return typeof port === 'number' && Number.isInteger(port) && port > 0 && port < 65_536 ? port : otherwise;
};

/** Throws Conflict, naming the option that helps, where this machine uses what the cluster needs. */
export function restoredInstance(
  { instance: settings }: BackupHead,
  { nodes: _nodes, serviceRange: wanted, ...choices }: InstanceChoices,
  random: Random,
  host: Host,
): Instance {
  const serviceRange = textOf(settings, 'serviceRange');
  const podRange = choices.podRange ?? textOf(settings, 'podRange');
  if (serviceRange === undefined || podRange === undefined)
    throw new ApiError('BadRequest', 'this backup is damaged: it does not say which addresses the cluster has');
  if (wanted !== undefined && wanted !== serviceRange)
    throw new ApiError('BadRequest', `--service-range: the Services of this backup have addresses of ${serviceRange}`);
  checkRange(serviceRange, 'Services', host, '');
  checkRange(podRange, 'Pods', host, '; --pod-range names another range');
  const apiPort = choices.apiPort ?? portOf(settings, 'apiPort', 6443);
  const registryPort = choices.registryPort ?? portOf(settings, 'registryPort', 5000);
  checkPort(apiPort, '--api-port', host);
  checkPort(registryPort, '--registry-port', host);
  const network = networkModes.find((mode) => mode === textOf(settings, 'network'));
  const { maxPods } = settings;
  const args = checkServerArguments(choices.kubeApiserverArgs ?? textsOf(settings['kubeApiserverArgs']));
  return {
    format: 0,
    ...newestLevel(),
    id: Buffer.from(random.bytes(2)).toString('hex'),
    ...{ podRange, serviceRange, apiPort, registryPort },
    domain: textOf(settings, 'domain') ?? 'cluster.local',
    httpPort: publicPort(choices.httpPort, portOf(settings, 'httpPort', 80), [80, 8080, 8081, 8082, 8090], host),
    httpsPort: publicPort(choices.httpsPort, portOf(settings, 'httpsPort', 443), [443, 8443, 8444, 8445, 9443], host),
    registryMirrors: choices.registryMirrors ?? textsOf(settings['registryMirrors']),
    ...(typeof maxPods === 'number' ? { maxPods } : {}),
    ...(choices.maxPods === undefined ? {} : { maxPods: choices.maxPods }),
    ...(args.length === 0 ? {} : { kubeApiserverArgs: args }),
    ...(network === undefined ? {} : { network }),
    ...(choices.network === undefined ? {} : { network: choices.network }),
    ...(choices.etcd === undefined ? {} : { etcd: choices.etcd }),
  };
}

/** As many nodes as there were, unless it is said. */
export function restoredNodes({ nodes }: BackupHead, wanted: number | undefined): number {
  return wanted ?? Math.min(nodesPerMachineMax, Math.max(1, nodes.length));
}

function checkRange(range: string, whose: string, { usedSubnets }: Host, helps: string): void {
  const used = usedSubnets.find((subnet) => overlaps(subnet, subnetOf(range)));
  if (used !== undefined)
    throw new ApiError(
      'Conflict',
      `${whose} of this cluster have addresses of ${range}, and this machine uses ${formatSubnet(used)}: take that network off${helps}`,
    );
}

function checkPort(port: number, option: string, host: Host): void {
  if (!host.portIsFree(port, '127.0.0.1'))
    throw new ApiError(
      'Conflict',
      `port ${port} on 127.0.0.1 is in use by another program; choose another one with ${option}, or stop that program`,
    );
}

/** Where users come from outside: as it was, or what is free. */
function publicPort(chosen: number | undefined, before: number, candidates: number[], host: Host): number {
  return chosen ?? [before, ...candidates].find((port) => host.portIsFree(port)) ?? before;
}

/** A key-ring that this program knows. Throws BadRequest. */
export function checkKeyRing(text: string): void {
  const ring: unknown = JSON.parse(text);
  const isWhole =
    isObject(ring) &&
    textOf(ring, 'ca', 'certificatePem') !== undefined &&
    textOf(ring, 'ca', 'keyPem') !== undefined &&
    Array.isArray(ring['serviceAccount']) &&
    Array.isArray(ring['encryption']);
  if (!isWhole) throw new ApiError('BadRequest', 'this backup is damaged: its keys are not what the format says');
  if (ring['format'] !== 1)
    throw new ApiError(
      'BadRequest',
      `the keys of this backup were written by a newer version of Tiphys (format ${String(ring['format'])}; this one knows 1)`,
    );
}
