/**
 * Validation of a container's environment, and of the fields and amounts of a Pod that variables and files show
 * (Kubernetes, "Downward API").
 */
import type {
  ConfigMapKeySelector,
  EnvFromSource,
  EnvVar,
  EnvVarSource,
  FileKeySelector,
  ObjectFieldSelector,
  ResourceFieldSelector,
} from '#api/core.v1.ts';
import type { Draft } from '#api/manifest.ts';
import { qualifiedNameProblems } from '#base/selectors.ts';
import type { FieldErrors } from './field-errors.ts';
import { configKeyProblem, labelProblem, subdomainProblem } from './name-forms.ts';
import { validateNoBacksteps } from './validate-values.ts';

const printable = /^[\x20-\x3c\x3e-\x7e]+$/;

function validateVariableName(name: string, at: string, errors: FieldErrors): void {
  if (!printable.test(name))
    errors.invalid(
      at,
      name,
      "a valid environment variable name must consist only of printable ASCII characters other than '='",
    );
}

export function validateEnv(variables: Draft<EnvVar>[] | undefined, at: string, errors: FieldErrors): void {
  (variables ?? []).forEach(({ name = '', value = '', valueFrom }, i) => {
    const path = `${at}[${i}]`;
    if (name === '') errors.required(`${path}.name`);
    else validateVariableName(name, `${path}.name`, errors);
    if (valueFrom) validateSource(valueFrom, value, `${path}.valueFrom`, errors);
  });
}

const sources = ['fieldRef', 'resourceFieldRef', 'configMapKeyRef', 'secretKeyRef', 'fileKeyRef'] as const;

function validateSource(source: Draft<EnvVarSource>, value: string, at: string, errors: FieldErrors): void {
  const count = sources.filter((name) => source[name]).length;
  if (source.fieldRef) validateFieldPath(source.fieldRef, `${at}.fieldRef`, environmentFields, errors);
  if (source.resourceFieldRef) validateResourceField(source.resourceFieldRef, `${at}.resourceFieldRef`, errors);
  for (const ref of ['configMapKeyRef', 'secretKeyRef'] as const)
    if (source[ref]) validateKey(source[ref], `${at}.${ref}`, errors);
  if (source.fileKeyRef) validateFileKey(source.fileKeyRef, `${at}.fileKeyRef`, errors);
  if (count === 0)
    errors.invalid(
      at,
      '',
      'must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`',
    );
  else if (value !== '') errors.invalid(at, '', 'may not be specified when `value` is not empty');
  else if (count > 1) errors.invalid(at, '', 'may not have more than one field specified at a time');
}

/** Of a ConfigMap or a Secret. */
function validateKey({ name = '', key = '' }: Draft<ConfigMapKeySelector>, at: string, errors: FieldErrors): void {
  if (subdomainProblem(name) !== '') errors.invalid(`${at}.name`, name, subdomainProblem(name));
  if (key === '') errors.required(`${at}.key`);
  else if (configKeyProblem(key) !== '') errors.invalid(`${at}.key`, key, configKeyProblem(key));
}

function validateFileKey(
  { key = '', volumeName = '', path = '' }: Draft<FileKeySelector>,
  at: string,
  errors: FieldErrors,
): void {
  if (key === '') errors.required(`${at}.key`);
  else validateVariableName(key, `${at}.key`, errors);
  if (volumeName === '') errors.required(`${at}.volumeName`);
  else if (labelProblem(volumeName) !== '') errors.invalid(`${at}.volumeName`, volumeName, labelProblem(volumeName));
  if (path === '') errors.required(`${at}.path`);
  else validateNoBacksteps(path, `${at}.path`, errors);
}

/** Upstream names the list where a source is none or two. */
export function validateEnvFrom(list: Draft<EnvFromSource>[] | undefined, at: string, errors: FieldErrors): void {
  (list ?? []).forEach((source, i) => {
    const path = `${at}[${i}]`;
    if (source.prefix) validateVariableName(source.prefix, `${path}.prefix`, errors);
    const given = (['configMapRef', 'secretRef'] as const).filter((ref) => source[ref]);
    for (const ref of given) {
      const name = source[ref]?.name ?? '';
      if (name === '') errors.required(`${path}.${ref}.name`);
      else {
        const problem = subdomainProblem(name.replace(/-$/, 'a'));
        if (problem !== '') errors.invalid(`${path}.${ref}.name`, name, problem);
      }
    }
    if (given.length === 0) errors.invalid(at, '', 'must specify one of: `configMapRef` or `secretRef`');
    else if (given.length > 1) errors.invalid(at, '', 'may not have more than one field specified at a time');
  });
}

const environmentFields = [
  'metadata.name',
  'metadata.namespace',
  'metadata.uid',
  'spec.nodeName',
  'spec.serviceAccountName',
  'status.hostIP',
  'status.hostIPs',
  'status.podIP',
  'status.podIPs',
];
/** What can be told of a Pod at all. */
const knownFields = new Set([
  ...environmentFields,
  ...['metadata.annotations', 'metadata.labels', 'spec.host', 'spec.restartPolicy', 'spec.schedulerName'],
  'status.phase',
]);
const listedForms: Readonly<Record<string, (name: string) => string>> = {
  'metadata.annotations': (name) => name.toLowerCase(),
  'metadata.labels': (name) => name,
};

/** `metadata.labels['a']` → its path and its key. */
function splitPath(text: string): [path: string, key: string] | undefined {
  const parts = text.endsWith("']") ? text.slice(0, -2).split("['") : [];
  const [path = '', ...rest] = parts;
  const key = rest.join("['");
  return parts.length < 2 || path === '' ? undefined : [path, key];
}

export function validateFieldPath(
  { apiVersion = '', fieldPath = '' }: Draft<ObjectFieldSelector>,
  at: string,
  allowed: readonly string[],
  errors: FieldErrors,
): void {
  if (apiVersion === '') errors.required(`${at}.apiVersion`);
  else if (fieldPath === '') errors.required(`${at}.fieldPath`);
  if (apiVersion === '' || fieldPath === '') return;
  const wrong = (text: string): void =>
    errors.invalid(`${at}.fieldPath`, fieldPath, `error converting fieldPath: ${text}`);
  if (apiVersion !== 'v1') {
    wrong(`unsupported pod version: ${apiVersion}`);
    return;
  }
  const keyed = splitPath(fieldPath);
  const form = keyed === undefined ? undefined : listedForms[keyed[0]];
  if (keyed !== undefined && form !== undefined) {
    for (const problem of qualifiedNameProblems(form(keyed[1]))) errors.invalid(at, form(keyed[1]), problem);
  } else if (keyed !== undefined) wrong(`field label does not support subscript: ${fieldPath}`);
  else if (!knownFields.has(fieldPath)) wrong(`field label not supported: ${fieldPath}`);
  else if (!allowed.includes(fieldPath)) errors.unsupported(`${at}.fieldPath`, fieldPath, allowed);
}

const containerResources = ['limits', 'requests'].flatMap((part) =>
  ['cpu', 'ephemeral-storage', 'memory'].map((name) => `${part}.${name}`),
);
const ofBytes = ['1', '1k', '1M', '1G', '1T', '1P', '1E', '1Ki', '1Mi', '1Gi', '1Ti', '1Pi', '1Ei'];
const divisors: readonly (readonly [form: RegExp, allowed: readonly string[], told: string])[] = [
  [/cpu$/, ['1m', '1'], '1m and 1 are supported with the cpu resource'],
  [/memory$/, ofBytes, `${ofBytes.join(', ')} are supported with the memory resource`],
  [/ephemeral-storage$/, ofBytes, `${ofBytes.join(', ')} are supported with the local ephemeral storage resource`],
  [/\.hugepages-/, ofBytes, `${ofBytes.join(', ')} are supported with the hugepages resource`],
];

/** An amount of a container's, in units of the divisor. In a volume the container must be named. */
export function validateResourceField(
  { resource = '', divisor = '0', containerName = '' }: Draft<ResourceFieldSelector>,
  at: string,
  errors: FieldErrors,
  inVolume = false,
): void {
  if (inVolume && containerName === '') errors.required(`${at}.containerName`);
  else if (resource === '') errors.required(`${at}.resource`);
  else if (!containerResources.includes(resource) && !/^(limits|requests)\.hugepages-/.test(resource))
    errors.unsupported(`${at}.resource`, resource, containerResources);
  const rule = divisors.find(([form]) => form.test(resource));
  if (rule !== undefined && divisor !== '0' && !rule[1].includes(divisor))
    errors.invalid(`${at}.divisor`, resource, `only divisor's values ${rule[2]}`);
}
