/**
 * Validation of variables that come out of files of a Pod's volumes (`fileKeyRef`).
 * Source: Kubernetes API reference, "FileKeySelector"; k8s.io/kubernetes 1.37, pkg/apis/core/validation.
 */
import type { FileKeySelector, PodSpec } from '#api/core.v1.ts';
import type { Draft } from '#api/manifest.ts';
import type { FieldErrors } from './field-errors.ts';
import { labelProblem } from './name-forms.ts';
import { validateNoBacksteps } from './validate-values.ts';

const printable = /^[\x20-\x3c\x3e-\x7e]+$/;

export function validateEnvFiles(spec: Draft<PodSpec>, at: string, errors: FieldErrors): void {
  for (const list of ['containers', 'initContainers'] as const)
    (spec[list] ?? []).forEach((container, i) =>
      (container.env ?? []).forEach(({ valueFrom }, j) => {
        const path = `${at}.${list}[${i}].env[${j}].valueFrom.fileKeyRef`;
        if (!valueFrom?.fileKeyRef) return;
        validateSelector(valueFrom.fileKeyRef, path, errors);
        validateVolumeOf(valueFrom.fileKeyRef, spec, path, errors);
      }),
    );
}

function validateSelector(
  { key = '', volumeName = '', path = '' }: Draft<FileKeySelector>,
  at: string,
  errors: FieldErrors,
): void {
  if (key === '') errors.required(`${at}.key`);
  else if (!printable.test(key))
    errors.invalid(
      `${at}.key`,
      key,
      "a valid environment variable name must consist only of printable ASCII characters other than '='",
    );
  if (volumeName === '') errors.required(`${at}.volumeName`);
  else if (labelProblem(volumeName) !== '') errors.invalid(`${at}.volumeName`, volumeName, labelProblem(volumeName));
  if (path === '') errors.required(`${at}.path`);
  else validateNoBacksteps(path, `${at}.path`, errors);
}

/** What a container writes for another is in an emptyDir. */
function validateVolumeOf(
  { volumeName = '' }: Draft<FileKeySelector>,
  { volumes }: Draft<PodSpec>,
  at: string,
  errors: FieldErrors,
): void {
  const volume = (volumes ?? []).find(({ name }) => name === volumeName);
  if (volume === undefined) errors.notFound(`${at}.volumeName`, volumeName);
  else if (!volume.emptyDir)
    errors.invalid(`${at}.volumeName`, volumeName, 'referenced volume must be of type emptyDir');
}
