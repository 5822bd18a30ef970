/**
 * What `docker logs --details` shows before each line: the labels and variables that `--log-opt labels`,
 * `labels-regex`, `env` and `env-regex` name, and `tag`,
 * as `key=value` joined by commas, in the order of their names.
 */
import { compilePattern } from '#base/pattern.ts';
import type { Container } from '#engine/container.ts';
import type { DockerParts } from './context.ts';

export function logAttributes(parts: DockerParts, container: Container): string {
  const { spec } = container.record;
  const config =
    (spec.request?.['HostConfig'] as { LogConfig?: { Config?: Record<string, string> | null } } | undefined)?.LogConfig
      ?.Config ?? {};
  const image = parts.engine.images.find(spec.imageId)?.config.env ?? [];
  const env = Object.fromEntries(
    [...image, ...spec.env].map((entry) => {
      const at = entry.indexOf('=');
      return at < 0 ? [entry, ''] : [entry.slice(0, at), entry.slice(at + 1)];
    }),
  );
  const out = new Map<string, string>();
  const pick = (values: Record<string, string>, names: string | undefined, pattern: string | undefined): void => {
    const listed = new Set((names ?? '').split(',').filter(Boolean));
    const expression = pattern === undefined || pattern === '' ? undefined : compilePattern(pattern);
    for (const [key, value] of Object.entries(values))
      if (listed.has(key) || expression?.test(key) === true) out.set(key, value);
  };
  pick(spec.labels, config['labels'], config['labels-regex']);
  pick(env, config['env'], config['env-regex']);
  if (config['tag'] !== undefined) out.set('tag', tagOf(config['tag'], container));
  return [...out]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([key, value]) => `${encode(key)}=${encode(value)}`)
    .join(',');
}

/** Docker's tag templates name the container and its image; what else stands in braces is left as it is. */
function tagOf(template: string, container: Container): string {
  const { id, spec } = container.record;
  const values: Record<string, string> = {
    ID: id.slice(0, 12),
    FullID: id,
    Name: container.name,
    ImageID: spec.imageId.replace(/^sha256:/, '').slice(0, 12),
    ImageFullID: spec.imageId,
    ImageName: spec.image,
    DaemonName: 'docker',
  };
  return template.replace(/\{\{\s*\.(\w+)\s*\}\}/g, (whole, name: string) =>
    Object.hasOwn(values, name) ? values[name]! : whole,
  );
}

/** As in a URL's query, but that a blank is `%20`. */
function encode(text: string): string {
  return encodeURIComponent(text);
}
