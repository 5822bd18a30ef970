/**
 * What is in an image: a scanner, itself an image, runs over the build's files and leaves documents in SPDX's form. It
 * finds the files at `BUILDKIT_SCAN_SOURCE`, the context and stages that are to be scanned as well below
 * `BUILDKIT_SCAN_SOURCE_EXTRAS`, and puts in-toto statements into `BUILDKIT_SCAN_DESTINATION`.
 *
 * Source: BuildKit, "SBOM scanning protocol".
 */
import { ApiError } from '#base/errors.ts';
import { hostPlatform } from '#base/platform.ts';
import { itemsOf, textOf, isObject } from '#base/unknown.ts';
import { RootedDirectory, pathParts } from '#content/safe-path.ts';
import { lstatSync, readdirSync } from '#os/named-files.ts';
import { makeVertex } from '../llb/codec.ts';
import type { Edge, ExecMount, ExecOp } from '../llb/vertex.ts';
import { plainExec, rootMount } from '../llb/vertex-parts.ts';
import type { Job } from './job.ts';
import { statementBytesMax, statementsMax } from './limits.ts';
import { readFileRange } from './look.ts';
import type { FrontendAttestation } from './result.ts';
import type { Statement, Subject } from './statement.ts';

export interface Scanner {
  image: string;
  /** Without their prefix. */
  environment: Readonly<Record<string, string>>;
}

export const spdxType = 'https://spdx.dev/Document';
const destination = '/run/out';
const source = '/run/src/core/sbom';
const extras = '/run/src/extras';

export function parseScanner(fields: Readonly<Record<string, string>>): Scanner {
  const { generator = '', disabled: _disabled, 'inline-only': _inlineOnly, ...environment } = fields;
  return { image: generator === '' ? 'docker/buildkit-syft-scanner:stable-1' : generator, environment };
}

/** The command of the scanner over the files; its output is what it found. */
async function scanVertex(job: Job, { name, edge }: Subject, { image, environment }: Scanner): Promise<Edge> {
  const about = { name: `[internal] scanner ${image}`, platform: hostPlatform() };
  const identifier = `docker-image://${image}`;
  const scanner = { vertex: makeVertex({ kind: 'source', identifier, attributes: {} }, [], about), output: 0 };
  const { file } = await job.sources.image(scanner);
  const args = [...(file.config?.Entrypoint ?? []), ...(file.config?.Cmd ?? [])];
  if (args.length === 0) throw new ApiError('BadRequest', `scanner ${image.slice(0, 200)} does not have cmd`);
  const { output: _output, ...empty } = rootMount;
  const mounts: ExecMount[] = [
    { ...empty, input: 0 },
    { ...empty, ...(edge === undefined ? {} : { input: 1 }), target: source, isReadOnly: true },
    { ...rootMount, target: destination },
    { ...empty, kind: 'tmpfs', target: '/tmp' },
  ];
  const inputs = edge === undefined ? [scanner] : [scanner, edge];
  const beside = [...job.scannedBeside(edge)].sort(([a], [b]) => (a < b ? -1 : 1));
  for (const [other, extra] of beside) {
    const input = extra === undefined ? {} : { input: inputs.push(extra) - 1 };
    mounts.push({ ...empty, ...input, target: `${extras}/sbom-${other}`, isReadOnly: true });
  }
  const op: ExecOp = {
    ...plainExec,
    args,
    env: [
      ...(file.config?.Env ?? []),
      `BUILDKIT_SCAN_DESTINATION=${destination}`,
      `BUILDKIT_SCAN_SOURCE=${source}`,
      ...(beside.length === 0 ? [] : [`BUILDKIT_SCAN_SOURCE_EXTRAS=${extras}`]),
      ...Object.entries(environment).map(([key, value]) => `BUILDKIT_SCAN_${key}=${value}`),
    ],
    cwd: file.config?.WorkingDir || '/',
    user: file.config?.User ?? '',
    mounts,
  };
  const vertex = makeVertex(op, inputs, {
    name: `[${name}] generating sbom using ${image}`,
    platform: hostPlatform(),
  });
  return { vertex, output: 0 };
}

function readStatement(root: string, name: string, expected: string): Statement {
  const info = lstatSync(`${root}/${name}`);
  if (!info.isFile()) throw new ApiError('BadRequest', `${name}: the scanner's results are no regular files`);
  if (info.size > statementBytesMax) throw new ApiError('BadRequest', `${name} exceeds ${statementBytesMax} bytes`);
  let value: unknown;
  try {
    value = JSON.parse(readFileRange(root, name, 0, info.size).toString('utf8'));
  } catch {
    throw new ApiError('BadRequest', `cannot decode in-toto statement ${name}`);
  }
  const predicateType = textOf(value, 'predicateType') ?? '';
  if (expected !== '' && predicateType !== expected)
    throw new ApiError(
      'BadRequest',
      `bundle entry ${predicateType.slice(0, 200)} does not match required predicate type ${expected}`,
    );
  const subjects = itemsOf(isObject(value) ? value['subject'] : undefined);
  return {
    filename: name,
    predicateType,
    predicate: isObject(value) ? value['predicate'] : undefined,
    ...(subjects.length === 0 ? {} : { subjects }),
  };
}

/** Statements in files of a directory; those of the result itself, whose names begin with `core`, come first. */
function readBundle(root: string, predicateType: string, core: string): Statement[] {
  const isCore = (name: string): boolean => name.split('.')[0] === core;
  const names = readdirSync(root).sort();
  if (names.length > statementsMax) throw new ApiError('BadRequest', `a scanner gives at most ${statementsMax} files`);
  const ordered = [...names.filter(isCore), ...names.filter((name) => !isCore(name))];
  return ordered.map((name) => readStatement(root, name, predicateType));
}

export async function scan(job: Job, subject: Subject, scanner: Scanner): Promise<Statement[]> {
  const found = await scanVertex(job, subject, scanner);
  return job.look(found, async (root) => readBundle(root, spdxType, 'sbom'));
}

/** What a front end has stated, read from where it lies. Throws BadRequest for what is not there, or is none. */
export function readStated(job: Job, stated: FrontendAttestation): Promise<Statement[]> {
  const { edge, path, predicateType, isBundle, core } = stated;
  return job.look(edge, async (root) => {
    const parts = pathParts(path);
    const real = new RootedDirectory(root).resolve(parts);
    const shown = JSON.stringify(path.slice(0, 200));
    if (real === undefined) throw new ApiError('BadRequest', `attestation ${shown}: not found`);
    if (isBundle) return readBundle(real, predicateType, core);
    const { size } = lstatSync(real);
    if (size > statementBytesMax) throw new ApiError('BadRequest', `${shown} exceeds ${statementBytesMax} bytes`);
    const bytes = readFileRange(root, parts.join('/'), 0, size);
    let predicate: unknown;
    try {
      predicate = JSON.parse(bytes.toString('utf8'));
    } catch {
      throw new ApiError('BadRequest', `cannot decode the predicate ${shown}`);
    }
    return [{ filename: parts.at(-1) ?? 'attestation.json', predicateType, predicate }];
  });
}
