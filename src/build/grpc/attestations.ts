/**
 * What is attested of a build's images, as the client asks for it: how they were made (`provenance.ts`) and what is in
 * them (`sbom.ts`).
 *
 * Source: BuildKit, "Attestations"; the front end's attributes `attest:provenance` and `attest:sbom`.
 */
import { ApiError } from '#base/errors.ts';
import type { Job } from './job.ts';
import { parseProvenance, provenanceOf } from './provenance.ts';
import { parseScanner, readStated, scan, spdxType } from './sbom.ts';
import type { Statement, Subject } from './statement.ts';

const prefix = /^(?:attest:|build-arg:BUILDKIT_ATTEST_)(.+)$/;

/** `a=1,"b=x,y",c`: fields of one line of CSV, each with its value. Throws BadRequest. */
export function parseFields(text: string): Record<string, string> {
  const out: Record<string, string> = {};
  for (let rest = text; rest !== '';) {
    const [whole, quoted, plain = ''] = /^(?:"((?:[^"]|"")*)"|([^",]*))(?:,|$)/.exec(rest) ?? [];
    if (whole === undefined || (whole === '' && rest !== ''))
      throw new ApiError('BadRequest', `failed to parse attestation: ${text.slice(0, 200)}`);
    const field = quoted?.replaceAll('""', '"') ?? plain;
    const equals = field.indexOf('=');
    if (equals < 0) out[field] = '';
    else out[field.slice(0, equals)] = field.slice(equals + 1);
    rest = rest.slice(whole.length);
  }
  return out;
}

type Attest = (subject: Subject, job: Job) => Promise<Statement[]>;

/** Throws BadRequest for what is not known. */
export class Attestations {
  readonly #job: Job;
  readonly #asked: { type: string; attest: Attest; isInlineOnly: boolean }[] = [];

  constructor(job: Job, attributes: Readonly<Record<string, string>>) {
    this.#job = job;
    for (const [key, value] of Object.entries(attributes)) {
      const type = prefix.exec(key)?.[1]?.toLowerCase();
      if (type === undefined) continue;
      const fields = parseFields(value);
      if (/^(?:true|1)$/.test(fields['disabled'] ?? '')) continue;
      this.#asked.push({
        type,
        attest: this.#parse(type, fields),
        // Asked for by the client on its own account: where there is an index in any case.
        isInlineOnly: /^(?:true|1)$/.test(fields['inline-only'] ?? ''),
      });
    }
  }

  #parse(type: string, fields: Record<string, string>): Attest {
    if (type === 'provenance') {
      const asked = parseProvenance(fields);
      return async (subject, job) => [await provenanceOf(job, subject, asked)];
    }
    if (type === 'sbom') {
      const scanner = parseScanner(fields);
      return (subject, job) => scan(job, subject, scanner);
    }
    throw new ApiError('BadRequest', `unknown attestation type ${JSON.stringify(type.slice(0, 100))}`);
  }

  /** Whether there is something to attest. `hasIndex`: the images are named by an index, or pushed, in any case. */
  areAsked(subjects: readonly Subject[], hasIndex: boolean): boolean {
    const all = [...this.#asked, ...subjects.flatMap(({ stated = [] }) => stated)];
    return all.some(({ isInlineOnly }) => hasIndex || !isInlineOnly);
  }

  /** What the front end states comes first, and in place of what a scanner would find. */
  async of(subject: Subject, hasIndex: boolean): Promise<Statement[]> {
    const statements: Statement[] = [];
    const { stated = [] } = subject;
    const isScanned = stated.some(({ predicateType }) => predicateType === spdxType);
    for (const each of stated)
      if (hasIndex || !each.isInlineOnly) statements.push(...(await readStated(this.#job, each)));
    for (const { type, attest, isInlineOnly } of this.#asked)
      if ((hasIndex || !isInlineOnly) && !(type === 'sbom' && isScanned))
        statements.push(...(await attest(subject, this.#job)));
    return statements;
  }
}
