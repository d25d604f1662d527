// What the shipped dashboard is made of, from Grafana's published types.

import type { Dashboard, DataSourceRef, FieldConfig, Panel, RowPanel, TableCellOptions, ThresholdsConfig, ValueMapping } from '@grafana/schema';
import type * as barChart from '@grafana/schema/dist/esm/raw/composable/barchart/panelcfg/x/BarChartPanelCfg_types.gen';
import type * as barGauge from '@grafana/schema/dist/esm/raw/composable/bargauge/panelcfg/x/BarGaugePanelCfg_types.gen';
import type * as stat from '@grafana/schema/dist/esm/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen';
import type * as table from '@grafana/schema/dist/esm/raw/composable/table/panelcfg/x/TablePanelCfg_types.gen';
import type * as timeSeries from '@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen';

/** In JSON, members of an enumeration are plain texts. */
type Json<T> = T extends string ? `${T}`
  : T extends Array<infer Item> ? Array<Json<Item>>
  : T extends object ? { [Key in keyof T]: Json<T[Key]> }
  : T;

/** The same of options, of which Grafana itself sets those that are left out. */
type Some<T> = T extends string ? `${T}`
  : T extends Array<infer Item> ? Array<Some<Item>>
  : T extends object ? { [Key in keyof T]?: Some<T[Key]> }
  : T;

/** A query to Prometheus; its type is published in no package. */
interface Query {
  refId: string;
  datasource: DataSourceRef;
  expr: string;
  /** The shortest step, from which Grafana makes `$__rate_interval`. */
  interval?: string;
  instant?: boolean;
  range?: boolean;
  format?: 'table' | 'time_series' | 'heatmap';
  legendFormat?: string;
}

type Override =
  | { id: 'unit'; value: string }
  | { id: 'decimals'; value: number }
  | { id: 'mappings'; value: Array<Json<ValueMapping>> }
  | { id: 'thresholds'; value: Json<ThresholdsConfig> }
  | { id: 'custom.cellOptions'; value: Some<TableCellOptions> };

type Common = Omit<Json<Panel>, 'type' | 'options' | 'fieldConfig' | 'targets'>;

interface Shown<Type extends string, Options, Custom> extends Common {
  type: Type;
  targets: Query[];
  options?: Some<Options>;
  fieldConfig: {
    defaults: Omit<Json<FieldConfig>, 'custom'> & { custom?: Some<Custom> };
    overrides: Array<{ matcher: { id: 'byName'; options: string }; properties: Override[] }>;
  };
}

export type ShownPanel =
  | Shown<'stat', stat.Options, never>
  | Shown<'table', table.Options, table.FieldConfig>
  | Shown<'timeseries', timeSeries.Options, timeSeries.FieldConfig>
  | Shown<'barchart', barChart.Options, barChart.FieldConfig>
  | Shown<'bargauge', barGauge.Options, never>;

export type Shipped = Omit<Json<Dashboard>, 'panels'> & { panels: Array<ShownPanel | Json<RowPanel>> };
