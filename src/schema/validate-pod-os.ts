/**
 * What a Pod's `os` rules out: Windows options on Linux, and on Windows every field that only Linux has.
 * Source: Kubernetes API reference, PodSpec `os`, which lists the fields.
 */
import type { PodSpec } from '#api/core.v1.ts';
import type { Draft } from '#api/manifest.ts';
import type { FieldErrors } from './field-errors.ts';

const linuxOnlyOfPod = ['hostUsers', 'hostPID', 'hostIPC', 'shareProcessNamespace'] as const;
const linuxOnlyOfPodSecurity = [
  'appArmorProfile',
  'seLinuxOptions',
  'seccompProfile',
  'fsGroup',
  'fsGroupChangePolicy',
  'sysctls',
  'runAsUser',
  'runAsGroup',
  'supplementalGroups',
  'supplementalGroupsPolicy',
  'seLinuxChangePolicy',
] as const;
const linuxOnlyOfContainerSecurity = [
  'appArmorProfile',
  'seLinuxOptions',
  'seccompProfile',
  'capabilities',
  'readOnlyRootFilesystem',
  'privileged',
  'allowPrivilegeEscalation',
  'procMount',
  'runAsUser',
  'runAsGroup',
] as const;

/** `at` is the path of the spec. Nothing more is checked when `os` is absent or names no system that there is. */
export function validatePodOs(spec: Draft<PodSpec>, at: string, errors: FieldErrors): void {
  const os: unknown = spec.os?.name;
  if (spec.os && !os) errors.required(`${at}.os.name`);
  else if (spec.os && os !== 'linux' && os !== 'windows') errors.unsupported(`${at}.os`, os, ['linux', 'windows']);
  if (os !== 'linux' && os !== 'windows') return;
  const refuse = <K extends string>(
    owner: { [F in K]?: unknown } | undefined,
    fields: readonly K[],
    path: string,
  ): void => {
    for (const field of fields) {
      const value: unknown = owner?.[field];
      if (value === undefined || value === null) continue;
      // false is what an absent one means: Go's zero.
      if (value === false && (field === 'hostPID' || field === 'hostIPC')) continue;
      errors.forbidden(
        `${path}.${field}`,
        os === 'linux' ? 'windows options cannot be set for a linux pod' : 'cannot be set for a windows pod',
      );
    }
  };
  if (os === 'windows') refuse(spec, linuxOnlyOfPod, at);
  const ofPod = os === 'linux' ? (['windowsOptions'] as const) : linuxOnlyOfPodSecurity;
  const ofContainer = os === 'linux' ? (['windowsOptions'] as const) : linuxOnlyOfContainerSecurity;
  refuse(spec.securityContext, ofPod, `${at}.securityContext`);
  for (const list of ['initContainers', 'containers', 'ephemeralContainers'] as const)
    (spec[list] ?? []).forEach((container, i) => {
      refuse(container.securityContext, ofContainer, `${at}.${list}[${i}].securityContext`);
    });
}
