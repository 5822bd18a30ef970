/** Validation of where a container sees its Pod's volumes: mounted as directories, or as block devices. */
import type { Container, PodSpec, Volume, VolumeDevice, VolumeMount } from '#api/core.v1.ts';
import type { Draft } from '#api/manifest.ts';
import type { FieldErrors } from './field-errors.ts';

export type VolumesByName = ReadonlyMap<string, Draft<Volume>>;

/** What a container's validation knows of its Pod: the spec, its volumes that are right, the names of its claims. */
export interface PodScope {
  spec: Draft<PodSpec>;
  volumes: VolumesByName;
  claims: ReadonlySet<string>;
}

function validateSubPath(path: string, at: string, errors: FieldErrors): void {
  if (path.startsWith('/')) errors.invalid(at, path, 'must be a relative path');
  if (path.split('/').includes('..')) errors.invalid(at, path, "must not contain '..'");
}

/** Upstream names sub-paths and how a mount propagates without the mount's place in the list. */
export function validateMounts(
  container: Draft<Container>,
  at: string,
  volumes: VolumesByName,
  errors: FieldErrors,
): void {
  const devices = container.volumeDevices ?? [];
  const seen = new Set<string>();
  (container.volumeMounts ?? []).forEach((mount, i) => {
    const path = `${at}[${i}]`;
    const { name = '', mountPath = '', subPath = '', subPathExpr = '' } = mount;
    if (name === '') errors.required(`${path}.name`);
    if (!volumes.has(name)) errors.notFound(`${path}.name`, name);
    if (mountPath === '') errors.required(`${path}.mountPath`);
    if (seen.has(mountPath)) errors.invalid(`${path}.mountPath`, mountPath, 'must be unique');
    seen.add(mountPath);
    if (devices.some((device) => (device.name ?? '') === name))
      errors.invalid(`${path}.name`, name, 'must not already exist in volumeDevices');
    if (devices.some((device) => (device.devicePath ?? '') === mountPath))
      errors.invalid(`${path}.mountPath`, mountPath, 'must not already exist as a path in volumeDevices');
    if (subPath !== '') validateSubPath(subPath, `${at}.subPath`, errors);
    if (subPathExpr !== '') {
      if (subPath !== '')
        errors.invalid(`${path}.subPathExpr`, subPathExpr, 'subPathExpr and subPath are mutually exclusive');
      validateSubPath(subPathExpr, `${at}.subPathExpr`, errors);
    }
    validatePropagation(mount, container, at, errors);
  });
}

function validatePropagation(
  mount: Draft<VolumeMount>,
  { securityContext }: Draft<Container>,
  at: string,
  errors: FieldErrors,
): void {
  const { mountPropagation: propagation, recursiveReadOnly: recursive, readOnly } = mount;
  const forms = ['Bidirectional', 'HostToContainer', 'None'];
  if (typeof propagation === 'string' && !forms.includes(propagation))
    errors.unsupported(`${at}.mountPropagation`, propagation, forms);
  if (propagation === 'Bidirectional' && securityContext?.privileged !== true)
    errors.forbidden(
      `${at}.mountPropagation`,
      'Bidirectional mount propagation is available only to privileged containers',
    );
  if (recursive === undefined || recursive === 'Disabled') return;
  if (recursive !== 'Enabled' && recursive !== 'IfPossible') {
    errors.unsupported(`${at}.recursiveReadOnly`, recursive, ['Disabled', 'Enabled', 'IfPossible']);
    return;
  }
  if (readOnly !== true) errors.forbidden(`${at}.recursiveReadOnly`, 'may only be specified when readOnly is true');
  if (propagation !== undefined && propagation !== 'None')
    errors.forbidden(`${at}.recursiveReadOnly`, 'may only be specified when mountPropagation is None or not specified');
}

export function validateDevices(
  { volumeDevices, volumeMounts }: Draft<Container>,
  at: string,
  volumes: VolumesByName,
  errors: FieldErrors,
): void {
  const mounts = volumeMounts ?? [];
  const [paths, names] = [new Set<string>(), new Set<string>()];
  (volumeDevices ?? []).forEach(({ name = '', devicePath = '' }: Draft<VolumeDevice>, i) => {
    const path = `${at}[${i}]`;
    const volume = volumes.get(name);
    if (name === '') errors.required(`${path}.name`);
    if (names.has(name)) errors.invalid(`${path}.name`, name, 'must be unique');
    if (volume !== undefined && !volume.persistentVolumeClaim && !volume.ephemeral)
      errors.invalid(
        `${path}.name`,
        name,
        'can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode',
      );
    if (volume === undefined) errors.notFound(`${path}.name`, name);
    if (devicePath === '') errors.required(`${path}.devicePath`);
    if (paths.has(devicePath)) errors.invalid(`${path}.devicePath`, devicePath, 'must be unique');
    if (devicePath.split('/').includes('..'))
      errors.invalid(`${path}.devicePath`, devicePath, "can not contain backsteps ('..')");
    else paths.add(devicePath);
    if (mounts.some((mount) => (mount.name ?? '') === name))
      errors.invalid(`${path}.name`, name, 'must not already exist in volumeMounts');
    if (mounts.some((mount) => (mount.mountPath ?? '') === devicePath))
      errors.invalid(`${path}.devicePath`, devicePath, 'must not already exist as a path in volumeMounts');
    if (name !== '') names.add(name);
  });
}
