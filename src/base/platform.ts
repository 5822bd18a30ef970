/**
 * Platforms as users write them (`linux/arm64/v8`, `arm64`, `linux`) and as manifests name them. Spelling and defaults
 * are those of containerd's
 * `platforms` package: `aarch64` is arm64, its `v8` is no variant, an `arm` without one is `v7`.
 */
import { ApiError } from './errors.ts';

export interface Platform {
  os: string;
  architecture: string;
  variant?: string;
  /** Of Windows, whose images run on the builds that they are made for. */
  'os.version'?: string;
}

const systems = [
  'linux',
  'windows',
  'darwin',
  'freebsd',
  'openbsd',
  'netbsd',
  'solaris',
  'aix',
  'android',
  'dragonfly',
  'illumos',
  'js',
  'plan9',
  'ios',
  'wasip1',
];
const architectures = [
  '386',
  'amd64',
  'arm',
  'arm64',
  'loong64',
  'mips',
  'mips64',
  'mips64le',
  'mipsle',
  'ppc64',
  'ppc64le',
  'riscv64',
  's390x',
  'wasm',
  'i386',
  'x86_64',
  'x86-64',
  'aarch64',
  'armhf',
  'armel',
];

/** One spelling for each. */
export function normalizePlatform(given: Platform): Platform {
  const os = given.os.toLowerCase() === 'macos' ? 'darwin' : given.os.toLowerCase();
  let architecture = given.architecture.toLowerCase();
  let variant = given.variant?.toLowerCase() ?? '';
  switch (architecture) {
    case 'i386':
      architecture = '386';
      variant = '';
      break;
    case 'x86_64':
    case 'x86-64':
    case 'amd64':
      architecture = 'amd64';
      if (variant === 'v1') variant = '';
      break;
    case 'aarch64':
    case 'arm64':
      architecture = 'arm64';
      if (variant === '8' || variant === 'v8') variant = '';
      break;
    case 'armhf':
      architecture = 'arm';
      variant = 'v7';
      break;
    case 'armel':
      architecture = 'arm';
      variant = 'v6';
      break;
    case 'arm':
      variant = variant === '' ? 'v7' : /^\d$/.test(variant) ? `v${variant}` : variant;
      break;
    default:
  }
  const version = given['os.version'] ?? '';
  return {
    os,
    architecture,
    ...(variant === '' ? {} : { variant }),
    ...(version === '' ? {} : { 'os.version': version }),
  };
}

/** That of this machine. */
export function hostPlatform(): Platform {
  return { os: 'linux', architecture: process.arch === 'x64' ? 'amd64' : process.arch };
}

/** Throws ApiError BadRequest with containerd's texts. */
export function parsePlatform(text: string): Platform {
  const quoted = JSON.stringify(text.slice(0, 200));
  // `windows(10.0.20348.1)/amd64`
  const given = /^[A-Za-z0-9_-]+\(([A-Za-z0-9_.%-]*)\)(?=\/|$)/.exec(text);
  const version = given?.[1] ?? '';
  const parts = (given === null ? text : text.replace(`(${version})`, '')).split('/');
  const bad = parts.find((part) => !/^[A-Za-z0-9_.-]+$/.test(part));
  if (bad !== undefined)
    throw new ApiError(
      'BadRequest',
      `${JSON.stringify(bad.slice(0, 200))} is an invalid component of ${quoted}: platform specifier component must match "^[A-Za-z0-9_.-]+$": invalid argument`,
    );
  const [first = '', second, third] = parts;
  if (parts.length > 3)
    throw new ApiError('BadRequest', `${quoted}: cannot parse platform specifier: invalid argument`);
  if (second !== undefined)
    return normalizePlatform({
      os: first,
      architecture: second,
      ...(third === undefined ? {} : { variant: third }),
      'os.version': decodeVersion(version, quoted),
    });
  if (systems.includes(first.toLowerCase()))
    return normalizePlatform({ ...hostPlatform(), os: first, 'os.version': decodeVersion(version, quoted) });
  if (architectures.includes(first.toLowerCase())) return normalizePlatform({ os: 'linux', architecture: first });
  throw new ApiError('BadRequest', `${quoted}: unknown operating system or architecture: invalid argument`);
}

function decodeVersion(text: string, quoted: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw new ApiError('BadRequest', `${quoted} has an invalid OS version ${JSON.stringify(text)}: invalid argument`);
  }
}

export function formatPlatform(platform: Platform): string {
  const version = encodeURIComponent(platform['os.version'] ?? '').replace(
    /[!'()*~]/g,
    (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`,
  );
  return [
    version === '' ? platform.os : `${platform.os}(${version})`,
    platform.architecture,
    ...(platform.variant === undefined || platform.variant === '' ? [] : [platform.variant]),
  ].join('/');
}

/** How well something made for `have` runs where `wanted` is meant: 0 not at all, more is better. */
export function platformFit(wanted: Platform, have: Platform): number {
  const [a, b] = [normalizePlatform(wanted), normalizePlatform(have)];
  if (a.os !== b.os || a.architecture !== b.architecture) return 0;
  const [version, own = version] = [a['os.version'], b['os.version']];
  if (a.os === 'windows' && version !== undefined && version !== own) return 0;
  if (a.variant === b.variant) return 100;
  // An older variant of 32-bit ARM runs on a newer one; elsewhere a variant asks for more than the plain architecture
  // gives.
  const [level, ownLevel] = [Number(a.variant?.slice(1) ?? 0), Number(b.variant?.slice(1) ?? 0)];
  if (Number.isNaN(level) || Number.isNaN(ownLevel)) return 0;
  return a.architecture === 'arm' ? (ownLevel <= level ? 10 + ownLevel : 0) : b.variant === undefined ? 50 : 0;
}

/** Of several things the one that fits best; undefined where none does. */
export function bestFor<T>(wanted: Platform, things: readonly T[], platformOf: (thing: T) => Platform): T | undefined {
  let best: T | undefined;
  let bestFit = 0;
  for (const thing of things) {
    const fit = platformFit(wanted, platformOf(thing));
    if (fit > bestFit) [best, bestFit] = [thing, fit];
  }
  return best;
}
