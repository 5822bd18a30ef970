/**
 * What a user sets of a managed plugin: values, paths and arguments whose author allows it.
 * Source: Docker documentation, "docker plugin set"; moby 29, daemon/pkg/plugin/v2.
 */
import { ApiError } from '#base/errors.ts';
import type { PluginConfig, PluginDevice, PluginMount } from './plugin-config.ts';

export interface PluginSettings {
  Mounts: PluginMount[];
  Env: string[];
  Args: string[];
  Devices: PluginDevice[];
}

export function initialSettings(config: PluginConfig): PluginSettings {
  return {
    Mounts: structuredClone(config.Mounts ?? []),
    Env: (config.Env ?? []).flatMap(({ Name, Value }) => (Value === null ? [] : [`${Name}=${Value}`])),
    Args: [...(config.Args.Value ?? [])],
    Devices: structuredClone(config.Linux.Devices ?? []),
  };
}

interface Setting {
  name: string;
  field: string;
  value: string;
}

/** `name[.field][=value]` */
function parseSetting(text: string): Setting {
  const at = text.indexOf('=');
  if (at === 0) throw new ApiError('BadRequest', 'invalid format, must be <name>[.<field>][=<value>]');
  const whole = at < 0 ? text : text.slice(0, at);
  const dot = whole.lastIndexOf('.');
  return {
    name: dot > 0 ? whole.slice(0, dot) : whole,
    field: dot > 0 ? whole.slice(dot + 1) : '',
    value: at < 0 ? '' : text.slice(at + 1),
  };
}

/** Throws BadRequest where the author does not let the field be set. */
function checkSettable({ name, field }: Setting, allowed: string, settable: readonly string[]): void {
  if (field === '' && settable.length > 1)
    throw new ApiError('BadRequest', 'multiple fields are settable, one must be specified');
  const chosen = field === '' ? (settable[0] ?? '') : field;
  if (chosen !== allowed || !settable.includes(chosen))
    throw new ApiError('BadRequest', `"${field === '' ? name : `${name}.${field}`}" is not settable`);
}

/** The settings with these changes; throws BadRequest for one that cannot be made, and then none is. */
export function changeSettings(config: PluginConfig, before: PluginSettings, texts: readonly string[]): PluginSettings {
  const after = structuredClone(before);
  for (const text of texts) changeOne(config, after, parseSetting(text));
  return after;
}

function changeOne(config: PluginConfig, settings: PluginSettings, setting: Setting): void {
  const { name, value } = setting;
  const isNamed = (one: { Name: string }): boolean => one.Name === name;
  const variable = (config.Env ?? []).find(isNamed);
  const mount = settings.Mounts.find(isNamed);
  const device = settings.Devices.find(isNamed);
  if (variable !== undefined) {
    checkSettable(setting, 'value', variable.Settable ?? []);
    const at = settings.Env.findIndex((entry) => entry.startsWith(`${name}=`));
    settings.Env.splice(at < 0 ? settings.Env.length : at, 1, `${name}=${value}`);
  } else if (mount !== undefined) {
    checkSettable(setting, 'source', mount.Settable ?? []);
    mount.Source = value;
  } else if (device !== undefined) {
    checkSettable(setting, 'path', device.Settable ?? []);
    device.Path = value;
  } else if (isNamed(config.Args)) {
    checkSettable(setting, 'value', config.Args.Settable ?? []);
    settings.Args = value.split(' ');
  } else throw new ApiError('BadRequest', `setting "${name}" not found in the plugin configuration`);
}
