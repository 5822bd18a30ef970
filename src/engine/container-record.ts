/**
 * The record of a container on disk: `containers/ID/container.json`, one JSON object with a format number, replaced
 * whole. It is the truth about a container; the engine's memory is built from it. A newer format than ours is refused;
 * the directory is left alone.
 */
import { mkdirSync } from 'node:fs';
import type { Logger } from '#observe/log.ts';
import { listDirectory, readIfExists, writeFileAtomic } from '#os/files.ts';
import type { JoinedLink } from '#plugins/network-driver.ts';
import type { ContainerSpec, ContainerState, NetworkAttachment } from './engine.ts';

export const recordFormat = 1;

export interface EndpointRecord {
  networkId: string;
  endpointId: string;
  /** Of version 4, and of version 6: at least one of them. */
  ip?: string;
  ip6?: string;
  mac: string;
  hostLink: string;
  containerLink: string;
  /** Of the link inside; absent in records of before. */
  linkIndex?: number;
  aliases: string[];
  /** Of a plugin's network: prefix lengths of addresses that the driver chose, and the link that it made. */
  prefixes?: { ip?: number; ip6?: number };
  joined?: JoinedLink;
}
export interface PublishedRecord {
  hostIp: string;
  hostPort: number;
  protocol: 'tcp' | 'udp' | 'sctp';
  ip: string;
  port: number;
}

/** A network as a container is on it; `networkId` is a name as long as there is no network. */
export interface AttachedNetwork extends Omit<NetworkAttachment, 'network'> {
  networkId: string;
}

/** One life of a container, from start to exit; it is what must be taken apart afterwards. */
export interface RunRecord {
  bootId: string;
  pid: number;
  pidStartTime: string;
  monitorPid: number;
  monitorStartTime: string;
  cgroup: string;
  /** It runs in the engine's user namespace. */
  isMapped?: true;
  /** Path of the pinned network namespace, when the container has one of its own. */
  networkNamespace?: string;
  endpoints: EndpointRecord[];
  ports: PublishedRecord[];
}

export interface ContainerRecord {
  format: number;
  id: string;
  spec: ContainerSpec;
  state: ContainerState;
  createdAtMs: number;
  startedAtMs: number;
  finishedAtMs: number;
  exitCode: number | undefined;
  /** Nobody saw how the last run ended. */
  isExitUnknown?: boolean;
  oomKilled: boolean;
  error: string;
  restartCount: number;
  /**
   * A user stopped it: `unless-stopped` and `always` leave it alone until the next start (or, `always`, the next
   * engine).
   */
  stoppedByUser: boolean;
  /** Volumes made for this container alone; removed with it when asked. */
  anonymousVolumes: string[];
  /** Networks it belongs to, whether it runs or not. */
  networks: AttachedNetwork[];
  /** The process as the image and the request together give it; shown by inspect. */
  path: string;
  args: string[];
  run?: RunRecord;
}

export function containerDirectory(data: string, id: string): string {
  return `${data}/containers/${id}`;
}

/** Where the directory of a container lies while the rest of it is taken away. */
export function removedPath(data: string, id: string): string {
  return `${data}/removed-${id}`;
}
export function removedId(name: string): string | undefined {
  return /^removed-(.+)$/.exec(name)?.[1];
}

/** The record in a directory; undefined when there is none that can be read. */
export function readRecord(directory: string): ContainerRecord | undefined {
  try {
    return JSON.parse(readIfExists(`${directory}/container.json`) ?? '') as ContainerRecord;
  } catch {
    return undefined;
  }
}

export function saveRecord(data: string, record: ContainerRecord, options: { sync?: boolean } = {}): void {
  const directory = containerDirectory(data, record.id);
  mkdirSync(directory, { recursive: true, mode: 0o710 });
  writeFileAtomic(`${directory}/container.json`, JSON.stringify(record), options);
}

/** Every record that can be read; what cannot is told and left on disk. */
export function loadRecords(data: string, log: Logger): { records: ContainerRecord[]; broken: string[] } {
  const records: ContainerRecord[] = [];
  const broken: string[] = [];
  for (const id of listDirectory(`${data}/containers`)) {
    const text = readIfExists(`${containerDirectory(data, id)}/container.json`);
    try {
      if (text === undefined) throw new Error('no record');
      const record = JSON.parse(text) as ContainerRecord;
      if (record.format > recordFormat) {
        log.error('a container was made by a newer version; it is left alone', { id, format: record.format });
        continue;
      }
      records.push(record);
    } catch (error) {
      log.warn('a container without a readable record', { id, error });
      broken.push(id);
    }
  }
  return { records, broken };
}
