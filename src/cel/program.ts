/** Expressions that have been read and checked, and can be evaluated again and again. */
import type { Node, Problem } from './ast.ts';
import { problemsText } from './ast.ts';
import { check, type Checked } from './check.ts';
import { Compiler, type Activation, type Code, type Frame, type Part, type Steps } from './compiler.ts';
import type { Environment } from './environment.ts';
import { expressionCostMax } from './limits.ts';
import { parse } from './parser.ts';
import type { Type } from './types.ts';
import { CelError, type Value } from './values.ts';

/** The expression is no expression, or its types do not fit; the text is cel-go's. */
export class CompilationError extends Error {
  readonly problems: readonly Problem[];

  constructor(text: string, problems: readonly Problem[] = []) {
    super(text);
    this.problems = problems;
  }
}

export interface Evaluation {
  value: Value;
  cost: number;
}

export class Program implements Part {
  readonly source: string;
  readonly type: Type;
  readonly #code: Code;
  readonly #slots: number;

  constructor(source: string, checked: Checked, node: Node, environment: Environment) {
    this.source = source;
    this.type = checked.type;
    const compiler = new Compiler(checked, environment);
    this.#code = compiler.compile(node, undefined);
    this.#slots = compiler.slots;
  }

  /** Rejects with a `CelError` where there is no value, a `CostError` beyond `costMax`. */
  async evaluate(
    activation: Activation,
    nextTurn: () => Promise<void>,
    costMax = expressionCostMax,
  ): Promise<Evaluation> {
    const frame = this.#frame(activation, costMax);
    if (this.#code.plain !== undefined) return { value: this.#code.plain(frame), cost: frame.cost };
    const steps = this.#code.steps(frame);
    let state = steps.next(null);
    while (state.done !== true) {
      const wait = state.value;
      if (wait === undefined) {
        await nextTurn();
        state = steps.next(null);
      } else
        state = await wait.then(
          (value) => steps.next(value),
          (error: unknown) => steps.throw(error),
        );
    }
    return { value: state.value, cost: frame.cost };
  }

  /** The same at once; for expressions that ask for nothing elsewhere. */
  evaluateNow(activation: Activation, costMax = expressionCostMax): Evaluation {
    const frame = this.#frame(activation, costMax);
    if (this.#code.plain !== undefined) return { value: this.#code.plain(frame), cost: frame.cost };
    const steps = this.#code.steps(frame);
    let state = steps.next(null);
    while (state.done !== true) {
      if (state.value !== undefined) throw new CelError('this function cannot be called here');
      state = steps.next(null);
    }
    return { value: state.value, cost: frame.cost };
  }

  /** As a part of another expression, at whose cost it is. */
  *within(outer: Frame): Steps {
    const frame: Frame = { ...outer, slots: new Array<Value | CelError>(this.#slots).fill(null) };
    try {
      return yield* this.#code.steps(frame);
    } finally {
      outer.cost = frame.cost;
      outer.steps = frame.steps;
    }
  }

  #frame(activation: Activation, costMax: number): Frame {
    return { ...activation, slots: new Array<Value | CelError>(this.#slots).fill(null), cost: 0, costMax, steps: 0 };
  }
}

/** Throws a `CompilationError`. */
export function compile(source: string, environment: Environment): Program {
  const parsed = parse(source);
  if ('problems' in parsed) throw new CompilationError(problemsText(source, parsed.problems), parsed.problems);
  const checked = check(parsed.node, environment);
  if ('problems' in checked) throw new CompilationError(problemsText(source, checked.problems), checked.problems);
  try {
    return new Program(source, checked, parsed.node, environment);
  } catch (error) {
    if (!(error instanceof CelError)) throw error;
    // A constant that cannot be converted.
    throw new CompilationError(`program instantiation failed: ${error.message}`);
  }
}
