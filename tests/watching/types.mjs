// The dashboards held to the types of Grafana's own schema: each becomes a literal in TypeScript, which `tsc` judges.
// `node types.mjs FOLDER` writes `FOLDER/dashboards.ts`; `mistakes.ts` beside it must not compile, line by line.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { dashboards } from './dashboards.mjs';
import { panels } from './lint.mjs';

const PANELS = { timeseries: ['timeseries', 'TimeSeries'], stat: ['stat', 'Stat'], 'state-timeline': ['statetimeline', 'StateTimeline'] };
const CUSTOM = new Set(['timeseries', 'state-timeline']);

const imports = Object.values(PANELS)
  .map(([folder, name]) => `import type * as ${name} from '@grafana/schema/dist/esm/raw/composable/${folder}/panelcfg/x/${name}PanelCfg_types.gen';`);

const HEAD = `import type { Dashboard, Panel, RowPanel, FieldConfig, VariableModel, DashboardLink, AnnotationQuery } from '@grafana/schema';
${imports.join('\n')}

// A dashboard in a file has the texts and numbers of the enums.
type Plain<T> = 0 extends 1 & T ? T : T extends string ? \`\${T}\` : T extends number | boolean | null | undefined ? T
  : T extends (infer U)[] ? Plain<U>[] : T extends object ? { [K in keyof T]: Plain<T[K]> } : T;
// The package has no type for queries to Prometheus: these are the fields that Grafana's documents name.
interface Query { datasource: { type: 'prometheus', uid: string }; refId: string; expr: string; legendFormat: string; instant?: boolean; range?: boolean }
type Frame = Omit<Dashboard, 'panels' | 'templating' | 'annotations' | 'links'>;
type Shell = Omit<Panel, 'fieldConfig' | 'options' | 'targets'>;
type Defaults = Omit<FieldConfig, 'custom'>;
`;

let count = 0;
const as = (type, value) => {
  count += 1;
  return `export const v${count}: Plain<${type}> = ${JSON.stringify(value)};`;
};

function described(dashboard) {
  const { panels: all, templating, annotations, links, ...frame } = dashboard;
  return [
    `// ${dashboard.uid}`,
    as('Frame', frame),
    ...templating.list.map((variable) => as('VariableModel', variable)),
    ...annotations.list.map(({ target, ...mark }) => as("Omit<AnnotationQuery, 'target'>", mark)),
    ...links.map((link) => as('DashboardLink', link)),
    ...all.filter((panel) => panel.type === 'row').map((row) => as('RowPanel', row)),
    ...panels(dashboard).flatMap(({ fieldConfig, options, targets, ...shell }) => {
      const { custom, ...defaults } = fieldConfig.defaults;
      const [, name] = PANELS[shell.type];
      return [
        as('Shell', shell),
        as('Defaults', defaults),
        as(`${name}.Options`, options),
        ...targets.map((target) => as('Query', target)),
        ...(CUSTOM.has(shell.type) ? [as(`${name}.FieldConfig`, custom)] : []),
      ];
    }),
  ];
}

// Each must be an error: a check that lets everything pass is none.
function mistaken(dashboard) {
  const { panels: all, templating, annotations, links, ...frame } = dashboard;
  const lines = panels(dashboard).find((panel) => panel.type === 'timeseries');
  const figure = panels(dashboard).find((panel) => panel.type === 'stat');
  const { custom, ...defaults } = lines.fieldConfig.defaults;
  return [
    as('Frame', { ...frame, schemaVersion: '42' }),
    as('Frame', { ...frame, colour: 'red' }),
    as('VariableModel', { ...templating.list[1], type: 'search' }),
    as('VariableModel', { ...templating.list[1], refresh: 9 }),
    as('DashboardLink', { ...links[0], tags: 'oms' }),
    as('Defaults', { ...defaults, units: 's' }),
    as('Defaults', { ...defaults, thresholds: { mode: 'relative', steps: [] } }),
    as('TimeSeries.Options', { ...lines.options, legend: { ...lines.options.legend, displayMode: 'grid' } }),
    as('TimeSeries.FieldConfig', { ...custom, drawStyle: 'pie' }),
    as('Stat.Options', { ...figure.options, colorMode: 'rainbow' }),
    as('Query', { ...lines.targets[0], query: 'up' }),
    as('Shell', { ...(({ fieldConfig, options, targets, ...shell }) => shell)(lines), gridPos: { x: 0, y: 0, w: '8', h: 8 } }),
  ];
}

const [folder] = process.argv.slice(2);
if (!folder) throw new Error('node types.mjs FOLDER');
writeFileSync(join(folder, 'dashboards.ts'), `${HEAD}\n${dashboards.flatMap(described).join('\n')}\n`);
const mistakes = mistaken(dashboards.find((dashboard) => dashboard.uid === 'oms-overview'));
const expected = mistakes.map((line) => `// @ts-expect-error: a mistake that must be found\n${line}`);
writeFileSync(join(folder, 'mistakes.ts'), `${HEAD}\n${expected.join('\n')}\n`);
console.log(`${count - mistakes.length} parts of ${dashboards.length} dashboards, ${mistakes.length} mistakes`);
