/**
 * The configuration of an image, and whether a document is one: it comes from registries and archives, and what of it
 * is of another type would fail later, in every list of images and for everybody. Fields that are not named here are
 * passed over. `null` stands for a field that is left out, as for Go's decoder.
 *
 * Specification: OCI image 1.1 (config), with docker's own fields.
 */
import type { Platform } from '#base/platform.ts';

type Check = (value: unknown) => boolean;

const isText: Check = (value) => typeof value === 'string';
const isFlag: Check = (value) => typeof value === 'boolean';
const isWhole: Check = (value) => Number.isInteger(value);
const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);
const listOf =
  (check: Check): Check =>
  (value) =>
    Array.isArray(value) && value.every(check);
const mapOf =
  (check: Check): Check =>
  (value) =>
    isObject(value) && Object.values(value).every(check);
const optional =
  (checks: Record<string, Check>): Check =>
  (value) =>
    isObject(value) &&
    Object.entries(checks).every(
      ([key, check]) => !Object.hasOwn(value, key) || value[key] === null || check(value[key]),
    );
const each = (check: Check, names: string): Record<string, Check> =>
  Object.fromEntries(names.split(' ').map((name) => [name, check]));

const isRunConfig = optional({
  ...each(isText, 'Hostname Domainname User WorkingDir StopSignal'),
  ...each(listOf(isText), 'Env Entrypoint Cmd OnBuild Shell'),
  ...each(mapOf(isText), 'Labels'),
  ...each(isObject, 'ExposedPorts Volumes'),
  ArgsEscaped: isFlag,
  Healthcheck: optional({
    Test: listOf(isText),
    ...each(isWhole, 'Interval Timeout StartPeriod StartInterval Retries'),
  }),
});

const isFile = optional({
  ...each(isText, 'architecture os variant os.version created author comment docker_version'),
  config: isRunConfig,
  history: listOf(optional({ ...each(isText, 'created created_by comment author'), empty_layer: isFlag })),
});

/** No layers at all are a list without items from here on, not null as Go writes it. */
export function isImageFile(value: unknown): value is ImageFile {
  if (!isFile(value) || !isObject(value) || !isObject(value['rootfs'])) return false;
  value['rootfs']['diff_ids'] ??= [];
  return listOf(isText)(value['rootfs']['diff_ids']);
}

export interface HealthcheckConfig {
  Test?: string[];
  Interval?: number;
  Timeout?: number;
  StartPeriod?: number;
  StartInterval?: number;
  Retries?: number;
}

/** `config` of the image configuration, as docker extends it. */
export interface RunConfig {
  Hostname?: string;
  Domainname?: string;
  User?: string;
  ExposedPorts?: Record<string, object> | null;
  Env?: string[] | null;
  Entrypoint?: string[] | null;
  Cmd?: string[] | null;
  Volumes?: Record<string, object> | null;
  WorkingDir?: string;
  Labels?: Record<string, string> | null;
  StopSignal?: string;
  ArgsEscaped?: boolean;
  Healthcheck?: HealthcheckConfig;
  OnBuild?: string[] | null;
  Shell?: string[] | null;
}

export interface HistoryEntry {
  created?: string;
  created_by?: string;
  comment?: string;
  author?: string;
  empty_layer?: boolean;
}

export interface ImageFile {
  architecture: string;
  os: string;
  variant?: string;
  'os.version'?: string;
  created?: string;
  author?: string;
  comment?: string;
  docker_version?: string;
  container_config?: RunConfig;
  config?: RunConfig;
  rootfs: { type: string; diff_ids: string[] };
  history?: HistoryEntry[];
  /** Which steps the layers are the results of, as BuildKit's inline cache has it: JSON in base64. */
  'moby.buildkit.cache.v0'?: string;
}

export function platformOf({ os, architecture, variant, 'os.version': version }: ImageFile): Platform {
  return {
    os,
    architecture,
    ...(variant === undefined ? {} : { variant }),
    ...(version === undefined || version === '' ? {} : { 'os.version': version }),
  };
}
