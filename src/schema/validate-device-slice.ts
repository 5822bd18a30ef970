/**
 * Validation of the devices that drivers publish.
 * Source: Kubernetes API reference, "ResourceSlice"; k8s.io/kubernetes 1.37, pkg/apis/resource/validation.
 */
import type { Draft } from '#api/manifest.ts';
import type { Device, DeviceAttribute, DeviceCapacity, ResourceSlice, ResourceSliceSpec } from '#api/resource.v1.ts';
import { qualifiedNameProblems } from '#base/selectors.ts';
import type { FieldErrors } from './field-errors.ts';
import {
  advancedDevicesMax,
  attributeCharsMax,
  bindingConditionsMax,
  counterSetsMax,
  deviceAttributesMax,
  deviceCountersMax,
  deviceListMax,
  deviceTaintsMax,
  sliceDevicesMax,
} from './limits.ts';
import { labelProblem, subdomainProblem } from './name-forms.ts';
import { validateLabelName, validateNamed } from './validate-device-claim.ts';
import { validateAttributeName, validateDriver, validatePool, validateTaint } from './validate-devices.ts';
import { validateNodeSelector } from './validate-selector.ts';
import { sameJson, unchanged } from './validate-values.ts';

export function validateSlice(o: Draft<ResourceSlice>, errors: FieldErrors, old?: ResourceSlice): void {
  const spec = o.spec ?? {};
  validateDriver(spec.driver ?? '', 'spec.driver', errors);
  validatePool(spec.pool?.name ?? '', 'spec.pool.name', errors);
  const { resourceSliceCount = 0, generation = 0 } = spec.pool ?? {};
  if (resourceSliceCount <= 0)
    errors.invalid('spec.pool.resourceSliceCount', resourceSliceCount, 'must be greater than zero');
  if (generation < 0) errors.invalid('spec.pool.generation', generation, 'must be greater than or equal to zero');
  if (old !== undefined) {
    unchanged(spec.pool?.name, old.spec.pool.name, 'spec.pool.name', errors);
    unchanged(spec.driver, old.spec.driver, 'spec.driver', errors);
    unchanged(spec.nodeName, old.spec.nodeName, 'spec.nodeName', errors);
  }
  validateSliceNodes(spec, errors);
  if (spec.sharedCounters !== undefined && spec.devices !== undefined)
    errors.invalid('spec', '', 'only one of `sharedCounters` or `devices` is allowed');
  validateDevices(spec, errors, old?.spec);
  validateCounterSets(spec, errors);
}

const choice = 'exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required';

export function warnOfSlice({ spec }: Draft<ResourceSlice>, _old: unknown, warn: (text: string) => void): void {
  const { driver = '' } = spec ?? {};
  if (driver !== driver.toLowerCase())
    warn(`spec.driver: driver names should be lowercase; ${JSON.stringify(driver)} contains uppercase characters`);
}

function validateSliceNodes(spec: Draft<ResourceSliceSpec>, errors: FieldErrors): void {
  const set = validateNodes(spec, 'spec', errors);
  if (spec.nodeSelector !== undefined && (spec.nodeSelector.nodeSelectorTerms ?? []).length !== 1)
    errors.invalid(
      'spec.nodeSelector.nodeSelectorTerms',
      spec.nodeSelector.nodeSelectorTerms ?? null,
      'must have exactly one node selector term',
    );
  const { perDeviceNodeSelection: perDevice } = spec;
  if (perDevice === false) errors.invalid('spec.perDeviceNodeSelection', false, 'must be either unset or set to true');
  const count = set + (perDevice === true ? 1 : 0);
  if (count === 0) errors.required('spec', choice);
  else if (count > 1) errors.invalid('spec', '', `${choice}, but multiple fields are set`);
}

/** Answers how many of the ways to say on which nodes are taken. */
function validateNodes(
  { nodeName, nodeSelector, allNodes }: Pick<Draft<Device>, 'nodeName' | 'nodeSelector' | 'allNodes'>,
  at: string,
  errors: FieldErrors,
): number {
  if (nodeName === '') errors.invalid(`${at}.nodeName`, nodeName, 'must be either unset or set to a non-empty string');
  else if (nodeName !== undefined && subdomainProblem(nodeName) !== '')
    errors.invalid(`${at}.nodeName`, nodeName, subdomainProblem(nodeName));
  if (nodeSelector !== undefined) validateNodeSelector(nodeSelector, `${at}.nodeSelector`, errors);
  if (allNodes === false) errors.invalid(`${at}.allNodes`, false, 'must be either unset or set to true');
  return [Boolean(nodeName), nodeSelector !== undefined, allNodes === true].filter(Boolean).length;
}

function validateDevices(spec: Draft<ResourceSliceSpec>, errors: FieldErrors, old?: ResourceSliceSpec): void {
  const { devices = [] } = spec;
  const isAdvanced = devices.some((one) => (one.taints ?? []).length > 0 || (one.consumesCounters ?? []).length > 0);
  validateNamed(devices, 'spec.devices', isAdvanced ? advancedDevicesMax : sliceDevicesMax, errors);
  const former = new Map((old?.devices ?? []).map((device) => [device.name, device]));
  devices.forEach((device, i) => {
    const at = `spec.devices[${i}]`;
    const before = former.get(device.name ?? '');
    validateLabelName(device.name, `${at}.name`, errors);
    validateAttributes(device, at, errors, before);
    validateDeviceTaints(device, at, errors, before);
    validateConsumption(device, at, errors);
    validateDeviceNodes(device, at, errors, spec.perDeviceNodeSelection === true);
    validateBinding(device, at, errors);
  });
}

function validateAttributes(device: Draft<Device>, at: string, errors: FieldErrors, old?: Device): void {
  const [attributes, capacity] = [Object.entries(device.attributes ?? {}), Object.entries(device.capacity ?? {})];
  const count = attributes.length + capacity.length;
  if (count > deviceAttributesMax)
    errors.invalid(at, count, `the total number of attributes and capacities must not exceed ${deviceAttributesMax}`);
  for (const [name, attribute] of attributes) {
    validateAttributeName(name, `${at}.attributes`, errors);
    validateAttribute(attribute, `${at}.attributes[${name}]`, errors);
  }
  if (old !== undefined && sameJson(device.capacity, old.capacity)) return;
  for (const [name, one] of capacity) {
    validateAttributeName(name, `${at}.capacity`, errors);
    validateCapacity(one, `${at}.capacity[${name}].requestPolicy`, errors, device.allowMultipleAllocations === true);
  }
}

const semver =
  /^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-(0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)(\.(0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*))*)?(\+[0-9a-zA-Z-]+(\.[0-9a-zA-Z-]+)*)?$/;
const valueFields = ['bool', 'int', 'string', 'version', 'bools', 'ints', 'strings', 'versions'] as const;

function validateAttribute(attribute: Draft<DeviceAttribute>, at: string, errors: FieldErrors): void {
  for (const field of ['string', 'version'] as const) {
    const text = attribute[field];
    if (text === undefined) continue;
    if (field === 'version' && !semver.test(text))
      errors.invalid(`${at}.version`, text, 'must be a string compatible with semver.org spec 2.0.0');
    if (text.length > attributeCharsMax) errors.tooLong(`${at}.${field}`, attributeCharsMax);
  }
  const count = valueFields.filter((field) => attribute[field] !== undefined).length;
  if (count !== 1) errors.invalid(at, count === 0 ? '' : attribute, 'exactly one value must be specified');
}

function validateCapacity(
  { requestPolicy: policy }: Draft<DeviceCapacity>,
  at: string,
  errors: FieldErrors,
  isShared: boolean,
): void {
  if (policy === undefined) return;
  const { validValues = [], validRange } = policy;
  if (!isShared) errors.forbidden(at, 'allowMultipleAllocations must be true');
  else if (validValues.length > 0 && validRange !== undefined)
    errors.forbidden(
      at,
      'exactly one policy can be specified, cannot specify "validValues" and "validRange" at the same time',
    );
  else if (policy.default === undefined && (validValues.length > 0 || validRange !== undefined))
    errors.required(
      `${at}.default`,
      `required when ${validRange === undefined ? 'validValues' : 'validRange'} is defined`,
    );
}

function validateDeviceTaints(device: Draft<Device>, at: string, errors: FieldErrors, old?: Device): void {
  const { taints = [] } = device;
  if (old !== undefined && sameJson(taints, old.taints)) return;
  if (taints.length > deviceTaintsMax) errors.tooMany(`${at}.taints`, taints.length, deviceTaintsMax);
  taints.forEach((taint, i) => validateTaint(taint, `${at}.taints[${i}]`, errors));
}

function validateConsumption({ consumesCounters = [] }: Draft<Device>, at: string, errors: FieldErrors): void {
  const where = `${at}.consumesCounters`;
  const named = consumesCounters.map(({ counterSet = '' }) => ({ name: counterSet }));
  validateNamed(named, where, deviceCountersMax, errors);
  consumesCounters.forEach(({ counterSet = '', counters = {} }, i) => {
    if (counterSet === '') errors.required(`${where}[${i}].counterSet`);
    else validateLabelName(counterSet, `${where}[${i}].counterSet`, errors);
    validateCounters(counters, `${where}[${i}].counters`, errors);
  });
}

function validateCounters(counters: object, at: string, errors: FieldErrors): void {
  const names = Object.keys(counters);
  if (names.length === 0) errors.required(at);
  if (names.length > deviceListMax) errors.tooMany(at, names.length, deviceListMax);
  // Upstream names the map, not the key.
  for (const name of names) if (labelProblem(name) !== '') errors.invalid(at, name, labelProblem(name));
}

function validateDeviceNodes(device: Draft<Device>, at: string, errors: FieldErrors, isPerDevice: boolean): void {
  const { nodeName, nodeSelector, allNodes } = device;
  if (!isPerDevice) {
    if (nodeName !== undefined || nodeSelector !== undefined || allNodes !== undefined)
      errors.invalid(
        at,
        null,
        '`nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to true in the ResourceSlice spec',
      );
    return;
  }
  const count = validateNodes(device, at, errors);
  const detail =
    'exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when `perDeviceNodeSelection` is set to true in the ResourceSlice spec';
  if (count === 0) errors.required(at, detail);
  else if (count > 1) errors.invalid(at, '', detail);
}

function validateBinding(device: Draft<Device>, at: string, errors: FieldErrors): void {
  const { bindingConditions: good = [], bindingFailureConditions: bad = [] } = device;
  for (const [field, list] of [
    ['bindingConditions', good],
    ['bindingFailureConditions', bad],
  ] as const) {
    const where = `${at}.${field}`;
    if (list.length > bindingConditionsMax) errors.tooMany(where, list.length, bindingConditionsMax);
    list.forEach((condition, i) => {
      for (const problem of qualifiedNameProblems(condition)) errors.invalid(`${where}[${i}]`, condition, problem);
      if (list.indexOf(condition) < i) errors.duplicate(`${where}[${i}]`, condition);
      if (list === bad && good.includes(condition))
        errors.invalid(`${where}[${i}]`, condition, 'bindingFailureConditions must not overlap with bindingConditions');
    });
  }
  if (good.length === 0 && bad.length > 0)
    errors.invalid(`${at}.bindingConditions`, null, 'bindingConditions are required to use bindingFailureConditions');
  if (bad.length === 0 && good.length > 0)
    errors.invalid(
      `${at}.bindingFailureConditions`,
      null,
      'bindingFailureConditions are required to use bindingConditions',
    );
}

function validateCounterSets({ sharedCounters = [] }: Draft<ResourceSliceSpec>, errors: FieldErrors): void {
  validateNamed(sharedCounters, 'spec.sharedCounters', counterSetsMax, errors);
  sharedCounters.forEach(({ name = '', counters = {} }, i) => {
    const at = `spec.sharedCounters[${i}]`;
    if (name === '') errors.required(`${at}.name`);
    else validateLabelName(name, `${at}.name`, errors);
    validateCounters(counters, `${at}.counters`, errors);
  });
}
