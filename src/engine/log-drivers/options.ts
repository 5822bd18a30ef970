/**
 * Which log drivers there are, which options each has, and what is refused when a container is created, in docker's
 * words. Drivers of other companies' clouds are not here, and are then drivers that nobody registered.
 * Source: docker 28.5, daemon/logger/factory.go and each driver's ValidateLogOpt.
 */
import { compilePattern } from '#base/pattern.ts';
import { parseSize } from '#base/sizes.ts';
import { messageOf } from '#base/thrown.ts';
import { parseBool, parseInteger, refuseOption } from './addresses.ts';
import { checkFluentd, fluentdOptions } from './fluentd.ts';
import { checkGelf, gelfOptions } from './gelf.ts';
import { journaldOptions } from './journald.ts';
import { checkSyslog, syslogOptions } from './syslog.ts';

type Options = Readonly<Record<string, string>>;
interface LogDriver {
  options: readonly string[];
  check(options: Options): void;
  /** It is sent away, and the file here is a cache. */
  isRemote: boolean;
}

const fileOptions = ['max-file', 'max-size', 'compress', 'labels', 'labels-regex', 'env', 'env-regex', 'tag'];
const drivers: Readonly<Record<string, LogDriver>> = {
  fluentd: { options: fluentdOptions, check: checkFluentd, isRemote: true },
  gelf: { options: gelfOptions, check: checkGelf, isRemote: true },
  journald: { options: journaldOptions, check: () => undefined, isRemote: true },
  'json-file': { options: fileOptions, check: checkFile, isRemote: false },
  local: { options: ['max-file', 'max-size', 'compress'], check: checkLocal, isRemote: false },
  syslog: { options: syslogOptions, check: checkSyslog, isRemote: true },
};
/** dockerd's own that are of other companies' clouds: no plugin has such a name. */
const absentDrivers = ['awslogs', 'etwlogs', 'gcplogs', 'splunk'];
const commonOptions = ['mode', 'max-buffer-size'];
const cacheOptions = ['cache-disabled', 'cache-max-size', 'cache-max-file', 'cache-compress'];

/** As `docker info` lists them. */
export const logDriverNames: readonly string[] = Object.keys(drivers);

/** Of none of the engine's own: a plugin, if there is one of that name. */
export function isPluginLog(driver: string): boolean {
  return driver !== 'none' && !Object.hasOwn(drivers, driver);
}

export function isRemoteLog(driver: string): boolean {
  return isPluginLog(driver) || drivers[driver]?.isRemote === true;
}

/** Throws ApiError. `none` takes anything, and what a plugin's own options mean it says itself. */
export function checkLogOptions(driver: string, options: Options): void {
  if (driver === 'none') return;
  if (absentDrivers.includes(driver) || !/^[a-zA-Z0-9]/.test(driver))
    refuseOption(`logger: no log driver named '${driver}' is registered`);
  const found = Object.hasOwn(drivers, driver) ? drivers[driver] : undefined;
  const mode = options['mode'] ?? '';
  if (!['', 'blocking', 'non-blocking'].includes(mode)) refuseOption(`logger: logging mode not supported: ${mode}`);
  const size = options['max-buffer-size'];
  if (size !== undefined) {
    if (mode !== 'non-blocking')
      refuseOption("logger: max-buffer-size option is only supported with 'mode=non-blocking'");
    if (parseSize(size) === undefined) refuseOption(`error parsing option max-buffer-size: invalid size: '${size}'`);
  }
  const own = Object.fromEntries(Object.entries(options).filter(([key]) => !commonOptions.includes(key)));
  for (const [key, value] of Object.entries(own)) {
    if (key === 'cache-disabled' && value !== '' && !/^(1|t|true|0|f|false)$/i.test(value))
      refuseOption(`invalid value for option cache-disabled: ${value}`);
    if (found === undefined || found.options.includes(key) || cacheOptions.includes(key)) continue;
    if (driver === 'local') refuseOption(`unknown log opt '${key}' for log driver local`);
    const quote = driver === 'gelf' ? '"' : "'";
    refuseOption(`unknown log opt ${quote}${key}${quote} for ${driver} log driver`);
  }
  for (const key of ['labels-regex', 'env-regex'])
    try {
      compilePattern(options[key] ?? '');
    } catch (error) {
      refuseOption(`invalid log opt '${key}': ${messageOf(error)}`);
    }
  found?.check(Object.fromEntries(Object.entries(own).filter(([key]) => !cacheOptions.includes(key))));
  if (found === undefined || found.isRemote) checkLocal(cacheOf(options));
}

/** The options of the cache, which are those of `local`. */
export function cacheOf(options: Options): Record<string, string> {
  return Object.fromEntries(
    ['max-size', 'max-file', 'compress'].flatMap((key) => {
      const value = options[`cache-${key}`];
      return value === undefined ? [] : [[key, value]];
    }),
  );
}

function checkSizes(options: Options): void {
  const size = options['max-size'];
  if (size !== undefined && size !== '-1' && parseSize(size) === undefined) refuseOption(`invalid size: '${size}'`);
  if (size !== undefined && size !== '-1' && parseSize(size) === 0) refuseOption('max-size must be a positive number');
  const count = options['max-file'];
  if (count === undefined) return;
  const number = parseInteger(count);
  if (number === undefined) refuseOption(`strconv.Atoi: parsing ${JSON.stringify(count)}: invalid syntax`);
  if ((number ?? 0) < 1) refuseOption('max-file cannot be less than 1');
}

function checkFile(options: Options): void {
  checkSizes(options);
  if (options['compress'] === undefined || !parseBool(options['compress'])) return;
  if (Number(options['max-file'] ?? 1) < 2 || (options['max-size'] ?? '-1') === '-1')
    refuseOption('compress cannot be true when max-file is less than 2 or max-size is not set');
}

/** Its files are compressed unless something else is said. */
function checkLocal(options: Options): void {
  checkSizes(options);
  const compress = options['compress'];
  const isCompressed = compress === undefined ? true : parseBool(compress);
  if (isCompressed && Number(options['max-file'] ?? 5) <= 1 && compress !== undefined)
    refuseOption('compression cannot be enabled when max file count is 1');
}
