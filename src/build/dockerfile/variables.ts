/**
 * ARG and ENV scopes. Before the first FROM, ARGs are global and seen by FROM alone; a stage sees a global one only
 * after `ARG name`. ENV hides ARG. Proxy arguments are predefined: usable without ARG, in the environment of RUN, but
 * in no key and in no history.
 */
import { formatPlatform } from '#base/platform.ts';
import type { Platform } from '#base/platform.ts';

export const predefinedArgs = [
  'HTTP_PROXY',
  'http_proxy',
  'HTTPS_PROXY',
  'https_proxy',
  'FTP_PROXY',
  'ftp_proxy',
  'NO_PROXY',
  'no_proxy',
  'ALL_PROXY',
  'all_proxy',
];

/** `target`: what the build makes images for. */
export function platformArgs(build: Platform, target: Platform): Record<string, string> {
  const of = (prefix: string, platform: Platform): [string, string][] => [
    [`${prefix}PLATFORM`, formatPlatform(platform)],
    [`${prefix}OS`, platform.os],
    [`${prefix}OSVERSION`, platform['os.version'] ?? ''],
    [`${prefix}ARCH`, platform.architecture],
    [`${prefix}VARIANT`, platform.variant ?? ''],
  ];
  return Object.fromEntries([...of('BUILD', build), ...of('TARGET', target)]);
}

/** `KEY=VALUE` lists as docker keeps them: order of first appearance. */
export function setEnv(env: string[], name: string, value: string): string[] {
  const entry = `${name}=${value}`;
  const at = env.findIndex((each) => each.startsWith(`${name}=`));
  return at < 0 ? [...env, entry] : env.map((each, index) => (index === at ? entry : each));
}

export function getEnv(env: string[], name: string): string | undefined {
  return env.find((each) => each.startsWith(`${name}=`))?.slice(name.length + 1);
}
