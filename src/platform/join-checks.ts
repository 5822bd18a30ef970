/**
 * What may stand in the way of joining, found before anything is made, and said with its remedy. Pure: each answers a
 * sentence, or undefined where all is well.
 */
import { formatSubnet, overlaps, subnetOf, type Subnet } from '#base/ip.ts';
import type { ClusterConfig } from './cluster-config.ts';
import { newestFormat } from './instance.ts';
import { clockSkewMsMax, kubeletMinorsBehindMax } from './limits.ts';

/** Certificates and tokens hold between two times: a clock that is off takes them for over, or not begun. */
export function clockProblem(ownMs: number, serverMs: number): string | undefined {
  const offMs = ownMs - serverMs;
  if (Number.isNaN(offMs) || Math.abs(offMs) <= clockSkewMsMax) return undefined;
  const minutes = Math.round(Math.abs(offMs) / 60_000);
  const how = offMs < 0 ? 'behind' : 'ahead of';
  return `the clock of this machine is ${minutes} min ${how} the server's: set it on the one that is wrong (timedatectl set-ntp true), then join again`;
}

const versionPattern = /^v(\d+)\.(\d+)\./;

/** Kubernetes' version skew policy: a kubelet is no newer than the API server, and three minors older at most. */
export function versionProblem(own: string, server: string): string | undefined {
  const [, ownMajor, ownMinor] = (versionPattern.exec(own) ?? []).map(Number);
  const [, major, minor] = (versionPattern.exec(server) ?? []).map(Number);
  if (ownMajor === undefined || ownMinor === undefined || major === undefined || minor === undefined)
    return `the server says that it is ${server}, which is no version of Kubernetes`;
  const behind = minor - ownMinor;
  if (ownMajor === major && behind >= 0 && behind <= kubeletMinorsBehindMax) return undefined;
  return behind < 0 || ownMajor > major
    ? `this machine is newer (${own}) than the server (${server}): upgrade the server first, or join with its version of Tiphys`
    : `this machine is too old (${own}) for the server (${server}): join with a version of Tiphys at most ${kubeletMinorsBehindMax} minor versions older than the server's`;
}

/** What a cluster writes that has ended the way back to older programs. */
export function formatProblem({
  level,
  tiphysVersion,
}: Pick<ClusterConfig, 'level' | 'tiphysVersion'>): string | undefined {
  if (level <= newestFormat) return undefined;
  return `the cluster writes format ${level}, and this program knows ${newestFormat}: join with the server's version of Tiphys (${tiphysVersion})`;
}

/** A range in which two things live leads packets to the wrong one. */
export function rangeProblem(
  cluster: Pick<ClusterConfig, 'podRange' | 'serviceRange'>,
  used: readonly Subnet[],
): string | undefined {
  for (const [what, text, option] of [
    ['Pod range', cluster.podRange, '--pod-range'],
    ['Service range', cluster.serviceRange, '--service-range'],
  ] as const) {
    const clash = used.find((subnet) => overlaps(subnet, subnetOf(text)));
    if (clash !== undefined)
      return `the cluster's ${what} ${text} overlaps ${formatSubnet(clash)}, which this machine uses (ip address; ip route): take that away here, or make the cluster with another range (tiphys up ${option} on the server)`;
  }
  return undefined;
}
