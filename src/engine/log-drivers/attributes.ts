/**
 * What a log driver tells of the container beside its lines: the labels and variables that `labels`, `labels-regex`,
 * `env` and `env-regex` name, and the tag.
 * Source: docker 28.5, daemon/logger/loginfo.go and loggerutils/log_tag.go.
 */
import { compilePattern } from '#base/pattern.ts';
import { expandTemplate } from './template.ts';
import type { LogInfo } from './sink.ts';

/** `rename`: as the driver's receiver wants keys. */
export function extraAttributes(
  info: Pick<LogInfo, 'options' | 'env' | 'labels'>,
  rename: (key: string) => string = (key) => key,
): Record<string, string> {
  const env = Object.fromEntries(
    info.env.flatMap((entry) => {
      const at = entry.indexOf('=');
      return at < 0 ? [] : [[entry.slice(0, at), entry.slice(at + 1)]];
    }),
  );
  const out: Record<string, string> = {};
  const pick = (values: Readonly<Record<string, string>>, option: string): void => {
    const listed = new Set((info.options[option] ?? '').split(',').filter(Boolean));
    const pattern = info.options[`${option}-regex`] ?? '';
    const expression = pattern === '' ? undefined : compilePattern(pattern);
    for (const [key, value] of Object.entries(values))
      if (listed.has(key) || expression?.test(key) === true) out[rename(key)] = value;
  };
  pick(info.labels, 'labels');
  pick(env, 'env');
  return out;
}

/** The tag of the container's lines: the option's template, or the short id. */
export function tagOf(info: LogInfo, fallback = '{{.ID}}'): string {
  const template = info.options['tag'] ?? '';
  const imageId = info.imageId.replace(/^sha256:/, '');
  return expandTemplate(template === '' ? fallback : template, {
    ID: info.id.slice(0, 12),
    FullID: info.id,
    Name: info.name,
    // As docker cuts it: what is before the colon belongs to it.
    ImageID: `sha256:${imageId}`.slice(0, 12),
    ImageFullID: `sha256:${imageId}`,
    ImageName: info.imageName,
    DaemonName: 'docker',
    Command: info.command.join(' '),
    Hostname: info.hostname,
    ContainerID: info.id,
    ContainerName: `/${info.name}`,
    ContainerImageID: `sha256:${imageId}`,
    ContainerImageName: info.imageName,
  });
}
