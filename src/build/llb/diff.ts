/** What one output adds to another that it stands on. */
import { ApiError } from '#base/errors.ts';
import type { Output, StepLayer } from './output.ts';
import type { SolverContext } from './work.ts';
import type { DiffOp } from './vertex.ts';

export async function solveDiff(context: SolverContext, op: DiffOp, inputs: readonly Output[]): Promise<Output> {
  const stepsOf = (index: number | undefined): Promise<readonly StepLayer[]> => {
    const input = index === undefined ? undefined : inputs[index];
    return input === undefined ? Promise.resolve([]) : context.toSteps(input);
  };
  const [lower, upper] = [await stepsOf(op.lower), await stepsOf(op.upper)];
  const isBelow = lower.every(({ layer }, index) => layer?.diffId === upper[index]?.layer?.diffId);
  if (!isBelow)
    throw new ApiError('BadRequest', 'differences of trees that do not stand on each other are not carried out');
  return { kind: 'layers', steps: upper.slice(lower.length) };
}
