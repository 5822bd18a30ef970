/** What the configuration means to the façade, the images and the networks. */
import { readFileSync } from 'node:fs';
import { ApiError } from '#base/errors.ts';
import { messageOf } from '#base/thrown.ts';
import { defaultSettings, type DaemonSettings } from '#docker/settings.ts';
import type { NetworkSettings } from '#engine/network-settings.ts';
import { usualCdiDirectories } from '#engine/cdi-devices.ts';
import { labelsOf, type DaemonConfig } from './config.ts';

const defaultTransfers = { downloads: 3, uploads: 5, attempts: 5 };

/** The configuration of a running engine; a reload puts another in its place. */
export interface Live {
  config: DaemonConfig;
  settings: DaemonSettings;
}

interface Transfers {
  downloads: number;
  uploads: number;
  attempts: number;
}

export function settingsOf(config: DaemonConfig, warnings: string[]): DaemonSettings {
  const seccomp = seccompOf(config.text('seccomp-profile'));
  return {
    labels: labelsOf(config),
    isDebug: config.bool('debug'),
    isExperimental: config.bool('experimental'),
    isLiveRestore: config.bool('live-restore'),
    mirrors: config.list('registry-mirrors'),
    insecureRegistries: config.list('insecure-registries'),
    proxies: { http: config.text('http-proxy'), https: config.text('https-proxy'), no: config.text('no-proxy') },
    builderVersion: config.flags('features')['buildkit'] === false ? '1' : defaultSettings.builderVersion,
    authorizationPlugins: [...new Set(config.list('authorization-plugins'))],
    warnings,
    containers: {
      log: { driver: config.text('log-driver'), options: config.map('log-opts') },
      ulimits: config.ulimits,
      shmSizeBytes: config.number('default-shm-size'),
      ipcMode: config.text('default-ipc-mode'),
      cgroupNamespace: config.text('default-cgroupns-mode'),
      cgroupParent: config.text('cgroup-parent'),
      isNoNewPrivileges: config.bool('no-new-privileges'),
      isInit: config.bool('init'),
      runtime: config.text('default-runtime') || 'runc',
      dns: { servers: config.list('dns'), search: config.list('dns-search'), options: config.list('dns-opts') },
      ...(seccomp === undefined ? {} : { seccomp }),
    },
  };
}

/** None where CDI is turned off. */
export function cdiDirectoriesOf(config: DaemonConfig): readonly string[] {
  if (config.flags('features')['cdi'] === false) return [];
  const said = config.list('cdi-spec-dirs');
  return said.length === 0 ? usualCdiDirectories : said.filter((directory) => directory !== '');
}

function seccompOf(profile: string): string | undefined {
  if (profile === '' || profile === 'builtin' || profile === 'default') return undefined;
  if (profile === 'unconfined') return profile;
  try {
    return readFileSync(profile, 'utf8');
  } catch (error) {
    throw new ApiError('BadRequest', `opening seccomp profile (${profile}) failed: ${messageOf(error)}`);
  }
}

/** 0 in the file is dockerd's default. */
export function transfersOf(config: DaemonConfig): Transfers {
  return {
    downloads: config.number('max-concurrent-downloads') || defaultTransfers.downloads,
    uploads: config.number('max-concurrent-uploads') || defaultTransfers.uploads,
    attempts: config.number('max-download-attempts') || defaultTransfers.attempts,
  };
}

const driver = 'com.docker.network.bridge.';

export function networkSettingsOf(config: DaemonConfig): NetworkSettings {
  const hostGateways = config.list('host-gateway-ips');
  const link = config.text('bridge');
  const given = (key: string, option: string): object =>
    config.text(option) === '' ? {} : { [key]: config.text(option) };
  const ipv6 = config.bool('ipv6')
    ? {
        ipv6: {
          ...given('address', 'bip6'),
          ...given('range', 'fixed-cidr-v6'),
          ...given('gateway', 'default-gateway-v6'),
        },
      }
    : {};
  const pools = config.pools.map(({ base, size }) => ({ base, length: size }));
  const networkOptions = config.maps('default-network-opts')['bridge'];
  return {
    ...(pools.length === 0 ? {} : { pools }),
    ...(networkOptions === undefined ? {} : { networkOptions }),
    ...(hostGateways.length === 0 ? {} : { hostGateways }),
    ...(config.bool('userland-proxy') ? {} : { relay: false }),
    ...(config.bool('iptables') ? {} : { rules: false }),
    bridge: {
      ...ipv6,
      ...given('address', 'bip'),
      ...given('range', 'fixed-cidr'),
      ...given('gateway', 'default-gateway'),
      ...(link === 'none' ? { isNone: true } : given('link', 'bridge')),
      options: {
        [`${driver}enable_icc`]: String(config.bool('icc')),
        [`${driver}enable_ip_masquerade`]: String(config.bool('ip-masq')),
        [`${driver}host_binding_ipv4`]: config.text('ip'),
        'com.docker.network.driver.mtu': String(config.number('mtu') || 1500),
      },
    },
  };
}
