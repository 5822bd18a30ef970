/**
 * What `/configz` shows: the configuration of this kubelet in the fields of KubeletConfiguration
 * (`kubelet.config.k8s.io/v1beta1`). A field that stands for nothing here is absent.
 */
import type { DnsSettings } from './doors.ts';
import type { NodeFacts } from './node-status.ts';
import * as limits from './limits.ts';

export interface Configured {
  facts: Pick<NodeFacts, 'kubeletPort' | 'hostIp' | 'kubeletIp' | 'capacity' | 'podCidr' | 'taints'>;
  dns: Pick<DnsSettings, 'clusterDns' | 'clusterDomain'>;
  cgroupRoot: string;
  leaseSeconds?: number | undefined;
}

/** As Go prints durations: `10s`, `5m0s`, `1h0m0s`. */
function durationOf(ms: number): string {
  const seconds = ms / 1000;
  const [hours, minutes] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60];
  const rest = `${seconds % 60}s`;
  if (hours > 0) return `${hours}h${minutes}m${rest}`;
  return minutes > 0 ? `${minutes}m${rest}` : rest;
}

const mebi = 2 ** 20;

export function kubeletConfiguration({ facts, dns, cgroupRoot, leaseSeconds }: Configured): object {
  return {
    enableServer: true,
    address: facts.kubeletIp ?? facts.hostIp,
    port: facts.kubeletPort,
    rotateCertificates: true,
    serverTLSBootstrap: true,
    authentication: {
      x509: {},
      webhook: { enabled: true, cacheTTL: durationOf(limits.tokenKnownMs) },
      anonymous: { enabled: false },
    },
    authorization: {
      mode: 'Webhook',
      webhook: {
        cacheAuthorizedTTL: durationOf(limits.accessAllowedMs),
        cacheUnauthorizedTTL: durationOf(limits.accessRefusedMs),
      },
    },
    enableDebuggingHandlers: true,
    clusterDomain: dns.clusterDomain,
    clusterDNS: [dns.clusterDns],
    nodeStatusReportFrequency: durationOf(limits.nodeStatusIntervalMs),
    nodeLeaseDurationSeconds: leaseSeconds ?? limits.leaseSecondsDefault,
    imageGCHighThresholdPercent: limits.imageGcHighPercent,
    imageGCLowThresholdPercent: limits.imageGcLowPercent,
    volumeStatsAggPeriod: durationOf(limits.storageAgeMsMax),
    cgroupRoot,
    cgroupsPerQOS: true,
    cgroupDriver: 'cgroupfs',
    cpuManagerPolicy: 'none',
    memoryManagerPolicy: 'None',
    topologyManagerPolicy: 'none',
    maxPods: Number(facts.capacity['pods']),
    podCIDR: facts.podCidr,
    podPidsLimit: -1,
    cpuCFSQuota: true,
    serializeImagePulls: false,
    evictionHard: {
      'memory.available': `${limits.memoryAvailableBytesMin / mebi}Mi`,
      'nodefs.available': `${limits.nodefsAvailablePercentMin}%`,
      'nodefs.inodesFree': `${limits.nodefsInodesFreePercentMin}%`,
      'imagefs.available': `${limits.imagefsAvailablePercentMin}%`,
      'imagefs.inodesFree': `${limits.imagefsInodesFreePercentMin}%`,
      'pid.available': `${limits.pidsAvailablePercentMin}%`,
    },
    evictionPressureTransitionPeriod: durationOf(limits.pressureTransitionMs),
    failSwapOn: false,
    containerLogMaxSize: `${limits.logFileBytesMax / mebi}Mi`,
    containerLogMaxFiles: limits.logFilesMax,
    configMapAndSecretChangeDetectionStrategy: 'Watch',
    enforceNodeAllocatable: [],
    ...(facts.taints === undefined ? {} : { registerWithTaints: facts.taints }),
    registerNode: true,
    localStorageCapacityIsolation: true,
    containerRuntimeEndpoint: '',
  };
}
