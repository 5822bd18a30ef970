/**
 * Containers of dockerd's: what they were asked for goes the way of a request to create one, as `docker run` has it;
 * what they are (id, name, times, exit, writable layer, output) comes from their files. The record is written last: an
 * engine that finds a container without one takes its rest away.
 *
 * Source: moby 20.10 to 28, `container/container.go` (`config.v2.json`), `hostconfig.json`.
 */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { ApiError } from '#base/errors.ts';
import { messageOf } from '#base/thrown.ts';
import { parseRfc3339 } from '#base/timestamp.ts';
import {
  entriesOf,
  fieldOf,
  isObject,
  itemsOf,
  namedTextsOf,
  textOf,
  textsOf,
  type JsonObject,
} from '#base/unknown.ts';
import type { Content } from '#content/content.ts';
import type { ImageRecords } from '#content/image-records.ts';
import type { BuildSnapshots } from '#content/snapshots.ts';
import type { CreateBody, EndpointBody, HostConfigBody } from '#docker/create-body.ts';
import { adaptNetworking } from '#docker/create-network.ts';
import { specFromRequest } from '#docker/create-request.ts';
import { copyTree } from '#engine/copy-tree.ts';
import { containerDirectory, loadRecords, recordFormat, saveRecord } from '#engine/container-record.ts';
import type { ContainerRecord } from '#engine/container-record.ts';
import type { ContainerSpec, Mount } from '#engine/engine.ts';
import type { NetworkRecord } from '#engine/network-record.ts';
import { attachedNetwork } from '#engine/network-endpoint.ts';
import { silentLogger } from '#observe/log.ts';
import { listDirectory } from '#os/files.ts';
import { syncFilesystem } from '#os/special-files.ts';
import { importLog } from './logs.ts';
import { chainIds, importLayers } from './images.ts';
import { readNetworks } from './networks.ts';
import { readObject } from './read-bounded.ts';
import type { ImportReport } from './report.ts';
import { readLayer, readMount, type DockerSource } from './source.ts';

export interface ContainerImport {
  source: DockerSource;
  content: Content;
  records: ImageRecords;
  snapshots: BuildSnapshots;
  /** The engine's own directory. */
  data: string;
  report: ImportReport;
  /** Of all that dockerd has, by name: others are joined by it. */
  idOf: ReadonlyMap<string, string>;
}

interface Found {
  id: string;
  /** `config.v2.json`. */
  said: JsonObject;
  host: HostConfigBody;
}

/** Also those that are damaged, which are told. */
export function listContainers(source: DockerSource, report: ImportReport): Found[] {
  return listDirectory(source.path('containers')).flatMap((id) => {
    try {
      const said = readObject(source.path('containers', id, 'config.v2.json'));
      const host = readObject(source.path('containers', id, 'hostconfig.json')) ?? {};
      return said === undefined ? [] : [{ id, said, host }];
    } catch (error) {
      report.refuse('container', id.slice(0, 12), messageOf(error));
      return [];
    }
  });
}

function nameOf({ id, said }: Found): string {
  return (textOf(said, 'Name') ?? id).replace(/^\//, '');
}

export function imageIdOf(found: Found): string {
  return textOf(found.said, 'Image') ?? '';
}

export async function importContainers(given: Omit<ContainerImport, 'idOf'>, all: readonly Found[]): Promise<void> {
  const to = { ...given, idOf: new Map(all.map((found) => [nameOf(found), found.id])) };
  const { report, data } = to;
  const here = loadRecords(data, silentLogger).records;
  for (const found of all) {
    const name = nameOf(found);
    if (here.some(({ id }) => id === found.id)) {
      report.take('container', false, name);
      continue;
    }
    try {
      if (here.some(({ spec }) => spec.name === name)) throw new ApiError('Conflict', 'the name is taken here');
      await importContainer(to, found, name);
      report.take('container', true, name);
    } catch (error) {
      report.refuse('container', name, messageOf(error));
    }
  }
}

async function importContainer(to: ContainerImport, found: Found, name: string): Promise<void> {
  const { source, content, records, snapshots, data } = to;
  const { id, said } = found;
  const state = fieldOf(said, 'State');
  if (fieldOf(state, 'RemovalInProgress') === true || fieldOf(state, 'Dead') === true)
    throw new ApiError('Conflict', 'dockerd was removing it');
  const driver = textOf(said, 'Driver') ?? 'overlay2';
  const mount = readMount(source, id);
  if (driver !== 'overlay2' || mount === undefined)
    throw new ApiError('BadRequest', `its writable layer is of the storage driver ${driver}`);
  const spec = specOf(found, name, to.idOf);
  const directory = containerDirectory(data, id);
  using hold = content.hold();
  const image = records.get(spec.imageId);
  // An image may have been removed by force; its layers are there while the container is.
  const layers = await importLayers(
    to,
    image === undefined ? chainOf(source, mount.chainId) : chainIds(diffIdsOf(image)),
    hold,
  );
  mkdirSync(directory, { recursive: true, mode: 0o710 });
  if (image !== undefined) await records.lease('docker', `container/${id}`, image.id);
  await snapshots.adoptContainerRoot(
    id,
    { imageId: spec.imageId, diffIds: layers.map(({ diffId }) => diffId) },
    (upper) => copyTree(mount.upper, upper, { overlay: true }),
  );
  if (spec.logPath !== 'none') await importLog(source, found.said, id, join(directory, 'container.log'));
  syncFilesystem(directory);
  saveRecord(data, recordOf(found, spec, readNetworks(data)), { sync: true });
}

const diffIdsOf = (image: { layers: { diffId: string }[] }): string[] => image.layers.map(({ diffId }) => diffId);

/** Bottom first. */
function chainOf(source: DockerSource, top: string | undefined): string[] {
  const chain: string[] = [];
  for (let at = top; at !== undefined && !chain.includes(at); at = readLayer(source, at)?.parent) chain.unshift(at);
  return chain;
}

function specOf(found: Found, name: string, idOf: ReadonlyMap<string, string>): ContainerSpec {
  const { said, host, id } = found;
  const config: unknown = said['Config'];
  if (!isObject(config)) throw new ApiError('BadRequest', 'its configuration is damaged');
  const NetworkingConfig = { EndpointsConfig: endpointsOf(found) };
  const body: CreateBody = { ...config, HostConfig: { ...host }, NetworkingConfig };
  const mode = host.NetworkMode ?? '';
  // dockerd has filled in what a client may not ask for.
  if (body.Hostname === id.slice(0, 12) || mode === 'host' || mode.startsWith('container:')) delete body.Hostname;
  if (mode.startsWith('container:')) delete body.ExposedPorts;
  adaptNetworking(body, [1, 47]);
  const spec = specFromRequest(body, name, imageIdOf(found));
  spec.id = id;
  for (const joined of [spec.network, spec.pidMode, spec.ipcMode])
    if (joined?.type === 'container') joined.containerId = idOf.get(joined.containerId) ?? joined.containerId;
  spec.mounts = mountsOf(said, spec.mounts);
  return spec;
}

/** What was asked of each network; addresses that dockerd chose are chosen anew. */
function endpointsOf({ said, id }: Found): Record<string, EndpointBody> {
  const endpoints = entriesOf(fieldOf(said, 'NetworkSettings', 'Networks'));
  return Object.fromEntries(
    endpoints.map(([name, endpoint]): [string, EndpointBody] => {
      const aliases = textsOf(fieldOf(endpoint, 'Aliases')).filter((alias) => alias !== id.slice(0, 12));
      const mac = textOf(endpoint, 'DesiredMacAddress') ?? '';
      const given = namedTextsOf(fieldOf(endpoint, 'IPAMConfig'));
      const linkLocal = textsOf(fieldOf(endpoint, 'IPAMConfig', 'LinkLocalIPs'));
      const priority = fieldOf(endpoint, 'GwPriority');
      return [
        name,
        {
          Aliases: aliases,
          Links: textsOf(fieldOf(endpoint, 'Links')),
          DriverOpts: namedTextsOf(fieldOf(endpoint, 'DriverOpts')),
          IPAMConfig: { ...given, ...(linkLocal.length === 0 ? {} : { LinkLocalIPs: linkLocal }) },
          ...(mac === '' ? {} : { MacAddress: mac }),
          ...(typeof priority === 'number' ? { GwPriority: priority } : {}),
        },
      ];
    }),
  );
}

/** Volumes have names by now, and those of other containers have come along. */
function mountsOf(said: JsonObject, planned: Mount[]): Mount[] {
  const points = new Map(entriesOf(said['MountPoints']));
  const out = planned.map((mount): Mount => {
    const name = textOf(points.get(mount.target), 'Name') ?? '';
    return mount.type === 'volume' && name !== '' ? { ...mount, source: name, populate: false } : mount;
  });
  for (const [target, point] of points) {
    if (out.some((mount) => mount.target === target)) continue;
    const type = textOf(point, 'Type') === 'volume' ? 'volume' : 'bind';
    out.push({
      type,
      source: textOf(point, type === 'volume' ? 'Name' : 'Source') ?? '',
      target,
      readOnly: fieldOf(point, 'RW') === false,
      mode: textOf(point, 'Relabel') ?? '',
    });
  }
  return out.filter((mount) => mount.type !== 'volume' || mount.source !== '');
}

function recordOf({ id, said }: Found, spec: ContainerSpec, networks: NetworkRecord[]): ContainerRecord {
  const state = fieldOf(said, 'State');
  const wasRunning = fieldOf(state, 'Running') === true;
  const [startedAtMs, finishedAtMs] = [msOf(textOf(state, 'StartedAt')), msOf(textOf(state, 'FinishedAt'))];
  const exitCode = Number(fieldOf(state, 'ExitCode') ?? 0);
  const wanted = spec.networks ?? [];
  return {
    format: recordFormat,
    id,
    spec,
    state: startedAtMs === 0 ? 'created' : 'exited',
    createdAtMs: msOf(textOf(said, 'Created')),
    startedAtMs,
    finishedAtMs: wasRunning ? startedAtMs : finishedAtMs,
    // One that ran when its daemon died: as dockerd has it when it starts again.
    exitCode: wasRunning ? 255 : startedAtMs === 0 && exitCode === 0 ? undefined : exitCode,
    ...(wasRunning ? { isExitUnknown: true as const } : {}),
    oomKilled: fieldOf(state, 'OOMKilled') === true,
    error: textOf(state, 'Error') ?? '',
    restartCount: Number(said['RestartCount'] ?? 0),
    stoppedByUser: said['HasBeenManuallyStopped'] === true,
    anonymousVolumes: anonymousOf(said),
    networks:
      spec.network.type === 'networks'
        ? wanted.map((attachment) => {
            const network = networks.find((each) => each.id === attachment.network || each.name === attachment.network);
            return attachedNetwork(network?.id ?? attachment.network, attachment);
          })
        : [],
    path: textOf(said, 'Path') ?? '',
    args: textsOf(itemsOf(said['Args'])),
  };
}

/** Go's zero time is in the year 1. */
function msOf(text: string | undefined): number {
  const ns = parseRfc3339(text ?? '');
  return ns === undefined || ns < 0n ? 0 : Number(ns / 1_000_000n);
}

/** Those that were made for it, as it asked for none by name. */
function anonymousOf(said: JsonObject): string[] {
  return entriesOf(said['MountPoints']).flatMap(([, point]) => {
    const name = textOf(point, 'Name') ?? '';
    const isNamed = (textOf(point, 'Spec', 'Source') ?? '') !== '' || !/^[0-9a-f]{64}$/.test(name);
    return textOf(point, 'Type') !== 'volume' || isNamed ? [] : [name];
  });
}
