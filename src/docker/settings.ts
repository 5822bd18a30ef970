/**
 * What whoever runs the engine says of it: shown by `info`, and given to containers that do not say otherwise. A reload
 * changes it, so it is asked for at each use.
 */
import { isObject } from '#base/unknown.ts';
import type { ContainerSpec } from '#engine/engine.ts';
import type { CreateBody, HostConfigBody } from './create-body.ts';

export interface DaemonSettings {
  labels: string[];
  isDebug: boolean;
  isExperimental: boolean;
  /** Containers go on when the engine is told to end. */
  isLiveRestore: boolean;
  mirrors: string[];
  insecureRegistries: string[];
  proxies: { http: string; https: string; no: string };
  builderVersion: '1' | '2';
  /** Plugins that are asked about each request, in order. */
  authorizationPlugins: string[];
  /** Of `info`: what is unsafe about this configuration. */
  warnings: string[];
  containers: ContainerDefaults;
}

export interface ContainerDefaults {
  log: { driver: string; options: Record<string, string> };
  ulimits: { name: string; soft: number; hard: number }[];
  shmSizeBytes: number;
  ipcMode: string;
  /** Empty: what fits the host's control groups. */
  cgroupNamespace: string;
  cgroupParent: string;
  isNoNewPrivileges: boolean;
  /** `unconfined`, or a profile's JSON; absent: docker's own. */
  seccomp?: string;
  isInit: boolean;
  /** Name of the OCI runtime. */
  runtime: string;
  dns: { servers: string[]; search: string[]; options: string[] };
}

export const defaultSettings: DaemonSettings = {
  labels: [],
  isDebug: false,
  isExperimental: false,
  isLiveRestore: true,
  mirrors: [],
  insecureRegistries: [],
  proxies: { http: '', https: '', no: '' },
  builderVersion: '2',
  authorizationPlugins: [],
  warnings: [],
  containers: {
    log: { driver: 'json-file', options: {} },
    ulimits: [],
    shmSizeBytes: 67_108_864,
    ipcMode: 'private',
    cgroupNamespace: '',
    cgroupParent: '',
    isNoNewPrivileges: false,
    isInit: false,
    runtime: 'runc',
    dns: { servers: [], search: [], options: [] },
  },
};

/** What `inspect` shows of the defaults: they become a part of the request. */
export function fillRequest(body: CreateBody, defaults: ContainerDefaults): void {
  const host: HostConfigBody = isObject(body.HostConfig) ? body.HostConfig : {};
  body.HostConfig = host;
  const log = host.LogConfig ?? {};
  const driver = log.Type || defaults.log.driver;
  host.LogConfig = {
    Type: driver,
    // Options are those of one driver, but for those of the cache, which many have.
    Config: {
      ...(driver === defaults.log.driver ? defaults.log.options : cacheOptionsOf(defaults.log.options)),
      ...log.Config,
    },
  };
  if ((host.ShmSize ?? 0) === 0) host.ShmSize = defaults.shmSizeBytes;
  if (!host['Runtime']) host['Runtime'] = defaults.runtime;
  if (!host['IpcMode']) host['IpcMode'] = defaults.ipcMode;
  if (!host['CgroupnsMode'] && defaults.cgroupNamespace !== '' && host['Privileged'] !== true)
    host['CgroupnsMode'] = defaults.cgroupNamespace;
}

function cacheOptionsOf(options: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(Object.entries(options).filter(([name]) => name.startsWith('cache-')));
}

/** What is not shown, as docker has it. */
export function fillSpec(spec: ContainerSpec, body: CreateBody, defaults: ContainerDefaults): void {
  const host = body.HostConfig ?? {};
  const asked = new Set((spec.resources.ulimits ?? []).map((limit) => limit.name));
  spec.resources.ulimits = [
    ...(spec.resources.ulimits ?? []),
    ...defaults.ulimits.filter((limit) => !asked.has(limit.name)),
  ];
  if (spec.cgroupParent === undefined && defaults.cgroupParent !== '') spec.cgroupParent = defaults.cgroupParent;
  if (host['Init'] === undefined || host['Init'] === null) spec.init = defaults.isInit;
  if (defaults.isNoNewPrivileges) spec.security.noNewPrivileges ??= true;
  if (defaults.seccomp !== undefined && spec.security.privileged !== true) spec.security.seccomp ??= defaults.seccomp;
  const { servers = [], search = [], options = [] } = spec.dns ?? {};
  spec.dns = {
    servers: servers.length > 0 ? servers : defaults.dns.servers,
    search: search.length > 0 ? search : defaults.dns.search,
    options: options.length > 0 ? options : defaults.dns.options,
  };
}
