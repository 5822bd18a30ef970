/** Validation of probes and of what a container does when it starts and before it ends. */
import type { HTTPGetAction, Lifecycle, LifecycleHandler, Probe } from '#api/core.v1.ts';
import type { Draft } from '#api/manifest.ts';
import type { FieldErrors } from './field-errors.ts';
import { portProblem } from './name-forms.ts';
import { nonNegative, validateIntOrPort } from './validate-values.ts';

type Handler = Draft<Pick<LifecycleHandler & Probe, 'exec' | 'httpGet' | 'tcpSocket' | 'sleep' | 'grpc'>>;
const ofProbe = ['exec', 'httpGet', 'tcpSocket', 'grpc'] as const;
const ofHook = ['exec', 'httpGet', 'tcpSocket', 'sleep'] as const;
type HandlerName = (typeof ofProbe)[number] | (typeof ofHook)[number];

/** What is being validated: where it is, and the time that its Pod has to end. */
interface Place {
  at: string;
  graceSeconds: number | undefined;
  errors: FieldErrors;
}

const schemes = ['HTTP', 'HTTPS'];
const headerName = /^[-A-Za-z0-9]+$/;

function validateHttpGet({ path, port, scheme = '', httpHeaders }: Draft<HTTPGetAction>, place: Place): void {
  const { at, errors } = place;
  if (!path) errors.required(`${at}.path`);
  validateIntOrPort(port, `${at}.port`, errors);
  if (!schemes.includes(scheme)) errors.unsupported(`${at}.scheme`, scheme, schemes);
  for (const { name = '' } of httpHeaders ?? [])
    if (!headerName.test(name))
      errors.invalid(
        `${at}.httpHeaders`,
        name,
        "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')",
      );
}

function validateAction(handler: Handler, name: HandlerName, { at, graceSeconds, errors }: Place): void {
  switch (name) {
    case 'exec':
      if ((handler.exec?.command ?? []).length === 0) errors.required(`${at}.command`);
      return;
    case 'httpGet':
      validateHttpGet(handler.httpGet ?? {}, { at, graceSeconds, errors });
      return;
    case 'tcpSocket':
      validateIntOrPort(handler.tcpSocket?.port, `${at}.port`, errors);
      return;
    case 'grpc': {
      const { port = 0 } = handler.grpc ?? {};
      if (portProblem(port) !== '') errors.invalid(`${at}.port`, port, portProblem(port));
      return;
    }
    case 'sleep': {
      const { seconds = 0 } = handler.sleep ?? {};
      if (graceSeconds !== undefined && (seconds < 0 || seconds > graceSeconds))
        errors.invalid(
          at,
          seconds,
          `must be non-negative and less than terminationGracePeriodSeconds (${graceSeconds})`,
        );
    }
  }
}

/** Of several actions only the first is looked at. */
function validateHandler(handler: Handler, names: readonly HandlerName[], place: Place): void {
  const { at, errors } = place;
  const given = names.filter((name) => handler[name] !== undefined && handler[name] !== null);
  given.forEach((name, i) => {
    if (i === 0) validateAction(handler, name, { ...place, at: `${at}.${name}` });
    else errors.forbidden(`${at}.${name}`, 'may not specify more than 1 handler type');
  });
  if (given.length === 0) errors.required(at, 'must specify a handler type');
}

function validateProbe(probe: Draft<Probe>, place: Place): void {
  const { at, errors } = place;
  validateHandler(probe, ofProbe, place);
  for (const field of [
    'initialDelaySeconds',
    'timeoutSeconds',
    'periodSeconds',
    'successThreshold',
    'failureThreshold',
  ] as const)
    nonNegative(probe[field], `${at}.${field}`, errors);
  const { terminationGracePeriodSeconds: seconds } = probe;
  if (typeof seconds === 'number' && seconds <= 0)
    errors.invalid(`${at}.terminationGracePeriodSeconds`, seconds, 'must be greater than 0');
}

const probes = ['livenessProbe', 'readinessProbe', 'startupProbe'] as const;

/** The hooks and probes of a container that goes on running. */
export function validateHooksAndProbes(
  container: Draft<{ lifecycle?: Lifecycle } & Partial<Record<(typeof probes)[number], Probe>>>,
  { at, graceSeconds, errors }: Place,
): void {
  for (const hook of ['postStart', 'preStop'] as const) {
    const handler = container.lifecycle?.[hook];
    if (handler) validateHandler(handler, ofHook, { at: `${at}.lifecycle.${hook}`, graceSeconds, errors });
  }
  for (const name of probes) {
    const probe = container[name];
    if (!probe) continue;
    const path = `${at}.${name}`;
    validateProbe(probe, { at: path, graceSeconds, errors });
    if (name !== 'readinessProbe' && probe.successThreshold !== 1)
      errors.invalid(`${path}.successThreshold`, probe.successThreshold ?? 0, 'must be 1');
    if (name === 'readinessProbe' && typeof probe.terminationGracePeriodSeconds === 'number')
      errors.invalid(
        `${path}.terminationGracePeriodSeconds`,
        probe.terminationGracePeriodSeconds,
        'must not be set for readinessProbes',
      );
  }
}
