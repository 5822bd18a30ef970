/** AppArmor profiles as annotations of a Pod, which fields have replaced: still validated, and warned of. */
import type { Pod, PodSpec } from '#api/core.v1.ts';
import type { Draft } from '#api/manifest.ts';
import type { FieldErrors } from './field-errors.ts';

const prefix = 'container.apparmor.security.beta.kubernetes.io/';
const isProfile = (text: string): boolean =>
  text === '' || text === 'runtime/default' || text === 'unconfined' || text.startsWith('localhost/');

export function validateProfileAnnotations(
  annotations: Record<string, string> | undefined,
  spec: Draft<PodSpec>,
  at: string,
  errors: FieldErrors,
): void {
  const containers = [...(spec.containers ?? []), ...(spec.initContainers ?? []), ...(spec.ephemeralContainers ?? [])];
  for (const [key, profile] of Object.entries(annotations ?? {})) {
    if (!key.startsWith(prefix)) continue;
    const name = key.slice(prefix.length);
    if (!containers.some((container) => container.name === name))
      errors.invalid(`${at}[${key}]`, name, 'container not found');
    if (!isProfile(profile))
      errors.invalid(`${at}[${key}]`, profile, `invalid AppArmor profile name: ${JSON.stringify(profile)}`);
  }
}

/** They may not change once the Pod is there. */
export function keepProfileAnnotations({ metadata }: Draft<Pod>, old: Pod, errors: FieldErrors): void {
  const [now, before] = [metadata?.annotations ?? {}, old.metadata.annotations ?? {}];
  for (const key of new Set([...Object.keys(now), ...Object.keys(before)])) {
    if (!key.startsWith(prefix) || now[key] === before[key]) continue;
    const text =
      now[key] === undefined
        ? 'may not remove AppArmor annotations'
        : before[key] === undefined
          ? 'may not add AppArmor annotations'
          : 'may not update AppArmor annotations';
    errors.forbidden(`metadata.annotations[${key}]`, text);
  }
}

export function warnOfProfileAnnotations(
  annotations: Record<string, string> | undefined,
  at: string,
  warn: (text: string) => void,
): void {
  for (const key of Object.keys(annotations ?? {}))
    if (key.startsWith(prefix)) warn(`${at}[${key}]: deprecated since v1.30; use the "appArmorProfile" field instead`);
}
