/** Requests of the Dockerfile front end that are no builds: what a Dockerfile's checks find, which targets it has. */
import { ApiError } from '#base/errors.ts';
import { descriptionOf, shortText, urlOf } from '../dockerfile/lint.ts';
import type { LintWarning } from '../dockerfile/lint.ts';
import type { Dockerfile } from '../dockerfile/parser.ts';
import type { SourceText } from '../llb/location.ts';

export interface FrontendSource {
  text: SourceText;
  file: Dockerfile;
  warnings: readonly LintWarning[];
}

const requests = {
  'frontend.lint': answerLint,
  'frontend.targets': answerTargets,
  'frontend.subrequests.describe': answerDescribe,
};

function isKnownRequest(id: string): id is keyof typeof requests {
  return Object.hasOwn(requests, id);
}

/** Metadata of the result, as BuildKit's clients print it. Throws BadRequest for a request that is not answered. */
export function answerRequest(id: string, source: FrontendSource): Map<string, Buffer> {
  if (!isKnownRequest(id))
    throw new ApiError(
      'BadRequest',
      `requests of the front end other than a build are not answered: ${id.slice(0, 100)}`,
    );
  return new Map(Object.entries(requests[id](source)).map(([name, text]) => [name, Buffer.from(text)]));
}

function locationOf(start: number, end: number): object {
  return { ranges: [{ start: { line: start }, end: { line: end } }] };
}

function answerLint({ text, warnings }: FrontendSource): Record<string, string> {
  const result = {
    warnings: warnings.map(({ rule, detail, start, end }) => ({
      ruleName: rule,
      description: descriptionOf(rule),
      url: urlOf(rule),
      detail,
      location: locationOf(start, end),
    })),
    sources: [{ filename: text.filename, data: text.data.toString('base64'), language: text.language }],
  };
  return {
    'result.json': JSON.stringify(result, undefined, 2),
    'result.txt': warnings.map((warning) => `${shortText(warning)}\n`).join(''),
    'result.statuscode': warnings.length > 0 ? '1' : '0',
    version: '1.0.0',
  };
}

function answerTargets({ text, file }: FrontendSource): Record<string, string> {
  const targets = file.stages.map((stage, index) => ({
    ...(stage.name === undefined ? {} : { name: stage.name }),
    ...(index === file.stages.length - 1 ? { default: true } : {}),
    base: stage.base,
    ...(stage.platform === undefined ? {} : { platform: stage.platform }),
    location: locationOf(stage.from.line, stage.from.endLine),
  }));
  const lines = targets.map(({ name, default: isDefault }) =>
    `${name ?? ''}${isDefault === true ? ' (default)' : ''}`.trim(),
  );
  return {
    'result.json': JSON.stringify({ targets, sources: [text.data.toString('base64')] }, undefined, 2),
    'result.txt': ['TARGET', ...lines].map((line) => `${line}\n`).join(''),
    version: '1.0.0',
  };
}

function answerDescribe(): Record<string, string> {
  const named = Object.keys(requests).map((name) => ({ name, version: '1.0.0', type: 'rpc', metadata: [] }));
  return {
    'result.json': JSON.stringify(named, undefined, 2),
    'result.txt': named.map(({ name }) => `${name}\n`).join(''),
    version: '1.0.0',
  };
}
