/** Validation of storage.k8s.io: classes, drivers, attachments (Kubernetes, "Storage API"). */
import type { TopologySelectorTerm } from '#api/core.v1.ts';
import type { Draft } from '#api/manifest.ts';
import type {
  CSIDriver,
  CSINode,
  CSINodeDriver,
  CSIStorageCapacity,
  StorageClass,
  VolumeAttachment,
  VolumeAttributesClass,
  VolumeError,
} from '#api/storage.v1.ts';
import { isQuantity, parseQuantity } from '#base/quantity.ts';
import { qualifiedNameProblems } from '#base/selectors.ts';
import type { FieldErrors } from './field-errors.ts';
import { subdomainProblem } from './name-forms.ts';
import { validateLabelSelector } from './validate-selector.ts';
import { oneOf, sameJson, unchanged } from './validate-values.ts';
import { validateVolumeSpec } from './validate-volume.ts';
import { validateCsiDriverName } from './volume-source-rules.ts';

const parametersBytesMax = 256 * 1024;
const parametersMax = 512;
const errorCharsMax = 1024;
const nodeIdCharsMax = 256;

function validateProvisioner(name: string | undefined, at: string, errors: FieldErrors): void {
  if (!name) errors.required(at);
  else for (const problem of qualifiedNameProblems(name.toLowerCase())) errors.invalid(at, name.toLowerCase(), problem);
}

function validateParameters(parameters: Record<string, string> | undefined, errors: FieldErrors): void {
  const entries = Object.entries(parameters ?? {});
  if (entries.length > parametersMax) {
    errors.tooLong('parameters', parametersMax);
    return;
  }
  for (const [key] of entries) if (key === '') errors.invalid('parameters', key, 'field can not be empty.');
  const bytes = entries.reduce((sum, [key, value]) => sum + key.length + String(value).length, 0);
  if (bytes > parametersBytesMax) errors.tooLong('parameters', parametersBytesMax);
}

export function validateStorageClass(o: Draft<StorageClass>, errors: FieldErrors, old?: StorageClass): void {
  validateProvisioner(o.provisioner, 'provisioner', errors);
  validateParameters(o.parameters, errors);
  oneOf(o.reclaimPolicy, ['Delete', 'Retain'], 'reclaimPolicy', errors);
  if (!['Immediate', 'WaitForFirstConsumer'].includes(o.volumeBindingMode ?? ''))
    errors.unsupported('volumeBindingMode', o.volumeBindingMode, ['Immediate', 'WaitForFirstConsumer']);
  validateTopologies(o.allowedTopologies, errors);
  if (old === undefined) return;
  for (const field of ['parameters', 'provisioner', 'reclaimPolicy', 'volumeBindingMode'] as const)
    unchanged(o[field], old[field], field, errors);
}

function validateTopologies(terms: Draft<TopologySelectorTerm>[] | undefined, errors: FieldErrors): void {
  (terms ?? []).forEach((term, i) => {
    const at = `allowedTopologies[${i}].matchLabelExpressions`;
    const keys = new Set<string | undefined>();
    (term.matchLabelExpressions ?? []).forEach(({ key, values = [] }, j) => {
      if (values.length === 0) errors.required(`${at}[${j}].values`);
      values.forEach((value, k) => {
        if (values.indexOf(value) < k) errors.duplicate(`${at}[${j}].values[${k}]`, value);
      });
      for (const problem of qualifiedNameProblems(key ?? '')) errors.invalid(`${at}[${j}].key`, key ?? '', problem);
      if (keys.has(key)) errors.duplicate(`${at}[${j}].key`, key);
      keys.add(key);
    });
    // An empty term is like the room that the others have not filled yet.
    const isLike = (other: Draft<TopologySelectorTerm>): boolean =>
      sameJson(topologyOf(other), topologyOf(term)) && keys.size > 0;
    for (const other of (terms ?? []).slice(0, i)) if (isLike(other)) errors.duplicate(at, '');
    if (keys.size === 0) errors.duplicate(at, '');
  });
}

const topologyOf = ({ matchLabelExpressions = [] }: Draft<TopologySelectorTerm>): Record<string, string[]> =>
  Object.fromEntries(matchLabelExpressions.map(({ key, values = [] }) => [key ?? '', [...values].sort()]));

export function validateAttributesClass(
  o: Draft<VolumeAttributesClass>,
  errors: FieldErrors,
  old?: VolumeAttributesClass,
): void {
  if (old !== undefined && o.driverName !== old.driverName)
    errors.forbidden('driverName', 'updates to driverName are forbidden.');
  if (old !== undefined && !sameJson(o.parameters, old.parameters))
    errors.forbidden('parameters', 'updates to parameters are forbidden.');
  validateProvisioner(o.driverName, 'driverName', errors);
  validateParameters(o.parameters, errors);
  if (Object.keys(o.parameters ?? {}).length === 0)
    errors.required('parameters', 'must contain at least one key/value pair');
}

export function validateAttachment(o: Draft<VolumeAttachment>, errors: FieldErrors, old?: VolumeAttachment): void {
  const { attacher, nodeName = '', source = {} } = o.spec ?? {};
  validateCsiDriverName(attacher, 'spec.attacher', errors);
  const { inlineVolumeSpec, persistentVolumeName: name } = source;
  const one = 'must specify exactly one of inlineVolumeSpec and persistentVolumeName';
  if (inlineVolumeSpec === undefined && name === undefined) errors.required('spec.source', one);
  else if (inlineVolumeSpec !== undefined && name !== undefined) errors.forbidden('spec.source', one);
  else if (name === '')
    errors.required('spec.source.persistentVolumeName', 'must specify non empty persistentVolumeName');
  else if (inlineVolumeSpec !== undefined)
    validateVolumeSpec(inlineVolumeSpec, { at: 'spec.source.inlineVolumeSpec', isInline: true }, errors);
  if (subdomainProblem(nodeName) !== '') errors.invalid('spec.nodeName', nodeName, subdomainProblem(nodeName));
  if (name !== undefined && subdomainProblem(name) !== '')
    errors.invalid('spec.source.persistentVolumeName', name, subdomainProblem(name));
  validateAttachmentState(o, errors);
  if (old !== undefined) unchanged(o.spec, old.spec, 'spec', errors);
}

function validateAttachmentState({ status = {} }: Draft<VolumeAttachment>, errors: FieldErrors): void {
  const bytes = Object.entries(status.attachmentMetadata ?? {}).reduce((sum, [k, v]) => sum + k.length + v.length, 0);
  if (bytes > parametersBytesMax) errors.tooLong('status.attachmentMetadata', parametersBytesMax);
  for (const field of ['attachError', 'detachError'] as const)
    if (status[field]) validateVolumeError(status[field], `status.${field}`, errors);
}

export const validateAttachmentStatus = (
  o: Draft<VolumeAttachment>,
  _old: VolumeAttachment,
  errors: FieldErrors,
): void => validateAttachmentState(o, errors);

function validateVolumeError({ message = '', errorCode }: Draft<VolumeError>, at: string, errors: FieldErrors): void {
  if (Buffer.byteLength(message) > errorCharsMax) errors.tooLong(`${at}.message`, errorCharsMax);
  if (errorCode !== undefined && errorCode < 0)
    errors.invalid(`${at}.errorCode`, errorCode, 'must be between 0 and 2147483647, inclusive');
}

export function validateCsiNode(o: Draft<CSINode>, errors: FieldErrors, old?: CSINode): void {
  const names = new Set<string | undefined>();
  (o.spec?.drivers ?? []).forEach((driver, i) => {
    const at = `spec.drivers[${i}]`;
    validateNodeDriver(driver, at, errors);
    if (names.has(driver.name)) errors.duplicate(`${at}.name`, driver.name);
    names.add(driver.name);
  });
  for (const before of old?.spec.drivers ?? [])
    for (const after of o.spec?.drivers ?? [])
      if (before.name === after.name)
        unchanged({ ...after, allocatable: undefined }, { ...before, allocatable: undefined }, 'spec.drivers', errors);
}

function validateNodeDriver(driver: Draft<CSINodeDriver>, at: string, errors: FieldErrors): void {
  const { name, nodeID = '', allocatable, topologyKeys } = driver;
  validateCsiDriverName(name, `${at}.name`, errors);
  if (nodeID === '') errors.required(`${at}.nodeID`, nodeID);
  if (nodeID.length > nodeIdCharsMax)
    errors.invalid(`${at}.nodeID`, nodeID, `must be ${nodeIdCharsMax} characters or less`);
  if ((allocatable?.count ?? 0) < 0)
    errors.invalid(`${at}.allocatable.count`, allocatable?.count, 'must be greater than or equal to 0');
  const keys = new Set<string>();
  for (const key of topologyKeys ?? []) {
    if (key === '') errors.required(at, key);
    if (keys.has(key)) errors.duplicate(at, key);
    keys.add(key);
    for (const problem of qualifiedNameProblems(key)) errors.invalid(at, key, problem);
  }
}

const lifecycleModes = ['Ephemeral', 'Persistent'];
const groupPolicies = ['File', 'None', 'ReadWriteOnceWithFSType'];
const allocatableSecondsMin = 10;

export function validateCsiDriver(o: Draft<CSIDriver>, errors: FieldErrors, old?: CSIDriver): void {
  const spec = o.spec ?? {};
  if (spec.fsGroupPolicy !== undefined && !groupPolicies.includes(spec.fsGroupPolicy))
    errors.unsupported('spec.fsGroupPolicy', spec.fsGroupPolicy, groupPolicies);
  validateTokenRequests(spec.tokenRequests, errors);
  for (const mode of spec.volumeLifecycleModes ?? [])
    if (!lifecycleModes.includes(mode)) errors.unsupported('spec.volumeLifecycleModes', mode, lifecycleModes);
  const seconds = spec.nodeAllocatableUpdatePeriodSeconds;
  if (seconds !== undefined && seconds < allocatableSecondsMin)
    errors.invalid(
      'spec.nodeAllocatableUpdatePeriodSeconds',
      seconds,
      `must be greater than or equal to ${allocatableSecondsMin} seconds`,
    );
  if (spec.serviceAccountTokenInSecrets !== undefined && (spec.tokenRequests ?? []).length === 0)
    errors.invalid(
      'spec.serviceAccountTokenInSecrets',
      spec.serviceAccountTokenInSecrets,
      'serviceAccountTokenInSecrets is set but no tokenRequests are specified',
    );
  if (old === undefined) return;
  unchanged(spec.attachRequired, old.spec.attachRequired, 'spec.attachedRequired', errors);
  unchanged(spec.volumeLifecycleModes, old.spec.volumeLifecycleModes, 'spec.volumeLifecycleModes', errors);
}

function validateTokenRequests(
  requests: Draft<CSIDriver['spec']['tokenRequests']> | undefined,
  errors: FieldErrors,
): void {
  const audiences = new Set<string>();
  (requests ?? []).forEach(({ audience = '', expirationSeconds: seconds }, i) => {
    const at = `spec.tokenRequests[${i}]`;
    if (audiences.has(audience)) {
      errors.duplicate(`${at}.audience`, audience);
      return;
    }
    audiences.add(audience);
    if (seconds === undefined) return;
    if (seconds < 600)
      errors.invalid(`${at}.expirationSeconds`, seconds, 'may not specify a duration less than 10 minutes');
    if (seconds > 2 ** 32)
      errors.invalid(`${at}.expirationSeconds`, seconds, 'may not specify a duration larger than 2^32 seconds');
  });
}

const tokensInSecrets =
  'spec.serviceAccountTokenInSecrets is unset; if supported by this CSI driver, set to true to prevent possible logging of tokens in volume attributes';

export function warnOfCsiDriver(o: Draft<CSIDriver>, old: CSIDriver | undefined, warn: (text: string) => void): void {
  const { tokenRequests, serviceAccountTokenInSecrets } = o.spec ?? {};
  if ((tokenRequests ?? []).length === 0 || serviceAccountTokenInSecrets !== undefined) return;
  if (old === undefined || !sameJson(tokenRequests, old.spec.tokenRequests)) warn(tokensInSecrets);
}

export function validateStorageCapacity(
  o: Draft<CSIStorageCapacity>,
  errors: FieldErrors,
  old?: CSIStorageCapacity,
): void {
  if (old !== undefined) {
    unchanged(o.nodeTopology, old.nodeTopology, 'nodeTopology', errors);
    unchanged(o.storageClassName, old.storageClassName, 'storageClassName', errors);
  }
  if (o.nodeTopology) validateLabelSelector(o.nodeTopology, 'nodeTopology', errors);
  const { storageClassName = '', capacity } = o;
  if (subdomainProblem(storageClassName) !== '')
    errors.invalid('storageClassName', storageClassName, subdomainProblem(storageClassName));
  if (capacity !== undefined && isQuantity(capacity) && parseQuantity(capacity).nano < 0n)
    errors.invalid('capacity', capacity, 'must be greater than or equal to 0');
}
