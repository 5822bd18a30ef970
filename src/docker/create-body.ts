/**
 * Bodies of the Engine API as their checked shapes have them (shapes.ts): every field may be missing or null, and what
 * is not named here may be anything.
 */

/** What a client may leave out, or send as null. */
export type Given<T> = { [K in keyof T]?: T[K] | null };

export type MountBody = Given<{
  Type: string;
  Source: string;
  Target: string;
  ReadOnly: boolean;
  BindOptions: Given<{
    Propagation: 'private' | 'rprivate' | 'shared' | 'rshared' | 'slave' | 'rslave';
    NonRecursive: boolean;
    CreateMountpoint: boolean;
    ReadOnlyNonRecursive: boolean;
    ReadOnlyForceRecursive: boolean;
  }>;
  VolumeOptions: VolumeOptionsBody;
  TmpfsOptions: Given<{ SizeBytes: number; Mode: number; Options: string[][] }>;
  ImageOptions: Given<{ Subpath: string }>;
}>;

export type VolumeOptionsBody = Given<{
  NoCopy: boolean;
  Labels: Record<string, string>;
  Subpath: string;
  DriverConfig: Given<{ Name: string; Options: Record<string, string> }>;
}>;

export type EndpointBody = Given<{
  IPAMConfig: Given<{ IPv4Address: string; IPv6Address: string; LinkLocalIPs: string[] }>;
  GwPriority: number;
  Aliases: string[];
  Links: string[];
  MacAddress: string;
  DriverOpts: Record<string, string>;
}>;

export interface HostConfigBody extends Given<{
  Binds: string[];
  Mounts: MountBody[];
  Tmpfs: Record<string, string>;
  VolumeDriver: string;
  GroupAdd: string[];
  PidMode: string;
  IpcMode: string;
  Sysctls: Record<string, string>;
  CgroupParent: string;
  LogConfig: Given<{ Type: string; Config: Record<string, string> }>;
  RestartPolicy: Given<{ Name: string; MaximumRetryCount: number }>;
  AutoRemove: boolean;
  Init: boolean;
  ShmSize: number;
  Umask: number;
  Dns: string[];
  DnsSearch: string[];
  DnsOptions: string[];
  ExtraHosts: string[];
  Links: string[];
  Annotations: Record<string, string>;
  ConsoleSize: number[];
  StorageOpt: Record<string, string>;
  NetworkMode: string;
  PortBindings: Record<string, Given<{ HostIp: string; HostPort: string }>[] | null>;
  PublishAllPorts: boolean;
  DeviceRequests: Given<{
    Driver: string;
    Count: number;
    DeviceIDs: string[];
    Capabilities: string[][];
    Options: Record<string, string>;
  }>[];
  Devices: Given<{ PathOnHost: string; PathInContainer: string; CgroupPermissions: string }>[];
  DeviceCgroupRules: string[];
  CapAdd: string[];
  CapDrop: string[];
  SecurityOpt: string[];
  MaskedPaths: string[];
  ReadonlyPaths: string[];
  Ulimits: Given<{ Name: string; Soft: number; Hard: number }>[];
}> {
  [key: string]: unknown;
}

export interface CreateBody extends Given<{
  Image: string;
  Hostname: string;
  Domainname: string;
  User: string;
  WorkingDir: string;
  StopSignal: string;
  StopTimeout: number;
  MacAddress: string;
  Tty: boolean;
  OpenStdin: boolean;
  StdinOnce: boolean;
  NetworkDisabled: boolean;
  Cmd: string | string[];
  Entrypoint: string | string[];
  Env: string[];
  Labels: Record<string, string>;
  ExposedPorts: Record<string, unknown>;
  Volumes: Record<string, unknown>;
  Healthcheck: object;
  HostConfig: HostConfigBody;
  NetworkingConfig: Given<{ EndpointsConfig: Record<string, EndpointBody | null> }>;
}> {
  [key: string]: unknown;
}

export type ExecBody = Given<{
  Cmd: string | string[];
  AttachStdin: boolean;
  AttachStdout: boolean;
  AttachStderr: boolean;
  DetachKeys: string;
  ConsoleSize: number[];
  Env: string[];
  User: string;
  WorkingDir: string;
  Tty: boolean;
  Privileged: boolean;
  Detach: boolean;
}>;

export type NetworkBody = Given<{
  Name: string;
  Driver: string;
  Scope: string;
  Internal: boolean;
  Attachable: boolean;
  Ingress: boolean;
  EnableIPv4: boolean;
  EnableIPv6: boolean;
  ConfigOnly: boolean;
  ConfigFrom: Given<{ Network: string }>;
  Options: Record<string, string>;
  Labels: Record<string, string>;
  IPAM: Given<{
    Driver: string;
    Options: Record<string, string>;
    Config: Given<{ Subnet: string; IPRange: string; Gateway: string; AuxiliaryAddresses: Record<string, string> }>[];
  }>;
}>;

export type ConnectBody = Given<{ Container: string; EndpointConfig: EndpointBody; Force: boolean }>;

export type VolumeBody = Given<{
  Name: string;
  Driver: string;
  DriverOpts: Record<string, string>;
  Labels: Record<string, string>;
  ClusterVolumeSpec: object;
}>;
