/** Puts expressions through an evaluator, one a line, and writes them with their outcomes as JSON. */
import { spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';

const variables = {
  object: {
    metadata: { name: 'web-1', labels: { app: 'web' } },
    spec: {
      replicas: 3,
      nothing: null,
      containers: [
        { name: 'a', image: 'nginx:1' },
        { name: 'b', image: 'redis' },
      ],
    },
  },
  n: 5,
  l: [1, 2, 3],
  m: { a: 'x' },
};
const [evaluator = '', source = '', target = ''] = process.argv.slice(2);
const expressions = readFileSync(source, 'utf8').trimEnd().split('\n');
const input = expressions.map((expression) => `${JSON.stringify(expression)}\n`).join('');
const { stdout, status } = spawnSync(evaluator, [JSON.stringify(variables)], { input, encoding: 'utf8' });
if (status !== 0) throw new Error(`the evaluator ended with ${status}`);
const cases = stdout
  .trimEnd()
  .split('\n')
  .map((line, i) => ({ expression: expressions[i], ...(JSON.parse(line) as Record<string, unknown>) }));
const lines = cases.map((each) => `  ${JSON.stringify(each)}`).join(',\n');
writeFileSync(target, `{"variables": ${JSON.stringify(variables)},\n"cases": [\n${lines}\n]}\n`);
