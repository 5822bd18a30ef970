/** What is attested of a build's images. */
import type { Platform } from '#base/platform.ts';
import type { StepLayer } from '../llb/output.ts';
import type { Statement } from './export-index.ts';
import type { Job } from './job.ts';

export class Attestations {
  constructor(_job: Job, _attributes: Readonly<Record<string, string>>) {}

  async of(_platform: Platform, _steps: readonly StepLayer[], _hasIndex: boolean): Promise<Statement[]> {
    return [];
  }
}
