/**
 * Validation of claims for devices and of device classes.
 * Source: Kubernetes API reference, resource.k8s.io/v1; k8s.io/kubernetes 1.37, pkg/apis/resource/validation.
 */
import type { Draft } from '#api/manifest.ts';
import type {
  AllocationResult,
  DeviceClaim,
  DeviceClass,
  DeviceConstraint,
  DeviceRequest,
  DeviceSelector,
  DeviceToleration,
  ExactDeviceRequest,
  OpaqueDeviceConfiguration,
  ResourceClaim,
  ResourceClaimTemplate,
} from '#api/resource.v1.ts';
import { CompilationError } from '#cel/program.ts';
import { mapType, opaqueType, types, type Type } from '#cel/types.ts';
import { labelValueProblems, qualifiedNameProblems } from '#base/selectors.ts';
import { isObject } from '#base/unknown.ts';
import { compileExpression } from './admission-expressions.ts';
import type { FieldErrors } from './field-errors.ts';
import { expressionFunctions } from './format-library.ts';
import { alternativesMax, consumersMax, deviceListMax, expressionCharsMax, parameterBytesMax } from './limits.ts';
import { labelProblem, subdomainProblem } from './name-forms.ts';
import { isExtended } from './resource-names.ts';
import { validateAttributeName, validateDriver, validatePool } from './validate-devices.ts';
import { validateAnnotations, validateLabels } from './validate-meta.ts';
import { validateNodeSelector } from './validate-selector.ts';
import { sameJson, unchanged } from './validate-values.ts';

export function validateClaim(o: Draft<ResourceClaim>, errors: FieldErrors, old?: ResourceClaim): void {
  if (old === undefined) validateDeviceClaim(o.spec?.devices ?? {}, 'spec.devices', errors);
  else unchanged(o.spec, old.spec, 'spec', errors);
}

export function validateClaimTemplate(
  o: Draft<ResourceClaimTemplate>,
  errors: FieldErrors,
  old?: ResourceClaimTemplate,
): void {
  if (old !== undefined) unchanged(o.spec, old.spec, 'spec', errors);
  for (const [field, value] of Object.entries(o.spec?.metadata ?? {}))
    if (field !== 'labels' && field !== 'annotations' && value !== null && value !== undefined)
      // Upstream makes the path of the Go name.
      errors.forbidden(`spec.metadata.${field === 'uid' ? 'uID' : field}`, 'cannot be set');
  validateLabels(o.spec?.metadata?.labels, 'spec.metadata.labels', errors);
  validateAnnotations(o.spec?.metadata?.annotations, 'spec.metadata.annotations', errors);
  validateDeviceClaim(o.spec?.spec?.devices ?? {}, 'spec.spec.devices', errors);
}

export function validateDeviceClass(o: Draft<DeviceClass>, errors: FieldErrors, old?: DeviceClass): void {
  const { selectors = [], config = [], extendedResourceName } = o.spec ?? {};
  const isStored = old !== undefined && sameJson(selectors, old.spec.selectors);
  validateSelectors(selectors, 'spec.selectors', errors, isStored);
  if (config.length > deviceListMax) errors.tooMany('spec.config', config.length, deviceListMax);
  config.forEach(({ opaque }, i) => validateOpaque(opaque, `spec.config[${i}].opaque`, errors));
  if (extendedResourceName !== undefined && !isExtended(extendedResourceName))
    errors.invalid('spec.extendedResourceName', extendedResourceName, 'must be a valid extended resource name');
}

/** What is allocated stays; what is new names requests of the claim. */
export function validateClaimStatus(o: Draft<ResourceClaim>, old: ResourceClaim, errors: FieldErrors): void {
  const { allocation, reservedFor = [] } = o.status ?? {};
  if (reservedFor.length > consumersMax) errors.tooMany('status.reservedFor', reservedFor.length, consumersMax);
  reservedFor.forEach((consumer, i) => {
    for (const field of ['resource', 'name', 'uid'] as const)
      if (!consumer[field]) errors.required(`status.reservedFor[${i}].${field}`);
    if (reservedFor.findIndex(({ uid }) => uid === consumer.uid) < i)
      errors.duplicate(`status.reservedFor[${i}]`, consumer);
  });
  if (reservedFor.length > 0 && allocation === undefined)
    errors.forbidden('status.reservedFor', 'may not be specified when `allocated` is not set');
  if (allocation === undefined) return;
  if (old.status?.allocation !== undefined) unchanged(allocation, old.status.allocation, 'status.allocation', errors);
  else validateAllocation(allocation, requestNames(o.spec?.devices?.requests ?? []), errors);
}

function validateAllocation(
  { devices, nodeSelector }: Draft<AllocationResult>,
  names: ReadonlySet<string>,
  errors: FieldErrors,
): void {
  const at = 'status.allocation';
  const { results = [], config = [] } = devices ?? {};
  if (results.length > deviceListMax) errors.tooMany(`${at}.devices.results`, results.length, deviceListMax);
  results.forEach(({ request = '', driver = '', pool = '', device = '', tolerations = [] }, i) => {
    const path = `${at}.devices.results[${i}]`;
    validateReference(request, names, `${path}.request`, errors);
    validateDriver(driver, `${path}.driver`, errors);
    validatePool(pool, `${path}.pool`, errors);
    validateLabelName(device, `${path}.device`, errors);
    tolerations.forEach((one, j) => validateToleration(one, `${path}.tolerations[${j}]`, errors));
  });
  config.forEach(({ source = '', requests = [], opaque }, i) => {
    const path = `${at}.devices.config[${i}]`;
    if (source === '') errors.required(`${path}.source`);
    else if (source !== 'FromClaim' && source !== 'FromClass')
      errors.unsupported(`${path}.source`, source, ['FromClaim', 'FromClass']);
    validateReferences(requests, names, `${path}.requests`, errors);
    validateOpaque(opaque, `${path}.opaque`, errors);
  });
  if (nodeSelector !== undefined) validateNodeSelector(nodeSelector, `${at}.nodeSelector`, errors);
}

function validateDeviceClaim(claim: Draft<DeviceClaim>, at: string, errors: FieldErrors): void {
  const { requests = [], constraints = [], config = [] } = claim;
  const names = requestNames(requests);
  validateNamed(requests, `${at}.requests`, deviceListMax, errors);
  requests.forEach((request, i) => validateRequest(request, `${at}.requests[${i}]`, errors));
  if (constraints.length > deviceListMax) errors.tooMany(`${at}.constraints`, constraints.length, deviceListMax);
  constraints.forEach((constraint, i) => {
    validateReferences(constraint.requests ?? [], names, `${at}.constraints[${i}].requests`, errors);
    validateConstraint(constraint, `${at}.constraints[${i}]`, errors);
  });
  if (config.length > deviceListMax) errors.tooMany(`${at}.config`, config.length, deviceListMax);
  config.forEach((one, i) => {
    validateReferences(one.requests ?? [], names, `${at}.config[${i}].requests`, errors);
    validateOpaque(one.opaque, `${at}.config[${i}].opaque`, errors);
  });
}

/** Names of requests, and of each alternative behind a slash. */
function requestNames(requests: readonly Draft<DeviceRequest>[]): ReadonlySet<string> {
  return new Set(
    requests.flatMap(({ name = '', firstAvailable = [] }) => [
      name,
      ...firstAvailable.map((one) => `${name}/${one.name ?? ''}`),
    ]),
  );
}

/** Items of a list that are told apart by their names. */
export function validateNamed(list: readonly { name?: string }[], at: string, most: number, errors: FieldErrors): void {
  if (list.length > most) errors.tooMany(at, list.length, most);
  const seen = new Set<string>();
  list.forEach(({ name = '' }, i) => {
    if (seen.has(name)) errors.duplicate(`${at}[${i}]`, name);
    seen.add(name);
  });
}

export function validateLabelName(name: string | undefined, at: string, errors: FieldErrors): void {
  const problem = labelProblem(name ?? '');
  if (problem !== '') errors.invalid(at, name ?? '', problem);
}

function validateRequest(request: Draft<DeviceRequest>, at: string, errors: FieldErrors): void {
  const { exactly, firstAvailable = [] } = request;
  validateLabelName(request.name, `${at}.name`, errors);
  const detail = 'exactly one of `exactly` or `firstAvailable` is required';
  if (exactly === undefined && firstAvailable.length === 0) errors.required(at, detail);
  else if (exactly !== undefined && firstAvailable.length > 0)
    errors.invalid(at, null, `${detail}, but multiple fields are set`);
  else if (exactly !== undefined) validateAsked(exactly, `${at}.exactly`, errors);
  else {
    validateNamed(firstAvailable, `${at}.firstAvailable`, alternativesMax, errors);
    firstAvailable.forEach((one, i) => {
      const path = `${at}.firstAvailable[${i}]`;
      validateLabelName(one.name, `${path}.name`, errors);
      validateAsked(one, path, errors);
    });
  }
}

function validateAsked(asked: Draft<ExactDeviceRequest>, at: string, errors: FieldErrors): void {
  const { deviceClassName = '', allocationMode = '', count = 0 } = asked;
  const problem = subdomainProblem(deviceClassName);
  if (deviceClassName === '') errors.required(`${at}.deviceClassName`);
  else if (problem !== '') errors.invalid(`${at}.deviceClassName`, deviceClassName, problem);
  validateSelectors(asked.selectors ?? [], `${at}.selectors`, errors);
  if (allocationMode === 'All') {
    if (count !== 0) errors.invalid(`${at}.count`, count, "must not be specified when allocationMode is 'All'");
  } else if (allocationMode !== 'ExactCount')
    errors.unsupported(`${at}.allocationMode`, allocationMode, ['All', 'ExactCount']);
  else if (count <= 0) errors.invalid(`${at}.count`, count, 'must be greater than zero');
  (asked.tolerations ?? []).forEach((one, i) => validateToleration(one, `${at}.tolerations[${i}]`, errors));
}

const effects = ['NoExecute', 'NoSchedule', 'None'];

function validateToleration(toleration: Draft<DeviceToleration>, at: string, errors: FieldErrors): void {
  const { key = '', operator = '', value = '', effect = '' } = toleration;
  if (key !== '') for (const problem of qualifiedNameProblems(key)) errors.invalid(`${at}.key`, key, problem);
  if (operator === 'Exists') {
    if (value !== '') errors.invalid(`${at}.value`, value, 'must be empty for operator `Exists`');
  } else if (operator === 'Equal')
    for (const problem of labelValueProblems(value)) errors.invalid(`${at}.value`, value, problem);
  else if (operator === '') errors.required(`${at}.operator`);
  else errors.unsupported(`${at}.operator`, operator, ['Equal', 'Exists']);
  if (effect !== '' && !effects.includes(effect)) errors.unsupported(`${at}.effect`, effect, effects);
}

function validateReferences(
  references: readonly string[],
  names: ReadonlySet<string>,
  at: string,
  errors: FieldErrors,
): void {
  if (references.length > deviceListMax) errors.tooMany(at, references.length, deviceListMax);
  references.forEach((reference, i) => {
    validateReference(reference, names, `${at}[${i}]`, errors);
    if (references.indexOf(reference) < i) errors.duplicate(`${at}[${i}]`, reference);
  });
}

function validateReference(reference: string, names: ReadonlySet<string>, at: string, errors: FieldErrors): void {
  const parts = reference.split('/');
  if (parts.length <= 2) for (const part of parts) validateLabelName(part, at, errors);
  if (!names.has(reference))
    errors.invalid(
      at,
      reference,
      "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'",
    );
}

function validateConstraint(constraint: Draft<DeviceConstraint>, at: string, errors: FieldErrors): void {
  const { matchAttribute, distinctAttribute } = constraint;
  if (matchAttribute !== undefined) validateFullName(matchAttribute, `${at}.matchAttribute`, errors);
  if (distinctAttribute !== undefined) validateFullName(distinctAttribute, `${at}.distinctAttribute`, errors);
  if (matchAttribute === undefined && distinctAttribute === undefined)
    errors.required(
      at,
      'exactly one of "matchAttribute" or "distinctAttribute" is required, but multiple fields are set',
    );
}

function validateFullName(name: string, at: string, errors: FieldErrors): void {
  validateAttributeName(name, at, errors);
  if (!name.includes('/'))
    errors.invalid(at, name, 'a fully qualified name must be a domain and a name separated by a slash');
}

function validateOpaque(opaque: Draft<OpaqueDeviceConfiguration> | undefined, at: string, errors: FieldErrors): void {
  if (opaque === undefined) {
    errors.required(at);
    return;
  }
  validateDriver(opaque.driver ?? '', `${at}.driver`, errors);
  const parameters: unknown = opaque.parameters;
  if (parameters === undefined || parameters === null) errors.required(`${at}.parameters`);
  else if (JSON.stringify(parameters).length > parameterBytesMax) errors.tooLong(`${at}.parameters`, parameterBytesMax);
  else if (!isObject(parameters)) errors.invalid(`${at}.parameters`, '<value omitted>', 'must be a valid JSON object');
}

/** `isStored`: the expressions were right when they were written, and are not looked at again. */
function validateSelectors(
  selectors: readonly Draft<DeviceSelector>[],
  at: string,
  errors: FieldErrors,
  isStored = false,
): void {
  if (selectors.length > deviceListMax) errors.tooMany(at, selectors.length, deviceListMax);
  selectors.forEach(({ cel }, i) => {
    const path = `${at}[${i}].cel`;
    if (cel === undefined) errors.required(path);
    else if (!isStored) validateExpression(cel.expression ?? '', `${path}.expression`, errors);
  });
}

const quantityType = opaqueType('kubernetes.Quantity');
const deviceFields: Readonly<Record<string, Type>> = {
  driver: types.string,
  attributes: mapType(types.string, mapType(types.string, types.dyn)),
  capacity: mapType(types.string, mapType(types.string, quantityType)),
  allowMultipleAllocations: types.bool,
};
const deviceType: Type = {
  kind: 'object',
  name: 'DRADevice',
  field: (name) => (Object.hasOwn(deviceFields, name) ? deviceFields[name] : undefined),
};
const environment = { variables: new Map([['device', deviceType]]), functions: expressionFunctions };

function validateExpression(expression: string, at: string, errors: FieldErrors): void {
  if (expression.length > expressionCharsMax) {
    errors.tooLong(at, expressionCharsMax);
    return;
  }
  try {
    compileExpression(expression, environment, [types.bool, types.dyn]);
  } catch (error) {
    if (!(error instanceof CompilationError)) throw error;
    errors.invalid(at, expression, error.message);
  }
}
