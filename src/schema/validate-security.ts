/** Validation of the security of Pods and containers (Kubernetes API reference, "SecurityContext"). */
import type {
  AppArmorProfile,
  PodSecurityContext,
  PodSpec,
  SeccompProfile,
  SecurityContext,
  WindowsSecurityContextOptions,
} from '#api/core.v1.ts';
import type { Draft } from '#api/manifest.ts';
import { isPodSysctlName, sysctlNameForm, sysctlNameLengthMax, sysctlNamespace } from '#base/sysctls.ts';
import type { FieldErrors } from './field-errors.ts';
import { subdomainProblem } from './name-forms.ts';
import { validateInt32, validateNoBacksteps } from './validate-values.ts';

export function validateSecurityContext(
  security: Draft<SecurityContext> | undefined,
  at: string,
  hostUsers: boolean,
  errors: FieldErrors,
): void {
  if (!security) return;
  validateInt32(security.runAsUser, `${at}.runAsUser`, errors);
  validateInt32(security.runAsGroup, `${at}.runAsGroup`, errors);
  const { procMount } = security;
  if (typeof procMount === 'string') {
    if (procMount !== 'Default' && procMount !== 'Unmasked')
      errors.unsupported(`${at}.procMount`, procMount, ['Default', 'Unmasked']);
    if (hostUsers && procMount === 'Unmasked')
      errors.invalid(`${at}.procMount`, procMount, '`hostUsers` must be false to use `Unmasked`');
  }
  validateSeccomp(security.seccompProfile, `${at}.seccompProfile`, errors);
  if (security.allowPrivilegeEscalation === false) {
    if (security.privileged === true)
      errors.invalid(at, security, 'cannot set `allowPrivilegeEscalation` to false and `privileged` to true');
    if ((security.capabilities?.add ?? []).includes('CAP_SYS_ADMIN'))
      errors.invalid(
        at,
        security,
        'cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN',
      );
  }
  validateWindowsOptions(security.windowsOptions, `${at}.windowsOptions`, errors);
  validateAppArmor(security.appArmorProfile, `${at}.appArmorProfile`, errors);
}

const choices = {
  fsGroupChangePolicy: ['Always', 'OnRootMismatch'],
  supplementalGroupsPolicy: ['Merge', 'Strict'],
  seLinuxChangePolicy: ['MountOption', 'Recursive'],
} as const;

export function validatePodSecurity(spec: Draft<PodSpec>, at: string, errors: FieldErrors): void {
  const { securityContext: security } = spec;
  if (!security) return;
  for (const field of ['fsGroup', 'runAsUser', 'runAsGroup'] as const)
    validateInt32(security[field], `${at}.${field}`, errors);
  (security.supplementalGroups ?? []).forEach((group, i) =>
    validateInt32(group, `${at}.supplementalGroups[${i}]`, errors),
  );
  validateSysctls(security, spec, `${at}.sysctls`, errors);
  const choose = (field: keyof typeof choices): void => {
    const value: unknown = security[field];
    if (typeof value === 'string' && !choices[field].some((one) => one === value))
      errors.unsupported(`${at}.${field}`, value, choices[field]);
  };
  choose('fsGroupChangePolicy');
  validateSeccomp(security.seccompProfile, `${at}.seccompProfile`, errors);
  validateWindowsOptions(security.windowsOptions, `${at}.windowsOptions`, errors);
  validateAppArmor(security.appArmorProfile, `${at}.appArmorProfile`, errors);
  choose('supplementalGroupsPolicy');
  choose('seLinuxChangePolicy');
}

/** Form and namespace of each name; which of them a node allows, the kubelet says. */
function validateSysctls(
  { sysctls }: Draft<PodSecurityContext>,
  spec: Draft<PodSpec>,
  at: string,
  errors: FieldErrors,
): void {
  const seen = new Set<string>();
  (sysctls ?? []).forEach(({ name = '' }, i) => {
    const path = `${at}[${i}].name`;
    if (name === '') errors.required(path);
    else if (!isPodSysctlName(name))
      errors.invalid(
        path,
        name,
        `must have at most ${sysctlNameLengthMax} characters and match regex ${sysctlNameForm}`,
      );
    else if (seen.has(name)) errors.duplicate(path, name);
    seen.add(name);
    const namespace = sysctlNamespace(name);
    if (namespace === 'network' && spec.hostNetwork === true)
      errors.invalid(path, name, "may not be specified when 'hostNetwork' is true");
    if (namespace === 'ipc' && spec.hostIPC === true)
      errors.invalid(path, name, "may not be specified when 'hostIPC' is true");
  });
}

const credentialKibMax = 64;
const domainCharsMax = 256;
const userCharsMax = 104;
const netBiosName = /^[^\\/:*?"<>|.][^\\/:*?"<>|]{0,14}$/;
const label = '[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?';
const dnsName = new RegExp(`^${label}(?:\\.${label})*$`);

function validateWindowsOptions(
  options: Draft<WindowsSecurityContextOptions> | undefined,
  at: string,
  errors: FieldErrors,
): void {
  if (!options) return;
  const { gmsaCredentialSpecName: name, gmsaCredentialSpec: credentials, runAsUserName: user } = options;
  if (typeof name === 'string' && subdomainProblem(name) !== '')
    errors.invalid(`${at}.gmsaCredentialSpecName`, name, subdomainProblem(name));
  if (credentials === '')
    errors.invalid(`${at}.gmsaCredentialSpec`, '', 'gmsaCredentialSpec cannot be an empty string');
  else if (typeof credentials === 'string' && credentials.length > credentialKibMax * 1024)
    errors.invalid(
      `${at}.gmsaCredentialSpec`,
      credentials,
      `gmsaCredentialSpec size must be under ${credentialKibMax} KiB`,
    );
  if (typeof user !== 'string') return;
  for (const problem of userProblems(user)) errors.invalid(`${at}.runAsUserName`, user, `runAsUserName${problem}`);
}

/** What is wrong with `DOMAIN\\user` or `user` on Windows. */
function userProblems(text: string): string[] {
  if (text === '') return [' cannot be an empty string'];
  if (/[\x00-\x1f\x7f]/.test(text)) return [' cannot contain control characters'];
  const parts = text.split('\\');
  if (parts.length > 2) return [' cannot contain more than one backslash'];
  const user = parts.at(-1) ?? '';
  const domain = parts.length === 2 ? parts[0] : undefined;
  const problems: string[] = [];
  if (domain !== undefined && domain.length >= domainCharsMax)
    problems.push(`'s Domain length must be under ${domainCharsMax} characters`);
  if (domain !== undefined && !netBiosName.test(domain) && !dnsName.test(domain))
    problems.push("'s Domain doesn't match the NetBios nor the DNS format");
  if (user === '') problems.push("'s User cannot be empty");
  else if (user.length > userCharsMax)
    problems.push(`'s User length must not be longer than ${userCharsMax} characters`);
  if (/^[. ]+$/.test(user)) problems.push("'s User cannot contain only periods or spaces");
  if (/["/\\:;|=,+*?<>@[\]]/.test(user))
    problems.push('\'s User cannot contain the following characters: "/\\:;|=,+*?<>@[]');
  return problems;
}

/** With processes of the host's own, as Windows has them: all containers or none. */
export function validateHostProcess(spec: Draft<PodSpec>, at: string, errors: FieldErrors): void {
  const ofPod = spec.securityContext?.windowsOptions?.hostProcess;
  let [count, all] = [0, 0];
  for (const list of ['initContainers', 'containers', 'ephemeralContainers'] as const)
    (spec[list] ?? []).forEach(({ securityContext }, i) => {
      const own = securityContext?.windowsOptions?.hostProcess;
      all++;
      if (ofPod !== undefined && own !== undefined && ofPod !== own)
        errors.invalid(
          `${at}.${list}[${i}].securityContext.windowsOptions.hostProcess`,
          own,
          `pod hostProcess value must be identical if both are specified, was ${ofPod}`,
        );
      if ((own ?? ofPod) === true) count++;
    });
  if (count === 0) return;
  if (count !== all)
    errors.invalid(
      at,
      '',
      'If pod contains any hostProcess containers then all containers must be HostProcess containers',
    );
  if (spec.hostNetwork !== true)
    errors.invalid(`${at}.hostNetwork`, false, 'hostNetwork must be true if pod contains any hostProcess containers');
}

/** Of AppArmor and of seccomp. */
const profileTypes = ['Localhost', 'RuntimeDefault', 'Unconfined'];
/** A path (PATH_MAX) without its end. */
const appArmorPathBytesMax = 4095;

/** Of a Pod or a container. */
function validateAppArmor(profile: Draft<AppArmorProfile> | undefined, at: string, errors: FieldErrors): void {
  if (profile === undefined || profile === null) return;
  const { type = '', localhostProfile: path } = profile;
  if (type === '') errors.required(`${at}.type`);
  else if (!profileTypes.includes(type)) errors.unsupported(`${at}.type`, type, profileTypes);
  else if (type !== 'Localhost') {
    if (path !== undefined && path !== null)
      errors.invalid(`${at}.localhostProfile`, path, 'can only be set when AppArmor type is Localhost');
  } else if (path === undefined || path === null || path.trim() === '')
    errors.required(`${at}.localhostProfile`, 'must be set when AppArmor type is Localhost');
  else {
    if (path.trim() !== path) errors.invalid(`${at}.localhostProfile`, path, 'must not be padded with whitespace');
    if (path.length > appArmorPathBytesMax) errors.tooLong(`${at}.localhostProfile`, appArmorPathBytesMax);
  }
}

/** Of a Pod or a container (validateSeccompProfileField of the reference implementation). */
function validateSeccomp(profile: Draft<SeccompProfile> | undefined, at: string, errors: FieldErrors): void {
  if (profile === undefined || profile === null) return;
  const path: unknown = profile.localhostProfile;
  if (!profile.type) {
    errors.required(`${at}.type`);
    return;
  }
  if (!profileTypes.includes(profile.type)) {
    errors.unsupported(`${at}.type`, profile.type, profileTypes);
    return;
  }
  if (profile.type !== 'Localhost') {
    if (path !== undefined && path !== null)
      errors.invalid(`${at}.localhostProfile`, path, 'can only be set when seccomp type is Localhost');
    return;
  }
  if (typeof path !== 'string' || path === '') {
    errors.required(`${at}.localhostProfile`, 'must be set when seccomp type is Localhost');
    return;
  }
  if (path.startsWith('/')) errors.invalid(`${at}.localhostProfile`, path, 'must be a relative path');
  validateNoBacksteps(path, `${at}.localhostProfile`, errors);
}
