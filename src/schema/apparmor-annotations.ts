/** AppArmor profiles as annotations of a Pod, which fields have replaced: validated, made fields of, warned of. */
import type { AppArmorProfile, Container, Pod, PodSpec } from '#api/core.v1.ts';
import type { Draft } from '#api/manifest.ts';
import type { FieldErrors } from './field-errors.ts';
import { sameJson } from './validate-values.ts';

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

/** The field that says what an annotation says, where it can. */
function fieldOf(annotation: string): AppArmorProfile | undefined {
  if (annotation === 'unconfined') return { type: 'Unconfined' };
  if (annotation === 'runtime/default') return { type: 'RuntimeDefault' };
  const path = annotation.startsWith('localhost/') ? annotation.slice('localhost/'.length) : '';
  return path === '' ? undefined : { type: 'Localhost', localhostProfile: path };
}

const warning = (at: string, key: string): string =>
  `${at}[${key}]: deprecated since v1.30; use the "appArmorProfile" field instead`;

const lists = ['initContainers', 'containers', 'ephemeralContainers'] as const;

/** Of a new Pod: what annotations say becomes fields, and is warned of. */
export function syncProfiles(pod: Draft<Pod>, warn: (text: string) => void): void {
  const spec = pod.spec ?? {};
  if (spec.os?.name === 'windows') return;
  for (const container of lists.flatMap((list): Draft<Container>[] => spec[list] ?? [])) {
    const key = `${prefix}${container.name}`;
    const annotation = pod.metadata?.annotations?.[key];
    if (annotation === undefined || container.securityContext?.appArmorProfile) continue;
    const field = fieldOf(annotation);
    const isPods = field !== undefined && sameJson(field, spec.securityContext?.appArmorProfile);
    if (field !== undefined && !isPods) (container.securityContext ??= {}).appArmorProfile = field;
    if (!isPods) warn(warning('metadata.annotations', key));
  }
}

/** What an annotation and the field say of one container is the same. */
export function matchProfiles(
  annotations: Record<string, string> | undefined,
  spec: Draft<PodSpec>,
  at: string,
  errors: FieldErrors,
): void {
  if (spec.os?.name === 'windows') return;
  for (const list of lists)
    (spec[list] ?? []).forEach(({ name, securityContext }, i) => {
      const field = securityContext?.appArmorProfile;
      const annotation = annotations?.[`${prefix}${name}`];
      if (
        !field ||
        annotation === undefined ||
        !['Localhost', 'RuntimeDefault', 'Unconfined'].includes(field.type ?? '')
      )
        return;
      const path = `${at}.${list}[${i}].securityContext.appArmorProfile`;
      const said = annotation.startsWith('localhost/') ? 'Localhost' : fieldOf(annotation)?.type;
      if (said !== field.type) errors.forbidden(`${path}.type`, 'apparmor type in annotation and field must match');
      else if (said === 'Localhost' && annotation !== `localhost/${field.localhostProfile}`)
        errors.forbidden(`${path}.localhostProfile`, 'apparmor profile in annotation and field must match');
    });
}

/** Of a template: its Pods get the fields. */
export function warnOfProfileAnnotations(
  annotations: Record<string, string> | undefined,
  spec: Draft<PodSpec>,
  at: string,
  warn: (text: string) => void,
): void {
  for (const container of lists.flatMap((list): Draft<Container>[] => spec[list] ?? [])) {
    const key = `${prefix}${container.name}`;
    const annotation = annotations?.[key];
    if (annotation === undefined || container.securityContext?.appArmorProfile) continue;
    const ofPod = spec.securityContext?.appArmorProfile;
    if (!ofPod || !sameJson(ofPod, fieldOf(annotation))) warn(warning(at, key));
  }
}
