/**
 * Networks that users made, with their ids and subnets. The built-in ones are each engine's own; those of a swarm, of
 * plugins and of configurations only are left. The links come with the engine's start.
 *
 * Source: moby 20.10 to 28, libnetwork `network.go` (`MarshalJSON`), in a key-value store in `network/files`.
 */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { formatIp, overlaps, parseCidr, subnetOf } from '#base/ip.ts';
import { messageOf } from '#base/thrown.ts';
import { fieldOf, isObject, itemsOf, namedTextsOf, textOf, type JsonObject } from '#base/unknown.ts';
import { bridgeOptionsOf } from '#engine/network-options.ts';
import {
  builtInNetworks,
  networkFormat,
  parseNetwork,
  type AddressBlock,
  type NetworkRecord,
} from '#engine/network-record.ts';
import { linkName } from '#net/kernel-names.ts';
import { listDirectory, readIfExists, statIfExists, writeFileAtomic } from '#os/files.ts';
import { readBolt } from './bolt.ts';
import { parseObject } from './read-bounded.ts';
import type { ImportReport } from './report.ts';
import type { DockerSource } from './source.ts';

const drivers = ['bridge', 'macvlan', 'ipvlan'] as const;
type ImportedDriver = (typeof drivers)[number];
/** What the store puts before each value. */
const indexBytes = 8;

interface Target {
  /** The engine's own directory. */
  data: string;
  instanceId: string;
}

export function importNetworks(source: DockerSource, { data, instanceId }: Target, report: ImportReport): void {
  const directory = join(data, 'networks');
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const here = readNetworks(data);
  for (const said of listNetworks(source, report)) {
    const name = textOf(said, 'name') ?? '';
    if (builtInNetworks.has(name)) continue;
    if (here.some(({ id }) => id === said['id'])) {
      report.take('network', false, name);
      continue;
    }
    try {
      const reason = whyNot(said) ?? clashOf(said, here);
      if (reason !== undefined) {
        report.refuse('network', name, reason);
        continue;
      }
      const record = recordOf(said, instanceId);
      writeFileAtomic(join(directory, `${record.id}.json`), JSON.stringify(record), { sync: true });
      here.push(record);
      report.take('network', true, name);
      const old = `br-${record.id.slice(0, 12)}`;
      if (statIfExists(`/sys/class/net/${old}`) !== undefined)
        report.note(`dockerd's bridge ${old} is still there and has the same subnet: 'ip link delete ${old}'`);
    } catch (error) {
      report.refuse('network', name, messageOf(error));
    }
  }
}

/** The engine's own, by their records. */
export function readNetworks(data: string): NetworkRecord[] {
  return listDirectory(join(data, 'networks')).flatMap((file) => {
    const text = file.endsWith('.json') ? readIfExists(join(data, 'networks', file)) : undefined;
    return text === undefined ? [] : [parseNetwork(text)];
  });
}

function* listNetworks(source: DockerSource, report: ImportReport): Generator<JsonObject> {
  const store = readBolt(source.path('network/files/local-kv.db'))?.bucket('libnetwork');
  for (const { key, value } of store?.entries() ?? []) {
    const id = /\/network\/v1\.0\/network\/([0-9a-z]+)\/$/.exec(`/${key}`)?.[1];
    if (id === undefined || value === undefined) continue;
    try {
      yield parseObject(value.subarray(indexBytes).toString(), 'its record');
    } catch (error) {
      report.refuse('network', id.slice(0, 12), messageOf(error));
    }
  }
}

function whyNot(said: JsonObject): string | undefined {
  const driver = textOf(said, 'networkType') ?? '';
  if (said['inDelete'] === true) return 'dockerd was removing it';
  if (said['configOnly'] === true || (textOf(said, 'configFrom') ?? '') !== '')
    return 'configurations of networks are a swarm’s';
  if ((textOf(said, 'scope') ?? 'local') !== 'local') return 'it is a swarm’s';
  if (driverOf(said) === undefined) return `its driver is ${driver}`;
  const ipam = textOf(said, 'ipamType') ?? 'default';
  return ['default', 'null', ''].includes(ipam) ? undefined : `its addresses come from the driver ${ipam}`;
}

function clashOf(said: JsonObject, here: NetworkRecord[]): string | undefined {
  if (here.some(({ name }) => name === said['name'])) return 'there is another network of that name here';
  for (const { subnet } of blocksOf(said))
    for (const other of here)
      if (other.blocks.some((block) => overlaps(subnetOf(block.subnet), subnetOf(subnet))))
        return `its subnet ${subnet} overlaps with the network ${other.name} here`;
  return undefined;
}

function driverOf(said: JsonObject): ImportedDriver | undefined {
  return drivers.find((driver) => driver === said['networkType']);
}

function recordOf(said: JsonObject, instanceId: string): NetworkRecord {
  const [id = '', name = ''] = ['id', 'name'].map((key) => textOf(said, key));
  const driver = driverOf(said) ?? 'bridge';
  const options = optionsOf(said);
  const ipamOptions = namedTextsOf(said['ipamOptions']);
  const ipamDriver = textOf(said, 'ipamType') ?? 'default';
  return {
    format: networkFormat,
    id,
    name,
    driver,
    createdAtMs: Date.parse(textOf(said, 'created') ?? '') || 0,
    internal: said['internal'] === true,
    attachable: said['attachable'] === true,
    ingress: false,
    enableIpv4: said['enableIPv4'] !== false,
    enableIpv6: said['enableIPv6'] === true,
    labels: namedTextsOf(said['labels']),
    options,
    blocks: blocksOf(said),
    ...(Object.keys(ipamOptions).length === 0 ? {} : { ipamOptions }),
    ...(ipamDriver === 'default' || ipamDriver === '' ? {} : { ipamDriver }),
    ...(driver === 'bridge' ? { link: bridgeOptionsOf(options).bridgeName ?? linkName(instanceId, 'b', id) } : {}),
  };
}

function optionsOf(said: JsonObject): Record<string, string> {
  const options = fieldOf(said['generic'], 'com.docker.network.generic');
  return isObject(options) ? namedTextsOf(options) : {};
}

/** Wanted and given are lists side by side, each a text of JSON in the JSON. */
function blocksOf(said: JsonObject): AddressBlock[] {
  return ['V4', 'V6'].flatMap((family) => {
    const listOf = (key: string): readonly unknown[] => itemsOf(JSON.parse(textOf(said, key) ?? '[]'));
    const asked = listOf(`ipam${family}Config`);
    return listOf(`ipam${family}Info`).flatMap((info, at): AddressBlock[] => {
      const data: unknown = JSON.parse(textOf(info, 'IPAMData') ?? '{}');
      const wanted = asked[at];
      const subnet = textOf(data, 'Pool') ?? '';
      if (subnet === '') return [];
      const gateway = parseCidr(textOf(data, 'Gateway') ?? '')?.address;
      const ipRange = textOf(wanted, 'SubPool') ?? '';
      const auxiliary = namedTextsOf(fieldOf(wanted, 'AuxAddresses'));
      return [
        {
          subnet,
          ...(gateway === undefined ? {} : { gateway: formatIp(gateway) }),
          ...(ipRange === '' ? {} : { ipRange }),
          ...(Object.keys(auxiliary).length === 0 ? {} : { auxiliaryAddresses: auxiliary }),
          isAsked: (textOf(wanted, 'PreferredPool') ?? '') !== '',
        },
      ];
    });
  });
}
