/**
 * What volume sources demand of their fields, in volumes of Pods and in PersistentVolumes alike. Those of drivers that
 * are long gone have rules too: objects may still name them.
 */
import { isObject, type JsonObject } from '#base/unknown.ts';
import type { FieldErrors } from './field-errors.ts';
import { labelProblem, subdomainProblem } from './name-forms.ts';
import { oneOf, validateNoBacksteps } from './validate-values.ts';

interface SourceRule {
  /** Fields that must not be empty. */
  required?: readonly string[];
  /** Integers, with their least and greatest value. */
  ranges?: Readonly<Record<string, readonly [number, number]>>;
  /** Whether a reference to a Secret must name its namespace too, where there is one. */
  secret?: 'name' | 'qualified';
  check?(source: JsonObject, at: string, errors: FieldErrors): void;
}

const partition = { partition: [0, 255] } as const;
const csiSecrets = [
  'controllerPublishSecretRef',
  'controllerExpandSecretRef',
  'nodePublishSecretRef',
  'nodeExpandSecretRef',
];

const rules: Readonly<Record<string, SourceRule>> = {
  awsElasticBlockStore: { required: ['volumeID'], ranges: partition },
  azureDisk: { required: ['diskName', 'diskURI'], check: checkAzureDisk },
  azureFile: { required: ['secretName', 'shareName'], check: checkAzureFile },
  cephfs: { required: ['monitors'] },
  cinder: { required: ['volumeID'], secret: 'name' },
  fc: { check: checkFibreChannel },
  flexVolume: { required: ['driver'], check: checkFlexOptions },
  flocker: { check: checkFlocker },
  gcePersistentDisk: { required: ['pdName'], ranges: partition },
  gitRepo: { required: ['repository'], check: checkGitRepo },
  glusterfs: { required: ['endpoints', 'path'] },
  hostPath: { required: ['path'], check: checkHostPath },
  iscsi: { required: ['targetPortal', 'iqn'], ranges: { lun: [0, 255] }, secret: 'name', check: checkIscsi },
  nfs: { required: ['server', 'path'], check: checkNfs },
  photonPersistentDisk: { required: ['pdID'] },
  portworxVolume: { required: ['volumeID'] },
  quobyte: { required: ['registry', 'volume'], check: checkQuobyte },
  rbd: { required: ['monitors', 'image'] },
  scaleIO: { required: ['gateway', 'system', 'volumeName'] },
  storageos: { secret: 'name', check: checkStorageOs },
  vsphereVolume: { required: ['volumePath'] },
};

const isEmpty = (value: unknown): boolean =>
  value === undefined || value === null || value === '' || (Array.isArray(value) && value.length === 0);
const textOf = (value: unknown): string => (typeof value === 'string' ? value : '');

/** A source of one of the drivers above; others have rules of their own. */
export function validateDriverSource(name: string, source: object, at: string, errors: FieldErrors): void {
  const rule = rules[name];
  if (rule === undefined || !isObject(source)) return;
  for (const field of rule.required ?? []) if (isEmpty(source[field])) errors.required(`${at}.${field}`);
  for (const [field, [least, most]] of Object.entries(rule.ranges ?? {})) {
    const value = source[field] ?? 0;
    if (typeof value === 'number' && (value < least || value > most))
      errors.invalid(`${at}.${field}`, value, `must be between ${least} and ${most}, inclusive`);
  }
  if (rule.secret !== undefined && isObject(source.secretRef) && isEmpty(source.secretRef.name))
    errors.required(`${at}.secretRef.name`);
  rule.check?.(source, at, errors);
}

const hostPathTypes = ['BlockDevice', 'CharDevice', 'Directory', 'DirectoryOrCreate', 'File', 'FileOrCreate', 'Socket'];

function checkHostPath({ path, type }: JsonObject, at: string, errors: FieldErrors): void {
  validateNoBacksteps(textOf(path), `${at}.path`, errors);
  oneOf(type, hostPathTypes, `${at}.type`, errors);
}

function checkNfs({ path }: JsonObject, at: string, errors: FieldErrors): void {
  if (!textOf(path).startsWith('/')) errors.invalid(`${at}.path`, textOf(path), 'must be an absolute path');
}

const iscsiForms: readonly (readonly [string, RegExp])[] = [
  ['iqn', /^iqn\.\d{4}-\d{2}\.([A-Za-z0-9-.]+)(:[^,;*&$|\s]+)$/],
  ['eui', /^eui\.[A-Za-z0-9]{16}$/],
  ['naa', /^naa\.[A-Za-z0-9]{32}$/],
];
const isIscsiName = (text: string): boolean =>
  iscsiForms.some(([prefix, form]) => text.startsWith(prefix) && form.test(text));

function checkIscsi(source: JsonObject, at: string, errors: FieldErrors): void {
  const { iqn, initiatorName, secretRef, chapAuthDiscovery, chapAuthSession } = source;
  if (!isEmpty(iqn) && !isIscsiName(textOf(iqn))) errors.invalid(`${at}.iqn`, iqn, 'must be valid format');
  if ((chapAuthDiscovery === true || chapAuthSession === true) && secretRef === undefined)
    errors.required(`${at}.secretRef`);
  if (initiatorName !== undefined && !isIscsiName(textOf(initiatorName)))
    errors.invalid(`${at}.initiatorname`, initiatorName, 'must be valid format');
}

function checkFibreChannel({ targetWWNs, wwids, lun }: JsonObject, at: string, errors: FieldErrors): void {
  if (isEmpty(targetWWNs) && isEmpty(wwids))
    errors.required(`${at}.targetWWNs`, 'must specify either targetWWNs or wwids, but not both');
  if (isEmpty(targetWWNs)) return;
  if (!isEmpty(wwids))
    errors.invalid(`${at}.targetWWNs`, targetWWNs, 'targetWWNs and wwids can not be specified simultaneously');
  if (lun === undefined) errors.required(`${at}.lun`, 'lun is required if targetWWNs is specified');
  else if (typeof lun === 'number' && (lun < 0 || lun > 255))
    errors.invalid(`${at}.lun`, lun, 'must be between 0 and 255, inclusive');
}

function checkFlexOptions({ options }: JsonObject, at: string, errors: FieldErrors): void {
  for (const key of Object.keys(isObject(options) ? options : {})) {
    const namespace = `.${(key.split('/')[0] ?? '').toLowerCase()}`;
    if (namespace.endsWith('.kubernetes.io') || namespace.endsWith('.k8s.io'))
      errors.invalid(`${at}.options[${key}]`, key, 'kubernetes.io and k8s.io namespaces are reserved');
  }
}

function checkFlocker({ datasetName, datasetUUID }: JsonObject, at: string, errors: FieldErrors): void {
  if (isEmpty(datasetName) && isEmpty(datasetUUID))
    errors.required(at, 'one of datasetName and datasetUUID is required');
  if (!isEmpty(datasetName) && !isEmpty(datasetUUID))
    errors.invalid(at, 'resource', 'datasetName and datasetUUID can not be specified simultaneously');
  if (textOf(datasetName).includes('/')) errors.invalid(`${at}.datasetName`, datasetName, "must not contain '/'");
}

function checkGitRepo({ directory }: JsonObject, at: string, errors: FieldErrors): void {
  const path = textOf(directory);
  if (path.startsWith('/')) errors.invalid(`${at}.directory`, path, 'must be a relative path');
  if (path.split('/').includes('..')) errors.invalid(`${at}.directory`, path, "must not contain '..'");
  else if (path.startsWith('..')) errors.invalid(`${at}.directory`, path, "must not start with '..'");
}

function checkQuobyte({ registry, tenant }: JsonObject, at: string, errors: FieldErrors): void {
  if (isEmpty(registry)) return;
  const form = 'must be a host:port pair or multiple pairs separated by commas';
  if (textOf(tenant).length >= 65)
    errors.required(`${at}.tenant`, 'must be a UUID and may not exceed a length of 64 characters');
  else
    for (const pair of textOf(registry).split(','))
      if (!/^(\[[^\]]*\]|[^:[\]]*):[^:[\]]*$/.test(pair)) errors.invalid(`${at}.registry`, registry, form);
}

function checkStorageOs(source: JsonObject, at: string, errors: FieldErrors): void {
  const [name, namespace] = [textOf(source.volumeName), textOf(source.volumeNamespace)];
  if (name === '') errors.required(`${at}.volumeName`);
  else if (labelProblem(name) !== '') errors.invalid(`${at}.volumeName`, name, labelProblem(name));
  if (namespace !== '' && labelProblem(namespace) !== '')
    errors.invalid(`${at}.volumeNamespace`, namespace, labelProblem(namespace));
}

function checkAzureFile({ secretNamespace }: JsonObject, at: string, errors: FieldErrors): void {
  if (secretNamespace === '') errors.required(`${at}.secretNamespace`);
}

const cachingModes = ['None', 'ReadOnly', 'ReadWrite'];
const diskKinds = ['Dedicated', 'Managed', 'Shared'];
const diskForms = {
  managed: '/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}',
  blob: 'https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd',
};

function checkAzureDisk({ cachingMode, kind, diskURI }: JsonObject, at: string, errors: FieldErrors): void {
  if (cachingMode !== undefined && !cachingModes.includes(textOf(cachingMode)))
    errors.unsupported(`${at}.cachingMode`, cachingMode, cachingModes);
  if (kind === undefined) return;
  if (!diskKinds.includes(textOf(kind))) errors.unsupported(`${at}.kind`, kind, diskKinds);
  const [start, form] = kind === 'Managed' ? ['/subscriptions/', diskForms.managed] : ['https://', diskForms.blob];
  if (!textOf(diskURI).startsWith(start)) errors.unsupported(`${at}.diskURI`, diskURI, [form]);
}

const csiDriverCharsMax = 63;

export function validateCsiDriverName(name: unknown, at: string, errors: FieldErrors): void {
  const text = textOf(name);
  if (text === '') {
    errors.required(at);
    return;
  }
  if (text.length > csiDriverCharsMax) errors.tooLong(at, csiDriverCharsMax);
  const problem = subdomainProblem(text.toLowerCase());
  if (problem !== '') errors.invalid(at, text, problem);
}

/** A PersistentVolume's CSI source; a Pod's has a driver and one Secret. */
export function validateCsiSource(source: object, at: string, errors: FieldErrors): void {
  if (!isObject(source)) return;
  validateCsiDriverName(source.driver, `${at}.driver`, errors);
  if (isEmpty(source.volumeHandle)) errors.required(`${at}.volumeHandle`);
  for (const field of csiSecrets) {
    const reference = source[field];
    if (!isObject(reference)) continue;
    for (const part of ['name', 'namespace'])
      if (isEmpty(reference[part])) errors.required(`${at}.${field}.${part}`);
      else {
        const text = textOf(reference[part]);
        const problem = part === 'name' ? subdomainProblem(text) : labelProblem(text);
        if (problem !== '') errors.invalid(`${at}.${field}.${part}`, text, problem);
      }
  }
}
