/** Bounds of expressions and of what they cost. The figures are the reference implementation's. */

/** Characters of an expression, and how deep it may nest. */
export const expressionCharactersMax = 100_000;
export const expressionDepthMax = 250;
/** Cost of one evaluation of an expression. */
export const expressionCostMax = 1_000_000;
/** Steps between two turns of the event loop: some milliseconds. */
export const sliceStepsMax = 20_000;
/** Characters of a regular expression's subject and of a text that functions make. */
export const madeCharactersMax = 10_000_000;
/** Elements of a list that a function makes. */
export const listMadeMax = 1_000_000;
