// Each of these has to be noticed: the compiler complains of a line that expects a mistake and has none.

import type { Shipped, ShownPanel } from './panels';

const panel = { targets: [], fieldConfig: { defaults: {}, overrides: [] } };

// @ts-expect-error A dashboard says of which version its schema is.
export const noVersion: Shipped = { panels: [] };
// @ts-expect-error There is no such key.
export const unknownKey: Shipped = { schemaVersion: 39, panels: [], editible: false };
// @ts-expect-error A title is text.
export const wrongType: Shipped = { schemaVersion: 39, panels: [], title: 5 };
// @ts-expect-error There is no such sort of variable.
export const variable: Shipped = { schemaVersion: 39, panels: [], templating: { list: [{ name: 'a', type: 'querry' }] } };
// @ts-expect-error There is no such panel.
export const noPanel: ShownPanel = { ...panel, type: 'graf' };
// @ts-expect-error A stat has no such option.
export const noOption: ShownPanel = { ...panel, type: 'stat', options: { graphMod: 'none' } };
// @ts-expect-error A stat has no such mode.
export const noMode: ShownPanel = { ...panel, type: 'stat', options: { graphMode: 'bars' } };
// @ts-expect-error A bar chart has no such field.
export const noField: ShownPanel = { type: 'barchart', targets: [], fieldConfig: { defaults: { custom: { fillOpacty: 1 } }, overrides: [] } };
